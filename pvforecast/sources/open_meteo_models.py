"""What Open-Meteo calls its variables and models, and what they are here.

Names of models and of their folders of metadata are those of Open-Meteo's page on model updates. A name that mixes
several models (`best_match`, `icon_seamless`) has no run, so none is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pvforecast.errors import InvalidInput

Kind = Literal["mean", "sum", "instant"]


@dataclass(frozen=True)
class Variable:
    """One variable of the API.

    Attributes
    ----------
    column : here; a free column where it begins with ``x_``.
    unit : as the API states it; another one is refused.
    factor : from that unit to ours.
    kind : what the value at label t stands for: the mean or the sum of the interval that ends at t, or the instant t.
    """

    name: str
    column: str
    unit: str
    factor: float
    kind: Kind


VARIABLES = (
    Variable("shortwave_radiation", "ghi", "W/m²", 1.0, "mean"),
    Variable("direct_normal_irradiance", "dni", "W/m²", 1.0, "mean"),
    Variable("diffuse_radiation", "dhi", "W/m²", 1.0, "mean"),
    Variable("temperature_2m", "temp_air", "°C", 1.0, "instant"),
    Variable("wind_speed_10m", "wind_speed", "m/s", 1.0, "instant"),
    Variable("cloud_cover", "cloud_cover", "%", 0.01, "instant"),
    Variable("relative_humidity_2m", "relative_humidity", "%", 0.01, "instant"),
    Variable("precipitation", "precipitation", "mm", 1.0, "sum"),
    Variable("direct_radiation", "x_direct_radiation", "W/m²", 1.0, "mean"),
    Variable("cloud_cover_low", "x_cloud_cover_low", "%", 0.01, "instant"),
    Variable("cloud_cover_mid", "x_cloud_cover_mid", "%", 0.01, "instant"),
    Variable("cloud_cover_high", "x_cloud_cover_high", "%", 0.01, "instant"),
    Variable("snow_depth", "x_snow_depth_m", "m", 1.0, "instant"),
    Variable("snowfall", "x_snowfall_cm", "cm", 1.0, "sum"),
)
BY_NAME = {variable.name: variable for variable in VARIABLES}


@dataclass(frozen=True)
class Model:
    """One weather model.

    Attributes
    ----------
    domain : its folder, where ``static/meta.json`` lies.
    every_hours : between two of its runs.
    delay_hours : assumed between a run's start and its availability, on the late side: for archived runs, of which
        only the start is known.
    """

    name: str
    domain: str
    every_hours: int
    delay_hours: float


MODELS = {
    model.name: model
    for model in (
        Model("icon_global", "dwd_icon", 6, 5.0),
        Model("icon_eu", "dwd_icon_eu", 3, 5.0),
        Model("icon_d2", "dwd_icon_d2", 3, 3.0),
        Model("ecmwf_ifs025", "ecmwf_ifs025", 6, 9.0),
        Model("ecmwf_aifs025", "ecmwf_aifs025", 6, 8.0),
        Model("gfs_graphcast025", "ncep_gfs_graphcast025", 6, 9.0),
        Model("meteofrance_arpege_europe", "meteofrance_arpege_europe", 6, 6.0),
        Model("knmi_harmonie_arome_europe", "knmi_harmonie_arome_europe", 1, 4.0),
        Model("dmi_harmonie_arome_europe", "dmi_harmonie_arome_europe", 3, 5.0),
        Model("ukmo_global_deterministic_10km", "ukmo_global_deterministic_10km", 6, 8.0),
        Model("ukmo_uk_deterministic_2km", "ukmo_uk_deterministic_2km", 1, 5.0),
        Model("jma_msm", "jma_msm", 3, 5.0),
    )
}


def model_of(text: str) -> Model:
    """A model by name, or ``name=domain`` for one that is not listed (6 hours apart, 9 hours late).

    Raises
    ------
    InvalidInput
        no such model.
    """
    name, _, domain = text.partition("=")
    if domain:
        return Model(name, domain, 6, 9.0)
    if name not in MODELS:
        known = ", ".join(MODELS)
        raise InvalidInput(
            f"no model {name!r}", field="weather_options.models", hint=f"known: {known}; or NAME=DOMAIN of its metadata"
        )
    return MODELS[name]


def weight(locations: int, variables: int, days: float) -> float:
    """What a request counts for against the limits: for each location one call, or more for many variables or days.

    Parameters
    ----------
    variables : times models, times members; hourly and quarter-hourly ones both count.
    """
    each = variables / 10.0
    return locations * max(1.0, each, each * days / 14.0)
