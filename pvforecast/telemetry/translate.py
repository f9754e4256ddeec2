"""Messages to readings, by a mapping. What can't be read is refused with a reason, never guessed at."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from pvforecast.telemetry import mapping as maps
from pvforecast.telemetry.counters import Counter
from pvforecast.telemetry.fields import SECOND, FaultError, factor_of, flag, getter, instant, number
from pvforecast.telemetry.topics import Pattern

_MAX_KW = 5_000_000.0
_MAX_KWH = 1e12
_DEVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
_ROUTES = 50_000  # topics remembered; a flood of invented ones must not fill the memory


def is_device(name: str) -> bool:
    """Whether it can be a device's id: no path, no blanks, not endless."""
    return _DEVICE.fullmatch(name) is not None


class Message(NamedTuple):
    """One delivery: its topic, its payload, when it came (µs since 1970 UTC).

    `size` is the payload's, which may have been cut.
    """

    topic: str
    payload: bytes
    arrival: int
    size: int
    retained: bool = False


class Reading(NamedTuple):
    """One row of ``raw/generation``; times in µs since 1970 UTC."""

    park_id: str
    inverter_id: str
    measured_at: int
    period_s: int
    power_kw: float
    energy_total_kwh: float | None
    available_fraction: float | None
    export_limit_kw: float | None
    curtailed: bool | None
    received_at: int
    source: str


class Refused(NamedTuple):
    """Why a message gives no reading, with the park it names where one can be told."""

    reason: str
    park_id: str


@dataclass(frozen=True)
class Limits:
    """What a reading's time may be, seen from its arrival."""

    max_age_s: int = 30 * 86_400
    max_ahead_s: int = 300


class Reader:
    """Reads decoded payloads by one rule: a message's, or an item of a REST answer.

    It remembers where counters stand; see `seed`.
    """

    def __init__(self, rule: maps.Rule, limits: Limits | None = None) -> None:
        self.rule = rule
        self._limits = limits or Limits()
        self._power = number(rule.power, factor_of(rule.power), _MAX_KW)
        self._energy = number(rule.energy_total, factor_of(rule.energy_total), _MAX_KWH)
        self._available = number(rule.available_fraction, factor_of(rule.available_fraction), 1.0)
        self._limit = number(rule.export_limit, factor_of(rule.export_limit), _MAX_KW)
        self._curtailed = flag(rule.curtailed)
        self._time = instant(rule.time)
        self._same = [(path, getter(path), place) for path, place in rule.same.items()]
        self._good = [(path, getter(path), values) for path, values in rule.good.items()]
        energy = rule.energy_total
        self._modulus = None if energy is None or energy.bits is None else 2**energy.bits * energy.factor
        self._counters: dict[tuple[str, str], Counter] = {}

    def seed(self, park_id: str, device: str, end: int, total_kwh: float) -> None:
        """Where a counter stood at the end of its last stored period (µs), so that a restart loses no energy."""
        if self.rule.values == "counter":
            self._counters.setdefault((park_id, device), Counter.at_boundary(end / SECOND, total_kwh))

    def readings(self, content: Any, park_id: str, device: str, capacity_kw: float, arrival: int) -> list[Reading]:
        """The readings of one payload: mostly one, none for a value that its sender calls unknown.

        Raises
        ------
        FaultError
            it can't be used.
        """
        rule = self.rule
        for path, get, place in self._same:
            said = get(content)
            if said is not None and said != (park_id if place == "park" else device):
                raise FaultError(f"{path} is {str(said)[:60]!r}, but the topic says {place} {park_id}/{device}")
        for path, get, values in self._good:
            said = get(content)
            if said is not None and said not in values:
                raise FaultError(f"{path} is {str(said)[:60]!r}: not one of {', '.join(map(str, values))}")
        power, energy = self._power(content), self._energy(content)
        measured = self._time(content, arrival)
        limits = self._limits
        if measured > arrival + limits.max_ahead_s * SECOND:
            raise FaultError(f"measured {(measured - arrival) // SECOND} s after it arrived: a clock is wrong")
        if measured < arrival - limits.max_age_s * SECOND:
            raise FaultError(f"measured {(arrival - measured) // (86_400 * SECOND)} days ago: import it from a file")
        if rule.values == "counter":
            if energy is None:
                return []
            return list(self._steps(measured, energy, park_id, device, capacity_kw, arrival))
        if power is None:
            if rule.power is not None and not self._says(content):
                raise FaultError(f"{rule.power.path or 'the payload'} is missing")
            return []
        available = self._available(content)
        if available is not None and available < 0:
            raise FaultError("available_fraction is negative")
        if rule.values == "instant":
            measured -= measured % (rule.period_s * SECOND)
        elif rule.label == "end":
            measured -= rule.period_s * SECOND
        return [
            Reading(
                park_id,
                device,
                measured,
                rule.period_s,
                power,
                energy,
                available,
                self._limit(content),
                self._curtailed(content),
                arrival,
                rule.stored_source,
            )
        ]

    def _says(self, content: Any) -> bool:
        """Whether the power is there, though null: the sender says that it does not know."""
        assert self.rule.power is not None
        head, _, last = self.rule.power.path.rpartition(".")
        holder = getter(head)(content)
        return content is None if not last else isinstance(holder, dict) and last in holder

    def _steps(
        self, measured: int, total: float, park_id: str, device: str, capacity_kw: float, arrival: int
    ) -> Iterable[Reading]:
        rule, at_s = self.rule, measured / SECOND
        counter = self._counters.get((park_id, device))
        if counter is None:
            self._counters[park_id, device] = Counter(at_s, total, 0.0 if at_s % rule.period_s == 0 else None)
            return
        for one in counter.add(
            at_s,
            total,
            period_s=rule.period_s,
            capacity_kw=capacity_kw,
            modulus_kwh=self._modulus,
            max_gap_s=rule.max_gap_s,
        ):
            yield Reading(
                park_id,
                device,
                one.start_s * SECOND,
                rule.period_s,
                one.power_kw,
                one.total_kwh,
                None,
                None,
                None,
                arrival,
                rule.stored_source,
            )


class _Route(NamedTuple):
    reader: Reader
    park_id: str
    device: str


@dataclass
class Translator:
    """Messages to readings.

    Attributes
    ----------
    mapping : the rules.
    parks : id -> AC capacity in kW of the registered parks; may be exchanged as the registry grows.
    max_payload : bytes; a larger one is refused.
    """

    mapping: maps.Mapping
    parks: Mapping[str, float]
    limits: Limits = field(default_factory=Limits)
    max_payload: int = 16_384

    def __post_init__(self) -> None:
        self.readers = [Reader(rule, self.limits) for rule in self.mapping.rules]
        self._patterns = [Pattern.parse(rule.topic) for rule in self.mapping.rules]
        self._routes: dict[str, _Route | None] = {}

    def translate(self, message: Message) -> list[Reading] | Refused:
        """The readings of one message, or why there are none."""
        route = self._route(message.topic)
        if route is None:
            return Refused(f"no rule of the mapping reads topic {message.topic[:120]!r}", "")
        reader, park_id, device = route
        capacity_kw = self.parks.get(park_id)
        if capacity_kw is None:
            return Refused(f"park {park_id[:63]!r} is not registered: pvf park add", park_id[:63])
        if not is_device(device):
            return Refused(f"device {device[:64]!r}: letters, digits, . _ : -, at most 64", park_id)
        if message.retained:
            return Refused("a retained message: it may be as old as it likes; publish without retain", park_id)
        if message.size > self.max_payload:
            return Refused(f"a payload of {message.size} bytes, more than {self.max_payload}", park_id)
        try:
            content = orjson.loads(message.payload)
        except orjson.JSONDecodeError as error:
            return Refused(f"the payload is no JSON: {error}", park_id)
        try:
            return reader.readings(content, park_id, device, capacity_kw, message.arrival)
        except FaultError as error:
            return Refused(str(error), park_id)

    def _route(self, topic: str) -> _Route | None:
        try:
            return self._routes[topic]
        except KeyError:
            pass
        if len(self._routes) >= _ROUTES:
            self._routes.clear()
        found = self._routes[topic] = self._find(topic)
        return found

    def _find(self, topic: str) -> _Route | None:
        for reader, pattern in zip(self.readers, self._patterns, strict=True):
            places = pattern.match(topic)
            if places is not None:
                rule = reader.rule
                park, device = rule.park or places["park"], rule.device or places["device"]
                return _Route(reader, rule.parks.get(park, park), rule.devices.get(device, device))
        return None
