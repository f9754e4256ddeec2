"""What a file holds: counted while it is read once, before anything is stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd

from pvforecast.errors import InvalidInput
from pvforecast.importing.cells import Faults, Times
from pvforecast.importing.context import Context
from pvforecast.importing.mapping import duration
from pvforecast.importing.sunlight import Sunlight
from pvforecast.importing.tables import Chunk

SHOWN_BAD = 10
_MIXED = 0.05


@dataclass
class Range:
    """Of one column: how many values, how many missing, and their range."""

    count: int = 0
    missing: int = 0
    low: float = np.inf
    high: float = -np.inf
    total: float = 0.0

    def add(self, values: np.ndarray) -> None:
        there = values[~np.isnan(values)]
        self.count += len(there)
        self.missing += len(values) - len(there)
        if len(there):
            self.low, self.high = min(self.low, float(there.min())), max(self.high, float(there.max()))
            self.total += float(there.sum())

    def as_dict(self) -> dict[str, float | None]:
        if not self.count:
            return {"values": 0, "missing": self.missing, "min": None, "mean": None, "max": None}
        return {
            "values": self.count,
            "missing": self.missing,
            "min": self.low,
            "mean": self.total / self.count,
            "max": self.high,
        }


@dataclass
class Survey:
    """See the module.

    Attributes
    ----------
    rows, blank, empty, bad : rows read; of them without a cell, without a value, with a fault.
    first_bad : (row number, reason) of the first of them.
    reasons : column -> how many faults name it first.
    parks : park id -> good rows.
    spans : park id -> first and last label, and for weather when runs could be had.
    steps : group -> seconds between neighbours -> how often. The group is a park, for weather a park and a source.
    runs : distinct (source, run) pairs.
    daily, profile : park id -> day or hour of day (UTC) -> sum and count of `shown`, for a plot.
    sunlight : the radiation of some parks, to be held against the sun.
    """

    rows: int = 0
    blank: int = 0
    empty: int = 0
    bad: int = 0
    doubled: int = 0
    first_bad: list[tuple[int, str]] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    parks: Counter[str] = field(default_factory=Counter)
    spans: dict[str, tuple[np.datetime64, np.datetime64]] = field(default_factory=dict)
    known: tuple[np.datetime64, np.datetime64] | None = None
    ranges: dict[str, Range] = field(default_factory=dict)
    steps: dict[Hashable, Counter[int]] = field(default_factory=dict)
    loose: dict[Hashable, Counter[int]] = field(default_factory=dict)
    runs: set[tuple[str, int]] = field(default_factory=set)
    sources: Counter[str] = field(default_factory=Counter)
    daily: dict[str, dict[Any, tuple[float, int]]] = field(default_factory=dict)
    profile: dict[str, dict[Any, tuple[float, int]]] = field(default_factory=dict)
    sunlight: Sunlight = field(default_factory=Sunlight)

    @property
    def good(self) -> int:
        return self.rows - self.blank - self.empty - self.bad

    def add(self, chunk: Chunk, frame: pd.DataFrame, faults: Faults, kind: ModuleType, *, draw: bool) -> None:
        """Count one chunk, as its kind read it."""
        self.rows += len(chunk) + len(chunk.broken) + chunk.blank
        self.blank += chunk.blank
        self.bad += len(faults.reasons) + len(chunk.broken)
        self._name_bad(chunk, faults)
        empty = kind.empty(frame) & ~faults.bad
        self.empty += int(empty.sum())
        good = frame[~faults.bad & ~empty]
        if good.empty:
            return
        for park, count in good.park_id.value_counts().items():
            if count:
                self.parks[str(park)] += int(count)
        for name in good.columns:
            if name not in ("number", "curtailed") and good[name].dtype == np.float64:
                self.ranges.setdefault(name, Range()).add(good[name].to_numpy())
        for park, times in good.groupby("park_id", observed=True)[kind.TIME]:
            first, last = times.to_numpy().min(), times.to_numpy().max()
            before = self.spans.get(str(park), (first, last))
            self.spans[str(park)] = min(first, before[0]), max(last, before[1])
        if "run_at" in good:
            self._weather(good)
            self.sunlight.add(good)
        self._count_steps(good, kind.SERIES, kind.TIME)
        if draw:
            self._draw(good, kind.TIME, "power_kw" if "power_kw" in good else "ghi")

    def _name_bad(self, chunk: Chunk, faults: Faults) -> None:
        self.reasons.update(reason.partition(":")[0] for reason in faults.reasons.values())
        self.reasons.update(["row"] * len(chunk.broken))
        if len(self.first_bad) < SHOWN_BAD:
            named = [(int(chunk.numbers[i]), reason) for i, reason in faults.reasons.items()]
            named += [(number, why) for number, (why, _) in chunk.broken.items()]
            self.first_bad = (self.first_bad + sorted(named))[:SHOWN_BAD]

    def _weather(self, good: pd.DataFrame) -> None:
        for source, count in good.source.value_counts().items():
            if count:
                self.sources[str(source)] += int(count)
        pairs = good[["source", "run_at"]].drop_duplicates()
        self.runs.update(zip(pairs.source.astype(str), pairs.run_at.to_numpy().astype(np.int64).tolist(), strict=True))
        available = good.available_at.to_numpy()
        if not np.isnat(available).all():
            first, last = np.nanmin(available), np.nanmax(available)
            before = self.known or (first, last)
            self.known = min(first, before[0]), max(last, before[1])

    def _count_steps(self, good: pd.DataFrame, series: Sequence[str], time: str) -> None:
        keys = [_numbers(good[name]) for name in series]
        at = good[time].to_numpy().astype(np.int64) // 1_000_000
        groups = [name for name in series if name in ("park_id", "source")]
        of_group = [good[name].to_numpy() for name in groups]
        for strict, target in ((keys, self.steps), (keys[: len(groups)], self.loose)):
            order = np.lexsort((at, *reversed(strict)))
            same = np.ones(max(len(order) - 1, 0), bool)
            for key in strict:
                same &= key[order][1:] == key[order][:-1]
            steps, where = np.diff(at[order])[same], order[1:][same]
            if strict is keys:
                self.doubled += int((steps == 0).sum())
            counted = pd.DataFrame({i: values[where] for i, values in enumerate(of_group)}).assign(step=steps)
            counted = counted[counted.step > 0]
            for (*group, step), count in counted.value_counts(sort=False).items():
                named: Hashable = tuple(map(str, group)) if len(group) > 1 else str(group[0])
                target.setdefault(named, Counter())[int(step)] += int(count)

    def _draw(self, good: pd.DataFrame, time: str, shown: str) -> None:
        times = good[time].to_numpy()
        for target, unit in ((self.daily, times.astype("datetime64[D]")), (self.profile, _hour_of_day(times))):
            sums = good[shown].groupby([good.park_id.astype(str).to_numpy(), unit]).agg(["sum", "count"])
            for (park, at), total, count in sums.itertuples():
                held = target.setdefault(park, {}).get(at, (0.0, 0))
                target[park][at] = held[0] + total, held[1] + int(count)

    def periods(self, context: Context, kind: ModuleType, notes: list[str]) -> dict[Any, int]:
        """Group -> length of its intervals in seconds: as stated, else the most frequent step.

        Raises
        ------
        InvalidInput
            the step is none that can be read, or there is none to see.
        """
        groups: set[Any] = set(self.steps) | set(self.loose) | self._groups(kind)
        if context.mapping.period:
            stated = int(duration(context.mapping.period, "--period") / timedelta(seconds=1))
            if stated not in kind.PERIODS:
                raise _no_step(stated, "--period", kind)
            return dict.fromkeys(groups, stated)
        found = {group: step for group in groups if (step := self._usual(group, kind))}
        usual = Counter(found.values()).most_common(1)
        if not usual:
            raise InvalidInput(
                "holds too few rows to see the length of an interval", field=kind.TIME, hint="state it: --period 1h"
            )
        for group in groups - set(found):
            found[group] = usual[0][0]
        for group, step in found.items():
            steps = self.steps.get(group, Counter())
            shorter = sum(count for other, count in steps.items() if other < step)
            if shorter > _MIXED * sum(steps.values()):
                notes.append(f"{group}: {shorter:,} steps are shorter than {step} s: is the file one step throughout?")
        return found

    def _groups(self, kind: ModuleType) -> set[Any]:
        if "source" not in kind.SERIES:
            return set(self.parks)
        return {(park, source) for park in self.parks for source in self.sources}

    def _usual(self, group: Any, kind: ModuleType) -> int | None:
        for counted in (self.steps.get(group), self.loose.get(group)):
            if counted:
                step = counted.most_common(1)[0][0]
                if step not in kind.PERIODS:
                    raise _no_step(step, str(group if isinstance(group, str) else " ".join(group)), kind)
                return step
        return None


def _no_step(step: int, where: str, kind: ModuleType) -> InvalidInput:
    known = ", ".join(f"{p // 60} min" for p in kind.PERIODS)
    return InvalidInput(
        f"a step of {step} s ({step / 60:g} min) is not read", field=where, hint=f"known: {known}; or state --period"
    )


def _numbers(column: pd.Series) -> np.ndarray:
    if isinstance(column.dtype, pd.CategoricalDtype):
        codes: np.ndarray = column.cat.codes.to_numpy()
        return codes
    numbers: np.ndarray = column.to_numpy().astype(np.int64)
    return numbers


def _hour_of_day(times: Times) -> np.ndarray:
    hours: np.ndarray = (times.astype("datetime64[h]") - times.astype("datetime64[D]")).astype(np.int64)
    return hours
