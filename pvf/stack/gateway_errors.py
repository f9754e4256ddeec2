"""What Envoy itself answers and logs: errors in the one shape of the transformer's, an access log without keys."""

from __future__ import annotations

from typing import Any

CLIENT_HEADER = "x-client-id"
"""Who asks, to what is behind the gateway: the client, or client#key-id for a key that sees some parks only."""
ACCOUNT_HEADER = "x-client"
"""The client alone, whose rate limit counts."""
KEY_ID_HEADER = "x-key-id"
KEY_HEADER = "x-api-key"
KEY_COOKIE = "pvf_key"
"""Where a browser keeps the key after the log-in; no script can read it."""

RETRY_AFTER_S = 2

ACCESS_LOG = {
    "time": "%START_TIME%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "client": f"%REQ({ACCOUNT_HEADER})%",
    "key_id": f"%REQ({KEY_ID_HEADER})%",
    "method": "%REQ(:METHOD)%",
    "path": "%PATH(NQ)%",
    "status": "%RESPONSE_CODE%",
    "grpc_status": "%GRPC_STATUS%",
    "flags": "%RESPONSE_FLAGS%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "duration_ms": "%DURATION%",
    "bytes_in": "%BYTES_RECEIVED%",
    "bytes_out": "%BYTES_SENT%",
    "upstream": "%UPSTREAM_HOST%",
}


def bodies(max_body_bytes: int, requests_per_second: int) -> list[dict[str, Any]]:
    """The mappers of Envoy's local replies, first match first."""
    table = [
        # status, code, error, field, hint
        (400, "bad_request", "the request is not HTTP that can be passed on", None, "see the API's documentation"),
        (
            *(401, "unauthorized", "the API key is missing or not known", KEY_HEADER),
            f"send a valid key in the header `{KEY_HEADER}`; its owner makes one: pvf key add",
        ),
        (
            *(403, "forbidden", "this path takes no protocol upgrade", "upgrade"),
            "a WebSocket is taken at /v1/forecasts/stream only",
        ),
        (404, "not_found", "there is nothing at this path", "path", "forecasts: POST /v1/models/pv-forecast:predict"),
        (408, "timeout", "the request did not arrive in time", None, "send headers and body without a pause"),
        (
            *(413, "too_large", f"the body is larger than {max_body_bytes} bytes", "body"),
            "ask for fewer parks or hours in one request",
        ),
        (426, "http_version", "HTTP/1.1 or HTTP/2 is needed", "protocol", "use a client that speaks HTTP/1.1"),
        (
            *(429, "rate_limited", f"client %REQ({ACCOUNT_HEADER})% sends more than {requests_per_second} requests/s"),
            *(KEY_HEADER, "wait as long as the header Retry-After says, and put several parks into one request"),
        ),
        (431, "headers_too_large", "the headers are too large or too many", "headers", "at most 100, 60 KiB together"),
        (501, "not_supported", "this transfer encoding is not supported", "transfer-encoding", "chunked, or none"),
        (
            *(503, "not_ready", "the forecast service does not answer", None),
            "try again; its owner sees log/transformer.log",
        ),
        (504, "timeout", "the forecast service did not answer in time", None, "try again with fewer parks or hours"),
    ]
    mappers = [
        _mapper("EQ", status, code=code, error=error, field=field, hint=hint)
        for status, code, error, field, hint in table
    ]
    return [*mappers, _mapper("GE", 400, code="gateway", error="%LOCAL_REPLY_BODY%", field=None, hint=None)]


def _mapper(comparison: str, status: int, **body: str | None) -> dict[str, Any]:
    when = {"comparison": {"op": comparison, "value": {"default_value": status, "runtime_key": f"pvf.{status}"}}}
    json_format = {**body, "request_id": "%REQ(X-REQUEST-ID)%"}
    mapper: dict[str, Any] = {
        "filter": {"status_code_filter": when},
        "body_format_override": {"json_format": json_format},
    }
    if status == 503:
        mapper["headers_to_add"] = [{"header": {"key": "retry-after", "value": str(RETRY_AFTER_S)}}]
    return mapper
