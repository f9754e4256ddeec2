"""The model and the parks that are served.

The model is the default recipe, trained on a year of PVDAQ system 50. The parks are simulated: that park's real weather
and generation at one moment, with perturbed place, orientation and size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from pvf.backtest import sample_records
from pvforecast import dataset
from pvforecast.known import History, Known, ParkRecord
from pvforecast.model.bundle import Bundle
from pvforecast.model.recipe import Recipe
from pvforecast.model.training import train

NOW = np.datetime64("2012-12-10T18:00:00", "s")  # 11:00 in Golden
_SINCE = np.datetime64("2012-01-01T07:00:00", "s")
_PARK = "pvdaq-50"


def record() -> ParkRecord:
    """The real park's record."""
    return sample_records([_PARK])[_PARK]


def bundles(park: ParkRecord) -> tuple[Bundle, Bundle]:
    """The default recipe's model, and the same under another id, to reload to and fro."""
    recipe = Recipe.for_records([park])
    rows = dataset.of_park(park, recipe.spec, NOW)
    made = train(rows.where(rows.valid_at >= _SINCE), recipe, NOW)
    return made, replace(made, info={**made.info, "again": True})


def parks(park: ParkRecord, count: int) -> Iterator[Known]:
    """What is known about each of `count` simulated parks at `NOW`."""
    known, random = park.known_at(NOW), np.random.default_rng(7)
    for number in range(count):
        scale = float(random.uniform(0.3, 300.0))
        site = replace(
            known.site,
            park_id=f"sim-{number:04d}",
            latitude=known.site.latitude + float(random.uniform(-1.0, 1.0)),
            longitude=known.site.longitude + float(random.uniform(-1.0, 1.0)),
            ac_capacity_kw=known.site.ac_capacity_kw * scale,
        )
        yield replace(known, site=site, history=History(known.history.valid_at, known.history.power_kw * scale))
