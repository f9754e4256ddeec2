"""Is the verdict right? `make bench NAME=champion`: trials on real losses, resampled, whose right answer is known.

Four recipes are trained on system 50 (2011-04 to 2012-12, 2013 is not touched; observed weather), scored out of fold,
and their losses summed by day: the default, its twin with another seed, and two that are really others: `flat` knows
nothing of the tilted plane, `no_lags` nothing of earlier output. A trial draws blocks of two weeks out of these days
until a hold-out is full. So days keep their spread, their snow and their autocorrelation; only the mean is scaled,
where a trial says by how much a recipe shall be better. Parks of a fleet share half of their blocks.

The last line is one JSON object. `holdout_days` is the window the platform uses.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pvforecast.evaluation.compare import Comparison, compare
from pvforecast.known import Floats

STORED = Path(__file__).with_name("daily_losses.csv")
DRAWN_TOGETHER = 14  # days
FOLDS, FOLD_DAYS = 5, 15
_BEGIN = np.datetime64("2021-01-01", "D")


@dataclass(frozen=True)
class Series:
    """Losses of real days: shape [days] each, the sum over the `hours` of the day."""

    hours: Floats
    losses: Mapping[str, Floats]


def stored() -> Series:
    """The losses that `--store` wrote."""
    names = STORED.read_text().splitlines()[0].split(",")
    columns = np.loadtxt(STORED, delimiter=",", skiprows=1, unpack=True)
    by_name = dict(zip(names, columns, strict=True))
    return Series(by_name.pop("hours"), by_name)


def trial(
    series: Series,
    challenger: str,
    champion: str,
    *,
    days: int,
    seed: int,
    better_by: float | None = None,
    parks: int = 1,
    harmed: float = 0.0,
    same_recipe: bool = False,
) -> Comparison:
    """The verdict on one resampled hold-out.

    Parameters
    ----------
    better_by : the challenger's losses are scaled so that over all days it is better by this share; None: as they are.
    parks : how many; half of the blocks of a park are those of all others.
    harmed : the last park's losses of the challenger are larger than the champion's by this share.
    """
    random = np.random.default_rng(seed)
    ours, theirs = series.losses[challenger], series.losses[champion]
    scale = 1.0 if better_by is None else (1.0 - better_by) * theirs.sum() / ours.sum()
    common = _blocks(random, len(ours), days)
    rows = []
    for park in range(parks):
        own = _blocks(random, len(ours), days)
        at = np.where(random.random(len(own))[:, None] < 0.5, common, own).ravel()[:days]
        factor = (1.0 + harmed) * theirs.sum() / ours.sum() if harmed and park == parks - 1 else scale
        rows.append((ours[at] / series.hours[at] * factor, theirs[at] / series.hours[at]))
    a, b = (np.concatenate(column) for column in zip(*rows, strict=True))
    day = np.tile(_BEGIN + np.arange(days), parks)
    name = np.repeat(np.array([f"park-{park:03}" for park in range(parks)], object), days)
    return compare(a, b, day, name, same_recipe=same_recipe)


def _blocks(random: np.random.Generator, length: int, days: int) -> npt.NDArray[np.int64]:
    """Days to take, shape [blocks, `DRAWN_TOGETHER`]."""
    starts = random.integers(0, length, -(-days // DRAWN_TOGETHER))
    result: npt.NDArray[np.int64] = (starts[:, None] + np.arange(DRAWN_TOGETHER)) % length
    return result


def trained() -> Series:
    """Train the recipes on the sample and sum their losses by day; minutes of CPU."""
    from pvforecast import dataset, fleet, ingestion, refining
    from pvforecast.evaluation import metrics
    from pvforecast.features import FeatureSpec
    from pvforecast.lake import Lake, records
    from pvforecast.model.recipe import Recipe
    from pvforecast.model.training import train
    from pvforecast.shards import instant
    from pvforecast.sources.pvdaq_samples import PARKS, PvdaqSamples

    begin, end = instant("2011-01-01T00:00:00+00:00", "begin"), instant("2013-01-01T07:00:00+00:00", "end")
    park = next(park for park in PARKS if park.id == "pvdaq-50")
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(folder)
        fleet.register(lake, park)
        ingestion.ingest(lake, PvdaqSamples(), park, begin, end)
        refining.validate(lake, [park], begin, end)
        record = records.load(lake, park.id)
    until = np.datetime64("2013-01-01T07:00:00", "s")
    default = Recipe(calibration_folds=2)
    names = default.spec.names
    flat = tuple(n for n in names if not re.fullmatch(r"poa|poa_clear|physical_power|clear_sky_index|temp_cell", n))
    no_lags = tuple(n for n in names if not re.match(r"lag_|mean_|relative_", n))
    recipes = {
        "default": default,
        "twin": replace(default, seed=default.seed + 1),
        "flat": replace(default, spec=FeatureSpec(flat)),
        "no_lags": replace(default, spec=FeatureSpec(no_lags)),
    }
    losses, hours = {}, np.zeros(0)
    for name, recipe in recipes.items():
        rows = dataset.known_by(dataset.training_rows([record], recipe.spec, until, 24), until)
        day = rows.issued_at.astype("datetime64[D]").astype(int)
        fold = (day - day.min()) // FOLD_DAYS % FOLDS
        loss = np.zeros(len(rows))
        for number in range(FOLDS):
            tested = fold == number
            bundle = train(rows.where(~tested), recipe, until)
            quantiles = bundle.predict(rows.features[tested], park_id=rows.park_id[tested]).astype(float)
            loss[tested] = metrics.pinball(rows.target[tested], quantiles, bundle.quantiles)
        _, at = np.unique(day, return_inverse=True)
        losses[name], hours = np.bincount(at, loss), np.bincount(at).astype(float)
        print(f"{name}: pinball loss {loss.mean():.5f} over {len(hours)} days", file=sys.stderr, flush=True)
    return Series(hours, losses)


Check = Callable[[Comparison], bool]
OTHERS = {
    "default against flat": ("default", "flat"),
    "no_lags against default": ("no_lags", "default"),
    "no_lags against flat": ("no_lags", "flat"),
}


def measure(series: Series, trials: int) -> dict[str, object]:
    """Shares of trials with the right answer; the window is the platform's."""
    from pvforecast.learning import HOLDOUT_DAYS

    def share(right: Check, pair: tuple[str, str], days: int = HOLDOUT_DAYS, **how: Any) -> float:
        found = sum(right(trial(series, *pair, days=days, seed=seed, **how)) for seed in range(trials))
        return round(found / trials, 3)

    twins, fleet = ("twin", "default"), {"better_by": 0.03, "parks": 100}
    noisiest = OTHERS["no_lags against flat"]
    return {
        "holdout_days": HOLDOUT_DAYS,
        "trials": trials,
        "twins_not_promoted": share(_not_promoted, twins),
        "twins_not_promoted_100_parks": share(_not_promoted, twins, parks=100),
        "no_better_not_promoted": {name: share(_not_promoted, pair, better_by=0.0) for name, pair in OTHERS.items()},
        "better_by_3_percent_promoted": {
            name: {days: share(_promoted, pair, days, better_by=0.03) for days in (28, 60, 90, HOLDOUT_DAYS, 180)}
            for name, pair in OTHERS.items()
        },
        "better_by_3_percent_promoted_100_parks": share(_promoted, noisiest, **fleet),
        "harmed_park_of_100_named": {
            f"{harm:.0%}": share(_names_the_last, noisiest, **fleet, harmed=harm) for harm in (0.05, 0.10, 0.15, 0.20)
        },
        "refreshed": {days: share(_refreshed, twins, days, same_recipe=True) for days in (3, 7, 14, 28)},
        "too_little_data_kept": share(_too_little, noisiest, 13, better_by=0.2),
    }


def _promoted(outcome: Comparison) -> bool:
    return outcome.verdict == "promote"


def _not_promoted(outcome: Comparison) -> bool:
    return outcome.verdict != "promote"


def _refreshed(outcome: Comparison) -> bool:
    return outcome.verdict == "refresh"


def _names_the_last(outcome: Comparison) -> bool:
    return outcome.verdict == "reject" and outcome.harmed == (outcome.parks[-1][0],)


def _too_little(outcome: Comparison) -> bool:
    return outcome.verdict == "keep" and "too little data" in outcome.reason


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--stored", action="store_true", help="the losses beside this file instead of training")
    parser.add_argument("--store", action="store_true", help="write the losses beside this file")
    chosen = parser.parse_args(argv)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    begun = time.monotonic()
    series = stored() if chosen.stored else trained()
    if chosen.store:
        columns = [series.hours, *series.losses.values()]
        np.savetxt(
            STORED, np.stack(columns, axis=1), "%.5g", ",", header=",".join(["hours", *series.losses]), comments=""
        )
    result = measure(series, chosen.trials)
    print(json.dumps({**result, "days_of_losses": len(series.hours), "seconds": round(time.monotonic() - begun)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
