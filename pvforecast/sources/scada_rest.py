"""Generation from a SCADA's REST interface: pages of JSON items, read by the same rules as MQTT messages.

A poll asks again for the last hours (`overlap_s`), because rows come late and are corrected; what is stored already
with the same values is left out, so that polling adds only what is new. Where a poll begins is what the lake holds:
there is no cursor beside the data that could disagree with them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote, urljoin, urlsplit

import httpx
import orjson
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pvforecast.errors import DataError, InvalidInput
from pvforecast.lake import Lake
from pvforecast.lake.tables import RAW_GENERATION
from pvforecast.parks import Park
from pvforecast.quarantine import Rejected
from pvforecast.sources.fetching import Fetcher, Patience
from pvforecast.telemetry import mapping, rows
from pvforecast.telemetry.fields import FaultError, getter
from pvforecast.telemetry.translate import Limits, Message, Reader, Reading, Refused, is_device

_DeviceId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$")]
_ANY_AGE = Limits(max_age_s=40 * 366 * 86_400)
_COMPARED = ("power_kw", "energy_total_kwh", "available_fraction", "export_limit_kw", "curtailed", "period_s")


class Next(BaseModel):
    """Where an answer says how to go on; nothing there means that it was the last page.

    Attributes
    ----------
    path : of a cursor, or of the next page's address on the same server.
    param : the parameter to send a cursor in; none: `path` holds an address.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    param: str | None = None


class RestSource(BaseModel):
    """One REST interface.

    Attributes
    ----------
    url : ``https://host/sites/{park}/power``; `{park}` is the sender's name of a park.
    params : of the query; `{park}`, `{since}` and `{until}` are filled in.
    instants : how since and until are written: ISO 8601 in UTC, seconds or milliseconds since 1970.
    items : path of the list of items.
    parks : our park id -> the sender's name. Only these are asked for.
    device, device_path : the device, or where an item names it.
    rule : how an item is read; it needs no topic.
    key_variable, key_header : environment variable that holds the key, and the header it goes into as `key_format`.
    every_s : between two polls of the telemetry service.
    overlap_s : what is asked for again each time.
    first_look_s : how far back the first poll looks.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")
    url: str
    params: dict[str, str] = {"from": "{since}", "to": "{until}"}
    instants: Literal["iso", "s", "ms"] = "iso"
    items: str = ""
    next: Next | None = None
    most_pages: int = Field(default=1_000, ge=1)
    parks: dict[str, str] = Field(min_length=1)
    device: _DeviceId | None = None
    device_path: str | None = None
    rule: mapping.Rule
    key_variable: str | None = Field(default=None, pattern=r"^[A-Z][A-Z0-9_]*$")
    key_header: str = "Authorization"
    key_format: str = "Bearer {key}"
    every_s: int = Field(default=300, ge=10)
    overlap_s: int = Field(default=6 * 3600, ge=0, le=30 * 86_400)
    first_look_s: int = Field(default=2 * 86_400, ge=60)
    timeout_s: float = Field(default=30.0, gt=0, le=300)
    attempts: int = Field(default=4, ge=1, le=10)

    @field_validator("url")
    @classmethod
    def _http(cls, value: str) -> str:
        if urlsplit(value).scheme not in ("http", "https") or not urlsplit(value).hostname:
            raise ValueError("an http or https address, e.g. https://scada.example/sites/{park}/power")
        return value

    @model_validator(mode="after")
    def _one_device(self) -> RestSource:
        if (self.device is None) == (self.device_path is None):
            raise ValueError("either device or device_path")
        return self

    @property
    def stored_source(self) -> str:
        return self.rule.source or f"rest:{self.name}"


class RestFile(BaseModel):
    """A file of REST sources, for the telemetry service (`PVF_MQTT_REST_FILE`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    sources: tuple[RestSource, ...] = Field(min_length=1)


def load(file: Path) -> tuple[RestSource, ...]:
    """The sources of a file, YAML or JSON; raises InvalidInput naming the field that is wrong."""
    return mapping.load_document(file, RestFile).sources


def _ignore(_rejected: list[Rejected]) -> None:
    return


class ScadaRest:
    """A generation source; see `RestSource`.

    Parameters
    ----------
    on_rejected : gets the items that can't be read, page by page.
    key : overrides the environment variable.

    Raises
    ------
    InvalidInput
        the key's variable is not set.
    """

    def __init__(
        self,
        config: RestSource,
        *,
        on_rejected: Callable[[list[Rejected]], object] = _ignore,
        key: str | None = None,
        patience: Patience | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.config = config
        self._on_rejected, self._now = on_rejected, now
        self._patience = patience or Patience(attempts=config.attempts, timeout_s=config.timeout_s, longest_pause_s=30)
        self._headers = {}
        if config.key_variable:
            found = key or os.environ.get(config.key_variable, "")
            if not found:
                raise InvalidInput("is not set", field=config.key_variable, hint=f"the key of source {config.name}")
            self._headers = {config.key_header: config.key_format.format(key=found)}
        self._items = getter(config.items)
        self._next = getter(config.next.path) if config.next else None
        self._device = getter(config.device_path) if config.device_path else None

    @property
    def name(self) -> str:
        return self.config.stored_source

    def generation(self, park: Park, since: datetime, until: datetime) -> pd.DataFrame:
        """Rows of ``raw/generation`` measured in [since, until), received now.

        Raises
        ------
        NotReady
            the server does not answer, or keeps failing.
        DataError
            its answers are broken.
        InvalidInput
            it refuses the question, or the park is none of this source.
        """
        config = self.config
        theirs = config.parks.get(park.id)
        if theirs is None:
            raise InvalidInput(
                f"source {config.name} has no park {park.id!r}", field="parks", hint="add it to the source's file"
            )
        arrival = _us(self._now())
        rule = config.rule.model_copy(update={"source": self.name})
        reader = Reader(rule, _ANY_AGE)
        found: list[Reading] = []
        with Fetcher(self.name, self._patience, headers=self._headers) as fetcher:
            for address, items in self._pages(fetcher, theirs, since, until):
                rejected: list[Rejected] = []
                for place, item in enumerate(items):
                    try:
                        found += reader.readings(item, park.id, self._device_of(item), park.ac_capacity_kw, arrival)
                    except FaultError as error:
                        rejected.append(self._rejected(item, park.id, f"{address} item {place}", str(error)))
                if rejected:
                    self._on_rejected(rejected)
        first, last = _us(since), _us(until)
        return rows.frame([reading for reading in found if first <= reading.measured_at < last])

    def _pages(
        self, fetcher: Fetcher, theirs: str, since: datetime, until: datetime
    ) -> Iterator[tuple[str, list[Any]]]:
        config = self.config
        filled = {"park": theirs, "since": self._text(since), "until": self._text(until)}
        url = _fill(config.url, {name: quote(value, safe="") for name, value in filled.items()})
        params = {name: _fill(value, filled) for name, value in config.params.items()}
        seen = set[str]()
        for _ in range(config.most_pages):
            content = fetcher.get(url, params, self._read)
            yield urlsplit(url).path, self._items(content)
            onward = self._next(content) if self._next else None
            if onward is None or onward == "":
                return
            if str(onward) in seen:
                raise DataError("pages lead back to one that was read", field=f"{config.name}.next")
            seen.add(str(onward))
            assert config.next is not None
            if config.next.param is not None:
                params = {**params, config.next.param: str(onward)}
            else:
                url, params = self._same_server(url, str(onward)), {}
        raise DataError(f"more than {config.most_pages} pages", field=f"{config.name}.most_pages", hint="raise it")

    def _read(self, body: bytes) -> Any:
        """Decoded JSON with a list of items; anything else is an answer that was broken."""
        try:
            content = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise DataError(f"the answer is no JSON: {error}", field=self.name) from error
        if type(self._items(content)) is not list:
            raise DataError("the answer has no list there", field=f"{self.name}.items", hint=self.config.items or "top")
        return content

    def _same_server(self, url: str, onward: str) -> str:
        """The key must not travel to where a page points."""
        target = urljoin(url, onward)
        if httpx.URL(target).netloc != httpx.URL(url).netloc or urlsplit(target).scheme != urlsplit(url).scheme:
            raise DataError("the next page is on another server", field=f"{self.config.name}.next")
        return target

    def _device_of(self, item: Any) -> str:
        if self._device is None:
            assert self.config.device is not None
            return self.config.device
        found = self._device(item)
        if type(found) not in (str, int):
            raise FaultError(f"{self.config.device_path} names no device")
        name = self.config.rule.devices.get(str(found), str(found))
        if not is_device(name):
            raise FaultError(f"device {name[:64]!r}: letters, digits, . _ : -, at most 64")
        return name

    def _rejected(self, item: Any, park_id: str, origin: str, reason: str) -> Rejected:
        payload = orjson.dumps(item, default=str)
        held = rows.rejected(Message(origin, payload, 0, len(payload)), Refused(reason, park_id))
        return Rejected(held.table, held.park_id, self.name, held.origin, held.reason, held.payload)

    def _text(self, moment: datetime) -> str:
        if self.config.instants == "iso":
            return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return str(int(moment.timestamp() * (1 if self.config.instants == "s" else 1000)))


@dataclass(frozen=True)
class Polled:
    """What one poll of a park brought."""

    rows: int
    hours: set[int]  # since 1970, of the rows that are new


def poll(lake: Lake, source: ScadaRest, park: Park, now: datetime) -> Polled:
    """Ask for what came since the newest stored row, and for the overlap before it; store what is new.

    Raises as `ScadaRest.generation`; then nothing was stored.
    """
    config = source.config
    begin = now - timedelta(seconds=config.first_look_s)
    during = ("measured_at", begin, now)
    stored = lake.read(RAW_GENERATION, park_id=park.id, during=during).to_pandas(use_threads=False)
    stored = stored[stored["source"] == source.name]
    since = begin
    if len(stored):
        since = max(begin, stored["measured_at"].max().to_pydatetime() - timedelta(seconds=config.overlap_s))
    fresh = new_rows(source.generation(park, since, now), stored)
    lake.append(RAW_GENERATION, fresh)
    return Polled(len(fresh), {int(at.timestamp()) // 3600 for at in fresh["measured_at"].dt.floor("h").unique()})


def new_rows(delivered: pd.DataFrame, stored: pd.DataFrame) -> pd.DataFrame:
    """Delivered rows that say something else than the newest stored row of the same device and time."""
    if stored.empty or delivered.empty:
        return delivered
    key = ["inverter_id", "measured_at"]
    newest = stored.sort_values("received_at").drop_duplicates(key, keep="last").set_index(key)
    before = newest.reindex(pd.MultiIndex.from_frame(delivered[key]))
    same = before["power_kw"].notna().to_numpy()
    for name in _COMPARED:
        now, then = delivered[name].to_numpy(dtype=object), before[name].to_numpy(dtype=object)
        same &= [_equal(one, other) for one, other in zip(now, then, strict=True)]
    return delivered[~same]


def _equal(one: Any, other: Any) -> bool:
    if pd.isna(one) or pd.isna(other):
        return bool(pd.isna(one) and pd.isna(other))
    return bool(one == other)


def _fill(text: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def _us(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
