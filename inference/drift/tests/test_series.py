"""What a report shows, and the faults that can be planted into a replay."""

from __future__ import annotations

import numpy as np
import pytest

from inference.drift import series
from inference.drift.planting import FAULTS, plant
from inference.drift.reference import Reference
from inference.drift.tests.parks import SITE
from pvforecast.errors import InvalidInput
from pvforecast.known import ParkRecord

AS_OF, AT = np.datetime64("2022-07-30T12:00:00", "s"), np.datetime64("2022-06-20T07:00:00", "s")


def test_without_a_fault_there_is_nothing_to_tell(record: ParkRecord, reference: Reference) -> None:
    told = series.of(record, (reference,), AS_OF)
    assert (told["alarms"], told["planted"]) == ([], None)
    assert len(told["days"]) == len(told["energy_ratio"]) == len(told["scores"]["warn"]["cusum_level"])


@pytest.mark.parametrize(
    ("fault", "cause"),
    [("loss", "loss_or_soiling"), ("unit", "unit_error"), ("outage", "outage"), ("frozen", "frozen_sensor"),
     ("provider", "provider_bias")],
)  # fmt: skip
def test_a_planted_fault_is_told_with_its_cause(
    record: ParkRecord, reference: Reference, fault: str, cause: str
) -> None:
    told = series.of(record, (reference,), AS_OF, (fault, AT, None))
    first = told["alarms"][0]
    assert first["day"] >= "2022-06-20"
    # Too bright a sky looks like a loss until it has lasted for some days.
    assert first["cause"] == cause or fault == "provider", first
    assert cause in [alarm["cause"] for alarm in told["alarms"]]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_changes_nothing_before_it_begins(record: ParkRecord, fault: str) -> None:
    planted = plant(record, fault, AT)
    early = record.valid_at < AT
    assert np.array_equal(planted.power_kw[early], record.power_kw[early])
    changed = not np.array_equal(planted.power_kw, record.power_kw) or any(
        new is not old for new, old in zip(planted.runs, record.runs, strict=True)
    )
    assert changed


def test_what_cannot_be_planted_is_refused(record: ParkRecord) -> None:
    with pytest.raises(InvalidInput, match="no fault"):
        plant(record, "meteor", AT)
    with pytest.raises(InvalidInput, match="nothing was metered"):
        plant(record, "loss", np.datetime64("2030-01-01", "s"))
    assert record.site == SITE
