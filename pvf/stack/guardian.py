"""Ends the parts of a stack whose supervisor died without doing so (kill -9, out of memory).

Standard input is a pipe that only the supervisor holds open. It also inherits the lock of the data directory,
so that the next start waits until everything is gone.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from pathlib import Path

from pvf.stack.processes import Record

_LOOK_S = 2.0  # a child that the supervisor forked may hold the pipe open too, so the parent is looked at as well


def main(record: Path) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    parent = os.getppid()
    while os.getppid() == parent:
        readable, _, _ = select.select([sys.stdin], [], [], _LOOK_S)
        if readable and not os.read(sys.stdin.fileno(), 1):
            break
    Record(record).sweep()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
