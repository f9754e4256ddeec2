"""`GET /v1/forecasts`: the newest forecasts of some parks, and cheaply whether there are newer ones (ETag, 304)."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Iterable
from typing import Any

import orjson
from starlette.datastructures import QueryParams
from starlette.responses import Response

from inference.transformer.access import ParkAccess, refuse_unknown
from inference.transformer.model import CLIENT_HEADER, Transformer
from inference.transformer.request import parse
from inference.transformer.snapshots import Snapshots, plausible
from inference.transformer.specs import Specs
from pvforecast.errors import InvalidInput

PATH = "/v1/forecasts"
_KNOWN = ("park", "horizon_hours")
_FIELD = re.compile(r"instances\[(\d+)\]\.(park_id|horizon_hours)|instances")
_NOTHING_NEW = 304


class Newest:
    """Answers with the tag of what the forecasts are made from: equal tag, same snapshots and model.

    The clock is not in the tag: a forecast from the same knowledge, asked for an hour later, is no newer one.
    """

    def __init__(self, model: Transformer, snapshots: Snapshots, specs: Specs, access: ParkAccess) -> None:
        self._model = model
        self._snapshots = snapshots
        self._specs = specs
        self._access = access

    async def answer(self, query: QueryParams, headers: dict[str, str]) -> Response:
        """Raises InvalidInput, UnknownPark, TooLarge, NotReady as V1 predict, in the names of the query."""
        body = _body(query)
        given = headers.get("if-none-match")
        if given is not None:
            tag = await self._tag([one["park_id"] for one in body["instances"]], headers.get(CLIENT_HEADER), query)
            if _matches(given, tag):
                return Response(status_code=_NOTHING_NEW, headers={"etag": tag})
        try:
            answer, _ = await self._model(body, headers=headers)
        except InvalidInput as error:
            raise _renamed(error) from error
        made = [(one["snapshot_id"], one["bundle_id"]) for one in answer["predictions"]]
        return Response(orjson.dumps(answer), media_type="application/json", headers={"etag": _named(made, query)})

    async def _tag(self, parks: list[str], client: str | None, query: QueryParams) -> str:
        wanted = {f"park[{at}]": park for at, park in enumerate(parks)}
        refuse_unknown({field: park for field, park in wanted.items() if not plausible(park)})
        self._access.check(client, wanted)
        newest = await asyncio.gather(*map(self._snapshots.newest, parks))
        refuse_unknown({field: park for (field, park), one in zip(wanted.items(), newest, strict=True) if one is None})
        bundle_id = (await self._specs.current()).deployment.bundle_id
        return _named([(one.snapshot_id, bundle_id) for one in newest if one is not None], query)


def _body(query: QueryParams) -> dict[str, Any]:
    unknown = [name for name in query if name not in _KNOWN]
    if unknown:
        raise InvalidInput("there is no such parameter", field=unknown[0][:80], hint=f"known: {', '.join(_KNOWN)}")
    hours: int | None = None
    if "horizon_hours" in query:
        text = query["horizon_hours"]
        if not (text.isascii() and text.isdigit() and len(text) < 6):
            raise InvalidInput(f"{text[:20]!r}", field="horizon_hours", hint="a whole number of hours")
        hours = int(text)
    body = {"instances": [{"park_id": park, "horizon_hours": hours} for park in query.getlist("park")]}
    try:
        parse(body)
    except InvalidInput as error:
        raise _renamed(error) from error
    return body


def _renamed(error: InvalidInput) -> InvalidInput:
    def name(found: re.Match[str]) -> str:
        return "horizon_hours" if found[2] == "horizon_hours" else f"park[{found[1]}]" if found[2] else "park"

    fields = dict.fromkeys(_FIELD.sub(name, error.field or "").split(", "))
    return type(error)(_FIELD.sub(name, error.message), field=", ".join(fields), hint="?park=…&park=…&horizon_hours=48")


def _named(made: Iterable[tuple[str, str]], query: QueryParams) -> str:
    text = repr((list(made), query.get("horizon_hours")))
    return f'"{hashlib.blake2b(text.encode(), digest_size=12).hexdigest()}"'


def _matches(given: str, tag: str) -> bool:
    return given.strip() == "*" or tag in (one.strip().removeprefix("W/") for one in given.split(","))
