"""Our own servers: predictor, transformer, prediction log, retrain trigger."""

from __future__ import annotations

import os
from pathlib import Path

from pvf.stack.part import Part, answers, python_env, python_module
from pvforecast.settings import Settings, to_env

START_DEADLINE_S = 90.0  # imports take seconds each, and on two cores all parts start at once


def predictor(home: Path, port: int, grpc_port: int, settings: Settings) -> Part:
    return Part(
        "predictor",
        python_module("inference.predictor", "--http-port", str(port), "--grpc-port", str(grpc_port)),
        answers(f"http://127.0.0.1:{port}/v2/health/live"),
        url=f"http://127.0.0.1:{port}",
        env=python_env(**to_env(settings)),
        needs=("seaweedfs",),
        cwd=home,
        start_deadline_s=START_DEADLINE_S,
    )


def transformer(home: Path, port: int, settings: Settings) -> Part:
    return Part(
        "transformer",
        python_module("inference.transformer", "--http-port", str(port)),
        answers(f"http://127.0.0.1:{port}/"),
        url=f"http://127.0.0.1:{port}",
        env=python_env(**to_env(settings)),
        needs=("seaweedfs",),  # of the rest it copes with absence: predictor down is a 503, log sink down a spool
        cwd=home,
        start_deadline_s=START_DEADLINE_S,
    )


def prediction_log(home: Path, port: int, settings: Settings) -> Part:
    return Part(
        "prediction-log",
        python_module("inference.prediction_log", "--port", str(port)),
        answers(f"http://127.0.0.1:{port}/healthz"),
        url=f"http://127.0.0.1:{port}",
        env=python_env(**to_env(settings)),
        needs=("postgres",),
        cwd=home,
        start_deadline_s=START_DEADLINE_S,
    )


def trigger(home: Path, port: int, settings: Settings) -> Part:
    """Its child is a whole training run, which may use every core and needs the stack's S3, Postgres and MLflow."""
    env = python_env(**to_env(settings))
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        env.pop(name)
        if name in os.environ:
            env[name] = os.environ[name]
    command = os.environ.get("PVF_TRAINING_COMMAND")
    return Part(
        "trigger",
        python_module("inference.retrain", "--port", str(port)),
        answers(f"http://127.0.0.1:{port}/healthz"),
        url=f"http://127.0.0.1:{port}",
        env=env if command is None else {**env, "PVF_TRAINING_COMMAND": command},
        needs=("postgres",),
        cwd=home,
        start_deadline_s=START_DEADLINE_S,
    )
