"""A simulated fleet as a source of generation and weather: parks under real skies, with the faults that real data have.

Power and weather are those of `benchmarks.weather_errors`: the observed clear-sky index of system 50 in blocks of days,
pvlib's chain on perturbed sites, local clouds and noise; one weather run each midnight with errors that grow with the
lead. Put on top, by park: a gap of a few days, outages at noon, a curtailed week, a frozen meter, a day in watts, hours
delivered twice of which the later one corrects. Always labelled simulated.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence, Set
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pvforecast.known import WEATHER_VARIABLES, Floats, ParkRecord, Times, WeatherRun
from pvforecast.parks import Park
from pvforecast.sources.base import Delivery, RunKey

NAME = "simulated"
BEGIN = datetime(2011, 5, 1, 6, tzinfo=UTC)
DAYS_A_YEAR = 365
_HOUR = pd.Timedelta(hours=1)


@dataclass(frozen=True)
class Simulated:
    """Reads what `write` has put into `folder`, as a source with a fast answer would give it."""

    folder: Path
    name: str = NAME
    attribution: str = "simulated, after NSRDB by NREL"

    def generation(self, park: Park, since: datetime, until: datetime) -> pd.DataFrame:
        """As `GenerationSource` says."""
        rows = pd.read_parquet(self.folder / f"{park.id}.generation.parquet")
        return rows[(rows.measured_at >= since) & (rows.measured_at < until)].reset_index(drop=True)

    def weather(
        self, parks: Sequence[Park], since: datetime, until: datetime, stored: Set[RunKey] = frozenset()
    ) -> Delivery:
        """As `WeatherSource` says."""
        known = pd.MultiIndex.from_tuples(sorted(stored), names=["park_id", "source", "run_at"]) if stored else None
        parts = []
        for park in parks:
            rows = pd.read_parquet(self.folder / f"{park.id}.weather.parquet")
            rows = rows[(rows.available_at >= since) & (rows.available_at <= until)]
            if known is not None:
                rows = rows[~pd.MultiIndex.from_frame(rows[["park_id", "source", "run_at"]]).isin(known)]
            parts.append(rows)
        return Delivery(pd.concat(parts, ignore_index=True))


def parks(folder: Path) -> list[Park]:
    """The parks that `write` made."""
    return [Park.model_validate_json(line) for line in (folder / "parks.jsonl").read_text().splitlines()]


def write(folder: Path, number: int, days: int) -> None:
    """Simulate `number` parks over `days` days from `BEGIN`, on both cores."""
    folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(2) as pool:
        made = list(pool.map(partial(_write_one, folder, days), range(number)))
    (folder / "parks.jsonl").write_text("\n".join(park.model_dump_json() for park in made))


def _write_one(folder: Path, days: int, number: int) -> Park:
    from benchmarks import weather_errors  # pvlib with it, which the source does without

    begin = np.datetime64(BEGIN.replace(tzinfo=None), "s")
    until = begin + np.timedelta64(days * 86_400, "s")
    (record,) = weather_errors.simulated_parks(_observed(begin, days), 1, begin, until, seed=1_000 + number).values()
    site = record.site
    park = Park(
        id=f"simulated-{number:04d}",
        name=f"Simulated {number}",
        latitude=round(site.latitude, 4),
        longitude=round(site.longitude, 4),
        elevation_m=site.elevation_m,
        timezone=site.timezone,
        ac_capacity_kw=round(site.ac_capacity_kw, 1),
        surface_tilt=round(site.surface_tilt, 1),
        surface_azimuth=round(site.surface_azimuth, 1),
        valid_from=datetime(2011, 1, 1, tzinfo=UTC),
        source=NAME,
        note="simulated",
    )
    _weather(park, record.runs).to_parquet(folder / f"{park.id}.weather.parquet")
    _generation(park, record, np.random.default_rng(number)).to_parquet(folder / f"{park.id}.generation.parquet")
    return park


def _observed(begin: np.datetime64, days: int) -> ParkRecord:
    """System 50's weather as runs of 48 hours at each midnight, from the day before `begin`; its power is not used."""
    from pvforecast.sources.pvdaq_samples import PARKS, hourly_weather

    hourly = hourly_weather("pvdaq-50")
    hours: Times = hourly.index.tz_localize(None).to_numpy().astype("datetime64[s]")
    values: dict[str, Floats] = {name: hourly[name].to_numpy(float) for name in ("ghi", "temp_air")}
    day = np.timedelta64(86_400, "s")
    runs = []
    for at in begin + np.arange(-1, days) * day:
        span = slice(*np.searchsorted(hours, [at, at + 2 * day]))
        runs.append(WeatherRun(NAME, at, at, hours[span], {name: series[span] for name, series in values.items()}))
    return ParkRecord(PARKS[0].site(), tuple(runs), hours[:0], hours[:0], np.zeros(0))


def _weather(park: Park, runs: Sequence[WeatherRun]) -> pd.DataFrame:
    lengths = [len(run.valid_at) for run in runs]
    columns: dict[str, Any] = {
        "park_id": park.id,
        "source": f"{NAME}+errors",
        "run_at": _utc(np.repeat([run.run_at for run in runs], lengths)),
        "available_at": _utc(np.repeat([run.available_at for run in runs], lengths)),
        "valid_at": _utc(np.concatenate([run.valid_at for run in runs])),
        "period_s": np.int32(3600),
    }
    for name in WEATHER_VARIABLES:
        missing = np.full(sum(lengths), np.nan)
        delivered: list[Mapping[str, Floats]] = [run.variables for run in runs if name in run.variables]
        columns[name] = np.concatenate([one[name] for one in delivered]).round(1) if delivered else missing
    return pd.DataFrame(columns)


def _generation(park: Park, record: ParkRecord, random: np.random.Generator) -> pd.DataFrame:
    """Hourly rows, received within minutes, with faults."""
    power = record.power_kw.copy()
    days = len(power) // 24

    def hours(length_days: int) -> slice:
        first = int(random.integers(20, days - length_days - 1)) * 24
        return slice(first, first + 24 * length_days)

    bright = power > 0.15 * park.ac_capacity_kw
    for _ in range(6):
        day = hours(1)
        power[day.start + 17 : day.start + 21] = 0.0  # an outage around noon in Golden
    week = hours(7)
    power[week] = np.minimum(power[week], 0.4 * park.ac_capacity_kw)  # curtailed
    frozen = hours(1)
    power[frozen.start + 16 : frozen.start + 23] = power[frozen.start + 16]
    power[~bright & (random.random(len(power)) < 0.2)] -= 0.0005 * park.ac_capacity_kw  # own use
    watts = hours(1)
    power[watts] *= 1_000.0
    measured = _utc(record.valid_at)
    rows = pd.DataFrame(
        {
            "park_id": park.id,
            "inverter_id": "park",
            "measured_at": measured,
            "period_s": np.int32(3600),
            "power_kw": power.round(3),
            "received_at": measured + _HOUR + pd.Timedelta(minutes=5),
            "source": NAME,
        }
    )
    again = rows.iloc[hours(1)].assign(received_at=lambda early: early.received_at + pd.Timedelta(hours=30))
    again["power_kw"] *= 0.98
    lost = np.zeros(len(rows), bool)
    lost[hours(3)] = True
    lost |= random.random(len(rows)) < 0.003
    return pd.concat([rows[~lost], again], ignore_index=True)


def _utc(times: Times) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(times).tz_localize("UTC").as_unit("us")


def main(argv: list[str] | None = None) -> None:
    """Write a fleet: a process of its own, so that its memory is gone afterwards."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--parks", type=int, default=10)
    parser.add_argument("--days", type=int, default=2 * DAYS_A_YEAR)
    given = parser.parse_args(argv)
    write(given.folder, given.parks, given.days)


if __name__ == "__main__":
    main()
