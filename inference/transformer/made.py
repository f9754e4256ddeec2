"""Forecasts that were made, and the memory of them: equal knowledge, time, question and model give an equal answer."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from inference import metrics
from inference.deployed import Deployment
from inference.transformer import forecast
from inference.transformer.client import Inference
from inference.transformer.forecast import Question
from pvforecast.features import Features
from pvforecast.model import calibration

LOOKED_UP = metrics.counter("pvf_forecast_cache_total")
STALE_FORECAST, NEW_PARK = "stale_forecast", "new_park"
"""Reasons of `degraded`: an older forecast stands in, issued at the time it names; the model never saw the park."""

Rungs = npt.NDArray[np.int64]
_Asked = tuple[str, int, tuple[float, ...] | None]
_Basis = tuple[str, str, Deployment]


@dataclass(frozen=True)
class Made:
    """One forecast: the question, its feature rows, and the predictor's answer to these rows alone."""

    question: Question
    rows: Features
    inference: Inference
    rungs: Rungs
    """Of each row, what its band was calibrated for: an index into `calibration.RUNGS`."""
    new_park: bool = False
    stale: bool = False

    @cached_property
    def told(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The prediction of the response, and what the log keeps of it. Not to be changed: they may be told again."""
        question, inference = self.question, self.inference
        possible = forecast.power_kw(question, inference.fractions)
        answer = forecast.answer(question, inference, possible)
        if self.new_park:
            answer["degraded"] = [*answer["degraded"], NEW_PARK]
        if self.stale:
            answer["degraded"] = [*answer["degraded"], STALE_FORECAST]
        answer["band_hours"] = hours = calibration.counted(self.rungs)
        widths = inference.band_width
        answer["band_width"] = {rung: widths[rung] for rung in hours} if widths else None
        answer["explanation"] = forecast.explanation(question, inference, possible)
        return answer, forecast.log_entry(question, inference, self.rows, inference.fractions, possible, answer)


class MadeBefore:
    """The newest forecast "as of now" for each question. Callers poll: most ask for what another just got.

    Parameters
    ----------
    rows : intervals kept at most, about 1 KB each; 0 keeps nothing.
    """

    def __init__(self, rows: int) -> None:
        self._most = rows
        self._rows = 0
        self._kept: OrderedDict[_Asked, tuple[_Basis, Made]] = OrderedDict()

    def find(self, question: Question, deployment: Deployment) -> Made | None:
        """The forecast for this question by the deployed model, where it was made before from the same."""
        asked = _asked(question)
        basis, made = self._kept.get(asked, (None, None)) if asked else (None, None)
        found = made if basis == _basis(question, deployment) else None
        if self._most:
            LOOKED_UP.labels("miss" if found is None else "hit").inc()
        if found is not None and asked is not None:
            self._kept.move_to_end(asked)
        return found

    def keep(self, made: Sequence[Made], deployment: Deployment) -> None:
        """Remember those that this deployment gave: while a model is replaced, the predictor may be a moment ahead.

        What was kept for the same question is forgotten: nobody asks for it again.
        """
        for one in made:
            asked, given_by = _asked(one.question), (one.inference.bundle_id, one.inference.model_version)
            if asked is None or given_by != (deployment.bundle_id, deployment.model_version):
                continue
            if asked in self._kept:
                self._rows -= len(self._kept.pop(asked)[1].rows)
            self._kept[asked] = _basis(one.question, deployment), one
            self._rows += len(one.rows)
        while self._rows > self._most:
            self._rows -= len(self._kept.popitem(last=False)[1][1].rows)


def _asked(question: Question) -> _Asked | None:
    """None for what is not worth keeping: the past, a caller's own weather, explanations."""
    instance = question.instance
    if instance.issued_at is not None or instance.weather is not None or instance.explain:
        return None
    levels = tuple(sorted(set(instance.quantiles))) if instance.quantiles else None
    return question.known.site.park_id, len(question.hours), levels


def _basis(question: Question, deployment: Deployment) -> _Basis:
    return question.snapshot_id, str(question.issued_at), deployment
