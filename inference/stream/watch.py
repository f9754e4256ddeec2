"""Notices that a park's snapshot or the deployed model changed, makes the forecast once, publishes it to all."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from inference import deployed, metrics
from inference.stream.hub import Hub, Update
from pvforecast.errors import DataError, NotReady, PvForecastError
from pvforecast.objects import ObjectStore

log = logging.getLogger(__name__)

UPDATES = metrics.counter("pvf_stream_updates_total")
PARKS = metrics.gauge("pvf_stream_parks")

LATEST = "snapshots/latest/"
_AT_ONCE = 100  # parks a request
_FEW = 4
_RETRY_S = 1.0

Forecast = Callable[[Sequence[str]], Awaitable[list[dict[str, Any]]]]


@dataclass(frozen=True)
class State:
    """What can be seen of the outside world: the pointers' ETags."""

    snapshots: Mapping[str, str]
    model: str


@dataclass
class _Made:
    """What the newest forecast of a park was made from."""

    etag: str
    model: str
    inputs: dict[str, Any] = field(default_factory=dict)


def read_state(store: ObjectStore, parks: set[str]) -> State:
    """Blocking. A park without a snapshot is left out; without a model its ETag is empty.

    Raises
    ------
    NotReady
        the store does not answer.
    """
    found: dict[str, str] = {}
    if len(parks) <= _FEW:
        for park in parks:
            try:
                found[park] = store.etag(f"{LATEST}{park}.json")
            except KeyError:
                continue
    else:
        listed = {key.removeprefix(LATEST).removesuffix(".json"): etag for key, etag in store.etags(LATEST)}
        found = {park: listed[park] for park in parks if park in listed}
    try:
        model = store.etag(deployed.KEY)
    except KeyError:
        model = ""
    return State(found, model)


class Watcher:
    """Polls the pointers of the parks that are listened to.

    Parameters
    ----------
    look : reads the state; called in a thread.
    forecast : makes the answers of these parks, as V1 predict gives them, from the newest snapshots.
    bundle_id : the id of the bundle that the deployed pointer names; called in a thread. A forecast by another one is
        not published as the new model's: the predictor loads it within seconds.
    """

    def __init__(
        self,
        hub: Hub,
        look: Callable[[set[str]], State],
        forecast: Forecast,
        bundle_id: Callable[[], str | None],
        interval_s: float = 0.3,
    ) -> None:
        self._hub = hub
        self._look = look
        self._forecast = forecast
        self._bundle_id = bundle_id
        self._interval_s = interval_s
        self._made: dict[str, _Made] = {}
        self._wanted_bundle: tuple[str, str | None] = ("", None)  # the pointer's ETag, and whom it names
        self._trouble: str | None = None
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Look now: somebody listens to a park that nobody listened to."""
        self._woken.set()

    async def run(self) -> None:
        """For ever. Whatever fails is told once and tried again."""
        while True:
            try:
                await self.step()
                self._report(None)
            except PvForecastError as error:
                self._report(str(error))
                await asyncio.sleep(_RETRY_S)
            except Exception:
                log.exception("watching failed")
                await asyncio.sleep(_RETRY_S)
            try:
                await asyncio.wait_for(self._woken.wait(), self._interval_s)
            except TimeoutError:
                continue
            finally:
                self._woken.clear()

    async def step(self) -> None:
        """Look once, publish what changed."""
        parks = self._hub.parks
        PARKS.set(len(parks))
        self._made = {park: made for park, made in self._made.items() if park in parks}
        if not parks:
            return
        state = await asyncio.to_thread(self._look, parks)
        if state.model != self._wanted_bundle[0]:
            self._wanted_bundle = (state.model, await asyncio.to_thread(self._bundle_id))
        changed = [
            park
            for park, etag in state.snapshots.items()
            if (made := self._made.get(park)) is None or (made.etag, made.model) != (etag, state.model)
        ]
        for begin in range(0, len(changed), _AT_ONCE):
            await self._make(changed[begin : begin + _AT_ONCE], state)

    async def _make(self, parks: Sequence[str], state: State) -> None:
        answers = await self._forecast(parks)
        updates = []
        for answer in answers:
            park = answer["park_id"]
            old = self._made.get(park)
            inputs = {name: answer[name] for name in ("snapshot_id", "bundle_id")}
            # the predictor may still serve the old model: then what changed besides is pushed, and it is asked again
            late = answer["bundle_id"] != self._wanted_bundle[1]
            model = (old.model if old else "") if late else state.model
            self._made[park] = _Made(state.snapshots[park], model, inputs | _known_from(answer))
            if old is None or inputs != {name: old.inputs[name] for name in inputs}:
                reasons = _reasons(old.inputs if old else None, self._made[park].inputs)
                for reason in reasons:
                    UPDATES.labels(reason).inc()
                updates.append(encode(answer, reasons))
        self._hub.publish(updates)

    def _report(self, trouble: str | None) -> None:
        if trouble is not None and trouble != self._trouble:
            log.error("nothing can be pushed at the moment: %s", trouble)
        if trouble is None and self._trouble is not None:
            log.info("forecasts can be pushed again")
        self._trouble = trouble


def encode(answer: Mapping[str, Any], reasons: Sequence[str]) -> Update:
    """The message that carries a prediction."""
    update_id = f"{answer['snapshot_id'][:16]}-{answer['bundle_id'][:16]}"
    message = {
        "type": "forecast",
        "id": update_id,
        "park_id": answer["park_id"],
        "changed": list(reasons),
        "prediction": answer,
    }
    return Update(answer["park_id"], update_id, json.dumps(message, separators=(",", ":")))


def bundle_of(pointer: deployed.DeployedPointer) -> str | None:
    """The bundle that is deployed; None where there is none, or it cannot be told."""
    try:
        found = pointer.check()
    except (DataError, NotReady):
        return None
    return found.bundle_id if found else None


def _known_from(answer: Mapping[str, Any]) -> dict[str, Any]:
    """What tells, beside the ids, whether weather or generation is newer; ages are minutes before `issued_at`."""
    return {
        name: answer.get(name)
        for name in ("issued_at", "weather_source", "weather_age_minutes", "generation_age_minutes")
    }


def _reasons(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> list[str]:
    if old is None:
        return ["first"]
    found = ["model"] if old["bundle_id"] != new["bundle_id"] else []
    if old["snapshot_id"] != new["snapshot_id"]:
        weather = _moment(old, "weather_age_minutes") != _moment(new, "weather_age_minutes")
        if weather or old["weather_source"] != new["weather_source"]:
            found.append("weather")
        if _moment(old, "generation_age_minutes") != _moment(new, "generation_age_minutes"):
            found.append("generation")
        if found in ([], ["model"]):
            found.append("snapshot")  # corrected values, other facts of the park
    return found


def _moment(inputs: Mapping[str, Any], age: str) -> float | None:
    """When the weather run started, or the newest metered hour ended; minutes, rounded for the ages' own rounding."""
    if inputs[age] is None:
        return None
    issued = np.datetime64(str(inputs["issued_at"]).removesuffix("Z"), "s").astype(np.int64) / 60
    return round(float(issued - inputs[age]))
