"""`pvf backtest`: records out of a lake, a plan out of options, forecasts into a file."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from pvf.forecast_file import ForecastFile
from pvforecast import fleet, ingestion, refining
from pvforecast.errors import InvalidInput, NotEnoughData, UnknownPark
from pvforecast.evaluation import rolling
from pvforecast.evaluation.backtest import Outcome, Scores, run
from pvforecast.evaluation.imbalance import Prices
from pvforecast.evaluation.rolling import Plan, Say
from pvforecast.known import HOUR, ParkRecord
from pvforecast.lake import Lake, records
from pvforecast.model.bundle import Bundle
from pvforecast.sources.pvdaq_samples import PARKS, PvdaqSamples

TRAIN_UNTIL = datetime(2013, 1, 1, 7, tzinfo=UTC)  # local midnight in Golden: system 50 is tested on 2013
TEST_UNTIL = datetime(2014, 1, 1, 7, tzinfo=UTC)
_BEGIN = datetime(2011, 1, 1, tzinfo=UTC)
_TRAINED_SHARE = 0.75  # of what was metered, where no dates are given
_MIN_TRAIN_DAYS = 10


@dataclass(frozen=True)
class Options:
    """What the command was asked; None: as `Plan` and `_window` choose.

    Attributes
    ----------
    weather_source : only runs of this source.
    unmetered : also forecast parks and hours that were never metered.
    forecasts : where every forecast goes, Parquet.
    """

    train_until: datetime | None = None
    test_from: datetime | None = None
    test_until: datetime | None = None
    horizon_hours: int = 48
    issue_hours: tuple[int, ...] = (0,)
    at_runs: bool = False
    retrain_days: int | None = None
    quantiles: tuple[float, ...] | None = None
    weather_source: str | None = None
    unmetered: bool = False
    with_references: bool = True
    prices: Prices | None = None
    champion: Bundle | None = None
    forecasts: Path | None = None


@dataclass(frozen=True)
class Backtest:
    """A backtest with what stood around it.

    Attributes
    ----------
    skipped : park id -> why it took no part.
    zones : park id -> IANA time zone.
    rows : of forecasts that were written.
    """

    outcome: Outcome
    skipped: dict[str, str]
    zones: dict[str, str] = field(default_factory=dict)
    rows: int = 0

    @property
    def scores(self) -> dict[str, Scores]:
        return self.outcome.scores()


def on_samples(
    parks: Sequence[str] = ("pvdaq-50",), train_until: datetime = TRAIN_UNTIL, test_until: datetime = TEST_UNTIL
) -> dict[str, Scores]:
    """Backtest the default recipe on the shipped measurements in full, beside the point baselines; see `samples`."""
    return samples(parks, Options(train_until, test_until=test_until, with_references=False)).scores


def samples(parks: Sequence[str], options: Options, say: Say = lambda _: None) -> Backtest:
    """Backtest on the shipped measurements in full, in a lake of its own.

    The running platform lives at a moment of the replay and must not know what comes after; a test over a whole year
    needs the whole year. So the samples are loaded anew, through the same ingestion and validation.
    """
    loaded = sample_records(parks, options.test_until or TEST_UNTIL)
    begin, end = options.train_until or TRAIN_UNTIL, options.test_until or TEST_UNTIL
    return _run(_sourced(loaded, options), _plan(options, begin, end), options, {}, say)


def sample_records(parks: Sequence[str], until: datetime = TEST_UNTIL) -> dict[str, ParkRecord]:
    """The shipped measurements of `parks` up to `until`, ingested and validated."""
    with tempfile.TemporaryDirectory(prefix="pvf-backtest-") as folder:
        lake = Lake(folder)
        for park in PARKS:
            if park.id in parks:
                fleet.register(lake, park)
                ingestion.ingest(lake, PvdaqSamples(), park, _BEGIN, until)
                refining.validate(lake, [park], _BEGIN, until)
        return {park: records.load(lake, park) for park in parks}


def on_lake(lake: Lake, parks: Sequence[str], options: Options, say: Say = lambda _: None) -> Backtest:
    """Backtest on what the lake holds.

    Parameters
    ----------
    parks : empty: all that are in service; those that lack data are then left out, and said.
    options : without `train_until`: trained on the first three quarters of what was metered, tested on the rest.

    Raises
    ------
    UnknownPark
        a named park is not registered.
    NotEnoughData
        a named park, or every park, lacks weather or generation in the time to train on or to test on.
    InvalidInput
        dates are out of order, or no park has weather of the source.
    """
    chosen = list(dict.fromkeys(parks)) or [park.id for park in fleet.active(lake)]
    if not chosen:
        raise UnknownPark("no park is registered", field="park_id", hint="pvf import parks FILE, or pvf park add FILE")
    say(f"reading {len(chosen)} parks")
    loaded = _sourced({park: records.load(lake, park) for park in chosen}, options)
    plan = _plan(options, *_window(loaded, options))
    lacks = {park: why for park, record in loaded.items() if (why := _lacking(record, plan, options))}
    if lacks and (parks or len(lacks) == len(loaded)):
        park, why = next(iter(lacks.items()))
        raise NotEnoughData(why, field=park, hint="what is there: pvf import … --dry-run, or set other dates")
    return _run({park: record for park, record in loaded.items() if park not in lacks}, plan, options, lacks, say)


def _run(
    park_records: dict[str, ParkRecord], plan: Plan, options: Options, lacks: dict[str, str], say: Say
) -> Backtest:
    settings = {
        "with_references": options.with_references, "champion": options.champion, "prices": options.prices,
        "unmetered": options.unmetered, "say": say,
    }  # fmt: skip
    zones = {park: record.site.timezone for park, record in park_records.items()}
    if options.forecasts is None:
        return Backtest(run(park_records, plan, **settings), lacks, zones)  # type: ignore[arg-type]
    with ForecastFile(options.forecasts) as file:
        outcome = run(park_records, plan, sink=file.write, **settings)  # type: ignore[arg-type]
    return Backtest(outcome, lacks, zones, file.rows)


def _sourced(loaded: dict[str, ParkRecord], options: Options) -> dict[str, ParkRecord]:
    """With the runs of the one source that was asked for."""
    if options.weather_source is None:
        return loaded
    chosen = {park: rolling.from_source(record, options.weather_source) for park, record in loaded.items()}
    if not any(record.runs for record in chosen.values()):
        there = sorted({run.source for record in loaded.values() for run in record.runs})
        raise InvalidInput(
            f"no weather of {options.weather_source!r}", field="--weather-source", hint=f"there is: {', '.join(there)}"
        )
    return chosen


def _plan(options: Options, train_until: datetime, test_until: datetime) -> Plan:
    return Plan(
        _seconds(train_until),
        _seconds(options.test_from or train_until),
        _seconds(test_until),
        options.horizon_hours,
        options.issue_hours,
        options.at_runs,
        options.retrain_days,
        options.quantiles,
    )


def _window(loaded: Mapping[str, ParkRecord], options: Options) -> tuple[datetime, datetime]:
    metered = [record.valid_at for record in loaded.values() if len(record.valid_at)]
    if not metered:
        raise NotEnoughData(
            "no park has a metered hour in the lake", field="generation", hint="pvf import generation FILE"
        )
    first, last = min(hours[0] for hours in metered), max(hours[-1] for hours in metered)
    end = options.test_until or _instant(_weather_end(loaded) if options.unmetered else last + HOUR)
    begin = options.train_until
    if begin is None and options.unmetered:
        begin = _instant(last + HOUR)
    if begin is None:
        until = min(_seconds(end), last + HOUR)
        length = max((until - first).astype("timedelta64[s]").astype(int), 0)
        begin = _instant((first + np.timedelta64(int(length * _TRAINED_SHARE), "s")).astype("datetime64[D]"))
    if begin >= end:
        raise InvalidInput(
            "lies after the end of the test", field="--train-until", hint=f"metered is {first} to {last + HOUR} UTC"
        )
    return begin, end


def _weather_end(loaded: Mapping[str, ParkRecord]) -> np.datetime64:
    """End of the last hour that any weather run covers."""
    ends = [run.valid_at[-1] for record in loaded.values() for run in record.runs if len(run.valid_at)]
    if not ends:
        raise NotEnoughData("no park has weather in the lake", field="weather", hint="pvf import weather FILE")
    last: np.datetime64 = max(ends) + HOUR
    return last


def _lacking(record: ParkRecord, plan: Plan, options: Options) -> str:
    """Why a park can't take part; empty when it can."""
    begin, test_from, end = plan.train_until, plan.test_from, plan.test_until
    if not record.runs:
        return "has no weather in the lake"
    available = [run.available_at for run in record.runs]
    weather = f"weather could be had from {min(available)} to {max(available)} UTC"
    if options.unmetered:
        return ""  # also without a past of its own: the model of the other parks answers
    if not len(record.valid_at):
        return "has no metered hour in the lake"
    metered = f"metered are {record.valid_at[0]} to {record.valid_at[-1] + HOUR} UTC"
    trained = record.valid_at[(record.valid_at < begin) & (record.valid_at >= min(available))]
    if len(np.unique(trained.astype("datetime64[D]"))) < _MIN_TRAIN_DAYS:
        return f"has less than {_MIN_TRAIN_DAYS} days with weather and generation before {begin}: {metered}, {weather}"
    if not ((record.valid_at >= test_from) & (record.valid_at < end)).any():
        return f"has no metered hour from {test_from} to {end}: {metered}; to forecast all the same: --unmetered"
    if not any(test_from - np.timedelta64(2, "D") <= moment < end for moment in available):
        return f"has no weather run for {test_from} to {end}: {weather}"
    return ""


def _seconds(moment: datetime) -> np.datetime64:
    return np.datetime64(int(moment.timestamp()), "s")


def _instant(moment: np.datetime64) -> datetime:
    return datetime.fromtimestamp(int(moment.astype("datetime64[s]").astype(int)), UTC)
