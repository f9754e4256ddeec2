"""Faults to plant into a park's replay, so that people see what the job would make of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from pvforecast.errors import InvalidInput
from pvforecast.known import HOUR, Floats, ParkRecord, WeatherRun

_DAY_HOURS = 24.0


def _of_meter(change: Callable[[Floats, Floats, float, float], Floats]) -> Callable[..., ParkRecord]:
    """`change(power kW, hours since the fault began, size, capacity kW)` of the hours since then."""

    def plant(record: ParkRecord, at: np.datetime64, size: float) -> ParkRecord:
        late = record.valid_at >= at
        since = ((record.valid_at[late] - at) / HOUR).astype(np.float64)
        power = record.power_kw.copy()
        power[late] = change(power[late], since, size, record.site.ac_capacity_kw)
        return replace(record, power_kw=power)

    return plant


def _provider(record: ParkRecord, at: np.datetime64, size: float) -> ParkRecord:
    def biased(run: WeatherRun) -> WeatherRun:
        names = ("ghi", "dni", "dhi")
        scaled = {name: values * (1.0 + size) for name, values in run.variables.items() if name in names}
        return replace(run, variables={**run.variables, **scaled})

    return replace(record, runs=tuple(biased(run) if run.run_at >= at else run for run in record.runs))


def _frozen(power: Floats, since: Floats, _size: float, _capacity: float) -> Floats:
    lit = np.flatnonzero(power > 0.0)
    return np.where(since >= since[lit[0]], power[lit[len(lit[:12]) // 2]], power) if len(lit) else power


FAULTS: dict[str, tuple[Callable[[ParkRecord, np.datetime64, float], ParkRecord], float, str]] = {
    "loss": (_of_meter(lambda p, _t, size, _c: p * (1.0 - size)), 0.1, "share lost, for good"),
    "soiling": (_of_meter(lambda p, t, size, _c: p * np.maximum(1.0 - size * t / _DAY_HOURS, 0.3)), 0.003,
                "share lost more each day"),
    "unit": (_of_meter(lambda p, _t, size, _c: p * size), 1_000.0, "factor"),
    "outage": (_of_meter(lambda p, t, size, _c: np.where(t < size * _DAY_HOURS, 0.0, p)), 5.0, "days"),
    "frozen": (_of_meter(_frozen), 1.0, "not used"),
    "clock": (_of_meter(lambda p, _t, size, _c: np.roll(p, round(size))), 1.0, "hours late"),
    "clipping": (_of_meter(lambda p, _t, size, capacity: np.minimum(p, size * capacity)), 0.5, "share of capacity"),
    "provider": (_provider, 0.1, "share too bright"),
}  # fmt: skip
"""Name -> (how it is planted, its usual size, what the size means)."""


def plant(record: ParkRecord, fault: str, at: np.datetime64, size: float | None = None) -> ParkRecord:
    """The record with a fault from `at` on.

    Raises
    ------
    InvalidInput
        the fault is not known, or nothing was metered after `at`.
    """
    if fault not in FAULTS:
        raise InvalidInput(f"{fault!r} is no fault", field="--fault", hint="one of " + ", ".join(FAULTS))
    if not (record.valid_at >= at).any():
        raise InvalidInput(f"nothing was metered after {at}Z", field="--at", hint=f"before {record.valid_at[-1]}Z")
    how, usual, _ = FAULTS[fault]
    return how(record, at, usual if size is None else size)
