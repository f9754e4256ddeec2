"""Baselines that learn: from the same past as the model, refitted whenever it is.

| name | what it is |
|---|---|
| `smart_persistence_quantiles` | smart persistence plus quantiles of its own past errors, by clear-sky level and lead |
| `climatology` | quantiles of the same month and hour; by clear-sky share where that month was never metered |
| `plain_xgboost` | XGBoost on the raw weather columns, hour and day of the year: none of our features, no calibration |

All in fractions of `ac_capacity_kw`; quantiles ascend and lie in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xgboost as xgb

from pvforecast.evaluation import baselines
from pvforecast.features import clear_sky_power, daylight
from pvforecast.known import WEATHER_VARIABLES, Floats, ParkRecord, Times, WeatherRun

POINTS = {
    "persistence_24h": baselines.persistence,
    "smart_persistence": baselines.smart_persistence,
    "physical": baselines.physical,
}
FITTED = ("smart_persistence_quantiles", "climatology", "plain_xgboost")

_CLEAR_EDGES = (0.02, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8)
_MIN_CLEAR = 0.02
_MIN_SAMPLES = 20
_MIN_MONTH_SAMPLES = 5
_PLAIN_ROUNDS = 100
_PLAIN_LEVELS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.975, 0.99)
_PLAIN_SEED = 7


@dataclass(frozen=True)
class Shown:
    """What the baselines go by: one row for each issue time and interval of one or more parks.

    Attributes
    ----------
    park : number of the park in the order of the records.
    clear : clear-sky power; `points` : name -> forecast of each point baseline.
    weather : raw columns of the run that was known at the issue, in the order of `names`; NaN where it has none.
    hour, month : of the middle of the interval in solar time (UTC + longitude / 15°); month 1 to 12.
    """

    park: npt.NDArray[np.int64]
    issued_at: Times
    valid_at: Times
    clear: Floats
    daylight: npt.NDArray[np.bool_]
    points: Mapping[str, Floats]
    weather: npt.NDArray[np.float32]
    names: tuple[str, ...]
    hour: npt.NDArray[np.int64]
    month: npt.NDArray[np.int64]
    day_of_year: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.park)

    def where(self, mask: npt.NDArray[np.bool_]) -> Shown:
        """The rows at which `mask` is true."""
        return self._map(lambda values: values[mask])

    def _map(self, change: Callable[[Any], Any]) -> Shown:
        arrays = {name: change(getattr(self, name)) for name in _ARRAYS}
        return Shown(**arrays, points={k: change(v) for k, v in self.points.items()}, names=self.names)

    @property
    def day_ahead(self) -> npt.NDArray[np.bool_]:
        """The first 24 hours after the issue."""
        return np.asarray(self.valid_at - self.issued_at < np.timedelta64(86_400, "s"))


_ARRAYS = ("park", "issued_at", "valid_at", "clear", "daylight", "weather", "hour", "month", "day_of_year")


def weather_names(records: Sequence[ParkRecord]) -> tuple[str, ...]:
    """The weather columns that any run carries a value of, free ones included, in one order."""
    present = {name for record in records for run in record.runs for name in run.variables}
    return (*WEATHER_VARIABLES, *sorted(present - set(WEATHER_VARIABLES)))


def show(record: ParkRecord, number: int, issued_at: Times, valid_at: Times, names: tuple[str, ...]) -> Shown:
    """What the baselines see of one park. `issued_at`, `valid_at` of shape [n], intervals of one issue together."""
    site, zone = record.site, np.timedelta64(round(record.site.longitude * 240.0), "s")
    starts = np.flatnonzero(np.append(len(issued_at) > 0, issued_at[1:] != issued_at[:-1]))
    points = {name: np.zeros(len(valid_at)) for name in POINTS}
    weather = np.full((len(valid_at), len(names)), np.nan, np.float32)
    for begin, end in zip(starts, [*starts[1:], len(issued_at)], strict=True):
        known = record.known_at(issued_at[begin])
        for name, baseline in POINTS.items():
            points[name][begin:end] = baseline(known, valid_at[begin:end])
        if known.weather is not None:
            weather[begin:end] = _columns(known.weather, valid_at[begin:end], names)
    solar = valid_at + zone
    days = solar.astype("datetime64[D]")
    return Shown(
        np.full(len(valid_at), number),
        issued_at,
        valid_at,
        clear_sky_power(site, valid_at, site.period) if len(valid_at) else np.zeros(0),
        daylight(site, valid_at, site.period) if len(valid_at) else np.zeros(0, bool),
        points,
        weather,
        names,
        ((solar - days) // np.timedelta64(3600, "s")).astype(np.int64),
        (days.astype("datetime64[M]").astype(np.int64) % 12) + 1,
        (days - days.astype("datetime64[Y]").astype("datetime64[D]")).astype(np.int64) + 1,
    )


def concat(parts: Sequence[Shown]) -> Shown:
    """Rows of several parks."""
    arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _ARRAYS}
    points = {name: np.concatenate([part.points[name] for part in parts]) for name in parts[0].points}
    return Shown(**arrays, points=points, names=parts[0].names)


@dataclass(frozen=True)
class References:
    """The baselines that learn, fitted on one past."""

    levels: tuple[float, ...]
    errors: Mapping[tuple[bool, int], Floats]
    months: Mapping[tuple[int, int, int], Floats]
    shares: Floats
    plain: xgb.Booster | None
    plain_levels: tuple[float, ...]

    def quantiles(self, shown: Shown) -> dict[str, npt.NDArray[np.float32]]:
        """Quantiles of each baseline. Shape [n, levels]; NaN where one could not be fitted."""
        result = {
            "smart_persistence_quantiles": self._smart(shown),
            "climatology": self._climatology(shown),
            "plain_xgboost": self._plain(shown),
        }
        night = ~shown.daylight[:, None]
        return {name: np.where(night, 0.0, _tidy(values)).astype(np.float32) for name, values in result.items()}

    def _smart(self, shown: Shown) -> Floats:
        level, ahead = _clear_level(shown.clear), shown.day_ahead
        result = np.repeat(shown.points["smart_persistence"][:, None], len(self.levels), axis=1)
        for (first_day, at), error in self.errors.items():
            rows = (level == at) & (ahead == first_day)
            result[rows] += error
        return result

    def _climatology(self, shown: Shown) -> Floats:
        result = np.maximum(shown.clear, _MIN_CLEAR)[:, None] * self.shares
        key = _month_key(shown)
        for (park, month, hour), values in self.months.items():
            result[key == _number(park, month, hour)] = values
        return result

    def _plain(self, shown: Shown) -> Floats:
        if self.plain is None or len(shown) == 0:
            return np.full((len(shown), len(self.levels)), np.nan)
        raw = self.plain.inplace_predict(_plain_features(shown)).reshape(len(shown), len(self.plain_levels))
        return _between(np.sort(raw, axis=1).astype(np.float64), self.plain_levels, self.levels)


def fit(shown: Shown, target: Floats, levels: tuple[float, ...]) -> References:
    """Fit the baselines that learn.

    Parameters
    ----------
    shown, target : rows that were over and known; NaN targets are left out. Shape [n], fractions of capacity.
    """
    usable = ~np.isnan(target) & shown.daylight
    shown, target = shown.where(usable), np.clip(target[usable], 0.0, 1.0)
    nothing = np.full(len(levels), np.nan)
    clear = np.maximum(shown.clear, _MIN_CLEAR)
    shares = np.quantile(target / clear, levels) if len(target) else nothing
    plain_levels = levels if len(levels) <= len(_PLAIN_LEVELS) else _PLAIN_LEVELS
    return References(
        levels,
        _errors(shown, target, levels),
        _months(shown, target, levels),
        shares,
        _fit_plain(shown, target, plain_levels) if len(target) >= _MIN_SAMPLES else None,
        plain_levels,
    )


def _errors(shown: Shown, target: Floats, levels: tuple[float, ...]) -> dict[tuple[bool, int], Floats]:
    """Error quantiles of smart persistence: by first day or later, and clear-sky level; pooled where few."""
    error, level, ahead = target - shown.points["smart_persistence"], _clear_level(shown.clear), shown.day_ahead
    result = {}
    for first_day in (True, False):
        for at in range(len(_CLEAR_EDGES) + 1):
            rows = (level == at) & (ahead == first_day)
            rows = rows if rows.sum() >= _MIN_SAMPLES else level == at
            rows = rows if rows.sum() >= _MIN_SAMPLES else np.ones(len(error), bool)
            if rows.any():
                result[(first_day, at)] = np.quantile(error[rows], levels)
    return result


def _months(shown: Shown, target: Floats, levels: tuple[float, ...]) -> dict[tuple[int, int, int], Floats]:
    """Quantiles of each park, month and solar hour; each interval counts once, however often forecast."""
    if len(shown) == 0:
        return {}
    once = np.unique(np.stack([shown.park, shown.valid_at.astype(np.int64)]), axis=1, return_index=True)[1]
    shown, target = shown.where(np.isin(np.arange(len(shown)), once)), target[np.sort(once)]
    key = _month_key(shown)
    order = np.argsort(key, kind="stable")
    unique, starts = np.unique(key[order], return_index=True)
    result = {}
    for number, rows in zip(unique, np.split(order, starts[1:]), strict=True):
        if len(rows) >= _MIN_MONTH_SAMPLES:
            park, rest = divmod(int(number), 13 * 24)
            result[(park, *divmod(rest, 24))] = np.quantile(target[rows], levels)
    return result


def _month_key(shown: Shown) -> npt.NDArray[np.int64]:
    key: npt.NDArray[np.int64] = (shown.park * 13 + shown.month) * 24 + shown.hour
    return key


def _number(park: int, month: int, hour: int) -> int:
    return (park * 13 + month) * 24 + hour


def _clear_level(clear: Floats) -> npt.NDArray[np.int64]:
    return np.searchsorted(_CLEAR_EDGES, clear, side="right").astype(np.int64)


def _plain_features(shown: Shown) -> npt.NDArray[np.float32]:
    calendar = np.stack([shown.hour, shown.day_of_year, shown.park], axis=1).astype(np.float32)
    return np.concatenate([shown.weather, calendar], axis=1)


def _fit_plain(shown: Shown, target: Floats, levels: tuple[float, ...]) -> xgb.Booster:
    """XGBoost as it comes: quantile objective, default depth, learning rate 0.1, 100 rounds."""
    parameters = {
        "objective": "reg:quantileerror", "quantile_alpha": list(levels), "tree_method": "hist", "max_depth": 6,
        "eta": 0.1, "seed": _PLAIN_SEED, "nthread": 2, "verbosity": 0,
    }  # fmt: skip
    data = xgb.QuantileDMatrix(_plain_features(shown), target, nthread=2)
    return xgb.train(parameters, data, num_boost_round=_PLAIN_ROUNDS)


def _between(quantiles: Floats, levels: tuple[float, ...], wanted: tuple[float, ...]) -> Floats:
    """Quantiles at other levels: linear between neighbours, flat beyond. Shape [n, wanted]."""
    if levels == wanted:
        return quantiles
    right = np.clip(np.searchsorted(levels, wanted), 1, len(levels) - 1)
    known = np.asarray(levels)
    share = np.clip((np.asarray(wanted) - known[right - 1]) / (known[right] - known[right - 1]), 0.0, 1.0)
    result: Floats = (1.0 - share) * quantiles[:, right - 1] + share * quantiles[:, right]
    return result


def _tidy(quantiles: Floats) -> Floats:
    result: Floats = np.clip(np.sort(quantiles, axis=1), 0.0, 1.0)
    return result


def _columns(run: WeatherRun, hours: Times, names: tuple[str, ...]) -> npt.NDArray[np.float32]:
    """Raw columns of the run at each of `hours`; NaN where it does not reach. Shape [n, names]."""
    result = np.full((len(hours), len(names)), np.nan, np.float32)
    if len(run.valid_at) == 0:
        return result
    at = np.minimum(np.searchsorted(run.valid_at, hours), len(run.valid_at) - 1)
    found = run.valid_at[at] == hours
    for column, name in enumerate(names):
        if name in run.variables:
            result[found, column] = run.variables[name][at[found]]
    return result
