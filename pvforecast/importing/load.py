"""Weather and generation from a file into the lake: survey, load, validate. Safe to repeat, and to interrupt."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pvforecast import fleet, quarantine
from pvforecast.errors import InvalidInput
from pvforecast.importing import checking, generation, sunlight, tables, weather
from pvforecast.importing.cells import Faults
from pvforecast.importing.context import Context, Facts
from pvforecast.importing.files import shown
from pvforecast.importing.mapping import Mapping
from pvforecast.importing.report import Report
from pvforecast.importing.survey import Survey
from pvforecast.importing.tables import Chunk, Layout
from pvforecast.known import WEATHER_VARIABLES
from pvforecast.lake import Lake
from pvforecast.lake.tables import RAW_GENERATION, RAW_WEATHER, Table
from pvforecast.parks import Park
from pvforecast.quarantine import Rejected

_log = logging.getLogger(__name__)

COMMIT_ROWS = 300_000
MAX_QUARANTINED = 100_000  # bad rows of one file; a file with more is refused whole
SMALL = 100  # rows up to which a file may be bad to any share
KINDS = {"weather": (weather, RAW_WEATHER), "generation": (generation, RAW_GENERATION)}
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """How to load.

    Attributes
    ----------
    source : who made the rows, where they do not say.
    dry_run : survey only.
    strict : one bad row refuses the file.
    max_bad : share of bad rows above which a file of more than `SMALL` rows is refused: its unit or label is wrong.
    observed : weather without runs, measured.
    draw : collect what a plot shows.
    correct_clocks : move rows by what is found about clocks.
    """

    source: str = "import"
    dry_run: bool = False
    strict: bool = False
    max_bad: float = 0.2
    observed: bool = False
    draw: bool = False
    correct_clocks: bool = True


@dataclass
class _Bad:
    """Rows to set aside, written in batches."""

    lake: Lake
    table: Table
    path: Path
    source: str
    at: datetime
    held: int = 0
    waiting: list[Rejected] = field(default_factory=list)

    def add(self, chunk: Chunk, faults: Faults) -> None:
        for i in sorted(faults.reasons):
            cells = {name: _plain(values[i].as_py()) for name, values in chunk.columns.items()}
            self._add(int(chunk.numbers[i]), faults.reasons[i], str(cells.get("park_id") or ""), json.dumps(cells))
        for number, (why, line) in chunk.broken.items():
            self._add(number, f"row: {why}", "", line)

    def add_parts(self, rows: pd.DataFrame) -> None:
        """Parts of hours of which the rest is missing."""
        for row in rows.itertuples():
            payload = json.dumps({"park_id": row.park_id, "valid_at": str(row.valid_at), "run_at": str(row.run_at)})
            self._add(
                int(row.number), "valid_at: less than three quarters of its hour were delivered", row.park_id, payload
            )

    def _add(self, number: int, reason: str, park_id: str, payload: str) -> None:
        origin = f"{shown(self.path)} row {number}"
        payload = payload[: quarantine.PAYLOAD_LIMIT]
        self.waiting.append(Rejected(self.table.name, park_id[:64], self.source, origin, reason[:500], payload))
        if len(self.waiting) >= 20_000:
            self.flush()

    def flush(self) -> None:
        self.held += len(self.waiting)
        if self.waiting:
            quarantine.hold(self.lake, self.waiting, self.at)
        self.waiting = []


def run(
    lake: Lake, kind: str, path: Path, mapping: Mapping, options: Options, progress: Progress = lambda _: None
) -> tuple[Report, Survey]:
    """Load one file of `kind` (``weather`` or ``generation``).

    Returns
    -------
    What was found and done, and the survey behind it.

    Raises
    ------
    InvalidInput
        the file can't be read as such, has no good row, or too many bad ones; nothing was stored then.
    """
    began = time.perf_counter()
    weather.check_source(options.source, "--source")
    parks = fleet.registered(lake)
    context = _context(lake, parks, mapping, options)
    module, table = KINDS[kind]
    report = Report(kind, shown(path), dry_run=options.dry_run)
    before = _identity(path)
    survey = _survey(module, path, context, options, progress)
    refusal = _judge(survey, options, shown(path))
    periods = survey.periods(context, module, report.notes)
    if options.max_bad < 1.0:
        findings = survey.sunlight.findings(parks, periods, mapping.label)
        refusal = refusal or sunlight.judge(findings, shown(path), report.notes)
    _describe(report, survey, context, kind, periods)
    report.seconds["survey"] = round(time.perf_counter() - began, 2)
    if options.dry_run:
        report.notes += [f"it would be refused: {refusal}"] if refusal else []
        return report, survey
    if refusal:
        raise refusal
    if _identity(path) != before:
        raise InvalidInput("changed while it was read", field=shown(path), hint="wait until it is whole")
    context.doubles.counting = False
    bad = _Bad(lake, table, path, options.source, datetime.now(UTC))
    rows = _weather_rows(path, context, periods, bad) if kind == "weather" else _generation_rows(
        path, context, periods, options.source, bad
    )  # fmt: skip
    stored = _Stored(lake, table, list(survey.parks))
    windows: dict[str, list[Any]] = {}
    for batch in _batches(rows, COMMIT_ROWS):
        _widen(windows, batch, table)
        batch = stored.new(batch, report)
        report.loaded += lake.append_new(table, batch) if len(batch) else 0
        progress(f"loaded {report.loaded:,} rows")
    bad.flush()
    report.quarantined = bad.held
    report.seconds["load"] = round(time.perf_counter() - began - sum(report.seconds.values()), 2)
    checked = checking.check(lake, parks, windows, correct_clocks=options.correct_clocks, progress=progress)
    report.checked(checked)
    report.seconds["validate"] = round(time.perf_counter() - began - sum(report.seconds.values()), 2)
    return report, survey


def _context(lake: Lake, parks: Sequence[Park], mapping: Mapping, options: Options) -> Context:
    if not parks:
        raise InvalidInput("no park is registered", field="park_id", hint="pvf import parks FILE, or pvf park add FILE")
    largest = fleet.largest_capacity(lake)
    facts = {p.id: Facts(largest[p.id], p.zone, p.resolution == "PT15M") for p in parks}
    for theirs, to in mapping.park_ids.items():
        if to not in facts:
            raise InvalidInput(f"no park {to!r} is registered", field=f"park_ids.{theirs}", hint="pvf park list")
    now = np.datetime64(datetime.now(UTC).replace(tzinfo=None), "us")
    return Context(facts, mapping, options.source, now, observed=options.observed)


def _layout(mapping: Mapping) -> Layout:
    return Layout(mapping.encoding, mapping.delimiter)


def _survey(module: Any, path: Path, context: Context, options: Options, progress: Progress) -> Survey:
    survey = Survey()
    for chunk in tables.read(path, _layout(context.mapping)):
        frame, faults = module.read(chunk, context, shown(path))
        survey.add(chunk, frame, faults, module, draw=options.draw)
        if survey.bad > MAX_QUARANTINED:
            raise _refused(survey, f"more than {MAX_QUARANTINED:,} rows are bad", shown(path))
        progress(f"read {survey.rows:,} rows")
    survey.bad += context.doubles.unresolved
    return survey


def _judge(survey: Survey, options: Options, where: str) -> InvalidInput | None:
    """Why the file is refused; raises where there is nothing to show of it."""
    if survey.good <= 0:
        if survey.bad:
            raise _refused(survey, "no row can be used", where)
        raise InvalidInput("has no row with a value", field=where, hint="a header line and rows are expected")
    if options.strict and survey.bad:
        return _refused(survey, f"{survey.bad:,} of {survey.rows:,} rows are bad (--strict)", where)
    if survey.rows > SMALL and survey.bad > options.max_bad * survey.rows:
        return _refused(survey, f"{survey.bad / survey.rows:.0%} of its rows are bad", where)
    return None


def _refused(survey: Survey, why: str, where: str) -> InvalidInput:
    shown_rows = "; ".join(f"row {row}, {reason}" for row, reason in survey.first_bad[:3])
    usual = ", ".join(f"{name} {count:,}" for name, count in survey.reasons.most_common(3))
    return InvalidInput(
        f"{why}, nothing was stored: {shown_rows}", field=where, hint=f"faults by column: {usual}; look: --dry-run"
    )


def _describe(report: Report, survey: Survey, context: Context, kind: str, periods: dict[Any, int]) -> None:
    report.rows, report.good, report.empty = survey.rows - survey.blank, survey.good, survey.empty
    report.bad, report.doubled = survey.bad, survey.doubled
    report.parks = dict(survey.parks)
    report.since, report.until = (
        f"{end(span[i] for span in survey.spans.values())}Z"[:19] + "Z" for i, end in ((0, min), (1, max))
    )
    report.columns = {name: about.as_dict() for name, about in survey.ranges.items()}
    report.first_bad = survey.first_bad
    mapping = context.mapping
    lengths = sorted({f"{seconds // 60} min" if seconds >= 60 else f"{seconds} s" for seconds in periods.values()})
    report.stated["period"] = f"{', '.join(lengths)} ({'stated' if mapping.period else 'seen in the steps'})"
    report.stated["label"] = f"a time is the {mapping.label} of its interval"
    report.stated["time zone"] = f"{mapping.timezone or 'none'} for times without an offset"
    if kind == "weather":
        report.sources = dict(survey.sources)
        report.runs = None if context.observed else len(survey.runs)
        if context.observed:
            report.stated["runs"] = "observed weather becomes a run each local midnight: scores on it are optimistic"
        elif mapping.delay:
            report.stated["delay"] = f"where available_at is missing: run_at + {mapping.delay}"
        _note_steps(report, set(periods.values()))
    else:
        delay = mapping.delay or "5m"
        report.stated["delay"] = f"where received_at is missing: the interval's end + {delay}"
        _note_low(report, survey, context)
    if survey.doubled:
        report.notes.append(f"{survey.doubled:,} rows name an interval that the file has already: the last one counts")


def _note_steps(report: Report, periods: set[int]) -> None:
    if any(period > weather.HOUR_S for period in periods):
        report.notes.append("intervals longer than an hour: each of their hours gets the same mean")
    if any(period < weather.HOUR_S for period in periods):
        report.notes.append("intervals shorter than an hour are averaged to hours (precipitation: summed)")


def _note_low(report: Report, survey: Survey, context: Context) -> None:
    highest = survey.ranges["power_kw"].high if "power_kw" in survey.ranges else np.nan
    largest = max(context.parks[park].ac_capacity_kw for park in survey.parks)
    if len(survey.parks) and 0 < highest < 0.02 * largest:
        report.notes.append(f"the highest power is {highest / largest:.2%} of capacity: is it in MW? (--unit MW)")


def _weather_rows(path: Path, context: Context, periods: dict[Any, int], bad: _Bad) -> Iterator[pd.DataFrame]:
    shaper = weather.Shaper(context, periods)
    for chunk in _filled(path, context):
        frame, faults = weather.read(chunk, context, shown(path))
        empty = weather.empty(frame) & ~faults.bad
        # `bad` hides empty rows from the shaper, which takes what has no fault.
        kept = Faults(len(frame), dict(faults.reasons))
        kept.add(empty, "row", "")
        rows = shaper.add(frame, kept)
        faults.reasons |= {i: why for i, why in kept.reasons.items() if not empty[i]}
        bad.add(chunk, faults)
        if len(rows):
            yield weather.raw(rows)
    rows, short = shaper.end()
    if len(short):
        bad.add_parts(short)
    if len(rows):
        yield weather.raw(rows)


def _generation_rows(
    path: Path, context: Context, periods: dict[Any, int], source: str, bad: _Bad
) -> Iterator[pd.DataFrame]:
    for chunk in _filled(path, context):
        frame, faults = generation.read(chunk, context, shown(path))
        empty = generation.empty(frame)
        rows = generation.finish(frame, context, periods, source, faults)
        bad.add(chunk, faults)
        rows = rows[~empty[~faults.bad]]
        if len(rows):
            yield rows


def _filled(path: Path, context: Context) -> Iterator[Chunk]:
    return (chunk for chunk in tables.read(path, _layout(context.mapping)) if len(chunk) or chunk.broken)


def _batches(rows: Iterator[pd.DataFrame], size: int) -> Iterator[pd.DataFrame]:
    waiting: list[pd.DataFrame] = []
    for part in rows:
        waiting.append(part)
        if sum(map(len, waiting)) >= size:
            yield pd.concat(waiting, ignore_index=True) if len(waiting) > 1 else part.reset_index(drop=True)
            waiting = []
    if waiting:
        yield pd.concat(waiting, ignore_index=True)


class _Stored:
    """What the raw table holds of some parks: so that a second import adds nothing, and corrections are seen."""

    def __init__(self, lake: Lake, table: Table, parks: list[str]) -> None:
        self._lake, self._table = lake, table
        held = lake.query(table, "SELECT DISTINCT park_id FROM t")
        self._held = set() if held is None else set(held["park_id"].to_pylist()) & set(parks)

    def new(self, rows: pd.DataFrame, report: Report) -> pd.DataFrame:
        """The rows to store."""
        key = list(self._table.key) if self._table is RAW_WEATHER else ["park_id", "inverter_id", "measured_at"]
        rows = rows.drop_duplicates(key, keep="last")
        parks = [park for park in rows.park_id.unique() if park in self._held]
        if not parks:
            return rows
        values = [*WEATHER_VARIABLES] if self._table is RAW_WEATHER else [*generation.VALUES, "period_s"]
        order = [] if self._table is RAW_WEATHER else ["received_at"]
        column = str(self._table.time_column)
        window = (column, _stamp(rows[column].min()), _stamp(rows[column].max() + pd.Timedelta(1, "us")))
        stored = self._lake.read(
            self._table, park_ids=parks, during=window, columns=[*key, *values, *order]
        ).to_pandas(use_threads=False)  # fmt: skip
        if order:
            stored = stored.sort_values(order).drop_duplicates(key, keep="last")
        both = rows[key + values].merge(
            stored[key + values + order], on=key, how="left", suffixes=("", "_stored"), indicator=True
        )
        found = (both["_merge"] == "both").to_numpy()
        same = np.ones(len(both), bool)
        for name in values:
            new, old = both[name].to_numpy(np.float64), both[f"{name}_stored"].to_numpy(np.float64)
            same &= (new == old) | (np.isnan(new) & np.isnan(old))
        differing = found & ~same
        report.already += int(found.sum())
        report.differing += int(differing.sum())
        if self._table is RAW_WEATHER:
            self._note(
                report, differing, "rows differ from what is stored of the same run and were not loaded: --source"
            )
            return rows[~found]
        return self._corrected(rows, found, differing, both, report)

    def _corrected(
        self, rows: pd.DataFrame, found: np.ndarray, differing: np.ndarray, both: pd.DataFrame, report: Report
    ) -> pd.DataFrame:
        """New rows, and corrections: received when the file says, if that is later than what it corrects, or now."""
        self._note(report, differing, "rows differ from what is stored: kept beside it as corrections received now")
        fixed = rows[differing].copy()
        if len(fixed):
            before = both["received_at"].to_numpy()[differing]
            now = pd.Timestamp(datetime.now(UTC))
            later = fixed["received_at"].to_numpy() > before
            fixed["received_at"] = fixed["received_at"].where(later, now)
        report.already -= int(differing.sum())
        return pd.concat([rows[~found], fixed], ignore_index=True)

    @staticmethod
    def _note(report: Report, differing: np.ndarray, said: str) -> None:
        if differing.any() and not any(said in note for note in report.notes):
            report.notes.append(f"{said} (count: differing)")


def _widen(windows: dict[str, list[Any]], rows: pd.DataFrame, table: Table) -> None:
    """park -> [rows, first, last instant that validation must look at]."""
    column = "available_at" if table is RAW_WEATHER else "measured_at"
    for park, group in rows.groupby("park_id", sort=False)[column]:
        first, last = group.min(), group.max()
        held = windows.setdefault(str(park), [0, first, last])
        held[:] = [held[0] + len(group), min(held[1], first), max(held[2], last)]


def _identity(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except (OSError, ValueError):
        return (0, 0)  # opening it says what is wrong
    return stat.st_size, stat.st_mtime_ns


def _stamp(moment: pd.Timestamp) -> datetime:
    stamp: datetime = moment.to_pydatetime() + timedelta(0)
    return stamp


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    return str(value)[:500]
