"""Which model served when, for questions of the past; a question about now asks nothing of this."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from inference import history
from inference.deployed import Deployment
from inference.history import BACKTEST, Promoted
from inference.transformer import header
from inference.transformer.header import Header
from inference.transformer.once import Once
from pvforecast.errors import BundleError, InvalidInput, NotReady
from pvforecast.objects import ObjectStore

_TTL_S = 2.0
_REMEMBERED = 20


class Earlier:
    """Headers of bundles that served before, by the history of promotions.

    Parameters
    ----------
    replay : time is that of the runs that promoted, not that of the machine.
    deadline_s : the longest that a question waits for the store.
    """

    def __init__(self, store: ObjectStore, *, replay: bool, deadline_s: float = 3.0) -> None:
        self._store = store
        self._replay = replay
        self._once = Once(ThreadPoolExecutor(2, thread_name_prefix="earlier"), deadline_s)
        self._followed = history.follow(store)
        self._history: Sequence[Promoted] | None = None
        self._checked_at = -_TTL_S
        self._headers: OrderedDict[str, Header] = OrderedDict()

    async def serving_at(self, issued_at: np.datetime64, field: str) -> Header | None:
        """What served at `issued_at`; None where no history of promotions is kept.

        Raises
        ------
        InvalidInput
            no model served yet, it is not known which, or it is gone. Names `field`.
        NotReady
            the object store does not answer.
        """
        promoted = await self._promoted()
        if promoted is None:
            return None
        deployment = history.serving_at(promoted, issued_at, replay=self._replay, field=field)
        try:
            return await self._header(deployment)
        except BundleError as error:
            raise gone(field, issued_at) from error

    def uris(self, bundle_id: str) -> list[str]:
        """Where a bundle lies that a question was about."""
        return [uri for uri, one in self._headers.items() if one.deployment.bundle_id == bundle_id]

    async def _promoted(self) -> Sequence[Promoted] | None:
        """Without the store as it was last seen: who asks for an hour ago need not wait for it."""
        if time.monotonic() - self._checked_at > _TTL_S:
            try:
                self._history = await self._once("history", self._followed.check)
            except NotReady:
                if self._history is None:
                    raise
            self._checked_at = time.monotonic()
        return self._history

    async def _header(self, deployment: Deployment) -> Header:
        found = self._headers.get(deployment.bundle_uri)
        if found is None:
            found = await self._once(deployment, lambda: header.read(self._store, deployment))
            self._headers[deployment.bundle_uri] = found
            while len(self._headers) > _REMEMBERED:
                self._headers.popitem(last=False)
        self._headers.move_to_end(deployment.bundle_uri)
        return found


def gone(field: str, issued_at: np.datetime64) -> InvalidInput:
    """The answer where the model of then is not kept, or cannot be loaded by this version."""
    return InvalidInput(f"the model that served at {issued_at}Z cannot be loaded any more", field=field, hint=BACKTEST)
