"""Which bundle is deployed: `models/deployed.json`, or the one that the environment pins.

At home the pointer is a projection of the promotions table and is polled; on a cluster the InferenceService's
storageUri names the bundle and arrives as `PVF_BUNDLE_URI`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from pvforecast.errors import DataError
from pvforecast.objects import ObjectStore

KEY = "models/deployed.json"


@dataclass(frozen=True)
class Deployment:
    """The bundle to serve. `bundle_id` is the last part of its URI."""

    bundle_uri: str
    bundle_id: str
    model_version: str

    @classmethod
    def pinned(cls, bundle_uri: str, model_version: str | None = None) -> Deployment:
        bundle_id = bundle_uri.rstrip("/").rsplit("/", 1)[-1]
        return cls(bundle_uri, bundle_id, model_version or bundle_id)


class DeployedPointer:
    """Follows the pointer by its ETag. Blocking: call it off the event loop.

    Parameters
    ----------
    pinned : when given, the pointer in the store is not looked at.
    """

    def __init__(self, store: ObjectStore, pinned: Deployment | None = None) -> None:
        self._store = store
        self._pinned = pinned
        self._etag: str | None = None
        self._deployment: Deployment | None = None

    def check(self) -> Deployment | None:
        """What is deployed now; None where nothing is.

        Raises
        ------
        NotReady
            the object store does not answer.
        DataError
            the pointer cannot be read.
        """
        if self._pinned is not None:
            return self._pinned
        try:
            if self._deployment is not None and self._store.etag(KEY).strip('"') == self._etag:
                return self._deployment
            data, etag = self._store.get_with_etag(KEY)
        except KeyError:
            self._etag = self._deployment = None
            return None
        self._deployment, self._etag = _parse(data), etag.strip('"')
        return self._deployment


def _parse(data: bytes) -> Deployment:
    try:
        fields = json.loads(data)
        return Deployment(str(fields["bundle_uri"]), str(fields["bundle_id"]), str(fields["model_version"]))
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"it is not an object with bundle_uri, bundle_id and model_version: {error!r}",
            field=KEY,
            hint="promote a version again: pvf pipeline run training",
        ) from error
