"""What a check does to training: a fault in the data is held from its first day on, until the park is itself again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from inference.drift import events
from inference.drift.causes import FIX_DATA
from inference.drift.days import starts
from inference.drift.fleet import SUBJECT
from pvforecast import holds
from pvforecast.holds import ENDED, HELD, Entry, Hold
from pvforecast.lake import Lake, records

_HOUR = np.timedelta64(3600, "s")


def after(
    lake: Lake, event: dict[str, Any] | None, also: Sequence[dict[str, Any]], sent_as: str | None
) -> tuple[dict[str, Any], ...]:
    """Hold or end what the events of one check ask for; returns the event of hours newly held. Safe to repeat.

    Parameters
    ----------
    event : the park's own.
    sent_as : id of the event that tells of it, the park's own or the fleet's: what the hours are held under.
    """
    for cleared in (one for one in also if one["type"] == events.CLEARED_TYPE):
        _end(lake, cleared)
    if event is None or sent_as is None or event["data"]["advice"] != FIX_DATA:
        return ()
    park_id, data = event["subject"], event["data"]
    first, last = _hours(lake, park_id, data["windows"]["recent"]["first"], data["day"])
    if all(hold.event_id == sent_as for hold in _open(lake, park_id)):
        cause = data["cause"]["likely"]
        holds.add(lake, Entry(sent_as, park_id, HELD, _moment(event["time"]), _utc(first), cause=cause))
        at = np.datetime64(event["time"].removesuffix("Z"), "s")
        return (events.quarantined(park_id, cause, sent_as, first, last, at),)
    return ()


def corrected(lake: Lake, park_id: str, day: str, reference_id: str, at: np.datetime64) -> tuple[dict[str, Any], ...]:
    """The clearance of what a rule found before `day` was over, now that the whole of it shows nothing."""
    first, last = _hours(lake, park_id, day, day)
    next_day = str(np.datetime64(day) + np.timedelta64(1, "D"))  # a fleet's event has the newest of its parks' days
    for hold in _open(lake, park_id):
        of_fleet = {events.event_id(f"{SUBJECT}|{hold.cause}", of) for of in (day, next_day)}
        within = first <= hold.begin <= last
        if hold.event_id == events.event_id(park_id, day) or (within and hold.event_id in of_fleet):
            return (events.corrected(park_id, day, hold.event_id, reference_id, at),)
    return ()


def _end(lake: Lake, cleared: dict[str, Any]) -> None:
    park_id = cleared["subject"]
    for hold in _open(lake, park_id):
        sound = cleared["data"]["sound_from"]
        first, _ = _hours(lake, park_id, sound, sound)
        end = max(first, hold.begin)
        holds.add(lake, Entry(hold.event_id, park_id, ENDED, _moment(cleared["time"]), end=_utc(end)))


def _open(lake: Lake, park_id: str) -> list[Hold]:
    return [hold for hold in holds.read(lake, [park_id]) if hold.end is None and hold.released_at is None]


def _hours(lake: Lake, park_id: str, first: str, last: str) -> tuple[np.datetime64, np.datetime64]:
    """First and last hour of some days of a park."""
    site = records.sites(lake, park_id)[-1][1]
    begins = starts(site, np.array([first, last], "datetime64[D]"))
    return begins[0], begins[1] + 23 * _HOUR


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _utc(moment: np.datetime64) -> datetime:
    return datetime.fromtimestamp(int(moment.astype("datetime64[s]").astype(np.int64)), UTC)
