"""Drift events as CloudEvents 1.0, and their delivery."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from dataclasses import asdict
from importlib import resources
from typing import Any

import numpy as np
import requests

from inference.drift.accuracy import Score, Stale
from inference.drift.causes import ADVICE, RETRAIN, WATCH
from inference.drift.check import Check
from inference.drift.reference import DETECTOR_SET, PAGE
from pvforecast.errors import NotReady, PvForecastError

TYPE = "io.pvforecast.drift.detected.v1"
CLEARED_TYPE = "io.pvforecast.drift.cleared.v1"
QUARANTINED_TYPE = "io.pvforecast.data.quarantined.v1"
SOURCE = "/pvforecast/drift"
MODEL_STALE, SERVED_SKILL = "model_stale", "served_skill"
ATTEMPTS = 4
_BACK_OFF_S = 0.5

log = logging.getLogger(__name__)


class DeliveryError(PvForecastError):
    """The sink refused an event; trying again would not help."""

    code = "delivery_failed"


def schema() -> dict[str, Any]:
    """JSON schema (2020-12) of the whole event in structured mode."""
    text = (resources.files(__package__ or "inference.drift") / "event.schema.json").read_text()
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def event_id(park_id: str, day: str) -> str:
    """The same park, day and detectors give the same id: repeating a check repeats the event, it adds none."""
    return hashlib.sha256(f"{park_id}|{day}|{DETECTOR_SET}".encode()).hexdigest()[:32]


def event(check: Check) -> dict[str, Any]:
    """The CloudEvent of a check with alarms, structured mode."""
    if check.cause is None:
        raise ValueError(f"{check.park_id} had no alarm on {check.day}")
    day, reference = str(check.day), check.reference
    since = min(alarm.since for alarm in check.alarms)
    advice = check.cause.advice
    if check.provisional and advice == RETRAIN:
        advice = WATCH  # a young park's reference is borrowed: a human should look first
    return {
        **_envelope(TYPE, event_id(check.park_id, day), check.park_id, check.checked_at),
        "data": {
            "park_id": check.park_id,
            "day": day,
            "level": check.level,
            "severity": "critical" if check.level == PAGE else "warning",
            "advice": advice,
            "provisional": check.provisional,
            "cause": {"likely": check.cause.likely, "evidence": check.cause.evidence},
            "alarms": [
                {
                    "detector": alarm.detector,
                    "score": round(alarm.score, 4),
                    "threshold": alarm.threshold,
                    "direction": "up" if alarm.direction > 0 else "down",
                    "since": str(alarm.since),
                    "level": alarm.level,
                }
                for alarm in check.alarms
            ],
            "windows": {
                "reference": {"first": str(reference.first), "last": str(reference.until)},
                "recent": {"first": str(since), "last": day},
            },
            "reference_id": reference.reference_id,
            "detector_set": DETECTOR_SET,
            "distances": list(check.distances),
            "psi": list(check.psi),
            **({"weather": asdict(check.weather)} if check.weather else {}),
        },
    }


def model_stale(score: Score, found: Stale, at: np.datetime64) -> dict[str, Any]:
    """The CloudEvent of a model whose served forecasts have grown worse than its hold-out promised."""
    promise = score.promise
    if promise is None:
        raise ValueError(f"nothing was promised of {score.park_id}")
    evidence = {
        "since": found.since, "days": found.days, "error": round(found.error, 4), "at_least": round(found.lower, 4),
        "holdout_error": round(found.promised, 4), "model_version": score.model_version,
    }  # fmt: skip
    alarm = {
        "detector": SERVED_SKILL, "score": round(found.lower, 4), "threshold": round(found.threshold, 4),
        "direction": "up", "since": found.since, "level": "warn",
    }  # fmt: skip
    return {
        **_envelope(TYPE, event_id(f"{score.park_id}|{MODEL_STALE}", score.day), score.park_id, at),
        "data": {
            "park_id": score.park_id,
            "day": score.day,
            "level": "warn",
            "severity": "warning",
            "advice": ADVICE[MODEL_STALE],
            "provisional": False,
            "cause": {"likely": MODEL_STALE, "evidence": evidence},
            "alarms": [alarm],
            "windows": {
                "reference": {"first": promise.first, "last": promise.last},
                "recent": {"first": found.since, "last": score.day},
            },
            "reference_id": f"model-{score.model_version}",
            "detector_set": DETECTOR_SET,
            "distances": [],
            "psi": [],
        },
    }


def model_fresh(score: Score, opened: str, at: np.datetime64) -> dict[str, Any]:
    """The CloudEvent of forecasts that are again as their model promised; `opened`: day of the event before."""
    opened_by = event_id(f"{score.park_id}|{MODEL_STALE}", opened)
    data = {"since": opened, "reason": "recovered", "opened_by": opened_by, "sound_from": score.day}
    return _told(CLEARED_TYPE, score.park_id, score.day, at, f"model-{score.model_version}", data, MODEL_STALE)


def cleared(check: Check) -> dict[str, Any]:
    """The CloudEvent of a check that closes an episode."""
    if check.cleared is None:
        raise ValueError(f"{check.park_id} closed nothing on {check.day}")
    data = {
        "since": str(check.cleared.opened),
        "reason": "recovered",
        "opened_by": event_id(check.park_id, str(check.cleared.opened)),
        "sound_from": str(check.cleared.sound_from),
        "quiet_days": check.cleared.quiet_days,
        "mean_z": check.cleared.mean_z,
    }
    return _told(CLEARED_TYPE, check.park_id, str(check.day), check.checked_at, check.reference.reference_id, data)


def corrected(park_id: str, day: str, opened_by: str, reference_id: str, at: np.datetime64) -> dict[str, Any]:
    """The CloudEvent of a day on which a rule fired before it was over, and whose corrected data show nothing."""
    data = {"since": day, "reason": "corrected", "opened_by": opened_by, "sound_from": day}
    return _told(CLEARED_TYPE, park_id, day, at, reference_id, data)


def accepted(
    park_id: str, day: str, since: str, opened_by: str, reference_id: str, at: np.datetime64
) -> dict[str, Any]:
    """The CloudEvent of a change that a person made the new normal."""
    data = {"since": since, "reason": "accepted", "opened_by": opened_by}
    return _told(CLEARED_TYPE, park_id, day, at, reference_id, data)


def quarantined(
    park_id: str, cause: str, opened_by: str, first: np.datetime64, last: np.datetime64, at: np.datetime64
) -> dict[str, Any]:
    """The CloudEvent of hours that are kept from training, `first` ... `last` so far."""
    hours = int((last - first) / np.timedelta64(3600, "s")) + 1
    return {
        **_envelope(QUARANTINED_TYPE, event_id(f"{park_id}|quarantined", opened_by), park_id, at),
        "data": {
            "park_id": park_id, "first": f"{first}Z", "last": f"{last}Z", "hours": hours, "cause": cause,
            "event_id": opened_by,
        },
    }  # fmt: skip


def _told(
    kind: str, park_id: str, day: str, at: np.datetime64, reference_id: str, data: dict[str, Any], of: str = ""
) -> dict[str, Any]:
    """`of`: tells apart what can be told of one park on one day."""
    known = {"park_id": park_id, "day": day, "reference_id": reference_id, "detector_set": DETECTOR_SET}
    identity = event_id("|".join([park_id, kind, data["reason"], *([of] if of else [])]), day)
    return {**_envelope(kind, identity, park_id, at), "data": known | data}


def _envelope(kind: str, identity: str, subject: str, at: np.datetime64) -> dict[str, Any]:
    return {
        "specversion": "1.0", "id": identity, "source": SOURCE, "type": kind, "subject": subject,
        "time": f"{at.astype('datetime64[s]')}Z", "datacontenttype": "application/json",
    }  # fmt: skip


def post(sink: str, body: dict[str, Any], *, timeout_s: float = 5.0) -> int:
    """Deliver in structured mode; returns the HTTP status.

    A sink that is away or answers 5xx or 429 is tried 4 times within some seconds: the event's id makes that safe.

    Raises
    ------
    NotReady
        it stayed away.
    DeliveryError
        it refused the event.
    """
    trouble = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(_BACK_OFF_S * 2 ** (attempt - 1))
        try:
            answer = requests.post(
                sink,
                data=json.dumps(body).encode(),
                headers={"content-type": "application/cloudevents+json; charset=utf-8"},
                timeout=timeout_s,
            )
        except requests.RequestException as error:
            trouble = str(error)
        else:
            if answer.status_code < 300:
                return answer.status_code
            trouble = f"HTTP {answer.status_code}: {answer.text[:300]}"
            if answer.status_code < 500 and answer.status_code != 429:
                raise DeliveryError(f"{sink} refused event {body['id']}: {trouble}", field="sink")
        log.warning("event %s to %s, attempt %d of %d: %s", body["id"], sink, attempt + 1, ATTEMPTS, trouble)
    raise NotReady(f"{sink} did not take event {body['id']}: {trouble}", field="sink", hint="is the trigger running?")
