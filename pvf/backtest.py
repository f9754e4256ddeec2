"""`pvf backtest`: train on the past, score the future. The demo's skill comes from here too."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pvforecast import dataset, fleet, ingestion, refining
from pvforecast.errors import InvalidInput, NotEnoughData, UnknownPark
from pvforecast.evaluation.backtest import Scores, backtest, predict
from pvforecast.known import HOUR, ParkRecord
from pvforecast.lake import Lake, records
from pvforecast.model.bundle import Bundle
from pvforecast.model.recipe import Recipe
from pvforecast.sources.pvdaq_samples import PARKS, PvdaqSamples

TRAIN_UNTIL = datetime(2013, 1, 1, 7, tzinfo=UTC)  # local midnight in Golden: system 50 is tested on 2013
TEST_UNTIL = datetime(2014, 1, 1, 7, tzinfo=UTC)
_BEGIN = datetime(2011, 1, 1, tzinfo=UTC)
_TRAINED_SHARE = 0.75  # of what was metered, where no dates are given
_MIN_TRAIN_DAYS = 10


@dataclass(frozen=True)
class Outcome:
    """A backtest: the model that was trained, what it was tested on, and how well it did.

    Attributes
    ----------
    skipped : park id -> why it took no part.
    """

    bundle: Bundle
    records: Mapping[str, ParkRecord]
    scores: dict[str, Scores]
    train_until: datetime
    test_until: datetime
    skipped: dict[str, str]


def on_samples(
    parks: Sequence[str] = ("pvdaq-50",), train_until: datetime = TRAIN_UNTIL, test_until: datetime = TEST_UNTIL
) -> dict[str, Scores]:
    """Backtest the default recipe on the shipped measurements in full, in a lake of its own; see `samples`."""
    return samples(parks, train_until, test_until).scores


def samples(parks: Sequence[str], train_until: datetime, test_until: datetime) -> Outcome:
    """Backtest the default recipe on the shipped measurements in full, in a lake of its own.

    The running platform lives at a moment of the replay and must not know what comes after; a test over a whole year
    needs the whole year. So the samples are loaded anew, through the same ingestion and validation.
    """
    with tempfile.TemporaryDirectory(prefix="pvf-backtest-") as folder:
        lake = Lake(folder)
        for park in PARKS:
            if park.id in parks:
                fleet.register(lake, park)
                ingestion.ingest(lake, PvdaqSamples(), park, _BEGIN, test_until)
                refining.validate(lake, [park], _BEGIN, test_until)
        return _run({park: records.load(lake, park) for park in parks}, train_until, test_until, {})


def on_lake(
    lake: Lake, parks: Sequence[str], train_until: datetime | None = None, test_until: datetime | None = None
) -> Outcome:
    """Backtest the default recipe on what the lake holds.

    Parameters
    ----------
    parks : empty: all that are in service; those that lack data are then left out, and said.
    train_until, test_until : None: trained on the first three quarters of what was metered, tested on the rest.

    Raises
    ------
    UnknownPark
        a named park is not registered.
    NotEnoughData
        a named park, or every park, lacks weather or generation in the time to train on or to test on.
    """
    chosen = list(dict.fromkeys(parks)) or [park.id for park in fleet.active(lake)]
    if not chosen:
        raise UnknownPark("no park is registered", field="park_id", hint="pvf import parks FILE, or pvf park add FILE")
    loaded = {park: records.load(lake, park) for park in chosen}
    begin, end = _window(loaded, train_until, test_until)
    lacks = {park: why for park, record in loaded.items() if (why := _lacking(record, begin, end))}
    if lacks and (parks or len(lacks) == len(loaded)):
        park, why = next(iter(lacks.items()))
        raise NotEnoughData(why, field=park, hint="what is there: pvf import … --dry-run, or set other dates")
    return _run({park: record for park, record in loaded.items() if park not in lacks}, begin, end, lacks)


def _window(
    loaded: Mapping[str, ParkRecord], train_until: datetime | None, test_until: datetime | None
) -> tuple[datetime, datetime]:
    metered = [record.valid_at for record in loaded.values() if len(record.valid_at)]
    if not metered:
        raise NotEnoughData(
            "no park has a metered hour in the lake", field="generation", hint="pvf import generation FILE"
        )
    first, last = min(hours[0] for hours in metered), max(hours[-1] for hours in metered)
    end = test_until or _instant(last + HOUR)
    begin = train_until
    if begin is None:
        until = min(_seconds(end), last + HOUR)
        length = max((until - first).astype("timedelta64[s]").astype(int), 0)
        begin = _instant((first + np.timedelta64(int(length * _TRAINED_SHARE), "s")).astype("datetime64[D]"))
    if begin >= end:
        raise InvalidInput(
            "lies after the end of the test", field="--train-until", hint=f"metered is {first} to {last + HOUR} UTC"
        )
    return begin, end


def _lacking(record: ParkRecord, train_until: datetime, test_until: datetime) -> str:
    """Why a park can't take part; empty when it can."""
    begin, end = _seconds(train_until), _seconds(test_until)
    if not len(record.valid_at):
        return "has no metered hour in the lake"
    if not record.runs:
        return "has no weather in the lake"
    metered = f"metered are {record.valid_at[0]} to {record.valid_at[-1] + HOUR} UTC"
    available = [run.available_at for run in record.runs]
    weather = f"weather could be had from {min(available)} to {max(available)} UTC"
    trained = record.valid_at[(record.valid_at < begin) & (record.valid_at >= min(available))]
    if len(np.unique(trained.astype("datetime64[D]"))) < _MIN_TRAIN_DAYS:
        return f"has less than {_MIN_TRAIN_DAYS} days with weather and generation before {begin}: {metered}, {weather}"
    if not ((record.valid_at >= begin) & (record.valid_at < end)).any():
        return f"has no metered hour from {begin} to {end}: {metered}"
    if not any(begin - np.timedelta64(2, "D") <= moment < end for moment in available):
        return f"has no weather run for {begin} to {end}: {weather}"
    return ""


def _run(
    park_records: dict[str, ParkRecord], train_until: datetime, test_until: datetime, skipped: dict[str, str]
) -> Outcome:
    bundle, scores = backtest(park_records, Recipe(), _seconds(train_until), _seconds(test_until))
    skipped = skipped | dict.fromkeys(set(park_records) - set(scores), "has no metered daylight hour in the test")
    return Outcome(bundle, park_records, scores, train_until, test_until, skipped)


def save_forecasts(outcome: Outcome, path: Path, hours: int = 48) -> int:
    """Write every forecast of the test to Parquet, park by park; returns the number of rows.

    Columns: `park_id`, `issued_at` (00:00 local of each day) and `valid_at` (UTC, start of the hour), a column for each
    of the model's quantiles in kW (``q05`` … ``q95``), and `power_kw`, what was metered, null where nothing was.

    Raises
    ------
    InvalidInput
        the file can't be written.
    """
    begin, end = _seconds(outcome.train_until), _seconds(outcome.test_until)
    names = [f"q{level * 100:04.1f}".removesuffix(".0").replace(".", "_") for level in outcome.bundle.quantiles]
    stamp = pa.timestamp("s", tz="UTC")
    schema = pa.schema(
        [("park_id", pa.string()), ("issued_at", stamp), ("valid_at", stamp)]
        + [(name, pa.float64()) for name in (*names, "power_kw")]
    )
    written = 0
    try:
        with pq.ParquetWriter(path, schema) as writer:
            for park_id in outcome.scores:
                record = outcome.records[park_id]
                rows = dataset.build(record, outcome.bundle.spec, dataset.daily_issues(record, begin, end), hours)
                capacity = np.array([record.site_at(t).ac_capacity_kw for t in np.unique(rows.issued_at)])
                of_row = capacity[np.searchsorted(np.unique(rows.issued_at), rows.issued_at)]
                quantiles = predict(outcome.bundle, rows) * of_row[:, None]
                columns = [pa.array(rows.park_id, pa.string())]
                columns += [
                    pa.array(times).cast(pa.timestamp("s")).cast(stamp) for times in (rows.issued_at, rows.valid_at)
                ]
                columns += [pa.array(quantiles[:, i]) for i in range(len(names))]
                columns += [pa.array(rows.target * of_row, from_pandas=True)]
                writer.write_table(pa.Table.from_arrays(columns, schema=schema))
                written += len(rows)
    except OSError as error:
        raise InvalidInput(f"can't be written: {error}", field="--forecasts", hint="name another file") from error
    return written


def _seconds(moment: datetime) -> np.datetime64:
    return np.datetime64(int(moment.timestamp()), "s")


def _instant(moment: np.datetime64) -> datetime:
    return datetime.fromtimestamp(int(moment.astype("datetime64[s]").astype(int)), UTC)
