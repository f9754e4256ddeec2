"""What MLflow shows of a bundle: signature and input example, as files of a run that any MLflow client reads.

The bundle itself stays where serving loads it from; `MLmodel` names its URI. No pickle, no Python model.
"""

from __future__ import annotations

import json
import math
from typing import Any

from mlflow.models import Model
from mlflow.models.signature import ModelSignature
from mlflow.types.schema import ColSpec, Schema

from pvforecast import model_sheets
from pvforecast.model.bundle import Bundle

FOLDER = "model"
FLAVOR = "pvforecast"
_EXAMPLE = "input_example.json"
_ROWS = 5


def files(bundle: Bundle, bundle_uri: str, run_id: str) -> dict[str, str]:
    """Path -> text: `MLmodel` with the signature, golden inputs as the example, model card, data sheet.

    Inputs are the features of the spec, float32; outputs the quantiles of power as a fraction of `ac_capacity_kw`.
    """
    signature = ModelSignature(
        Schema([ColSpec("float", name) for name in bundle.spec.names]),
        Schema([ColSpec("float", f"q{level:g}") for level in bundle.quantiles]),
    )
    named = {"bundle_uri": bundle_uri, "bundle_id": bundle.bundle_id, "spec_hash": bundle.spec.hash}
    model = Model(
        artifact_path=FOLDER,
        run_id=run_id,
        signature=signature,
        flavors={FLAVOR: named},
        saved_input_example_info={"artifact_path": _EXAMPLE, "type": "dataframe", "pandas_orient": "split"},
    )
    rows = [[_plain(value) for value in row] for row in bundle.golden_features[:_ROWS].tolist()]
    example = {"columns": list(bundle.spec.names), "data": rows}
    read_by_mlflow = {f"{FOLDER}/MLmodel": model.to_yaml(), f"{FOLDER}/{_EXAMPLE}": json.dumps(example)}
    return read_by_mlflow | model_sheets.files(bundle)


def _plain(value: float) -> Any:
    return None if math.isnan(value) else value
