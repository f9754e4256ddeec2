"""What a park without a past gets, and a fleet that has seen one season only. `make bench NAME=cold_start`.

Real data, OBSERVED WEATHER: optimistic.

1. SERF East joins a fleet of one park (system 50): its September and October 2013, with 0, 7 and 30 days of its own.
   Longer histories of a second real park are not in the samples.
2. System 50 onboarded in winter: trained on November to February alone, tested on March and April.

SIMULATED parks (`benchmarks.weather_errors`), whose stated tilt and azimuth are somewhat wrong:

3. Leave parks out: a third of the fleet at a time joins the others with 0 to 365 days of its own and is forecast for
   the year after, by a model that is not trained again. Its band of the energy of a day comes from scenarios, beside
   it what it would be if the error of a park's level were as independent from hour to hour as those of weather.

The last line is one JSON object.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

from benchmarks.weather_errors import simulated_parks
from pvforecast import dataset, fleet, ingestion, refining
from pvforecast.evaluation import rolling
from pvforecast.evaluation.backtest import score
from pvforecast.known import ParkRecord
from pvforecast.lake import Lake, records
from pvforecast.model.bundle import Bundle
from pvforecast.model.recipe import Recipe
from pvforecast.model.training import train
from pvforecast.portfolio.scenarios import Member, energy, scenarios
from pvforecast.sources.pvdaq_samples import PARKS, PvdaqSamples

_BEGIN, _END = datetime(2011, 1, 1, tzinfo=UTC), datetime(2014, 1, 1, tzinfo=UTC)
_DAY = np.timedelta64(86_400, "s")
_JOINED = np.datetime64("2013-08-31T06:00:00", "s")  # 00:00 in Golden
_OWN_DAYS = (0, 7, 30)
_WINTER = (np.datetime64("2011-11-01T06:00:00", "s"), np.datetime64("2012-03-01T07:00:00", "s"))
_FLEET, _GROUPS = 12, 3
_FEWEST_HOURS, _SCENARIOS = 6, 500
_HISTORIES = (0, 7, 30, 90, 365)
_WRONG_BY_DEG = {"surface_tilt": 4.0, "surface_azimuth": 8.0}  # standard deviation of stated facts
_YEARS = tuple(np.datetime64(f"{year}-01-01T07:00:00", "s") for year in (2011, 2012, 2013))
_OLD_DAYS, _TESTED_DAYS = 3, 5  # each so many days, one: of the fleet's past, of the test
_SPRING_ENDS = np.datetime64("2012-05-01T06:00:00", "s")


def main() -> None:
    """Prints the tables' rows, then one JSON object."""
    print("OBSERVED WEATHER: optimistic", flush=True)
    parks = _records()
    result: dict[str, object] = {
        f"serf_east_with_{days}_days": _joining(parks["pvdaq-50"], parks["serf-east"], days) for days in _OWN_DAYS
    }
    result["winter_onboarded"] = _winter(parks["pvdaq-50"])
    print("SIMULATED PARKS on observed weather with synthetic forecast errors", flush=True)
    result["left_out"] = _left_out(parks["pvdaq-50"])
    print(json.dumps(result))


def _joining(old: ParkRecord, new: ParkRecord, days: int) -> dict[str, float]:
    """Scores of `new` after the day it joined, trained on `old` and on so many days of its own."""
    recipe = Recipe.for_records([old, new])
    rows = [dataset.of_park(old, recipe.spec, _JOINED)]
    if days:
        own = dataset.of_park(new, recipe.spec, _JOINED)
        rows.append(own.where(own.valid_at >= _JOINED - days * _DAY))
    # A park that has just joined has no yesterday to show either.
    young = _since(new, _JOINED - days * _DAY)
    return _scores(f"{days} days of its own", rows, recipe, young, _JOINED, np.datetime64("2013-10-14", "s"))


def _winter(park: ParkRecord) -> dict[str, float]:
    recipe = Recipe.for_records([park])
    rows = dataset.of_park(park, recipe.spec, _WINTER[1])
    rows = rows.where(rows.valid_at >= _WINTER[0])
    return _scores("onboarded in winter", [rows], recipe, _since(park, _WINTER[0]), _WINTER[1], _SPRING_ENDS)


def _left_out(real: ParkRecord) -> dict[str, dict[str, float]]:
    """Mean scores of parks that had so many days of their own, by that number."""
    begin, joined, end = _YEARS
    fleet_of = {name: _misstated(park) for name, park in simulated_parks(real, _FLEET, begin, end).items()}
    recipe = Recipe.for_records(fleet_of.values())
    places = {name: (park.site.latitude, park.site.longitude) for name, park in fleet_of.items()}
    past = {name: dataset.of_park(park, recipe.spec, joined, 24) for name, park in fleet_of.items()}
    issues = {
        name: dataset.daily_issues(park, joined, end - 2 * _DAY)[::_TESTED_DAYS] for name, park in fleet_of.items()
    }
    result = {}
    for days in _HISTORIES:
        scores, held = [], []
        for number in range(_GROUPS):
            guests = list(fleet_of)[number::_GROUPS]
            bundle = train(_with_guests(past, guests, days), recipe, joined, places=places)
            scores += [score(bundle, fleet_of[name], issues[name], 24) for name in guests]
            held += [_energies_held(bundle, fleet_of[name], issues[name]) for name in guests]
        means = {
            "daylight_nmae": np.mean([one.model["daylight_nmae"] for one in scores]),
            "picp80": np.mean([one.model["daylight_picp80"] for one in scores]),
            "lowest_picp80": np.min([one.model["daylight_picp80"] for one in scores]),
            **{name: np.mean([one[name] for one in held]) for name in held[0]},
            **{f"{name}_nmae": np.mean([one.baselines[name] for one in scores]) for name in scores[0].baselines},
        }
        result[str(days)] = {name: float(value) for name, value in means.items()}
        print(f"left out, {days} days", {key: round(v, 4) for key, v in result[str(days)].items()}, flush=True)
    return result


def _energies_held(bundle: Bundle, park: ParkRecord, issues: list[np.datetime64]) -> dict[str, float]:
    """How often the metered energy of a day lay within its band of 80 %."""
    rows = dataset.build(park, bundle.spec, issues, 24)
    power, met = rolling.predict(bundle, rows), rows.daylight & ~np.isnan(rows.target)
    place = park.site.latitude, park.site.longitude
    assert bundle.dependence is not None
    as_weather = replace(bundle.dependence, level=0.0 * bundle.dependence.level, level_of_others=0.0)
    held: dict[str, list[bool]] = {"energy_picp80": [], "energy_picp80_as_weather": []}
    for number, issue in enumerate(issues):
        own = met & (rows.issued_at == issue)
        if own.sum() < _FEWEST_HOURS:
            continue
        member = Member(park.site.park_id, power[own], 1.0, *place)
        for name, dependence in zip(held, (bundle.dependence, as_weather), strict=True):
            drawn = scenarios([member], bundle.quantiles, rows.valid_at[own], dependence, _SCENARIOS, seed=number)
            low, high = energy(drawn, (0.1, 0.9))
            held[name].append(bool(low <= rows.target[own].sum() <= high))
    return {name: float(np.mean(values)) for name, values in held.items()}


def _misstated(park: ParkRecord) -> ParkRecord:
    """The park with the tilt and azimuth that somebody wrote down."""
    random = np.random.default_rng([77, int(park.site.park_id.rsplit("-", 1)[1])])
    stated = {name: getattr(park.site, name) + float(random.normal(0, wrong)) for name, wrong in _WRONG_BY_DEG.items()}
    return replace(park, site=replace(park.site, **stated), sites=())


def _with_guests(past: dict[str, dataset.Rows], guests: list[str], days: int) -> dataset.Rows:
    """Some days of all parks but the guests, and the guests' last days."""
    parts = []
    for name, rows in past.items():
        if name in guests:
            parts.append(rows.where(rows.valid_at >= _YEARS[1] - days * _DAY))
        else:
            number = (rows.valid_at - _YEARS[0]) // _DAY
            parts.append(rows.where(number % _OLD_DAYS == 0))
    return dataset.concat(parts)


def _scores(
    name: str, rows: list[dataset.Rows], recipe: Recipe, park: ParkRecord, begin: np.datetime64, end: np.datetime64
) -> dict[str, float]:
    bundle = train(dataset.concat(rows), recipe, begin)
    scores = score(bundle, park, dataset.daily_issues(park, begin, end), 48)
    found = {
        "daylight_nmae": scores.model["daylight_nmae"],
        "picp80": scores.model["daylight_picp80"],
        **{f"{baseline}_nmae": value for baseline, value in scores.baselines.items()},
    }
    print(name, {key: round(value, 4) for key, value in found.items()}, flush=True)
    return found


def _since(park: ParkRecord, begin: np.datetime64) -> ParkRecord:
    """The park as if nothing had been metered before `begin`."""
    kept = park.valid_at >= begin
    flags = None if park.flags is None else park.flags[kept]
    return replace(
        park,
        valid_at=park.valid_at[kept],
        available_at=park.available_at[kept],
        power_kw=park.power_kw[kept],
        flags=flags,
    )


def _records() -> dict[str, ParkRecord]:
    with tempfile.TemporaryDirectory(prefix="pvf-cold-") as folder:
        lake = Lake(folder)
        for park in PARKS:
            fleet.register(lake, park)
            ingestion.ingest(lake, PvdaqSamples(), park, _BEGIN, _END)
            refining.validate(lake, [park], _BEGIN, _END)
        return {park.id: records.load(lake, park.id) for park in PARKS}


if __name__ == "__main__":
    main()
