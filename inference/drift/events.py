"""Drift events as CloudEvents 1.0, and their delivery."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from importlib import resources
from typing import Any

import requests

from inference.drift.causes import RETRAIN, WATCH
from inference.drift.check import DETECTOR_SET, Check
from inference.drift.reference import PAGE
from pvforecast.errors import NotReady, PvForecastError

TYPE = "io.pvforecast.drift.detected.v1"
SOURCE = "/pvforecast/drift"
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
        "specversion": "1.0",
        "id": event_id(check.park_id, day),
        "source": SOURCE,
        "type": TYPE,
        "subject": check.park_id,
        "time": f"{check.checked_at.astype('datetime64[s]')}Z",
        "datacontenttype": "application/json",
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
        },
    }


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
