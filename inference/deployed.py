"""Which bundle is deployed: `models/deployed.json`, or the one that the environment pins.

At home the pointer is a projection of the promotions table and is polled; on a cluster the InferenceService's
storageUri names the bundle and arrives as `PVF_BUNDLE_URI`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from pvforecast.errors import DataError
from pvforecast.objects import ObjectStore

T = TypeVar("T")

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


class Followed(Generic[T]):
    """An object in the store as `parse` reads it, anew when its ETag is another. Blocking; one caller at a time."""

    def __init__(self, store: ObjectStore, key: str, parse: Callable[[bytes], T]) -> None:
        self._store = store
        self._key = key
        self._parse = parse
        self._etag: str | None = None
        self._value: T | None = None

    def check(self) -> T | None:
        """None where there is no such object.

        Raises
        ------
        NotReady
            the object store does not answer.
        DataError
            of `parse`.
        """
        try:
            if self._value is not None and self._store.etag(self._key).strip('"') == self._etag:
                return self._value
            data, etag = self._store.get_with_etag(self._key)
        except KeyError:
            self._etag = self._value = None
            return None
        self._value, self._etag = self._parse(data), etag.strip('"')
        return self._value


class DeployedPointer:
    """Follows the pointer. Blocking: call it off the event loop.

    Parameters
    ----------
    pinned : when given, the pointer in the store is not looked at.
    """

    def __init__(self, store: ObjectStore, pinned: Deployment | None = None) -> None:
        self._pinned = pinned
        self._followed = Followed(store, KEY, _parse)

    def check(self) -> Deployment | None:
        """What is deployed now; None where nothing is. Raises NotReady or DataError, as `Followed.check`."""
        return self._pinned or self._followed.check()


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
