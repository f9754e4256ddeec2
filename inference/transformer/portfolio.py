"""Several parks together, `POST /v1/portfolio`: what is asked, and how it is answered. See docs/portfolio.md.

Each park's forecast is made as V1 predict makes it, in pages, with the same checks and the same log; the quantiles of
the sum come from joint scenarios of the dependence that was learned with the model.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter, OrderedDict
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr, ValidationError

from inference.transformer import request
from inference.transformer.access import ParkAccess, refuse_unknown
from inference.transformer.errors import TooLarge
from inference.transformer.model import CLIENT_HEADER, Transformer
from inference.transformer.request import MAX_HORIZON_HOURS, MAX_INSTANCES, Instant, Levels
from inference.transformer.snapshots import Snapshots, plausible
from inference.transformer.specs import Specs
from pvforecast import directory, snapshot
from pvforecast.directory import Directory
from pvforecast.errors import InvalidInput
from pvforecast.objects import ObjectStore
from pvforecast.portfolio import Dependence, served
from pvforecast.portfolio.dependence import FILE_NAME
from pvforecast.site import Site

MAX_PARKS = 1_000
_PAGES_AT_ONCE = 2  # features of one are built while the predictor works on another
_DIRECTORY_TTL_S = 5.0
_REMEMBERED = 4
_DRAWN = 250_000  # parks × scenarios where their number is not given: the time is spent on these
_FEWEST, _MOST = 250, 1_000

_INSTANCE = re.compile(r"instances\[\d+\]\.")


class Portfolio(BaseModel):
    """A question about several parks: those named, else those of the group, else all that the client may see."""

    model_config = ConfigDict(extra="forbid")

    parks: Annotated[list[Annotated[StrictStr, Field(min_length=1, max_length=64)]], Field(min_length=1)] | None = None
    group: Annotated[StrictStr, Field(min_length=1, max_length=63)] | None = None
    horizon_hours: Annotated[StrictInt, Field(ge=1, le=MAX_HORIZON_HOURS)] | None = None
    issued_at: Instant | None = None
    quantiles: Levels | None = None
    scenarios: Annotated[StrictInt, Field(ge=100, le=20_000)] | None = None
    seed: Annotated[StrictInt, Field(ge=0, le=2**32 - 1)] = 0
    each: StrictBool = True
    allow_stale: StrictBool = False


HINTS = {
    "parks": f"ids of parks, each once, at most {MAX_PARKS}; or leave it out for a group or the fleet",
    "group": "the name of a group of parks, instead of parks",
    "horizon_hours": f"a whole number of hours from 1 to {MAX_HORIZON_HOURS}, or leave it out",
    "issued_at": "ISO 8601 with offset, e.g. 2013-06-01T06:00:00Z, or null for now",
    "quantiles": "a list of levels between 0 and 1 that the model has, or null for all of them",
    "scenarios": "a whole number from 100 to 20000, or leave it out",
    "seed": "a whole number; equal seeds give equal answers",
    "each": "false leaves the parks' own forecasts out of the answer",
    "allow_stale": "true for the sum of the last good forecasts where none can be made now",
}


def parse(body: bytes) -> Portfolio:
    """Raises InvalidInput naming every field that is wrong, TooLarge for too many parks."""
    read = request.json_object(body, 'send {"parks": ["..."]}, {"group": "..."} or {} for the whole fleet')
    try:
        asked = Portfolio.model_validate(read)
    except ValidationError as error:
        raise request.explain(error, Portfolio, HINTS) from error
    if asked.parks is not None and asked.group is not None:
        raise InvalidInput("parks and group are both given", field="group", hint="send one of them")
    _check_count(asked.parks or (), "parks")
    twice = [park for park, count in Counter(asked.parks).items() if count > 1]
    if twice:
        raise InvalidInput(f"{twice[0]!r} is there twice", field="parks", hint="name each park once")
    return asked


class Portfolios:
    """Answers portfolios. One is drawn at a time: each takes a core for its part of a second."""

    def __init__(
        self, model: Transformer, snapshots: Snapshots, specs: Specs, access: ParkAccess, store: ObjectStore
    ) -> None:
        self._model = model
        self._snapshots = snapshots
        self._specs = specs
        self._access = access
        self._store = store
        self._directory: tuple[float, Directory] | None = None
        self._dependences: OrderedDict[str, Dependence | None] = OrderedDict()
        self._drawing = asyncio.Semaphore(1)
        self._pages = asyncio.Semaphore(_PAGES_AT_ONCE)

    async def answer(self, asked: Portfolio, headers: dict[str, str]) -> dict[str, Any]:
        """The sum and, where asked for, each park's forecast.

        Raises
        ------
        InvalidInput, UnknownPark, TooLarge, NotReady
            as V1 predict does, in the names of this body's fields.
        """
        sites, left_out = await self._members(asked, headers.get(CLIENT_HEADER))
        pages = [list(sites)[at : at + MAX_INSTANCES] for at in range(0, len(sites), MAX_INSTANCES)]
        predictions = [
            one for page in await asyncio.gather(*(self._page(asked, page, headers) for page in pages)) for one in page
        ]
        levels = tuple(float(level) for level in predictions[0]["power_kw"])
        wanted = tuple(sorted(set(asked.quantiles or levels)))
        _check_levels(wanted, levels)
        bundle_ids = list(dict.fromkeys(one["bundle_id"] for one in predictions))
        dependence = await self._dependence(bundle_ids[-1])
        count = asked.scenarios or min(_MOST, max(_FEWEST, _DRAWN // len(sites)))
        try:
            async with self._drawing:
                total = await asyncio.to_thread(
                    served.total, predictions, sites, dependence or Dependence.prior(), wanted, count, asked.seed
                )
        except InvalidInput as error:
            field = "scenarios" if error.field == "n" else "parks"
            raise InvalidInput(error.message, field=field, hint=error.hint) from error
        degraded = Counter(reason for one in predictions for reason in one["degraded"])
        return {
            "portfolio": {
                "parks": list(sites),
                "left_out": left_out,
                "issued_at": sorted({one["issued_at"] for one in predictions}),
                "resolution": predictions[0]["resolution"],
                "bundle_id": bundle_ids,
                "model_version": list(dict.fromkeys(one["model_version"] for one in predictions)),
                "dependence_fitted": dependence is not None,
                "scenarios": count,
                "seed": asked.seed,
                "valid_at": [f"{hour}Z" for hour in total.valid_at],
                "power_kw": {
                    str(level): total.power_kw[:, at].round(4).tolist() for at, level in enumerate(total.levels)
                },
                "energy_kwh": {
                    str(level): round(float(total.energy_kwh[at]), 4) for at, level in enumerate(total.levels)
                },
                "degraded": dict(degraded),
            },
            "predictions": [_only(one, wanted) for one in predictions] if asked.each else None,
        }

    async def _members(self, asked: Portfolio, client: str | None) -> tuple[dict[str, Site], dict[str, str]]:
        """The facts of the parks asked for, and which of a group or the fleet are left out, with why."""
        if asked.parks is not None:
            wanted = {f"parks[{at}]": park for at, park in enumerate(asked.parks)}
            refuse_unknown({field: park for field, park in wanted.items() if not plausible(park)})
            self._access.check(client, wanted)
        else:
            wanted = {park: park for park in self._access.visible(client, await self._named(asked.group))}
            if not wanted:
                raise refused(asked.group)
        _check_count(wanted, "group" if asked.group else "parks")
        parks = list(wanted.values())
        newest = []
        for at in range(0, len(parks), MAX_INSTANCES):  # all at once would wait for each other beyond their deadline
            newest += await asyncio.gather(*map(self._snapshots.newest, parks[at : at + MAX_INSTANCES]))
        found = {park: one.known.site for park, one in zip(parks, newest, strict=True) if one is not None}
        missing = {field: park for field, park in wanted.items() if park not in found}
        if asked.parks is not None:
            refuse_unknown(missing)
        if not found:
            raise refused(asked.group)
        return found, dict.fromkeys(missing, "no snapshot yet")

    async def _named(self, group: str | None) -> Sequence[str]:
        """Parks of the group, or of the fleet: those with a snapshot where no directory was published yet."""
        now = time.monotonic()
        if self._directory is None or now - self._directory[0] > _DIRECTORY_TTL_S:
            self._directory = now, await asyncio.to_thread(directory.read, self._store)
        known = self._directory[1]
        if group is not None:
            return [park for park, entry in known.items() if group in entry.get("groups", ())]
        return list(known) or sorted(await asyncio.to_thread(snapshot.parks, self._store))

    async def _page(self, asked: Portfolio, parks: Sequence[str], headers: dict[str, str]) -> list[dict[str, Any]]:
        issued_at = asked.issued_at.isoformat() if asked.issued_at else None
        instances = [{"park_id": park, "horizon_hours": asked.horizon_hours, "issued_at": issued_at} for park in parks]
        try:
            async with self._pages:
                answer, _ = await self._model(
                    {"instances": instances, "allow_stale": asked.allow_stale}, headers=headers
                )
        except InvalidInput as error:
            field = _INSTANCE.sub("", error.field or "").split(", ")[0].replace("park_id", "parks")
            raise type(error)(_INSTANCE.sub("", error.message), field=field, hint=error.hint) from error
        predictions: list[dict[str, Any]] = answer["predictions"]
        return predictions

    async def _dependence(self, bundle_id: str) -> Dependence | None:
        """What was learned with the model; None for a bundle without."""
        if bundle_id not in self._dependences:
            data = await self._specs.file(bundle_id, FILE_NAME)
            self._dependences[bundle_id] = Dependence.from_bytes(data) if data else None
            while len(self._dependences) > _REMEMBERED:
                self._dependences.popitem(last=False)
        return self._dependences[bundle_id]


def refused(group: str | None) -> InvalidInput:
    """No park to add up: nothing more is told, so that a client learns of no group that it has no park of."""
    if group is None:
        return InvalidInput("there is no park", field="parks", hint="register parks and run ingestion")
    return InvalidInput(f"no park is in a group {group[:80]!r}", field="group", hint="list them: pvf park list")


def _check_count(parks: Sequence[str] | dict[str, str], field: str) -> None:
    if len(parks) > MAX_PARKS:
        raise TooLarge(f"{len(parks)} parks, at most {MAX_PARKS} in one request", field=field, hint="send several")


def _check_levels(wanted: Sequence[float], levels: Sequence[float]) -> None:
    unknown = [level for level in wanted if level not in levels]
    if unknown:
        raise InvalidInput(
            f"the model has no level {', '.join(map(str, unknown))}",
            field="quantiles",
            hint=f"the calibrated levels are {', '.join(map(str, levels))}",
        )


def _only(prediction: dict[str, Any], levels: Sequence[float]) -> dict[str, Any]:
    """The prediction at these levels."""
    names = [str(level) for level in levels]
    chosen = {
        field: {level: prediction[field][level] for level in names} if prediction[field] is not None else None
        for field in ("power_kw", "possible_kw")
    }
    return prediction | chosen
