"""Versions of tables: a training set is (table, version, filter), and can be read again exactly.

A version stays readable for `Table.history_hours`, and for good where a model names it: `pinned` says which those are,
and `pvforecast.lake.maintenance` keeps their files and their log.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from pvforecast.errors import DataError, InvalidInput
from pvforecast.lake.store import Lake, among, of_parks
from pvforecast.lake.tables import DRIFT_SCORES, GENERATION, TABLES, WEATHER, Table, features
from pvforecast.objects import ObjectStore

FEATURES = "features"
EXAMPLES = 5
_BUNDLE = re.compile(r"models/bundles/([^/]+)/bundle\.json")


@dataclass(frozen=True)
class Reference:
    """Some rows of one version of a table.

    Attributes
    ----------
    parks : ids; empty for every park.
    since, until : instants from which and before which `column` lies; None for no bound.
    column : the time column that they are about; the table's `time_column` by default.
    """

    table: str
    version: int
    parks: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    column: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        bounds = {name: at.isoformat() if at else None for name, at in (("since", self.since), ("until", self.until))}
        return {**vars(self), "parks": list(self.parks), **bounds}

    @classmethod
    def from_dict(cls, named: Mapping[str, Any]) -> Reference:
        bounds = {name: datetime.fromisoformat(named[name]) if named.get(name) else None for name in ("since", "until")}
        return cls(
            named["table"],
            int(named["version"]),
            tuple(named.get("parks", ())),
            **bounds,
            column=named.get("column", ""),
        )


def parse(text: str) -> tuple[str, int | None]:
    """``TABLE`` or ``TABLE@VERSION``.

    Raises
    ------
    InvalidInput
        no such table, or a version that is no number.
    """
    name, at, version = text.partition("@")
    if name not in TABLES and name != FEATURES:
        raise InvalidInput(f"no table {name!r}", field="TABLE", hint=f"one of {', '.join([*TABLES, FEATURES])}")
    if at and not version.isdecimal():
        raise InvalidInput(f"{version!r} is no version", field="TABLE", hint=f"e.g. {name}@12; see pvf data log {name}")
    return name, int(version) if at else None


def table_named(lake: Lake, name: str, version: int | None = None) -> Table:
    """The contract of a table; that of ``features`` has the columns that this version has."""
    if name != FEATURES:
        return TABLES[name]
    delta = lake.delta(features(()), version)
    fixed = features(()).schema.names
    return features(tuple(f.name for f in delta.schema().fields if f.name not in fixed) if delta else ())


def reference(lake: Lake, name: str, version: int | None = None, **filters: Any) -> Reference:
    """A reference to the current version, or to the one named; version -1 where there is no such table yet."""
    found = lake.version(table_named(lake, name)) if version is None else version
    return Reference(name, found, **filters)


def of_bundle(info: Mapping[str, Any]) -> list[Reference]:
    """The training sets that a bundle's `bundle.json` names: of each table the version, the parks, and until when."""
    until = datetime.fromisoformat(info["trained_until"]).replace(tzinfo=UTC)
    columns = {
        FEATURES: "issued_at", WEATHER.name: "available_at", GENERATION.name: "available_at",
        DRIFT_SCORES.name: "checked_at",
    }  # fmt: skip
    return [
        Reference(name, int(version), tuple(info.get("parks", ())), until=until, column=columns.get(name, ""))
        for name, version in sorted(info.get("data_versions", {}).items())
        if int(version) >= 0
    ]


def read(lake: Lake, named: Reference, columns: Collection[str] | None = None) -> pa.Table:
    """The rows, ordered by their key: equal for equal references, whatever maintenance did in between.

    Raises
    ------
    DataError
        the version is no longer kept.
    """
    table = table_named(lake, named.table, named.version)
    _check_parks(table, named)
    return lake.read(
        table,
        park_ids=list(named.parks) or None,
        columns=list(columns) if columns else None,
        during=_during(table, named),
        version=named.version if named.version >= 0 else None,
    )


def log(lake: Lake, name: str, limit: int = 20) -> list[dict[str, Any]]:
    """What became of a table, newest first: version, when, which operation, rows and files that came and went.

    Only commits whose log is still kept; an older version that a model names can be read all the same.
    """
    delta = lake.delta(table_named(lake, name))
    entries = []
    for commit in [] if delta is None else delta.history(limit):
        did = commit.get("operationMetrics") or {}
        entries.append(
            {
                "version": int(commit["version"]),
                "at": datetime.fromtimestamp(commit["timestamp"] / 1000, UTC).isoformat(),
                "operation": commit.get("operation", ""),
                "rows_added": _number(did.get("num_added_rows")),
                "files_added": _number(did.get("num_added_files", did.get("numFilesAdded"))),
                "files_removed": _number(did.get("num_removed_files", did.get("numFilesRemoved"))),
            }
        )
    return entries


def diff(lake: Lake, old: Reference, new: Reference) -> dict[str, Any]:
    """How many rows came, went and changed from one version to another, by key, with examples of each.

    Raises
    ------
    InvalidInput
        the references are about different tables.
    DataError
        a version is no longer kept.
    """
    if old.table != new.table:
        raise InvalidInput(f"{old.table} and {new.table} are different tables", field="TABLE")
    before, after = table_named(lake, old.table, old.version), table_named(lake, new.table, new.version)
    _check_parks(after, new)
    if new.version < 0:
        raise DataError("there is no such table yet", field=new.table)
    shared = [name for name in after.schema.names if name in before.schema.names and name not in after.partitions]
    key = list(after.key)
    matched = " AND ".join(f't."{name}" = u."{name}"' for name in key)
    values = [name for name in shared if name not in key]
    differ = " OR ".join(_differs(after, name) for name in values)
    t, u = (f"(SELECT * FROM {name} WHERE {_where(after, ref)}) {name}" for name, ref in (("t", new), ("u", old)))
    queries = {
        "added": ("t", f"{t} LEFT ANTI JOIN {u} ON {matched}"),
        "removed": ("u", f"{u} LEFT ANTI JOIN {t} ON {matched}"),
        "changed": ("t", f"{t} JOIN {u} ON {matched} WHERE ({differ or 'false'})"),
    }
    result: dict[str, Any] = {"table": old.table, "from": old.version, "to": new.version}
    examples = {}
    for what, (side, source) in queries.items():
        listed = ", ".join(f'{side}."{name}" AS "{name}"' for name in key)
        if what == "changed":
            listed += "".join(f', u."{name}" AS "{name} before", t."{name}" AS "{name} after"' for name in values)
        rows = lake.query(after, f"SELECT count(*) AS n FROM {source}", version=new.version, against=old.version)
        result[what] = 0 if rows is None else int(rows["n"][0].as_py())
        if result[what]:
            order = ", ".join(f'"{name}"' for name in key)
            sql = f"SELECT {listed} FROM {source} ORDER BY {order} LIMIT {EXAMPLES}"
            found = lake.query(after, sql, version=new.version, against=old.version)
            examples[what] = [_only_changed(row, values) for row in ([] if found is None else found.to_pylist())]
    return {**result, "columns_added": _names(after, before), "columns_removed": _names(before, after),
            "examples": examples}  # fmt: skip


def pinned(store: ObjectStore, promoted: Collection[str], now: datetime, days: int) -> dict[str, set[int]]:
    """Versions that models name, by table: of every bundle that was ever promoted, and of all of the last days.

    Every training run saves a bundle with the versions it stands on before it is judged, so that runs are covered.

    Parameters
    ----------
    promoted : bundle ids of all promotions.
    days : how long the versions of a bundle that was not promoted are kept.

    Raises
    ------
    NotReady
        the object store did not answer.
    DataError
        a bundle's description cannot be read.
    """
    versions: dict[str, set[int]] = {}
    for key, made_at in store.listed("models/bundles/"):
        named = _BUNDLE.fullmatch(key)
        if named is None or (named[1] not in promoted and made_at < now - timedelta(days=days)):
            continue
        try:
            info = store.get_json(key)
            for table, version in info.get("data_versions", {}).items():
                versions.setdefault(table, set()).add(int(version))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{key} does not say which data it stands on: {error!r}",
                field="data_versions",
                hint="restore or remove it",
            ) from error
    return versions


def _check_parks(table: Table, named: Reference) -> None:
    if named.parks and "park_id" not in table.schema.names:
        raise InvalidInput(f"{table.name} is not about parks", field="--park", hint="leave it out")


def _during(table: Table, named: Reference) -> tuple[str, datetime, datetime] | None:
    if named.since is None and named.until is None:
        return None
    times = [field.name for field in table.schema if pa.types.is_timestamp(field.type)]
    column = named.column or table.time_column or next(name for name in table.key + tuple(times) if name in times)
    if column not in times:
        raise InvalidInput(f"{table.name} has no time {column!r}", field="--by", hint=f"one of {', '.join(times)}")
    return column, named.since or datetime(1900, 1, 1, tzinfo=UTC), named.until or datetime(2200, 1, 1, tzinfo=UTC)


def _where(table: Table, named: Reference) -> str:
    conditions = ["true"]
    if named.parks:
        conditions.append(of_parks(named.parks) if table.partitions else among("park_id", named.parks))
    during = _during(table, named)
    if during is not None:
        column, begin, end = during
        conditions += [f"{column} >= TIMESTAMP '{begin.isoformat()}'", f"{column} < TIMESTAMP '{end.isoformat()}'"]
    return " AND ".join(conditions)


def _differs(table: Table, name: str) -> str:
    """As SQL: the column is another in ``t`` than in ``u``. Maps can't be compared, their keys and values can."""
    made_of = ("map_keys", "map_values") if pa.types.is_map(table.schema.field(name).type) else ("",)
    return " OR ".join(f'({part}(t."{name}") IS DISTINCT FROM {part}(u."{name}"))' for part in made_of)


def _only_changed(row: dict[str, Any], values: Collection[str]) -> dict[str, Any]:
    same = {name for name in values if f"{name} before" in row and row[f"{name} before"] == row[f"{name} after"]}
    return {name: value for name, value in row.items() if name.rpartition(" ")[0] not in same}


def _names(these: Table, others: Table) -> list[str]:
    return [name for name in these.schema.names if name not in others.schema.names]


def _number(value: Any) -> int | None:
    return None if value is None else int(value)
