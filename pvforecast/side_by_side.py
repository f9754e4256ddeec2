"""Two registered versions on the same days, side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pvforecast import fleet, learning
from pvforecast.clients import Clients
from pvforecast.errors import InvalidInput, NotEnoughData
from pvforecast.evaluation import holdout
from pvforecast.evaluation.compare import Comparison
from pvforecast.known import HOUR
from pvforecast.lake import records
from pvforecast.model import bundle as bundles
from pvforecast.model.bundle import Bundle
from pvforecast.tracking import Version


@dataclass(frozen=True)
class SideBySide:
    """Two versions and how the second does against the first.

    Attributes
    ----------
    outcome : with `b` as the challenger; its verdict is about recipes and is not shown.
    since, until : the days compared, UTC.
    learned : versions that have learned from some of these days: their losses are too good.
    own : what each version's own run logged about its hold-out.
    """

    a: Version
    b: Version
    outcome: Comparison
    since: str
    until: str
    learned: tuple[int, ...]
    own: tuple[dict[str, float], dict[str, float]]

    @property
    def says(self) -> str:
        """One sentence."""
        low, high = self.outcome.interval
        if not np.isfinite(low):
            return self.outcome.reason
        share = f"{self.outcome.difference / self.outcome.champion:+.1%} loss"
        if low <= 0 <= high:
            return f"no significant difference: version {self.b.version} has {share} against {self.a.version}"
        better = self.b if high < 0 else self.a
        return (
            f"version {better.version} is significantly better: {self.b.version} has {share} against {self.a.version}"
        )

    def as_dict(self) -> dict[str, Any]:
        return {
            "versions": [self.a.as_dict(), self.b.as_dict()],
            "says": self.says,
            "since": self.since,
            "until": self.until,
            "learned": list(self.learned),
            "loss": [self.outcome.champion, self.outcome.challenger],
            "difference": self.outcome.difference,
            "interval": list(self.outcome.interval),
            "days": self.outcome.days,
            "harmed": list(self.outcome.harmed),
            "own_holdout": list(self.own),
        }


def compare(clients: Clients, a: int, b: int, since: np.datetime64 | None, until: np.datetime64 | None) -> SideBySide:
    """Score both versions day-ahead on the parks that they know.

    Parameters
    ----------
    since : UTC; by default the later of the instants up to which they have learned.
    until : UTC; by default when generation was metered last.

    Raises
    ------
    InvalidInput
        no such version, or twice the same.
    NotEnoughData
        nothing was metered in these days.
    """
    if a == b:
        raise InvalidInput(f"version {a} twice", field="VERSION", hint="name two versions: pvf model list")
    versions = clients.tracking.version(a), clients.tracking.version(b)
    models = [bundles.load(clients.store, version.bundle_uri) for version in versions]
    seen = [np.datetime64(model.info["trained_until"], "s") for model in models]
    begin = max(seen) if since is None else since
    parts, end = _losses(clients, models, begin, until)
    if not parts:
        raise NotEnoughData(
            f"nothing was metered from {begin} to {end}",
            field="--since",
            hint=f"an earlier one; they have learned up to {seen[0]} and {seen[1]}",
        )
    outcome = learning.judge(parts, same_recipe=False)
    learned = tuple(version.version for version, at in zip(versions, seen, strict=True) if at > begin)
    own = tuple(_own(clients, version) for version in versions)
    return SideBySide(*versions, outcome, str(begin), str(end), learned, (own[0], own[1]))


def _losses(
    clients: Clients, models: list[Bundle], begin: np.datetime64, until: np.datetime64 | None
) -> tuple[list[holdout.Losses], np.datetime64]:
    """Of each park that both know; and the end of what was compared."""
    known = set(models[0].info["parks"]) & set(models[1].info["parks"])
    parts, newest = [], begin
    for park in sorted(known & {park.id for park in fleet.registered(clients.lake)}):
        record = records.load(clients.lake, park)
        if len(record.valid_at) == 0:
            continue
        end = record.valid_at.max() + HOUR if until is None else until
        newest = max(newest, end)
        part = holdout.losses(record, [models[1], models[0]], begin, end)
        if len(part.day):
            parts.append(part)
    return parts, newest


def _own(clients: Clients, version: Version) -> dict[str, float]:
    metrics: dict[str, float] = clients.tracking.run(version.run_id)["metrics"] if version.run_id else {}
    return {name: value for name, value in metrics.items() if name.startswith(("overall/", "lead "))}
