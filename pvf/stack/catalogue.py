"""Which parts the platform has, where they listen, and the settings that follow from it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from pvf.stack import gateway, gateway_options, mlflow, mosquitto, postgres, seaweedfs, services
from pvf.stack.gateway_config import Upstreams
from pvf.stack.keyring import Keyring
from pvf.stack.part import Part
from pvf.stack.ports import Ports
from pvforecast.errors import StackError
from pvforecast.settings import Settings

# In the order they are shown. A part is named here when the other can't start without it: the transformer copes
# with an absent predictor (503) and an absent prediction log (a spool), so they start side by side.
_NEEDS: dict[str, tuple[str, ...]] = {
    "seaweedfs": (),
    "postgres": (),
    "mlflow": ("seaweedfs", "postgres"),
    "predictor": ("seaweedfs",),
    "transformer": ("seaweedfs",),
    "stream": ("seaweedfs",),
    "page": ("seaweedfs",),
    "prediction-log": ("postgres",),
    "trigger": ("postgres",),
    "gateway": (),
    "mosquitto": (),
    "telemetry": ("seaweedfs", "mosquitto"),
    "weather-stub": (),
}
_URL_FIELDS = {  # the field of Settings that says where a part is
    "mlflow": "mlflow_uri",
    "transformer": "transformer_url",
    "gateway": "gateway_url",
    "prediction-log": "prediction_log_url",
    "trigger": "trigger_url",
    "telemetry": "telemetry_url",
}
NAMES = tuple(_NEEDS)
TELEMETRY = ("mosquitto", "telemetry")  # the broker is no pip package: they run only where they are asked for
WEATHER_STUB = "weather-stub"  # invented weather: never without being asked for
DEFAULT = tuple(name for name in NAMES if name not in (*TELEMETRY, WEATHER_STUB))
BUCKET = "pvf"


def with_needs(names: Sequence[str]) -> tuple[str, ...]:
    """These parts and all that they need. Raises StackError for a name that is no part."""
    wanted = set[str]()
    todo = list(names)
    while todo:
        name = todo.pop()
        if name not in _NEEDS:
            raise StackError(f"{name!r} is no part of the stack", field="parts", hint="one of " + ", ".join(NAMES))
        if name not in wanted:
            wanted.add(name)
            todo += _NEEDS[name]
    return tuple(name for name in NAMES if name in wanted)


@dataclass(frozen=True)
class Plan:
    """What is needed to describe the parts of one data directory."""

    home: Path
    socket_dir: Path
    ports: Ports
    keys: Keyring
    names: tuple[str, ...]

    def settings(self, **overrides: Any) -> Settings:
        """Where everything will listen, for those parts that are asked for."""
        port = self.ports.get
        values: dict[str, Any] = {"home": self.home}
        if "seaweedfs" in self.names:
            values |= {
                "s3_endpoint": self._url("seaweedfs"),
                "s3_bucket": BUCKET,
                "s3_access_key": SecretStr(self.keys.s3_access_key),
                "s3_secret_key": SecretStr(self.keys.s3_secret_key),
                "lake_uri": f"s3://{BUCKET}/lake",
            }
        if "postgres" in self.names:
            values["postgres_dsn"] = SecretStr(postgres.dsn(port("postgres"), "pvf", self.keys.pvf_password))
            values["mlflow_dsn"] = SecretStr(postgres.dsn(port("postgres"), "mlflow", self.keys.mlflow_password))
        if "predictor" in self.names:
            values["predictor_grpc"] = f"127.0.0.1:{port('predictor-grpc')}"
        if "transformer" in self.names:
            values["transformer_grpc"] = f"127.0.0.1:{port('transformer-grpc')}"
        if "mosquitto" in self.names:
            values |= {
                "mqtt_url": f"mqtt://127.0.0.1:{port('mosquitto')}",
                "mqtt_user": mosquitto.READER,
                "mqtt_password": SecretStr(mosquitto.passwords(self.home).ingest),
            }
        if WEATHER_STUB in self.names:
            values |= services.stub_settings(self._url(WEATHER_STUB))
        if "gateway" in self.names and "PVF_PARK_ACCESS_FILE" not in os.environ:
            values["park_access_file"] = gateway.access_file(self.home)
        for name, field in _URL_FIELDS.items():
            if name in self.names:
                values[field] = self._url(name)
        if "gateway" in self.names:
            values["gateway_url"] = gateway.url(port("gateway"), gateway_options.load())
        return Settings(**(values | overrides))

    def parts(self, settings: Settings) -> list[Part]:
        """The parts, in the order of `NAMES`."""
        port = self.ports.get
        makers: dict[str, Callable[[], Part]] = {
            "seaweedfs": lambda: seaweedfs.part(
                self.home / "seaweedfs", self.socket_dir, port("seaweedfs"), self.ports, BUCKET, self.keys
            ),
            "postgres": lambda: postgres.part(self.home, port("postgres"), self.keys),
            "mlflow": lambda: mlflow.part(
                self.home,
                port("mlflow"),
                postgres.dsn(port("postgres"), "mlflow", self.keys.mlflow_password),
                settings,
            ),
            "predictor": lambda: services.predictor(self.home, port("predictor"), port("predictor-grpc"), settings),
            "transformer": lambda: replace(
                services.transformer(self.home, port("transformer"), settings, port("transformer-grpc")),
                prepare=self._tell_who_sees_what,
            ),
            "stream": lambda: replace(
                services.stream(self.home, port("stream"), settings), prepare=self._tell_who_sees_what
            ),
            "page": lambda: replace(services.page(self.home, port("page"), settings), prepare=self._tell_who_sees_what),
            "prediction-log": lambda: services.prediction_log(self.home, port("prediction-log"), settings),
            "trigger": lambda: services.trigger(self.home, port("trigger"), settings),
            "gateway": lambda: gateway.part(
                self.home,
                port("gateway"),
                port("gateway-admin"),
                self._upstreams(settings),
                gateway_options.load(),
            ),
            "mosquitto": lambda: mosquitto.part(self.home, port("mosquitto")),
            "telemetry": lambda: services.telemetry(self.home, port("telemetry"), settings),
            WEATHER_STUB: lambda: services.weather_stub(self.home, port(WEATHER_STUB), settings),
        }
        return [replace(makers[name](), needs=_NEEDS[name]) for name in self.names]

    def _upstreams(self, settings: Settings) -> Upstreams:
        stream = [("127.0.0.1", self.ports.get("stream"))] if "stream" in self.names else []
        rpc = gateway.addresses(settings.transformer_grpc, "PVF_TRANSFORMER_GRPC") if settings.transformer_grpc else []
        page = [("127.0.0.1", self.ports.get("page"))] if "page" in self.names else []
        return Upstreams(gateway.addresses(settings.transformer_url), rpc, stream, page)

    def _tell_who_sees_what(self) -> None:
        """The transformer reads it at its start, which may be before the gateway's."""
        if "gateway" in self.names:
            gateway.write_access(self.home, now=datetime.now(UTC))

    def _url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports.get(name)}"
