"""A model bundle: an immutable folder in S3, loaded only if it still computes what it computed when it was made.

    models/bundles/<bundle_id>/model.ubj         the XGBoost booster; never a pickle
    models/bundles/<bundle_id>/forests.arrow     the forests' arrays; empty without any
    models/bundles/<bundle_id>/corrector.ubj     the booster that corrects by recent output; empty without one
    models/bundles/<bundle_id>/dependence.arrow  how the errors of parks and hours go together; empty if not known
    models/bundles/<bundle_id>/bundle.json       feature spec, quantiles, calibration, recipe, data versions, git commit
    models/bundles/<bundle_id>/golden.arrow      input rows with the outputs that this bundle gave for them

A booster saved by another XGBoost can load without an error and answer garbage: `load` replays the golden rows and
refuses when they differ. A damaged file can end the whole process inside Arrow or XGBoost: `load` compares the bytes
with the `bundle_id` that names their folder before anything parses them.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xgboost as xgb

from pvforecast.errors import BundleError, InvalidInput, SpecMismatch
from pvforecast.features import Features, FeatureSpec
from pvforecast.features.snow import lies
from pvforecast.features.spec import LEAD
from pvforecast.known import Floats
from pvforecast.model import calibration
from pvforecast.model.columns import base, column
from pvforecast.model.corrector import Corrector
from pvforecast.model.effects import Effects, Levels, ParkIds
from pvforecast.model.ensemble import A_THIRD, Ensemble
from pvforecast.model.forest import QuantileForest
from pvforecast.model.snow import Snow
from pvforecast.objects import ObjectStore
from pvforecast.portfolio import Dependence

GOLDEN_TOLERANCE = 1e-5  # across machines; on one image and CPU type the bits are equal
PREFIX = "models/bundles"
FILES = ("bundle.json", "model.ubj", "forests.arrow", "corrector.ubj", "dependence.arrow", "golden.arrow")
FORMAT = 2

_UNREADABLE = (
    *(ValueError, KeyError, TypeError, IndexError),
    *(InvalidInput, SpecMismatch, pa.ArrowInvalid, xgb.core.XGBoostError),
)
_OTHER_VERSION = "serve another version: pvf model rollback"
_HALF = (0.25, 0.5, 0.75)

Quantiles = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Bundle:
    """A trained model with all that is needed to serve and to trace it.

    Attributes
    ----------
    calibration : shape [rungs, lead bins, sky bins, quantiles]; see `pvforecast.model.calibration`.
    quantiles : ascending levels, e.g. (0.05, ..., 0.95).
    info : everything else that `bundle.json` records (trained_until, data versions, parks, recipe, ...).
    dependence : for portfolios; None where it was not learned.
    snow : what becomes of a forecast where snow lies; None where it was not learned.
    effects : what each park gives beyond what its facts tell; None where it was not learned.
    golden_parks : whose the golden rows are, so that they answer for the effects too; None in older bundles.
    """

    ensemble: Ensemble
    corrector: Corrector | None
    calibration: npt.NDArray[np.float64]
    spec: FeatureSpec
    quantiles: tuple[float, ...]
    golden_features: Features
    info: dict[str, Any] = field(default_factory=dict)
    dependence: Dependence | None = None
    snow: Snow | None = None
    effects: Effects | None = None
    golden_parks: tuple[str, ...] | None = None
    _stored_id: str = field(init=False, default="", repr=False, compare=False)  # older code wrote other fields

    def predict(self, features: Features, spec_hash: str | None = None, park_id: ParkIds | None = None) -> Quantiles:
        """Calibrated quantiles of power as a fraction of `ac_capacity_kw`.

        Parameters
        ----------
        features : float32, shape [n, len(spec)].
        spec_hash : of the spec the features were built with; checked where given.
        park_id : whose row each is, shape [n]; None: of a park as the fleet's on average, and known to be so.

        Returns
        -------
        float32, shape [n, len(quantiles)], ascending along the last axis, within [0, 1].

        Raises
        ------
        SpecMismatch
            the features were built for another spec, or have another width.
        InvalidInput
            there is not a park id for each row.
        """
        if spec_hash is not None and spec_hash != self.spec.hash:
            raise SpecMismatch(f"features of spec {spec_hash}, the model needs {self.spec.hash}", field="spec_hash")
        if features.ndim != 2 or features.shape[1] != len(self.spec):
            raise SpecMismatch(f"shape {features.shape}, the model needs [n, {len(self.spec)}]", field="features")
        if park_id is not None and (isinstance(park_id, str) or len(park_id) != len(features)):
            raise InvalidInput(f"{len(features)} rows need as many park ids", field="park_id", hint="one for each row")
        if len(features) == 0:
            return np.zeros((0, len(self.quantiles)), np.float32)
        at = self._levels(features, park_id)
        moved = corrected(self._raw(features, at), features, self.quantiles, self.corrector)
        where = calibration.cells(features, column(features, self.spec.names, LEAD), self.spec.names)
        result = calibration.apply(moved, self.calibration, self.quantiles, where)
        if self.snow is not None:
            result = self.snow.apply(result, centre(result, self.quantiles)[:, 0], lies(features, self.spec.names))
        return (result if at is None else at.widened(result, self.quantiles)).astype(np.float32)

    def golden(self) -> Quantiles:
        """What the bundle answers to its golden rows."""
        return self.predict(self.golden_features, park_id=self.golden_parks)

    def raw(self, features: Features, park_id: ParkIds | None = None) -> Floats:
        """The ensemble's quantiles at the park's level, before correction and calibration. Shape [n, quantiles]."""
        return self._raw(features, self._levels(features, park_id))

    def _raw(self, features: Features, at: Levels | None) -> Floats:
        quantiles = self.ensemble.quantiles(features, self.quantiles)
        return quantiles if at is None else at.applied(quantiles)

    def _levels(self, features: Features, park_id: ParkIds | None) -> Levels | None:
        if self.effects is None or park_id is None:
            return None
        return self.effects.levels(features, self.spec.names, park_id)

    def contributions(self, features: Features) -> Quantiles:
        """XGBoost's SHAP values of its part of the forecast, fraction of capacity.

        Returns
        -------
        Shape [n, levels of the ensemble, len(spec) + 1]: what XGBoost answers without any feature stands last; 0 for
        features that it does not look at.
        """
        columns = base(self.spec.names)
        rows = xgb.DMatrix(features[:, columns], nthread=1)
        own = self.ensemble.booster.predict(rows, pred_contribs=True).reshape(len(features), -1, len(columns) + 1)
        result = np.zeros((len(features), own.shape[1], len(self.spec) + 1), np.float32)
        result[:, :, [*columns, -1]] = own
        return result

    @property
    def files(self) -> dict[str, bytes]:
        """The files of the bundle. Equal training gives equal bytes."""
        header = {
            **self.info,
            "format": FORMAT,
            "spec": {"names": self.spec.names, "version": self.spec.version, "hash": self.spec.hash},
            "quantiles": self.quantiles,
            "boosted": self.ensemble.levels,
            "seen_declination_deg": self.ensemble.seen,
            "ratio_share": self.ensemble.share,
            "calibration": self.calibration.tolist(),
            "correction": self.corrector.strength if self.corrector else None,
            "snow": asdict(self.snow) if self.snow else None,
            "effects": self.effects.as_dict() if self.effects else None,
            "golden_parks": self.golden_parks,
        }
        forests = {"level": self.ensemble.level, "ratio": self.ensemble.ratio}
        golden = {"features": self.golden_features, "quantiles": self.golden()}
        return {
            "bundle.json": json.dumps(header, sort_keys=True, indent=1).encode(),
            "model.ubj": bytes(self.ensemble.booster.save_raw("ubj")),
            "forests.arrow": _pack(
                {f"{forest}.{name}": a for forest, f in forests.items() if f for name, a in f.arrays().items()}
            ),
            "corrector.ubj": bytes(self.corrector.booster.save_raw("ubj")) if self.corrector else b"",
            "dependence.arrow": self.dependence.to_bytes() if self.dependence else b"",
            "golden.arrow": _pack(golden),
        }

    @property
    def bundle_id(self) -> str:
        """First 16 hex digits of the SHA-256 over the files, as they were stored: equal content, equal id."""
        return self._stored_id or _digest(self.files)


def corrected(quantiles: Floats, features: Features, levels: tuple[float, ...], corrector: Corrector | None) -> Floats:
    """Quantiles moved by what the park did lately, within [0, 1]. Shape [n, levels]."""
    if corrector is None:
        return quantiles
    shift = corrector.shift(features, centre(quantiles, levels))
    return np.clip(quantiles + shift[:, None], 0.0, 1.0)


def centre(quantiles: Floats, levels: tuple[float, ...]) -> Floats:
    """Median and width of the central half of each forecast. Shape [n, 2]."""
    low, middle, high = (int(np.argmin(np.abs(np.asarray(levels) - level))) for level in _HALF)
    return np.stack([quantiles[:, middle], quantiles[:, high] - quantiles[:, low]], axis=1)


def save(store: ObjectStore, bundle: Bundle) -> str:
    """Store the bundle; `bundle.json` last, so that a bundle that can be found is whole. Returns its URI."""
    bundle_id = bundle.bundle_id
    for name, data in sorted(bundle.files.items(), key=lambda item: item[0] == "bundle.json"):
        store.put(f"{PREFIX}/{bundle_id}/{name}", data)
    return f"s3://{store.bucket}/{PREFIX}/{bundle_id}"


def load(store: ObjectStore, uri: str) -> Bundle:
    """Load and verify a bundle.

    Raises
    ------
    BundleError
        it is missing, incomplete, damaged, or does not reproduce its golden rows here.
    """
    prefix = uri.removeprefix(f"s3://{store.bucket}/").rstrip("/")
    try:
        files = {name: store.get(f"{prefix}/{name}") for name in FILES}
    except KeyError as error:
        raise BundleError(f"{uri} has no {error.args[0]}", hint=_OTHER_VERSION) from error
    if _digest(files) != prefix.rsplit("/", 1)[-1]:
        raise BundleError(f"{uri} is damaged: its files do not give its id", hint=_OTHER_VERSION)
    return from_files(files, uri)


def from_files(files: dict[str, bytes], uri: str = "bundle") -> Bundle:
    """As `load`, from the bytes of the files."""
    try:
        info = json.loads(files["bundle.json"])
        if info.pop("format") != FORMAT:
            raise BundleError(f"{uri} is of another format than {FORMAT}", hint="train anew: pvf pipeline run training")
        spec = FeatureSpec(tuple(info["spec"]["names"]), info["spec"]["version"])
        if spec.hash != info.pop("spec")["hash"]:
            raise BundleError(f"{uri}: bundle.json was altered: its spec is not that of its hash", hint=_OTHER_VERSION)
        golden = _unpack(files["golden.arrow"])
        features, expected = golden["features"].reshape(-1, len(spec)), golden["quantiles"]
        boosted, seen = tuple(info.pop("boosted")), info.pop("seen_declination_deg")
        share = info.pop("ratio_share", A_THIRD)  # bundles of before it was one of three
        snow = info.pop("snow", None)  # bundles of before it was learned have none
        effects, golden_parks = info.pop("effects", None), info.pop("golden_parks", None)
        strength = info.pop("correction", None)
        forests = _forests(files["forests.arrow"])
        bundle = Bundle(
            Ensemble(
                spec.names,
                boosted,
                _booster(files["model.ubj"]),
                forests.get("level"),
                forests.get("ratio"),
                (float(seen[0]), float(seen[1])),
                (tuple(share[0]), tuple(share[1])),
            ),
            _corrector(spec.names, files["corrector.ubj"], strength),
            np.array(info.pop("calibration")),
            spec,
            tuple(info.pop("quantiles")),
            features,
            info,
            _dependence(files["dependence.arrow"], uri) if files["dependence.arrow"] else None,
            Snow(tuple(snow["ratios"]), float(snow["share"])) if snow else None,
            Effects.from_dict(effects) if effects else None,
            None if golden_parks is None else tuple(golden_parks),
        )
        again = bundle.golden()
        difference = float(np.abs(again - expected.reshape(again.shape)).max(initial=0.0))
    except _UNREADABLE as error:
        raise BundleError(f"{uri} cannot be read: {error}", hint=_OTHER_VERSION) from error
    if not difference <= GOLDEN_TOLERANCE:
        raise BundleError(
            f"{uri} gives other answers here than when it was made (largest difference {difference:.2g})",
            hint=f"this is xgboost {xgb.__version__}, it was made by {info.get('versions', {}).get('xgboost')}",
        )
    object.__setattr__(bundle, "_stored_id", _digest(files))
    return bundle


def _booster(data: bytes) -> xgb.Booster:
    booster = xgb.Booster({"nthread": 1})
    booster.load_model(bytearray(data))
    return booster


def _corrector(names: tuple[str, ...], data: bytes, strength: float | None) -> Corrector | None:
    """Bundles of before the correction was weighed take all of it."""
    return Corrector(names, _booster(data), 1.0 if strength is None else float(strength)) if data else None


def _dependence(data: bytes, uri: str) -> Dependence:
    try:
        return Dependence.from_bytes(data)
    except BundleError as error:
        raise BundleError(f"{uri}: {error.message}", hint=_OTHER_VERSION) from error


def _forests(data: bytes) -> dict[str, QuantileForest]:
    arrays: dict[str, dict[str, Any]] = {}
    for name, values in (_unpack(data) if data else {}).items():
        forest, _, array = name.partition(".")
        arrays.setdefault(forest, {})[array] = values
    return {forest: QuantileForest(**own) for forest, own in arrays.items()}


def _pack(arrays: dict[str, npt.NDArray[Any]]) -> bytes:
    """Arrays as one Arrow file, flat; nothing for none. Equal arrays give equal bytes."""
    if not arrays:
        return b""
    columns = {name: np.ascontiguousarray(values).ravel() for name, values in arrays.items()}
    lists = [pa.LargeListArray.from_arrays([0, len(values)], pa.array(values)) for values in columns.values()]
    schema = pa.schema([pa.field(name, column.type) for name, column in zip(columns, lists, strict=True)])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_batch(pa.record_batch(lists, schema=schema))
    return bytes(sink.getvalue())


def _unpack(data: bytes) -> dict[str, npt.NDArray[Any]]:
    """The inverse of `_pack`, but for shapes."""
    with pa.ipc.open_file(pa.BufferReader(data)) as reader:
        batch = reader.get_batch(0)
    return {
        name: column.flatten().to_numpy(zero_copy_only=False)
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
    }


def _digest(files: dict[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name, data in sorted(files.items()):
        digest.update(f"{name}:{len(data)}:".encode() + data)
    return digest.hexdigest()[:16]
