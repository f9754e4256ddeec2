"""A simulated fleet with weather runs and metered power, of the shape and precision that real sources have."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import pandas as pd

from pvforecast.lake import Lake
from pvforecast.lake.tables import PARKS
from pvforecast.parks import Park

BEGIN = pd.Timestamp("2025-01-01", tz="UTC")
LEADS = 48
_ZONE = "Europe/Amsterdam"


def fleet(number: int) -> list[Park]:
    """Parks in the Netherlands, of 1 to 5 MW."""
    return [
        Park(
            id=f"park-{n:04d}",
            name=f"Simulated {n}",
            latitude=51.0 + (n % 40) * 0.05,
            longitude=4.0 + (n // 40) * 0.1,
            elevation_m=5.0,
            timezone=_ZONE,
            dc_capacity_kw=1200.0 * (1 + n % 5),
            ac_capacity_kw=1000.0 * (1 + n % 5),
            surface_tilt=15.0,
            surface_azimuth=180.0,
            valid_from=datetime(2024, 1, 1, tzinfo=UTC),
            source="simulated",
        )
        for n in range(number)
    ]


def register(lake: Lake, parks: list[Park]) -> None:
    """All at once."""
    facts = [{"park_id": park.id, "facts": park.model_dump_json()} for park in parks]
    at = {"valid_from": pd.Timestamp("2024-01-01", tz="UTC"), "recorded_at": pd.Timestamp("2024-01-01", tz="UTC")}
    lake.append_new(PARKS, pd.DataFrame(facts).assign(**at))


def weather(parks: list[Park], first: pd.Timestamp, runs: int) -> pd.DataFrame:
    """Hourly runs of 48 hours from `first` on, for each park: as Open-Meteo rounds them (W/m², 0.1 °C, percent)."""
    shape = (len(parks), runs, LEADS)
    run_at = first.tz_localize(None) + pd.to_timedelta(np.arange(runs), unit="h")
    start = run_at.to_numpy()[:, None] + np.arange(LEADS) * np.timedelta64(1, "h")
    seed = int(first.timestamp()) // 3600
    random = np.random.default_rng(seed)
    latitude, longitude = (np.array([getattr(park, name) for park in parks]) for name in ("latitude", "longitude"))
    clear = _clear_sky(start[None], latitude[:, None, None], longitude[:, None, None])
    cloud = np.round(random.beta(0.6, 0.6, shape), 2)
    ghi = np.round(clear * (1 - 0.7 * cloud))
    dhi = np.round(ghi * (0.2 + 0.7 * cloud))
    columns = {
        "park_id": np.repeat([park.id for park in parks], runs * LEADS),
        "source": "open_meteo:simulated",
        "run_at": np.broadcast_to(run_at.to_numpy()[None, :, None], shape).ravel(),
        "valid_at": np.broadcast_to(start[None], shape).ravel(),
        "ghi": ghi.ravel(),
        "dni": np.round((ghi - dhi) / np.maximum(clear / 1000, 0.2)).clip(0, 900).ravel(),
        "dhi": dhi.ravel(),
        "temp_air": np.round(random.normal(11, 6, shape), 1).ravel(),
        "wind_speed": np.round(random.gamma(4, 1, shape).clip(0, 30), 1).ravel(),
        "cloud_cover": cloud.ravel(),
        "relative_humidity": np.round(random.uniform(0.4, 1, shape), 2).ravel(),
        "precipitation": np.round(random.exponential(0.1, shape) * (cloud > 0.8), 1).ravel(),
    }
    rows = pd.DataFrame(columns)
    for name in ("run_at", "valid_at"):
        rows[name] = rows[name].dt.tz_localize("UTC")
    return rows.assign(available_at=rows["run_at"], period_s=np.int32(3600))


def generation(parks: list[Park], first: pd.Timestamp, quarters: int) -> pd.DataFrame:
    """Quarter hours of each park from `first` on, to 0.1 kW, received five minutes after their end."""
    start = first.tz_localize(None).to_datetime64() + np.arange(quarters) * np.timedelta64(15, "m")
    random = np.random.default_rng(int(first.timestamp()) // 900)
    latitude, longitude, capacity = (
        np.array([getattr(park, name) for park in parks])[:, None]
        for name in ("latitude", "longitude", "ac_capacity_kw")
    )
    clear = _clear_sky(start[None], latitude, longitude)
    power = np.round(capacity * clear / 1000 * random.uniform(0.3, 0.9, clear.shape), 1)
    rows = pd.DataFrame(
        {
            "park_id": np.repeat([park.id for park in parks], quarters),
            "measured_at": pd.DatetimeIndex(np.tile(start, len(parks))).tz_localize("UTC"),
            "power_kw": power.ravel(),
        }
    )
    received = rows["measured_at"] + pd.Timedelta(minutes=20)
    return rows.assign(inverter_id="park", period_s=np.int32(900), received_at=received, source="simulated")


def _clear_sky(
    start: npt.NDArray[np.datetime64], latitude: npt.NDArray[np.float64], longitude: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Roughly GHI under a clear sky at the hour's middle, W/m²: no night power, no impossible sun."""
    days = (start - np.datetime64("2025-01-01")) / np.timedelta64(1, "D") + 1 / 48
    declination = np.radians(23.44) * np.sin(2 * np.pi * (days - 80) / 365.25)
    angle = 2 * np.pi * (days % 1 - 0.5) + np.radians(longitude)
    sine = np.sin(np.radians(latitude)) * np.sin(declination)
    sine = sine + np.cos(np.radians(latitude)) * np.cos(declination) * np.cos(angle)
    return np.asarray(950 * np.clip(sine - 0.1, 0, None) ** 1.1)
