"""The cost of imbalance: the formula, the best bid, and no price of the future."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pvf import price_file
from pvforecast.errors import InvalidInput
from pvforecast.evaluation import imbalance
from pvforecast.evaluation.imbalance import Prices
from pvforecast.known import HOUR

START = np.datetime64("2024-01-01T00:00:00", "s")
LEVELS = tuple(n / 100 for n in range(1, 100))


def market(hours: int, short: float = 30.0, long: float = 10.0) -> Prices:
    valid_at, day_ahead = START + np.arange(hours) * HOUR, np.full(hours, 50.0)
    return Prices.of_market(valid_at, day_ahead, day_ahead + short, day_ahead - long)


def test_an_hour_costs_the_penalty_of_its_side() -> None:
    delivered = np.array([1.0, 1.0, 1.0])
    short, long = market(3).at(START + np.arange(3) * HOUR)
    cost = imbalance.costs(np.array([1.5, 0.5, 1.0]), delivered, short, long)
    assert cost.tolist() == [15.0, 5.0, 0.0]  # 0.5 MWh too little at 30, 0.5 MWh too much at 10


def test_no_bid_costs_less_than_the_one_at_the_best_level() -> None:
    prices = market(400)
    best = float(prices.best_level(np.array([START + 300 * HOUR]))[0])
    assert best == pytest.approx(10 / (10 + 30))
    sample = np.random.default_rng(1).beta(2, 3, 20_000)

    def mean_cost(level: float) -> float:
        bid = np.full(len(sample), np.quantile(sample, level))
        return float(imbalance.costs(bid, sample, np.full(len(sample), 30.0), np.full(len(sample), 10.0)).mean())

    assert mean_cost(best) <= min(mean_cost(level) for level in (0.05, 0.15, 0.35, 0.5, 0.8))


def test_a_bid_knows_no_price_of_its_hour_or_later() -> None:
    before, issue = market(600), START + 300 * HOUR
    later = Prices(
        before.valid_at,
        np.where(before.valid_at < issue, before.short, 1.0),
        np.where(before.valid_at < issue, before.long, 9e9),
        before.day_ahead,
    )
    assert before.best_level(np.array([issue])) == later.best_level(np.array([issue]))
    assert before.best_level(np.array([START + 50 * HOUR])) == 0.5  # too few prices yet


def test_a_bid_is_the_quantile_of_its_level() -> None:
    quantiles = np.tile(np.array(LEVELS), (4, 1))
    bids = imbalance.bids(quantiles, LEVELS, np.array([0.25, 0.255, 0.001, 0.999]))
    assert bids == pytest.approx([0.25, 0.255, 0.01, 0.99])
    assert imbalance.bids(np.array([[0.7]]), (0.5,), np.array([0.2])) == pytest.approx([0.7])


def test_an_hourly_price_holds_for_its_quarter_hours_and_no_longer() -> None:
    asked = START + np.array([-1, 0, 15, 45, 60, 119, 120]) * np.timedelta64(60, "s")
    short, _ = market(2).at(asked)
    assert np.isnan(short).tolist() == [True, False, False, False, False, False, True]


def test_one_spread_bids_the_median() -> None:
    valid_at = START + np.arange(300) * HOUR
    assert Prices.of_spread(valid_at, np.full(300, 12.0)).best_level(valid_at[-1:]) == 0.5


def test_a_price_file_is_read_whatever_its_order_and_offset(tmp_path: Path) -> None:
    file = tmp_path / "prices.csv"
    file.write_text(
        "valid_at,day_ahead,imbalance_up,imbalance_down\n"
        "2024-01-01T02:00:00+01:00,50,80,40\n2024-01-01T00:00:00Z,40,45,30\n"
    )
    prices = price_file.read(file)
    assert prices.valid_at.tolist() == [START.item(), (START + HOUR).item()]
    assert prices.short.tolist() == [5.0, 30.0]
    assert prices.long.tolist() == [10.0, 10.0]
    file.write_text("valid_at,spread\n2024-01-01T00:00:00Z,7\n")
    assert price_file.read(file).short.tolist() == [7.0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("valid_at,day_ahead\n2024-01-01T00:00:00Z,5\n", "has no column 'imbalance_up'"),
        ("valid_at,spread\n2024-01-01T00:00:00,5\n", "row 2: '2024-01-01T00:00:00' is no ISO instant with offset"),
        ("valid_at,spread\n2024-01-01T00:00:00Z,five\n", "row 2: spread 'five' is no number"),
        ("valid_at,spread\n2024-01-01T00:00:00Z,5\n2024-01-01T00:00:00Z,6\n", "has 2024-01-01T00:00:00 twice"),
        ("", "can't be read"),
    ],
)
def test_a_bad_price_file_is_refused_with_its_row(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "prices.csv"
    file.write_text(text)
    with pytest.raises(InvalidInput, match=says.replace("(", "\\(")):
        price_file.read(file)
