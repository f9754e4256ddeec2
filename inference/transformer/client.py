"""The predictor, asked over gRPC v2 with a deadline; its errors as ours, without its address."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import grpc
import numpy as np
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from inference.protocol import (
    BAND_WIDTH,
    BUNDLE_ID,
    CONTRIBUTION_GROUPS,
    EXPLAIN,
    EXPLAINED_LEVEL,
    FEATURES,
    MAX_MESSAGE_BYTES,
    MODEL_GONE,
    MODEL_LOADING,
    MODEL_NAME,
    MODEL_VERSION,
    PARKS,
    QUANTILE_LEVELS,
    SPEC_HASH,
    TRAINED_UNTIL,
    Refusal,
)
from inference.transformer.errors import Unavailable
from pvforecast.contributions import Contributions
from pvforecast.errors import InvalidInput, NoChampion, PvForecastError, SpecMismatch
from pvforecast.features import Features

log = logging.getLogger(__name__)

_OPTIONS = [
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),  # the default of two minutes would outlast a restarted predictor
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
]


@dataclass(frozen=True)
class Inference:
    """The predictor's answer: float32 [n, q], fraction of `ac_capacity_kw`, and what gave it.

    `contributions` where they were asked for; `band_width` by rung, as a multiple of the full one's, where measured.
    """

    fractions: Features
    levels: tuple[float, ...]
    bundle_id: str
    model_version: str
    spec_hash: str
    trained_until: np.datetime64
    contributions: Contributions | None = None
    band_width: dict[str, float] | None = None

    def part(self, rows: slice) -> Inference:
        """The answer to these rows, copied, so that keeping a part does not keep the whole."""
        told = self.contributions
        return replace(
            self,
            fractions=self.fractions[rows].copy(),
            contributions=None if told is None else replace(told, values=told.values[rows]),
        )


class SpecMoved(SpecMismatch):
    """The predictor serves a model of another feature spec, `spec_hash`."""

    def __init__(self, spec_hash: str | None) -> None:
        super().__init__(f"the predictor's model needs features of spec {spec_hash}", field=SPEC_HASH)
        self.spec_hash = spec_hash


class ModelGone(PvForecastError):
    """The predictor cannot answer with the bundle that served then."""


class PredictorClient:
    """One channel. Make it inside the running event loop.

    Parameters
    ----------
    target : host:port.
    deadline_s : for each call, whatever the predictor does.
    """

    def __init__(self, target: str, deadline_s: float = 3.0) -> None:
        self._channel = grpc.aio.insecure_channel(target, options=_OPTIONS)
        self._stub = GRPCInferenceServiceStub(self._channel)
        self._deadline_s = deadline_s

    async def close(self) -> None:
        await self._channel.close()

    async def infer(
        self,
        features: Features,
        spec_hash: str,
        request_id: str,
        parks: Sequence[tuple[str, int]] = (),
        *,
        explain: bool = False,
        bundle_id: str | None = None,
    ) -> Inference:
        """Ask for the quantiles of every row, and with `explain` for contributions to the median.

        Parameters
        ----------
        parks : id and number of rows of each park, in the order of the rows.
        bundle_id : of a model that served before, which shall answer.

        Raises
        ------
        ModelGone
            there is no such model any more.
        SpecMoved
            the model needs another feature spec.
        NoChampion, NotReady
            there is no model, or the predictor does not answer in time.
        """
        tensor = pb.ModelInferRequest.InferInputTensor(name=FEATURES, datatype="FP32", shape=features.shape)
        request = pb.ModelInferRequest(
            model_name=MODEL_NAME,
            id=request_id,
            inputs=[tensor],
            raw_input_contents=[features.astype("<f4", copy=False).tobytes()],
            parameters={SPEC_HASH: pb.InferParameter(string_param=spec_hash)}
            | ({PARKS: pb.InferParameter(string_param=json.dumps(parks))} if parks else {})
            | ({EXPLAIN: pb.InferParameter(bool_param=True)} if explain else {})
            | ({BUNDLE_ID: pb.InferParameter(string_param=bundle_id)} if bundle_id else {}),
        )
        try:
            response = await self._stub.ModelInfer(request, timeout=self._deadline_s)
        except grpc.aio.AioRpcError as error:
            raise _as_ours(error) from error
        shape = tuple(response.outputs[0].shape)
        text = {name: parameter.string_param for name, parameter in response.parameters.items()}
        return Inference(
            np.frombuffer(response.raw_output_contents[0], "<f4").reshape(shape),
            tuple(json.loads(text[QUANTILE_LEVELS])),
            text[BUNDLE_ID],
            text[MODEL_VERSION],
            text[SPEC_HASH],
            np.datetime64(text[TRAINED_UNTIL], "s"),
            _contributions(response, text) if explain else None,
            json.loads(text.get(BAND_WIDTH, "null")),
        )

    async def ready(self) -> bool:
        """Whether the predictor has a model."""
        try:
            answer = await self._stub.ModelReady(pb.ModelReadyRequest(name=MODEL_NAME), timeout=self._deadline_s)
        except grpc.aio.AioRpcError:
            return False
        return bool(answer.ready)


def _contributions(response: pb.ModelInferResponse, text: dict[str, str]) -> Contributions:
    values = np.frombuffer(response.raw_output_contents[1], "<f4").reshape(tuple(response.outputs[1].shape))
    return Contributions(float(text[EXPLAINED_LEVEL]), tuple(json.loads(text[CONTRIBUTION_GROUPS])), values)


def _as_ours(error: grpc.aio.AioRpcError) -> Exception:
    refusal = Refusal.decode(error.details())
    if refusal.code == SpecMismatch.code:
        return SpecMoved(refusal.spec_hash)
    if refusal.code == MODEL_GONE:
        return ModelGone(refusal.message)
    if refusal.code == MODEL_LOADING:
        return Unavailable("the model of then is being loaded", hint="try again")
    if refusal.code == NoChampion.code:
        return NoChampion(
            "the predictor has no model that it could load",
            hint="try again; run training where nothing was promoted (pvf model list), else see the predictor's log",
        )
    if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
        return InvalidInput(refusal.message, hint="see docs/serving.md")
    log.warning("predictor: %s %s", error.code().name, error.details())
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return Unavailable("the predictor did not answer in time", hint="try again")
    return Unavailable("the predictor is not ready", hint="try again")
