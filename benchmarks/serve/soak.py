"""Half the load for long, with reloads, new snapshots and outages of the log: what grows, what fails?

Each minute both predictors get another bundle and all parks new snapshots; every fifth minute the log is away
for 20 s. Memory is read every 5 s; growth is that of the last fifth of the time over the second fifth, medians: in the
first fifth memories fill.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.serve import clients
from benchmarks.serve.rig import REPLICAS, Rig

_STEP_S = 5.0
_CHANGE_S = 60.0
_OUTAGE_EVERY_S, _OUTAGE_S = 300.0, 20.0
_LOG = "prediction-log"
_PARTS = (_LOG, "gateway", *(f"{kind}-{number}" for number in REPLICAS for kind in ("predictor", "transformer")))
_WAITING = {"queue_pairs": "pvf_prediction_log_queue_pairs", "spool_bytes": "pvf_prediction_log_spool_bytes"}


@dataclass(frozen=True)
class Events:
    """What is done in the nth minute."""

    reload: Callable[[int], None]
    refresh: Callable[[int], None]


def run(servers: Rig, url: str, bodies: Path, minutes: float, events: Events) -> dict[str, Any]:
    """The figures of a soak."""
    full = clients.load(url, servers.key, bodies, 16, 15.0)
    rate = clients.rate(full) / 2
    clients.say(f"{minutes:g} minutes at {rate:.0f} requests/s")
    seen: dict[str, list[float]] = {}
    changes = outages = 0
    begun, down_until = time.monotonic(), 0.0
    with clients.under_load(url, servers.key, bodies, rate) as load:
        while (passed := time.monotonic() - begun) < 60 * minutes:
            if passed >= (changes + 1) * _CHANGE_S:
                changes += 1
                events.reload(changes)
                events.refresh(changes)
            if passed >= (outages + 0.5) * _OUTAGE_EVERY_S:
                outages += 1
                down_until = passed + _OUTAGE_S
                servers.stop(_LOG)
            if down_until and passed >= down_until:
                down_until = 0.0
                servers.start(_LOG)
            _look(servers, seen, without=_LOG if down_until else "")
            time.sleep(_STEP_S)
        if down_until:
            servers.start(_LOG)
    clients.until(lambda: _waiting(servers, "spool_bytes") == 0, 120)
    _look(servers, seen)
    clients.tell({16: load}, "soak")
    return {
        "minutes": minutes,
        "requests": len(load["ms"]),
        "requests_per_s": clients.rate(load),
        "errors": len(load["errors"]),
        "p95_ms": clients.percentile(load["ms"], 95),
        "p99_ms": clients.percentile(load["ms"], 99),
        "reloads": changes,
        "log_outages": outages,
        "events_dropped": sum(_metric(servers, 'pvf_prediction_log_events_total{outcome="dropped"')),
        **{f"rss_mb_{name}": round(seen[f"rss {name}"][-1]) for name in _PARTS},
        **{f"rss_growth_percent_{name}": _growth(seen[f"rss {name}"]) for name in _PARTS if name != _LOG},
        **{f"{name}_{what}": value for name in _WAITING for what, value in _extremes(seen[name]).items()},
    }


def _look(servers: Rig, seen: dict[str, list[float]], without: str = "") -> None:
    for name in _PARTS:
        if name != without:
            seen.setdefault(f"rss {name}", []).append(servers.rss_mb(name))
    for name in _WAITING:
        seen.setdefault(name, []).append(_waiting(servers, name))


def _waiting(servers: Rig, name: str) -> float:
    return sum(_metric(servers, _WAITING[name]))


def _metric(servers: Rig, sample: str) -> list[float]:
    return [servers.metric(f"transformer-{number}", sample) for number in REPLICAS]


def _growth(rss: list[float]) -> float:
    fifth = max(1, len(rss) // 5)
    early, late = np.median(rss[fifth : 2 * fifth]), np.median(rss[-fifth:])
    return round(float(late / early - 1) * 100, 1)


def _extremes(values: list[float]) -> dict[str, float]:
    return {"most": max(values), "at_the_end": values[-1]}
