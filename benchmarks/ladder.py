"""What each rung of the degradation ladder costs, and whether its band stays honest: `make bench NAME=ladder`.

The default recipe, trained on PVDAQ system 50 until the end of 2012, forecasts days of 2013 with less and less to go
by. Counted are daylight hours, leads 1-48 h. The weather is observed, not forecast: optimistic, and an older run is as
good as a fresh one where it reaches. The last line is one JSON object; `band_width` in it is what the model itself
says of its rungs, measured in training on hours that have both weather and recent output.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from benchmarks.serve.fleet import record
from pvforecast import dataset, features
from pvforecast.known import HOUR, Floats, Known, ParkRecord
from pvforecast.model.bundle import Bundle
from pvforecast.model.recipe import Recipe
from pvforecast.model.training import train

TRAINED_UNTIL = np.datetime64("2013-01-01T07:00:00", "s")
TESTED_UNTIL = np.datetime64("2013-12-29T07:00:00", "s")
EVERY = 61 * HOUR  # so that issues walk through the hours of the day
HORIZON = 48
OLDER = 30 * HOUR

Rung = Callable[[ParkRecord, np.datetime64], Known]


def _full(park: ParkRecord, issued_at: np.datetime64) -> Known:
    return park.known_at(issued_at)


def _without_generation(park: ParkRecord, issued_at: np.datetime64) -> Known:
    known = park.known_at(issued_at)
    return replace(known, history=replace(known.history, power_kw=np.full_like(known.history.power_kw, np.nan)))


def _older_run(park: ParkRecord, issued_at: np.datetime64) -> Known:
    return replace(park.known_at(issued_at), weather=park.known_at(issued_at - OLDER).weather)


def _without_weather(park: ParkRecord, issued_at: np.datetime64) -> Known:
    return replace(park.known_at(issued_at), weather=None)


def _with_neither(park: ParkRecord, issued_at: np.datetime64) -> Known:
    return replace(_without_generation(park, issued_at), weather=None)


RUNGS: dict[str, Rung] = {
    "all": _full,
    "no recent generation": _without_generation,
    "run 30 h older": _older_run,
    "no weather": _without_weather,
    "neither": _with_neither,
}


def main() -> None:
    """Prints a table, then the JSON."""
    park = record()
    recipe = Recipe.for_records([park])
    model = train(dataset.of_park(park, recipe.spec, TRAINED_UNTIL), recipe, TRAINED_UNTIL)
    result = {name: score(model, park, rung) for name, rung in RUNGS.items()}
    print("OBSERVED WEATHER: optimistic. | rung | hours | 80 % band holds | its width, % of capacity | nMAE |")
    for name, one in result.items():
        print(f"| {name} | {one['hours']} | {one['coverage']:.1%} | {one['width']:.1%} | {one['nmae']:.1%} |")
    print(json.dumps(result | {"band_width": model.info["band_width"]}))


def score(model: Bundle, park: ParkRecord, rung: Rung) -> dict[str, float]:
    """Coverage and mean width of the central 80 %, and the median's error, over all issues; fractions of capacity."""
    low, middle, high = (model.quantiles.index(level) for level in (0.1, 0.5, 0.9))
    told, truth = [], []
    for issued_at in np.arange(TRAINED_UNTIL + 24 * HOUR, TESTED_UNTIL, EVERY):
        hours = features.horizon(issued_at, HORIZON)
        day = features.daylight(park.site, hours)
        rows = features.build_known(model.spec, rung(park, issued_at), issued_at, hours)
        told.append(model.predict(rows, park_id=[park.site.park_id] * len(rows))[day])
        truth.append(park.truth(hours)[day] / park.site.ac_capacity_kw)
    quantiles, target = np.concatenate(told).astype(np.float64), np.clip(np.concatenate(truth), 0.0, 1.0)
    metered = ~np.isnan(target)
    return _figures(quantiles[metered][:, [low, middle, high]], target[metered])


def _figures(quantiles: Floats, target: Floats) -> dict[str, float]:
    low, middle, high = quantiles.T
    return {
        "hours": len(target),
        "coverage": round(float(((low <= target) & (target <= high)).mean()), 4),
        "width": round(float((high - low).mean()), 4),
        "nmae": round(float(np.abs(middle - target).mean()), 4),
    }


if __name__ == "__main__":
    main()
