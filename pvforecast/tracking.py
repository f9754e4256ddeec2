"""MLflow: what each training run saw and gave, and the registered model `pv-forecast`."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException, RestException

from pvforecast.errors import NotReady

MODEL_NAME = "pv-forecast"
EXPERIMENT = "pv-forecast"

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
        self._client.log_batch(run.info.run_id, params=[Param(k, str(v)[:6000]) for k, v in params.items()])
        return str(run.info.run_id)

    @_asks
    def log(
        self,
        run_id: str,
        *,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
        text: Mapping[str, str] | None = None,
    ) -> None:
        """Add metrics, tags and text files (path -> content) to a run."""
        now = time.time_ns() // 1_000_000
        finite = [Metric(k, float(v), now, 0) for k, v in (metrics or {}).items() if v == v]
        self._client.log_batch(run_id, metrics=finite, tags=[RunTag(k, str(v)) for k, v in (tags or {}).items()])
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
        """A new version of the registered model, from a bundle; returns its number."""
        try:
            self._client.create_registered_model(MODEL_NAME)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        version = self._client.create_model_version(MODEL_NAME, bundle_uri, run_id, tags=dict(tags))
        self._client.set_registered_model_alias(MODEL_NAME, "challenger", version.version)
        return int(version.version)

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
        """Move the alias `champion`; the version it leaves is tagged `archived`."""
        before = self.champion_version()
        self._client.set_registered_model_alias(MODEL_NAME, "champion", str(version))
        self._client.delete_model_version_tag(MODEL_NAME, str(version), "archived")  # a rollback brings it back
        if before is not None and before != version:
            self._client.set_model_version_tag(MODEL_NAME, str(before), "archived", "true")

    @_asks
    def run(self, run_id: str) -> dict[str, Any]:
        """Params, metrics and tags of a run."""
        data = self._client.get_run(run_id).data
        return {"params": dict(data.params), "metrics": dict(data.metrics), "tags": dict(data.tags)}

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


_TREE = Path(__file__).resolve().parent.parent


def git_commit(root: Path = _TREE) -> str:
    """The commit this code is of: `PVF_GIT_COMMIT`, or read from `.git` without a git binary; else ``unknown``."""
    named = os.environ.get("PVF_GIT_COMMIT")
    if named:
        return named
    head = root / ".git" / "HEAD"
    if not head.exists():
        return "unknown"
    text = head.read_text().strip()
    if not text.startswith("ref: "):
        return text
    ref = text.removeprefix("ref: ")
    loose = root / ".git" / ref
    if loose.exists():
        return loose.read_text().strip()
    packed = root / ".git" / "packed-refs"
    lines = packed.read_text().splitlines() if packed.exists() else []
    return next((line.split()[0] for line in lines if line.endswith(f" {ref}")), "unknown")


def to_json(value: Any) -> str:
    """Compact, stable JSON for tags and params."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
