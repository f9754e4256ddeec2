"""What runs when: the built-in schedules, or those of `PVF_PIPELINE_SCHEDULES`. The same for KFP and systemd."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipelines.arguments import checked
from pipelines.profile import read_yaml, refused
from pvforecast.errors import InvalidInput
from pvforecast.settings import Settings

DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


class Schedule(BaseModel):
    """One pipeline, again and again.

    Attributes
    ----------
    every : hour, day or week.
    minute, hour, weekday : of its start; UTC on one machine, the time zone of KFP's controller on a cluster.
    parameters : of the pipeline; not `as_of`, which is the time for which a run was scheduled.
    paused : it is there, and starts nothing.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?$")
    pipeline: str
    every: Literal["hour", "day", "week"]
    minute: int = Field(default=0, ge=0, le=59)
    hour: int = Field(default=0, ge=0, le=23)
    weekday: Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"] = "sunday"
    parameters: dict[str, Any] = {}
    paused: bool = False

    @property
    def cron(self) -> str:
        """For KFP: six fields, seconds first."""
        hour = "*" if self.every == "hour" else str(self.hour)
        return f"0 {self.minute} {hour} * * {self.weekday[:3].upper() if self.every == 'week' else '*'}"

    @property
    def on_calendar(self) -> str:
        """For systemd."""
        hour = "*" if self.every == "hour" else f"{self.hour:02d}"
        day = f"{self.weekday[:3].capitalize()} " if self.every == "week" else ""
        return f"{day}*-*-* {hour}:{self.minute:02d}:00 UTC"

    def last(self, now: datetime) -> datetime:
        """The newest time, not after `now`, for which a run is due; UTC."""
        at = now.astimezone(UTC).replace(minute=self.minute, second=0, microsecond=0)
        if self.every == "hour":
            return at if at <= now else at - timedelta(hours=1)
        at = at.replace(hour=self.hour)
        if self.every == "week":
            at -= timedelta(days=(at.weekday() - DAYS.index(self.weekday)) % 7)
        period = timedelta(days=7 if self.every == "week" else 1)
        return at if at <= now else at - period


BUILT_IN = (
    Schedule(name="ingestion", pipeline="ingestion", every="hour", minute=5, parameters={"lookback_hours": 72}),
    Schedule(name="training", pipeline="training", every="week", hour=3, parameters={"reason": "schedule"}),
    Schedule(name="maintenance", pipeline="maintenance", every="day", hour=2, minute=30),
)


def load(settings: Settings) -> tuple[Schedule, ...]:
    """The schedules of the settings' file, or the built-in ones; their arguments are right.

    Raises
    ------
    InvalidInput
        a file that cannot be read, a schedule that cannot be, two of one name, arguments that the pipeline refuses.
    """
    file = settings.pipeline_schedules
    made = BUILT_IN if file is None else _read(file)
    names = [schedule.name for schedule in made]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidInput(f"two are named {twice[0]!r}", field=str(file), hint="names tell schedules apart")
    return tuple(schedule.model_copy(update={"parameters": arguments(schedule, settings)}) for schedule in made)


def arguments(schedule: Schedule, settings: Settings) -> dict[str, Any]:
    """The arguments of each run but its time, checked."""
    try:
        return checked(schedule.pipeline, schedule.parameters, settings, scheduled=True)
    except InvalidInput as error:
        where = f"schedule {schedule.name}: {error.field}"
        raise InvalidInput(error.message, field=where, hint=error.hint) from error


def named(schedules: Sequence[Schedule], name: str) -> Schedule:
    """The schedule of that name."""
    for schedule in schedules:
        if schedule.name == name:
            return schedule
    known = ", ".join(schedule.name for schedule in schedules) or "none"
    raise InvalidInput(f"no schedule {name!r}", field="--scheduled", hint=f"known: {known}")


def _read(file: Path) -> tuple[Schedule, ...]:
    given = read_yaml(file, "PVF_PIPELINE_SCHEDULES")
    if set(given) != {"schedules"} or not isinstance(given["schedules"], list):
        raise InvalidInput("needs one list, `schedules`", field=str(file), hint="see docs/pipelines.md")
    try:
        return tuple(Schedule.model_validate(item) for item in given["schedules"])
    except ValidationError as error:
        raise refused(error, file) from error
