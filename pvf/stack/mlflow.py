"""The MLflow server: runs and models in Postgres, artifacts in S3, which it serves itself.

Clients need its URL only. The slowest part to start (11 to 14 s on two cores).
"""

from __future__ import annotations

from pathlib import Path

from pvf.stack.part import Part, answers, listens, python_env, python_module
from pvforecast.settings import Settings

NAME = "mlflow"


def part(home: Path, port: int, database: str, settings: Settings) -> Part:
    """`database` is a libpq URL; it and the S3 keys travel by environment, since arguments are there for all to see."""
    url = f"http://127.0.0.1:{port}"
    healthy = answers(f"{url}/health")

    def health() -> None:
        listens(port)
        healthy()

    return Part(
        NAME,
        python_module("mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        health,
        url=url,
        env=python_env(
            MLFLOW_BACKEND_STORE_URI=database.replace("postgresql://", "postgresql+psycopg://", 1),
            MLFLOW_ARTIFACTS_DESTINATION=f"s3://{settings.s3_bucket}/mlflow",
            MLFLOW_S3_ENDPOINT_URL=settings.s3_endpoint,
            MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",  # it would start ten processes and take 2.5 GB
            MLFLOW_DISABLE_TELEMETRY="true",
            DO_NOT_TRACK="true",
            AWS_ACCESS_KEY_ID=settings.s3_access_key.get_secret_value(),
            AWS_SECRET_ACCESS_KEY=settings.s3_secret_key.get_secret_value(),
            AWS_DEFAULT_REGION=settings.s3_region,
            AWS_EC2_METADATA_DISABLED="true",
        ),
        cwd=home,
        start_deadline_s=300.0,  # its imports alone take a minute on a machine that is busy
        stop_deadline_s=10.0,
    )
