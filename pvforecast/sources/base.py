"""The protocols that every source follows. Rows are canonical: UTC, interval start, kW, W/m², °C, m/s, 0-1.

A read gives what was measured in [since, until), and the runs available in [since, until]: never anything later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import pandas as pd

from pvforecast.parks import Park

RunKey = tuple[str, str, datetime]
"""park_id, source and run_at of one weather run."""


@dataclass(frozen=True)
class Delivery:
    """What a source had, and for which parks it failed.

    Attributes
    ----------
    rows : columns of the raw table.
    failed : park id -> why something that should have come did not.
    notes : what the reader of a report should know, e.g. runs that an archive does not have.
    """

    rows: pd.DataFrame
    failed: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class WeatherSource(Protocol):
    """Delivers weather runs, many parks a call."""

    @property
    def name(self) -> str:
        """As in the column `source` of its rows, or the first part of it: ``open_meteo`` of ``open_meteo:icon_eu``."""
        ...

    @property
    def attribution(self) -> str:
        """The credit its licence asks for; empty where it asks for none."""
        ...

    def weather(
        self, parks: Sequence[Park], since: datetime, until: datetime, stored: Set[RunKey] = frozenset()
    ) -> Delivery:
        """Rows of the table ``raw/weather``: runs with `available_at` in [since, until].

        Parameters
        ----------
        stored : runs the lake has whole; they are not delivered again.
        """
        ...


class GenerationSource(Protocol):
    """Delivers metered power, one park a call."""

    @property
    def name(self) -> str:
        """As in the column `source` of its rows."""
        ...

    def generation(self, park: Park, since: datetime, until: datetime) -> pd.DataFrame:
        """Rows of the table ``raw/generation``: `measured_at` is what the label says, right or wrong."""
        ...
