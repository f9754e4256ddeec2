"""The online snapshot: what was known about one park, as one immutable object in S3.

    snapshots/objects/<park>/<sha256>.arrow     immutable, named by its content
    snapshots/index/<park>/<as_of>.json         one for each snapshot taken: {"snapshot_id", "as_of"}
    snapshots/latest/<park>.json                pointer to the newest

Every response and every log row names its `snapshot_id`, so that any served forecast can be rebuilt.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pvforecast.errors import DataError
from pvforecast.known import History, Known, Past, WeatherRun
from pvforecast.objects import ObjectStore
from pvforecast.site import Site

_FORMAT = 1


def encode(known: Known) -> bytes:
    """Serialise; equal content gives equal bytes, so the hash can name it."""
    run = known.weather
    meta = {
        "format": _FORMAT,
        "site": known.site.as_dict(),
        "as_of": _text(known.as_of),
        "weather": None if run is None else _described(run),
    }
    tables = {"history": {"valid_at": known.history.valid_at, "power_kw": known.history.power_kw}}
    if run is not None:
        tables["weather"] = _columns(run)
    if known.past is not None:
        # Under `history`, of whose columns a reader that does not know them takes no notice.
        meta["past"] = _described(known.past.weather)
        metered = known.past.metered
        tables["history"] |= {"past_metered.valid_at": metered.valid_at, "past_metered.power_kw": metered.power_kw}
        tables["history"] |= {f"past_weather.{name}": values for name, values in _columns(known.past.weather).items()}
    fields, arrays = [], []
    for table, columns in tables.items():
        for name, values in columns.items():
            values = values.astype("datetime64[s]").astype(np.int64) if _is_time(name) else values.astype(np.float64)
            fields.append(pa.field(f"{table}.{name}", pa.list_(pa.from_numpy_dtype(values.dtype))))
            arrays.append(pa.ListArray.from_arrays([0, len(values)], pa.array(values)))
    schema = pa.schema(fields, metadata={"pvforecast": json.dumps(meta, sort_keys=True)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.record_batch(arrays, schema=schema))
    return bytes(sink.getvalue())


def decode(data: bytes) -> Known:
    """The inverse of `encode`, bit for bit."""
    with pa.ipc.open_file(pa.BufferReader(data)) as reader:
        meta = json.loads(reader.schema.metadata[b"pvforecast"])
        batch = reader.get_batch(0)
    tables: dict[str, dict[str, Any]] = {"history": {}, "weather": {}}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        table, _, variable = name.partition(".")
        values = column.flatten().to_numpy(zero_copy_only=False)
        tables[table][variable] = values.astype("datetime64[s]") if _is_time(variable) else values
    weather = None if meta["weather"] is None else _run(meta["weather"], tables["weather"])
    history, past = tables["history"], None
    if meta.get("past") is not None:
        prefix = "past_weather."
        columns = {name.removeprefix(prefix): values for name, values in history.items() if name.startswith(prefix)}
        metered = History(history["past_metered.valid_at"], history["past_metered.power_kw"])
        past = Past(_run(meta["past"], columns), metered)
    of_park = History(history["valid_at"], history["power_kw"])
    return Known(Site.from_dict(meta["site"]), np.datetime64(meta["as_of"], "s"), weather, of_park, past)


def write(store: ObjectStore, known: Known) -> str:
    """Store a snapshot and point to it: object first, pointers last. Returns its `snapshot_id`."""
    data = encode(known)
    snapshot_id = hashlib.sha256(data).hexdigest()
    park, entry = known.site.park_id, {"snapshot_id": snapshot_id, "as_of": _text(known.as_of)}
    store.put(_object_key(park, snapshot_id), data)
    store.put_json(f"snapshots/index/{park}/{_text(known.as_of)}.json", entry)
    newest = latest_entry(store, park)
    if newest is None or newest["as_of"] <= entry["as_of"]:
        store.put_json(f"snapshots/latest/{park}.json", entry)
    return snapshot_id


def read(store: ObjectStore, park_id: str, snapshot_id: str) -> Known:
    """One snapshot.

    Raises
    ------
    KeyError
        there is no such snapshot.
    DataError
        its bytes are not those that its id names.
    """
    data = store.get(_object_key(park_id, snapshot_id))
    if hashlib.sha256(data).hexdigest() != snapshot_id:
        raise DataError(f"snapshot {snapshot_id[:16]} of {park_id} is damaged", hint="publish a new one: run ingestion")
    return decode(data)


def latest_entry(store: ObjectStore, park_id: str) -> dict[str, str] | None:
    """`{"snapshot_id", "as_of"}` of the newest snapshot, None for a park without one."""
    try:
        entry: dict[str, str] = store.get_json(f"snapshots/latest/{park_id}.json")
    except KeyError:
        return None
    return entry


def latest_etags(store: ObjectStore) -> dict[str, str]:
    """Park -> ETag of its pointer: the same ETag, the same newest snapshot."""
    prefix = "snapshots/latest/"
    return {key.removeprefix(prefix).removesuffix(".json"): etag for key, etag in store.etags(prefix)}


def entry_at(store: ObjectStore, park_id: str, issued_at: np.datetime64) -> dict[str, str] | None:
    """The newest retained snapshot taken at or before `issued_at`."""
    prefix = f"snapshots/index/{park_id}/"
    taken = [key for key in store.keys(prefix) if key.removeprefix(prefix).removesuffix(".json") <= _text(issued_at)]
    if not taken:
        return None
    entry: dict[str, str] = store.get_json(max(taken))
    return entry


def parks(store: ObjectStore) -> list[str]:
    """Ids of all parks that have a snapshot."""
    prefix = "snapshots/latest/"
    return [key.removeprefix(prefix).removesuffix(".json") for key in store.keys(prefix)]


def newest_time(store: ObjectStore) -> datetime | None:
    """When the newest snapshot of any park was taken: in a replay, what time it is. None without snapshots."""
    taken = [entry["as_of"] for park in parks(store) if (entry := latest_entry(store, park)) is not None]
    return datetime.fromisoformat(max(taken)).replace(tzinfo=UTC) if taken else None


def keys_of(store: ObjectStore, park_id: str) -> Iterator[str]:
    """Every object about one park, its pointer first: without it nobody is led to the others."""
    if store.exists(f"snapshots/latest/{park_id}.json"):
        yield f"snapshots/latest/{park_id}.json"
    yield from store.keys(f"snapshots/index/{park_id}/")
    yield from store.keys(f"snapshots/objects/{park_id}/")


def _described(run: WeatherRun) -> dict[str, str]:
    return {"source": run.source, "run_at": _text(run.run_at), "available_at": _text(run.available_at)}


def _columns(run: WeatherRun) -> dict[str, npt.NDArray[Any]]:
    return {"valid_at": run.valid_at, **{name: run.variables[name] for name in sorted(run.variables)}}


def _run(described: dict[str, str], columns: dict[str, npt.NDArray[Any]]) -> WeatherRun:
    """The inverse of `_described` and `_columns`."""
    times = {name: np.datetime64(described[name], "s") for name in ("run_at", "available_at")}
    variables = {name: values for name, values in columns.items() if name != "valid_at"}
    return WeatherRun(described["source"], valid_at=columns["valid_at"], variables=variables, **times)


def _is_time(name: str) -> bool:
    return name.rpartition(".")[2] == "valid_at"


def prune(store: ObjectStore, park_id: str, before: np.datetime64) -> int:
    """Remove a park's snapshots taken before an instant, but for the newest; returns how many objects went.

    Entries first; an object goes when no entry leads to it any more, since equal content taken twice is one object.
    """
    prefix, limit = f"snapshots/index/{park_id}/", _text(before)
    entries = sorted(store.keys(prefix))
    old = [key for key in entries[:-1] if key.removeprefix(prefix).removesuffix(".json") < limit]
    named = {store.get_json(key)["snapshot_id"] for key in old}
    kept = {store.get_json(key)["snapshot_id"] for key in entries if key not in set(old)} if old else set()
    unnamed = [_object_key(park_id, snapshot_id) for snapshot_id in sorted(named - kept)]
    for key in (*old, *unnamed):
        store.remove(key)
    return len(old) + len(unnamed)


def _object_key(park_id: str, snapshot_id: str) -> str:
    return f"snapshots/objects/{park_id}/{snapshot_id}.arrow"


def _text(instant: np.datetime64) -> str:
    return str(instant.astype("datetime64[s]"))
