"""REST sources, asked when they are due. One that fails is asked again at its next turn; the others go on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Self

from pvforecast import quarantine
from pvforecast.errors import PvForecastError
from pvforecast.lake import Lake
from pvforecast.parks import Park
from pvforecast.quarantine import Rejected
from pvforecast.sources import scada_rest
from pvforecast.sources.scada_rest import RestSource, ScadaRest

log = logging.getLogger(__name__)

_AT_ONCE = 4


@dataclass
class Outcome:
    """What one round brought: rows, the hours of each park they fall in, and parks that failed, with the reason."""

    rows: int = 0
    hours: dict[str, set[int]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


class Poller:
    """Asks each source every `every_s`.

    Parameters
    ----------
    clock : seconds that only grow.
    """

    def __init__(self, sources: Sequence[RestSource], clock: Callable[[], float] = time.monotonic) -> None:
        self._sources, self._clock = tuple(sources), clock
        self._due = dict.fromkeys((source.name for source in sources), float("-inf"))

    @classmethod
    def load(cls, file: Path) -> Self:
        return cls(scada_rest.load(file))

    def poll(self, lake: Lake, parks: Sequence[Park], now: datetime) -> Outcome:
        """Ask every source that is due for every park of it that is registered."""
        known = {park.id: park for park in parks}
        outcome = Outcome()
        tasks: list[tuple[ScadaRest, Park]] = []
        rejected: list[Rejected] = []
        for config in self._sources:
            if self._clock() < self._due[config.name]:
                continue
            self._due[config.name] = self._clock() + config.every_s
            source = ScadaRest(config, on_rejected=rejected.extend)
            tasks += [(source, known[park]) for park in config.parks if park in known]
        if not tasks:
            return outcome
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            results = list(pool.map(lambda task: _ask(lake, task[0], task[1], now), tasks))
        for (source, park), result in zip(tasks, results, strict=True):
            if isinstance(result, str):
                outcome.failed[park.id] = result
                log.warning("poll: %s of %s failed: %s", park.id, source.name, result)
            else:
                outcome.rows += result.rows
                if result.hours:
                    outcome.hours.setdefault(park.id, set()).update(result.hours)
        quarantine.hold(lake, rejected, now)
        return outcome


def _ask(lake: Lake, source: ScadaRest, park: Park, now: datetime) -> scada_rest.Polled | str:
    try:
        return scada_rest.poll(lake, source, park, now)
    except PvForecastError as error:
        return str(error)
