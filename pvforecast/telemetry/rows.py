"""Readings as rows of ``raw/generation``, and refused messages as entries of the quarantine."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from pvforecast.lake.tables import RAW_GENERATION
from pvforecast.quarantine import PAYLOAD_LIMIT, Rejected
from pvforecast.telemetry.translate import Message, Reading, Refused

_TIMES = ("measured_at", "received_at")
_FLOATS = ("power_kw", "energy_total_kwh", "available_fraction", "export_limit_kw")


def frame(readings: Sequence[Reading]) -> pd.DataFrame:
    """Rows as `Lake.append` takes them, one a reading."""
    columns = dict(zip(Reading._fields, zip(*readings, strict=True), strict=True)) if readings else {}
    rows: dict[str, object] = {name: columns.get(name, ()) for name in Reading._fields}
    for name in _TIMES:
        rows[name] = pd.to_datetime(np.array(rows[name], dtype="datetime64[us]"), utc=True)
    for name in _FLOATS:
        rows[name] = np.array(rows[name], dtype=np.float64)
    rows["period_s"] = np.array(rows["period_s"], dtype=np.int32)
    rows["curtailed"] = pd.array(list(columns.get("curtailed", ())), dtype="boolean")
    return pd.DataFrame(rows)


def rejected(message: Message, refused: Refused) -> Rejected:
    """A refused message for the quarantine: text that can be stored, whatever it was."""
    return Rejected(
        RAW_GENERATION.name,
        _plain(refused.park_id),
        "mqtt",
        _plain(message.topic)[:500],
        _plain(refused.reason)[:1_000],
        message.payload[:PAYLOAD_LIMIT].decode("utf-8", "backslashreplace").replace("\0", "\\0")[:PAYLOAD_LIMIT],
    )


def _plain(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
