"""How much memory a process and all its children take together, sampled: the sum of their proportional set sizes."""

from __future__ import annotations

import threading
from pathlib import Path

_EVERY_S = 0.2


class Peak:
    """Watches a process tree from a thread of its own, until `stop`. A page that several share counts once."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._over = threading.Event()
        self._highest_kb = 0
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        """The highest sum seen, GiB."""
        self._over.set()
        self._thread.join()
        return round(self._highest_kb / 2**20, 2)

    def _watch(self) -> None:
        while not self._over.wait(_EVERY_S):
            self._highest_kb = max(self._highest_kb, sum(_pss_kb(pid) for pid in _tree(self._pid)))


def _tree(pid: int) -> list[int]:
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:  # it ended meanwhile
            continue
        found += [each for child in children for each in _tree(int(child))]
    return found


def _pss_kb(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
