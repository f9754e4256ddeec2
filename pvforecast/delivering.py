"""From what a park could produce to what it may deliver: its export limit and its availability.

The model learns from hours in which nothing held the park back, so it forecasts *possible* power. *Delivered* power is
what the meter will show:

    delivered = min(possible · available_fraction, export_limit_kw)

Both are known when a forecast is issued, as facts of the park. The step is monotone: quantiles stay quantiles, and
stay in order.
"""

from __future__ import annotations

import numpy as np

from pvforecast.known import HOUR, Floats, Times
from pvforecast.site import Limit, Site


def delivered(site: Site, possible_kw: Floats, valid_at: Times, interval: np.timedelta64 = HOUR) -> Floats:
    """Power that the park may deliver.

    A limit that holds for a part of an interval counts for that part: the mean over the interval.

    Parameters
    ----------
    possible_kw : kW, shape [n] or [n, levels], means over the intervals.
    valid_at : shape [n], UTC starts of the intervals.

    Returns
    -------
    kW, the shape of `possible_kw`; the same array where nothing limits the park.
    """
    limits = [(limit, _share(limit, valid_at, interval)) for limit in site.availability]
    limits = [(limit, share) for limit, share in limits if share.any()]
    if not limits and site.export_limit_kw is None:
        return possible_kw
    connection = np.inf if site.export_limit_kw is None else site.export_limit_kw
    shape = (len(valid_at), *(1,) * (possible_kw.ndim - 1))
    held, free = np.zeros_like(possible_kw, np.float64), np.ones(len(valid_at))
    for limit, share in limits:
        ceiling = connection if limit.export_limit_kw is None else min(limit.export_limit_kw, connection)
        held += share.reshape(shape) * np.minimum(possible_kw * limit.available_fraction, ceiling)
        free -= share
    result: Floats = held + np.maximum(free, 0.0).reshape(shape) * np.minimum(possible_kw, connection)
    return result


def ceiling_kw(site: Site, valid_at: Times, interval: np.timedelta64 = HOUR) -> Floats:
    """The most that the park can deliver in each interval. kW, shape [n]."""
    return delivered(site, np.full(len(valid_at), site.ac_capacity_kw), valid_at, interval)


def _share(limit: Limit, valid_at: Times, interval: np.timedelta64) -> Floats:
    """The part of each interval in which the limit holds, 0-1. Shape [n]."""
    begin = valid_at.astype("datetime64[s]").astype(np.int64)
    length = int(interval.astype("timedelta64[s]").astype(np.int64))
    last = begin + length if limit.end is None else np.minimum(begin + length, limit.end)
    result: Floats = np.clip((last - np.maximum(begin, limit.begin)) / length, 0.0, 1.0)
    return result
