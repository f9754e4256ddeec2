"""An explanation adds up to the forecast, and says which part of the model it is about."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pvf import show_explanation
from pvf.commands.explain import _hours
from pvforecast import dataset, explaining, features
from pvforecast.errors import InvalidInput
from pvforecast.features import DEFAULT_SPEC
from pvforecast.known import HOUR, History, Known
from pvforecast.model import corrector
from pvforecast.model.bundle import Bundle, centre
from pvforecast.model.columns import base, recent
from pvforecast.model.recipe import Recipe
from tests.bundles import NOW, record, site, tiny_bundle

QUICK = Recipe(corrector_rounds=30)
NOON = 12  # hours after NOW: 18:00 UTC, 11 local


@pytest.fixture(scope="module")
def known() -> Known:
    return record(site()).known_at(NOW)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return tiny_bundle(record(site()))


@pytest.fixture(scope="module")
def explanation(bundle: Bundle, known: Known) -> explaining.Explanation:
    return explaining.explain(bundle, known, NOW, 24)


def test_every_feature_that_the_code_can_build_has_a_group() -> None:
    assert [name for name in DEFAULT_SPEC.names if explaining.group_of(name) == "other"] == []
    told = {
        name: explaining.group_of(name) for name in ("ghi_-1h", "x_aerosol", "relative_humidity", "clear_sky_index")
    }
    assert set(told.values()) == {"weather"}
    assert {explaining.group_of(name) for name in ("poa_clear", "ghi_clear", "sun_azimuth", "cos_aoi")} == {"sun"}
    assert {explaining.group_of(name) for name in ("lag_1d", "relative_24h", "mean_7d_same_hour")} == {"recent output"}
    assert explaining.group_of("lead_hours") == "calendar"
    assert explaining.group_of("elevation_m") == "park facts"


def test_groups_add_up_to_what_xgboost_says_itself(bundle: Bundle, known: Known, explanation) -> None:
    rows = features.build_known(bundle.spec, known, NOW, explanation.valid_at)
    booster, columns = bundle.ensemble.booster, base(bundle.spec.names)
    raw = booster.inplace_predict(rows[:, columns]).reshape(len(rows), -1)[:, bundle.quantiles.index(0.5)]
    np.testing.assert_allclose(explanation.xgboost_kw, raw * known.site.ac_capacity_kw, atol=1e-4)


def test_base_groups_and_what_came_after_add_up_to_the_served_forecast(
    bundle: Bundle, known: Known, explanation
) -> None:
    rows = features.build_known(bundle.spec, known, NOW, features.horizon(NOW, 24))
    served = bundle.predict(rows)[:, 1] * known.site.ac_capacity_kw
    day = features.daylight(known.site, explanation.valid_at)
    np.testing.assert_allclose(explanation.forecast_kw, np.where(day, served, 0.0), atol=1e-6)
    total = explanation.base_kw + sum(explanation.groups_kw.values()) + explanation.after_kw
    np.testing.assert_allclose(total, explanation.forecast_kw, atol=1e-9)


def test_each_group_is_the_sum_of_its_features(explanation) -> None:
    for group, kilowatts in explanation.groups_kw.items():
        own = [values for name, values in explanation.features_kw.items() if explaining.group_of(name) == group]
        np.testing.assert_allclose(sum(own), kilowatts, atol=1e-5)


def test_shares_add_up_to_one_and_weather_matters_at_noon(explanation) -> None:
    shares = explanation.shares(NOON)
    assert sum(shares.values()) == pytest.approx(1.0)
    assert shares["weather"] > 0.1


def test_a_bright_sky_is_told_as_more_power_than_a_dull_one(bundle: Bundle, known: Known) -> None:
    assert known.weather is not None
    told = []
    for factor in (0.1, 1.2):
        variables = {**known.weather.variables, "ghi": known.weather.variables["ghi"] * factor}
        sky = replace(known, weather=replace(known.weather, variables=variables))
        told.append(explaining.explain(bundle, sky, NOW, 24).groups_kw["weather"][NOON])
    assert told[1] > told[0] + 0.1


def test_another_level_is_explained_by_its_own_trees(bundle: Bundle, known: Known, explanation) -> None:
    assert explaining.levels_of(bundle) == (0.1, 0.5, 0.9)
    high = explaining.explain(bundle, known, NOW, 24, 0.9)
    assert high.xgboost_kw[NOON] > explanation.xgboost_kw[NOON]


def test_a_level_nobody_trained_is_refused_by_name(bundle: Bundle, known: Known) -> None:
    with pytest.raises(InvalidInput, match=r"no level 0\.3.*0\.1, 0\.5, 0\.9") as refused:
        explaining.explain(bundle, known, NOW, 24, 0.3)
    assert refused.value.field == "level"
    rows = features.build_known(bundle.spec, known, NOW, features.horizon(NOW, 3))
    with pytest.raises(InvalidInput, match=r"XGBoost has no model of level 0\.3"):
        explaining.contributions(bundle, rows, 0.3)


def test_the_correction_by_recent_output_is_told_as_recent_output(bundle: Bundle, known: Known, explanation) -> None:
    park = record(site())
    issues = [NOW - days * 24 * HOUR + 13 * HOUR for days in range(4, 25)]
    built = dataset.build(park, bundle.spec, issues, 12)
    rows = np.tile(built.where(built.daylight).features, (6, 1))
    forecast = centre(bundle.ensemble.quantiles(rows, bundle.quantiles), bundle.quantiles)
    lately = np.nan_to_num(rows[:, recent(bundle.spec.names)[0]])
    target = forecast[:, 0] + 0.3 * (lately - lately.mean())
    everything, fold = np.ones(len(rows), bool), np.arange(len(rows)) % 2
    learned, _ = corrector.fit(rows, forecast, target, fold, everything, bundle.spec.names, QUICK)
    fixed = replace(bundle, corrector=learned)
    told = explaining.explain(fixed, known, NOW, 24)
    plain = explanation.groups_kw["recent output"]
    assert np.abs(told.groups_kw["recent output"] - plain).max() > 0.001
    np.testing.assert_allclose(told.groups_kw["sun"], explanation.groups_kw["sun"], atol=1e-6)
    total = told.base_kw + sum(told.groups_kw.values()) + told.after_kw
    np.testing.assert_allclose(total, told.forecast_kw, atol=1e-9)
    stranger = replace(known, history=History(known.history.valid_at[:0], np.zeros(0)))
    assert np.abs(explaining.explain(fixed, stranger, NOW, 24).groups_kw["recent output"]).max() == 0.0


def test_a_missing_feature_is_told_as_missing(bundle: Bundle, known: Known) -> None:
    told = explaining.explain(bundle, replace(known, weather=None), NOW, 24).as_dict(NOON)
    values = {feature["name"]: feature["value"] for feature in told["features"]}
    assert values["ghi"] is None
    assert values["surface_tilt"] == 45.0
    assert "XGBoost" in told["explains"]


def test_the_predictors_groups_are_those_explained_here(bundle: Bundle, known: Known, explanation) -> None:
    rows = features.build_known(bundle.spec, known, NOW, features.horizon(NOW, 24))
    served = explaining.median_by_group(bundle, rows)
    assert served.level == 0.5
    capacity = known.site.ac_capacity_kw
    for at, group in enumerate(served.groups):
        np.testing.assert_allclose(served.values[:, at] * capacity, explanation.groups_kw[group], atol=1e-5)
    np.testing.assert_allclose(served.values[:, -1] * capacity, explanation.base_kw, atol=1e-5)


def test_the_plot_shows_an_hour_by_day_and_by_night(explanation, tmp_path: Path) -> None:
    for at in (0, NOON):
        file = tmp_path / f"{at}.png"
        show_explanation.plot(explanation, at, "America/Denver", file)
        assert file.read_bytes().startswith(b"\x89PNG")


def test_the_hour_asked_for_must_lie_ahead_and_be_whole() -> None:
    assert _hours(NOW, NOW) == 1
    assert _hours(NOW + np.timedelta64(60, "s"), NOW + HOUR) == 1
    assert _hours(NOW, NOW + 5 * HOUR) == 6
    for wrong in (NOW - HOUR, NOW + 168 * HOUR, NOW + np.timedelta64(1800, "s")):
        with pytest.raises(InvalidInput) as refused:
            _hours(NOW, wrong)
        assert refused.value.field == "--valid-at"
