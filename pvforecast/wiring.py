"""Settings to the lake and the object store. `clients` has the rest: MLflow alone takes a second to import."""

from __future__ import annotations

from pvforecast.errors import InvalidInput
from pvforecast.lake import Lake
from pvforecast.lake.store import s3_options
from pvforecast.objects import ObjectStore
from pvforecast.settings import Settings


def lake(settings: Settings) -> Lake:
    """The lake, on S3 or in a local folder."""
    if not settings.lake_uri.startswith("s3://"):
        return Lake(settings.lake_uri)
    keys = settings.s3_access_key.get_secret_value(), settings.s3_secret_key.get_secret_value()
    return Lake(
        settings.lake_uri, s3_options(needed(settings.s3_endpoint, "PVF_S3_ENDPOINT"), *keys, settings.s3_region)
    )


def objects(settings: Settings) -> ObjectStore:
    """The bucket of plain objects."""
    keys = settings.s3_access_key.get_secret_value(), settings.s3_secret_key.get_secret_value()
    endpoint = needed(settings.s3_endpoint, "PVF_S3_ENDPOINT")
    return ObjectStore(endpoint, settings.s3_bucket, *keys, region=settings.s3_region)


def needed(value: str, name: str) -> str:
    """A setting that must be there; raises InvalidInput naming its variable."""
    if not value:
        folder = "; a lake in a folder needs none: PVF_LAKE_URI=./mylake" if name == "PVF_S3_ENDPOINT" else ""
        raise InvalidInput("is not set", field=name, hint=f"start the local stack (`pvf up`), or set it{folder}")
    return value
