"""Parks from a file, as a CRM exports them: one row a park, canonical names, or a mapping."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pvforecast import fleet, quarantine
from pvforecast.errors import InvalidInput
from pvforecast.importing import cells, columns, tables
from pvforecast.importing.cells import Faults
from pvforecast.importing.columns import Kind
from pvforecast.importing.files import shown
from pvforecast.importing.mapping import Mapping
from pvforecast.importing.report import Report
from pvforecast.importing.tables import Chunk, Layout
from pvforecast.lake import Lake
from pvforecast.lake.tables import PARKS
from pvforecast.parks import Park, doubts, parse
from pvforecast.quarantine import Rejected

KIND = Kind(
    "parks",
    ("park_id", "latitude", "longitude"),
    ("park_id", "name", "latitude", "longitude", "timezone", "dc_capacity_kw", "ac_capacity_kw", "tilt_deg",
     "azimuth_deg", "elevation_m", "export_limit_kw", "arrays", "groups", "resolution", "valid_from", "source", "note",
     "retired"),
)  # fmt: skip
MAX_PARKS = 100_000
_NUMBERS = ("latitude", "longitude", "dc_capacity_kw", "ac_capacity_kw", "tilt_deg", "azimuth_deg", "elevation_m",
            "export_limit_kw")  # fmt: skip
_OURS = {"park_id": "id", "tilt_deg": "surface_tilt", "azimuth_deg": "surface_azimuth"}
_THEIRS = {to: name for name, to in _OURS.items()}
_ARRAY = re.compile(r"\s*(?:(?P<name>[^:@=]*)=)?(?P<tilt>[\d.]+)@(?P<azimuth>-?[\d.]+):(?P<kw>[\d.]+)\s*")


def from_north(azimuth: float, convention: str) -> float:
    """Degrees clockwise from north, of an azimuth counted otherwise; see `mapping.Azimuth`.

    Raises
    ------
    ValueError
        it lies outside what the convention has.
    """
    if convention == "north":
        if not 0 <= azimuth <= 360:
            hint = " (counted from south? --azimuth south)" if -180 <= azimuth < 0 else ""
            raise ValueError(f"{azimuth:g} lies outside 0-360, clockwise from north{hint}")
        return azimuth % 360
    if not -180 <= azimuth <= 180:
        raise ValueError(f"{azimuth:g} lies outside -180 to 180, counted from south")
    return (180.0 + (-azimuth if convention == "south-east-positive" else azimuth)) % 360


def run(
    lake: Lake, path: Path, mapping: Mapping, *, correct: bool = False, dry_run: bool = False, strict: bool = False
) -> tuple[Report, list[Park]]:
    """Register the parks of a file.

    Parameters
    ----------
    correct : the file's facts replace other facts of the same `valid_from`.
    strict : one bad row refuses the file.

    Returns
    -------
    What was found and done, and the parks of the file.

    Raises
    ------
    InvalidInput
        the file can't be read as such, or has no good row; nothing was stored then.
    """
    report = Report("parks", shown(path), dry_run=dry_run)
    good: dict[tuple[str, datetime], tuple[int, Park]] = {}
    bad: list[tuple[int, str, str, str]] = []
    notes: dict[str, list[str]] = {}
    for chunk in tables.read(path, Layout(mapping.encoding, mapping.delimiter)):
        report.rows += len(chunk) + len(chunk.broken)
        if report.rows > MAX_PARKS:
            raise InvalidInput(f"has more than {MAX_PARKS:,} rows", field=shown(path), hint="is it a file of parks?")
        bad += [(number, f"row: {why}", "", line) for number, (why, line) in chunk.broken.items()]
        for i, (values, problem) in enumerate(_rows(chunk, mapping, shown(path))):
            number = int(chunk.numbers[i])
            delivered = {name: str(column[i].as_py())[:500] for name, column in chunk.columns.items()}
            payload = json.dumps(delivered)[: quarantine.PAYLOAD_LIMIT]
            name = str(values.get("park_id") or "")[:64]
            if problem:
                bad.append((number, problem, name, payload))
                continue
            try:
                park = _park(values, mapping, notes)
            except InvalidInput as error:
                bad.append((number, _named(error), name, payload))
                continue
            key = park.id, park.valid_from
            if key in good:
                bad.append((number, f"park_id: {park.id!r} stands in row {good[key][0]} already", name, payload))
                continue
            good[key] = number, park
    bad += _refused_by_registry(lake, good, correct)
    bad.sort()
    refused = {number for number, *_ in bad}
    parks = [park for number, park in good.values() if number not in refused]
    _describe(report, parks, bad, notes, mapping)
    if not parks:
        raise _nothing(report, "no park can be used" if bad else "has no row")
    if strict and bad:
        raise _nothing(report, f"{len(bad)} of {report.rows} rows are bad (--strict)")
    if not dry_run:
        outcomes = fleet.register_all(lake, parks, correct=correct)
        report.loaded = sum(outcome is True for outcome in outcomes)
        report.already = sum(outcome is False for outcome in outcomes)
        held = [Rejected(PARKS.name, name, "import", f"{shown(path)} row {number}", reason[:500], payload)
                for number, reason, name, payload in bad]  # fmt: skip
        quarantine.hold(lake, held, datetime.now(UTC))
        report.quarantined = len(held)
    return report, parks


def _rows(chunk: Chunk, mapping: Mapping, where: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Each row's values by canonical name, and what is wrong with a number or a time of it."""
    given = columns.ours(chunk, KIND, mapping, where)
    size, faults = len(chunk), Faults(len(chunk))
    missing = cells.MISSING + mapping.missing
    values: dict[str, list[Any]] = {}
    for name in given:
        if name in _NUMBERS:
            read = columns.values(given, name, size, mapping, faults)
            values[name] = [None if np.isnan(value) else float(value) for value in read]
        elif name == "retired":
            values[name] = list(cells.flags(given[name], name, faults, missing))
        elif name == "valid_from":
            zone = cells.zone_of(mapping.timezone, "timezone") if mapping.timezone else None
            times = cells.instants(_dates(given[name]), name, faults, zone, mapping.time_format, missing)
            values[name] = [None if np.isnat(t) else t.item().replace(tzinfo=UTC) for t in times.utc]
        else:
            at, texts = cells.codes(given[name], missing)
            values[name] = [None if i < 0 else texts[i] for i in at]
    for i in range(size):
        yield {name: column[i] for name, column in values.items()}, faults.reasons.get(i, "")


def _dates(array: pa.Array) -> pa.Array:
    """A bare date is its midnight."""
    if pa.types.is_date(array.type):
        return array.cast(pa.timestamp("us"))
    if not pa.types.is_string(array.type):
        return array
    texts = [text.strip() if text else text for text in array.to_pylist()]
    return pa.array([f"{t}T00:00:00" if t and re.fullmatch(r"\d{4}-\d{2}-\d{2}", t) else t for t in texts], pa.string())


def _park(values: dict[str, Any], mapping: Mapping, notes: dict[str, list[str]]) -> Park:
    facts = {_OURS.get(name, name): value for name, value in values.items() if value is not None}
    facts["id"] = mapping.park_ids.get(str(facts.get("id", "")), facts.get("id"))
    if facts["id"] is None:
        raise InvalidInput("is missing", field="park_id")
    facts.setdefault("name", facts["id"])
    facts.setdefault("source", "import")
    assumed = []
    if "arrays" in facts:
        facts["arrays"] = arrays(str(facts["arrays"]), mapping.azimuth)
    if "surface_azimuth" in facts:
        try:
            facts["surface_azimuth"] = from_north(facts["surface_azimuth"], mapping.azimuth)
        except ValueError as error:
            raise InvalidInput(str(error), field="azimuth_deg") from error
    for name in ("surface_tilt", "surface_azimuth"):
        if name not in facts and not facts.get("arrays"):
            raise InvalidInput("is missing", field=_THEIRS[name], hint="not known: give your best guess")
    if "elevation_m" not in facts:
        assumed.append("elevation_m 0")
    if not facts.get("timezone"):
        assumed.append("timezone from the coordinates")
    if "ac_capacity_kw" not in facts and "dc_capacity_kw" in facts:
        facts["ac_capacity_kw"] = facts["dc_capacity_kw"]
        assumed.append("ac_capacity_kw = dc_capacity_kw")
    facts["groups"] = [group.strip() for group in re.split(r"[;|,]", str(facts.get("groups", ""))) if group.strip()]
    park = parse(facts)
    if not facts.get("timezone"):
        assumed[assumed.index("timezone from the coordinates")] = f"timezone {park.timezone} from the coordinates"
    for taken in assumed:
        notes.setdefault(f"taken, because not given: {taken}", []).append(park.id)
    for doubt in doubts(park):
        notes.setdefault(doubt, []).append(park.id)
    return park


def arrays(text: str, convention: str = "north") -> list[dict[str, Any]]:
    """Several arrays from one cell: ``13@100:500|east=13@280:500`` is tilt @ azimuth : kW DC, a name before ``=``.

    Raises
    ------
    InvalidInput
        it is not of that form.
    """
    found = []
    for part in text.split("|"):
        match = _ARRAY.fullmatch(part)
        try:
            if match is None:
                raise ValueError(f"{part[:60]!r} is not tilt@azimuth:kW")
            found.append(
                {
                    "name": (match["name"] or "").strip(),
                    "surface_tilt": float(match["tilt"]),
                    "surface_azimuth": from_north(float(match["azimuth"]), convention),
                    "dc_capacity_kw": float(match["kw"]),
                }
            )
        except ValueError as error:
            raise InvalidInput(str(error), field="arrays", hint="e.g. 13@100:500|13@280:500") from error
    return found


def _refused_by_registry(
    lake: Lake, good: dict[tuple[str, datetime], tuple[int, Park]], correct: bool
) -> list[tuple[int, str, str, str]]:
    """Rows whose facts the registry would not take, found before any is stored."""
    outcomes = fleet.check_all(lake, [park for _, park in good.values()], correct=correct)
    return [
        (number, _named(outcome), park.id, park.model_dump_json()[: quarantine.PAYLOAD_LIMIT])
        for (number, park), outcome in zip(good.values(), outcomes, strict=True)
        if isinstance(outcome, InvalidInput)
    ]


def _describe(
    report: Report,
    parks: list[Park],
    bad: list[tuple[int, str, str, str]],
    notes: dict[str, list[str]],
    mapping: Mapping,
) -> None:
    report.good, report.bad = len(parks), len(bad)
    report.parks = {park.id: 1 for park in parks}
    report.first_bad = [(number, reason) for number, reason, *_ in bad[:10]]
    report.notes = [f"{_some(names)}: {note}" for note, names in notes.items()][:50]
    stated = {"north": "clockwise from north", "south-east-positive": "from south, east positive"}
    report.stated["azimuth"] = stated.get(mapping.azimuth, "from south, west positive")
    for name in ("latitude", "longitude", "ac_capacity_kw", "surface_tilt", "surface_azimuth"):
        values = np.array([getattr(park, name) for park in parks], float)
        if len(values):
            report.columns[_THEIRS.get(name, name)] = {
                "values": len(values),
                "missing": 0,
                "min": float(values.min()),
                "mean": float(values.mean()),
                "max": float(values.max()),
            }


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _nothing(report: Report, why: str) -> InvalidInput:
    shown_rows = "; ".join(f"row {row}, {reason}" for row, reason in report.first_bad[:3])
    message = f"{why}, nothing was stored: {shown_rows}" if shown_rows else f"{why}, nothing was stored"
    return InvalidInput(message, field=report.file, hint="see docs/import.md")


def _named(error: InvalidInput) -> str:
    field = _THEIRS.get(error.field or "", error.field or "row")
    return f"{field}: {error.message}" + (f" ({error.hint})" if error.hint else "")
