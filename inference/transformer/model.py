"""The kserve.Model of the transformer: preprocess asks the snapshots, predict the predictor, postprocess answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from kserve import Model

from inference import metrics
from inference.prediction_log.emitter import Emitter
from inference.prediction_log.events import Pair
from inference.protocol import MAX_EXPLAINED_ROWS, MODEL_NAME, MODELS_OF_THEN
from inference.transformer.access import ParkAccess, refuse_unknown
from inference.transformer.client import Inference, ModelGone, PredictorClient, SpecMoved
from inference.transformer.clock import Clock
from inference.transformer.earlier import gone
from inference.transformer.errors import TooLarge, Unavailable
from inference.transformer.forecast import Question
from inference.transformer.header import Header
from inference.transformer.last_good import LastGood
from inference.transformer.made import Made, MadeBefore
from inference.transformer.request import MAX_HORIZON_HOURS, Instance, read
from inference.transformer.snapshots import Snapshot, Snapshots, plausible, require
from inference.transformer.specs import Specs
from pvforecast.errors import InvalidInput, NotReady
from pvforecast.features import Features
from pvforecast.model import calibration

HOP = metrics.histogram("pvf_hop_duration_seconds")
FORECASTS = metrics.counter("pvf_forecasts_total")
ROWS = metrics.counter("pvf_forecast_rows_total")
DEGRADED = metrics.counter("pvf_degraded_forecasts_total")
WEATHER_AGE = metrics.histogram("pvf_forecast_weather_age_seconds")
GENERATION_AGE = metrics.histogram("pvf_forecast_generation_age_seconds")

R = TypeVar("R")
A = TypeVar("A")

CLIENT_HEADER = "x-client-id"
REQUEST_HEADER = "x-request-id"
_FEW_HOURS = 400
"""A request of so many is worked on in the event loop: to hand it to a thread and back takes longer than the work."""


@dataclass(frozen=True)
class Prepared:
    """A request whose questions are complete."""

    body: dict[str, Any]
    questions: list[Question]
    request_id: str
    client_id: str | None
    allow_stale: bool


@dataclass(frozen=True)
class Predicted:
    """A request with a forecast for each question."""

    prepared: Prepared
    made: list[Made]


class Transformer(Model):  # type: ignore[misc]  # kserve is untyped
    """Answers V1 predict. Everything that reads the outside world is handed in."""

    def __init__(
        self,
        snapshots: Snapshots,
        specs: Specs,
        client: PredictorClient,
        clock: Clock,
        access: ParkAccess,
        emitter: Emitter,
        default_hours: int,
        made_before: MadeBefore,
    ) -> None:
        if not 1 <= default_hours <= MAX_HORIZON_HOURS:
            hint = f"a whole number of hours from 1 to {MAX_HORIZON_HOURS}"
            raise InvalidInput(f"{default_hours} hours", field="PVF_HORIZON_HOURS", hint=hint)
        super().__init__(MODEL_NAME)
        self.ready = True
        self._snapshots = snapshots
        self._specs = specs
        self._client = client
        self._clock = clock
        self._access = access
        self._emitter = emitter
        self._default_hours = default_hours
        self._last_good = LastGood()
        self._made_before = made_before
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="features")

    async def preprocess(self, payload: Any, headers: dict[str, str] | None = None) -> Prepared:
        """Raises InvalidInput, UnknownPark or NotReady, as documented in docs/serving.md."""
        headers = headers or {}
        client_id = headers.get(CLIENT_HEADER)
        asked = read(payload)
        instances = asked.instances
        fields = [f"instances[{at}]" for at in range(len(instances))]
        wanted = {f"{field}.park_id": one.park_id for field, one in zip(fields, instances, strict=True)}
        refuse_unknown({field: park for field, park in wanted.items() if not plausible(park)})
        self._access.check(client_id, wanted)
        with HOP.labels("snapshots").time():
            newest = await _each(self._snapshots.newest(park) for park in wanted.values())
            missing = {field: park for (field, park), one in zip(wanted.items(), newest, strict=True) if one is None}
            refuse_unknown(missing)
            found = [one for one in newest if one is not None]
            questions = await _each(map(self._question, fields, instances, found))
        body = (
            payload if isinstance(payload, dict) else {"instances": [one.model_dump(mode="json") for one in instances]}
        )
        return Prepared(body, questions, headers.get(REQUEST_HEADER, ""), client_id, asked.allow_stale)

    async def predict(self, payload: Prepared, headers: object = None) -> Predicted:  # noqa: ARG002  # KServe passes them
        """Raises NotReady where no forecast can be made, and no older one may stand in or is there."""
        try:
            made = await self._predict(payload)
        except NotReady as error:
            if not payload.allow_stale:
                raise
            return Predicted(payload, [self._last_good.instead_of(question, error) for question in payload.questions])
        for one in made:
            self._last_good.keep(one)
        return Predicted(payload, made)

    async def _predict(self, payload: Prepared) -> list[Made]:
        """One call of the predictor for what is asked as of now, and one for each model that served before."""
        questions = payload.questions
        _check_explained(questions)
        asked: dict[Header | None, list[int]] = {}
        for at, question in enumerate(questions):
            asked.setdefault(question.then, []).append(at)
        _check_models(questions, asked, await self._specs.current())
        parts = await _each(
            self._answer([questions[at] for at in places], then, payload.request_id) for then, places in asked.items()
        )
        places = [at for of_model in asked.values() for at in of_model]
        made = dict(zip(places, [one for part in parts for one in part], strict=True))
        return [made[at] for at in range(len(questions))]

    async def _answer(self, questions: list[Question], then: Header | None, request_id: str) -> list[Made]:
        if then is None:
            return await self._now(questions, request_id)
        return await self._then(questions, then, request_id)

    async def _now(self, questions: list[Question], request_id: str) -> list[Made]:
        """What was made before is taken from memory; the predictor is asked for the rest, in one call."""
        header = await self._specs.current()
        for question in questions:
            question.check_quantiles(header.quantiles)
        found = [self._made_before.find(question, header.deployment) for question in questions]
        rest = [question for question, made in zip(questions, found, strict=True) if made is None]
        if not rest:
            return [made for made in found if made is not None]
        made = await self._make(rest, header, request_id)
        if made[0].inference.bundle_id != header.deployment.bundle_id and len(rest) < len(found):
            # the model was just replaced: one request is answered by one model
            return await self._make(questions, header, request_id)
        self._made_before.keep(made, header.deployment)
        fresh = iter(made)
        return [one or next(fresh) for one in found]

    async def _then(self, questions: list[Question], header: Header, request_id: str) -> list[Made]:
        """By the model that served when they were issued, and by no other."""
        for question in questions:
            question.check_quantiles(header.quantiles)
        bundle_id = header.deployment.bundle_id
        try:
            made = await self._make(questions, header, request_id, bundle_id)
        except ModelGone as error:
            raise gone(f"{questions[0].field}.issued_at", questions[0].issued_at) from error
        if made[0].inference.bundle_id != bundle_id:
            raise Unavailable("the predictor is of an earlier version: it knows no model but its own", hint="try again")
        return made

    async def _make(
        self, questions: list[Question], header: Header, request_id: str, bundle_id: str | None = None
    ) -> list[Made]:
        """One call for all parks; once more with other features where the model was just replaced."""
        explain = any(question.instance.explain for question in questions)
        for _ in range(3):
            with HOP.labels("features").time():
                rows = await self._work(_build, questions, header)
            try:
                with HOP.labels("predictor").time():
                    inference = await self._client.infer(
                        np.concatenate(rows),
                        header.spec.hash,
                        request_id,
                        [(question.known.site.park_id, len(of)) for question, of in zip(questions, rows, strict=True)],
                        explain=explain,
                        bundle_id=bundle_id,
                    )
            except SpecMoved as moved:
                if bundle_id is not None:
                    break
                header = await self._specs.of_hash(moved.spec_hash)
                continue
            for question in questions:
                question.check_quantiles(inference.levels)
            return _split(questions, rows, inference, header)
        raise Unavailable("the model is being replaced", hint="try again")

    async def postprocess(self, result: Predicted, headers: object = None) -> dict[str, Any]:  # noqa: ARG002  # KServe passes them
        with HOP.labels("answer").time():
            told = await self._work(_tell, result.prepared.questions, result.made)
        predictions = [answer for answer, _ in told]
        self._emitter.emit(
            Pair(
                request=result.prepared.body | {"client_id": result.prepared.client_id},
                response={"predictions": [entry for _, entry in told], "client_id": result.prepared.client_id},
                request_id=result.prepared.request_id,
            )
        )
        for prediction in predictions:
            _note(prediction)
        return {"predictions": predictions}

    async def _question(self, field: str, instance: Instance, newest: Snapshot) -> Question:
        named = f"{field}.issued_at"
        issued_at = self._clock.issue_time(instance.issued_at, newest, named)
        found, then = newest, None
        if issued_at < newest.known.as_of:
            found = require(await self._snapshots.at(instance.park_id, issued_at), named, issued_at)
        if instance.issued_at is not None and issued_at < self._clock.now(newest):
            then = await self._specs.serving_at(issued_at, named)
        return Question.ask(field, instance, found, issued_at, self._default_hours, then)

    async def _work(self, function: Callable[[list[Question], A], R], questions: list[Question], argument: A) -> R:
        """`function(questions, argument)`, in a thread where it would hold up other requests."""
        if sum(len(question.hours) for question in questions) <= _FEW_HOURS:
            return function(questions, argument)
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, questions, argument)


async def _each(waiting: Iterable[Awaitable[R]]) -> list[R]:
    """What all of them give; one alone needs no task of its own."""
    first, *others = waiting
    return [await first] if not others else list(await asyncio.gather(first, *others))


def _note(prediction: dict[str, Any]) -> None:
    FORECASTS.inc()
    ROWS.inc(len(prediction["valid_at"]))
    for reason in prediction["degraded"]:
        DEGRADED.labels(reason).inc()
    for seen, minutes in ((WEATHER_AGE, "weather_age_minutes"), (GENERATION_AGE, "generation_age_minutes")):
        if prediction[minutes] is not None:
            seen.observe(prediction[minutes] * 60)


def _build(questions: list[Question], header: Header) -> list[Features]:
    return [question.features(header.spec) for question in questions]


def _check_models(questions: list[Question], models: Iterable[Header | None], current: Header) -> None:
    """A predictor keeps so many at once: with more, a request would wait for ever for one that was given up again."""
    served_then = [one for one in models if one is not None and one.deployment != current.deployment]
    if len(served_then) > MODELS_OF_THEN:
        first = next(question for question in questions if question.then == served_then[MODELS_OF_THEN])
        raise TooLarge(
            f"{len(served_then)} models served at the issue times asked for, at most {MODELS_OF_THEN} in one request",
            field=f"{first.field}.issued_at",
            hint="ask for issue times that are further apart in requests of their own",
        )


def _check_explained(questions: list[Question]) -> None:
    hours = sum(len(question.hours) for question in questions)
    if hours > MAX_EXPLAINED_ROWS and any(question.instance.explain for question in questions):
        raise TooLarge(
            f"{hours} hours in a request with explain, at most {MAX_EXPLAINED_ROWS}",
            field="explain",
            hint="ask for fewer hours or parks at once, or leave explain out",
        )


def _split(questions: list[Question], rows: list[Features], inference: Inference, header: Header) -> list[Made]:
    """To each question its part of the predictor's answer to all rows."""
    rungs = calibration.rungs(np.concatenate(rows), header.spec.names)
    made, begin = [], 0
    for question, of_question in zip(questions, rows, strict=True):
        part = slice(begin, begin + len(of_question))
        new = header.parks is not None and question.known.site.park_id not in header.parks
        made.append(Made(question, of_question, inference.part(part), rungs[part], new))
        begin += len(of_question)
    return made


def _tell(_: list[Question], made: list[Made]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    return [one.told for one in made]
