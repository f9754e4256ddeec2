"""Which columns a file has, under our names: renamed, left out, constants added. Said before a row is read."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from pvforecast.errors import InvalidInput
from pvforecast.importing import cells
from pvforecast.importing.cells import Faults, Floats
from pvforecast.importing.mapping import ENERGIES, Mapping, conversion
from pvforecast.importing.tables import Chunk

FREE = re.compile(r"x_[a-z0-9_]{1,60}")
MAX_FREE = 64
_FOREIGN = {
    "id": "park_id", "park": "park_id", "site": "park_id", "site_id": "park_id", "plant_id": "park_id",
    "lat": "latitude", "lon": "longitude", "lng": "longitude", "tz": "timezone", "tilt": "tilt_deg",
    "surface_tilt": "tilt_deg", "azimuth": "azimuth_deg", "surface_azimuth": "azimuth_deg", "elevation": "elevation_m",
    "altitude": "elevation_m", "time": "valid_at", "timestamp": "measured_at", "datetime": "measured_at",
    "power": "power_kw", "power_w": "power_kw", "power_mw": "power_kw", "ac_power": "power_kw",
    "energy_kwh": "power_kw", "shortwave_radiation": "ghi", "direct_normal_irradiance": "dni",
    "diffuse_radiation": "dhi", "temperature": "temp_air", "temperature_2m": "temp_air", "temp": "temp_air",
    "wind_speed_10m": "wind_speed", "clouds": "cloud_cover", "humidity": "relative_humidity",
    "relative_humidity_2m": "relative_humidity", "issued_at": "run_at", "model": "source", "capacity": "ac_capacity_kw",
    "capacity_kw": "ac_capacity_kw", "ac_capacity": "ac_capacity_kw", "dc_capacity": "dc_capacity_kw",
}  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """What a file can be.

    Attributes
    ----------
    required : columns without which it is none.
    known : all columns, in the order they are shown; free columns (``x_*``) come on top where `free`.
    """

    name: str
    required: tuple[str, ...]
    known: tuple[str, ...]
    free: bool = False


def ours(chunk: Chunk, kind: Kind, mapping: Mapping, where: str) -> dict[str, pa.Array]:
    """The chunk's columns by our names.

    Raises
    ------
    InvalidInput
        a column is missing, unknown, named twice, or the mapping names one that is not there.
    """
    found = list(chunk.columns)
    named = {name: _ours(name, kind, mapping) for name in found if name not in mapping.ignore}
    for theirs in [*mapping.rename, *mapping.ignore]:
        if theirs not in found:
            raise InvalidInput(
                f"the mapping names column {cells.quoted(theirs)}, which the file lacks", field=where, hint=_has(found)
            )
    for name in {*mapping.rename.values(), *mapping.constant, *mapping.units, *mapping.scale}:
        if not _known(name, kind):
            raise InvalidInput(
                f"there is no column {cells.quoted(name)} of {kind.name}", field="mapping", hint=_takes(kind)
            )
    twice = sorted({to for to in named.values() if list(named.values()).count(to) > 1})
    if twice:
        raise InvalidInput(f"two columns are {twice[0]}", field=where, hint="leave one out: `ignore:` in a mapping")
    unknown = [name for name, to in named.items() if not _known(to, kind)]
    missing = [name for name in kind.required if name not in named.values() and name not in mapping.constant]
    if unknown or missing:
        raise _unfitting(unknown, missing, found, kind, where)
    free = [to for to in named.values() if FREE.fullmatch(to)]
    if len(free) > MAX_FREE:
        raise InvalidInput(f"has {len(free)} free columns", field=where, hint=f"at most {MAX_FREE} are kept")
    columns = {to: chunk.columns[name] for name, to in named.items()}
    for name, cells_of in columns.items():
        if not _simple(cells_of.type):
            raise InvalidInput(f"column {name} holds {cells_of.type}", field=where, hint="text, numbers or timestamps")
    for name, value in mapping.constant.items():
        columns[name] = pa.array([value] * len(chunk), pa.string() if isinstance(value, str) else None)
    return columns


def _ours(name: str, kind: Kind, mapping: Mapping) -> str:
    if name in mapping.rename:
        return mapping.rename[name]
    plain = name.strip().lower()
    return plain if _known(plain, kind) else name


def _simple(kind: pa.DataType) -> bool:
    types = pa.types
    plain = (types.is_string, types.is_large_string, types.is_integer, types.is_floating, types.is_decimal,
             types.is_boolean, types.is_timestamp, types.is_date, types.is_null)  # fmt: skip
    return any(is_it(kind.value_type if types.is_dictionary(kind) else kind) for is_it in plain)


def _known(name: str, kind: Kind) -> bool:
    return name in kind.known or (kind.free and FREE.fullmatch(name) is not None)


def _unfitting(
    unknown: Sequence[str], missing: Sequence[str], found: Sequence[str], kind: Kind, where: str
) -> InvalidInput:
    said = []
    if missing:
        said.append(f"column {', '.join(missing)} is missing")
    if unknown:
        said.append(f"column {', '.join(cells.quoted(name, 40) for name in unknown[:5])} is unknown")
    for name in unknown:
        plain = name.strip().lower()
        guess = _FOREIGN.get(plain) or next(iter(difflib.get_close_matches(plain, kind.known, 1, 0.75)), None)
        if guess in kind.known:
            hint = f"is {cells.quoted(name, 40)} {guess}? Say so: --rename {cells.quoted(name, 40)[1:-1]}={guess}"
            break
    else:
        ignore = ", or leave it out: --ignore NAME" if unknown else ""
        free = "; name a free numeric column x_…" if kind.free and unknown else ""
        hint = f"{_takes(kind)}{ignore}{free}" if unknown else _has(found)
    return InvalidInput(" and ".join(said), field=where, hint=hint)


def _has(found: Sequence[str]) -> str:
    return f"it has: {', '.join(cells.quoted(name, 40)[1:-1] for name in found[:20])}"


def _takes(kind: Kind) -> str:
    return f"{kind.name} has {', '.join(kind.known)}"


def values(columns: dict[str, pa.Array], name: str, size: int, mapping: Mapping, faults: Faults) -> Floats:
    """A numeric column in its canonical unit (energies: kWh in the interval), NaN where missing. Shape [n]."""
    if name not in columns:
        return np.full(size, np.nan)
    missing = cells.MISSING + mapping.missing
    read = cells.numbers(columns[name], name, faults, mapping.decimal, missing)
    if mapping.missing:  # sentinels of typed files
        for text in mapping.missing:
            try:
                read = np.where(read == float(text), np.nan, read)
            except ValueError:
                continue
    if name in mapping.scale:
        read = read * mapping.scale[name]
    if name in mapping.units:
        factor, offset = conversion(name, mapping.units[name])
        read = read * factor + offset
    return read


def is_energy(mapping: Mapping) -> bool:
    """Whether power is delivered as energy in the interval."""
    return mapping.units.get("power_kw") in ENERGIES


def texts(columns: dict[str, pa.Array], name: str, size: int, mapping: Mapping, default: str) -> pd.Categorical:
    """A text column, `default` where it is missing (no default: not a category). Shape [n]."""
    if name not in columns:
        return pd.Categorical.from_codes(np.zeros(size, np.int64), [default])
    at, found = cells.codes(columns[name], cells.MISSING + mapping.missing)
    if default and (at < 0).any():
        if default not in found:
            found.append(default)
        at = np.where(at < 0, found.index(default), at)
    return pd.Categorical.from_codes(at, found)
