"""Asks the gateway for forecasts, as any client does."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from pvf.stack import api_keys
from pvforecast.errors import InvalidInput, NotReady, UnknownPark
from pvforecast.settings import Settings
from pvforecast.wiring import needed

PATH = "/v1/models/pv-forecast:predict"


def key(settings: Settings) -> str:
    """`PVF_API_KEY`, or the local stack's key of the client `desk`."""
    given = os.environ.get("PVF_API_KEY")
    if given:
        return given
    keys = api_keys.load(settings.home / "secrets" / "api-keys.json").get(api_keys.DEFAULT_CLIENT)
    if not keys:
        raise InvalidInput(f"the client {api_keys.DEFAULT_CLIENT!r} has no key", field="PVF_API_KEY", hint="set it")
    return keys[-1]


@dataclass(frozen=True)
class Answer:
    """The predictions of one request, and the id under which the prediction log keeps it."""

    predictions: list[dict[str, Any]]
    request_id: str


def forecast(settings: Settings, instances: Sequence[dict[str, Any]]) -> Answer:
    """POST one predict request.

    Raises
    ------
    UnknownPark, InvalidInput
        the answer was a 4xx; field and hint are the service's own.
    NotReady
        the gateway or what is behind it did not answer.
    """
    url = needed(settings.gateway_url, "PVF_GATEWAY_URL") + PATH
    headers = {"x-api-key": key(settings)}
    try:
        response = httpx.post(url, json={"instances": list(instances)}, headers=headers, timeout=15)
    except httpx.HTTPError as error:
        raise NotReady(f"{url} did not answer: {error}", hint="is the stack running? pvf up") from error
    if response.status_code == httpx.codes.OK:
        return Answer(response.json()["predictions"], response.headers.get("x-request-id", ""))
    try:
        body = response.json()
    except json.JSONDecodeError:
        body = {}
    kind = {404: UnknownPark, 503: NotReady}.get(response.status_code, InvalidInput)
    raise kind(
        f"{body.get('error') or response.text[:200]} (HTTP {response.status_code})",
        field=body.get("field"),
        hint=body.get("hint"),
    )
