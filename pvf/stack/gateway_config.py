"""Envoy's configuration, as plain values. Pure functions: `gateway` writes the files.

Five files: the bootstrap names the others; the listener (LDS) holds the filters; the routes (RDS) hold the API keys;
the certificate (SDS) names PEM files; the endpoints (EDS) are the canary's addresses. Envoy takes up a changed file
when it is renamed into place. Keys stand with the routes because new routes leave open connections alone, whereas a
new listener drains the old one and cuts WebSockets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pvf.stack import gateway_errors
from pvf.stack.api_keys import Key
from pvf.stack.gateway_errors import ACCOUNT_HEADER, CLIENT_HEADER, KEY_COOKIE, KEY_HEADER, KEY_ID_HEADER

# A browser sends the cookie along whoever made it ask: it counts only for pages of this very origin. A WebSocket must
# name its origin, since no other rule of the browser holds it back.
_OWN_ORIGIN = """
function envoy_on_request(handle)
  local headers = handle:headers()
  if headers:get("cookie") == nil then return end
  local origin = headers:get("origin")
  local own = origin ~= nil and string.match(origin, "^https?://(.+)$") == headers:get(":authority")
  if not own and (origin ~= nil or headers:get("upgrade") ~= nil) then headers:remove("cookie") end
end
"""

Config = dict[str, Any]
Address = tuple[str, int]

ROUTES = "gateway-routes"
CERTIFICATE = "gateway-certificate"
CANARY = "transformer-canary"
STREAM_PATH = "/v1/forecasts/stream"
_READY = "/v1/models/pv-forecast"  # 200 while a forecast can be made
_WEIGHTS = 1_000
_GRPC = "/inference.GRPCInferenceService/"
_AUTH = "envoy.filters.http.api_key_auth"
_BUFFER = "envoy.filters.http.buffer"
_TYPES = "type.googleapis.com/envoy"
_STREAM_IDLE = "90s"  # more than two heartbeats of the stream

# what a client may reach; everything else (metrics, model repository control, docs) stays inside
_OPEN: tuple[Config, ...] = ({"prefix": "/v1/"}, {"prefix": "/v2/"}, {"path": "/v2"})
_CLOSED_PREFIXES = ("/v2/repository", f"{_GRPC}RepositoryModel")
PAGE = "/page/"
_TO_PAGE = ("/", "/page")
_WITHOUT_KEY: dict[str, Any] = {
    "typed_per_filter_config": {_AUTH: {"@type": f"{_TYPES}.config.route.v3.FilterConfig", "disabled": True}}
}
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


@dataclass(frozen=True)
class Upstreams:
    """Where the services are that the gateway passes requests to; several addresses are replicas of one service."""

    transformer: Sequence[Address]
    transformer_grpc: Sequence[Address] = ()
    stream: Sequence[Address] = ()
    page: Sequence[Address] = ()


def bootstrap(
    admin_port: int, upstreams: Upstreams, listener_file: str, canary_file: str, *, max_connections: int
) -> Config:
    """Static part: the upstreams, the admin port (statistics, readiness; not the keys), and where the rest is.

    `canary_file` holds the addresses of the canary, none as a rule (see `endpoints`).
    """
    clusters = [
        _cluster("transformer", upstreams.transformer, health_path=_READY),
        _canary_cluster(canary_file),
        _first_ready("canary-or-transformer", CANARY, "transformer"),
    ]
    if upstreams.transformer_grpc:
        clusters.append(_cluster("transformer-grpc", upstreams.transformer_grpc, http2=True))
    if upstreams.stream:
        clusters.append(_cluster("stream", upstreams.stream))
    if upstreams.page:
        clusters.append(_cluster("page", upstreams.page))
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
                    max_active_downstream_connections=max_connections,
                )
            ]
        },
        "dynamic_resources": {"lds_config": {"path_config_source": {"path": listener_file}}},
        "static_resources": {"clusters": clusters},
    }


def listener(
    address: Address,
    routes_file: str,
    *,
    max_body_bytes: int,
    requests_per_second: int,
    burst: int,
    certificate_file: str | None = None,
) -> Config:
    """The listener file: filters in the order a request passes them. With `certificate_file` it speaks TLS only."""
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
        "upgrade_configs": [{"upgrade_type": "websocket", "enabled": False}],  # one route takes it
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
                log_format={"json_format": gateway_errors.ACCESS_LOG},
            )
        ],
        "local_reply_config": {"mappers": gateway_errors.bodies(max_body_bytes, requests_per_second)},
        "http_filters": [
            _typed(
                "pvf.own-origin",
                "extensions.filters.http.lua.v3.Lua",
                default_source_code={"inline_string": _OWN_ORIGIN},
            ),
            _typed(
                _AUTH,
                "extensions.filters.http.api_key_auth.v3.ApiKeyAuth",
                key_sources=[{"header": KEY_HEADER}, {"cookie": KEY_COOKIE}],
                forwarding=_FORWARDING,
            ),
            _typed(
                "envoy.filters.http.lua",
                "extensions.filters.http.lua.v3.Lua",
                default_source_code={"inline_string": _SPLIT},
            ),
            _rate_limit(requests_per_second, burst),
            _typed(_BUFFER, "extensions.filters.http.buffer.v3.Buffer", max_request_bytes=max_body_bytes),
            _typed("envoy.filters.http.router", "extensions.filters.http.router.v3.Router"),
        ],
        "rds": {"route_config_name": ROUTES, "config_source": {"path_config_source": {"path": routes_file}}},
    }
    chain: Config = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    if certificate_file is not None:
        chain["transport_socket"] = _tls(certificate_file)
    return _resources("config.listener.v3.Listener", name="gateway", address=_address(*address), filter_chains=[chain])


def certificate(chain: str, key: str, folder: str) -> Config:
    """The certificate file. Envoy reads the PEM files again when a file is renamed into `folder`."""
    return _resources(
        "extensions.transport_sockets.tls.v3.Secret",
        name=CERTIFICATE,
        tls_certificate={
            "certificate_chain": {"filename": chain},
            "private_key": {"filename": key},
            "watched_directory": {"path": folder},
        },
    )


def endpoints(addresses: Sequence[Address]) -> Config:
    """The canary's file of addresses (EDS)."""
    of_cluster = [{"lb_endpoints": [{"endpoint": {"address": _address(*one)}} for one in addresses]}]
    return _resources(
        "config.endpoint.v3.ClusterLoadAssignment",
        cluster_name=CANARY,
        endpoints=of_cluster if addresses else [],
    )


def routes(
    keys: Mapping[str, Sequence[Key]], upstreams: Upstreams, *, timeout_s: float, canary_share: float = 0.0
) -> Config:
    """The routes file, with the keys by client, and the share of REST requests that the canary gets."""
    credentials = [
        {"key": key.key, "client": f"{client}#{key.id}{'!' if key.limited else ''}"}
        for client, of_client in keys.items()
        for key in of_client
    ]
    nothing_here = {"status": 404, "body": {"inline_string": "not found"}}
    table: list[Config] = [
        {
            "match": {"path": "/healthz"},
            "direct_response": {"status": 200, "body": {"inline_string": "ok\n"}},
            **_WITHOUT_KEY,
        },
        *({"match": {"prefix": prefix}, "direct_response": nothing_here} for prefix in _CLOSED_PREFIXES),
    ]
    if upstreams.stream:
        table.append(_stream_route())
    if upstreams.page:
        table += _page_routes(credentials, timeout_s)
    table += [_route(match, _shared(canary_share), len(upstreams.transformer), timeout_s) for match in _OPEN]
    if upstreams.transformer_grpc:
        grpc = {"cluster": "transformer-grpc"}
        table.append(_route({"prefix": _GRPC}, grpc, len(upstreams.transformer_grpc), timeout_s))
    table.append({"match": {"prefix": "/"}, "direct_response": nothing_here})
    auth = {
        "@type": f"{_TYPES}.extensions.filters.http.api_key_auth.v3.ApiKeyAuthPerRoute",
        "credentials": credentials,
        "forwarding": _FORWARDING,
    }
    host = {
        "name": "all",
        "domains": ["*"],
        "routes": table,
        "request_headers_to_remove": ["cookie"],  # it holds the key
        "typed_per_filter_config": {_AUTH: auth},
    }
    return _resources("config.route.v3.RouteConfiguration", name=ROUTES, virtual_hosts=[host])


def _page_routes(credentials: list[Config], timeout_s: float) -> list[Config]:
    """The page and its files are open and hold no data; what it shows needs the key, as everywhere.

    Logging in is a request with the key in its header: the page's server is given that key, known to be good, and
    answers with the cookie.
    """
    to_page = {"cluster": "page", "timeout": f"{timeout_s}s"}
    log_in = {
        "@type": f"{_TYPES}.extensions.filters.http.api_key_auth.v3.ApiKeyAuthPerRoute",
        "credentials": credentials,
        "key_sources": [{"header": KEY_HEADER}],
        "forwarding": {"header": CLIENT_HEADER, "hide_credentials": False},
    }
    open_routes: list[Config] = [{"path": PAGE}, {"prefix": "/page/assets/"}, {"path": "/page/logout"}]
    return [
        *({"match": {"path": path}, "redirect": {"path_redirect": PAGE}, **_WITHOUT_KEY} for path in _TO_PAGE),
        *({"match": match, "route": to_page, **_WITHOUT_KEY} for match in open_routes),
        {"match": {"path": "/page/login"}, "route": to_page, "typed_per_filter_config": {_AUTH: log_in}},
        {"match": {"prefix": "/page/api/"}, "route": to_page},
    ]


def _shared(canary_share: float) -> Config:
    if canary_share <= 0:
        return {"cluster": "transformer"}
    canary = round(canary_share * _WEIGHTS)
    parts = [{"name": "transformer", "weight": _WEIGHTS - canary}, {"name": "canary-or-transformer", "weight": canary}]
    return {"weighted_clusters": {"clusters": parts}}


def _route(match: Config, where: Config, replicas: int, timeout_s: float) -> Config:
    """A forecast changes nothing, so it is asked again where an answer was cut off; of another replica if there is one.

    A replica whose predictor restarts says 503 itself: with others beside it, that is a reason to ask them.
    """
    retry: Config = {"retry_on": "connect-failure,refused-stream,reset", "num_retries": 1}
    if replicas > 1:
        retry = {
            "retry_on": "connect-failure,refused-stream,reset,retriable-status-codes",
            "retriable_status_codes": [503],
            "num_retries": 6,  # over more than a second: by then the health checks know who is back
            "retry_back_off": {"base_interval": "0.05s", "max_interval": "0.5s"},
            "retry_host_predicate": [
                _typed(
                    "envoy.retry_host_predicates.previous_hosts",
                    "extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
                )
            ],
            "host_selection_retry_max_attempts": 8,
        }
    route = {**where, "timeout": f"{timeout_s}s", "retry_policy": retry}
    return {"match": match, "route": route}


def _stream_route() -> Config:
    return {
        "match": {"path": STREAM_PATH},
        # compressing the same text for each of a thousand clients costs more than sending it
        "request_headers_to_remove": ["sec-websocket-extensions"],
        "route": {
            "cluster": "stream",
            "timeout": "0s",
            "idle_timeout": _STREAM_IDLE,
            "upgrade_configs": [{"upgrade_type": "websocket", "enabled": True}],
        },
        "typed_per_filter_config": {
            _BUFFER: {"@type": f"{_TYPES}.extensions.filters.http.buffer.v3.BufferPerRoute", "disabled": True},
        },
    }


def _cluster(name: str, addresses: Sequence[Address], *, http2: bool = False, health_path: str = "") -> Config:
    """With replicas, those that are not ready are left out until they are."""
    cluster: Config = {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "lb_policy": "LEAST_REQUEST",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(*one)}} for one in addresses]}],
        },
        # the stream has one connection a client, the others one a request: the listener's limit is the one that counts
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": 10_000,
                    "max_pending_requests": 10_000,
                    "max_requests": 10_000,
                    "max_retries": 10_000,  # while a replica restarts, half of all requests are asked again
                }
            ]
        },
    }
    if http2:
        cluster["typed_extension_protocol_options"] = {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_TYPES}.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        }
    if health_path and len(addresses) > 1:
        cluster["health_checks"] = [_ready_check(health_path)]
    return cluster


def _canary_cluster(file: str) -> Config:
    return {
        "name": CANARY,
        "type": "EDS",
        "connect_timeout": "1s",
        "eds_cluster_config": {"eds_config": {"path_config_source": {"path": file}}},
        "health_checks": [_ready_check(_READY)],
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},  # rather the other than one that is not ready
    }


def _first_ready(name: str, *clusters: str) -> Config:
    """The first of these clusters that has a healthy member."""
    kind = "extensions.clusters.aggregate.v3.ClusterConfig"
    return {
        "name": name,
        "connect_timeout": "1s",
        "lb_policy": "CLUSTER_PROVIDED",
        "cluster_type": _typed("envoy.clusters.aggregate", kind, clusters=list(clusters)),
    }


def _ready_check(path: str) -> Config:
    return {
        "timeout": "1s",
        "interval": "0.5s",
        "no_traffic_interval": "0.5s",
        "unhealthy_threshold": 2,
        "healthy_threshold": 1,
        "http_health_check": {"path": path},
    }


def _tls(certificate_file: str) -> Config:
    return _typed(
        "envoy.transport_sockets.tls",
        "extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        common_tls_context={
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
            "tls_certificate_sds_secret_configs": [
                {"name": CERTIFICATE, "sds_config": {"path_config_source": {"path": certificate_file}}}
            ],
        },
    )


def _rate_limit(requests_per_second: int, burst: int) -> Config:
    """One token bucket a client. The outer bucket is required; it is for requests without a client: there are none."""
    return _typed(
        "envoy.filters.http.local_ratelimit",
        "extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
        stat_prefix="per_client",
        filter_enabled={"default_value": {"numerator": 100, "denominator": "HUNDRED"}},
        filter_enforced={"default_value": {"numerator": 100, "denominator": "HUNDRED"}},
        enable_x_ratelimit_headers="DRAFT_VERSION_03",
        rate_limited_as_resource_exhausted=True,  # for gRPC
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


def _typed(name: str, kind: str, **fields: Any) -> Config:
    return {"name": name, "typed_config": {"@type": f"{_TYPES}.{kind}", **fields}}


def _resources(kind: str, **fields: Any) -> Config:
    return {"resources": [{"@type": f"{_TYPES}.{kind}", **fields}]}


def _address(host: str, port: int) -> Config:
    return {"socket_address": {"address": host, "port_value": port}}
