"""The kserve.Model of the predictor: feature tensors in, calibrated quantiles out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, TypeVar, TypeVarTuple

import numpy as np
from kserve import InferInput, InferOutput, InferRequest, InferResponse, Model
from pydantic import Field, StrictInt, StrictStr, TypeAdapter

from inference import metrics
from inference.predictor.earlier import Earlier
from inference.predictor.reload import Loaded
from inference.protocol import (
    BAND_WIDTH,
    BUNDLE_ID,
    CONTRIBUTION_GROUPS,
    CONTRIBUTIONS,
    EXPLAIN,
    EXPLAINED_LEVEL,
    FEATURES,
    MAX_EXPLAINED_ROWS,
    MAX_ROWS,
    MODEL_NAME,
    MODEL_VERSION,
    PARKS,
    QUANTILE_LEVELS,
    QUANTILES,
    SPEC_HASH,
    TRAINED_UNTIL,
    Refusal,
    RefusedError,
)
from pvforecast import explaining
from pvforecast.errors import InvalidInput, NoChampion, SpecMismatch
from pvforecast.features import Features
from pvforecast.model.effects import ParkIds

R = TypeVar("R")
A = TypeVarTuple("A")

ROWS = metrics.counter("pvf_predict_rows_total")
DURATION = metrics.histogram("pvf_predict_duration_seconds")
_PARKS = TypeAdapter(list[tuple[StrictStr, Annotated[StrictInt, Field(ge=1)]]])
_PARKS_HINT = "a JSON list of [park id, number of rows], in the order of the rows"
_FEW_ROWS = 400
"""So many are predicted in the event loop: one request after the other is sooner done than two that share a core."""


class Predictor(Model):  # type: ignore[misc]  # kserve is untyped
    """Answers with the bundle that `current` returns when the request arrives, or with an earlier one that it names.

    Parameters
    ----------
    current : what is loaded now; None before the first deployment.
    """

    def __init__(self, current: Callable[[], Loaded | None], earlier: Earlier) -> None:
        super().__init__(MODEL_NAME)
        self._current = current
        self._earlier = earlier
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="predict")

    async def healthy(self) -> bool:
        return self._current() is not None

    def load(self) -> bool:
        """KServe asks for this when the model is not healthy. Loading is the reloader's work."""
        return self._current() is not None

    def stop(self) -> None:
        self._threads.shutdown(wait=False)
        self._earlier.stop()

    async def predict(self, payload: InferRequest, headers: object = None) -> InferResponse:  # noqa: ARG002  # KServe passes them
        features, spec_hash = read_request(payload)
        park_id = read_parks(payload, len(features))
        loaded = await self._wanted(_text(payload, BUNDLE_ID))
        ROWS.inc(len(features))
        try:
            with DURATION.time():
                if len(features) <= _FEW_ROWS:
                    quantiles = loaded.bundle.predict(features, spec_hash, park_id)
                else:
                    quantiles = await self._in_thread(loaded.bundle.predict, features, spec_hash, park_id)
        except SpecMismatch as error:
            raise RefusedError(Refusal(error.code, str(error), loaded.bundle.spec.hash)) from error
        output = InferOutput(QUANTILES, list(quantiles.shape), "FP32")
        output.set_data_from_numpy(quantiles)
        parameters = {
            BUNDLE_ID: loaded.deployment.bundle_id,
            MODEL_VERSION: loaded.deployment.model_version,
            SPEC_HASH: loaded.bundle.spec.hash,
            TRAINED_UNTIL: str(loaded.bundle.info["trained_until"]),
            QUANTILE_LEVELS: json.dumps(loaded.bundle.quantiles),
            BAND_WIDTH: json.dumps(loaded.bundle.info.get("band_width")),
        }
        outputs = [output]
        if (payload.parameters or {}).get(EXPLAIN) is not None:
            if len(features) > MAX_EXPLAINED_ROWS:
                raise InvalidInput(
                    f"{len(features)} rows", field=EXPLAIN, hint=f"explain at most {MAX_EXPLAINED_ROWS} rows at once"
                )
            explained = await self._in_thread(explaining.median_by_group, loaded.bundle, features, park_id)
            outputs.append(InferOutput(CONTRIBUTIONS, list(explained.values.shape), "FP32"))
            outputs[-1].set_data_from_numpy(explained.values)
            parameters |= {CONTRIBUTION_GROUPS: json.dumps(explained.groups), EXPLAINED_LEVEL: str(explained.level)}
        return InferResponse(payload.id or "", MODEL_NAME, outputs, parameters=parameters)

    async def _wanted(self, bundle_id: str) -> Loaded:
        current = self._current()
        if bundle_id and (current is None or current.deployment.bundle_id != bundle_id):
            return await self._earlier.get(bundle_id)
        if current is None:
            raise NoChampion("no model is deployed", hint="run the training pipeline")
        return current

    async def _in_thread(self, function: Callable[[*A], R], *arguments: *A) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    def get_input_types(self) -> list[dict[str, Any]]:
        loaded = self._current()
        return [{"name": FEATURES, "datatype": "FP32", "shape": [-1, len(loaded.bundle.spec) if loaded else -1]}]

    def get_output_types(self) -> list[dict[str, Any]]:
        loaded = self._current()
        return [{"name": QUANTILES, "datatype": "FP32", "shape": [-1, len(loaded.bundle.quantiles) if loaded else -1]}]


def read_request(payload: InferRequest) -> tuple[Features, str]:
    """The feature tensor, float32 [n, f], and the hash of the spec it was built with.

    Raises
    ------
    InvalidInput
        naming the tensor or parameter that is missing or malformed.
    """
    tensor: InferInput | None = payload.get_input_by_name(FEATURES)
    if tensor is None:
        raise InvalidInput("this input tensor is missing", field=FEATURES, hint="FP32, shape [n, f]")
    if tensor.datatype != "FP32" or len(tensor.shape) != 2:
        raise InvalidInput(
            f"got {tensor.datatype} {list(tensor.shape)}", field=FEATURES, hint="send FP32, shape [n, f]"
        )
    if tensor.shape[0] > MAX_ROWS:
        raise InvalidInput(f"{tensor.shape[0]} rows", field=FEATURES, hint=f"send at most {MAX_ROWS} rows at once")
    try:
        features: Features = np.ascontiguousarray(tensor.as_numpy(), np.float32)
    except ValueError as error:
        raise InvalidInput(f"the data do not fill the shape: {error}", field=FEATURES) from error
    spec_hash = _text(payload, SPEC_HASH)
    if not spec_hash:
        raise InvalidInput("this request parameter is missing", field=SPEC_HASH, hint="the hash of the feature spec")
    return features, spec_hash


def read_parks(payload: InferRequest, rows: int) -> ParkIds | None:
    """The park of each row; None where the request does not say. Shape [rows].

    Raises
    ------
    InvalidInput
        it is no list of parks and their rows, or of another number of rows.
    """
    text = _text(payload, PARKS)
    if not text:
        return None
    try:
        counts = _PARKS.validate_json(text)
    except ValueError as error:
        raise InvalidInput("cannot be read", field=PARKS, hint=_PARKS_HINT) from error
    if sum(count for _, count in counts) != rows:
        raise InvalidInput(f"not the {rows} rows of the features", field=PARKS, hint=_PARKS_HINT)
    return [park for park, count in counts for _ in range(count)]


def _text(payload: InferRequest, name: str) -> str:
    """A parameter of the request; empty where it is missing, or no text."""
    parameter = (payload.parameters or {}).get(name)
    text = getattr(parameter, "string_param", parameter)
    return text if isinstance(text, str) else ""
