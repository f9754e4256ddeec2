"""Parks differ from what their facts tell: learned from their days, and honest about parks with few days or none."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from pvforecast import dataset
from pvforecast.dataset import Rows
from pvforecast.errors import BundleError, InvalidInput
from pvforecast.features import DEFAULT_SPEC
from pvforecast.known import HOUR
from pvforecast.model import bundle as bundles
from pvforecast.model import effects
from pvforecast.model.bundle import Bundle
from pvforecast.model.effects import USUAL, Effects, Levels
from pvforecast.model.recipe import Recipe
from pvforecast.model.training import drawn_evenly, train
from tests.bundles import NOW, record, site

NAMES = DEFAULT_SPEC.names
NOON, AFTERNOON = 5, 8  # of the ten hours of a day
LEVELS = (0.1, 0.5, 0.9)


def fleet(days: dict[str, int], levels: dict[str, float], slope: float = 0.0, seed: int = 1) -> tuple[Rows, np.ndarray]:
    """Ten hours a day around solar noon, each park at its level and with errors that last a day; and the forecast."""
    rng = np.random.default_rng(seed)
    parts, forecasts = [], []
    for park, count in days.items():
        hour = np.tile(np.arange(7, 17), count)
        valid = np.datetime64("2013-03-01T00:00:00", "s") + np.repeat(np.arange(count), 10) * 24 * HOUR + hour * HOUR
        features = np.zeros((len(hour), len(NAMES)), np.float32)
        angle = 2 * np.pi * hour / 24
        features[:, NAMES.index("solar_time_sin")] = np.sin(angle)
        features[:, NAMES.index("solar_time_cos")] = np.cos(angle)
        t = (hour - 12) / 6
        forecast = 0.7 * np.cos(t * np.pi / 2)
        level = levels.get(park, 1.0) + slope * (park == "a") * t
        target = forecast * level * np.exp(np.repeat(rng.normal(0, 0.1, count), 10))
        ids = np.full(len(hour), park, object)
        parts.append(Rows(DEFAULT_SPEC, ids, valid - 6 * HOUR, valid, features, target, np.ones(len(hour), bool)))
        forecasts.append(forecast)
    return dataset.concat(parts), np.concatenate(forecasts)


def fitted(
    days: dict[str, int], levels: dict[str, float], slope: float = 0.0, seed: int = 1
) -> tuple[Effects, np.ndarray]:
    """Effects, and the features of one day."""
    rows, forecast = fleet(days, levels, slope, seed)
    return effects.fit(rows, rows.target, forecast), rows.features[:10]


def at(found: Effects, features: np.ndarray, park: str, hour: int = NOON) -> tuple[float, float]:
    """Factor and its standard error of one hour."""
    one = features[[hour]]
    told = found.levels(one, NAMES, [park])
    return float(told.factor[0]), float(told.deviation[0])


def test_each_park_gets_its_level_beside_the_fleets_average() -> None:
    parks = {"a": 0.9, "b": 1.0, "c": 1.1}
    found, day = fitted(dict.fromkeys(parks, 300), parks)
    for park, level in parks.items():
        factor, error = at(found, day, park)
        assert factor == pytest.approx(level, abs=0.03)
        assert error < 0.015  # after 300 days


def test_an_afternoon_that_is_better_than_the_morning_is_learned() -> None:
    found, day = fitted({"a": 300, "b": 300}, {}, slope=0.2)
    apart = at(found, day, "a", AFTERNOON)[0] - at(found, day, "a", 2)[0]
    assert 0.08 < apart < 0.14  # half of it is the fleet's average


def test_one_park_is_the_fleet_and_is_left_as_it_is() -> None:
    found, day = fitted({"a": 300}, {"a": 0.8})
    assert at(found, day, "a") == (1.0, 0.0)


def test_a_park_of_few_days_leans_on_the_fleet_and_its_error_is_told() -> None:
    others = {f"old-{n}": 300 for n in range(9)}
    errors, gone = [], []
    for days in (3, 14, 60, 300):
        found, day = fitted({**others, "young": days}, {"young": 0.8})
        factor, error = at(found, day, "young")
        gone.append(1.0 - factor)
        errors.append(error)
    assert 0.02 < gone[0] < gone[1] - 0.02
    assert gone[-1] == pytest.approx(0.19, abs=0.03)
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.05
    assert errors[-1] < 0.015


def test_a_park_that_nobody_learned_from_is_the_average_with_the_fleets_spread() -> None:
    found, day = fitted({"a": 300}, {})
    assert at(found, day, "unheard of") == (1.0, pytest.approx(USUAL[0] * 2**0.5, abs=1e-6))
    many, _ = fitted(dict.fromkeys("abcdefgh", 100), {})
    assert at(many, day, "unheard of") == (1.0, pytest.approx(USUAL[0] * (9 / 8) ** 0.5, abs=1e-6))


@pytest.mark.parametrize(("apart", "told"), [(0.0, (0.04, 0.07)), (0.25, (0.15, 0.25))])
def test_the_spread_is_that_of_parks_left_out(apart: float, told: tuple[float, float]) -> None:
    levels = {f"park-{n}": 1 + apart * (-1) ** n for n in range(12)}
    rows, forecast = fleet(dict.fromkeys(levels, 100), levels)
    found = effects.fit(rows, rows.target, forecast, forecast)
    assert told[0] < at(found, rows.features[:10], "new")[1] < told[1]


def test_an_hour_in_quarters_says_what_it_says_at_once() -> None:
    days, levels = {"a": 40, "b": 40}, {"a": 0.9, "b": 1.1}
    rows, forecast = fleet(days, levels)
    once = effects.fit(rows, rows.target, forecast)
    times = np.where(rows.park_id == "a", 4, 1)
    often = np.repeat(np.arange(len(rows)), times)
    quarter = np.concatenate([np.arange(count) for count in times]) * (HOUR // 4)
    cut = replace(rows.where(often), valid_at=rows.valid_at[often] + quarter)
    found = effects.fit(cut, cut.target, forecast[often])
    for park in levels:
        np.testing.assert_allclose(found.parks[park].mean, once.parks[park].mean, atol=1e-8)
        np.testing.assert_allclose(found.parks[park].covariance, once.parks[park].covariance, atol=1e-8)


@pytest.mark.parametrize("hours", [-11, -6, 5, 12])
def test_a_day_is_one_wherever_the_park_stands(hours: int) -> None:
    rows, forecast = fleet({"a": 60, "b": 60}, {"a": 0.9})
    here = effects.fit(rows, rows.target, forecast)
    there = effects.fit(replace(rows, valid_at=rows.valid_at + hours * HOUR), rows.target, forecast)
    for park in ("a", "b"):
        np.testing.assert_array_equal(here.parks[park].mean, there.parks[park].mean)
        np.testing.assert_array_equal(here.parks[park].covariance, there.parks[park].covariance)


def test_days_without_output_that_nobody_flagged_are_no_level() -> None:
    rows, forecast = fleet({"a": 300, "b": 300, "young": 30}, {})
    out = (rows.park_id == "young") & (np.arange(len(rows)) % 300 >= 250)  # five days of thirty
    found = effects.fit(rows, np.where(out, 0.0, rows.target), forecast)
    assert at(found, rows.features[:10], "young")[0] == pytest.approx(1.0, abs=0.04)


@pytest.mark.parametrize("out", [6, 8, 12])
def test_a_young_park_that_was_out_on_most_of_its_days_is_known_by_the_others(out: int) -> None:
    rows, forecast = fleet({"a": 300, "b": 300, "young": 14}, {})
    dark = (rows.park_id == "young") & (np.arange(len(rows)) % 300 < 10 * out) & (np.arange(len(rows)) >= 6_000)
    found = effects.fit(rows, np.where(dark, 0.0, rows.target), forecast)
    assert at(found, rows.features[:10], "young")[0] == pytest.approx(1.0, abs=0.06)


def test_outages_of_a_park_that_gives_little_are_no_level_either() -> None:
    rows, forecast = fleet({"a": 300, "b": 300, "low": 60}, {"low": 0.4})
    without = at(effects.fit(rows, rows.target, forecast), rows.features[:10], "low")[0]
    dark = (rows.park_id == "low") & (np.arange(len(rows)) // 10 % 4 == 0)  # each fourth day
    found = effects.fit(rows, np.where(dark, 0.0, rows.target), forecast)
    assert at(found, rows.features[:10], "low")[0] == pytest.approx(without, abs=0.05)


def test_bad_weather_is_no_outage() -> None:
    rows, forecast = fleet(dict.fromkeys("abcdefgh", 300), {}, seed=4)
    rng = np.random.default_rng(5)
    cloudy = np.repeat(rng.random(300) < 0.3, 10)
    day = np.where(cloudy, -0.15 + np.repeat(rng.normal(0, 0.1, 300), 10), 0.065)
    rough = np.exp(np.repeat(rng.normal(0, 0.3, 300), 10))
    target = rows.target.copy()
    target[rows.park_id == "a"] = (forecast[:3_000] * (1 + day)).clip(0)  # on average as forecast
    target[rows.park_id == "b"] = forecast[:3_000] * rough / rough.mean()
    found = effects.fit(rows, target, forecast)
    for park in "ab":
        factor, error = at(found, rows.features[:10], park)
        assert factor == pytest.approx(1.0, abs=0.03)
        assert error > 0.005


def test_the_error_of_a_low_level_is_as_large_as_that_of_a_high_one() -> None:
    covariance = np.diag(np.square([0.1, 0.0, 0.0]))
    parks = {
        park: effects.Effect(np.array([level, 0.0, 0.0]), covariance) for park, level in (("low", -0.5), ("high", 0.5))
    }
    _, day = fitted({"a": 10}, {})
    for park in parks:
        told = Effects(parks, covariance).levels(day[[NOON]], NAMES, [park])
        band = told.widened(told.applied(np.full((1, 3), 0.4)), LEVELS)
        assert band[0, 2] - band[0, 1] == pytest.approx(0.1 * 0.4 * 1.2816, rel=1e-3)


def test_nothing_is_learned_where_nothing_can_be() -> None:
    rows, forecast = fleet({"a": 10, "b": 10, "c": 10}, {})
    for dull in (np.zeros(len(rows)), np.ones(len(rows))):  # nothing forecast, or all of the capacity
        found = effects.fit(rows, rows.target, dull)
        assert at(found, rows.features[:10], "a")[0] == 1.0
    two_bright = np.where(rows.park_id == "a", forecast, 1.0)
    found = effects.fit(rows, rows.target, two_bright)
    assert at(found, rows.features[:10], "a")[1] < 0.5 * at(found, rows.features[:10], "b")[1]


def test_a_park_that_gives_nothing_is_believed() -> None:
    rows, forecast = fleet({"a": 300, "b": 300, "dead": 300}, {})
    found = effects.fit(rows, np.where(rows.park_id == "dead", 0.0, rows.target), forecast)
    assert at(found, rows.features[:10], "dead")[0] < 0.5
    half, forecast = fleet({"a": 300, "b": 300, "half": 15}, {"half": 0.4})
    found = effects.fit(half, half.target, forecast)
    assert at(found, half.features[:10], "half")[0] < 0.65  # though far from what parks are wont to be


def test_an_inverter_at_its_limit_does_not_hide_the_level_of_other_hours() -> None:
    rows, forecast = fleet(dict.fromkeys("abcd", 100), {"a": 1.2})
    strong = np.clip(forecast * 1.5, 0.0, 1.0)
    limited = effects.fit(rows, np.clip(rows.target * 1.5, 0.0, 1.0), strong)
    morning = 3  # at 0.91 of capacity
    rise = at(limited, rows.features[:10], "a", morning)[0] - at(limited, rows.features[:10], "b", morning)[0]
    assert rise > 0.11  # 0.09 if it did


def test_the_band_of_parks_that_nobody_learned_from_holds() -> None:
    rng = np.random.default_rng(2)
    n = 4_000
    quantiles = np.tile([0.4 - 0.03 * 1.2816, 0.4, 0.4 + 0.03 * 1.2816], (n, 1))
    truth = 0.4 * (1 + rng.normal(0, 0.12, n)) + rng.normal(0, 0.03, n)
    wide = Levels(np.ones(n), np.full(n, 0.12)).widened(quantiles, LEVELS)

    def held(band: np.ndarray) -> float:
        return float(((band[:, 0] <= truth) & (truth <= band[:, 2])).mean())

    assert held(quantiles) < 0.6
    assert held(wide) == pytest.approx(0.8, abs=0.02)
    np.testing.assert_array_equal(wide[:, 1], quantiles[:, 1])


def test_widened_bands_ascend_within_the_possible_and_known_parks_keep_theirs() -> None:
    rng = np.random.default_rng(3)
    quantiles = np.sort(rng.random((500, 5)), axis=1)
    deviation = np.where(np.arange(500) % 2, 0.3, 0.0)
    wide = Levels(np.ones(500), deviation).widened(quantiles, (0.05, 0.25, 0.5, 0.75, 0.95))
    assert (np.diff(wide, axis=1) >= 0).all()
    assert (wide >= 0).all()
    assert (wide <= 1).all()
    np.testing.assert_array_equal(wide[::2], quantiles[::2])


def test_how_much_of_the_error_is_the_levels() -> None:
    normal = np.array([-1.2816, 0.0, 1.2816])
    quantiles = np.tile(0.5 + 0.1 * normal, (100, 1))  # a standard error of 0.1, the level's in it
    park_id = ["young"] * 50 + ["old"] * 50
    own = Levels(np.ones(100), np.repeat([0.16, 0.02], 50))
    found, of_new = effects.shares(own, Levels(np.ones(100), np.full(100, 0.2)), quantiles, LEVELS, park_id)
    assert found == {"old": pytest.approx(0.01, abs=1e-3), "young": pytest.approx(0.64, abs=1e-3)}
    assert effects.shares(own, own, quantiles[:, :1], (0.5,), park_id) == ({"old": 0.0, "young": 0.0}, 0.0)
    rest = 0.1**2 - (0.08**2 + 0.01**2) / 2
    assert of_new == pytest.approx(0.1**2 / (0.1**2 + rest), abs=1e-3)


def test_features_without_solar_time_have_a_level_alone() -> None:
    rows, _ = fleet({"a": 1}, {})
    np.testing.assert_array_equal(effects.terms(rows.features[:, :3], NAMES[:3]), np.tile([1.0, 0.0, 0.0], (10, 1)))


def test_each_park_gives_its_share_of_the_rows_and_no_more() -> None:
    park = np.repeat([0, 1, 2], [1_000, 10, 500])
    taken = drawn_evenly(park, 300, seed=1)
    assert np.bincount(park[taken]).tolist() == [100, 10, 100]
    np.testing.assert_array_equal(taken, drawn_evenly(park, 300, seed=1))


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    recipe = Recipe(
        quantiles=LEVELS, boosted=LEVELS, rounds=8, max_depth=3, eta=0.4, max_bin=32, trees=8, corrector_rounds=5,
        calibration_folds=2,
    )  # fmt: skip
    low = record(site("sim-b", 4.98), seed=2)
    parks = [record(site("sim-a"), seed=1), replace(low, power_kw=0.75 * low.power_kw)]
    everything = np.datetime64("1990-01-01", "s")
    rows = dataset.concat(
        [dataset.build(park, DEFAULT_SPEC, dataset.daily_issues(park, everything, NOW), 24) for park in parks]
    )
    return train(rows, recipe, NOW)


def test_a_bundle_tells_the_parks_apart_by_their_ids(bundle: Bundle) -> None:
    known = bundle.effects
    assert known is not None
    assert set(known.parks) == {"sim-a", "sim-b"}
    rows = bundle.golden_features[:20]
    width = {
        park: np.ptp(bundle.predict(rows, park_id=[park] * 20), axis=1).mean() for park in ("sim-a", "sim-b", "new")
    }
    assert width["new"] > 1.1 * max(width["sim-a"], width["sim-b"])


def test_forecasts_are_at_the_level_of_the_park_they_are_of(bundle: Bundle) -> None:
    rows = bundle.golden_features
    usual, low = (bundle.predict(rows, park_id=[park] * len(rows))[:, 1] for park in ("sim-a", "sim-b"))
    assert low.sum() / usual.sum() == pytest.approx(0.75, abs=0.07)
    average = bundle.predict(rows)[:, 1].sum()
    assert low.sum() < average < usual.sum()


def test_each_row_needs_a_park(bundle: Bundle) -> None:
    for wrong in (["sim-a"], "sim-a"):
        with pytest.raises(InvalidInput, match="park"):
            bundle.predict(bundle.golden_features[:5], park_id=wrong)


def test_golden_rows_answer_for_the_levels_too(bundle: Bundle) -> None:
    assert bundle.golden_parks is not None
    assert {"sim-a", "sim-b"} < set(bundle.golden_parks)  # and one that nobody learned from
    files = bundle.files
    info = json.loads(files["bundle.json"])
    info["effects"]["parks"]["sim-b"]["mean"][0] += 0.1
    with pytest.raises(BundleError, match="other answers"):
        bundles.from_files({**files, "bundle.json": json.dumps(info).encode()})


def test_rows_of_several_parks_are_answered_as_each_alone(bundle: Bundle) -> None:
    rows = bundle.golden_features[:4]
    park_id = ["sim-a", "new", "sim-b", "sim-a"]
    together = bundle.predict(rows, park_id=park_id)
    alone = [bundle.predict(rows[[n]], park_id=[park])[0] for n, park in enumerate(park_id)]
    np.testing.assert_array_equal(together, np.stack(alone))


def test_effects_are_the_same_when_read_again(bundle: Bundle) -> None:
    again = bundles.from_files(bundle.files)
    rows = bundle.golden_features
    for park in ("sim-a", "sim-b", "new"):
        park_id = [park] * len(rows)
        ours, theirs = bundle.predict(rows, park_id=park_id), again.predict(rows, park_id=park_id)
        np.testing.assert_array_equal(ours.view(np.uint32), theirs.view(np.uint32))


def test_code_that_knows_no_levels_refuses_a_bundle_with_them(bundle: Bundle) -> None:
    info = json.loads(bundle.files["bundle.json"])
    del info["effects"], info["golden_parks"]
    with pytest.raises(BundleError, match="other answers"):
        bundles.from_files({**bundle.files, "bundle.json": json.dumps(info).encode()})


def test_a_bundle_of_before_answers_every_park_alike(bundle: Bundle) -> None:
    old = bundles.from_files(replace(bundle, effects=None, golden_parks=None).files)
    rows = bundle.golden_features
    np.testing.assert_array_equal(old.predict(rows, park_id=["new"] * len(rows)), old.predict(rows))
