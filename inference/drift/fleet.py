"""Alarms that many parks share at once are one matter: of the weather provider, or of a whole region."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from inference.drift import events

LEAST_PARKS, LEAST_SHARE = 5, 0.2
"""So many parks, and such a share of those that were checked together, alarm for one cause: one event."""
SUBJECT = "fleet"
_CRITICAL = "critical"


def shared(made: Sequence[dict[str, Any]], checked: int) -> tuple[list[dict[str, Any]], set[str]]:
    """Fleet events of one round of checks, and the ids of the parks' own events that they stand for."""
    by_cause: dict[str, list[dict[str, Any]]] = {}
    for event in made:
        by_cause.setdefault(event["data"]["cause"]["likely"], []).append(event)
    found, covered = [], set()
    for cause, together in sorted(by_cause.items()):
        if len(together) >= max(LEAST_PARKS, LEAST_SHARE * checked):
            found.append(_one(cause, together, checked))
            covered |= {event["id"] for event in together}
    return found, covered


def _one(cause: str, together: Sequence[dict[str, Any]], checked: int) -> dict[str, Any]:
    first = min(together, key=lambda event: event["subject"])
    datas = [event["data"] for event in together]
    day = max(data["day"] for data in datas)
    severities = {data["severity"] for data in datas}
    return {
        **first,
        "id": events.event_id(f"{SUBJECT}|{cause}", day),
        "subject": SUBJECT,
        "time": max(event["time"] for event in together),
        "data": {
            **first["data"],
            "park_id": SUBJECT,
            "parks": sorted(data["park_id"] for data in datas),
            "day": day,
            "level": "page" if _CRITICAL in severities else "warn",
            "severity": _CRITICAL if _CRITICAL in severities else "warning",
            "provisional": all(data["provisional"] for data in datas),
            "cause": {
                "likely": cause,
                "evidence": {
                    "since": min(data["cause"]["evidence"]["since"] for data in datas),
                    "parks_alarmed": len(datas),
                    "parks_checked": checked,
                },
            },
            "alarms": [data["alarms"][0] for data in datas][:100],
            "reference_id": SUBJECT,
            "distances": [],
            "psi": [],
        },
    }
