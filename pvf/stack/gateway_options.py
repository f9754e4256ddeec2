"""Settings of the gateway: limits, address, certificate. Read from `PVF_GATEWAY_*` variables."""

from __future__ import annotations

import ipaddress
import resource
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from pvforecast.errors import InvalidInput

_PREFIX = "PVF_GATEWAY_"
_MOST_FILES = 8_192
_FILES_OF_ITS_OWN = 224


class Options(BaseSettings):
    """What one client may do, and how the gateway listens."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, extra="ignore")

    requests_per_second: int = Field(default=100, ge=1)
    burst: int = Field(default=200, ge=1)  # requests at once after a pause
    max_body_bytes: int = Field(default=1_048_576, ge=1)
    timeout_s: float = Field(default=30.0, gt=0)  # for the forecast service's whole answer

    host: str = "127.0.0.1"  # another address only with TLS
    tls: Literal["off", "own-ca"] = "off"  # own-ca: a certificate that the stack makes and renews
    tls_names: str = ""  # more names and addresses in that certificate, separated by commas
    tls_cert: Path | None = None  # a certificate chain of yours, PEM; with it TLS is on
    tls_key: Path | None = None

    @property
    def encrypted(self) -> bool:
        return self.tls == "own-ca" or self.tls_cert is not None

    @property
    def names(self) -> list[str]:
        """Host names and addresses that the made certificate is for."""
        more = [name.strip() for name in self.tls_names.split(",") if name.strip()]
        here = [] if _unspecified(self.host) else [self.host]
        return list(dict.fromkeys(["localhost", "127.0.0.1", *here, *more]))


def load() -> Options:
    """The options of this environment; raises InvalidInput naming the variable that is wrong."""
    try:
        options = Options()
    except ValidationError as error:
        first = error.errors()[0]
        name = f"{_PREFIX}{str(first['loc'][0]).upper()}"
        raise InvalidInput(
            f"{first['input']!r}: {first['msg']}", field=name, hint="unset it for the default"
        ) from error
    _check(options)
    return options


def open_files() -> int:
    """How many files the gateway may hold open: each connection takes two."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)


def max_connections() -> int:
    """How many clients may be connected at once."""
    return max((open_files() - _FILES_OF_ITS_OWN) // 2, 100)


def _check(options: Options) -> None:
    try:
        loopback = ipaddress.ip_address(options.host).is_loopback
    except ValueError as error:
        raise InvalidInput(
            f"{options.host!r} is no IP address", field=f"{_PREFIX}HOST", hint="e.g. 127.0.0.1, or 0.0.0.0 for all"
        ) from error
    if not loopback and not options.encrypted:
        raise InvalidInput(
            "keys and forecasts would cross the network in plain text",
            field=f"{_PREFIX}HOST",
            hint=f"set {_PREFIX}TLS=own-ca, or {_PREFIX}TLS_CERT and {_PREFIX}TLS_KEY",
        )
    if (options.tls_cert is None) != (options.tls_key is None):
        missing = "KEY" if options.tls_key is None else "CERT"
        raise InvalidInput("a certificate needs its key", field=f"{_PREFIX}TLS_{missing}", hint="set both or none")
    for name, file in (("TLS_CERT", options.tls_cert), ("TLS_KEY", options.tls_key)):
        if file is not None and not file.is_file():
            raise InvalidInput(f"no file {file}", field=f"{_PREFIX}{name}", hint="a PEM file")


def _unspecified(host: str) -> bool:
    return ipaddress.ip_address(host).is_unspecified
