"""Bundles that nobody needs any more: what may go, what stays and why.

A bundle stays when a promotion names it (a rollback may return to it), when one of MLflow's aliases does, or when it
was written within the last days, for its training may still be running. The table versions that it pins stay with it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from pvforecast.model.bundle import PREFIX
from pvforecast.objects import ObjectStore
from pvforecast.registry import Promotions
from pvforecast.tracking import REMOVED, Tracking


@dataclass(frozen=True)
class Fate:
    """What becomes of one bundle: kept when `why` says why."""

    bundle_id: str
    written_at: datetime
    why: str

    @property
    def kept(self) -> bool:
        return bool(self.why)

    def as_dict(self) -> dict[str, object]:
        return {**asdict(self), "written_at": self.written_at.isoformat(), "kept": self.kept}


def fates(
    written: Mapping[str, datetime],
    promoted: Collection[str],
    aliased: Mapping[str, str],
    now: datetime,
    days: int,
) -> list[Fate]:
    """Decide for each bundle.

    Parameters
    ----------
    written : bundle id -> when its newest file was written, UTC.
    promoted : bundle ids that a promotion names.
    aliased : bundle id -> alias.
    days : younger ones are kept.
    """
    result = []
    for bundle_id, at in sorted(written.items(), key=lambda item: item[1]):
        why = ""
        if bundle_id in promoted:
            why = "was promoted"
        elif bundle_id in aliased:
            why = f"is the {aliased[bundle_id]}"
        elif at > now - timedelta(days=days):
            why = f"younger than {days} days"
        result.append(Fate(bundle_id, at, why))
    return result


def prune(
    store: ObjectStore, tracking: Tracking, promotions: Promotions, now: datetime, days: int, *, dry_run: bool = True
) -> list[Fate]:
    """Delete the bundles that may go, unless `dry_run`; returns what becomes of each, oldest first.

    No promotion happens meanwhile. `bundle.json` goes first: a bundle that can be found is whole.
    """
    with promotions.exclusive():
        promoted = {promotion.bundle_id for promotion in promotions.history(limit=1_000_000)}
        versions = tracking.versions()
        aliased = {version.bundle_id: " and ".join(version.aliases) for version in versions if version.aliases}
        decided = fates(_written(store.listed(f"{PREFIX}/")), promoted, aliased, now, days)
        for fate in decided if not dry_run else []:
            if not fate.kept:
                _remove(store, fate.bundle_id)
                for version in versions:
                    if version.bundle_id == fate.bundle_id:
                        tracking.tag_version(version.version, {REMOVED: now.isoformat()})
    return decided


def _written(listed: Iterable[tuple[str, datetime]]) -> dict[str, datetime]:
    newest: dict[str, datetime] = {}
    for key, at in listed:
        bundle_id = key.removeprefix(f"{PREFIX}/").split("/", 1)[0]
        newest[bundle_id] = max(at, newest.get(bundle_id, at))
    return newest


def _remove(store: ObjectStore, bundle_id: str) -> None:
    for key in sorted(store.keys(f"{PREFIX}/{bundle_id}/"), key=lambda name: not name.endswith("/bundle.json")):
        store.remove(key)
