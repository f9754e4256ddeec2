"""Which client may see which parks. A park that a client may not see does not exist for it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from pathlib import Path

from pvforecast.errors import InvalidInput, UnknownPark

log = logging.getLogger(__name__)

EVERYTHING = "*"
_HINT = 'a JSON object {"client": ["park", ...]}, or "*" instead of the list for all parks'


class ParkAccess:
    """Reads the file again when it changes.

    Parameters
    ----------
    file : {client id: [park ids] | "*"}; None lets every client see every park.

    Raises
    ------
    InvalidInput
        the file is missing or malformed. After the start a bad file is logged and the last good one holds.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._stamp: tuple[int, int] | None = None
        self._parks: dict[str, frozenset[str]] = {}
        if file is not None:
            self._parks, self._stamp = _read(file), _stamp(file)

    def refresh(self) -> None:
        """Blocking; call it off the event loop."""
        if self._file is None:
            return
        try:
            stamp = _stamp(self._file)
            if stamp != self._stamp:
                self._stamp = stamp
                self._parks = _read(self._file)
                log.info("park access read again: %d clients", len(self._parks))
        except (InvalidInput, OSError) as error:
            log.error("the last good park access holds: %s", error)

    def visible(self, client_id: str | None, parks: Iterable[str]) -> list[str]:
        """Those of the parks that this client may see."""
        allowed = self._of(client_id)
        return [park for park in parks if allowed is None or park in allowed]

    def check(self, client_id: str | None, wanted: dict[str, str]) -> None:
        """Raise UnknownPark for those of `wanted` (field -> park id) that this client may not see."""
        allowed = self._of(client_id)
        if allowed is not None:
            refuse_unknown({field: park for field, park in wanted.items() if park not in allowed})

    def _of(self, client_id: str | None) -> frozenset[str] | None:
        """The parks that this client may see; None for all."""
        if self._file is None:
            return None
        allowed = self._parks.get(client_id or "", frozenset())
        return None if EVERYTHING in allowed else allowed


def refuse_unknown(missing: dict[str, str]) -> None:
    """Raise UnknownPark naming them all, if there are any."""
    if missing:
        names = ", ".join(repr(park) for park in dict.fromkeys(missing.values()))
        raise UnknownPark(
            f"no such park: {names}", field=", ".join(missing), hint="check the id, or ask for access to the park"
        )


def _stamp(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_mtime_ns, status.st_size


def _read(file: Path) -> dict[str, frozenset[str]]:
    try:
        table = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{file} cannot be read: {error}", field="PVF_PARK_ACCESS_FILE", hint=_HINT) from error
    parks = {}
    for client, allowed in table.items() if isinstance(table, dict) else [("", None)]:
        if allowed == EVERYTHING:
            allowed = [EVERYTHING]
        if not isinstance(allowed, list) or not all(isinstance(park, str) for park in allowed):
            raise InvalidInput(
                f"{file}: the parks of {client!r} are malformed", field="PVF_PARK_ACCESS_FILE", hint=_HINT
            )
        parks[client] = frozenset(allowed)
    return parks
