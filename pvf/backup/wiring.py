"""Settings to what is backed up, and to where."""

from __future__ import annotations

from pathlib import Path

from pvf.backup.archive import Sources
from pvf.backup.places import Bucket, Folder, Place
from pvforecast import wiring
from pvforecast.errors import InvalidInput
from pvforecast.objects import ObjectStore
from pvforecast.settings import Settings


def sources(settings: Settings, *, databases: bool = True) -> Sources:
    """The bucket, the lake where it lies elsewhere, and the databases: whatever the settings name."""
    places: dict[str, Place] = {}
    if settings.s3_endpoint:
        places["bucket"] = Bucket(wiring.objects(settings))
    if not settings.lake_uri.startswith("s3://"):
        places["lake"] = Folder(Path(settings.lake_uri))
    elif settings.s3_endpoint and not f"{settings.lake_uri}/".startswith(f"s3://{settings.s3_bucket}/"):
        name, _, prefix = settings.lake_uri.removeprefix("s3://").partition("/")
        places["lake"] = Bucket(wiring.objects(settings.model_copy(update={"s3_bucket": name})), prefix)
    named = {"postgres": settings.postgres_dsn, "mlflow": settings.mlflow_dsn}
    # MLflow's is an URL of SQLAlchemy's, which may name a driver
    urls = {name: dsn.get_secret_value().replace("+psycopg://", "://", 1) for name, dsn in named.items()}
    dsns = {name: url for name, url in urls.items() if databases and url}
    if not places and not dsns:
        hint = "set PVF_LAKE_URI, PVF_S3_ENDPOINT, PVF_POSTGRES_DSN, or start `pvf up`"
        raise InvalidInput("there is nothing to back up", field="settings", hint=hint)
    return Sources(places, dsns)


def target(settings: Settings, uri: str) -> Place:
    """A folder, or s3://bucket/prefix at PVF_BACKUP_S3_ENDPOINT (the platform's own store where that is not set)."""
    if not uri:
        hint = "a folder, or s3://bucket/prefix; best in another account"
        raise InvalidInput("no place for backups is named", field="PVF_BACKUP_URI", hint=hint)
    if not uri.startswith("s3://"):
        return Folder(Path(uri))
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    if bucket == settings.s3_bucket and not settings.backup_s3_endpoint:
        hint = "name another bucket, or PVF_BACKUP_S3_ENDPOINT"
        raise InvalidInput("a backup in the bucket it is of would be lost with it", field="PVF_BACKUP_URI", hint=hint)
    own = bool(settings.backup_s3_endpoint)
    access, secret = (
        (settings.backup_s3_access_key, settings.backup_s3_secret_key)
        if own
        else (settings.s3_access_key, settings.s3_secret_key)
    )
    endpoint = wiring.needed(settings.backup_s3_endpoint or settings.s3_endpoint, "PVF_BACKUP_S3_ENDPOINT")
    keys = access.get_secret_value(), secret.get_secret_value()
    return Bucket(ObjectStore(endpoint, bucket, *keys, region=settings.s3_region), prefix)
