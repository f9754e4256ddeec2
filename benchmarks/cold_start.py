"""What a park without a past gets, and a fleet that has seen one season only. `make bench NAME=cold_start`.

Real data, OBSERVED WEATHER: optimistic. Two questions:

1. SERF East joins a fleet of one park (system 50): its September and October 2013, with 0, 7 and 30 days of its own.
2. System 50 onboarded in winter: trained on November to February alone, tested on March and April.

Longer histories of a second real park are not in the samples. The last line is one JSON object.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

from pvforecast import dataset, fleet, ingestion, refining
from pvforecast.evaluation.backtest import score
from pvforecast.known import ParkRecord
from pvforecast.lake import Lake, records
from pvforecast.model.recipe import Recipe
from pvforecast.model.training import train
from pvforecast.sources.pvdaq_samples import PARKS, PvdaqSamples

_BEGIN, _END = datetime(2011, 1, 1, tzinfo=UTC), datetime(2014, 1, 1, tzinfo=UTC)
_DAY = np.timedelta64(86_400, "s")
_JOINED = np.datetime64("2013-08-31T06:00:00", "s")  # 00:00 in Golden
_OWN_DAYS = (0, 7, 30)
_WINTER = (np.datetime64("2011-11-01T06:00:00", "s"), np.datetime64("2012-03-01T07:00:00", "s"))
_SPRING_ENDS = np.datetime64("2012-05-01T06:00:00", "s")


def main() -> None:
    """Prints the tables' rows, then one JSON object."""
    print("OBSERVED WEATHER: optimistic", flush=True)
    parks = _records()
    result: dict[str, object] = {
        f"serf_east_with_{days}_days": _joining(parks["pvdaq-50"], parks["serf-east"], days) for days in _OWN_DAYS
    }
    result["winter_onboarded"] = _winter(parks["pvdaq-50"])
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
