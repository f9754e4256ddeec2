"""Sources by name, with options as plain values: what a pipeline parameter can carry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from pvforecast.errors import InvalidInput
from pvforecast.settings import Settings
from pvforecast.sources import open_meteo
from pvforecast.sources.base import GenerationSource, WeatherSource
from pvforecast.sources.open_meteo_budget import Budget, limits_of
from pvforecast.sources.open_meteo_options import Options
from pvforecast.sources.pvdaq_samples import SOURCE, PlantedLoss, PvdaqSamples

NOTHING = "none"
"""As the source of generation: nothing is pulled, e.g. because the parks push it."""

_INSTANT = "e.g. 2013-08-20T06:00:00+00:00"
_FREE_URL = "https://{service}.open-meteo.com"
_PAID_URL = "https://customer-{service}.open-meteo.com"


def generation_source(name: str, options: Mapping[str, Any] | None = None) -> GenerationSource | None:
    """The source of generation called `name`; None for `NOTHING`.

    Parameters
    ----------
    options : of ``pvdaq_samples``: ``{"loss": {"park_id", "start", "fraction"}}`` plants a loss (a drill).

    Raises
    ------
    InvalidInput
        no such source, or an option it does not have or understand.
    """
    makers: dict[str, Callable[[Mapping[str, Any]], GenerationSource | None]] = {SOURCE: _samples, NOTHING: _nothing}
    if name not in makers:
        raise InvalidInput(f"no source {name!r}", field="source", hint=f"known: {', '.join(makers)}")
    return makers[name](options or {})


def weather_source(name: str, options: Mapping[str, Any], settings: Settings) -> WeatherSource:
    """The source of weather called `name`. Where it is, and its key, are settings; nothing is asked of it here.

    Parameters
    ----------
    options : of ``open_meteo``: see `open_meteo_options.Options`; of ``json``: see `json_weather.Mapping`.

    Raises
    ------
    InvalidInput
        no such source, or an option it does not have or understand.
    """
    makers: dict[str, Callable[[Mapping[str, Any], Settings], WeatherSource]] = {
        SOURCE: _observed,
        open_meteo.NAME: _open_meteo,
        "json": _json,
    }
    if name not in makers:
        raise InvalidInput(f"no source {name!r}", field="weather_source", hint=f"known: {', '.join(makers)}")
    return makers[name](options, settings)


def _nothing(options: Mapping[str, Any]) -> None:
    if options:
        raise InvalidInput("nothing has no options", field="source_options", hint="leave them out")


def _samples(options: Mapping[str, Any]) -> PvdaqSamples:
    unknown = set(options) - {"loss"}
    if unknown:
        raise InvalidInput(f"unknown option {sorted(unknown)[0]!r}", field="source_options", hint="known: loss")
    loss = options.get("loss")
    if loss is None:
        return PvdaqSamples()
    return PvdaqSamples(_planted(loss))


def _observed(options: Mapping[str, Any], _settings: Settings) -> PvdaqSamples:
    if options:
        raise InvalidInput("observed weather has no options", field="weather_options", hint="leave them out")
    return PvdaqSamples()


def _open_meteo(options: Mapping[str, Any], settings: Settings) -> open_meteo.OpenMeteo:
    key = settings.open_meteo_api_key.get_secret_value()
    budget = Budget(settings.home / "state" / "open-meteo", limits_of(settings.open_meteo_limits))
    url = settings.open_meteo_url or (_PAID_URL if key else _FREE_URL)
    return open_meteo.OpenMeteo(Options.of(options), url, budget, api_key=key)


def _json(options: Mapping[str, Any], settings: Settings) -> WeatherSource:
    from pvforecast.sources.json_weather import JsonWeather, mapping

    return JsonWeather(mapping(options), api_key=settings.weather_api_key.get_secret_value())


def _planted(loss: Any) -> PlantedLoss:
    field = "source_options.loss"
    names = ("park_id", "start", "fraction")
    if not isinstance(loss, dict) or set(loss) != set(names):
        raise InvalidInput(f"{loss!r} does not have just {', '.join(names)}", field=field, hint="give all three")
    try:
        start = datetime.fromisoformat(loss["start"])
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{loss['start']!r} is no ISO instant", field=f"{field}.start", hint=_INSTANT) from error
    if start.tzinfo is None:
        raise InvalidInput("has no UTC offset", field=f"{field}.start", hint=_INSTANT)
    fraction = loss["fraction"]
    if not isinstance(fraction, int | float) or not 0 <= fraction <= 1:
        raise InvalidInput(f"{fraction!r} is no share", field=f"{field}.fraction", hint="0 to 1, e.g. 0.1")
    return PlantedLoss(str(loss["park_id"]), start, float(fraction))
