"""MLflow: what each training run saw and gave, and the registered model `pv-forecast`."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException, RestException

from pvforecast.errors import InvalidInput, NotReady
from pvforecast.provenance import git_commit

MODEL_NAME = "pv-forecast"
EXPERIMENT = "pv-forecast"
REMOVED = "bundle_removed"  # tag of a version whose bundle is gone

_BATCH = 100  # the server takes 100 params and tags and 1,000 metrics at a time
_MANY = 1000

_P = ParamSpec("_P")
_R = TypeVar("_R")


def _asks(method: Callable[Concatenate[Tracking, _P], _R]) -> Callable[Concatenate[Tracking, _P], _R]:
    """A server that does not answer is NotReady; what it does answer stays MLflow's own error."""

    @wraps(method)
    def asked(self: Tracking, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return method(self, *args, **kwargs)
        except RestException:
            raise
        except MlflowException as error:
            said = " ".join(str(error).split())[:300]
            raise NotReady(f"MLflow at {self.uri} did not answer: {said}", hint="is it running? see its log") from error

    return asked


@dataclass(frozen=True)
class Version:
    """A version of the registered model: one bundle.

    Attributes
    ----------
    aliases : of ``champion`` and ``challenger``, those that name it.
    created_at : ms since 1970, UTC.
    """

    version: int
    bundle_uri: str
    run_id: str
    tags: dict[str, str]
    aliases: tuple[str, ...]
    created_at: int

    @property
    def bundle_id(self) -> str:
        return self.bundle_uri.rstrip("/").rsplit("/", 1)[-1]

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "bundle_id": self.bundle_id}


class Tracking:
    """A client of one MLflow server; NotReady where it does not answer."""

    def __init__(self, uri: str) -> None:
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
        self.uri = uri
        self._client = MlflowClient(uri)

    @_asks
    def start_run(self, name: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> str:
        """Create a run; returns its id. The run stays open until `end_run`."""
        experiment = self._client.get_experiment_by_name(EXPERIMENT)
        experiment_id = experiment.experiment_id if experiment else self._create_experiment()
        run = self._client.create_run(
            experiment_id, run_name=name, tags={**tags, "pvforecast.git_commit": git_commit()}
        )
        self.log(str(run.info.run_id), params=params)
        return str(run.info.run_id)

    @_asks
    def runs_tagged(self, name: str, value: str) -> list[tuple[str, str]]:
        """Runs with this tag, newest first: id and status (``RUNNING``, ``FINISHED``, ``FAILED``)."""
        experiment = self._client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            return []
        found = self._client.search_runs(
            [experiment.experiment_id], f"tags.`{name}` = '{value}'", order_by=["attributes.start_time DESC"]
        )
        return [(str(run.info.run_id), str(run.info.status)) for run in found]

    @_asks
    def log(
        self,
        run_id: str,
        *,
        params: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
        text: Mapping[str, str] | None = None,
    ) -> None:
        """Add params, metrics, tags and text files (path -> content) to a run. What is not finite is no metric."""
        now = time.time_ns() // 1_000_000
        numbers = [Metric(k, float(v), now, 0) for k, v in (metrics or {}).items() if math.isfinite(v)]
        words = [RunTag(k, str(v)) for k, v in (tags or {}).items()]
        settings = [Param(k, str(v)[:6000]) for k, v in (params or {}).items()]
        for at in range(0, len(settings), _BATCH):
            self._client.log_batch(run_id, params=settings[at : at + _BATCH])
        for at in range(0, len(words), _BATCH):
            self._client.log_batch(run_id, tags=words[at : at + _BATCH])
        for at in range(0, len(numbers), _MANY):
            self._client.log_batch(run_id, metrics=numbers[at : at + _MANY])
        for path, content in (text or {}).items():
            self._client.log_text(run_id, content, path)

    @contextmanager
    def ending(self, run_id: str) -> Iterator[None]:
        """A run whose work fails inside is marked as failed; without failure it stays open."""
        try:
            yield
        except BaseException:
            self.end_run(run_id, failed=True)
            raise

    @_asks
    def end_run(self, run_id: str, *, failed: bool = False) -> None:
        self._client.set_terminated(run_id, "FAILED" if failed else "FINISHED")

    @_asks
    def register(self, run_id: str, bundle_uri: str, tags: Mapping[str, str]) -> int:
        """The version of the registered model that is this bundle, made where there is none; returns its number.

        Look-up and creation are two calls: hold `Promotions.exclusive` around them where others may register too.
        """
        try:
            self._client.create_registered_model(MODEL_NAME)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        known = self._client.search_model_versions(f"name = '{MODEL_NAME}' and source_path = '{bundle_uri}'")
        if known:
            return min(int(version.version) for version in known)
        return int(self._client.create_model_version(MODEL_NAME, bundle_uri, run_id, tags=dict(tags)).version)

    @_asks
    def versions(self) -> list[Version]:
        """Every version, newest first."""
        found: list[Any] = []
        token: str | None = None
        while True:
            page = self._client.search_model_versions(f"name = '{MODEL_NAME}'", max_results=500, page_token=token)
            found += page
            token = page.token
            if not token:
                break
        try:
            aliases = dict(self._client.get_registered_model(MODEL_NAME).aliases)
        except RestException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            aliases = {}
        return sorted((_version(item, aliases) for item in found), key=lambda item: -item.version)

    def version(self, number: int) -> Version:
        """One version.

        Raises
        ------
        InvalidInput
            there is no such version.
        """
        for version in self.versions():
            if version.version == number:
                return version
        raise InvalidInput(f"there is no version {number}", field="VERSION", hint="see: pvf model list")

    @_asks
    def tag_version(self, number: int, tags: Mapping[str, str]) -> None:
        for name, value in tags.items():
            self._client.set_model_version_tag(MODEL_NAME, str(number), name, value)

    @_asks
    def set_challenger(self, version: int) -> None:
        """Let the alias `challenger` name this version: judged last, and not serving."""
        self._client.set_registered_model_alias(MODEL_NAME, "challenger", str(version))

    @_asks
    def champion_version(self) -> int | None:
        """The version that the alias `champion` names, None when unset."""
        try:
            return int(self._client.get_model_version_by_alias(MODEL_NAME, "champion").version)
        except RestException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise

    @_asks
    def set_champion(self, version: int) -> None:
        """Move the alias `champion`; the version it leaves is tagged `archived`. A champion is no challenger."""
        before = self.champion_version()
        if "challenger" in self.version(version).aliases:
            self._client.delete_registered_model_alias(MODEL_NAME, "challenger")
        self._client.set_registered_model_alias(MODEL_NAME, "champion", str(version))
        self._client.delete_model_version_tag(MODEL_NAME, str(version), "archived")  # a rollback brings it back
        if before is not None and before != version:
            self._client.set_model_version_tag(MODEL_NAME, str(before), "archived", "true")

    @_asks
    def run(self, run_id: str) -> dict[str, Any]:
        """Params, metrics, tags and status of a run."""
        run = self._client.get_run(run_id)
        data = {"params": dict(run.data.params), "metrics": dict(run.data.metrics), "tags": dict(run.data.tags)}
        return {**data, "status": str(run.info.status)}

    def _create_experiment(self) -> str:
        try:
            return str(self._client.create_experiment(EXPERIMENT))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            experiment = self._client.get_experiment_by_name(EXPERIMENT)
            if experiment is None:
                raise
            return str(experiment.experiment_id)


def _version(item: Any, aliases: Mapping[str, str]) -> Version:
    named: Sequence[str] = sorted(alias for alias, number in aliases.items() if int(number) == int(item.version))
    return Version(
        int(item.version),
        str(item.source),
        str(item.run_id),
        dict(item.tags),
        tuple(named),
        int(item.creation_timestamp),
    )


def to_json(value: Any) -> str:
    """Compact, stable JSON for tags and params."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
