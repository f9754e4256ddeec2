"""The feature spec of the deployed bundle, followed in the background; earlier ones are remembered."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

import numpy as np

from inference.deployed import DeployedPointer
from inference.transformer import header
from inference.transformer.earlier import Earlier
from inference.transformer.errors import Unavailable
from inference.transformer.header import Header
from pvforecast.errors import NoChampion, PvForecastError
from pvforecast.objects import ObjectStore

log = logging.getLogger(__name__)

_REMEMBERED = 20


class Specs:
    """Which features to build now.

    While a bundle is replaced, transformer and predictor see the change at different instants. Specs are therefore
    found by hash too, those of recent bundles included.

    Parameters
    ----------
    earlier : for questions of the past; without it they are answered by what is deployed.
    """

    def __init__(
        self,
        store: ObjectStore,
        pointer: DeployedPointer,
        earlier: Earlier | None = None,
        interval_s: float = 1.0,
        deadline_s: float = 4.0,
    ) -> None:
        self._store = store
        self._pointer = pointer
        self._earlier = earlier
        self._interval_s = interval_s
        self._deadline_s = deadline_s
        self._headers: dict[str, Header] = {}
        self._current: Header | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self._trouble: str | None = None

    async def run(self) -> None:
        """Follow the pointer for ever."""
        while True:
            try:
                await self.refresh()
                self._report(None)
            except PvForecastError as error:
                self._report(str(error))
            except Exception:
                log.exception("following the deployed bundle failed")
            await asyncio.sleep(self._interval_s)

    async def current(self) -> Header:
        """What is deployed, from memory once it was seen.

        Raises
        ------
        NoChampion, NotReady
            nothing is deployed, or it cannot be read and never was.
        """
        if self._current is None:
            await self.refresh()
        if self._current is None:
            raise NoChampion("no model is deployed yet", hint="run the training pipeline, then try again")
        return self._current

    async def serving_at(self, issued_at: np.datetime64, field: str) -> Header | None:
        """What served at a time of the past, as `Earlier.serving_at`; None where that is not told."""
        return None if self._earlier is None else await self._earlier.serving_at(issued_at, field)

    def version(self) -> str | None:
        """Of the model that is deployed, as last seen; None before the first."""
        return self._current.deployment.model_version if self._current else None

    async def file(self, bundle_id: str, name: str) -> bytes | None:
        """A file of one of the bundles that were seen; None where that bundle has none of the name."""
        uris = self._uris(bundle_id)
        if not uris:  # the predictor saw it first
            await self.refresh()
            uris = self._uris(bundle_id)
        if not uris:
            raise Unavailable("the model is being replaced", hint="try again")
        try:
            return await asyncio.wait_for(
                asyncio.to_thread(self._store.get, f"{header.folder(self._store, uris[-1])}/{name}"), self._deadline_s
            )
        except KeyError:
            return None
        except TimeoutError:
            raise Unavailable("the object store did not answer in time", hint="try again") from None

    async def of_hash(self, spec_hash: str | None) -> Header:
        """The bundle whose spec the predictor asks for; NotReady while it is not known here."""
        for look_again in (False, True):
            if look_again:
                await self.refresh()
            for known in reversed(self._headers.values()):
                if known.spec.hash == spec_hash:
                    return known
        raise Unavailable("the model is being replaced", hint="try again")

    async def refresh(self) -> None:
        """Look at the pointer now. Callers at the same time share one look."""
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(asyncio.to_thread(self._look))
        try:
            await asyncio.wait_for(asyncio.shield(self._refreshing), self._deadline_s)
        except TimeoutError:
            raise Unavailable("the object store did not answer in time", hint="try again") from None

    def _look(self) -> None:
        deployment = self._pointer.check()
        if deployment is None or (self._current is not None and self._current.deployment == deployment):
            return
        known = self._headers.get(deployment.bundle_uri)
        found = header.read(self._store, deployment) if known is None else replace(known, deployment=deployment)
        # A new dictionary: the event loop may be reading the old one.
        earlier = [item for item in self._headers.items() if item[0] != deployment.bundle_uri]
        self._headers = dict([*earlier, (deployment.bundle_uri, found)][-_REMEMBERED:])
        self._current = found
        log.info("features of spec %s for bundle %s", found.spec.hash, deployment.bundle_id)

    def _uris(self, bundle_id: str) -> list[str]:
        seen = [uri for uri, known in self._headers.items() if known.deployment.bundle_id == bundle_id]
        return seen or (self._earlier.uris(bundle_id) if self._earlier else [])

    def _report(self, trouble: str | None) -> None:
        if trouble is not None and trouble != self._trouble:
            log.error("cannot follow the deployed bundle: %s", trouble)
        self._trouble = trouble
