"""Metered power from a file: rows of ``raw/generation``."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd

from pvforecast.importing import cells, columns
from pvforecast.importing.cells import Faults
from pvforecast.importing.columns import Kind
from pvforecast.importing.context import Context
from pvforecast.importing.tables import Chunk

KIND = Kind(
    "generation",
    ("park_id", "measured_at", "power_kw"),
    ("park_id", "measured_at", "power_kw", "inverter_id", "available_fraction", "export_limit_kw", "curtailed",
     "energy_total_kwh", "received_at"),
)  # fmt: skip
PERIODS = (60, 300, 600, 900, 1800, 3600)
SERIES = ("park_id", "inverter_id")
TIME = "measured_at"
VALUES = ("power_kw", "available_fraction", "export_limit_kw")
DELAY = timedelta(minutes=5)  # from the end of an interval, where a file does not say when it was received
MOST_KW, MOST_KWH = 5e6, 1e12  # more than any park has, or ever made
WHOLE_PARK = "park"  # the inverter of rows that are of the whole park
LOWEST, HIGHEST = -0.05, 1.5  # of capacity: night consumption, and above any real peak


def read(chunk: Chunk, context: Context, where: str) -> tuple[pd.DataFrame, Faults]:
    """Rows with labels as instants and power in kW (or kWh in the interval); faults by row. Shape [n] each."""
    given, mapping, size = columns.ours(chunk, KIND, context.mapping, where), context.mapping, len(chunk)
    faults = Faults(size)
    missing = cells.MISSING + mapping.missing
    park = context.park_ids(columns.texts(given, "park_id", size, mapping, ""), faults)
    inverter = columns.texts(given, "inverter_id", size, mapping, WHOLE_PARK)
    long = np.array([len(name) > 120 for name in inverter.categories] + [False])[inverter.codes]
    faults.add(long, "inverter_id", "is longer than 120 characters")
    times = {
        name: cells.instants(given[name], name, faults, context.zone, mapping.time_format, missing)
        for name in ("measured_at", "received_at")
        if name in given
    }
    faults.add(np.isnat(times["measured_at"].utc), "measured_at", "is missing")
    series = list(zip(park.codes, inverter.astype(object), strict=True)) if times["measured_at"].twice.any() else []
    measured_at = context.doubles.resolve(times["measured_at"], series, "measured_at", faults)
    frame = pd.DataFrame(
        {"park_id": park, "inverter_id": inverter, "measured_at": measured_at, "number": chunk.numbers}
    )
    for name in (*VALUES, "energy_total_kwh"):
        frame[name] = columns.values(given, name, size, mapping, faults)
    curtailed = cells.flags(given["curtailed"], "curtailed", faults, missing) if "curtailed" in given else [None] * size
    frame["curtailed"] = np.array(curtailed, dtype=object)
    frame["received_at"] = times["received_at"].utc if "received_at" in times else np.datetime64("NaT", "us")
    faults.add(measured_at > context.now + np.timedelta64(1, "D"), "measured_at", "lies in the future")
    shares, limits = frame.available_fraction.to_numpy(), frame.export_limit_kw.to_numpy()
    faults.add((shares < 0) | (shares > 1), "available_fraction", lambda i: f"{shares[i]:g} lies outside 0-1: percent?")
    counter = frame.energy_total_kwh.to_numpy()
    for name, read, most in (("export_limit_kw", limits, MOST_KW), ("energy_total_kwh", counter, MOST_KWH)):
        faults.add((read < 0) | (read > most), name, f"lies outside 0 to {most:g}")
    if not columns.is_energy(mapping):
        check_power(frame, context, faults)
    return frame, faults


def check_power(frame: pd.DataFrame, context: Context, faults: Faults) -> None:
    """Power that no such park can have is a fault."""
    ids, codes = frame.park_id.cat.categories, frame.park_id.cat.codes.to_numpy()
    capacity = np.array([context.parks[p].ac_capacity_kw if p in context.parks else np.nan for p in ids] + [np.nan])
    of_row, power = capacity[codes], frame.power_kw.to_numpy()
    beyond = (power < LOWEST * of_row) | (power > HIGHEST * of_row)
    faults.add(
        beyond,
        "power_kw",
        lambda i: f"{power[i]:g} kW of a park with {of_row[i]:g} kW: another unit? (--unit W, MW, kWh)",
    )


def empty(frame: pd.DataFrame) -> np.ndarray:
    """Rows that say nothing: neither power nor a counter."""
    nothing: np.ndarray = (frame.power_kw.isna() & frame.energy_total_kwh.isna()).to_numpy()
    return nothing


def finish(
    frame: pd.DataFrame, context: Context, period_s: dict[str, int], source: str, faults: Faults
) -> pd.DataFrame:
    """Rows as ``raw/generation`` has them: interval starts, kW, when they were received.

    Parameters
    ----------
    period_s : park id -> length of its intervals.
    """
    mapping = context.mapping
    codes = frame.park_id.cat.codes.to_numpy()
    of_park = np.array([period_s.get(p, 0) for p in frame.park_id.cat.categories] + [0])
    seconds = of_park[codes]
    label = frame.measured_at.to_numpy()
    part = {"start": 0.0, "middle": 0.5, "end": 1.0}[mapping.label]
    start = label - (seconds * part * 1e6).astype("timedelta64[us]")
    if columns.is_energy(mapping):
        frame = frame.assign(power_kw=frame.power_kw.to_numpy() * (3600.0 / np.maximum(seconds, 1)))
        check_power(frame, context, faults)
    delay = np.timedelta64(context.delay(DELAY), "us")
    received = frame.received_at.to_numpy()
    received = np.where(np.isnat(received), start + seconds.astype("timedelta64[s]") + delay, received)
    faults.add(received < start, "received_at", "lies before measured_at")
    rows = pd.DataFrame(
        {
            "park_id": frame.park_id.astype(object),
            "inverter_id": frame.inverter_id.astype(object),
            "measured_at": pd.DatetimeIndex(start).tz_localize("UTC"),
            "period_s": seconds.astype(np.int32),
            "power_kw": frame.power_kw,
            "energy_total_kwh": frame.energy_total_kwh,
            "available_fraction": frame.available_fraction,
            "export_limit_kw": frame.export_limit_kw,
            "curtailed": frame.curtailed,
            "received_at": pd.DatetimeIndex(received).tz_localize("UTC"),
            "label": np.char.add(np.datetime_as_string(label, "s"), "+00:00") if mapping.label != "start" else None,
            "source": source,
        }
    )
    return rows[~faults.bad]
