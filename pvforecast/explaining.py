"""Why a forecast is what it is: how much each group of features moved it, in kilowatts.

The contributions are XGBoost's own SHAP values (exact, tree path dependent; Lundberg et al. 2020, Nature Machine
Intelligence 2) of the model's two XGBoost parts: the boosted quantiles, of one level, and the correction by recent
output. They explain those and nothing else: what the forests, calibration, clipping and the night rule change stands
apart, as `after`.

    base + weather + sun + recent output + calendar + park facts + after = the forecast
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pvforecast import features as fx
from pvforecast.contributions import EXPLAINS, Contributions
from pvforecast.errors import InvalidInput
from pvforecast.features import Features, FeatureSpec
from pvforecast.known import Floats, Known, Times
from pvforecast.model.bundle import Bundle, centre
from pvforecast.model.effects import ParkIds

GROUPS = ("weather", "sun", "recent output", "calendar", "park facts", "other")
"""In the order in which they are told. `other` holds features of a spec newer than this list."""

_SUN = ("sun", "cos_aoi", "ghi_clear", "poa_clear", "dni_clear", "dhi_clear", "clear_sky_power")
_RECENT = (
    "lag_", "mean_", "relative_", "recent_", "last_", "performance", "frost_", "metered_", "generation_", "residual_",
)  # fmt: skip
_CALENDAR = ("hour_", "day_of_year_", "lead_", "local_", "solar_")
_FACTS = ("interval_", "surface_", "latitude", "longitude", "elevation_m", "dc_", "ac_", "capacity", "has_", "mounting")
_WEATHER = (
    "x_", "ghi", "dni", "dhi", "temp_", "wind_", "cloud_", "clear_sky_index", "poa", "physical_power", "humidity",
    "run_", "relative_humidity", "precipitation", "warmest_", "snow", "pressure", "weather_", "kt",
)  # fmt: skip


@dataclass(frozen=True)
class Explanation:
    """Contributions to the forecasts of one park from one issue time, of one quantile level; possible power.

    Attributes
    ----------
    level : the level that is explained, one of those XGBoost was trained for.
    valid_at : shape [n], UTC starts of the hours.
    base_kw : shape [n]: XGBoost's answer before it looks at any feature, its mean over the training.
    groups_kw : group -> shape [n], kW; those of `GROUPS` that have a feature.
    features_kw : feature -> shape [n], kW.
    values : feature -> shape [n], what the feature was; NaN where it was missing.
    forecast_kw : shape [n], the forecast of the whole model at `level`, before export limit and availability.
    """

    park_id: str
    issued_at: np.datetime64
    level: float
    valid_at: Times
    base_kw: Floats
    groups_kw: dict[str, Floats]
    features_kw: dict[str, Floats]
    values: dict[str, Floats]
    forecast_kw: Floats

    @property
    def xgboost_kw(self) -> Floats:
        """XGBoost's own answer, shape [n]."""
        return np.asarray(self.base_kw + np.sum(list(self.groups_kw.values()), axis=0), np.float64)

    @property
    def after_kw(self) -> Floats:
        """What came after XGBoost, shape [n]."""
        return self.forecast_kw - self.xgboost_kw

    def shares(self, at: int) -> dict[str, float]:
        """Of each group in what all groups moved at hour `at`, up or down: |group| / sum of all |group|; 0-1."""
        moved = {name: abs(float(values[at])) for name, values in self.groups_kw.items()}
        total = sum(moved.values())
        return {name: (part / total if total else 0.0) for name, part in moved.items()}

    def as_dict(self, at: int) -> dict[str, Any]:
        """Plain values of hour `at`, for JSON; kW to a tenth of a watt."""
        shares = self.shares(at)
        ranked = sorted(self.features_kw, key=lambda name: -abs(float(self.features_kw[name][at])))
        return {
            "park_id": self.park_id,
            "issued_at": f"{self.issued_at}Z",
            "valid_at": f"{self.valid_at[at]}Z",
            "level": self.level,
            "explains": EXPLAINS,
            "forecast_kw": _kw(self.forecast_kw[at]),
            "base_kw": _kw(self.base_kw[at]),
            "groups": {
                name: {"kw": _kw(values[at]), "share": round(shares[name], 4)}
                for name, values in self.groups_kw.items()
            },
            "xgboost_kw": _kw(self.xgboost_kw[at]),
            "after_kw": _kw(self.after_kw[at]),
            "features": [
                {
                    "name": name,
                    "kw": _kw(self.features_kw[name][at]),
                    "value": None if np.isnan(value := self.values[name][at]) else round(float(value), 4),
                }
                for name in ranked
            ],
        }


def group_of(feature: str) -> str:
    """The group that a feature is told under."""
    for name, prefixes in (("sun", _SUN), ("calendar", _CALENDAR), ("park facts", _FACTS)):
        if feature.startswith(prefixes):
            return name
    if feature.startswith(_WEATHER):
        return "weather"
    return "recent output" if feature.startswith(_RECENT) else "other"


def levels_of(bundle: Bundle) -> tuple[float, ...]:
    """The levels that the bundle's XGBoost part was trained for; the bundle may answer more of them."""
    return bundle.ensemble.levels


def contributions(
    bundle: Bundle, features: Features, level: float, park_id: ParkIds | None = None
) -> npt.NDArray[np.float32]:
    """SHAP values of the boosted model of one level, and of the correction by recent output, which moves all levels.

    Parameters
    ----------
    features : float32, shape [n, len(spec)].
    level : one of `levels_of`.
    park_id : whose row each is, as for `Bundle.predict`.

    Returns
    -------
    Fraction of `ac_capacity_kw`, shape [n, len(spec) + 1]; the base stands last.

    Raises
    ------
    InvalidInput
        XGBoost has no model of this level.
    """
    levels = levels_of(bundle)
    if level not in levels:
        raise InvalidInput(
            f"XGBoost has no model of level {level:g}",
            field="level",
            hint=f"the levels are {', '.join(map(str, levels))}",
        )
    shap = bundle.contributions(features)[:, levels.index(level)]
    if bundle.corrector is not None:
        raw = bundle.raw(features, park_id)
        shap[:, :-1] += bundle.corrector.contributions(features, centre(raw, bundle.quantiles))
    return shap


def grouped(spec: FeatureSpec, shap: npt.NDArray[np.float32]) -> dict[str, Floats]:
    """Sums of `contributions` by group, without the base: group -> shape [n], fraction of capacity."""
    members = np.array([group_of(name) for name in spec.names])
    return {
        group: shap[:, :-1][:, members == group].sum(axis=1, dtype=np.float64)
        for group in GROUPS
        if (members == group).any()
    }


def median_by_group(bundle: Bundle, features: Features, park_id: ParkIds | None = None) -> Contributions:
    """Of the level nearest to the median that XGBoost was trained for; parameters as of `contributions`."""
    level = min(levels_of(bundle), key=lambda one: (abs(one - 0.5), one))
    shap = contributions(bundle, features, level, park_id)
    by_group = grouped(bundle.spec, shap)
    values = np.column_stack([*by_group.values(), shap[:, -1]]).astype(np.float32)
    return Contributions(level, tuple(by_group), values)


def explain(bundle: Bundle, known: Known, issued_at: np.datetime64, hours: int, level: float = 0.5) -> Explanation:
    """Contributions to the forecast of each of the first `hours` hours.

    The features are built as for a forecast of that horizon: what is explained is what was served.

    Raises
    ------
    InvalidInput
        XGBoost, or the bundle, has no such level.
    """
    if level not in bundle.quantiles:
        raise InvalidInput(
            f"the model has no level {level:g}",
            field="level",
            hint=f"the levels are {', '.join(map(str, bundle.quantiles))}",
        )
    valid_at = fx.horizon(issued_at, hours, known.site.period)
    rows = fx.build_known(bundle.spec, known, issued_at, valid_at)
    park_id = [known.site.park_id] * len(rows)
    shap = contributions(bundle, rows, level, park_id)
    capacity = known.site.ac_capacity_kw
    answered = bundle.predict(rows, park_id=park_id)[:, bundle.quantiles.index(level)].astype(np.float64)
    answered = np.where(fx.daylight(known.site, valid_at, known.site.period), answered, 0.0)
    return Explanation(
        known.site.park_id,
        issued_at,
        level,
        valid_at,
        capacity * shap[:, -1].astype(np.float64),
        {name: capacity * values for name, values in grouped(bundle.spec, shap).items()},
        {name: capacity * shap[:, at].astype(np.float64) for at, name in enumerate(bundle.spec.names)},
        {name: rows[:, at].astype(np.float64) for at, name in enumerate(bundle.spec.names)},
        capacity * answered,
    )


def _kw(value: float) -> float:
    return round(float(value), 4)
