"""Keeps Open-Meteo's limits: what was asked in the last minute, hour and day is remembered between processes."""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pvforecast.errors import InvalidInput, NotReady

_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86_400.0
_SLOT_POLL_S = 0.02


@dataclass(frozen=True)
class Limits:
    """Weighted calls allowed in any minute, hour and day, and requests at once. Zero: no limit."""

    minute: float = 600.0
    hour: float = 5_000.0
    day: float = 10_000.0
    at_once: int = 1

    @property
    def windows(self) -> tuple[tuple[float, float], ...]:
        """Seconds and weight of each limit that there is."""
        pairs = ((_MINUTE, self.minute), (_HOUR, self.hour), (_DAY, self.day))
        return tuple((seconds, most) for seconds, most in pairs if most > 0)


FREE = Limits()
NONE = Limits(0, 0, 0, at_once=4)


def limits_of(text: str) -> Limits:
    """``free``, ``none``, or ``minute/hour/day/at_once``.

    Raises
    ------
    InvalidInput
        it is none of these.
    """
    if text in ("free", "none"):
        return FREE if text == "free" else NONE
    try:
        minute, hour, day, at_once = (int(part) for part in text.split("/"))
        if min(minute, hour, day) < 0 or at_once < 1:
            raise ValueError
    except ValueError as error:
        raise InvalidInput(
            f"{text!r} is no limit", field="PVF_OPEN_METEO_LIMITS", hint="free, none, or e.g. 600/5000/10000/1"
        ) from error
    return Limits(minute, hour, day, at_once)


class Budget:
    """A record of what was asked, in a folder that all processes of one account share.

    Parameters
    ----------
    folder : made when missing.
    now, sleep : seconds since the epoch, and waiting; for tests.
    """

    def __init__(
        self,
        folder: Path,
        limits: Limits,
        *,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._folder = folder
        self.limits = limits
        self._now = now
        self._sleep = sleep
        folder.mkdir(parents=True, exist_ok=True)

    def take(self, weight: float, longest_wait_s: float = 120.0) -> None:
        """Take `weight` calls, after waiting until all limits allow it.

        Raises
        ------
        InvalidInput
            no limit is ever that high.
        NotReady
            it would take longer than `longest_wait_s`.
        """
        heaviest = min((most for _, most in self.limits.windows), default=weight)
        if weight > heaviest:
            raise InvalidInput(
                f"one request would count as {weight:g} calls, more than the limit of {heaviest:g}",
                field="weather_options.locations",
                hint="fewer locations or fewer days a request",
            )
        waited = 0.0
        while (wait := self._try(weight)) > 0:
            if waited + wait > longest_wait_s:
                at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._now() + wait))
                raise NotReady(
                    f"the limits of this account allow {weight:g} more calls from {at} on",
                    hint="fewer variables, models or runs, or PVF_OPEN_METEO_LIMITS of a paid plan",
                )
            self._sleep(wait)
            waited += wait

    def spent(self, seconds: float) -> float:
        """Weighted calls taken in the last so many seconds."""
        with self._locked() as (events, _):
            return sum(weight for at, weight in events if at > self._now() - seconds)

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Hold one of the places for requests at once; waits for one."""
        while True:
            for number in range(self.limits.at_once):
                with open(self._folder / f"slot-{number}", "ab") as file:
                    try:
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except BlockingIOError:
                        continue
                    yield
                    return
            time.sleep(_SLOT_POLL_S)

    def _try(self, weight: float) -> float:
        """Take it and return 0, or return the seconds after which it may be possible."""
        if not self.limits.windows:
            return 0.0
        with self._locked() as (events, store):
            now = self._now()
            wait = max(_wait(events, now, seconds, most - weight) for seconds, most in self.limits.windows)
            if wait == 0.0:
                store(_shortened([*events, (now, weight)], now))
            return wait

    @contextmanager
    def _locked(self) -> Iterator[tuple[list[tuple[float, float]], Callable[[list[tuple[float, float]]], None]]]:
        file = self._folder / "calls.json"
        with open(self._folder / "calls.lock", "ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                events = [(float(at), float(weight)) for at, weight in json.loads(file.read_text())]
            except FileNotFoundError:
                events = []
            except (ValueError, TypeError) as error:
                raise InvalidInput(f"not what was written there: {error}", field=str(file), hint="delete it") from error

            def store(new: list[tuple[float, float]]) -> None:
                part = file.with_suffix(".part")
                part.write_text(json.dumps(new))
                part.replace(file)

            yield events, store


def _wait(events: Sequence[tuple[float, float]], now: float, seconds: float, room: float) -> float:
    """Seconds until the events of the last `seconds` weigh at most `room`."""
    inside = [(at, weight) for at, weight in events if at > now - seconds]
    over = sum(weight for _, weight in inside) - room
    wait = 0.0
    for at, weight in inside:
        if over <= 1e-9:
            break
        over -= weight
        wait = at + seconds - now
    return wait


def _shortened(events: list[tuple[float, float]], now: float) -> list[tuple[float, float]]:
    """The events of a day, ascending; those of the same minute as one (the last) once they are an hour old."""
    merged: dict[float, tuple[float, float]] = {}
    for at, weight in sorted(events):
        if at <= now - _DAY:
            continue
        slot = at // _MINUTE if at < now - _HOUR else at
        before = merged.get(slot, (at, 0.0))
        merged[slot] = (at, before[1] + weight)
    return sorted(merged.values())
