"""What forecast errors cost on a market that settles imbalance.

A desk sells the bid `b` day-ahead and delivers `y`. What is missing is bought at `imbalance_up`, what is too much is
sold at `imbalance_down` (currency per MWh). Against a bid that knew `y`, an hour costs

    c_short · max(b - y, 0) + c_long · max(y - b, 0)
    c_short = imbalance_up - day_ahead,  c_long = day_ahead - imbalance_down

whose expectation is least at the quantile τ* = c_long / (c_long + c_short) (the newsvendor; for wind: Bremnes 2004,
Wind Energy 7; Pinson, Chevallier & Kariniotakis 2007, IEEE Trans. Power Systems 22). Prices of the future are not
known when a bid is made: τ* comes from the mean costs of the price hours **before the issue**, the median until
`MIN_PRICE_HOURS` of them are known. **Equal risk**: every forecaster bids the same τ* of its own distribution, that
is, takes the same chance of falling short; a point forecast bids its point.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pvforecast.known import Floats, Times

MIN_PRICE_HOURS = 168
LOWEST, HIGHEST = 0.01, 0.99
_HOUR = np.timedelta64(3600, "s")


@dataclass(frozen=True)
class Prices:
    """Prices by hour, currency per MWh; shape [k], `valid_at` ascending without repeats (UTC, start of the interval).

    Attributes
    ----------
    short, long : what a missing, or a surplus, MWh costs: the c_short and c_long above; may be negative.
    day_ahead : NaN where not given.
    """

    valid_at: Times
    short: Floats
    long: Floats
    day_ahead: Floats

    @classmethod
    def of_market(cls, valid_at: Times, day_ahead: Floats, up: Floats, down: Floats) -> Prices:
        """From day-ahead and imbalance prices."""
        return cls(valid_at, up - day_ahead, day_ahead - down, day_ahead)

    @classmethod
    def of_spread(cls, valid_at: Times, spread: Floats) -> Prices:
        """From one spread that is paid on either side: τ* is the median."""
        return cls(valid_at, spread, spread.copy(), np.full(len(spread), np.nan))

    def at(self, hours: Times) -> tuple[Floats, Floats]:
        """Cost of a missing and of a surplus MWh at each of `hours`; NaN where no price is. Shape [n] each.

        A price holds for the shortest step of the file, so hourly prices serve quarter hours too.
        """
        if len(self.valid_at) == 0:
            return np.full(len(hours), np.nan), np.full(len(hours), np.nan)
        length = np.diff(self.valid_at).min() if len(self.valid_at) > 1 else _HOUR
        row = np.maximum(np.searchsorted(self.valid_at, hours, side="right") - 1, 0)
        found = (hours >= self.valid_at[row]) & (hours < self.valid_at[row] + length)
        return np.where(found, self.short[row], np.nan), np.where(found, self.long[row], np.nan)

    def best_level(self, issued_at: Times) -> Floats:
        """τ* of each issue time, from the prices of hours that began before it. Shape [n], within [0.01, 0.99]."""
        before = np.searchsorted(self.valid_at, issued_at)
        total = [np.concatenate([[0.0], np.cumsum(np.nan_to_num(cost))])[before] for cost in (self.long, self.short)]
        with np.errstate(divide="ignore", invalid="ignore"):
            best = total[0] / (total[0] + total[1])
        usable = (before >= MIN_PRICE_HOURS) & (total[0] + total[1] > 0)
        result: Floats = np.where(usable, np.clip(np.nan_to_num(best, nan=0.5), LOWEST, HIGHEST), 0.5)
        return result


def bids(quantiles: Floats, levels: tuple[float, ...], wanted: Floats) -> Floats:
    """The quantile of level `wanted[i]` of each row; flat beyond the outermost levels. Shape [n]."""
    level = np.asarray(levels)
    right = np.clip(np.searchsorted(level, wanted), 1, max(len(level) - 1, 1)) if len(level) > 1 else None
    if right is None:
        return quantiles[:, 0].astype(np.float64)
    share = np.clip((wanted - level[right - 1]) / (level[right] - level[right - 1]), 0.0, 1.0)
    row = np.arange(len(quantiles))
    result: Floats = (1.0 - share) * quantiles[row, right - 1] + share * quantiles[row, right]
    return result


def costs(bid: Floats, delivered: Floats, short: Floats, long: Floats) -> Floats:
    """Cost of each hour against a bid that knew what would be delivered: currency for MWh in, shape [n]."""
    result: Floats = short * np.maximum(bid - delivered, 0.0) + long * np.maximum(delivered - bid, 0.0)
    return result
