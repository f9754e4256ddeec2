"""Real servers for tests: mark those that use them with `@pytest.mark.stack`."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from minio import Minio

from pvf.stack.local import Stack
from pvforecast.objects import ObjectStore
from pvforecast.settings import Settings


@pytest.fixture(scope="session")
def infra() -> Iterator[Settings]:
    """SeaweedFS and Postgres, started once for the session on a PVF_HOME of their own; their settings."""
    home = new_home()
    with Stack(home, ["seaweedfs", "postgres"]) as stack:
        yield stack.settings
    shutil.rmtree(home)


@pytest.fixture(scope="session")
def infra_store(infra: Settings) -> ObjectStore:
    """The bucket of `infra`."""
    return object_store(infra)


@pytest.fixture(scope="module")
def tracked() -> Iterator[Settings]:
    """SeaweedFS, Postgres and MLflow of one module; their settings."""
    home = new_home()
    with Stack(home, ["mlflow"]) as stack:
        yield stack.settings
    shutil.rmtree(home)


def own_bucket(settings: Settings, name: str) -> Settings:
    """With a new bucket, for tests that what others leave in theirs would disturb."""
    bucket = f"{name}-{uuid.uuid4().hex[:12]}"
    keys = settings.s3_access_key.get_secret_value(), settings.s3_secret_key.get_secret_value()
    endpoint = settings.s3_endpoint.removeprefix("http://")
    Minio(endpoint, *keys, secure=False, region=settings.s3_region).make_bucket(bucket)
    return settings.model_copy(update={"s3_bucket": bucket, "lake_uri": f"s3://{bucket}/lake"})


def object_store(settings: Settings) -> ObjectStore:
    return ObjectStore(
        settings.s3_endpoint,
        settings.s3_bucket,
        settings.s3_access_key.get_secret_value(),
        settings.s3_secret_key.get_secret_value(),
    )


@pytest.fixture
def stack_home() -> Iterator[Path]:
    """A PVF_HOME for one test."""
    home = new_home()
    yield home
    shutil.rmtree(home)


def new_home() -> Path:
    """Not below pytest's own folder: that is closed to Postgres' user, and its path is long."""
    home = Path(tempfile.mkdtemp(prefix="pvf-test-"))
    home.chmod(0o755)
    return home
