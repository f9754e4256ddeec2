"""Forecasts as named tensors: what V1 says in JSON, in the words of Open Inference v2. Pure.

Rows of all forecasts stand one below the other: `instance` says to which request row each belongs.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from kserve import InferOutput, InferResponse

from inference.protocol import MODEL_NAME
from inference.transformer.errors import TooLarge
from inference.transformer.request import MAX_INSTANCES
from inference.transformer.tensors import BYTES, FLOATS, INTEGERS, Request, Tensor
from pvforecast.errors import InvalidInput, UnknownPark

_WEATHER = "weather."
_COLUMNS = ("ghi", "dni", "dhi", "temp_air", "wind_speed", "cloud_cover")

INPUTS: dict[str, tuple[tuple[str, ...], tuple[int, ...]]] = {
    # name: (datatypes, shape in the metadata); the first datatype is the one that the metadata names
    "park_id": (BYTES, (-1,)),
    "horizon_hours": (("INT64", *INTEGERS), (-1,)),
    "issued_at": (BYTES, (-1,)),
    "quantiles": (("FP64", *FLOATS), (-1,)),
    "weather.valid_at": (BYTES, (-1, -1)),
    **{f"{_WEATHER}{name}": (("FP64", *FLOATS), (-1, -1)) for name in _COLUMNS},
}
OUTPUTS: dict[str, tuple[str, tuple[int, ...]]] = {
    "instance": ("INT32", (-1,)),
    "valid_at": ("BYTES", (-1,)),
    "power_kw": ("FP64", (-1, -1)),
    "possible_kw": ("FP64", (-1, -1)),
    "quantile_levels": ("FP64", (-1,)),
    "park_id": ("BYTES", (-1,)),
    "issued_at": ("BYTES", (-1,)),
    "resolution": ("BYTES", (-1,)),
    "median_energy_kwh": ("FP64", (-1,)),
    "snapshot_id": ("BYTES", (-1,)),
    "model_version": ("BYTES", (-1,)),
    "bundle_id": ("BYTES", (-1,)),
    "spec_hash": ("BYTES", (-1,)),
    "weather_source": ("BYTES", (-1,)),
    "weather_run_at": ("BYTES", (-1,)),
    "weather_age_minutes": ("INT64", (-1,)),
    "generation_age_minutes": ("INT64", (-1,)),
    "degraded": ("BYTES", (-1,)),
}
_OF_ROWS = ("instance", "valid_at", "power_kw", "possible_kw")
_PARAMETERS = ("binary_data_output", "allow_stale")
_UNKNOWN = -1  # an age that is not known; tensors of whole numbers have no null
_KINDS = {"BYTES": np.object_, "FP64": np.float64, "INT32": np.int32, "INT64": np.int64}

_WEATHER_FIELD = re.compile(r"instances\[(\d+)\]\.weather\.(\w+)")
_FIELD = re.compile(r"instances\[(\d+)\]\.(\w+)")
_OF_ALL = re.compile(r"instances\[\d+\]\.quantiles")


def metadata() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Inputs and outputs as the protocol's metadata names them."""
    inputs = [{"name": name, "datatype": kinds[0], "shape": list(shape)} for name, (kinds, shape) in INPUTS.items()]
    outputs = [{"name": name, "datatype": kind, "shape": list(shape)} for name, (kind, shape) in OUTPUTS.items()]
    return inputs, outputs


def as_body(request: Request) -> dict[str, Any]:
    """The body of V1 that asks the same.

    Raises
    ------
    InvalidInput
        naming the tensor, parameter or output that is wrong.
    TooLarge
        more parks than one request may have.
    """
    for name, tensor in request.tensors.items():
        if name not in INPUTS:
            raise InvalidInput("there is no such input", field=name[:80], hint=f"known: {', '.join(INPUTS)}")
        if tensor.datatype not in INPUTS[name][0]:
            hint = " or ".join(dict.fromkeys(INPUTS[name][0]))
            raise InvalidInput(f"datatype {tensor.datatype[:20]!r}", field=name, hint=hint)
    _known(request.parameters, _PARAMETERS, "parameters")
    _known(request.outputs, tuple(OUTPUTS), "outputs")
    for field, parameters in (("parameters", request.parameters), *request.outputs.items()):
        for name in (*_PARAMETERS, "binary_data"):
            if not isinstance(parameters.get(name, False), bool):
                raise InvalidInput(f"{name} is not true or false", field=field, hint="send true, or leave it out")
    if "park_id" not in request.tensors:
        raise InvalidInput("this input is missing", field="park_id", hint="BYTES, shape [n]: the ids of the parks")
    n = len(request.tensors["park_id"].values)
    if n > MAX_INSTANCES:
        raise TooLarge(f"{n} parks, at most {MAX_INSTANCES} in one request", field="park_id", hint="send several")
    columns: dict[str, list[Any]] = {
        name: _of_each(request.tensors[name], n)
        for name in ("park_id", "horizon_hours", "issued_at")
        if name in request.tensors
    }
    columns["issued_at"] = [instant or None for instant in columns.get("issued_at", [None] * n)]
    columns["horizon_hours"] = [None if hours == 0 else hours for hours in columns.get("horizon_hours", [None] * n)]
    if "quantiles" in request.tensors:
        columns["quantiles"] = [request.tensors["quantiles"].values] * n
    columns["weather"] = _weather(request.tensors, n)
    body: dict[str, Any] = {"instances": [{name: values[at] for name, values in columns.items()} for at in range(n)]}
    return body | {"allow_stale": True} if request.parameters.get("allow_stale") else body


def in_its_words(error: InvalidInput) -> InvalidInput:
    """An error about a body of `as_body` in the names of the tensors: `instances[2].park_id` is `park_id[2]`."""

    def renamed(text: str | None) -> str | None:
        if text is None:
            return None
        text = _WEATHER_FIELD.sub(r"weather.\2[\1]", _OF_ALL.sub("quantiles", text))
        text = _FIELD.sub(r"\2[\1]", text)
        return "park_id" if text == "instances" else text

    kind = type(error) if isinstance(error, TooLarge | UnknownPark) else InvalidInput
    return kind(renamed(error.message) or "", field=renamed(error.field), hint=error.hint)


def as_response(body: dict[str, Any], request: Request, request_id: str, *, raw: bool | None = None) -> InferResponse:
    """The predictions of a V1 answer as tensors.

    Parameters
    ----------
    body : with at least one prediction.
    raw : all tensors as raw bytes, or none; None is for each as the request says (`binary_data_output`, `binary_data`).
    """
    told = body["predictions"]
    levels = sorted({level for one in told for level in one["power_kw"]}, key=float)
    columns = {
        "instance": [at for at, one in enumerate(told) for _ in one["valid_at"]],
        "valid_at": [instant for one in told for instant in one["valid_at"]],
        "power_kw": _rows(told, levels, ("power_kw",)),
        "possible_kw": _rows(told, levels, ("possible_kw", "power_kw")),
        "quantile_levels": [float(level) for level in levels],
        "degraded": [orjson.dumps(one["degraded"]).decode() for one in told],
        "weather_source": [one["weather_source"] or "" for one in told],
        "weather_run_at": [one["weather_run_at"] or "" for one in told],
        "median_energy_kwh": [np.nan if one["median_energy_kwh"] is None else one["median_energy_kwh"] for one in told],
    }
    for name in ("weather_age_minutes", "generation_age_minutes"):
        columns[name] = [_UNKNOWN if one[name] is None else one[name] for one in told]
    for name in ("park_id", "issued_at", "resolution", "snapshot_id", "model_version", "bundle_id", "spec_hash"):
        columns[name] = [one[name] for one in told]
    default = request.parameters.get("binary_data_output", False)
    outputs = []
    for name in request.outputs or OUTPUTS:
        values: npt.NDArray[Any] = np.array(columns[name], _KINDS[OUTPUTS[name][0]])
        output = InferOutput(name, list(values.shape), OUTPUTS[name][0])
        if request.outputs.get(name, {}).get("binary_data", default) if raw is None else raw:
            output.set_data_from_numpy(values, binary_data=True)
        else:
            output.data = values.ravel().tolist()
        outputs.append(output)
    first = told[0]
    return InferResponse(
        request.id or request_id,
        MODEL_NAME,
        outputs,
        model_version=first["model_version"],
        parameters={name: first[name] for name in ("bundle_id", "spec_hash")},
    )


def rest_body(response: InferResponse) -> tuple[bytes, int | None]:
    """The response as a REST body, NaN as null; the length of its JSON where raw tensors follow it."""
    outputs, raw = [], []
    for output in response.outputs:
        item = {"name": output.name, "shape": output.shape, "datatype": output.datatype}
        if output._raw_data is None:  # KServe's own conversion makes every output raw, or none
            outputs.append(item | {"data": output.data})
        else:
            outputs.append(item | {"parameters": {"binary_data_size": len(output._raw_data)}})
            raw.append(output._raw_data)
    head = orjson.dumps(
        {
            "model_name": response.model_name,
            "model_version": response.model_version,
            "id": response.id,
            "parameters": response.parameters,
            "outputs": outputs,
        }
    )
    return b"".join([head, *raw]), len(head) if raw else None


def _rows(told: list[dict[str, Any]], levels: list[str], names: tuple[str, ...]) -> list[list[float]]:
    """[rows, levels] of the first of the named columns that a prediction has; NaN for levels that its model has not."""
    rows = []
    for one in told:
        found = next(one[name] for name in names if one[name] is not None)
        unknown = [np.nan] * len(one["valid_at"])
        rows += [list(row) for row in zip(*(found.get(level, unknown) for level in levels), strict=True)]
    return rows


def _of_each(tensor: Tensor, n: int) -> list[Any]:
    """One value for each of n parks; a single one holds for all."""
    if len(tensor.values) not in (1, n):
        raise InvalidInput(
            f"{len(tensor.values)} values for {n} parks", field=tensor.name, hint="one for each park, or one for all"
        )
    return tensor.values * n if len(tensor.values) == 1 else tensor.values


def _weather(tensors: dict[str, Tensor], n: int) -> list[dict[str, Any] | None]:
    columns = {name.removeprefix(_WEATHER): tensor for name, tensor in tensors.items() if name.startswith(_WEATHER)}
    if not columns or n == 0:
        return [None] * n
    rows = {}
    for name, tensor in columns.items():
        if len(tensor.values) % n or (n > 1 and tensor.shape[0] != n):
            raise InvalidInput(f"shape {list(tensor.shape)}", field=tensor.name, hint=f"[{n}, hours]: a row a park")
        hours = len(tensor.values) // n
        rows[name] = [tensor.values[at * hours : (at + 1) * hours] for at in range(n)]
    return [{name: column[at] for name, column in rows.items()} for at in range(n)]


def _known(given: dict[str, Any], known: tuple[str, ...], field: str) -> None:
    unknown = [name for name in given if name not in known]
    if unknown:
        raise InvalidInput(f"there is no {unknown[0][:80]!r}", field=field, hint=f"known: {', '.join(known)}")
