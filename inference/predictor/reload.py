"""Keeps the deployed bundle loaded: builds and verifies a new one off the event loop, then swaps the reference."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass

import numpy as np

from inference import metrics
from inference.deployed import DeployedPointer, Deployment
from inference.stores import STORE_UP
from pvforecast.errors import BundleError, DataError, NotReady
from pvforecast.model import bundle as bundles
from pvforecast.model.bundle import Bundle
from pvforecast.objects import ObjectStore

log = logging.getLogger(__name__)

MODEL_INFO = metrics.gauge("pvf_model_info")
TRAINED_UNTIL = metrics.gauge("pvf_model_trained_until_timestamp_seconds")
LOADED_AT = metrics.gauge("pvf_model_loaded_timestamp_seconds")
RELOADS = metrics.counter("pvf_model_reloads_total")
RELOAD_FAILURES = metrics.counter("pvf_model_reload_failures_total")
_REFUSED_AGAIN_S = 15.0  # a damaged bundle may be restored under its name


@dataclass(frozen=True)
class Loaded:
    """A verified bundle with the names it is deployed under."""

    bundle: Bundle
    deployment: Deployment


class Reloader:
    """Polls the pointer and holds what is served.

    `current` is replaced as a whole, so a request that took the old reference finishes with the old bundle.
    """

    def __init__(self, store: ObjectStore, pointer: DeployedPointer, interval_s: float = 1.0) -> None:
        self.current: Loaded | None = None
        self._store = store
        self._pointer = pointer
        self._interval_s = interval_s
        self._refused: Deployment | None = None
        self._refused_at = 0.0
        self._trouble: str | None = None

    async def run(self) -> None:
        """Poll for ever. An unforeseen error is logged and the next poll tries again."""
        while True:
            try:
                await asyncio.to_thread(self.poll)
            except Exception:
                log.exception("polling for a deployed bundle failed")
            await asyncio.sleep(self._interval_s)

    def poll(self) -> None:
        """Look at the pointer once; load what it names when that is new. Blocking."""
        try:
            deployment = self._pointer.check()
            STORE_UP.set(1)
            if deployment is not None and not self._still_refused(deployment):
                self._take(deployment)
            self._report(None)
        except NotReady as error:
            STORE_UP.set(0)
            self._report(str(error))
        except DataError as error:
            self._report(str(error), count=True)

    def _still_refused(self, deployment: Deployment) -> bool:
        return deployment == self._refused and time.monotonic() - self._refused_at < _REFUSED_AGAIN_S

    def _take(self, deployment: Deployment) -> None:
        old = self.current
        if old is not None and old.deployment == deployment:
            return
        if old is not None and old.deployment.bundle_uri == deployment.bundle_uri:
            bundle = old.bundle
        else:
            try:
                bundle = bundles.load(self._store, deployment.bundle_uri)
            except BundleError as error:
                known, self._refused, self._refused_at = self._refused == deployment, deployment, time.monotonic()
                if known:
                    return
                RELOAD_FAILURES.inc()
                serving = f"{old.deployment.bundle_id} serves on" if old else "nothing is served"
                log.error("refused bundle %s, %s: %s", deployment.bundle_id, serving, error)
                return
        self.current = Loaded(bundle, deployment)
        self._refused = None
        MODEL_INFO.clear()
        MODEL_INFO.labels(deployment.bundle_id, deployment.model_version, bundle.spec.hash).set(1)
        TRAINED_UNTIL.set(int(np.datetime64(bundle.info["trained_until"], "s").astype(np.int64)))
        LOADED_AT.set_to_current_time()
        RELOADS.inc()
        log.info("serving bundle %s, version %s", deployment.bundle_id, deployment.model_version)

    def _report(self, trouble: str | None, *, count: bool = False) -> None:
        """Log a state once, when it begins and when it ends, not at every poll."""
        if trouble == self._trouble:
            return
        if trouble is not None:
            log.error("cannot look for a new bundle, the loaded one serves on: %s", trouble)
            if count:
                RELOAD_FAILURES.inc()
        else:
            log.info("the deployed bundle can be followed again")
        self._trouble = trouble
