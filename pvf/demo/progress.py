"""Steps with their time, on a terminal or in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console


class Steps:
    """Numbered steps; each says what it does, what happens in it, and how long it took."""

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._total = total
        self._number = 0
        self._begun = time.monotonic()

    @contextmanager
    def step(self, title: str) -> Iterator[Callable[[str], None]]:
        """Gives a function that reports one line of detail."""
        self._number += 1
        begun = time.monotonic()
        self._console.print(f"[bold]\\[{self._number}/{self._total}] {title}[/bold]")
        yield lambda line: self._console.print(f"      {line}", style="dim", markup=False)
        self._console.print(f"      done in {time.monotonic() - begun:.1f} s", style="green")

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._begun
