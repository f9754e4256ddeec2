"""Keeps the running gateway at the keys: takes up a changed file, ends keys whose time has come, follows groups."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path

from pvf.stack import api_keys, gateway, gateway_access
from pvforecast.errors import PvForecastError

_INTERVAL_S = 0.5
_GROUPS_INTERVAL_S = 60.0
_GROUPS_RETRY_S = 5.0  # the registry is not up yet, or away


class Follower(threading.Thread):
    """Runs until `stopping` is set.

    Parameters
    ----------
    members : reads the registry's groups; called only while a key names one.
    on_event : is told once what is wrong with the file or the registry.
    """

    def __init__(
        self,
        home: Path,
        stopping: threading.Event,
        members: gateway_access.Members,
        on_event: Callable[[str], None],
    ) -> None:
        super().__init__(name="gateway-keys", daemon=True)
        self._home = home
        self._stopping = stopping
        self._read_members = members
        self._on_event = on_event
        self._stamp: tuple[int, int] | None = None
        self._keys: api_keys.Keys = {}
        self._ends_at: datetime | None = None
        self._members: Mapping[str, Collection[str]] = {}
        self._members_due = 0.0
        self._said = ""

    def run(self) -> None:
        while not self._stopping.wait(_INTERVAL_S):
            try:
                self.step(datetime.now(UTC))
            except (PvForecastError, OSError) as error:
                self._say(f"the gateway keeps its keys: {error}")

    def step(self, now: datetime) -> bool:
        """Apply the keys where anything changed; whether it did.

        Raises
        ------
        InvalidInput
            the file is malformed: what was in force stays so.
        """
        status = gateway.keys_file(self._home).stat()
        stamp = (status.st_mtime_ns, status.st_size)
        changed = stamp != self._stamp or (self._ends_at is not None and now >= self._ends_at)
        if changed:
            self._stamp = stamp
            self._keys = api_keys.load(gateway.keys_file(self._home))
        changed = self._follow_groups(gateway_access.groups(self._keys)) or changed
        if changed:
            gateway.apply_keys(self._home, members=self._members, now=now)
            self._ends_at = api_keys.next_end(self._keys, now)
            self._said = ""
        return changed

    def _follow_groups(self, wanted: set[str]) -> bool:
        """Read the groups' members when it is time, or when one is wanted that was not read; whether they changed."""
        if not wanted or (time.monotonic() < self._members_due and wanted <= set(self._members)):
            return False
        before = self._members
        try:
            found = self._read_members()
        except Exception as error:  # noqa: BLE001  # whatever the lake raises, keys must go on being followed
            self._members = {group: before.get(group, ()) for group in wanted}
            self._members_due = time.monotonic() + _GROUPS_RETRY_S
            self._say(f"groups of parks cannot be read, those of before hold: {error}")
        else:
            self._members = {group: found.get(group, ()) for group in wanted}
            self._members_due = time.monotonic() + _GROUPS_INTERVAL_S
        return self._members != before

    def _say(self, text: str) -> None:
        if text != self._said:
            self._said = text
            self._on_event(text)
