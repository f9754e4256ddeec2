"""Named tensors of Open Inference v2, read from JSON, from raw bytes and from gRPC messages.

KServe's own decoder answers a malformed request with a KeyError, so the edge is ours; what comes out is checked further
by `request.parse`, the same for all protocols.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

from pvforecast.errors import InvalidInput

INTEGERS = ("INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64")
FLOATS = ("FP32", "FP64")
BYTES = ("BYTES",)

_CONTENTS = {
    "BYTES": "bytes_contents", "BOOL": "bool_contents", "FP32": "fp32_contents", "FP64": "fp64_contents",
    "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents", "INT64": "int64_contents",
    "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents", "UINT64": "uint64_contents",
}  # fmt: skip
_NUMPY = {
    "BOOL": "?", "FP32": "<f4", "FP64": "<f8", "INT8": "<i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8",
    "UINT8": "<u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8",
}  # fmt: skip
_MAX_DIMENSIONS = 8
SEE = "see docs/serving.md, Open Inference v2"


@dataclass(frozen=True)
class Tensor:
    """One tensor: `values` flat in row-major order, texts for BYTES, None where a float is NaN or null."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: list[Any]


@dataclass(frozen=True)
class Request:
    """What came in, whatever it came in as. `outputs` maps the wanted tensors to their parameters; empty is all."""

    id: str
    tensors: dict[str, Tensor]
    parameters: dict[str, Any]
    outputs: dict[str, dict[str, Any]]


def from_rest(body: bytes, json_length: int | None = None) -> Request:
    """Read a REST body.

    Parameters
    ----------
    json_length : the header `Inference-Header-Content-Length`, where raw tensors follow the JSON.

    Raises
    ------
    InvalidInput
        naming what is malformed.
    """
    end = len(body) if json_length is None else json_length
    if end > len(body):
        raise _wrong("inference-header-content-length", f"{end}, the body has {len(body)} bytes", "the JSON's length")
    try:
        read = orjson.loads(body[:end])
    except orjson.JSONDecodeError as error:
        raise _wrong("body", f"the body is not JSON: {error}") from error
    if not isinstance(read, dict):
        raise _wrong("body", "the body is not a JSON object")
    tensors, at = [], end
    for number, item in enumerate(_objects(read, "inputs", required=True)):
        name, datatype, shape = _head(item, f"inputs[{number}]")
        parameters = _parameters(item, name)
        if "data" in item:
            values = _numbers(datatype, _flat(name, item["data"]))
        else:
            size = parameters.get("binary_data_size")
            if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= len(body) - at:
                raise _wrong(name, "it has neither data nor a binary_data_size within the body")
            values, at = _raw(name, datatype, body[at : at + size]), at + size
        tensors.append(_tensor(name, datatype, shape, values))
    outputs = {
        _head_name(item, f"outputs[{number}]"): _parameters(item, f"outputs[{number}]")
        for number, item in enumerate(_objects(read, "outputs", required=False))
    }
    name_of_request = read.get("id")
    if name_of_request is not None and not isinstance(name_of_request, str):
        raise _wrong("id", "not a text")
    return Request(name_of_request or "", _by_name(tensors), _parameters(read, "parameters"), outputs)


def from_grpc(message: pb.ModelInferRequest) -> Request:
    """Read a gRPC message. Raises InvalidInput naming what is malformed."""
    raw = list(message.raw_input_contents)
    if raw and len(raw) != len(message.inputs):
        raise _wrong("raw_input_contents", f"{len(raw)} of them for {len(message.inputs)} inputs")
    tensors = []
    for number, item in enumerate(message.inputs):
        if raw and item.HasField("contents"):
            raise _wrong(item.name, "it has contents and raw_input_contents", "send one of them")
        values = _raw(item.name, item.datatype, raw[number]) if raw else _contents(item)
        tensors.append(_tensor(item.name, item.datatype, tuple(item.shape), values))
    outputs = {item.name: _plain(item.parameters) for item in message.outputs}
    return Request(message.id, _by_name(tensors), _plain(message.parameters), outputs)


def _objects(read: dict[str, Any], field: str, *, required: bool) -> list[dict[str, Any]]:
    items = read.get(field)
    if items is None and not required:
        return []
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise _wrong(field, "not a list of tensors")
    return items


def _head(item: dict[str, Any], where: str) -> tuple[str, str, tuple[int, ...]]:
    name, datatype, shape = _head_name(item, where), item.get("datatype"), item.get("shape")
    if not isinstance(datatype, str):
        raise _wrong(name, "datatype is not a text")
    if not isinstance(shape, list) or not all(isinstance(n, int) and not isinstance(n, bool) for n in shape):
        raise _wrong(name, "shape is not a list of whole numbers")
    return name, datatype, tuple(shape)


def _head_name(item: dict[str, Any], where: str) -> str:
    name = item.get("name")
    if not isinstance(name, str) or not name:
        raise _wrong(f"{where}.name", "not a text")
    return name


def _parameters(item: dict[str, Any], where: str) -> dict[str, Any]:
    parameters = item.get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        raise _wrong(where, "parameters is not an object")
    return dict(parameters or {})


def _plain(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Of gRPC's parameters: each is one of several fields."""
    kinds = {name: parameter.WhichOneof("parameter_choice") for name, parameter in parameters.items()}
    return {name: getattr(parameters[name], kind) if kind else None for name, kind in kinds.items()}


def _flat(name: str, data: object) -> list[Any]:
    """The numbers or texts of JSON data, nested by shape or flat."""
    if not isinstance(data, list):
        raise _wrong(name, "data is not a list")
    values: list[Any] = data
    for _ in range(_MAX_DIMENSIONS):
        if not any(isinstance(value, list) for value in values):
            break
        values = [one for value in values for one in (value if isinstance(value, list) else [value])]
    if any(isinstance(value, list | dict) for value in values):
        raise _wrong(name, "data holds something else than numbers or texts")
    return values


def _raw(name: str, datatype: str, data: bytes) -> list[Any]:
    if datatype == "BYTES":
        return _texts(name, _split(name, data))
    if datatype not in _NUMPY:
        raise _wrong(name, f"datatype {datatype[:20]!r} is not known")
    kind = np.dtype(_NUMPY[datatype])
    if len(data) % kind.itemsize:
        raise _wrong(name, f"{len(data)} bytes are no whole number of {datatype}")
    return _numbers(datatype, np.frombuffer(data, kind).tolist())


def _split(name: str, data: bytes) -> list[bytes]:
    """Texts of a BYTES tensor: each behind its length, little-endian in four bytes."""
    found, at = [], 0
    while at < len(data):
        begin = at + 4
        at = begin + struct.unpack_from("<I", data, at)[0] if begin <= len(data) else len(data) + 1
        if at > len(data):
            raise _wrong(name, "its bytes end within a text", "each text behind its length, 4 bytes little-endian")
        found.append(data[begin:at])
    return found


def _contents(item: pb.ModelInferRequest.InferInputTensor) -> list[Any]:
    if item.datatype not in _CONTENTS:
        raise _wrong(item.name, f"datatype {item.datatype[:20]!r} is not known")
    values = list(getattr(item.contents, _CONTENTS[item.datatype]))
    return _texts(item.name, values) if item.datatype == "BYTES" else _numbers(item.datatype, values)


def _texts(name: str, values: Sequence[bytes]) -> list[str]:
    try:
        return [value.decode() for value in values]
    except UnicodeDecodeError as error:
        raise _wrong(name, "a text is not UTF-8") from error


def _numbers(datatype: str, values: list[Any]) -> list[Any]:
    if datatype == "FP32":  # the shortest decimal: 0.1 in float32 means the level 0.1
        with np.errstate(over="ignore"):  # infinity, which is refused by name
            values = [float(str(np.float32(value))) if isinstance(value, float) else value for value in values]
    return [None if isinstance(value, float) and math.isnan(value) else value for value in values]


def _tensor(name: str, datatype: str, shape: tuple[int, ...], values: list[Any]) -> Tensor:
    if len(shape) > _MAX_DIMENSIONS or any(n < 0 for n in shape):
        raise _wrong(name, f"shape {list(shape[:_MAX_DIMENSIONS])} is not possible")
    if math.prod(shape) != len(values):
        raise _wrong(name, f"{len(values)} values do not fill the shape {list(shape)}")
    return Tensor(name, datatype, shape, values)


def _by_name(tensors: list[Tensor]) -> dict[str, Tensor]:
    named = {tensor.name: tensor for tensor in tensors}
    if len(named) < len(tensors):
        twice = next(t.name for at, t in enumerate(tensors) if t.name in {other.name for other in tensors[:at]})
        raise _wrong(twice, "this input is there twice", "send it once")
    return named


def _wrong(field: str, message: str, hint: str = SEE) -> InvalidInput:
    return InvalidInput(message, field=field[:80], hint=hint)
