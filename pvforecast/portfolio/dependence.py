"""How forecast errors go together, in time and between parks: a Gaussian copula of three layers.

    covariance of the normal scores of park p at time s and park q at time t
        = sum over layers of  share · between[p, q] · exp(-|t - s| / hours)

The layers are what the weather forecast missed for a whole day, for some hours, and for single clouds. Each is a
product of two correlation matrices, so the whole is one too, whichever parks and hours are asked for. Between parks a
layer falls off with distance; pairs that were seen together in training are moved towards what was seen.

What is wrong with a park's level is wrong in all of its hours and of no other park: `level` is its share of the
variance, the layers share the rest.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pvforecast.errors import BundleError, InvalidInput

Floats = npt.NDArray[np.float64]
Places = Sequence[tuple[str, float | None, float | None]]
"""Park id, latitude and longitude in degrees (north and east positive; None where not known)."""

FILE_NAME = "dependence.arrow"
_FORMAT = 1
_EARTH_KM = 6_371.0
_LEAST_EIGENVALUE = 1e-4
_STEPS = 1_000  # seen correlations are stored in thousandths: equal training then gives equal bytes


@dataclass(frozen=True)
class Layer:
    """One layer of the errors.

    Attributes
    ----------
    share : 0-1, of the variance.
    hours : the time in which the correlation falls to 1/e, one park.
    near : 0-1, the correlation of two parks next to each other; what is missing is a park's own.
    kilometres : the distance at which it falls to 1/e of that.
    """

    share: float
    hours: float
    near: float
    kilometres: float


_PRIOR = (Layer(0.35, 48.0, 0.9, 500.0), Layer(0.35, 6.0, 0.85, 150.0), Layer(0.3, 1.0, 0.4, 25.0))


@dataclass(frozen=True)
class Dependence:
    """Fitted by `fitting.fit`, read by `scenarios`.

    Attributes
    ----------
    layers : from slow to fast; their shares add up to 1.
    parks : ids of the parks that were seen, with `latitude` and `longitude` (degrees), shape [parks] each.
    seen : shape [parks, parks], symmetric: how much more each pair correlates than its distance says, shrunk
        towards zero where few days were seen; zero on the diagonal.
    days : how many days of forecasts it was fitted on; 0 for `prior`.
    level : 0-1, of each park's variance that is its level's, shape [parks]; none: of nobody's.
    level_of_others : the same of parks that were not seen.
    """

    layers: tuple[Layer, ...]
    parks: tuple[str, ...] = ()
    latitude: Floats = field(default_factory=lambda: np.zeros(0))
    longitude: Floats = field(default_factory=lambda: np.zeros(0))
    seen: Floats = field(default_factory=lambda: np.zeros((0, 0)))
    days: int = 0
    level: Floats = field(default_factory=lambda: np.zeros(0))
    level_of_others: float = 0.0

    @classmethod
    def prior(cls) -> Dependence:
        """Before anything was seen: errors of a regional weather model, a few hundred kilometres and a day wide."""
        return cls(_PRIOR)

    def independent(self) -> Dependence:
        """No park knows of another: the wrong assumption that makes aggregated bands too narrow."""
        return replace(self, layers=tuple(replace(one, near=0.0) for one in self.layers), seen=0.0 * self.seen)

    def comonotone(self) -> Dependence:
        """All parks err together: quantiles simply add up, and aggregated bands are too wide."""
        layers = tuple(replace(one, near=1.0, kilometres=np.inf) for one in self.layers)
        return replace(self, layers=layers, seen=0.0 * self.seen, level=0.0 * self.level, level_of_others=0.0)

    def factors(self, places: Places, hours: Floats) -> list[tuple[float, Floats, Floats]]:
        """Of each layer: its standard deviation, and square roots of its correlations between parks and in time.

        Parameters
        ----------
        places : the parks asked for; those that were seen in training need no coordinates.
        hours : shape [t], hours since any instant.

        Returns
        -------
        Of each layer (deviation, root [parks, parks], root [t, t]), root @ root.T = the correlation.

        Raises
        ------
        InvalidInput
            a park that was not seen has no coordinates.
        """
        kilometres, seen = self._between(places)
        apart = np.abs(hours[:, np.newaxis] - hours[np.newaxis, :])
        return [
            (
                float(np.sqrt(layer.share)),
                _root(nearest_correlation(falloff(layer, kilometres) + seen)),
                _root(np.exp(-apart / layer.hours)),
            )
            for layer in self.layers
        ]

    def levels(self, places: Places) -> Floats:
        """The share of each park's variance that is its level's. Shape [parks]."""
        known = dict(zip(self.parks, self.level, strict=False))
        return np.array([known.get(park, self.level_of_others) for park, _, _ in places], np.float64)

    def correlation(self, places: Places) -> Floats:
        """Of the normal scores of parks at one time. Shape [parks, parks]."""
        layers = self.factors(places, np.zeros(1))
        result: Floats = sum((s**2 * (root @ root.T) for s, root, _ in layers), np.zeros((len(places), len(places))))
        own = self.levels(places)
        rest = np.sqrt(1.0 - own)
        return rest[:, np.newaxis] * result * rest + np.diag(own)

    def to_bytes(self) -> bytes:
        """An Arrow file; equal content gives equal bytes."""
        meta = {
            "format": _FORMAT,
            "layers": [asdict(layer) for layer in self.layers],
            "days": self.days,
            "level": self.level.tolist(),
            "level_of_others": self.level_of_others,
        }
        above = np.triu_indices(len(self.parks), 1)
        steps = np.round(self.seen[above] * _STEPS).astype(np.int16)
        columns = {
            "park_id": pa.array(self.parks, pa.string()),
            "latitude": pa.array(self.latitude, pa.float64()),
            "longitude": pa.array(self.longitude, pa.float64()),
            "seen_thousandths": pa.array(steps, pa.int16()),
        }
        lists = [pa.ListArray.from_arrays([0, len(values)], values) for values in columns.values()]
        text = json.dumps(meta, sort_keys=True)
        schema = pa.schema(
            [(name, values.type) for name, values in zip(columns, lists, strict=True)], {"pvforecast": text}
        )
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, schema) as writer:
            writer.write_batch(pa.record_batch(lists, schema=schema))
        return bytes(sink.getvalue())

    @classmethod
    def from_bytes(cls, data: bytes) -> Dependence:
        """The inverse of `to_bytes`.

        Raises
        ------
        BundleError
            the bytes are none of `to_bytes`.
        """
        try:
            with pa.ipc.open_file(pa.BufferReader(data)) as reader:
                meta = json.loads(reader.schema.metadata[b"pvforecast"])
                batch = reader.get_batch(0)
            if meta["format"] != _FORMAT:
                raise ValueError(f"format {meta['format']}, this code reads {_FORMAT}")
            column = {name: values.flatten() for name, values in zip(batch.schema.names, batch.columns, strict=True)}
            parks = tuple(column["park_id"].to_pylist())
            seen = np.zeros((len(parks), len(parks)))
            seen[np.triu_indices(len(parks), 1)] = column["seen_thousandths"].to_numpy() / _STEPS
            latitude, longitude = (column[name].to_numpy() for name in ("latitude", "longitude"))
            layers = tuple(Layer(**layer) for layer in meta["layers"])
            level = np.array(meta.get("level", []), np.float64)  # older bundles know none
        except (pa.ArrowInvalid, OSError, ValueError, KeyError, TypeError) as error:
            raise BundleError(f"the dependence between parks cannot be read: {error}", field=FILE_NAME) from error
        others = float(meta.get("level_of_others", 0.0))
        return cls(layers, parks, latitude, longitude, seen + seen.T, meta["days"], level, others)

    def _between(self, places: Places) -> tuple[Floats, Floats]:
        """Distances and what was seen beyond them, of the parks asked for. Shape [parks, parks] each."""
        index = {park: at for at, park in enumerate(self.parks)}
        at = np.array([index.get(park, -1) for park, _, _ in places], np.int64)
        where = np.zeros((len(places), 2))
        for row, (park, latitude, longitude) in enumerate(places):
            if latitude is not None and longitude is not None:
                where[row] = latitude, longitude
            elif at[row] >= 0:
                where[row] = self.latitude[at[row]], self.longitude[at[row]]
            else:
                raise InvalidInput(
                    f"park {park!r} was not in the training, and its coordinates are not known",
                    field="places",
                    hint="give its latitude and longitude",
                )
        padded = np.pad(self.seen, (0, 1))  # the last row stands for parks that were not seen
        return distances_km(where[:, 0], where[:, 1]), padded[np.ix_(at, at)]


def falloff(layer: Layer, kilometres: Floats) -> Floats:
    """Correlation between parks by distance, 1 on the diagonal. Shape [n, n] as `kilometres`."""
    correlation: Floats = layer.near * np.exp(-kilometres / layer.kilometres)
    np.fill_diagonal(correlation, 1.0)
    return correlation


def distances_km(latitude: Floats, longitude: Floats) -> Floats:
    """Great-circle distances between places in degrees (haversine). Shape [n, n]."""
    north, east = np.radians(latitude), np.radians(longitude)
    half: Floats = np.sin((north[:, None] - north) / 2) ** 2
    half = half + np.cos(north[:, None]) * np.cos(north) * np.sin((east[:, None] - east) / 2) ** 2
    kilometres: Floats = 2.0 * _EARTH_KM * np.arcsin(np.sqrt(np.clip(half, 0.0, 1.0)))
    return kilometres


def nearest_correlation(matrix: Floats) -> Floats:
    """A correlation matrix close to a symmetric one: eigenvalues are kept above zero, the diagonal is one again.

    One step of Higham 2002 (IMA J. Numer. Anal. 22); a fraction of a percent off the nearest one, and always valid.
    """
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2.0)
    if values[0] >= _LEAST_EIGENVALUE:
        return matrix
    positive = (vectors * np.maximum(values, _LEAST_EIGENVALUE)) @ vectors.T
    scale = 1.0 / np.sqrt(np.diag(positive))
    result: Floats = np.asarray(positive * scale[:, np.newaxis] * scale, np.float64)
    return result


def _root(correlation: Floats) -> Floats:
    """Lower triangular; parks on one spot and hours given twice make the matrix singular, hence the tiny diagonal."""
    result: Floats = np.asarray(np.linalg.cholesky(correlation + 1e-9 * np.eye(len(correlation))), np.float64)
    return result
