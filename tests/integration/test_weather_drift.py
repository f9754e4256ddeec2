"""How often the weather of a real park counts as new, a year and a half after its reference."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from scipy import stats

from inference.drift import tabular
from inference.drift.check import check
from inference.drift.days import DayCutter, check_time
from inference.drift.observe import observe
from inference.drift.reference import make
from inference.drift.statistics import TRAILING_FIRST
from pvforecast import fleet, ingestion, refining
from pvforecast.lake import Lake, records
from pvforecast.sources.pvdaq_samples import PARKS, PvdaqSamples

BEGIN, END = datetime(2011, 4, 15, tzinfo=UTC), datetime(2013, 12, 28, tzinfo=UTC)
REFERENCE_UNTIL, LAST = np.datetime64("2012-06-15T12:00:00", "s"), np.datetime64("2013-12-25")


@pytest.mark.slow
def test_the_weather_of_most_days_is_usual_where_the_nominal_test_says_otherwise(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    lake = Lake(str(tmp_path_factory.mktemp("lake")))
    park = next(park for park in PARKS if park.id == "pvdaq-50")
    fleet.register(lake, park)
    ingestion.ingest(lake, PvdaqSamples(), park, BEGIN, END)
    refining.validate(lake, [park], BEGIN, END)
    record = records.load(lake, park.id, hourly=True)

    reference, cutter = make(record, REFERENCE_UNTIL), DayCutter(record)
    first, at = reference.until - np.timedelta64(TRAILING_FIRST, "D"), check_time(record.site, LAST)
    observed = observe(cutter.cut(first, LAST, at), reference)
    found = [
        one
        for day in observed.days
        if (one := tabular.measure(reference, {n: z[: observed.up_to(day).stop] for n, z in observed.z.items()}))
    ]
    n, m = found[0].recent, found[0].reference
    nominal = stats.kstwobign.isf(tabular.P_LIMIT / len(tabular.FEATURES)) * np.sqrt((n + m) / (n * m))
    beyond = np.mean([one.exceeds for one in found])
    alarming = np.mean([max(one.distance.values()) > nominal for one in found])
    print(f"{len(found)} days: beyond the limit {beyond:.1%}, p < 0.05 with Bonferroni's correction {alarming:.0%}")
    assert len(found) > 500
    assert beyond < 0.05 < 0.2 < alarming
    assert check(cutter, reference, at).weather == found[-1]
