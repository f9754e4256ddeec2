"""References in the lake: the table ``drift/reference``, append-only; the newest one that ends in time is used."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pandas as pd
import pyarrow as pa

from inference.drift.reference import DETECTOR_SET, Reference, from_facts
from pvforecast.errors import NotReady
from pvforecast.lake import Lake
from pvforecast.lake.tables import PARKS, Table

TABLE = Table(
    "drift/reference",
    pa.schema(
        [
            ("reference_id", pa.string()),
            ("park_id", pa.string()),
            ("kind", pa.string()),
            ("until", pa.string()),  # last day it was made from
            ("stored_at", pa.timestamp("us", tz="UTC")),
            ("facts", pa.string()),
            ("booster_ubj", pa.binary()),
        ]
    ),
    ("reference_id", "stored_at"),
    None,
)

_OWN = f'"detector_set": "{DETECTOR_SET}"'


def save(lake: Lake, reference: Reference, stored_at: datetime) -> bool:
    """Store; returns False when this very reference was there already."""
    row = {
        "reference_id": reference.reference_id,
        "park_id": reference.park_id,
        "kind": reference.kind,
        "until": str(reference.until),
        "stored_at": pd.Timestamp(stored_at),
        "facts": reference.facts(),
        "booster_ubj": reference.booster_ubj,
    }
    return lake.append_new(TABLE, pd.DataFrame([row])) == 1


def load(lake: Lake, park_id: str) -> tuple[Reference, ...]:
    """All references of a park, the one stored last first; those of an older detector set are left out."""
    rows = sorted(lake.read(TABLE, park_id=park_id).to_pylist(), key=lambda row: row["stored_at"], reverse=True)
    return tuple(from_facts(row["facts"], row["booster_ubj"]) for row in rows if _OWN in row["facts"])


def choose(references: tuple[Reference, ...], park_id: str, day: np.datetime64) -> Reference:
    """The first that ends before `day`: a day is never judged by a reference that it is part of.

    Raises
    ------
    NotReady
        there is none.
    """
    for reference in references:
        if reference.until < day:
            return reference
    raise NotReady(
        f"no drift reference of {park_id!r} ends before {day}",
        field="park", hint="make one: pvf drift calibrate --park ... --until ...",
    )  # fmt: skip


def park_ids(lake: Lake) -> list[str]:
    """All registered parks, ascending."""
    return sorted(set(lake.read(PARKS, columns=["park_id"])["park_id"].to_pylist()))
