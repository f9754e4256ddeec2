"""A simulated park with real physics, and a small quantile booster trained on it: in well under two seconds."""

from __future__ import annotations

import numpy as np
import xgboost as xgb

from pvforecast import features
from pvforecast.features import DEFAULT_SPEC, FeatureSpec
from pvforecast.known import HOUR, ParkRecord, Times, WeatherRun
from pvforecast.model import calibration
from pvforecast.model.bundle import Bundle
from pvforecast.model.columns import base
from pvforecast.model.ensemble import Ensemble
from pvforecast.site import Site

START = np.datetime64("2013-05-01T06:00:00", "s")
DAYS = 40
NOW = START + (DAYS - 1) * 24 * HOUR
"""The newest issue time that the simulated record covers; a weather run of 48 h begins there."""

_SKY = FeatureSpec(("ghi_clear", "physical_power"))


def site(park_id: str = "sim-a", ac_capacity_kw: float = 3.05) -> Site:
    return Site(park_id, 39.7406, -105.1775, 1829.0, 45.0, 158.0, ac_capacity_kw, "America/Denver")


def record(park: Site, days: int = DAYS, seed: int = 1) -> ParkRecord:
    """`days` of hourly power that follow cloudy weather, with a 48 h weather run every 24 h. Simulated."""
    rng = np.random.default_rng(seed)
    hours = features.horizon(START - 24 * HOUR, (days + 3) * 24)
    clear = _columns(park, None, hours)[:, 0].astype(np.float64)
    cloud = np.clip(np.repeat(rng.uniform(0.2, 1.0, len(hours) // 6 + 1), 6)[: len(hours)], 0, 1)
    weather = {"ghi": clear * cloud, "temp_air": 15.0 + 8.0 * rng.standard_normal(len(hours)).cumsum() / 40.0}
    whole = WeatherRun("simulated", START, START, hours, weather)
    power = _columns(park, whole, hours)[:, 1] * rng.normal(0.9, 0.05, len(hours)) * park.ac_capacity_kw
    runs = tuple(_run(whole, START + day * 24 * HOUR) for day in range(days))
    return ParkRecord(park, runs, hours, hours + HOUR, np.clip(np.nan_to_num(power), 0.0, park.ac_capacity_kw))


def tiny_bundle(
    history: ParkRecord,
    *,
    spec: FeatureSpec = DEFAULT_SPEC,
    quantiles: tuple[float, ...] = (0.1, 0.5, 0.9),
    seed: int = 0,
    rounds: int = 12,
) -> Bundle:
    """A booster over `spec` on the record's issue times. Different seeds give different bundles."""
    issues = [START + day * 24 * HOUR for day in range(10, DAYS - 4)]
    blocks = [
        (features.build_known(spec, history.known_at(issued_at), issued_at, hours), history.truth(hours))
        for issued_at in issues
        for hours in [features.horizon(issued_at, 48)]
    ]
    x = np.concatenate([block[0] for block in blocks])
    y = np.concatenate([block[1] for block in blocks]) / history.site.ac_capacity_kw
    matrix = xgb.QuantileDMatrix(x[:, base(spec.names)], np.nan_to_num(y), nthread=1, max_bin=64)
    parameters = {
        "objective": "reg:quantileerror", "quantile_alpha": list(quantiles), "max_depth": 3, "eta": 0.4,
        "tree_method": "hist", "max_bin": 64, "subsample": 0.8, "seed": seed, "nthread": 1,
    }  # fmt: skip
    booster = xgb.train(parameters, matrix, rounds)
    ensemble = Ensemble(spec.names, quantiles, booster, None, None, (-23.44, 23.44))
    info = {"seed": seed, "trained_until": "2000-01-01T00:00:00"}
    moves = np.tile(np.linspace(-0.05, 0.05, len(quantiles)), (*calibration.SHAPE, 1))
    return Bundle(ensemble, None, moves, spec, quantiles, x[:8], info)


def _run(whole: WeatherRun, at: np.datetime64) -> WeatherRun:
    covered = (whole.valid_at >= at - 2 * HOUR) & (whole.valid_at < at + 48 * HOUR)
    return WeatherRun(
        whole.source,
        at,
        at,
        whole.valid_at[covered],
        {name: values[covered] for name, values in whole.variables.items()},
    )


def _columns(park: Site, weather: WeatherRun | None, hours: Times) -> np.ndarray:
    empty = ParkRecord(park, (), hours[:0], hours[:0], np.zeros(0)).known_at(START).history
    return features.build(_SKY, park, weather, empty, hours[0], hours)
