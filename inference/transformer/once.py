"""Blocking reads off the event loop, each once for all who wait, with a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from inference.transformer.errors import Unavailable

T = TypeVar("T")


class Once:
    """Callers that want the same at the same time share one read.

    Parameters
    ----------
    deadline_s : the longest that a caller waits; the read goes on for the next.
    """

    def __init__(self, threads: ThreadPoolExecutor, deadline_s: float) -> None:
        self._threads = threads
        self._deadline_s = deadline_s
        self._under_way: dict[Hashable, asyncio.Future[Any]] = {}

    async def __call__(self, key: Hashable, read: Callable[[], T]) -> T:
        """Raises Unavailable when the deadline passes, else what `read` raises."""
        future = self._under_way.get(key)
        if future is None:
            future = asyncio.get_running_loop().run_in_executor(self._threads, read)
            self._under_way[key] = future
            future.add_done_callback(lambda _: self._under_way.pop(key, None))
        try:
            result: T = await asyncio.wait_for(asyncio.shield(future), self._deadline_s)
            return result
        except TimeoutError:
            raise Unavailable("the object store did not answer in time", hint="try again") from None
