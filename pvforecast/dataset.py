"""Rows to learn from: for each issue time, the features as they were known then, and what was metered later."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pandas as pd

from pvforecast import features as fx
from pvforecast.features.snow import lies
from pvforecast.known import HOUR, Floats, ParkRecord, Times

EVER = np.datetime64("1990-01-01", "s")
INTRADAY_HOURS = 12


@dataclass(frozen=True)
class Rows:
    """Feature rows of one or more parks; all arrays share their first axis.

    Attributes
    ----------
    features : float32, shape [n, len(spec)].
    target : metered power as a fraction of `ac_capacity_kw`, NaN where not metered.
    daylight : sun above the horizon at the middle of the hour.
    """

    spec: fx.FeatureSpec
    park_id: npt.NDArray[np.object_]
    issued_at: Times
    valid_at: Times
    features: fx.Features
    target: Floats
    daylight: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.park_id)

    def where(self, mask: npt.NDArray[np.bool_]) -> Rows:
        """The rows at which `mask` is true."""
        return Rows(
            self.spec,
            self.park_id[mask],
            self.issued_at[mask],
            self.valid_at[mask],
            self.features[mask],
            self.target[mask],
            self.daylight[mask],
        )

    @property
    def lead_hours(self) -> Floats:
        """Hours from issue to the start of the interval."""
        return (self.valid_at - self.issued_at).astype("timedelta64[s]").astype(np.float64) / 3600.0


def build(
    record: ParkRecord,
    spec: fx.FeatureSpec,
    issues: Iterable[np.datetime64],
    horizon_hours: int,
    as_of: np.datetime64 | None = None,
    *,
    healthy: bool = False,
) -> Rows:
    """Features and targets of one park for each issue time; one call of `features.build` each, as serving does.

    Parameters
    ----------
    as_of : targets are what was metered as known then; as finally known by default.
    healthy : to learn from: hours flagged as no evidence of what the park can do have no target, but for those under
        snow of which the features know that it lies. Scores keep them all.
    """
    blocks = []
    for issued_at in issues:
        valid_at = fx.horizon(issued_at, horizon_hours, record.site.period)
        known = record.known_at(issued_at)
        capacity = np.full(len(valid_at), known.site.ac_capacity_kw)
        blocks.append((issued_at, valid_at, capacity, fx.build_known(spec, known, issued_at, valid_at)))
    if not blocks:
        return empty(spec)
    valid = np.concatenate([valid_at for _, valid_at, _, _ in blocks])
    issued = np.concatenate([np.full(len(valid_at), issued_at) for issued_at, valid_at, _, _ in blocks])
    features = np.concatenate([x for *_, x in blocks])
    power = record.truth(valid, as_of, healthy=healthy)
    snow = lies(features, spec.names)
    if healthy and snow.any():
        power[snow] = record.truth(valid[snow], as_of, healthy=True, under_snow=True)
    target = power / np.concatenate([capacity for _, _, capacity, _ in blocks])
    park = np.full(len(valid), record.site.park_id, dtype=object)
    return Rows(
        spec,
        park,
        issued,
        valid,
        features,
        target,
        fx.daylight(record.site, valid, record.site.period),
    )


def training_rows(
    records: Iterable[ParkRecord], spec: fx.FeatureSpec, until: np.datetime64, horizon_hours: int = 48
) -> Rows:
    """Rows of all parks to learn from, issued before `until`; hours flagged as no evidence of a park have no target."""
    return concat([of_park(record, spec, until, horizon_hours) for record in records])


def of_park(
    record: ParkRecord,
    spec: fx.FeatureSpec,
    until: np.datetime64,
    horizon_hours: int = 48,
    as_of: np.datetime64 | None = None,
) -> Rows:
    """Rows of one park to learn from: day-ahead of each day, and the next hours from an instant within each day.

    Only every third day-ahead goes on to `horizon_hours`: two forecasts of one hour differ little, and cost the same.

    Parameters
    ----------
    until : issue times lie before it.
    as_of : targets are what was metered as known then; as finally known by default.
    """
    midnights = daily_issues(record, EVER, until)
    within = [issue for issue in within_days(midnights) if issue < until]
    far = midnights[::3]
    near = sorted(set(midnights) - set(far))
    parts = ((far, horizon_hours), (near, min(24, horizon_hours)), (within, INTRADAY_HOURS))
    return concat([build(record, spec, issues, hours, as_of, healthy=True) for issues, hours in parts])


def within_days(midnights: Sequence[np.datetime64]) -> list[np.datetime64]:
    """An issue time in the course of each day: from 5 to 18 o'clock in turn, so that all leads of all hours occur."""
    return [midnight + (5 + 3 * n % 14) * HOUR for n, midnight in enumerate(midnights)]


def daily_issues(record: ParkRecord, since: np.datetime64, until: np.datetime64) -> list[np.datetime64]:
    """00:00 local of each day in [since, until) at which the park had weather: the day-ahead issue times, as UTC.

    Where the clocks skip midnight (in Chile once a year), the day begins at the instant they do.
    """
    if not record.runs:
        return []
    begin = max(since, min(run.available_at for run in record.runs))
    zone = ZoneInfo(record.site.timezone)
    first, last = (datetime.fromtimestamp(int(t.astype("datetime64[s]").astype(int)), zone) for t in (begin, until))
    days = [first.date() + timedelta(days=n) for n in range((last.date() - first.date()).days + 1)]
    midnights = [datetime(day.year, day.month, day.day, tzinfo=zone) for day in days]
    instants = [np.datetime64(int(midnight.timestamp()), "s") for midnight in midnights]
    return [instant for instant in instants if begin <= instant < until]


def known_by(rows: Rows, as_of: np.datetime64) -> Rows:
    """Rows to learn from at `as_of`: metered, in daylight, and over before `as_of`."""
    ended = rows.valid_at + HOUR <= as_of  # of shorter intervals too: the last hour may lack some
    return rows.where(~np.isnan(rows.target) & rows.daylight & ended & (rows.issued_at < as_of))


def concat(parts: Sequence[Rows]) -> Rows:
    """Rows of several parks under one spec."""
    names = ("park_id", "issued_at", "valid_at", "features", "target", "daylight")
    return Rows(parts[0].spec, *(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def empty(spec: fx.FeatureSpec) -> Rows:
    times = np.zeros(0, "datetime64[s]")
    return Rows(
        spec, np.zeros(0, object), times, times, np.zeros((0, len(spec)), np.float32), np.zeros(0), np.zeros(0, bool)
    )


def to_frame(rows: Rows) -> pd.DataFrame:
    """As the table ``features`` stores it."""
    keys = pd.DataFrame(
        {
            "park_id": rows.park_id,
            "issued_at": pd.DatetimeIndex(rows.issued_at).tz_localize("UTC"),
            "valid_at": pd.DatetimeIndex(rows.valid_at).tz_localize("UTC"),
            "target": rows.target,
        }
    )
    return pd.concat([keys, pd.DataFrame(rows.features, columns=list(rows.spec.names))], axis=1)


def from_frame(frame: pd.DataFrame, spec: fx.FeatureSpec) -> Rows:
    """The inverse of `to_frame`; daylight is read off the features of the sun."""
    x = frame[list(spec.names)].to_numpy(np.float32)
    times = {
        name: frame[name].dt.tz_localize(None).to_numpy().astype("datetime64[s]") for name in ("issued_at", "valid_at")
    }
    daylight = x[:, spec.names.index("sunlit_fraction")] > 0.5
    park = frame["park_id"].to_numpy(object)
    return Rows(spec, park, times["issued_at"], times["valid_at"], x, frame["target"].to_numpy(float), daylight)
