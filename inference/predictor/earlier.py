"""Bundles that served before, for questions of the past: few are kept, each is loaded once for all who wait."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from inference import history
from inference.predictor.reload import Loaded
from inference.protocol import MODEL_GONE, MODEL_LOADING, MODELS_OF_THEN, Refusal, RefusedError
from pvforecast.errors import BundleError, NotReady
from pvforecast.model import bundle as bundles
from pvforecast.model.bundle import Bundle
from pvforecast.objects import ObjectStore

log = logging.getLogger(__name__)

WAIT_S = 2.0
"""Within the deadline that the transformer gives the predictor."""
_REFUSED_AGAIN_S = 15.0  # a damaged bundle may be restored under its name, and is not read for each who asks


class Loading(NotReady):
    """The bundle is not there yet, and nothing is wrong."""

    code = MODEL_LOADING


class Earlier:
    """One thread loads, one bundle after the other: live questions share the process, and do not wait.

    Parameters
    ----------
    load : reads and verifies a bundle by its URI. Blocking.
    wait_s : how long a question waits for it. It is loaded on for whoever asks again.
    """

    def __init__(
        self,
        store: ObjectStore,
        load: Callable[[ObjectStore, str], Bundle] = bundles.load,
        wait_s: float = WAIT_S,
    ) -> None:
        self._store = store
        self._history = history.follow(store)
        self._load = load
        self._wait_s = wait_s
        self._kept: OrderedDict[str, Loaded] = OrderedDict()
        self._loading: dict[str, asyncio.Future[Loaded]] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="earlier")

    async def get(self, bundle_id: str) -> Loaded:
        """The bundle, by the id under which it was promoted: where it lies is not for the caller to say.

        Raises
        ------
        Loading, NotReady
            it is being loaded; the object store does not answer.
        RefusedError
            it was never promoted, or can't be loaded any more.
        """
        found = self._kept.get(bundle_id)
        if found is not None:
            self._kept.move_to_end(bundle_id)
            return found
        loading = self._loading.get(bundle_id)
        if loading is None:
            loading = asyncio.get_running_loop().run_in_executor(self._thread, self._read, bundle_id)
            self._loading[bundle_id] = loading
            loading.add_done_callback(partial(self._take, bundle_id))
        try:
            return await asyncio.wait_for(asyncio.shield(loading), self._wait_s)
        except TimeoutError:
            raise Loading("the model of then is being loaded", hint="try again") from None

    def stop(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _read(self, bundle_id: str) -> Loaded:
        deployment = history.of_bundle(self._history.check() or (), bundle_id)
        if deployment is None:
            raise RefusedError(Refusal(MODEL_GONE, f"bundle {bundle_id[:80]} was never promoted"))
        try:
            return Loaded(self._load(self._store, deployment.bundle_uri), deployment)
        except BundleError as error:
            log.error("bundle %s of the past cannot be loaded: %s", bundle_id, error)
            raise RefusedError(Refusal(MODEL_GONE, "the model of then cannot be loaded any more")) from error

    def _take(self, bundle_id: str, loading: asyncio.Future[Loaded]) -> None:
        if not loading.cancelled() and isinstance(loading.exception(), RefusedError):
            asyncio.get_running_loop().call_later(_REFUSED_AGAIN_S, self._loading.pop, bundle_id, None)
            return
        del self._loading[bundle_id]
        if loading.cancelled() or loading.exception() is not None:
            return
        self._kept[bundle_id] = loading.result()
        while len(self._kept) > MODELS_OF_THEN:
            self._kept.popitem(last=False)
        log.info("bundle %s is loaded for questions of the past", bundle_id)
