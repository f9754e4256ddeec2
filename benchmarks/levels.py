"""What a refresh makes of a loss, days after it: `make bench NAME=levels`. The last line is JSON.

System 50 with a planted loss of a tenth, and without one; a small recipe, trained 5, 8 and 14 days after the loss, told
of it as the drift job would tell, and not told. Of each: forecast energy over metered energy less 1, daylight,
day-ahead, of the 22 days that follow. OBSERVED WEATHER: optimistic.
"""

from __future__ import annotations

import json
import tempfile

import numpy as np

from pvforecast import dataset, fleet, ingestion, refining
from pvforecast.evaluation import holdout
from pvforecast.evaluation.backtest import predict
from pvforecast.known import ParkRecord
from pvforecast.lake import Lake, records
from pvforecast.model.bundle import Bundle
from pvforecast.model.levels import Change
from pvforecast.model.recipe import Recipe
from pvforecast.model.training import train
from pvforecast.shards import instant
from pvforecast.sources.pvdaq_samples import PARKS, PlantedLoss, PvdaqSamples

PARK = "pvdaq-50"
LOST, DAYS, WATCHED = ("2012-07-01", "2012-10-15", "2013-02-01", "2013-08-10"), (5, 8, 14), 22
FRACTION = 0.1
SMALL = Recipe(rounds=40, trees=12, corrector_rounds=40)
_DAY, _HOUR = np.timedelta64(86_400, "s"), np.timedelta64(3_600, "s")


def main() -> None:
    """Prints a line for each date, then one JSON object."""
    print("OBSERVED WEATHER: optimistic", flush=True)
    result: dict[str, dict[str, list[float]]] = {}
    for fraction in (FRACTION, 0.0):
        for day in LOST:
            lost = np.datetime64(f"{day}T06:00:00", "s")  # soon after midnight in Golden
            record = _record(lost, fraction)
            name = f"{day} {'lost' if fraction else 'sound'}"
            result[name] = {
                how: [_after(record, lost + days * _DAY + 6 * _HOUR, told) for days in DAYS]
                for how, told in (("not_told", {}), ("told", {PARK: Change(lost, 1.0 - FRACTION)}))
            }
            print(name, result[name], flush=True)
    print(json.dumps(result))


def _record(lost: np.datetime64, fraction: float) -> ParkRecord:
    """As the lake has it, up to two months after."""
    loss = PlantedLoss(park_id=PARK, start=instant(f"{lost}+00:00", "start"), fraction=fraction) if fraction else None
    park = next(park for park in PARKS if park.id == PARK)
    begin, end = instant("2011-01-01T00:00:00+00:00", "begin"), instant(f"{lost + 60 * _DAY}+00:00", "end")
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(folder)
        fleet.register(lake, park)
        ingestion.ingest(lake, PvdaqSamples(loss=loss), park, begin, end)
        refining.validate(lake, [park], begin, end)
        return records.load(lake, PARK)


def _after(record: ParkRecord, as_of: np.datetime64, told: dict[str, Change]) -> float:
    bundle = train(dataset.training_rows([record], SMALL.spec, as_of), SMALL, as_of, told=told)
    return round(_bias(bundle, record, as_of), 4)


def _bias(bundle: Bundle, record: ParkRecord, begin: np.datetime64) -> float:
    rows = dataset.build(record, bundle.spec, holdout.issues(record, begin, begin + WATCHED * _DAY), 24)
    rows = rows.where(rows.daylight & ~np.isnan(rows.target))
    median = predict(bundle, rows)[:, bundle.quantiles.index(0.5)]
    return float(median.sum() / rows.target.sum() - 1.0)


if __name__ == "__main__":
    main()
