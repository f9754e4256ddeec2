"""What the transformer needs of a bundle: its header, not its models."""

from __future__ import annotations

from dataclasses import dataclass

from inference.deployed import Deployment
from pvforecast.errors import BundleError
from pvforecast.features import FeatureSpec
from pvforecast.objects import ObjectStore


@dataclass(frozen=True)
class Header:
    """Which features a bundle wants, which quantiles it gives; which parks it knows, None where it tells none apart."""

    deployment: Deployment
    spec: FeatureSpec
    quantiles: tuple[float, ...]
    parks: frozenset[str] | None = None


def read(store: ObjectStore, deployment: Deployment) -> Header:
    """Raises BundleError where the bundle is gone or its header is none, NotReady where the store does not answer."""
    uri = deployment.bundle_uri
    try:
        info = store.get_json(f"{folder(store, uri)}/bundle.json")
        return Header(
            deployment,
            FeatureSpec(tuple(info["spec"]["names"]), info["spec"]["version"]),
            tuple(info["quantiles"]),
            frozenset(info["effects"]["parks"]) if info.get("effects") else None,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{uri}/bundle.json cannot be read: {error!r}", hint="pvf model list") from error


def folder(store: ObjectStore, uri: str) -> str:
    """Where the bundle's files lie in the bucket."""
    return uri.removeprefix(f"s3://{store.bucket}/").rstrip("/")
