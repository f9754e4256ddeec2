"""What the dashboards show, as numbers: every query of `inference.panels`, asked of a Prometheus."""

from __future__ import annotations

import asyncio
import logging
import math
import re
import time
from typing import Any

import httpx

from inference.panels import DASHBOARDS, Panel, Query

log = logging.getLogger(__name__)

MOST_VALUES = 20
"""Of one query; the largest are kept."""
_KEPT_S = 15.0  # however many look
_AT_ONCE = 8

Dashboard = dict[str, Any]


class Numbers:
    """None where there is no Prometheus, or while it does not answer: the page goes on without.

    Parameters
    ----------
    client : with the base URL of Prometheus; None where there is none.
    """

    def __init__(self, client: httpx.AsyncClient | None) -> None:
        self._client = client
        self._lock = asyncio.Lock()
        self._read_at = float("-inf")
        self._read: list[Dashboard] | None = None

    async def now(self) -> list[Dashboard] | None:
        """Each dashboard with its panels and what they would show at this moment."""
        async with self._lock:
            if self._client is not None and time.monotonic() - self._read_at > _KEPT_S:
                self._read = await self._dashboards(self._client)
                self._read_at = time.monotonic()
            return self._read

    async def _dashboards(self, client: httpx.AsyncClient) -> list[Dashboard] | None:
        turns = asyncio.Semaphore(_AT_ONCE)
        try:
            return [
                {
                    "title": title.removeprefix("PV forecast: "),
                    "panels": await asyncio.gather(*(_panel(client, turns, panel) for panel in panels)),
                }
                for title, panels in DASHBOARDS.values()
            ]
        except (httpx.HTTPError, ValueError, KeyError) as error:
            log.warning("the page goes on without Prometheus: %s: %s", type(error).__name__, error)
            return None


async def _panel(client: httpx.AsyncClient, turns: asyncio.Semaphore, panel: Panel) -> Dashboard:
    found = await asyncio.gather(*(_values(client, turns, query) for query in panel.queries))
    values = [value for part in found for value in part]
    kept = sorted(values, key=lambda value: -value["value"])[:MOST_VALUES] if len(values) > MOST_VALUES else values
    return {
        "title": panel.title, "unit": panel.unit, "help": panel.help, "values": kept,
        "left_off": len(values) - len(kept),
    }  # fmt: skip


async def _values(client: httpx.AsyncClient, turns: asyncio.Semaphore, query: Query) -> list[dict[str, Any]]:
    async with turns:
        answer = await client.get("/api/v1/query", params={"query": query.expr})
    answer.raise_for_status()
    return values(query, answer.json()["data"]["result"])


def values(query: Query, result: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Name and value of each series; those that are no number (nothing was counted yet) are left out."""
    found = [(named(query.legend, one["metric"]), float(one["value"][1])) for one in result]
    return [{"name": name, "value": value} for name, value in sorted(found) if math.isfinite(value)]


def named(legend: str, labels: dict[str, str]) -> str:
    """The series' name: the legend in Grafana's notation, or the labels where it has none."""
    if legend:
        return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), legend).strip()
    return ", ".join(f"{name} {value}" for name, value in sorted(labels.items()))
