"""Asks the gateway for forecasts, as any client does."""

from __future__ import annotations

import json
import os
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx

from pvf.stack import api_keys, gateway_tls
from pvforecast.errors import InvalidInput, NotReady, UnknownPark
from pvforecast.settings import Settings
from pvforecast.wiring import needed

PATH = "/v1/models/pv-forecast:predict"
PORTFOLIO_PATH = "/v1/portfolio"
_SENDABLE = re.compile(r"[\x21-\x7e]+")  # what HTTP carries; others say themselves what they hold for a key


def key(settings: Settings) -> str:
    """`PVF_API_KEY`, or the newest key of the local stack's client `desk` that holds and sees all parks."""
    given = os.environ.get("PVF_API_KEY")
    if given:
        if not _SENDABLE.fullmatch(given):  # said without the value, which may be a key with a slip
            raise InvalidInput(
                "it has a character that no key has: a space, a line break or one outside ASCII",
                field="PVF_API_KEY",
                hint="copy the key again; 16 to 200 of A-Z, a-z, 0-9, . _ -",
            )
        return given
    keys = api_keys.in_force(api_keys.load(settings.home / "secrets" / "api-keys.json"), datetime.now(UTC))
    usable = [one for one in keys.get(api_keys.DEFAULT_CLIENT, []) if not one.limited]
    if not usable:
        raise InvalidInput(
            f"the client {api_keys.DEFAULT_CLIENT!r} has no key that sees all parks",
            field="PVF_API_KEY",
            hint=f"set it, or make one: pvf key add {api_keys.DEFAULT_CLIENT}",
        )
    return usable[-1].key


def _trusted(settings: Settings) -> ssl.SSLContext | bool:
    """`PVF_GATEWAY_CA_FILE`, or the local stack's own authority beside the system's."""
    named, own = os.environ.get("PVF_GATEWAY_CA_FILE"), gateway_tls.ca_file(settings.home)
    if not settings.gateway_url.startswith("https:") or not (named or own.exists()):
        return True
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(named or own)
    except (OSError, ssl.SSLError) as error:
        raise InvalidInput(
            f"{named or own} cannot be used: {error}", field="PVF_GATEWAY_CA_FILE", hint="a PEM file of certificates"
        ) from error
    return context


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
    response = _post(settings, PATH, {"instances": list(instances)}, timeout_s=15)
    return Answer(response.json()["predictions"], response.headers.get("x-request-id", ""))


def portfolio(settings: Settings, asked: dict[str, Any]) -> dict[str, Any]:
    """Several parks together (docs/portfolio.md). Raises as `forecast` does."""
    answer: dict[str, Any] = _post(settings, PORTFOLIO_PATH, asked, timeout_s=60).json()
    return answer


def _post(settings: Settings, path: str, body: dict[str, Any], timeout_s: float) -> httpx.Response:
    url = needed(settings.gateway_url, "PVF_GATEWAY_URL") + path
    headers = {"x-api-key": key(settings)}
    try:
        response = httpx.post(url, json=body, headers=headers, timeout=timeout_s, verify=_trusted(settings))
    except httpx.HTTPError as error:
        raise NotReady(f"{url} did not answer: {error}", hint="is the stack running? pvf up") from error
    if response.status_code == httpx.codes.OK:
        return response
    try:
        told = response.json()
    except json.JSONDecodeError:
        told = {}
    kind = {404: UnknownPark, 503: NotReady}.get(response.status_code, InvalidInput)
    raise kind(
        f"{told.get('error') or response.text[:200]} (HTTP {response.status_code})",
        field=told.get("field"),
        hint=told.get("hint"),
    )
