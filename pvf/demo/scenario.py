"""What the replay plays: which days, which fault."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

BEGIN = datetime(2011, 1, 1, tzinfo=UTC)  # before the first measurement
NOW = datetime(2013, 8, 10, 6, tzinfo=UTC)  # 00:00 in Golden: both parks live
PARK = "pvdaq-50"

LOSS = 0.10  # of this park's output, for good
LOSS_FROM = NOW
WATCHED = timedelta(days=28)

HORIZON_HOURS = 48


def planted_loss() -> dict[str, object]:
    """Options of the source that deliver the fault."""
    return {"loss": {"park_id": PARK, "start": LOSS_FROM.isoformat(), "fraction": LOSS}}
