"""Weather from Open-Meteo: the newest run (`forecast`), archived runs (`single_runs`), or what a forecast of so many
days before said (`previous_runs`). Never the stitched historical forecast: it holds the first hours of every run, and a
model that learns from it is optimistic.

Data are under CC BY 4.0. The free tier is for non-commercial use.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from datetime import UTC, datetime, timedelta

import numpy as np
import orjson
import pandas as pd

from pvforecast.errors import DataError, InvalidInput, PvForecastError
from pvforecast.known import WEATHER_VARIABLES
from pvforecast.parks import Park
from pvforecast.sources import open_meteo_answer as answers
from pvforecast.sources.base import Delivery, RunKey
from pvforecast.sources.fetching import Fetcher, Patience
from pvforecast.sources.open_meteo_budget import Budget
from pvforecast.sources.open_meteo_models import BY_NAME, Model, Variable, model_of
from pvforecast.sources.open_meteo_options import SERVICES, Options
from pvforecast.sources.open_meteo_requests import Requests, Result, Task, asked_pause

NAME = "open_meteo"
ATTRIBUTION = "Weather data by Open-Meteo.com (https://open-meteo.com), CC BY 4.0; units and intervals converted"
SETTLING = timedelta(minutes=10)  # its servers agree only some minutes after a run is announced
_COLUMNS = [
    "park_id", "source", "run_at", "available_at", "valid_at", "period_s", *WEATHER_VARIABLES, "extra",
]  # fmt: skip
_HOUR = timedelta(hours=1)
_MOST_PREVIOUS_DAYS = 7
_ARCHIVE_DAYS = 14  # of one request to an archive: longer ones weigh more


class OpenMeteo:
    """The source; see the module.

    Parameters
    ----------
    url : of a service, with ``{service}`` for its name, e.g. ``https://{service}.open-meteo.com``.
    api_key : of a commercial plan; empty for the free tier. Sent as a header, so that no log of addresses has it.
    """

    attribution = ATTRIBUTION

    def __init__(
        self, options: Options, url: str, budget: Budget, *, api_key: str = "", patience: Patience | None = None
    ) -> None:
        self._options = options
        self._url = url
        self._budget = budget
        self._headers = {"X-Api-Key": api_key} if api_key else {}
        self._patience = patience or Patience()
        self._models = tuple(model_of(name) for name in options.models)
        self._variables = tuple(BY_NAME[name] for name in options.variables)

    @property
    def name(self) -> str:
        return self._options.label

    def weather(
        self, parks: Sequence[Park], since: datetime, until: datetime, stored: Set[RunKey] = frozenset()
    ) -> Delivery:
        """Rows of ``raw/weather`` of all runs that became available in [since, until] and are not stored.

        A request that fails in the end fails its parks alone. No exception is raised for what a server does.
        """
        plans = {"forecast": self._newest, "single_runs": self._archived, "previous_runs": self._previous}
        plan = plans[self._options.service]
        result = Result()
        with Fetcher(NAME, self._patience, headers=self._headers, pause=asked_pause, slot=self._budget.slot) as fetcher:
            for model in self._models:
                try:
                    result.add(plan(fetcher, model, parks, _utc(since), _utc(until), stored))
                except PvForecastError as error:
                    result.failed |= dict.fromkeys((park.id for park in parks), f"{model.name}: {error}")
        rows = pd.concat(result.frames, ignore_index=True) if result.frames else pd.DataFrame(columns=_COLUMNS)
        return Delivery(rows[_COLUMNS], result.failed, tuple(result.notes))

    # -- the newest run ------------------------------------------------------------------------------------------

    def _newest(
        self,
        fetcher: Fetcher,
        model: Model,
        parks: Sequence[Park],
        since: datetime,
        until: datetime,
        stored: Set[RunKey],
    ) -> Result:
        run_at, available_at, every = self._meta(fetcher, model)
        if not since <= available_at <= until:
            return Result(
                notes=[f"{model.name}: the run of {_text(run_at)} counts from {_text(available_at)} on: not loaded"]
            )
        missing = [park for park in parks if (park.id, self._source(model), run_at) not in stored]
        if not missing:
            return Result()
        end = _ceil(until) + timedelta(hours=self._options.horizon_hours) + every
        tasks = self._tasks("forecast", model, missing, run_at, end, self._plain(run_at, available_at, model))
        result = Requests(fetcher, self._url, self._budget).run(tasks)
        if self._meta(fetcher, model)[0] != run_at:
            # Answers of two runs may be mixed, and nothing in them tells.
            return Result(notes=[f"{model.name}: a new run came while that of {_text(run_at)} was read: next time"])
        return result

    def _meta(self, fetcher: Fetcher, model: Model) -> tuple[datetime, datetime, timedelta]:
        """Start of the newest run, when it counts as available, and the time between runs."""
        service = self._url.format(service=SERVICES["forecast"])
        return fetcher.get(f"{service}/data/{model.domain}/static/meta.json", {}, _read_meta)

    # -- archived runs -------------------------------------------------------------------------------------------

    def _archived(
        self,
        fetcher: Fetcher,
        model: Model,
        parks: Sequence[Park],
        since: datetime,
        until: datetime,
        stored: Set[RunKey],
    ) -> Result:
        delay = self._delay(model)
        hours = self._options.run_hours or tuple(range(0, 24, model.every_hours))
        apart = timedelta(hours=max((b - a) % 24 or 24 for a, b in zip(hours, (*hours[1:], hours[0]), strict=True)))
        length = _ceil_hours(timedelta(hours=self._options.horizon_hours) + delay + apart)
        tasks: list[Task] = []
        for run_at in _instants(since - delay, until - delay, hours):
            missing = [park for park in parks if (park.id, self._source(model), run_at) not in stored]
            make = self._plain(run_at, run_at + delay, model)
            params = {"run": run_at.strftime("%Y-%m-%dT%H:%M")}
            tasks += self._tasks("single_runs", model, missing, run_at, run_at + length, make, params)
        return Requests(fetcher, self._url, self._budget).run(tasks)

    # -- what was said so many days before -----------------------------------------------------------------------

    def _previous(
        self,
        fetcher: Fetcher,
        model: Model,
        parks: Sequence[Park],
        since: datetime,
        until: datetime,
        stored: Set[RunKey],
    ) -> Result:
        delay, horizon = self._delay(model), timedelta(hours=self._options.horizon_hours)
        days = math.ceil((horizon + delay) / timedelta(days=1))
        if days > _MOST_PREVIOUS_DAYS:
            raise InvalidInput(
                "reaches further back than seven days", field="weather_options.horizon_hours", hint="at most 159 hours"
            )
        wanted = {
            f"{variable.name}_previous_day{day}": variable for day in range(1, days + 1) for variable in self._variables
        }
        result = Result()
        issues = list(_instants(since, until, self._options.run_hours or (0,)))
        for first in range(0, len(issues), _ARCHIVE_DAYS):
            chunk = issues[first : first + _ARCHIVE_DAYS]
            missing = [
                park
                for park in parks
                if any((park.id, self._source(model, ":previous"), at - delay) not in stored for at in chunk)
            ]

            def rows(park: Park, found: Mapping[str, answers.Series], chunk: list[datetime] = chunk) -> pd.DataFrame:
                frames = [self._pseudo_run(found, issued_at, delay, days) for issued_at in chunk]
                return pd.concat(frames, ignore_index=True).assign(
                    park_id=park.id, source=self._source(model, ":previous")
                )

            end = chunk[-1] + horizon
            sections = {"hourly": wanted}
            for group in _groups(missing, self._options.locations):
                params = self._params(sections, model)
                task = Task("previous_runs", model, group, chunk[0], end, params, sections, rows)
                result.add(Requests(fetcher, self._url, self._budget).run([task]))
        return result

    def _pseudo_run(
        self, found: Mapping[str, answers.Series], issued_at: datetime, delay: timedelta, days: int
    ) -> pd.DataFrame:
        """The forecast that could be had at `issued_at`: of each hour the newest that had started `delay` before.

        Of the hour that ends at t the value of N days before comes from a run that started N · 24 h before t or
        earlier: it may be used where N · 24 h >= t - issued_at + delay.
        """
        series = found["hourly"]
        begin = np.datetime64(issued_at.replace(tzinfo=None), "s")
        ahead = (series.labels[1:] - begin).astype(np.int64) / 3600.0  # of the end of each interval
        inside = (ahead > 0) & (ahead <= self._options.horizon_hours)
        day = np.ceil((ahead + delay / _HOUR) / 24.0).astype(int)
        columns = {}
        for variable in self._variables:
            table = np.array(
                [
                    answers.interval(series, f"{variable.name}_previous_day{number}", variable)
                    for number in range(1, days + 1)
                ]
            )
            columns[variable.column] = table[day[inside] - 1, np.flatnonzero(inside)]
        known = ~np.all([np.isnan(values) for values in columns.values()], axis=0)
        rows = pd.DataFrame({"valid_at": pd.DatetimeIndex(series.labels[:-1][inside][known]).tz_localize("UTC")})
        for name in WEATHER_VARIABLES:
            rows[name] = columns[name][known] if name in columns else np.nan
        rows["extra"] = answers.extra(columns, known)
        return rows.assign(
            period_s=np.int32(3600), run_at=pd.Timestamp(issued_at - delay), available_at=pd.Timestamp(issued_at)
        )

    # -- requests ------------------------------------------------------------------------------------------------

    def _tasks(
        self,
        service: str,
        model: Model,
        parks: Sequence[Park],
        begin: datetime,
        end: datetime,
        rows: Callable[[Park, Mapping[str, answers.Series]], pd.DataFrame],
        more: Mapping[str, str] | None = None,
    ) -> list[Task]:
        """Requests for some parks; those metered in quarter hours get quarter-hourly weather too."""
        asked = {variable.name: variable for variable in self._variables}
        tasks = []
        for quarters in (False, True):
            sections = {"hourly": asked, **({"minutely_15": asked} if quarters else {})}
            group = [park for park in parks if (park.resolution == "PT15M") == quarters]
            for some in _groups(group, self._options.locations):
                params = {**self._params(sections, model), **(more or {})}
                tasks.append(Task(service, model, some, begin, end, params, sections, rows))
        return tasks

    def _params(self, sections: Mapping[str, Mapping[str, Variable]], model: Model) -> dict[str, str]:
        asked = {name: ",".join(variables) for name, variables in sections.items()}
        return {
            **asked, "models": model.name, "timezone": "UTC", "timeformat": "unixtime", "wind_speed_unit": "ms",
        }  # fmt: skip

    def _plain(
        self, run_at: datetime, available_at: datetime, model: Model
    ) -> Callable[[Park, Mapping[str, answers.Series]], pd.DataFrame]:
        asked = {variable.name: variable for variable in self._variables}

        def rows(park: Park, found: Mapping[str, answers.Series]) -> pd.DataFrame:
            frames = [answers.frame(series, asked) for series in found.values()]
            return pd.concat(frames, ignore_index=True).assign(
                park_id=park.id,
                source=self._source(model),
                run_at=pd.Timestamp(run_at),
                available_at=pd.Timestamp(available_at),
            )

        return rows

    def _source(self, model: Model, more: str = "") -> str:
        return f"{self._options.label}:{model.name}{more}"

    def _delay(self, model: Model) -> timedelta:
        hours = self._options.delay_hours
        return timedelta(hours=model.delay_hours if hours is None else hours)


def _read_meta(body: bytes) -> tuple[datetime, datetime, timedelta]:
    names = ("last_run_initialisation_time", "last_run_availability_time", "update_interval_seconds")
    try:
        found = orjson.loads(body)
        start, available, every = (found[name] for name in names)
        if {type(start), type(available), type(every)} != {int} or not start < available or not 0 < every <= 86_400:
            raise DataError(f"{start!r}, {available!r}, {every!r} are no times of a run", field="meta.json")
        run_at, at = (datetime.fromtimestamp(value, UTC) for value in (start, available))
    except (ValueError, KeyError, TypeError, OverflowError, OSError) as error:
        raise DataError(f"broken: {type(error).__name__} {error}", field="meta.json") from error
    return run_at, at + SETTLING, timedelta(seconds=every)


def _groups(parks: Sequence[Park], size: int) -> Iterator[tuple[Park, ...]]:
    for first in range(0, len(parks), size):
        yield tuple(parks[first : first + size])


def _instants(since: datetime, until: datetime, hours: Sequence[int]) -> Iterator[datetime]:
    """Each day's instants at these UTC hours in [since, until]."""
    day = since.replace(hour=0, minute=0, second=0, microsecond=0)
    while day <= until:
        yield from (at for at in (day + timedelta(hours=hour) for hour in sorted(hours)) if since <= at <= until)
        day += timedelta(days=1)


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)


def _ceil(moment: datetime) -> datetime:
    floor = moment.replace(minute=0, second=0, microsecond=0)
    return floor if floor == moment else floor + _HOUR


def _ceil_hours(span: timedelta) -> timedelta:
    return timedelta(hours=math.ceil(span / _HOUR))


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%MZ")
