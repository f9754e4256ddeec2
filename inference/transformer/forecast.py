"""From what is known about a park to an answer and its log entry. Pure: no I/O, no clock."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from inference.transformer.client import Inference
from inference.transformer.header import Header
from inference.transformer.request import CALLER_WEATHER, Instance
from inference.transformer.snapshots import Snapshot
from pvforecast import delivering, features
from pvforecast.contributions import EXPLAINS
from pvforecast.errors import InvalidInput
from pvforecast.features import Features, FeatureSpec
from pvforecast.known import HOUR, Floats, Known, Times

MEDIAN = 0.5

STALE_WEATHER_MINUTES = 24 * 60
STALE_GENERATION_MINUTES = 3 * 60

_MINUTE = np.timedelta64(60, "s")


@dataclass(frozen=True)
class Question:
    """One forecast to make.

    Attributes
    ----------
    field : where the request names it, e.g. ``instances[0]``.
    known : the snapshot's content, with the caller's own weather where that was sent.
    then : of a question of the past, the model that served at `issued_at`; None for what serves now.
    """

    field: str
    instance: Instance
    snapshot_id: str
    known: Known
    issued_at: np.datetime64
    hours: Times
    then: Header | None = None

    @classmethod
    def ask(
        cls,
        field: str,
        instance: Instance,
        found: Snapshot,
        issued_at: np.datetime64,
        default_hours: int,
        then: Header | None = None,
    ) -> Question:
        """Raises InvalidInput when the caller's weather covers none of the hours."""
        known = found.known
        hours = features.horizon(issued_at, instance.horizon_hours or default_hours, known.site.period)
        if instance.weather is not None:
            known = replace(known, weather=instance.weather.as_run(issued_at))
            if not _covered(known, hours).any():
                raise InvalidInput(
                    f"it covers none of the hours from {iso(hours[0])} to {iso(hours[-1])}",
                    field=f"{field}.weather.valid_at",
                    hint="send the hours of the forecast, or null for the platform's own weather",
                )
        return cls(field, instance, found.snapshot_id, known, issued_at, hours, then)

    def features(self, spec: FeatureSpec) -> Features:
        return features.build_known(spec, self.known, self.issued_at, self.hours)

    def check_quantiles(self, levels: tuple[float, ...]) -> None:
        """Raise InvalidInput where a level is wanted that the model was not calibrated for."""
        unknown = [level for level in self.instance.quantiles or () if level not in levels]
        if unknown:
            raise InvalidInput(
                f"the model has no level {', '.join(map(str, unknown))}",
                field=f"{self.field}.quantiles",
                hint=f"the calibrated levels are {', '.join(map(str, levels))}",
            )


def answer(question: Question, inference: Inference, possible: Floats) -> dict[str, Any]:
    """One prediction of the response. `possible` is that of `power_kw`; it is told where the park is held below it."""
    site = question.known.site
    chosen = sorted(set(question.instance.quantiles or inference.levels))
    power = delivered_kw(question, possible)
    column = {level: power[:, at] for at, level in enumerate(inference.levels)}
    unheld = {level: possible[:, at] for at, level in enumerate(inference.levels)}
    held = bool((power != possible).any())
    weather = question.known.weather
    return {
        "park_id": site.park_id,
        "issued_at": iso(question.issued_at),
        "resolution": site.resolution,
        "model_version": inference.model_version,
        "bundle_id": inference.bundle_id,
        "snapshot_id": question.snapshot_id,
        "spec_hash": inference.spec_hash,
        "valid_at": [iso(hour) for hour in question.hours],
        "power_kw": {str(level): column[level].tolist() for level in chosen},
        "possible_kw": {str(level): unheld[level].tolist() for level in chosen} if held else None,
        "median_energy_kwh": round(float(column[MEDIAN].sum() * (site.period / HOUR)), 4) if MEDIAN in column else None,
        "weather_source": weather.source if weather is not None else None,
        "weather_run_at": iso(weather.run_at) if weather is not None else None,
        "weather_age_minutes": weather_age_minutes(question),
        "generation_age_minutes": generation_age_minutes(question),
        "degraded": degraded(question, inference.trained_until),
    }


def log_entry(
    question: Question,
    inference: Inference,
    rows: Features,
    fractions: Features,
    possible: Floats,
    made: dict[str, Any],
) -> dict[str, Any]:
    """What the log keeps of one prediction `made`: enough to make it again, bit for bit.

    Parameters
    ----------
    rows, fractions : float32 [hours, features] and [hours, levels] of this question, as asked and as answered.
    """
    kept = ("park_id", "issued_at", "valid_at", "snapshot_id", "bundle_id", "model_version", "spec_hash", "degraded")
    weather = question.instance.weather
    power = delivered_kw(question, possible)
    return {name: made[name] for name in kept} | {
        "power_kw": {str(level): power[:, at].tolist() for at, level in enumerate(inference.levels)},
        "row_digests": [digest(row) for row in rows],
        "quantile_levels": list(inference.levels),
        "quantiles_fraction": base64.b64encode(fractions.astype("<f4", copy=False).tobytes()).decode(),
        "weather_source": made["weather_source"],
        "weather": {"valid_at": [iso(hour) for hour in weather.hours]} | weather.columns() if weather else None,
    }


def power_kw(question: Question, fractions: Features) -> Floats:
    """Possible kW, shape [hours, levels]: within [0, ac_capacity_kw], zero in the dark, to a tenth of a watt."""
    site = question.known.site
    power = np.round(fractions.astype(np.float64) * site.ac_capacity_kw, 4)
    day = features.daylight(site, question.hours, site.period)
    result: Floats = np.where(day[:, np.newaxis], np.clip(power, 0.0, site.ac_capacity_kw), 0.0)
    return result


def delivered_kw(question: Question, possible: Floats) -> Floats:
    """What the park's export limit and availability leave of `power_kw`, by the facts in the snapshot. Same shape."""
    site = question.known.site
    return np.round(delivering.delivered(site, possible, question.hours, site.period), 4)


def explanation(question: Question, inference: Inference, possible: Floats) -> dict[str, Any] | None:
    """By how much each group of features moved the forecast, in kW of possible power; None where not asked for.

    Parameters
    ----------
    possible : of `power_kw`, this question's; the inference as well.
    """
    told = inference.contributions
    if not question.instance.explain or told is None:
        return None
    moved = np.round(told.values.astype(np.float64) * question.known.site.ac_capacity_kw, 4)
    after = None
    if told.level in inference.levels:
        after = np.round(possible[:, inference.levels.index(told.level)] - moved.sum(axis=1), 4).tolist()
    return {
        "explains": EXPLAINS,
        "level": told.level,
        "base_kw": moved[:, -1].tolist(),
        "groups_kw": {group: moved[:, at].tolist() for at, group in enumerate(told.groups)},
        "after_kw": after,
    }


def weather_age_minutes(question: Question) -> int | None:
    """Since the start of the weather run; None without one, 0 for the caller's own."""
    weather = question.known.weather
    return None if weather is None else int((question.issued_at - weather.run_at) / _MINUTE)


def generation_age_minutes(question: Question) -> int | None:
    """Since the end of the newest metered hour; None when nothing is known of the last two weeks."""
    history, period = question.known.history, question.known.site.period
    metered = history.valid_at[~np.isnan(history.power_kw) & (history.valid_at + period <= question.issued_at)]
    return int((question.issued_at - metered[-1] - period) / _MINUTE) if len(metered) else None


def degraded(question: Question, trained_until: np.datetime64) -> list[str]:
    """What this forecast had to do without, and `hindsight_model` where the model has learned from its hours."""
    flags = []
    covered = _covered(question.known, question.hours)
    if not covered.any():
        flags.append("no_weather")
    elif not covered.all():
        flags.append("partial_weather")
    weather_age, generation_age = weather_age_minutes(question), generation_age_minutes(question)
    own = question.known.weather is not None and question.known.weather.source == CALLER_WEATHER
    if weather_age is not None and weather_age > STALE_WEATHER_MINUTES and not own:
        flags.append("stale_weather")
    if generation_age is None or generation_age > STALE_GENERATION_MINUTES:
        flags.append("no_recent_generation")
    if question.issued_at < trained_until:
        flags.append("hindsight_model")
    return flags


def digest(row: Features) -> str:
    """Names one feature row: 8 bytes of BLAKE2b over its little-endian float32, as hex."""
    return hashlib.blake2b(row.astype("<f4", copy=False).tobytes(), digest_size=8).hexdigest()


def iso(instant: np.datetime64) -> str:
    return f"{instant.astype('datetime64[s]')}Z"


def _covered(known: Known, hours: Times) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Whether the weather run has an irradiance for each interval; an hourly run has it for the quarters too."""
    if known.weather is None or "ghi" not in known.weather.variables:
        return np.zeros(len(hours), bool)
    present = known.weather.valid_at[~np.isnan(known.weather.variables["ghi"])]
    return np.isin(hours, present) | np.isin(hours.astype("datetime64[h]"), present)
