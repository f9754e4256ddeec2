"""Every error of the transformer in one shape: {"error", "code", "field", "hint", "request_id"}."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from kserve import errors as kserve_errors
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from inference.measured import ERROR_CODE
from inference.protocol import MODEL_NAME
from pvforecast.errors import BundleError, DataError, InvalidInput, NoChampion, NotReady, PvForecastError, UnknownPark

log = logging.getLogger(__name__)

RETRY_AFTER_S = 2
REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
_SEE_DOCS = f"POST /v1/models/{MODEL_NAME}:predict with a JSON object, see docs/serving.md"


class TooLarge(InvalidInput):
    """More than one request may ask for -> 413."""

    code = "too_large"


class Unavailable(NotReady):
    """A part is not there -> 503, in words for callers. Any other NotReady may name an address: it is only logged."""


@dataclass(frozen=True)
class Problem:
    """What is answered for an error."""

    status: int
    message: str
    code: str
    field: str | None = None
    hint: str | None = None

    def as_dict(self, request_id: str) -> dict[str, str | None]:
        return {
            "error": self.message,
            "code": self.code,
            "field": self.field,
            "hint": self.hint,
            "request_id": request_id,
        }


def problem(error: Exception) -> Problem:
    """The answer to an error. Nothing of what happened inside is told beyond what the caller can act on."""
    match error:
        case TooLarge():
            return _of(413, error)
        case UnknownPark():
            return _of(404, error)
        case InvalidInput():
            return _of(400, error)
        case Unavailable() | NoChampion():
            return _of(503, error)
        case NotReady():
            return Problem(503, "a part that is needed does not answer", error.code, hint="try again")
        case DataError() | BundleError():
            return Problem(
                503, "the park's data or the model cannot be read at the moment", error.code, hint="try again later"
            )
        case kserve_errors.InvalidInput():
            return Problem(400, f"it is not JSON, or no CloudEvent: {error}", InvalidInput.code, "body", _SEE_DOCS)
        case kserve_errors.ModelNotFound():
            return Problem(404, str(error), "unknown_model", "model_name", f"the model is named {MODEL_NAME}")
        case kserve_errors.ModelNotReady():
            return Problem(503, "no model is ready", NotReady.code, hint="try again later")
        case RequestValidationError():
            return Problem(400, "the request cannot be read", InvalidInput.code, hint=_SEE_DOCS)
        case HTTPException():
            code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
            return Problem(error.status_code, str(error.detail), code, hint=_SEE_DOCS)
        case ClientDisconnect():
            return Problem(499, "the client went away", "client_closed_request")
        case _:
            return Problem(500, "an unforeseen error, see the log", PvForecastError.code, hint="report the request id")


def add_handlers(app: FastAPI) -> None:
    """Answer every error of the application in the one shape."""
    for kind in (
        PvForecastError,
        kserve_errors.InvalidInput,
        kserve_errors.ModelNotFound,
        kserve_errors.ModelNotReady,
        RequestValidationError,
        HTTPException,
        ClientDisconnect,
        Exception,
    ):
        app.add_exception_handler(kind, _handle)


async def _handle(request: Request, error: Exception) -> JSONResponse:
    answer = problem(error)
    request.scope[ERROR_CODE] = answer.code
    request_id = request.scope.get("request_id", "")
    if answer.status >= 500:
        log.warning("request %s: %s %s", request_id, type(error).__name__, error)
    headers = dict(getattr(error, "headers", None) or {})  # Allow, with 405
    if answer.status == 503:
        headers["retry-after"] = str(RETRY_AFTER_S)
    return JSONResponse(answer.as_dict(request_id), answer.status, headers)


def _of(status: int, error: PvForecastError) -> Problem:
    return Problem(status, error.message, error.code, error.field, error.hint)
