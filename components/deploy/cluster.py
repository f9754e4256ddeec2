"""The InferenceService on a cluster: which bundle it serves, by server-side apply as the field manager `pvf-deploy`.

Two annotations of `spec.predictor` are ours, and nothing else: see docs/kubernetes.md.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any, TypeVar

import urllib3
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException

from pvforecast.errors import InvalidInput, NotReady

FIELD_MANAGER = "pvf-deploy"
BUNDLE_URI, MODEL_VERSION = "pvforecast.io/bundle-uri", "pvforecast.io/model-version"
GROUP_VERSION = "serving.kserve.io/v1beta1"
SETTING = "PVF_INFERENCE_SERVICE"
_TRIES, _PAUSE_S, _TIMEOUT_S, _LOOK_S = 4, 0.5, 20.0, 2.0
_T = TypeVar("_T")


class InferenceService:
    """One InferenceService with its Deployment, which KServe makes in the mode `Standard`.

    Parameters
    ----------
    where : ``namespace/name``.
    patience_s : for how long servers may take to come up.
    api : to speak to; by default the cluster that this runs in, else that of KUBECONFIG.

    Raises
    ------
    InvalidInput
        `where` is no such pair, or no cluster is known here.
    """

    def __init__(self, where: str, patience_s: float, api: client.ApiClient | None = None) -> None:
        namespace, _, name = where.partition("/")
        if not namespace or not name or "/" in name:
            raise InvalidInput(f"{where!r} is not namespace/name", field=SETTING, hint="e.g. pvforecast/pv-forecast")
        self._namespace, self._name, self._patience_s = namespace, name, patience_s
        self._api = api or _configured()

    def preflight(self) -> None:
        """Whether it is there, keeps servers while it rolls out, and would take our fields (a dry run).

        Raises
        ------
        InvalidInput
            there is no such InferenceService, it could go down, or another manager holds our fields.
        NotReady
            the API server does not answer.
        """
        found = self._get()
        predictor = found["spec"]["predictor"]
        if predictor.get("minReplicas") == 0:
            raise self._unsafe("minReplicas: 0", "1 or more: a new version must come up before the old one goes")
        rolling = (predictor.get("deploymentStrategy") or {}).get("rollingUpdate") or {}
        if rolling.get("maxUnavailable") not in (0, "0", "0%"):
            raise self._unsafe(f"maxUnavailable: {rolling.get('maxUnavailable')!r}", "set it to 0")
        told = predictor.get("annotations") or {}
        self._apply(found, told.get(BUNDLE_URI, "s3://none"), told.get(MODEL_VERSION, "0"), dry_run=True)

    def tell(self, bundle_uri: str, model_version: int) -> bool:
        """See `pvforecast.rollout.Serving`."""
        found = self._get()
        told = found["spec"]["predictor"].get("annotations") or {}
        if (told.get(BUNDLE_URI), told.get(MODEL_VERSION)) == (bundle_uri, str(model_version)):
            return False
        self._apply(found, bundle_uri, str(model_version))
        return True

    def wait(self, bundle_uri: str) -> None:
        """Until all pods of the Deployment are of the template that names the bundle, and available."""
        until, why = time.monotonic() + self._patience_s, "nothing was seen"
        while time.monotonic() < until:
            deployment = self._asked(
                "GET", f"/apis/apps/v1/namespaces/{self._namespace}/deployments/{self._name}-predictor"
            )
            done, why = _rolled_out(deployment, bundle_uri)
            if done:
                return
            time.sleep(min(_LOOK_S, self._patience_s / 10))
        raise NotReady(
            f"{self._name} does not serve {bundle_uri} after {self._patience_s:.0f} s: {why}",
            hint="see the log of its new pods: a bundle that fails its golden rows keeps them from getting ready",
        )

    def _apply(self, found: dict[str, Any], bundle_uri: str, model_version: str, *, dry_run: bool = False) -> None:
        """Own just the two fields. The uid keeps the call from making an object where there is none any more."""
        body = {
            "apiVersion": GROUP_VERSION,
            "kind": "InferenceService",
            "metadata": {"name": self._name, "namespace": self._namespace, "uid": found["metadata"]["uid"]},
            "spec": {"predictor": {"annotations": {BUNDLE_URI: bundle_uri, MODEL_VERSION: model_version}}},
        }
        query = [("fieldManager", FIELD_MANAGER), *([("dryRun", "All")] if dry_run else [])]
        self._asked("PATCH", self._path, query, body)

    def _get(self) -> dict[str, Any]:
        return self._asked("GET", self._path)

    @property
    def _path(self) -> str:
        return f"/apis/{GROUP_VERSION}/namespaces/{self._namespace}/inferenceservices/{self._name}"

    def _asked(
        self, method: str, path: str, query: list[tuple[str, str]] | None = None, body: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/apply-patch+yaml"  # JSON is YAML

        def call() -> dict[str, Any]:
            answer = self._api.call_api(
                path, method, {}, query or [], headers, body=body, response_type="object",
                auth_settings=["BearerToken"], _return_http_data_only=True, _request_timeout=_TIMEOUT_S,
            )  # fmt: skip
            if not isinstance(answer, dict):
                raise NotReady(f"{path} answered no object", hint="is that a Kubernetes API server?")
            return answer

        return self._patiently(call, f"{method} {path}")

    def _patiently(self, call: Callable[[], _T], what: str) -> _T:
        """Again after what may pass: reads and applies give the same however often they are done."""
        for attempt in range(1, _TRIES + 1):
            try:
                return call()
            except ApiException as error:
                if (error.status != 429 and error.status < 500) or attempt == _TRIES:
                    raise self._refused(error, what) from error
            except urllib3.exceptions.HTTPError as error:
                if attempt == _TRIES:
                    raise NotReady(f"{what}: the API server did not answer: {error}", hint="see KUBECONFIG") from error
            time.sleep(_PAUSE_S * attempt)
        raise AssertionError("the last round returns or raises")

    def _refused(self, error: ApiException, what: str) -> InvalidInput | NotReady:
        try:
            said = str(json.loads(error.body)["message"])
        except (ValueError, KeyError, TypeError):
            said = str(error.reason)
        where = f"{self._namespace}/{self._name}"
        hints = {
            401: "the token of this pod is not accepted: see its service account",
            403: "its service account needs get and patch of inferenceservices, and get of deployments",
            404: f"no InferenceService {where}, or KServe has made no Deployment of it (mode Standard)",
            409: f"another field manager holds {BUNDLE_URI}, or the object was made anew: let go of it there",
        }
        if error.status in hints:
            return InvalidInput(f"{what}: {error.status} {said}", field=SETTING, hint=hints[error.status])
        return NotReady(f"{what}: {error.status} {said}", hint="see the API server")

    def _unsafe(self, what: str, how: str) -> InvalidInput:
        return InvalidInput(f"{self._name} has {what}: it could be without servers", field=SETTING, hint=how)


def _rolled_out(deployment: dict[str, Any], bundle_uri: str) -> tuple[bool, str]:
    """Whether every pod is new and available, and if not, what is still missing.

    Raises
    ------
    NotReady
        the Deployment has given up.
    """
    spec, status = deployment["spec"], deployment.get("status") or {}
    template = (spec["template"].get("metadata") or {}).get("annotations") or {}
    if template.get(BUNDLE_URI) != bundle_uri:
        return False, "KServe has not changed the Deployment yet"
    if status.get("observedGeneration", 0) < deployment["metadata"]["generation"]:
        return False, "the Deployment was not looked at yet"
    for condition in status.get("conditions", ()):
        if condition["type"] == "Progressing" and condition.get("reason") == "ProgressDeadlineExceeded":
            raise NotReady(f"its new pods do not get ready: {condition.get('message', '')}", hint="see their log")
    wanted = spec.get("replicas", 1)
    counts = {name: status.get(name, 0) for name in ("replicas", "updatedReplicas", "availableReplicas")}
    if wanted > 0 and all(count == wanted for count in counts.values()):
        return True, ""
    return False, f"{counts['updatedReplicas']} of {wanted} pods are new, {counts['availableReplicas']} available"


def _configured() -> client.ApiClient:
    """`config.load_config` does the same, but prints, and reads KUBECONFIG only when it is imported."""
    try:
        if os.environ.get("KUBECONFIG") or not os.environ.get("KUBERNETES_SERVICE_HOST"):
            return config.new_client_from_config(os.environ.get("KUBECONFIG"))
        config.load_incluster_config()
    except ConfigException as error:
        raise InvalidInput(
            f"no cluster is known here: {error}", field=SETTING, hint="run in one, or set KUBECONFIG; at home unset it"
        ) from error
    return client.ApiClient()
