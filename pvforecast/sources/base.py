"""The protocol that every source follows."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

import pandas as pd

from pvforecast.clock import ClockReport
from pvforecast.parks import Park


class Source(Protocol):
    """Delivers rows of one park in canonical form: UTC, interval start, kW, W/m², °C, m/s, 0-1.

    A read gives what was measured in [since, until), and the runs available in [since, until]: never anything later.
    """

    @property
    def name(self) -> str:
        """As in the column `source` of its rows."""
        ...

    def generation(self, park: Park, since: datetime, until: datetime) -> pd.DataFrame:
        """Columns of the table ``raw/generation``."""
        ...

    def weather(self, park: Park, since: datetime, until: datetime) -> pd.DataFrame:
        """Columns of the table ``raw/weather``; runs with `available_at` in [since, until]."""
        ...

    def clock_report(self, park: Park, until: datetime) -> ClockReport:
        """What was found wrong with the park's clock in the data before `until`."""
        ...
