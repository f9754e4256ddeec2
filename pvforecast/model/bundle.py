"""A model bundle: an immutable folder in S3, loaded only if it still computes what it computed when it was made.

    models/bundles/<bundle_id>/model.ubj        the XGBoost booster; never a pickle
    models/bundles/<bundle_id>/bundle.json      feature spec, quantiles, calibration, recipe, data versions, git commit
    models/bundles/<bundle_id>/golden.arrow     input rows with the outputs that this bundle gave for them

A booster saved by another XGBoost can load without an error and answer garbage: `load` replays the golden rows and
refuses when they differ. A damaged file can end the whole process inside Arrow or XGBoost: `load` compares the bytes
with the `bundle_id` that names their folder before anything parses them.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xgboost as xgb

from pvforecast.errors import BundleError, SpecMismatch
from pvforecast.features import Features, FeatureSpec
from pvforecast.objects import ObjectStore

GOLDEN_TOLERANCE = 1e-5  # across machines; on one image and CPU type the bits are equal
PREFIX = "models/bundles"
_OTHER_VERSION = "serve another version: pvf model rollback"

Quantiles = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Bundle:
    """A trained model with all that is needed to serve and to trace it.

    Attributes
    ----------
    quantiles : ascending levels, e.g. (0.05, ..., 0.95).
    shifts : shape [lead bins, quantiles], added to the raw quantiles (conformal calibration), fraction of capacity.
    lead_edges : hours; row i of `shifts` holds for leads in [lead_edges[i], lead_edges[i + 1]).
    info : everything else that `bundle.json` records (trained_until, data versions, parks, recipe, ...).
    """

    booster_ubj: bytes
    spec: FeatureSpec
    quantiles: tuple[float, ...]
    shifts: npt.NDArray[np.float64]
    lead_edges: tuple[float, ...]
    golden_features: Features
    info: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        booster = xgb.Booster({"nthread": 1})
        booster.load_model(bytearray(self.booster_ubj))
        object.__setattr__(self, "_booster", booster)

    def predict(self, features: Features, spec_hash: str | None = None) -> Quantiles:
        """Calibrated quantiles of power as a fraction of `ac_capacity_kw`.

        Parameters
        ----------
        features : float32, shape [n, len(spec)].
        spec_hash : of the spec the features were built with; checked where given.

        Returns
        -------
        float32, shape [n, len(quantiles)], ascending along the last axis, within [0, 1].

        Raises
        ------
        SpecMismatch
            the features were built for another spec, or have another width.
        """
        if spec_hash is not None and spec_hash != self.spec.hash:
            raise SpecMismatch(f"features of spec {spec_hash}, the model needs {self.spec.hash}", field="spec_hash")
        if features.ndim != 2 or features.shape[1] != len(self.spec):
            raise SpecMismatch(f"shape {features.shape}, the model needs [n, {len(self.spec)}]", field="features")
        if len(features) == 0:
            return np.zeros((0, len(self.quantiles)), np.float32)
        booster: xgb.Booster = self._booster  # type: ignore[attr-defined]
        raw = booster.inplace_predict(features).reshape(len(features), len(self.quantiles))
        if "lead_hours" in self.spec.names:
            lead = features[:, self.spec.names.index("lead_hours")]
        else:
            lead = np.zeros(len(features), np.float32)
        row = np.clip(np.searchsorted(self.lead_edges, lead, side="right") - 1, 0, len(self.shifts) - 1)
        moved = np.sort(raw, axis=1).astype(np.float64) + self.shifts[row]
        return np.clip(np.sort(moved, axis=1), 0.0, 1.0).astype(np.float32)

    @property
    def files(self) -> dict[str, bytes]:
        """The three files of the bundle. Equal training gives equal bytes."""
        header = {
            **self.info,
            "spec": {"names": self.spec.names, "version": self.spec.version, "hash": self.spec.hash},
            "quantiles": self.quantiles,
            "shifts": self.shifts.tolist(),
            "lead_edges": self.lead_edges,
        }
        expected = self.predict(self.golden_features)
        golden = pa.table(
            {
                "features": pa.array(list(self.golden_features), pa.list_(pa.float32())),
                "quantiles": pa.array(list(expected), pa.list_(pa.float32())),
            }
        )
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, golden.schema) as writer:
            writer.write_table(golden)
        return {
            "model.ubj": self.booster_ubj,
            "golden.arrow": bytes(sink.getvalue()),
            "bundle.json": json.dumps(header, sort_keys=True, indent=1).encode(),
        }

    @property
    def bundle_id(self) -> str:
        """First 16 hex digits of the SHA-256 over the files: equal content, equal id."""
        return _digest(self.files)


def save(store: ObjectStore, bundle: Bundle) -> str:
    """Store the bundle; `bundle.json` last, so that a bundle that can be found is whole. Returns its URI."""
    bundle_id = bundle.bundle_id
    for name, data in bundle.files.items():
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
        files = {name: store.get(f"{prefix}/{name}") for name in ("bundle.json", "model.ubj", "golden.arrow")}
    except KeyError as error:
        raise BundleError(f"{uri} has no {error.args[0]}", hint=_OTHER_VERSION) from error
    if _digest(files) != prefix.rsplit("/", 1)[-1]:
        raise BundleError(f"{uri} is damaged: its files do not give its id", hint=_OTHER_VERSION)
    return from_files(files, uri)


def from_files(files: dict[str, bytes], uri: str = "bundle") -> Bundle:
    """As `load`, from the bytes of the three files."""
    try:
        info = json.loads(files["bundle.json"])
        spec = FeatureSpec(tuple(info["spec"]["names"]), info["spec"]["version"])
        with pa.ipc.open_file(pa.BufferReader(files["golden.arrow"])) as reader:
            golden = reader.read_all()
        features, expected = (np.array(golden[name].to_pylist(), np.float32) for name in ("features", "quantiles"))
        if spec.hash != info.pop("spec")["hash"]:
            raise BundleError(f"{uri}: bundle.json was altered: its spec is not that of its hash", hint=_OTHER_VERSION)
        bundle = Bundle(
            files["model.ubj"],
            spec,
            tuple(info.pop("quantiles")),
            np.array(info.pop("shifts")),
            tuple(info.pop("lead_edges")),
            features,
            info,
        )
        difference = float(np.abs(bundle.predict(features) - expected).max(initial=0.0))
    except (ValueError, KeyError, TypeError, SpecMismatch, pa.ArrowInvalid, xgb.core.XGBoostError) as error:
        raise BundleError(f"{uri} cannot be read: {error}", hint=_OTHER_VERSION) from error
    if not difference <= GOLDEN_TOLERANCE:
        raise BundleError(
            f"{uri} gives other answers here than when it was made (largest difference {difference:.2g})",
            hint=f"this is xgboost {xgb.__version__}, it was made by {info.get('versions', {}).get('xgboost')}",
        )
    return bundle


def _digest(files: dict[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name, data in sorted(files.items()):
        digest.update(f"{name}:{len(data)}:".encode() + data)
    return digest.hexdigest()[:16]
