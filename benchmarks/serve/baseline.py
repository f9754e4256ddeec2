"""What the benchmark is compared with: FastAPI, features in pandas and pvlib, the same model, all in one process.

    PVF_BASELINE_FOLDER=... python -m benchmarks.serve.baseline --port P --workers 2

Everything is in memory from the start: no object store, no prediction log, no gateway, no keys, no validation beyond
pydantic's. Its features have the names and the number of ours; they are not expected to agree with them bit by bit.
"""

from __future__ import annotations

import argparse
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pvlib
import uvicorn
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, Field

from pvforecast.known import Known
from pvforecast.model.bundle import Bundle, from_files

FILE = "baseline.pickle"  # {"files": of the bundle, "parks": {id: Known}}, written by the benchmark itself


class Request(BaseModel):
    park_id: str
    horizon_hours: int = Field(default=48, ge=1, le=168)


class Park:
    """One park's data as data frames."""

    def __init__(self, known: Known) -> None:
        assert known.weather is not None
        self.site = known.site
        self.issued_at = pd.Timestamp(known.as_of, tz="UTC")
        self.run_at = pd.Timestamp(known.weather.run_at, tz="UTC")
        index = pd.DatetimeIndex(known.weather.valid_at).tz_localize("UTC")
        self.weather = pd.DataFrame(dict(known.weather.variables), index=index)
        metered = pd.DatetimeIndex(known.history.valid_at).tz_localize("UTC")
        self.power = pd.Series(known.history.power_kw / known.site.ac_capacity_kw, index=metered)
        self.location = pvlib.location.Location(self.site.latitude, self.site.longitude, altitude=self.site.elevation_m)


def features(park: Park, hours: int, names: tuple[str, ...]) -> pd.DataFrame:
    """The rows of one forecast, as one writes them with pandas and pvlib."""
    future = pd.date_range(park.issued_at.ceil("h"), periods=hours, freq="h")
    past = pd.date_range(park.issued_at.floor("h") - pd.Timedelta(days=1), periods=24, freq="h")
    table = _physics(park, past.union(future))
    for name in ("ghi", "physical_power", "clear_sky_index"):
        for shift in (-2, -1, 1, 2):
            table[f"{name}_{shift:+d}h"] = table[name].shift(-shift)
    table["clear_sky_index_spread"] = table["clear_sky_index"].rolling(5, center=True, min_periods=1).std()
    power = park.power.reindex(past)
    for reference, prefix in (("clear_sky_power", "relative"), ("physical_power", "performance")):
        expected = table[reference].reindex(past)
        for window in (1, 3, 24):
            table[f"{prefix}_{window}h"] = power.tail(window).sum() / max(expected.tail(window).sum(), 1e-3)
    rows = table.reindex(future).copy()
    rows["lead_hours"] = (rows.index - park.issued_at).total_seconds() / 3_600
    rows["run_lead_hours"] = (rows.index - park.run_at).total_seconds() / 3_600
    solar = rows.index.hour + 0.5 + park.site.longitude / 15.0
    rows["solar_time_sin"], rows["solar_time_cos"] = np.sin(np.pi * solar / 12), np.cos(np.pi * solar / 12)
    day = 2 * np.pi * rows.index.dayofyear / 365.25
    rows["day_of_year_sin"], rows["day_of_year_cos"] = np.sin(day), np.cos(day)
    for name in ("latitude", "elevation_m", "surface_tilt", "surface_azimuth"):
        rows[name] = getattr(park.site, name)
    rows["interval_minutes"] = 60.0
    return rows.reindex(columns=list(names)).astype(np.float32)


def _physics(park: Park, hours: pd.DatetimeIndex) -> pd.DataFrame:
    site, middle = park.site, hours + pd.Timedelta(minutes=30)
    sun = park.location.get_solarposition(middle)
    clear = park.location.get_clearsky(middle, model="haurwitz", solar_position=sun)
    table = park.weather.reindex(hours)
    for name in ("ghi", "dni", "dhi", "temp_air", "wind_speed", "cloud_cover", "relative_humidity", "precipitation"):
        if name not in table:
            table[name] = np.nan
    zenith, ghi = sun["apparent_zenith"].set_axis(hours), table["ghi"]
    split = pvlib.irradiance.erbs(ghi, zenith, hours)
    where = (site.surface_tilt, site.surface_azimuth, zenith, sun["azimuth"].set_axis(hours))
    poa = pvlib.irradiance.get_total_irradiance(*where, split["dni"], ghi, split["dhi"])["poa_global"]
    clear_ghi = clear["ghi"].set_axis(hours)
    clear_split = pvlib.irradiance.erbs(clear_ghi, zenith, hours)
    clear_poa = pvlib.irradiance.get_total_irradiance(*where, clear_split["dni"], clear_ghi, clear_split["dhi"])
    table["sun_elevation"] = sun["apparent_elevation"].set_axis(hours)
    table["sun_azimuth"] = where[3]
    table["cos_aoi"] = pvlib.irradiance.aoi_projection(*where)
    table["ghi_clear"], table["poa"], table["poa_clear"] = clear_ghi, poa, clear_poa["poa_global"]
    table["temp_cell"] = pvlib.temperature.faiman(poa, table["temp_air"], table["wind_speed"].fillna(2.0))
    table["physical_power"] = pvlib.pvsystem.pvwatts_dc(poa, table["temp_cell"], 1.0, -0.004).clip(0, 1)
    table["clear_sky_power"] = pvlib.pvsystem.pvwatts_dc(table["poa_clear"], 25.0, 1.0, -0.004).clip(0, 1)
    table["sunlit_fraction"] = (table["sun_elevation"] > 0).astype(float)
    table["clear_sky_index"] = (ghi / clear_ghi.where(clear_ghi > 10)).clip(0, 1.5)
    return table


def answer(park: Park, bundle: Bundle, hours: int) -> dict[str, Any]:
    """One forecast in kW."""
    rows = features(park, hours, bundle.spec.names)
    kw = bundle.predict(rows.to_numpy(), bundle.spec.hash, [park.site.park_id] * hours) * park.site.ac_capacity_kw
    levels = {str(level): kw[:, at].round(4).tolist() for at, level in enumerate(bundle.quantiles)}
    valid_at = pd.date_range(park.issued_at.ceil("h"), periods=hours, freq="h")
    return {"park_id": park.site.park_id, "valid_at": [one.isoformat() for one in valid_at], "power_kw": levels}


def build() -> FastAPI:
    """The application over the folder that the environment names."""
    stored = pickle.loads((Path(os.environ["PVF_BASELINE_FOLDER"]) / FILE).read_bytes())
    bundle, parks = from_files(stored["files"]), {park: Park(known) for park, known in stored["parks"].items()}
    app = FastAPI()

    @app.get("/")
    def live() -> dict[str, bool]:
        return {"live": True}

    @app.post("/forecast")
    def forecast(request: Request) -> dict[str, Any]:
        if request.park_id not in parks:
            raise HTTPException(404, "no such park")
        return answer(parks[request.park_id], bundle, request.horizon_hours)

    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    uvicorn.run(
        "benchmarks.serve.baseline:build",
        factory=True,
        port=args.port,
        workers=args.workers,
        log_level="error",
        access_log=False,
    )
