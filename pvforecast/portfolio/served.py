"""From forecasts as the service answers them to the forecast of their sum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pvforecast.delivering import ceiling_kw
from pvforecast.errors import InvalidInput
from pvforecast.known import HOUR
from pvforecast.portfolio.dependence import Dependence
from pvforecast.portfolio.scenarios import Floats, Member, Times, aggregate, energy, scenarios
from pvforecast.site import PERIODS, Site


@dataclass(frozen=True)
class Total:
    """Power and energy of several parks together.

    Attributes
    ----------
    valid_at : shape [hours], UTC starts: the hours that every park's forecast has.
    power_kw : shape [hours, levels], delivered power.
    energy_kwh : shape [levels], over all hours.
    """

    levels: tuple[float, ...]
    valid_at: Times
    power_kw: Floats
    energy_kwh: Floats


def total(
    predictions: Sequence[Mapping[str, Any]],
    sites: Mapping[str, Site],
    dependence: Dependence,
    levels: Sequence[float] = (),
    n: int = 1_000,
    seed: int = 0,
) -> Total:
    """The sum of the parks of `predictions` (docs/serving.md), all levels of a park's forecast asked for.

    Parameters
    ----------
    sites : park id -> its facts, for coordinates and for what it can deliver.
    levels : of the answer; those of the forecasts where none are given.

    Raises
    ------
    InvalidInput
        no predictions, a park twice or without facts, other levels or intervals in one than in another, or no hour in
        common.
    """
    if not predictions:
        raise InvalidInput("no forecasts", field="predictions", hint="name one park at least")
    given = tuple(sorted(float(level) for level in predictions[0]["power_kw"]))
    valid_at, period = _common(predictions), PERIODS[predictions[0]["resolution"]]
    members = []
    for prediction in predictions:
        park = prediction["park_id"]
        if park not in sites:
            raise InvalidInput(f"nothing is known of park {park!r}", field="sites", hint="register it: pvf park add")
        if prediction["resolution"] != predictions[0]["resolution"]:
            raise InvalidInput(f"park {park!r} is in other intervals", field="resolution", hint="sum them apart")
        if tuple(sorted(float(level) for level in prediction["power_kw"])) != given:
            raise InvalidInput(f"park {park!r} has other levels", field="power_kw", hint="ask for the same of each")
        columns = {float(level): values for level, values in prediction["power_kw"].items()}
        power = np.array([columns[level] for level in given], np.float64).T
        kept = np.isin(_hours(prediction), valid_at)
        site = sites[park]
        members.append(Member(park, power[kept], ceiling_kw(site, valid_at, period), site.latitude, site.longitude))
    wanted = tuple(levels) or given
    lit = np.any([one.power_kw.any(axis=1) for one in members], axis=0)  # nothing is drawn while it is dark everywhere
    if not lit.any():
        return Total(wanted, valid_at, np.zeros((len(valid_at), len(wanted))), np.zeros(len(wanted)))
    drawn = scenarios([_during(one, lit) for one in members], given, valid_at[lit], dependence, n, seed)
    power_kw = np.zeros((len(valid_at), len(wanted)))
    power_kw[lit] = aggregate(drawn, wanted)
    return Total(wanted, valid_at, power_kw, energy(drawn, wanted, float(period / HOUR)))


def _during(one: Member, lit: npt.NDArray[np.bool_]) -> Member:
    ceiling_kw = np.broadcast_to(one.ceiling_kw, lit.shape)[lit]
    return replace(one, power_kw=one.power_kw[lit], ceiling_kw=ceiling_kw)


def _common(predictions: Sequence[Mapping[str, Any]]) -> Times:
    valid_at = _hours(predictions[0])
    for prediction in predictions[1:]:
        valid_at = np.intersect1d(valid_at, _hours(prediction))
    if len(valid_at) == 0:
        raise InvalidInput("the forecasts have no hour in common", field="valid_at", hint="give one issue time for all")
    return valid_at


def _hours(prediction: Mapping[str, Any]) -> Times:
    return np.array([text.removesuffix("Z") for text in prediction["valid_at"]], "datetime64[s]")
