"""The cookie in which a browser keeps its API key. Whether the key is good, the gateway has said before."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

KEY_HEADER = "x-api-key"
COOKIE = "pvf_key"
HOURS = 12


def log_in(request: Request) -> Response:
    """Set the cookie to the key of the header. No script can read it, and no other site's page sends it."""
    key = request.headers.get(KEY_HEADER, "")
    if not key:
        return JSONResponse({"error": "no key came with the request", "field": KEY_HEADER}, 400)
    response = Response(status_code=204)
    response.set_cookie(
        COOKIE, key, max_age=HOURS * 3600, path="/", secure=_encrypted(request), httponly=True, samesite="strict"
    )
    return response


def log_out(request: Request) -> Response:
    response = Response(status_code=204)
    response.delete_cookie(COOKIE, path="/", secure=_encrypted(request), httponly=True, samesite="strict")
    return response


def _encrypted(request: Request) -> bool:
    """As the browser sees it: the gateway speaks TLS, not we."""
    return request.headers.get("x-forwarded-proto", "http") == "https"
