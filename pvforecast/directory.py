"""Who is in the fleet, for serving: one object in the store, written from the registry whenever snapshots are.

    directory/parks.json    {"parks": {park id: {"name", "latitude", "longitude", "ac_capacity_kw", "groups"}}}

Retired parks are not in it. Serving reads no lake, and one object tells it of a thousand parks at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pvforecast.errors import DataError
from pvforecast.objects import ObjectStore
from pvforecast.parks import Park

KEY = "directory/parks.json"

Directory = dict[str, dict[str, Any]]


def of(parks: Iterable[Park]) -> Directory:
    """The entries of these parks; retired ones are left out."""
    return {
        park.id: {
            "name": park.name,
            "latitude": park.latitude,
            "longitude": park.longitude,
            "ac_capacity_kw": park.ac_capacity_kw,
            "groups": list(park.groups),
        }
        for park in parks
        if not park.retired
    }


def publish(store: ObjectStore, parks: Iterable[Park]) -> None:
    """Replace what is stored. Writers at the same time write the same."""
    store.put_json(KEY, {"parks": of(parks)})


def read(store: ObjectStore) -> Directory:
    """As last published; empty before that.

    Raises
    ------
    DataError
        the object is damaged.
    NotReady
        the store does not answer.
    """
    try:
        found = store.get_json(KEY)
    except KeyError:
        return {}
    except ValueError as error:
        raise DataError(f"{KEY} cannot be read: {error}", hint="publish it again: run ingestion") from error
    parks = found.get("parks") if isinstance(found, dict) else None
    if not isinstance(parks, dict) or not all(isinstance(one, dict) for one in parks.values()):
        raise DataError(f"{KEY} holds no parks", hint="publish it again: run ingestion")
    return parks
