"""What is learned is decided by the recipe and by what was known: by nothing else."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import numpy as np
import pytest

from pvforecast import dataset
from pvforecast import features as fx
from pvforecast.dataset import Rows
from pvforecast.errors import NotEnoughData
from pvforecast.features import DEFAULT_SPEC, FeatureSpec, from_weather
from pvforecast.known import HOUR, History, ParkRecord, WeatherRun
from pvforecast.model import calibration, training
from pvforecast.model.bundle import Bundle
from pvforecast.model.effects import USUAL
from pvforecast.model.ensemble import ANY_SEASON
from pvforecast.model.recipe import Recipe
from pvforecast.model.training import MIN_ROWS, apart, drawn, folds, train
from pvforecast.model.widths import FEWEST, MOST, measured, on_each_rung, without
from pvforecast.portfolio import Dependence
from pvforecast.portfolio.fitting import Forecasts
from tests.bundles import NOW, START, record, site

LEVELS = (0.1, 0.5, 0.9)
RECIPE = Recipe(
    quantiles=LEVELS, boosted=LEVELS, rounds=8, max_depth=3, eta=0.4, max_bin=32, trees=8, corrector_rounds=5,
    calibration_folds=2,
)  # fmt: skip
NOTHING = History(np.zeros(0, "datetime64[s]"), np.zeros(0))
AS_OF = NOW - 8 * 24 * HOUR + 14 * HOUR  # 14:00 in Golden


@pytest.fixture(scope="module")
def rows() -> Rows:
    """Two parks, all of their record; `AS_OF` lies within."""
    parks = [record(site("sim-a"), seed=1), record(site("sim-b", 4.98), seed=2)]
    everything = np.datetime64("1990-01-01", "s")
    return dataset.concat(
        [dataset.build(park, DEFAULT_SPEC, dataset.daily_issues(park, everything, NOW), 48) for park in parks]
    )


@pytest.fixture(scope="module")
def bundle(rows: Rows) -> Bundle:
    return train(rows, RECIPE, AS_OF)


def test_the_same_training_gives_the_same_bundle(rows: Rows, bundle: Bundle) -> None:
    assert train(rows, RECIPE, AS_OF).bundle_id == bundle.bundle_id


@pytest.mark.parametrize("poison", [1e6, 0.0])
def test_what_was_metered_only_later_teaches_nothing(rows: Rows, bundle: Bundle, poison: float) -> None:
    later = rows.valid_at + HOUR > AS_OF
    assert 200 < later.sum() < len(rows)
    poisoned = replace(rows, target=np.where(later, poison, rows.target))
    assert train(poisoned, RECIPE, AS_OF).bundle_id == bundle.bundle_id


def test_what_was_issued_only_later_teaches_nothing(rows: Rows, bundle: Bundle) -> None:
    later = rows.issued_at >= AS_OF
    poisoned = rows.features.copy()
    poisoned[later] = 7.0
    assert train(replace(rows, features=poisoned), RECIPE, AS_OF).bundle_id == bundle.bundle_id


def test_one_known_value_more_does_change_the_bundle(rows: Rows, bundle: Bundle) -> None:
    """Otherwise the tests above could not fail."""
    [first, *_] = np.flatnonzero(rows.daylight & (rows.valid_at + HOUR == AS_OF))  # just over
    moved = rows.target.copy()
    moved[first] = 1.0 - moved[first]
    assert train(replace(rows, target=moved), RECIPE, AS_OF).bundle_id != bundle.bundle_id


def test_the_last_hour_known_is_the_one_that_is_over(rows: Rows) -> None:
    known = dataset.known_by(rows, AS_OF)
    assert known.valid_at.max() <= AS_OF - HOUR
    assert known.issued_at.max() < AS_OF
    assert known.daylight.all()
    assert not np.isnan(known.target).any()


def test_too_little_history_is_refused_with_the_count(rows: Rows) -> None:
    with pytest.raises(NotEnoughData, match=rf"^as_of: \d+ metered daylight rows before .*{MIN_ROWS}") as caught:
        train(rows, RECIPE, START + 4 * 24 * HOUR)
    assert caught.value.hint
    nothing = replace(rows, target=np.full(len(rows), np.nan))
    with pytest.raises(NotEnoughData, match="0 metered daylight rows"):
        train(nothing, RECIPE, AS_OF)


def test_the_bundle_says_what_it_was_trained_on(bundle: Bundle, rows: Rows) -> None:
    assert bundle.info["parks"] == ["sim-a", "sim-b"]
    assert bundle.info["trained_until"] == str(AS_OF)
    assert bundle.info["trained_rows"] == len(dataset.known_by(rows, AS_OF))
    assert bundle.info["recipe_hash"] == RECIPE.hash
    assert Recipe.from_dict(bundle.info["recipe"]) == RECIPE
    assert set(bundle.info["versions"]) == {"xgboost", "numpy", "python"}
    assert len(bundle.golden_features) == 64


@pytest.fixture(scope="module")
def later(rows: Rows) -> Rows:
    """Metered daylight rows that `bundle` has not seen."""
    known = dataset.known_by(rows, NOW)
    return known.where(known.issued_at >= AS_OF)


def test_it_learned_to_follow_the_weather(bundle: Bundle, later: Rows) -> None:
    median = bundle.predict(later.features)[:, 1]
    spread = np.abs(later.target - np.median(later.target)).mean()
    assert np.abs(later.target - median).mean() < 0.3 * spread


def test_without_weather_it_falls_back_on_the_sun(rows: Rows, bundle: Bundle, later: Rows) -> None:
    blind = later.features.copy()
    blind[:, [from_weather(name) for name in DEFAULT_SPEC.names]] = np.nan
    elevation = later.features[:, DEFAULT_SPEC.names.index("sun_elevation")]

    def low_over_high(model: Bundle) -> float:
        guess = model.predict(blind)[:, 1]
        return float(guess[elevation < 16].mean() / guess[elevation > 50].mean())

    never_shown = train(rows, replace(RECIPE, without_weather=10**6), AS_OF)
    assert low_over_high(bundle) < 0.3
    assert low_over_high(never_shown) > 0.6  # noon power at sunset, before the model was shown missing weather


def test_it_says_what_missing_weather_does_to_the_band(bundle: Bundle, later: Rows) -> None:
    """As it turns out on days that neither the model nor the measurement have seen."""
    widths: dict[str, float] = bundle.info["band_width"]
    assert list(widths) == ["full", "no recent generation", "no weather", "neither"]
    assert widths["full"] == 1.0
    assert widths["no weather"] > 1.5  # simulated power follows simulated weather closely
    full = calibration.rungs(later.features, DEFAULT_SPEC.names) == 0

    def width(**lacking: bool) -> float:
        features = without(later.features[full], DEFAULT_SPEC.names, **lacking)
        return float(calibration.width(bundle.predict(features).astype(float), LEVELS).mean())

    for rung, lacking in (("no weather", {"weather": True}), ("no recent generation", {"recent": True})):
        later_on = width(**{"weather": False, "recent": False} | lacking) / width(weather=False, recent=False)
        assert widths[rung] == pytest.approx(later_on, rel=0.35)


def test_the_band_is_measured_on_the_same_rows_of_every_rung(rows: Rows) -> None:
    names = DEFAULT_SPEC.names
    asked = measured(rows.features, np.ones(len(rows), bool), names)
    assert len(np.unique(asked)) == len(asked) == MOST
    shown = on_each_rung(rows.features[asked], names)
    assert calibration.rungs(shown, names).tolist() == np.repeat(range(4), MOST).tolist()
    assert shown[:MOST].tobytes() == rows.features[asked].tobytes()
    few = np.arange(len(rows)) < FEWEST - 1
    assert len(measured(rows.features, few, names)) == 0


def test_where_nearly_nothing_is_metered_nothing_is_said_of_the_band(rows: Rows) -> None:
    never = replace(rows, features=without(rows.features, DEFAULT_SPEC.names, weather=False, recent=True))
    assert train(never, RECIPE, AS_OF).info["band_width"] is None


def test_a_horizon_of_one_day_can_be_learned_too(rows: Rows) -> None:
    day_ahead = train(rows.where(rows.lead_hours < 24), RECIPE, AS_OF)
    assert np.isfinite(day_ahead.calibration).all()


def test_days_are_dealt_into_folds_whole(rows: Rows) -> None:
    known = dataset.known_by(rows, AS_OF)
    fold, day = folds(known, 4), known.valid_at.astype("datetime64[D]")
    assert all(len(np.unique(fold[day == d])) == 1 for d in np.unique(day))
    shares = np.bincount(fold, minlength=4) / len(fold)
    assert shares.min() > 0.15


def test_fewer_days_than_folds_are_too_little_to_calibrate_on(rows: Rows) -> None:
    known = dataset.known_by(rows, AS_OF)
    one_day = replace(known, valid_at=np.full(len(known), known.valid_at.min()))
    with pytest.raises(NotEnoughData, match="1 days, too few for 2 folds"):
        train(one_day, RECIPE, AS_OF)


def test_at_most_so_many_rows_are_drawn_and_always_the_same(rows: Rows) -> None:
    first, again, other = (drawn(rows, 100, seed) for seed in (1, 1, 2))
    assert len(first) == 100
    np.testing.assert_array_equal(first.valid_at, again.valid_at)
    assert (first.valid_at != other.valid_at).any()
    assert drawn(rows, 10**6, 1) is rows


# --- beyond what was seen ----------------------------------------------------------------------------------------


def test_a_brighter_season_than_was_learned_is_not_capped_by_it() -> None:
    """Learned in January, asked in June: trees alone could not answer more than January's noon."""
    site_ = site("winter", 100.0)
    winter = np.datetime64("2013-01-01T07:00:00", "s") + np.arange(40) * 24 * HOUR
    summer = np.datetime64("2013-06-10T06:00:00", "s") + np.arange(5) * 24 * HOUR

    def rows_of(days: np.ndarray) -> Rows:
        blocks = []
        rng = np.random.default_rng(3)
        for begin in days:
            hours = fx.horizon(begin - 2 * HOUR, 52)
            sky = fx.build(FeatureSpec(("ghi_clear",)), site_, None, NOTHING, begin, hours)[:, 0].astype(float)
            run = WeatherRun("nwp", begin, begin, hours, {"ghi": sky * rng.uniform(0.3, 1.0, len(hours))})
            made = fx.physical_power(site_, run, hours) * 0.9 * site_.ac_capacity_kw
            park = ParkRecord(site_, (run,), hours, hours + HOUR, np.nan_to_num(made))
            blocks.append(dataset.build(park, DEFAULT_SPEC, [begin], 24))
        return dataset.concat(blocks)

    bundle = train(rows_of(winter), RECIPE, np.datetime64("2013-03-01", "s"))
    asked = rows_of(summer)
    asked = asked.where(asked.daylight)
    low = replace(bundle, ensemble=replace(bundle.ensemble, seen=ANY_SEASON))  # as if June had been seen
    errors = [np.abs(asked.target - b.predict(asked.features)[:, 1]).mean() for b in (bundle, low)]
    assert errors[0] < 0.7 * errors[1]
    assert errors[0] < 0.06


# --- the recipe ------------------------------------------------------------------------------------------------------


def _unlike(rows: Rows) -> Rows:
    """The same, and the second park's power halved."""
    return replace(rows, target=np.where(rows.park_id == "sim-b", 0.5, 1.0) * rows.target)


def test_parks_are_asked_about_by_models_that_never_saw_them(rows: Rows) -> None:
    known = _unlike(rows).where(~np.isnan(rows.target))
    of_strangers = apart(known, known.target, RECIPE, {})
    assert of_strangers is not None
    low = known.park_id == "sim-b"
    assert of_strangers[low].sum() / known.target[low].sum() > 1.6  # as if it gave what the other does
    assert of_strangers[~low].sum() / known.target[~low].sum() < 0.6


def test_parks_of_one_site_are_left_out_together(rows: Rows) -> None:
    known = _unlike(rows).where(~np.isnan(rows.target))
    two = {"sim-a": (39.7401, -105.18), "sim-b": (39.7402, -105.1798)}
    assert apart(known, known.target, RECIPE, two) is None  # nobody is left to learn from
    third = replace(known, park_id=np.full(len(known), "other", object))
    both = dataset.concat([known, third])
    of_strangers = apart(both, both.target, RECIPE, two)
    assert of_strangers is not None
    other = both.park_id == "other"
    ratio = of_strangers[~other].sum() / known.target.sum()
    assert ratio == pytest.approx(of_strangers[other].sum() / known.target.sum(), rel=0.1)  # each knows both levels


@pytest.mark.parametrize("days", [8, 12])
def test_two_parks_in_their_first_weeks_are_trained_with_what_is_usual(rows: Rows, days: int) -> None:
    young = rows.where((rows.valid_at > AS_OF - days * 24 * HOUR) & (rows.lead_hours < 24))
    bundle = train(young, RECIPE, AS_OF)
    assert bundle.effects is not None
    assert bundle.effects.spread[0, 0] == pytest.approx(1.5 * USUAL[0] ** 2)  # nobody could be left out


def test_how_errors_go_together_is_learned_from_hours_with_weather(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Forecasts] = []

    def fit(made: Forecasts, _: object) -> Dependence:
        given.append(made)
        return replace(Dependence.prior(), parks=("sim-a", "sim-b"))

    monkeypatch.setattr(training, "fit_dependence", fit)
    train(rows, RECIPE, AS_OF, places={"sim-a": (39.7, -105.2), "sim-b": (39.9, -105.2)})
    metered = int((~np.isnan(rows.target) & rows.daylight & (rows.valid_at < AS_OF)).sum())
    assert len(given[0].target) == pytest.approx(0.8 * metered, rel=0.03)  # a fifth was shown without


def test_a_new_parks_error_is_what_parks_left_out_show(rows: Rows) -> None:
    usual, unlike = (train(known, RECIPE, AS_OF).effects for known in (rows, _unlike(rows)))
    assert usual is not None
    assert unlike is not None
    assert unlike.spread[0, 0] > 2.0 * usual.spread[0, 0]


def test_a_recipe_survives_json() -> None:
    for recipe in (Recipe(), RECIPE, Recipe(spec=FeatureSpec(("ghi", "poa"), version=1))):
        again = Recipe.from_dict(json.loads(json.dumps(recipe.as_dict())))
        assert again == recipe
        assert again.hash == recipe.hash


def test_any_setting_changes_the_hash() -> None:
    base = Recipe()
    other = {"spec": FeatureSpec(DEFAULT_SPEC.names[1:]), "quantiles": LEVELS, "boosted": LEVELS}
    numbers = {f.name: getattr(base, f.name) + 1 for f in fields(base) if f.name not in other}
    hashes = {replace(base, **{name: value}).hash for name, value in (numbers | other).items()}
    assert len(hashes | {base.hash}) == len(fields(base)) + 1
    assert Recipe().hash == base.hash


def test_settings_of_a_newer_version_are_refused() -> None:
    with pytest.raises(TypeError, match="learning_rate"):
        Recipe.from_dict({**Recipe().as_dict(), "learning_rate": 0.1})
