"""Requests to Open-Meteo: many places each, few at once, within the limits; one that fails fails its parks alone."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pandas as pd

from pvforecast.errors import PvForecastError
from pvforecast.parks import Park
from pvforecast.sources import open_meteo_answer as answers
from pvforecast.sources.fetching import Answer, Fetcher, Refused, retry_after
from pvforecast.sources.open_meteo_budget import Budget
from pvforecast.sources.open_meteo_models import Model, Variable, weight
from pvforecast.sources.open_meteo_options import SERVICES

_log = logging.getLogger(__name__)
_NOT_THERE = ("No data is available", "out of allowed range")


@dataclass(frozen=True)
class Task:
    """One request: some parks, one model, one stretch of time.

    Attributes
    ----------
    begin, end : first and last label.
    params : what is asked beside place and time.
    rows : the answer of one park -> its rows, with run.
    """

    service: str
    model: Model
    parks: tuple[Park, ...]
    begin: datetime
    end: datetime
    params: Mapping[str, str]
    sections: Mapping[str, Mapping[str, Variable]]
    rows: Callable[[Park, Mapping[str, answers.Series]], pd.DataFrame]

    @property
    def weight(self) -> float:
        variables = sum(len(names) for names in self.sections.values())
        return weight(len(self.parks), variables, (self.end - self.begin) / timedelta(days=1))

    def split(self) -> tuple[Task, Task]:
        half = len(self.parks) // 2
        return replace(self, parks=self.parks[:half]), replace(self, parks=self.parks[half:])


@dataclass
class Result:
    frames: list[pd.DataFrame] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, other: Result) -> None:
        self.frames += other.frames
        self.failed |= other.failed
        self.notes += other.notes


class Requests:
    """Asks one server.

    Parameters
    ----------
    url : of a service, with ``{service}`` for its name.
    """

    def __init__(self, fetcher: Fetcher, url: str, budget: Budget) -> None:
        self._fetcher = fetcher
        self._url = url
        self._budget = budget

    def run(self, tasks: Iterable[Task]) -> Result:
        result = Result()
        with ThreadPoolExecutor(self._budget.limits.at_once) as pool:
            for one in pool.map(lambda task: self._one(task), tasks):
                result.add(one)
        return result

    def _one(self, task: Task) -> Result:
        """The rows of one request; one that is refused for a place is halved until that place stands alone."""
        try:
            found = self._ask(task)
        except Refused as error:
            absent = any(text in error.message for text in _NOT_THERE)
            if absent and len(task.parks) > 1:
                result = Result()
                for half in task.split():
                    result.add(self._one(half))
                return result
            if absent and task.service != "forecast":
                what = f"{task.parks[0].id}: {task.model.name} has nothing from {task.begin.isoformat()}"
                return Result(notes=[f"{what}: {error.message}"])
            return self._failed(task, error)
        except PvForecastError as error:
            return self._failed(task, error)
        return Result(frames=[task.rows(park, one) for park, one in zip(task.parks, found, strict=True)])

    def _failed(self, task: Task, error: PvForecastError) -> Result:
        _log.warning("%s parks without %s: %s", len(task.parks), task.model.name, error)
        return Result(failed=dict.fromkeys((park.id for park in task.parks), f"{task.model.name}: {error}"))

    def _ask(self, task: Task) -> list[dict[str, answers.Series]]:
        places = [(round(park.latitude, 4), round(park.longitude, 4)) for park in task.parks]
        params = {
            "latitude": ",".join(f"{latitude:.4f}" for latitude, _ in places),
            "longitude": ",".join(f"{longitude:.4f}" for _, longitude in places),
            **task.params,
        }
        for section in task.sections:
            suffix = "hour" if section == "hourly" else section
            params[f"start_{suffix}"] = task.begin.strftime("%Y-%m-%dT%H:%M")
            params[f"end_{suffix}"] = task.end.strftime("%Y-%m-%dT%H:%M")
        service = self._url.format(service=SERVICES[task.service])
        return self._fetcher.get(
            f"{service}/v1/forecast",
            params,
            lambda body: answers.read(body, places, task.sections),
            before=lambda: self._budget.take(task.weight),
        )


def asked_pause(answer: Answer) -> float | None:
    """How long an answer of 429 asks to wait: by its header, or by the limit that its reason names."""
    header = retry_after(answer)
    if header is not None or answer.status != 429:
        return header
    text = answer.body.decode(errors="replace")
    for word, seconds in (("Minutely", 60.0), ("Hourly", 3600.0), ("Daily", 86_400.0)):
        if word in text:
            return seconds
    return None
