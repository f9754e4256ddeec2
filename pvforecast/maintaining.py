"""Maintenance of the lake as the settings say, with the versions that models name as Postgres and the bundles give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from pvforecast import wiring
from pvforecast.errors import DataError, InvalidInput, NotReady
from pvforecast.lake import versions
from pvforecast.lake.maintenance import Policy, maintain
from pvforecast.settings import Settings

Pins = dict[str, set[int]]


def run(settings: Settings, now: datetime, *, no_models: bool = False) -> list[dict[str, Any]]:
    """Maintain every table; see `pvforecast.lake.maintenance`. Returns what was done to each, which is stored too.

    Parameters
    ----------
    now : UTC; ages are counted from here. Nothing that was younger then is deleted.
    no_models : no model was ever trained on this lake, so that no version is named.
    """
    policy = Policy(
        log_days=settings.log_retention_days,
        raw_days=settings.raw_retention_days,
        quarantine_days=settings.quarantine_retention_days,
    )
    return maintain(wiring.lake(settings), {} if no_models else pins(settings, now), now, policy)


def pins(settings: Settings, now: datetime) -> Pins | str:
    """Versions that models name, by table; in words why they can't be told."""
    from pvforecast import clients  # MLflow takes a second to import

    try:
        promoted = {promotion.bundle_id for promotion in clients.promotions(settings).history(limit=1_000_000)}
        return versions.pinned(wiring.objects(settings), promoted, now, settings.pin_days)
    except (InvalidInput, NotReady, DataError) as error:
        return f"which versions models name is not known: {error}"


def check(done: Sequence[dict[str, Any]]) -> None:
    """Raises DataError naming the tables that could not be maintained, or of which nothing could be deleted."""
    troubled = [
        f"{row['table']}: {row['note']}" for row in done if row["note"].startswith(("failed", "nothing deleted"))
    ]
    if troubled:
        raise DataError("; ".join(troubled), hint="see pvf data show maintenance; the next run tries again")


def report(done: Sequence[dict[str, Any]]) -> str:
    """As Markdown, a line a table."""
    head = (
        "table",
        "files_before",
        "files_after",
        "bytes",
        "rows_expired",
        "files_deleted",
        "log_files_deleted",
        "note",
    )
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    lines += [f"| {' | '.join(str(row.get(name, '')) for name in head)} |" for row in done]
    return "\n".join(lines) + "\n"


def write(done: Sequence[dict[str, Any]], report_path: str, log_metric: Callable[[str, float], None]) -> None:
    """The report to a file, and its sums as metrics."""
    Path(report_path).parent.mkdir(parents=True, exist_ok=True)
    Path(report_path).write_text(report(done))
    for name in ("files_after", "bytes", "files_deleted", "log_files_deleted", "rows_expired"):
        log_metric(name, float(sum(row.get(name) or 0 for row in done)))
