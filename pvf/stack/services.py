"""Our own servers: predictor, transformer, stream, log, retrain trigger, telemetry, the stand-in for Open-Meteo."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from pvf.stack.part import THREAD_LIMITS, Part, answers, python_env, python_module
from pvforecast.settings import Settings, to_env

STUB_LABEL = "open_meteo_stub"  # in the column `source`, so that invented weather is never taken for real
_AFTER_THE_SAMPLES = "2014-01-02T00:00:00+00:00"
_START_DEADLINE_S = 90.0  # imports take seconds each, and on two cores all parts start at once


def predictor(home: Path, port: int, grpc_port: int, settings: Settings) -> Part:
    """Healthy without a model: it waits for the first promotion."""
    arguments = ("--http-port", str(port), "--grpc-port", str(grpc_port))
    return _service("predictor", "inference.predictor", arguments, home, port, "/v2/health/live", settings)


def transformer(home: Path, port: int, settings: Settings, grpc_port: int | None = None) -> Part:
    """With `grpc_port` it answers Open Inference v2 over gRPC as well."""
    arguments = ["--http-port", str(port), *(["--grpc-port", str(grpc_port)] if grpc_port else [])]
    return _service("transformer", "inference.transformer", tuple(arguments), home, port, "/", settings)


def stream(home: Path, port: int, settings: Settings) -> Part:
    """Its own settings are taken over from this environment."""
    part = _service("stream", "inference.stream", ("--port", str(port)), home, port, "/healthz", settings)
    asked = {name: value for name, value in os.environ.items() if name.startswith("PVF_STREAM_")}
    return replace(part, env={**asked, **part.env})


def page(home: Path, port: int, settings: Settings) -> Part:
    return _service("page", "inference.page", ("--port", str(port)), home, port, "/healthz", settings)


def prediction_log(home: Path, port: int, settings: Settings) -> Part:
    arguments = ("--port", str(port))
    return _service("prediction-log", "inference.prediction_log", arguments, home, port, "/healthz", settings)


def trigger(home: Path, port: int, settings: Settings) -> Part:
    """Its child is a whole training run, which may use every core: the limit on threads is lifted.

    That run leads a session of its own and outlives a killed trigger: it is found by the folder both work in.
    """
    folder = home / "retrain"
    part = _service("trigger", "inference.retrain", ("--port", str(port)), home, port, "/healthz", settings)
    kept = ("PVF_TRAINING_COMMAND", *THREAD_LIMITS)
    asked = {name: os.environ[name] for name in kept if name in os.environ}
    env = {name: value for name, value in part.env.items() if name not in THREAD_LIMITS}
    return replace(
        part, env={**env, **asked}, cwd=folder, folder=folder, prepare=lambda: folder.mkdir(parents=True, exist_ok=True)
    )


def telemetry(home: Path, port: int, settings: Settings) -> Part:
    """Its own settings are taken over from this environment."""
    part = _service("telemetry", "inference.ingest", ("--port", str(port)), home, port, "/healthz", settings)
    asked = {name: value for name, value in os.environ.items() if name.startswith("PVF_MQTT_")}
    return replace(part, env={**asked, **part.env}, stop_deadline_s=20.0)  # it commits what is at hand


def weather_stub(home: Path, port: int, settings: Settings) -> Part:
    """Stands in for Open-Meteo. In a replay its clock stands behind the last sample: all runs before are archived."""
    clock = _AFTER_THE_SAMPLES if settings.clock == "snapshot" else "system"
    words = ("--port", str(port), "--clock", clock)
    return _service("weather-stub", "pvf.stub", words, home, port, "/stub", settings)


def stub_settings(url: str) -> dict[str, Any]:
    """Settings by which all pipelines ask the stub for archived runs: one a day, of 00 UTC."""
    options = {"service": "single_runs", "models": ["icon_global"], "run_hours": [0], "label": STUB_LABEL}
    return {
        "weather_source": "open_meteo",
        "weather_options": options,
        "open_meteo_url": f"{url}/{{service}}",
        "open_meteo_limits": "none",
    }


def _service(
    name: str, module: str, arguments: tuple[str, ...], home: Path, port: int, health_path: str, settings: Settings
) -> Part:
    url = f"http://127.0.0.1:{port}"
    return Part(
        name,
        python_module(module, *arguments),
        answers(url + health_path),
        url=url,
        env=python_env(**to_env(settings)),
        cwd=home,
        start_deadline_s=_START_DEADLINE_S,
    )
