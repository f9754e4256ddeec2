"""The feature spec of the deployed bundle, followed in the background; earlier ones are remembered."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from inference.deployed import DeployedPointer, Deployment
from inference.transformer.errors import Unavailable
from pvforecast.errors import BundleError, NoChampion, PvForecastError
from pvforecast.features import FeatureSpec
from pvforecast.objects import ObjectStore

log = logging.getLogger(__name__)

_REMEMBERED = 20


@dataclass(frozen=True)
class Header:
    """What the transformer needs of a bundle."""

    deployment: Deployment
    spec: FeatureSpec
    quantiles: tuple[float, ...]


class Specs:
    """Which features to build now.

    While a bundle is replaced, transformer and predictor see the change at different instants. Specs are therefore
    found by hash too, those of recent bundles included.
    """

    def __init__(
        self, store: ObjectStore, pointer: DeployedPointer, interval_s: float = 1.0, deadline_s: float = 4.0
    ) -> None:
        self._store = store
        self._pointer = pointer
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
                asyncio.to_thread(self._store.get, f"{self._folder(uris[-1])}/{name}"), self._deadline_s
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
            for header in reversed(self._headers.values()):
                if header.spec.hash == spec_hash:
                    return header
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
        header = Header(deployment, *self._read(deployment.bundle_uri))
        # A new dictionary: the event loop may be reading the old one.
        earlier = [item for item in self._headers.items() if item[0] != deployment.bundle_uri]
        self._headers = dict([*earlier, (deployment.bundle_uri, header)][-_REMEMBERED:])
        self._current = header
        log.info("features of spec %s for bundle %s", header.spec.hash, deployment.bundle_id)

    def _read(self, uri: str) -> tuple[FeatureSpec, tuple[float, ...]]:
        known = self._headers.get(uri)
        if known is not None:
            return known.spec, known.quantiles
        try:
            info = self._store.get_json(f"{self._folder(uri)}/bundle.json")
            return FeatureSpec(tuple(info["spec"]["names"]), info["spec"]["version"]), tuple(info["quantiles"])
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"{uri}/bundle.json cannot be read: {error!r}", hint="pvf model list") from error

    def _uris(self, bundle_id: str) -> list[str]:
        return [uri for uri, header in self._headers.items() if header.deployment.bundle_id == bundle_id]

    def _folder(self, uri: str) -> str:
        return uri.removeprefix(f"s3://{self._store.bucket}/").rstrip("/")

    def _report(self, trouble: str | None) -> None:
        if trouble is not None and trouble != self._trouble:
            log.error("cannot follow the deployed bundle: %s", trouble)
        self._trouble = trouble
