"""The routes of Open Inference v2 over REST."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request, Response
from kserve import InferResponse
from kserve.errors import ModelNotReady
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.rest.v2_endpoints import V2Endpoints

from inference.protocol import MODEL_NAME
from inference.transformer import openinference, tensors
from inference.transformer.model import REQUEST_HEADER
from pvforecast.errors import InvalidInput

JSON_LENGTH = "inference-header-content-length"


@dataclass(frozen=True)
class Status:
    """What the routes ask about the service.

    Attributes
    ----------
    ready : whether a forecast could be made now.
    version : of the model that is deployed; None before the first.
    """

    ready: Callable[[], Awaitable[bool]]
    version: Callable[[], str | None]


async def infer(
    data_plane: DataPlane, request: tensors.Request, headers: dict[str, str], *, raw: bool | None = None
) -> InferResponse:
    """Answer a request of any of the protocol's transports.

    Parameters
    ----------
    raw : as in `openinference.as_response`.

    Raises
    ------
    InvalidInput and what else the transformer raises, in the names of the tensors.
    """
    body = openinference.as_body(request)
    try:
        answer, _ = await data_plane.infer(model_name=MODEL_NAME, request=body, headers=headers)
    except InvalidInput as error:
        raise openinference.in_its_words(error) from error
    return openinference.as_response(answer, request, headers.get(REQUEST_HEADER, ""), raw=raw)


def metadata(status: Status) -> dict[str, Any]:
    """Of the model, with the version that is deployed."""
    inputs, outputs = openinference.metadata()
    version = status.version()
    return {
        "name": MODEL_NAME,
        "versions": [version] if version else [],
        "platform": "pvforecast_quantiles",
        "inputs": inputs,
        "outputs": outputs,
    }


def server_metadata(data_plane: DataPlane) -> dict[str, Any]:
    told: dict[str, Any] = data_plane.metadata()
    return told | {"name": "pv-forecast", "extensions": ["binary_tensor_data"]}


def add_routes(app: FastAPI, data_plane: DataPlane, status: Status) -> None:
    """Health, metadata and inference below /v2."""
    kserve = V2Endpoints(data_plane)

    async def ready() -> dict[str, bool]:
        if not await status.ready():
            raise ModelNotReady(MODEL_NAME)
        return {"ready": True}

    async def model_ready(model_name: str) -> dict[str, Any]:
        data_plane.get_model_from_registry(model_name)
        return {"name": model_name, **await ready()}

    async def model_metadata(model_name: str) -> dict[str, Any]:
        data_plane.get_model_from_registry(model_name)
        return metadata(status)

    async def answer(model_name: str, request: Request) -> Response:
        data_plane.get_model_from_registry(model_name)
        asked = tensors.from_rest(await request.body(), _json_length(request))
        content, length = openinference.rest_body(await infer(data_plane, asked, dict(request.headers)))
        if length is None:
            return Response(content, media_type="application/json")
        return Response(content, media_type="application/octet-stream", headers={JSON_LENGTH: str(length)})

    app.add_api_route("/v2", lambda: server_metadata(data_plane))
    app.add_api_route("/v2/health/live", kserve.live)
    app.add_api_route("/v2/health/ready", ready)
    app.add_api_route("/v2/models", kserve.models)
    app.add_api_route("/v2/models/{model_name}", model_metadata)
    app.add_api_route("/v2/models/{model_name}/ready", model_ready)
    app.add_api_route("/v2/models/{model_name}/infer", answer, methods=["POST"])


def _json_length(request: Request) -> int | None:
    text = request.headers.get(JSON_LENGTH)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise InvalidInput(f"{text[:20]!r}", field=JSON_LENGTH, hint="the length of the JSON part in bytes")
    return int(text)
