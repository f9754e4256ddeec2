"""Envoy's configuration, as plain values. Pure functions: `gateway` writes the files.

Three files: the bootstrap names the other two; the listener (LDS) holds the filters; the routes (RDS) hold the API
keys. Envoy takes up a changed file when it is renamed into place. Keys stand with the routes because new routes leave
open connections alone, whereas a new listener drains the old one and cuts WebSockets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pvf.stack.api_keys import Key

CLIENT_HEADER = "x-client-id"
"""Who asks, to what is behind the gateway: the client, or client#key-id for a key that sees some parks only."""
ACCOUNT_HEADER = "x-client"
"""The client alone, whose rate limit counts."""
KEY_ID_HEADER = "x-key-id"
KEY_HEADER = "x-api-key"
ROUTES = "gateway-routes"
_UPSTREAM = "transformer"
_AUTH = "envoy.filters.http.api_key_auth"
_TYPES = "type.googleapis.com/envoy"
_MAX_CONNECTIONS = 400  # each takes two of the 1,024 files that a process may open by default

# what a client may reach; everything else (metrics, model repository control, docs) stays inside
_OPEN_PREFIXES = ("/v1/", "/v2/")
_CLOSED_PREFIXES = ("/v2/repository",)
_FORWARDING = {"header": CLIENT_HEADER, "hide_credentials": True}

# Envoy's key filter gives one word for each key, "client#id" or "client#id!" for a limited one: it is taken apart here.
_SPLIT = f"""
function envoy_on_request(handle)
  local headers = handle:headers()
  local client, id, limited = string.match(headers:get("{CLIENT_HEADER}") or "", "^([^#]+)#(%x+)(!?)$")
  if client then
    headers:replace("{ACCOUNT_HEADER}", client)
    headers:replace("{KEY_ID_HEADER}", id)
    headers:replace("{CLIENT_HEADER}", limited == "!" and client .. "#" .. id or client)
  end
end
"""

Config = dict[str, Any]


def bootstrap(admin_port: int, upstream: tuple[str, int], listener_file: str) -> Config:
    """Static part: the upstream, the admin port (statistics, readiness; not the keys), and where the rest is."""
    return {
        "node": {"id": "pvf", "cluster": "pvf"},
        "admin": {
            "address": _address("127.0.0.1", admin_port),
            "allow_paths": [{"exact": "/ready"}, {"prefix": "/stats"}],
        },
        "overload_manager": {
            "resource_monitors": [
                _typed(
                    "envoy.resource_monitors.global_downstream_max_connections",
                    "extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                    max_active_downstream_connections=_MAX_CONNECTIONS,
                )
            ]
        },
        "dynamic_resources": {"lds_config": {"path_config_source": {"path": listener_file}}},
        "static_resources": {
            "clusters": [
                {
                    "name": _UPSTREAM,
                    "type": "STATIC",
                    "connect_timeout": "1s",
                    "load_assignment": {
                        "cluster_name": _UPSTREAM,
                        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(*upstream)}}]}],
                    },
                }
            ]
        },
    }


def listener(port: int, routes_file: str, *, max_body_bytes: int, requests_per_second: int, burst: int) -> Config:
    """The listener file: filters in the order a request passes them."""
    manager = {
        "@type": f"{_TYPES}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "gateway",
        "use_remote_address": True,
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        "always_set_request_id_in_response": True,
        "server_name": "pvf",
        "request_headers_timeout": "5s",
        "request_timeout": "30s",
        "stream_idle_timeout": "60s",
        # before anything looks at the request, the access log included: only the key says who the client is
        "early_header_mutation_extensions": [
            _typed(
                "strip-client",
                "extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
                mutations=[{"remove": name} for name in (CLIENT_HEADER, ACCOUNT_HEADER, KEY_ID_HEADER)],
            )
        ],
        "access_log": [
            _typed(
                "envoy.access_loggers.stdout",
                "extensions.access_loggers.stream.v3.StdoutAccessLog",
                log_format={"json_format": _ACCESS_LOG},
            )
        ],
        "local_reply_config": {"mappers": _error_bodies(max_body_bytes, requests_per_second)},
        "http_filters": [
            _typed(
                _AUTH,
                "extensions.filters.http.api_key_auth.v3.ApiKeyAuth",
                key_sources=[{"header": KEY_HEADER}],
                forwarding=_FORWARDING,
            ),
            _typed(
                "envoy.filters.http.lua",
                "extensions.filters.http.lua.v3.Lua",
                default_source_code={"inline_string": _SPLIT},
            ),
            _rate_limit(requests_per_second, burst),
            _typed(
                "envoy.filters.http.buffer",
                "extensions.filters.http.buffer.v3.Buffer",
                max_request_bytes=max_body_bytes,
            ),
            _typed("envoy.filters.http.router", "extensions.filters.http.router.v3.Router"),
        ],
        "rds": {"route_config_name": ROUTES, "config_source": {"path_config_source": {"path": routes_file}}},
    }
    return _resources(
        "config.listener.v3.Listener",
        name="gateway",
        address=_address("127.0.0.1", port),
        filter_chains=[
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    )


def routes(keys: Mapping[str, Sequence[Key]], *, timeout_s: float) -> Config:
    """The routes file, with the keys by client."""
    credentials = [
        {"key": key.key, "client": f"{client}#{key.id}{'!' if key.limited else ''}"}
        for client, of_client in keys.items()
        for key in of_client
    ]
    nothing_here = {"status": 404, "body": {"inline_string": "not found"}}
    table = [
        {
            "match": {"path": "/healthz"},
            "direct_response": {"status": 200, "body": {"inline_string": "ok\n"}},
            "typed_per_filter_config": {
                _AUTH: {"@type": f"{_TYPES}.config.route.v3.FilterConfig", "disabled": True},
            },
        },
        *({"match": {"prefix": prefix}, "direct_response": nothing_here} for prefix in _CLOSED_PREFIXES),
        *(
            {
                "match": {"prefix": prefix},
                "route": {
                    "cluster": _UPSTREAM,
                    "timeout": f"{timeout_s}s",
                    "retry_policy": {"retry_on": "connect-failure", "num_retries": 1},
                },
            }
            for prefix in _OPEN_PREFIXES
        ),
        {"match": {"prefix": "/"}, "direct_response": nothing_here},
    ]
    auth = {
        "@type": f"{_TYPES}.extensions.filters.http.api_key_auth.v3.ApiKeyAuthPerRoute",
        "credentials": credentials,
        "forwarding": _FORWARDING,
    }
    host = {"name": "all", "domains": ["*"], "routes": table, "typed_per_filter_config": {_AUTH: auth}}
    return _resources("config.route.v3.RouteConfiguration", name=ROUTES, virtual_hosts=[host])


_ACCESS_LOG = {
    "time": "%START_TIME%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "client": f"%REQ({ACCOUNT_HEADER})%",
    "key_id": f"%REQ({KEY_ID_HEADER})%",
    "method": "%REQ(:METHOD)%",
    "path": "%PATH(NQ)%",
    "status": "%RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "duration_ms": "%DURATION%",
    "bytes_in": "%BYTES_RECEIVED%",
    "bytes_out": "%BYTES_SENT%",
}


def _rate_limit(requests_per_second: int, burst: int) -> Config:
    """One token bucket a client. The outer bucket is required; it is for requests without a client: there are none."""
    return _typed(
        "envoy.filters.http.local_ratelimit",
        "extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
        stat_prefix="per_client",
        filter_enabled={"default_value": {"numerator": 100, "denominator": "HUNDRED"}},
        filter_enforced={"default_value": {"numerator": 100, "denominator": "HUNDRED"}},
        enable_x_ratelimit_headers="DRAFT_VERSION_03",
        response_headers_to_add=[{"header": {"key": "retry-after", "value": "1"}}],
        token_bucket={"max_tokens": 1_000_000, "tokens_per_fill": 1_000_000, "fill_interval": "1s"},
        rate_limits=[{"actions": [{"request_headers": {"header_name": ACCOUNT_HEADER, "descriptor_key": "client"}}]}],
        descriptors=[
            {
                "entries": [{"key": "client"}],  # no value: one bucket for each value seen
                "token_bucket": {
                    "max_tokens": burst,
                    "tokens_per_fill": requests_per_second,
                    "fill_interval": "1s",
                },
            }
        ],
        max_dynamic_descriptors=10_000,
    )


def _error_bodies(max_body_bytes: int, requests_per_second: int) -> list[Config]:
    """Envoy's own answers in the one shape that the transformer's errors have."""
    table = [
        # status, code, error, field, hint
        (400, "bad_request", "the request is not HTTP that can be passed on", None, "see the API's documentation"),
        (
            *(401, "unauthorized", "the API key is missing or not known", KEY_HEADER),
            f"send a valid key in the header `{KEY_HEADER}`; its owner makes one: pvf key add",
        ),
        (403, "forbidden", "protocol upgrades are not taken", "upgrade", "send plain HTTP/1.1 or HTTP/2 requests"),
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
            503,
            "not_ready",
            "the forecast service does not answer",
            None,
            "try again; its owner sees log/transformer.log",
        ),
        (504, "timeout", "the forecast service did not answer in time", None, "try again with fewer parks or hours"),
    ]
    mappers = [
        _mapper("EQ", status, code=code, error=error, field=field, hint=hint)
        for status, code, error, field, hint in table
    ]
    return [*mappers, _mapper("GE", 400, code="gateway", error="%LOCAL_REPLY_BODY%", field=None, hint=None)]


def _mapper(comparison: str, status: int, **body: str | None) -> Config:
    when = {"comparison": {"op": comparison, "value": {"default_value": status, "runtime_key": f"pvf.{status}"}}}
    json_format = {**body, "request_id": "%REQ(X-REQUEST-ID)%"}
    return {"filter": {"status_code_filter": when}, "body_format_override": {"json_format": json_format}}


def _typed(name: str, kind: str, **fields: Any) -> Config:
    return {"name": name, "typed_config": {"@type": f"{_TYPES}.{kind}", **fields}}


def _resources(kind: str, **fields: Any) -> Config:
    return {"resources": [{"@type": f"{_TYPES}.{kind}", **fields}]}


def _address(host: str, port: int) -> Config:
    return {"socket_address": {"address": host, "port_value": port}}
