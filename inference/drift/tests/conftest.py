from __future__ import annotations

import numpy as np
import pytest

from inference.drift.reference import Reference, make
from inference.drift.tests.parks import simulated
from pvforecast.known import ParkRecord

FIRST, UNTIL = "2021-05-01", np.datetime64("2022-06-01T12:00:00", "s")


@pytest.fixture(scope="session")
def record() -> ParkRecord:
    """13 months for the reference, 60 days to check."""
    return simulated(FIRST, 396 + 60)


@pytest.fixture(scope="session")
def reference(record: ParkRecord) -> Reference:
    return make(record, UNTIL)
