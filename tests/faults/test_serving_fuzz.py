"""Malformed requests over V1, Open Inference REST and gRPC: no 500, no traceback, no crash."""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from kserve import InferInput, InferRequest

from inference.protocol import MODEL_NAME
from pvforecast.settings import Settings
from tests.gateway import PREDICT, Place
from tests.gateway import place as gateway_place
from tests.serving import PARKS

pytestmark = [pytest.mark.stack, pytest.mark.slow]

REQUESTS = int(os.environ.get("PVF_FUZZ_REQUESTS", "20000"))  # over all three together
CLIENTS = 8
INFER = f"/v2/models/{MODEL_NAME}/infer"
ODD: tuple[Any, ...] = (
    None, True, -1, 0, 3, 10**30, 1.5, -0.0, 1e308, "", "sim-a", "nowhere", "\0", "é" * 40, "../..", [], {}, [[]],
    "NaN", "2013-06-09T18:00:00Z", "9999-12-31T23:59:59-10:00", [0.5], [None] * 50, {"valid_at": []}, "x" * 5_000,
    [-1], [2**63],
)  # fmt: skip
LENGTHS = ("0", "10", "-1", "1e3", "999999", "c3a9")
V1: dict[str, Any] = {
    "instances": [
        {
            "park_id": PARKS[0], "horizon_hours": 3, "issued_at": None, "quantiles": [0.1, 0.5],
            "weather": {"valid_at": ["2013-06-09T06:00:00Z", "2013-06-09T07:00:00Z"], "ghi": [1.0, None]},
        },
        {"park_id": PARKS[1], "explain": False},
    ],
    "allow_stale": False,
}  # fmt: skip
V2: dict[str, Any] = {
    "id": "1",
    "parameters": {"binary_data_output": False},
    "inputs": [
        {"name": "park_id", "datatype": "BYTES", "shape": [2], "data": list(PARKS)},
        {"name": "horizon_hours", "datatype": "INT64", "shape": [1], "data": [3]},
        {"name": "quantiles", "datatype": "FP64", "shape": [2], "data": [0.1, 0.5]},
    ],
    "outputs": [{"name": "power_kw", "parameters": {"binary_data": False}}],
}


@pytest.fixture(scope="module")
def place(infra: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with gateway_place(infra, tmp_path_factory.mktemp("home")) as made:
        yield made


def mutated(value: Any, chance: random.Random) -> Any:
    """The same JSON with a place or two changed: another value, another name, missing, doubled."""
    if chance.random() < 0.08:
        return chance.choice(ODD)
    if isinstance(value, dict):
        made = {}
        for name, inner in value.items():
            draw = chance.random()
            if draw < 0.06:
                continue
            made[chance.choice(["x", "", name.upper(), name + "\0"]) if draw < 0.12 else name] = mutated(inner, chance)
        return made
    if isinstance(value, list):
        made_list = [mutated(inner, chance) for inner in value]
        return made_list * chance.choice([0, 2, 60]) if chance.random() < 0.06 else made_list
    return value


def garbled(data: bytes, chance: random.Random) -> bytes:
    """Bytes cut, flipped, doubled or with others among them."""
    made = bytearray(data)
    for _ in range(chance.randrange(1, 6)):
        at = chance.randrange(len(made) + 1)
        match chance.randrange(4):
            case 0:
                del made[at : at + chance.randrange(1, 40)]
            case 1:
                made[at:at] = chance.randbytes(chance.randrange(1, 12))
            case 2 if made:
                made[at % len(made)] ^= 1 << chance.randrange(8)
            case _:
                made[at:at] = made[: chance.randrange(1, 30)]
    return bytes(made)


def rest(place: Place, path: str, good: dict[str, Any], numbers: Iterable[int]) -> list[str]:
    """Sends the wrong requests of these numbers; returns what came back, a word each for counting."""
    with httpx.Client(base_url=place.url, headers={"x-api-key": place.desk}, timeout=60) as client:
        return [_status(client, path, good, random.Random(f"{path} {number}")) for number in numbers]


def _status(client: httpx.Client, path: str, good: dict[str, Any], chance: random.Random) -> str:
    content = json.dumps(mutated(good, chance)).encode()
    headers = {"content-type": chance.choice(["application/json", "text/plain", "application/octet-stream", "x"])}
    if chance.random() < 0.4:
        content = garbled(content, chance)
    if chance.random() < 0.2:
        headers["inference-header-content-length"] = chance.choice(LENGTHS)
    answer = client.post(path, content=content, headers=headers)
    assert "Traceback" not in answer.text, content
    assert answer.status_code < 500 or answer.status_code == 503, (answer.status_code, answer.text, content)
    if answer.status_code >= 400:
        assert set(answer.json()) == {"error", "code", "field", "hint", "request_id"}, answer.text
    return str(answer.status_code)


def rpc(place: Place, numbers: Iterable[int]) -> list[str]:
    """As `rest`, over gRPC and as plain bytes: what is no message as well."""
    ids = InferInput("park_id", [2], "BYTES")
    ids.set_data_from_numpy(np.array(PARKS, object), binary_data=True)
    hours = InferInput("horizon_hours", [1], "INT32")
    hours.set_data_from_numpy(np.array([3], np.int32), binary_data=True)
    good = InferRequest(MODEL_NAME, [ids, hours]).to_grpc().SerializeToString()
    told = []
    with grpc.insecure_channel(place.address) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        for number in numbers:
            data = garbled(good, random.Random(f"grpc {number}"))
            try:
                call(data, metadata=(("x-api-key", place.desk),), timeout=60)
                told.append("OK")
            except grpc.RpcError as error:
                told.append(_told(error))
    return told


def _told(error: grpc.RpcError) -> str:
    assert isinstance(error, grpc.Call)
    assert "Traceback" not in error.details()
    assert error.code() not in (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL), error.details()
    assert set(json.loads(error.details())) == {"error", "code", "field", "hint", "request_id"}
    return error.code().name


def test_no_malformed_request_gets_a_500_or_a_traceback(place: Place) -> None:
    each = REQUESTS // 3 + 1
    protocols: dict[str, Callable[[Iterable[int]], list[str]]] = {
        "v1": lambda numbers: rest(place, PREDICT, V1, numbers),
        "v2": lambda numbers: rest(place, INFER, V2, numbers),
        "grpc": lambda numbers: rpc(place, numbers),
    }
    with ThreadPoolExecutor(CLIENTS) as pool:
        for name, send in protocols.items():
            shares = [range(first, each, CLIENTS) for first in range(CLIENTS)]
            seen = Counter(word for words in pool.map(send, shares) for word in words)
            print(name, dict(seen))
            assert seen["503"] + seen["UNAVAILABLE"] < each / 100
            assert seen["200"] + seen["OK"] < each / 2, "hardly any were wrong"
    assert place.ask(PARKS[0], place.desk).status_code == 200
    log = (place.services.folder / "transformer.log").read_text()
    assert "Traceback" not in log
