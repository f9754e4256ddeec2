"""Aggregated bands of simulated portfolios: `make bench NAME=portfolio`.

Six regions of 36 parks, 400 km wide, all simulated. The weather forecast errs by a cloud field that drifts with each
day's wind, by a day's regional error, and by noise of each park: none of it has the form that the dependence is
fitted in. A quantile XGBoost learns from the first 400 days, the dependence from its forecasts of the next 300, the
coverage of the region's power is counted on the last 400. Beside it: the same with each park's true quantiles instead
of learned ones, which leaves the dependence as the only thing to be wrong about; parks taken as independent; as one.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xgboost as xgb
from scipy.special import ndtr, ndtri

from pvforecast.portfolio import Dependence
from pvforecast.portfolio.fitting import Forecasts, fit
from pvforecast.portfolio.scenarios import Member, aggregate, energy, scenarios

Floats = npt.NDArray[np.float64]

LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
REGIONS, PARKS, DAYS = 6, 36, (400, 300, 400)
HOURS = np.arange(5, 20)
N = 400
_DAY = np.timedelta64(86_400, "s")
_HOUR = np.timedelta64(3_600, "s")
_BEGIN = np.datetime64("2020-01-01T00:00:00", "s")


@dataclass(frozen=True)
class Region:
    """A simulated region; arrays are [parks, days, hours]. Power is a fraction of capacity."""

    places: dict[str, tuple[float, float]]
    capacity_kw: Floats
    clear: Floats
    index: Floats
    power: Floats


def simulate(seed: int, parks: int = PARKS, days: int = sum(DAYS), hours: npt.NDArray[np.int64] = HOURS) -> Region:
    """Clear-sky power, forecast clear-sky index, and the power that came."""
    random = np.random.default_rng(seed)
    x, y = random.uniform(0, 400, (2, parks))  # km
    latitude, longitude = 45.0 + y / 111.2, 5.0 + x / (111.2 * np.cos(np.radians(47.0)))
    places = {f"sim-{n:03d}": (float(a), float(b)) for n, (a, b) in enumerate(zip(latitude, longitude, strict=True))}
    season = np.radians(-23.4) * np.cos(2 * np.pi * (np.arange(days) + 10) / 365.25)
    north, angle = np.radians(47.0), np.radians(15.0 * (hours + 0.5 - 12.0))
    height = np.sin(north) * np.sin(season)[:, None] + np.cos(north) * np.cos(season)[:, None] * np.cos(angle)
    clear = np.broadcast_to(1.1 * np.clip(height, 0, None) ** 1.15, (parks, days, len(hours)))
    index = 0.15 + 0.95 * ndtr(_field(random, x, y, days, hours, kilometres=300.0, hold_h=30.0) * 1.3)
    own = random.standard_normal((parks, days, len(hours)))
    for at in range(1, len(hours)):
        own[:, :, at] = 0.6 * own[:, :, at - 1] + 0.8 * own[:, :, at]
    error = (
        0.62 * _field(random, x, y, days, hours, kilometres=90.0, hold_h=5.0)
        + 0.48 * random.standard_normal((1, days, 1))
        + 0.62 * own
    )
    power = _power(clear, index, error)
    return Region(places, random.uniform(500, 9_000, parks), clear, index, power)


def _power(clear: Floats, index: Floats, error: Floats | float) -> Floats:
    """A sky that was forecast clear is surer than one forecast grey; errors are skewed, and clipped at capacity."""
    spread = 0.05 + 0.30 * np.clip(1.1 - index, 0, 1) ** 0.7
    came = np.clip(index + spread * (np.expm1(0.35 * np.asarray(error)) / 0.35), 0.03, 1.2)
    return np.clip(clear * came, 0.0, 1.0)


def true_quantiles(region: Region, days: slice) -> Floats:
    """Of each park, given its forecast; its error is known. Shape [parks, days, hours, levels]."""
    deviation = np.sqrt(0.62**2 + 0.48**2 + 0.62**2)
    clear, index = region.clear[:, days], region.index[:, days]
    return np.stack([_power(clear, index, deviation * ndtri(level)) for level in LEVELS], axis=-1)


def _field(
    random: np.random.Generator,
    x: Floats,
    y: Floats,
    days: int,
    hours: npt.NDArray[np.int64],
    *,
    kilometres: float,
    hold_h: float,
) -> Floats:
    """A Gaussian field of unit variance that drifts with each day's wind. Shape [parks, days, hours]."""
    waves = 60
    k = random.standard_normal((2, waves, days)) / kilometres
    wind = random.standard_normal((2, 1, days)) * 25.0  # km/h
    turn = random.standard_normal((waves, days)) / hold_h
    phase = random.uniform(0, 2 * np.pi, (waves, days))
    total = np.zeros((len(x), days, len(hours)))
    for w in range(waves):
        moving = k[0, w] * wind[0, 0] + k[1, w] * wind[1, 0] + turn[w]
        space = np.outer(x, k[0, w]) + np.outer(y, k[1, w]) + phase[w]
        total += np.cos(space[:, :, None] - moving[:, None] * (hours - hours[0]))
    return total * np.sqrt(2.0 / waves)


def _learn(regions: list[Region]) -> xgb.Booster:
    inputs = np.concatenate([_inputs(region, slice(0, DAYS[0])) for region in regions])
    target = np.concatenate([region.power[:, : DAYS[0]].ravel() for region in regions])
    chosen = np.random.default_rng(0).permutation(np.flatnonzero(inputs[:, 0] > 0))[:150_000]
    settings = {
        "objective": "reg:quantileerror", "quantile_alpha": list(LEVELS), "max_depth": 5, "eta": 0.15,
        "min_child_weight": 100, "subsample": 0.6, "nthread": 2, "seed": 0,
    }  # fmt: skip
    return xgb.train(settings, xgb.QuantileDMatrix(inputs[chosen], target[chosen], nthread=2), 60)


def _inputs(region: Region, days: slice) -> npt.NDArray[np.float32]:
    clear, index = region.clear[:, days], region.index[:, days]
    return np.column_stack([clear.ravel(), index.ravel(), (clear * index).ravel()]).astype(np.float32)


def _shifts(booster: xgb.Booster, region: Region, days: slice) -> Floats:
    """What makes each level's coverage exact in the region over `days`, as a bundle's calibration does."""
    lit = region.clear[:, days] > 0.05
    residual = region.power[:, days][lit][:, None] - _predict(booster, region, days, np.zeros(len(LEVELS)))[lit]
    return np.array([np.quantile(residual[:, at], level) for at, level in enumerate(LEVELS)])


def _predict(booster: xgb.Booster, region: Region, days: slice, shifts: Floats) -> Floats:
    """Shape [parks, days, hours, levels]."""
    raw = np.sort(booster.inplace_predict(_inputs(region, days)), axis=1).astype(np.float64) + shifts
    raw = np.clip(np.sort(raw, axis=1), 0, 1)
    shape = region.clear[:, days].shape
    return np.where(region.clear[:, days, :, None] > 0, raw.reshape(*shape, len(LEVELS)), 0.0)


def as_forecasts(region: Region, quantiles: Floats, days: slice) -> Forecasts:
    """As `fit` wants them: issued at midnight."""
    parks, count, hours = region.power[:, days].shape
    issued = _BEGIN + np.arange(count) * _DAY
    valid = issued[:, None] + HOURS[None, :hours] * _HOUR
    return Forecasts(
        np.repeat(np.array(list(region.places), object), count * hours),
        np.tile(np.repeat(issued, hours), parks),
        np.tile(valid.ravel(), parks),
        region.power[:, days].ravel(),
        quantiles.reshape(-1, quantiles.shape[-1]),
        LEVELS,
    )


def coverage(region: Region, quantiles: Floats, days: slice, dependence: Dependence, n: int = N) -> dict[str, Floats]:
    """How often the region's power (each hour) and its energy (each day) lay at or under each aggregated level."""
    power = np.einsum("pdh,p->dh", region.power[:, days], region.capacity_kw)
    sunny = region.clear[0, days] > 0.05
    hours_under, hour_count, days_under = np.zeros(len(LEVELS)), 0, np.zeros(len(LEVELS))
    for day in range(power.shape[0]):
        hours = np.flatnonzero(sunny[day])
        members = [
            Member(park, quantiles[at, day, hours] * region.capacity_kw[at], region.capacity_kw[at])
            for at, park in enumerate(region.places)
        ]
        drawn = scenarios(members, LEVELS, _BEGIN + HOURS[hours] * _HOUR, dependence, n, seed=day)
        under = power[day, hours][:, None] <= aggregate(drawn, LEVELS)
        hours_under, hour_count = hours_under + under.sum(axis=0), hour_count + len(hours)
        days_under += power[day, hours].sum() <= energy(drawn, LEVELS)
    return {"hour": hours_under / hour_count, "day": days_under / power.shape[0]}


def main() -> None:
    """Coverage by level, of the fitted dependence and of the two wrong ones."""
    regions = [simulate(seed) for seed in range(REGIONS)]
    booster = _learn(regions)
    learned, tested = slice(DAYS[0], DAYS[0] + DAYS[1]), slice(DAYS[0] + DAYS[1], sum(DAYS))
    found: dict[str, list[dict[str, Floats]]] = {
        "fitted": [],
        "true_marginals": [],
        "independent": [],
        "comonotone": [],
    }
    parks, fit_s, draw_s, size = [], 0.0, 0.0, 0
    for region in regions:
        shifts = _shifts(booster, region, learned)
        forecast, quantiles = (_predict(booster, region, days, shifts) for days in (learned, tested))
        begun = time.perf_counter()
        dependence = fit(as_forecasts(region, forecast, learned), region.places)
        fit_s += time.perf_counter() - begun
        size = len(dependence.to_bytes())
        lit = region.clear[:, tested] > 0.05
        parks.append((region.power[:, tested][lit][:, None] <= quantiles[lit]).mean(axis=0))
        begun = time.perf_counter()
        found["fitted"].append(coverage(region, quantiles, tested, dependence))
        draw_s += time.perf_counter() - begun
        known = fit(as_forecasts(region, true_quantiles(region, learned), learned), region.places)
        found["true_marginals"].append(coverage(region, true_quantiles(region, tested), tested, known))
        if region is regions[0]:
            found["independent"].append(coverage(region, quantiles, tested, dependence.independent()))
            found["comonotone"].append(coverage(region, quantiles, tested, dependence.comonotone()))
    print(f"SIMULATED: {REGIONS} regions of {PARKS} parks, {DAYS[2]} test days each. The last dependence:")
    print(*dependence.layers, sep="\n")
    nominal = np.array(LEVELS)
    result: dict[str, object] = {"levels": list(LEVELS), "single_park": np.mean(parks, axis=0).round(4).tolist()}
    for name, regions_found in found.items():
        for what in ("hour", "day"):
            mean = np.mean([one[what] for one in regions_found], axis=0)
            result[f"{name}_{what}"] = mean.round(4).tolist()
            result[f"{name}_{what}_worst_points"] = round(float(np.abs(mean - nominal).max()) * 100, 2)
    result |= {"fit_s": round(fit_s / REGIONS, 2), "scenarios_s_a_day": round(draw_s / (REGIONS * DAYS[2]), 4)}
    print(json.dumps(result | {"bytes": size}))


if __name__ == "__main__":
    main()
