"""Joint scenarios: each park's quantiles come out as they went in, and the sum of the parks is covered."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr, ndtri

from pvforecast.errors import BundleError, InvalidInput
from pvforecast.portfolio import Dependence
from pvforecast.portfolio.dependence import distances_km, nearest_correlation
from pvforecast.portfolio.fitting import MIN_DAYS, Forecasts, fit
from pvforecast.portfolio.marginals import nodes, power_at, score_of
from pvforecast.portfolio.scenarios import Member, aggregate, energy, scenarios
from pvforecast.portfolio.served import total
from tests.bundles import site

LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
HOUR, DAY = np.timedelta64(3_600, "s"), np.timedelta64(86_400, "s")
BEGIN = np.datetime64("2021-03-01T00:00:00", "s")
MEAN, DEVIATION = 0.45, 0.12


def fleet(parks: int = 30, seed: int = 3) -> dict[str, tuple[float, float]]:
    random = np.random.default_rng(seed)
    return {f"p{n:02d}": (46 + random.uniform(0, 3), 5 + random.uniform(0, 4)) for n in range(parks)}


def errors(places: dict[str, tuple[float, float]], days: int, hours: np.ndarray, seed: int) -> np.ndarray:
    """Normal scores [parks, days, hours] that fall off with distance otherwise than the fitted form: a Gaussian bell
    in space, and a random walk back to the mean in time, plus noise of each park's own."""
    random = np.random.default_rng(seed)
    where = np.array(list(places.values()))
    bell = np.exp(-((distances_km(where[:, 0], where[:, 1]) / 150.0) ** 2))
    root = np.linalg.cholesky(bell + 1e-6 * np.eye(len(places)))
    apart = np.abs(hours[:, None] - hours[None, :])
    in_time = np.linalg.cholesky(0.3 + 0.7 * np.exp(-apart / 4.0))
    shared = root @ random.standard_normal((days, len(places), len(hours))) @ in_time.T
    mixed = 0.8 * shared + 0.6 * random.standard_normal(shared.shape)
    return np.moveaxis(mixed, 0, 1)


def made(places: dict[str, tuple[float, float]], score: np.ndarray, hours: np.ndarray, bias: float = 0.0) -> Forecasts:
    """Forecasts that are right about each park: normal, with a spread of their own; `bias` moves the truth."""
    parks, days, count = score.shape
    issued = np.repeat(BEGIN + np.arange(days) * DAY, count)
    valid = issued + np.tile(hours.astype(int), days) * HOUR
    target = np.clip(MEAN + bias + DEVIATION * score, 0, 1).ravel()
    quantiles = np.tile(MEAN + DEVIATION * ndtri(LEVELS), (len(target), 1))
    names = np.repeat(np.array(list(places), object), days * count)
    return Forecasts(names, np.tile(issued, parks), np.tile(valid, parks), target, quantiles, LEVELS)


def members(places: dict[str, tuple[float, float]], hours: int, capacity_kw: float = 1_000.0) -> list[Member]:
    power = np.tile((MEAN + DEVIATION * ndtri(LEVELS)) * capacity_kw, (hours, 1))
    return [Member(park, power, capacity_kw, *place) for park, place in places.items()]


@pytest.fixture(scope="module")
def learned() -> tuple[dict[str, tuple[float, float]], Dependence]:
    places, hours = fleet(), np.arange(6, 19)
    return places, fit(made(places, errors(places, 250, hours, 1), hours), places)


class TestAggregatedCoverage:
    """30 simulated parks, 2,500 days: each level of the sum within two points of nominal."""

    hours = np.array([8.0, 12.0, 16.0])

    def covered(self, places: dict[str, tuple[float, float]], dependence: Dependence) -> tuple[np.ndarray, np.ndarray]:
        score = errors(places, 2_500, self.hours, 2)
        drawn = scenarios(
            members(places, len(self.hours)), LEVELS, BEGIN + self.hours.astype(int) * HOUR, dependence, 8_000, 0
        )
        power = np.clip(MEAN + DEVIATION * score, 0, 1).sum(axis=0) * 1_000.0
        hourly = (power[:, :, None] <= aggregate(drawn, LEVELS)).mean(axis=(0, 1))
        return hourly, (power.sum(axis=1)[:, None] <= energy(drawn, LEVELS)).mean(axis=0)

    def test_every_level_of_the_sum_is_within_two_points(self, learned):
        hourly, daily = self.covered(*learned)
        assert np.abs(hourly - LEVELS).max() <= 0.02
        assert np.abs(daily - LEVELS).max() <= 0.03  # 2,500 days: two standard errors of the median are 0.02

    def test_parks_taken_as_independent_or_as_one_fail(self, learned):
        places, dependence = learned
        assert np.abs(self.covered(places, dependence.independent())[0] - LEVELS).max() > 0.1
        assert np.abs(self.covered(places, dependence.comonotone())[0] - LEVELS).max() > 0.05

    def test_a_park_that_was_never_seen_is_placed_by_its_distance(self, learned):
        places, dependence = learned
        strangers = {f"new{n}": place for n, place in enumerate(places.values())}
        hourly, _ = self.covered(strangers, dependence)
        assert np.abs(hourly - LEVELS).max() <= 0.03


class TestParksOfUnknownLevel:
    """One park, ten hours; half of its variance is the same in all of them."""

    hours = np.arange(8.0, 18.0)
    share = 0.5

    def levels_reached(self, dependence: Dependence) -> np.ndarray:
        """How often the energy of the day lay at or under each level."""
        random, days = np.random.default_rng(5), 3_000
        place = {"new": (46.0, 5.0)}
        weather = errors(place, days, self.hours, 6)[0]
        score = np.sqrt(1 - self.share) * weather + np.sqrt(self.share) * random.standard_normal((days, 1))
        power = np.clip(MEAN + DEVIATION * score, 0, 1) * 1_000.0
        drawn = scenarios(
            members(place, len(self.hours)), LEVELS, BEGIN + self.hours.astype(int) * HOUR, dependence, 8_000, 0
        )
        return (power.sum(axis=1)[:, None] <= energy(drawn, LEVELS)).mean(axis=0)

    def test_their_energy_of_a_day_is_covered(self, learned):
        known = dataclasses.replace(learned[1], level_of_others=self.share)
        assert np.abs(self.levels_reached(known) - LEVELS).max() <= 0.03
        assert np.abs(self.levels_reached(learned[1]) - LEVELS).max() > 0.05

    def test_their_level_is_nobody_elses(self, learned):
        places, dependence = learned
        first, second = list(places.items())[:2]
        known = dataclasses.replace(dependence, level=np.array([0.75] + [0.0] * 29), level_of_others=0.3)
        asked = [(park, *place) for park, place in (first, second)] + [("new", *second[1])]
        before, after = dependence.correlation(asked), known.correlation(asked)
        rest = np.sqrt([0.25, 1.0, 0.7])
        np.testing.assert_allclose(np.diag(after), 1.0)
        off = ~np.eye(3, dtype=bool)
        np.testing.assert_allclose(after[off], (before * rest * rest[:, None])[off])

    def test_the_bytes_tell_their_shares_and_older_ones_tell_none(self, learned):
        known = dataclasses.replace(learned[1], level=np.linspace(0, 0.5, 30), level_of_others=0.6)
        again = Dependence.from_bytes(known.to_bytes())
        assert again.level_of_others == 0.6
        np.testing.assert_array_equal(again.level, known.level)
        older = known.to_bytes().replace(b'"level', b'"lavel')
        assert Dependence.from_bytes(older).level_of_others == 0.0
        assert not Dependence.from_bytes(older).levels([("p29", None, None), ("new", 46.0, 5.0)]).any()


class TestScenarios:
    def test_hold_each_parks_quantiles_whatever_their_number(self, learned):
        places, dependence = learned
        for n in (99, 1_000):
            drawn = scenarios(members(places, 4), LEVELS, BEGIN + np.arange(4) * HOUR, dependence, n, 7)
            corners = members(places, 4)[0].power_kw.T.astype(np.float32)  # [levels, hours]
            at_or_under = (drawn <= corners[:, None, None, :] + 1e-3).mean(axis=1)
            assert np.abs(at_or_under - np.array(LEVELS)[:, None, None]).max() <= 1.0 / n + 1e-9

    def test_of_one_seed_are_equal_to_the_bit_and_of_another_are_not(self, learned):
        places, dependence = learned
        first, again, other = (
            scenarios(members(places, 6), LEVELS, BEGIN + np.arange(6) * HOUR, dependence, 50, seed)
            for seed in (1, 1, 2)
        )
        assert first.tobytes() == again.tobytes()
        assert first.tobytes() != other.tobytes()

    def test_follow_from_the_bytes_as_from_the_fit(self, learned):
        places, dependence = learned
        again = Dependence.from_bytes(dependence.to_bytes())
        hours = BEGIN + np.arange(6) * HOUR
        draws = [scenarios(members(places, 6), LEVELS, hours, one, 50, 1) for one in (dependence, again)]
        assert again.to_bytes() == dependence.to_bytes()
        assert draws[0].tobytes() == draws[1].tobytes()

    def test_are_dark_at_night_and_never_beyond_what_is_possible(self):
        power = np.vstack([np.zeros((2, 7)), np.tile(np.linspace(10, 95, 7), (2, 1))])
        ceiling = np.array([100.0, 100.0, 60.0, 100.0])
        drawn = scenarios(
            [Member("a", power, ceiling, 50.0, 5.0)], LEVELS, BEGIN + np.arange(4) * HOUR, Dependence.prior(), 500
        )
        assert (drawn[:, :, :2] == 0).all()
        assert drawn[:, :, 2].max() == 60.0
        assert 95 < drawn[:, :, 3].max() <= 100.0

    def test_of_parks_near_each_other_go_together_and_hours_do_too(self):
        places = {"here": (50.0, 5.0), "next": (50.02, 5.0), "far": (40.0, 20.0)}
        drawn = scenarios(members(places, 24), LEVELS, BEGIN + np.arange(24) * HOUR, Dependence.prior(), 2_000)
        at_noon = np.corrcoef(drawn[:, :, 12].T)
        in_time = np.corrcoef(drawn[:, 0, :].T)
        assert at_noon[0, 1] > 0.6 > 0.3 > at_noon[0, 2]
        assert in_time[6, 7] > in_time[6, 9] > in_time[6, 18] > 0.1

    def test_serve_a_hundred_parks_for_two_days(self):
        places = fleet(100)
        drawn = scenarios(members(places, 48), LEVELS, BEGIN + np.arange(48) * HOUR, Dependence.prior(), 200)
        assert drawn.shape == (200, 100, 48)
        assert (np.diff(aggregate(drawn, LEVELS), axis=1) >= 0).all()

    @pytest.mark.parametrize(
        ("change", "named"),
        [
            ({"parks": ["p00", "p00"]}, "parks"),
            ({"parks": []}, "parks"),
            ({"n": 1}, "n"),
            ({"n": 10**9}, "n"),
            ({"nan": True}, "p00"),
            ({"hours": 3}, "p00"),
            ({"levels": (0.5, 0.1)}, "levels"),
            ({"nowhere": True}, "places"),
        ],
    )
    def test_refuse_what_they_cannot_draw_from_and_name_it(self, change, named):
        one = members({"p00": (50.0, 5.0)}, 4)[0]
        if change.get("nan"):
            one = dataclasses.replace(one, power_kw=np.full((4, 7), np.nan))
        if change.get("nowhere"):
            one = dataclasses.replace(one, latitude=None)
        asked = [one for _ in change.get("parks", ["p00"])]
        hours = BEGIN + np.arange(change.get("hours", 4)) * HOUR
        with pytest.raises(InvalidInput) as refused:
            scenarios(asked, change.get("levels", LEVELS), hours, Dependence.prior(), change.get("n", 10))
        assert refused.value.field == named


class TestFit:
    def test_finds_how_correlation_falls_off_with_distance(self, learned):
        places, dependence = learned
        where = np.array(list(places.values()))
        kilometres = distances_km(where[:, 0], where[:, 1])
        truth = 0.64 * np.exp(-((kilometres / 150.0) ** 2))
        found = dependence.correlation([(park, None, None) for park in places])
        apart = ~np.eye(len(places), dtype=bool)
        assert np.abs(found - truth)[apart].mean() < 0.05
        assert np.allclose(np.diag(found), 1.0, atol=1e-6)

    def test_does_not_take_a_bias_for_correlation(self, learned):
        places, dependence = learned
        hours = np.arange(6, 19)
        biased = fit(made(places, errors(places, 250, hours, 1), hours, bias=0.1), places)
        ids = [(park, None, None) for park in places]
        assert np.abs(biased.correlation(ids) - dependence.correlation(ids)).mean() < 0.02

    def test_gives_equal_bytes_for_equal_forecasts_in_any_order(self):
        places, hours = fleet(4), np.arange(8, 17)
        forecasts = made(places, errors(places, 40, hours, 1), hours)
        shuffled = np.random.default_rng(0).permutation(len(forecasts.target))
        other = Forecasts(*(getattr(forecasts, f.name)[shuffled] for f in dataclasses.fields(forecasts)[:-1]), LEVELS)
        assert fit(forecasts, places).to_bytes() == fit(other, places).to_bytes()

    def test_holds_with_gaps_nights_and_a_park_of_few_days(self):
        places, hours = fleet(6), np.arange(0, 24)
        score = errors(places, 60, hours, 4)
        forecasts = made(places, score, hours)
        random = np.random.default_rng(1)
        target = np.where(random.uniform(size=len(forecasts.target)) < 0.3, np.nan, forecasts.target)
        late = (forecasts.park_id == "p05") & (forecasts.issued_at < BEGIN + 57 * DAY)
        night = (forecasts.valid_at.astype("datetime64[h]").astype(int) % 24) < 6
        quantiles = np.where(night[:, None], 0.0, forecasts.quantiles)
        fitted = fit(
            dataclasses.replace(
                forecasts,
                target=np.where(late, np.nan, np.where(night & ~np.isnan(target), 0.0, target)),
                quantiles=quantiles,
            ),
            places,
        )
        found = fitted.correlation([(park, None, None) for park in places])
        assert np.linalg.eigvalsh(found)[0] > 0
        assert np.abs(fitted.seen[5]).max() < np.abs(fitted.seen[:5, :5]).max() + 0.05

    def test_stands_on_the_prior_where_there_are_too_few_days_or_one_park(self):
        places, hours = fleet(3), np.arange(8, 17)
        short = fit(made(places, errors(places, MIN_DAYS - 1, hours, 1), hours), places)
        assert short.layers == Dependence.prior().layers
        one = fit(made(fleet(1), errors(fleet(1), 60, hours, 1), hours), fleet(1))
        assert one.layers[0].kilometres == pytest.approx(Dependence.prior().layers[0].kilometres, rel=0.05)

    def test_refuses_a_park_without_a_place(self):
        places, hours = fleet(2), np.arange(8, 17)
        with pytest.raises(InvalidInput, match="p01"):
            fit(made(places, errors(places, 30, hours, 1), hours), {"p00": (50.0, 5.0)})


class TestDependence:
    def test_refuses_bytes_that_are_not_its_own(self):
        for data in (b"", b"ARROW1 but no more", Dependence.prior().to_bytes()[:-40]):
            with pytest.raises(BundleError):
                Dependence.from_bytes(data)

    @settings(max_examples=25, deadline=None)
    @given(st.integers(0, 10_000))
    def test_makes_a_valid_correlation_of_anything_symmetric(self, seed):
        random = np.random.default_rng(seed)
        raw = random.uniform(-1, 1, (8, 8))
        fixed = nearest_correlation(np.where(np.eye(8, dtype=bool), 1.0, (raw + raw.T) / 2))
        assert np.linalg.eigvalsh(fixed)[0] > 0
        assert np.allclose(np.diag(fixed), 1.0)
        assert np.abs(fixed).max() <= 1.0 + 1e-9


class TestMarginals:
    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.floats(0.0, 1.0), min_size=7, max_size=7), st.floats(0.001, 0.999))
    def test_powers_of_scores_give_the_scores_back_where_power_rises(self, quantiles, level):
        score, corners = nodes(np.sort([quantiles]), LEVELS, 1.0)
        power = power_at(score, corners, np.array([ndtri(level)]))[:, 0]
        again = score_of(power, score, corners)
        assert power_at(score, corners, again)[0, 0] == pytest.approx(power[0], abs=1e-9)

    def test_the_score_of_a_power_that_many_scores_give_is_their_middle(self):
        score, corners = nodes(np.array([[0, 0, 0, 0, 0.2, 0.4, 0.5]]), LEVELS, 1.0)
        middle = score_of(np.array([0.0]), score, corners)[0]
        assert ndtr(middle) < 0.1
        assert middle == pytest.approx((score[0] + 0.0) / 2)


SITES = {name: site(name, 40.0) for name in ("sim-a", "sim-b")}


class TestServed:
    """The service's own answers become one forecast of the sum."""

    def predictions(self, **other: object) -> list[dict[str, object]]:
        hours = [f"2024-06-01T{hour:02d}:00:00Z" for hour in range(9, 13)]
        power = {"0.1": [10.0] * 4, "0.5": [20.0] * 4, "0.9": [30.0] * 4}
        one = {"park_id": "sim-a", "valid_at": hours, "resolution": "PT1H", "power_kw": power}
        return [one, {**one, "park_id": "sim-b", **other}]

    def test_the_sum_of_neighbours_lies_between_independence_and_adding_up(self):
        found = total(self.predictions(), SITES, Dependence.prior(), n=4_000)
        assert found.levels == (0.1, 0.5, 0.9)
        assert found.power_kw.shape == (4, 3)
        assert found.power_kw[:, 1] == pytest.approx(40.0, abs=0.7)
        assert (found.power_kw[:, 2] < 60.0).all()
        assert (found.power_kw[:, 2] > 40 + 10 * np.sqrt(2)).all()
        assert found.energy_kwh[0] < found.energy_kwh[1] == pytest.approx(160.0, rel=0.02)

    def test_only_hours_that_all_parks_have_are_summed(self):
        later = [f"2024-06-01T{hour}:00:00Z" for hour in range(11, 15)]
        found = total(self.predictions(valid_at=later), SITES, Dependence.prior(), n=100)
        assert [str(hour)[11:13] for hour in found.valid_at] == ["11", "12"]

    def test_a_park_never_gives_more_than_its_connection_lets_out(self):
        sites = {**SITES, "sim-b": dataclasses.replace(SITES["sim-b"], export_limit_kw=31.0)}
        levels = (0.999,)
        free, held = (total(self.predictions(), s, Dependence.prior(), levels, n=2_000) for s in (SITES, sites))
        assert held.power_kw.max() < free.power_kw.max() - 3
        assert held.power_kw.max() <= 40 + 31

    @pytest.mark.parametrize(
        ("other", "named"),
        [
            ({"park_id": "sim-a"}, "parks"),
            ({"park_id": "sim-c"}, "sites"),
            ({"power_kw": {"0.5": [1.0] * 4}}, "power_kw"),
            ({"resolution": "PT15M"}, "resolution"),
            ({"valid_at": [f"2024-06-02T{hour:02d}:00:00Z" for hour in range(9, 13)]}, "valid_at"),
        ],
    )
    def test_what_does_not_fit_together_is_refused_by_name(self, other, named):
        with pytest.raises(InvalidInput) as refused:
            total(self.predictions(**other), SITES, Dependence.prior(), n=100)
        assert refused.value.field == named
