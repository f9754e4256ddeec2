"""Free TCP ports on 127.0.0.1, remembered so that addresses stay the same from one start to the next."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

from pvf.stack.processes import write_atomically
from pvforecast.errors import StackError

_FIRST, _LAST = 12_000, 21_999  # with their twins 10,000 higher all lie below Linux' ephemeral ports
_TWIN = 10_000  # SeaweedFS puts the gRPC port of a server there


def is_free(port: int) -> bool:
    """True when nothing listens on 127.0.0.1:port or on that port of all addresses."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed connections in TIME_WAIT are fine
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class Ports:
    """The ports of one data directory.

    Parameters
    ----------
    file : where they are remembered.
    demanded : ports the user insists on, by name; one that is taken is an error, not a reason to take another.
    on_event : is told when a remembered port is taken and changes.
    """

    def __init__(
        self, file: Path, demanded: Mapping[str, int], on_event: Callable[[str], None] = lambda _line: None
    ) -> None:
        self._file = file
        self._demanded = demanded
        self._on_event = on_event
        self._known: dict[str, int] = json.loads(file.read_text()) if file.exists() else {}
        self._given: dict[str, int] = {}
        self._used: set[int] = set()

    def get(self, name: str, *, twin: bool = False) -> int:
        """The port of this name; with `twin` the one 10,000 higher is free as well.

        Raises StackError when the user demanded a port that is taken.
        """
        if name in self._given:
            return self._given[name]
        if name in self._demanded:
            port = self._demanded[name]
            if not self._usable(port, twin):
                raise StackError(
                    f"port {port} is taken by another program",
                    field=f"port of {name}",
                    hint="end that program, or ask for another port, or for none: then a free one is chosen",
                )
        else:
            port = self._known.get(name, 0)
            if not port or not self._usable(port, twin):
                new = self._choose(twin)
                if port:
                    self._on_event(f"port {port} of {name} is taken by another program, using {new}")
                port = new
        self._used |= {port, port + _TWIN} if twin else {port}
        self._given[name] = self._known[name] = port
        return port

    def save(self) -> None:
        write_atomically(self._file, json.dumps(self._known, indent=1, sort_keys=True))

    def _usable(self, port: int, twin: bool) -> bool:
        wanted = [port, port + _TWIN] if twin else [port]
        return all(one not in self._used and is_free(one) for one in wanted)

    def _choose(self, twin: bool) -> int:
        for _ in range(1000):
            port = random.randint(_FIRST, _LAST)
            if port not in self._known.values() and self._usable(port, twin):
                return port
        raise StackError(f"no free port between {_FIRST} and {_LAST}", hint="end programs that listen there")
