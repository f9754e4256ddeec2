"""Open Inference v2 through the gateway, as KServe's own clients and plain bytes ask it."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import struct
from collections.abc import Sequence
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from google.protobuf import json_format
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, InferResponse, RESTConfig
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from inference.transformer import openinference
from tests.gateway import PREDICT, Place
from tests.serving import PARKS, ROOT, eventually

pytestmark = pytest.mark.stack

FIRST, SECOND = PARKS
MODEL = "pv-forecast"
INFER = f"/v2/models/{MODEL}/infer"
DOCS = ROOT / "docs" / "open-inference.md"
SHAPE = {"error", "code", "field", "hint", "request_id"}


def question(*parks: str, hours: int = 3, binary: bool = False) -> InferRequest:
    ids, horizon = InferInput("park_id", [len(parks)], "BYTES"), InferInput("horizon_hours", [1], "INT64")
    ids.set_data_from_numpy(np.array(parks, object), binary_data=binary)
    horizon.set_data_from_numpy(np.array([hours]), binary_data=binary)
    return InferRequest(MODEL, [ids, horizon])


def over_rest(place: Place, key: str, asked: InferRequest) -> InferResponse:
    async def ask() -> InferResponse:
        async with InferenceRESTClient(RESTConfig(protocol="v2", timeout=30, retries=0)) as client:
            return await client.infer(place.url, asked, model_name=MODEL, headers={"x-api-key": key})

    return asyncio.run(ask())


def over_grpc(place: Place, key: str, asked: InferRequest) -> InferResponse:
    async def ask() -> InferResponse:
        async with InferenceGRPCClient(place.address, timeout=30) as client:
            return await client.infer(asked, headers=(("x-api-key", key),))

    return asyncio.run(ask())


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("over", [over_rest, over_grpc])
def test_kserves_clients_get_what_v1_answers(place: Place, over: Any, binary: bool) -> None:
    response = over(place, place.desk, question(FIRST, SECOND, binary=binary))
    read = {output.name: output.as_numpy() for output in response.outputs}
    told = [place.ask(park, place.desk).json()["predictions"][0] for park in PARKS]
    levels = [str(level) for level in read["quantile_levels"]]
    assert levels == list(told[0]["power_kw"])
    for at, prediction in enumerate(told):
        mine = read["power_kw"][read["instance"] == at]
        np.testing.assert_array_equal(mine.T, list(prediction["power_kw"].values()))
    assert _texts(read["valid_at"]) == [hour for one in told for hour in one["valid_at"]]
    assert _texts(read["snapshot_id"]) == [one["snapshot_id"] for one in told]
    parameters = {name: getattr(value, "string_param", value) for name, value in response.parameters.items()}
    assert parameters["bundle_id"] == told[0]["bundle_id"]


def _texts(values: Sequence[Any]) -> list[str]:
    return [value.decode() if isinstance(value, bytes) else value for value in values]


def test_plain_bytes_behind_a_json_head_are_answered_in_bytes(place: Place) -> None:
    raw = struct.pack("<I", len(FIRST)) + FIRST.encode()
    head = json.dumps(
        {
            "inputs": [
                {"name": "park_id", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": len(raw)}}
            ],
            "outputs": [{"name": "power_kw", "parameters": {"binary_data": True}}],
        }
    ).encode()
    headers = {
        "x-api-key": place.desk,
        "inference-header-content-length": str(len(head)),
        "content-type": "application/octet-stream",
    }
    response = httpx.post(place.url + INFER, content=head + raw, headers=headers)
    length = int(response.headers["inference-header-content-length"])
    [output] = json.loads(response.content[:length])["outputs"]
    power = np.frombuffer(response.content[length:]).reshape(output["shape"])
    expected = place.ask(FIRST, place.desk, horizon_hours=48).json()["predictions"][0]["power_kw"]
    np.testing.assert_array_equal(power.T, list(expected.values()))


def test_metadata_names_every_tensor_and_the_version_that_serves(place: Place) -> None:
    server = place.get("/v2", place.desk).json()
    assert server["name"] == "pv-forecast"
    told = place.get(f"/v2/models/{MODEL}", place.desk).json()
    assert told["versions"] == ["1"]
    with _stub(place, place.desk) as (stub, metadata):
        same = stub.ModelMetadata(pb.ModelMetadataRequest(name=MODEL), metadata=metadata, timeout=30)
        assert stub.ServerLive(pb.ServerLiveRequest(), metadata=metadata, timeout=30).live
        assert stub.ServerReady(pb.ServerReadyRequest(), metadata=metadata, timeout=30).ready
        assert stub.ModelReady(pb.ModelReadyRequest(name=MODEL), metadata=metadata, timeout=30).ready
    for kind, named in (("inputs", openinference.INPUTS), ("outputs", openinference.OUTPUTS)):
        assert [one["name"] for one in told[kind]] == list(named)
        assert told[kind] == [
            {"name": one.name, "datatype": one.datatype, "shape": list(one.shape)} for one in getattr(same, kind)
        ]
    for path in ("/v2/health/live", "/v2/health/ready", f"/v2/models/{MODEL}/ready"):
        assert place.get(path, place.desk).status_code == 200


class _stub:  # noqa: N801  # a context manager in the words of the test
    def __init__(self, place: Place, key: str) -> None:
        self._channel = grpc.insecure_channel(place.address)
        self._metadata = (("x-api-key", key), ("x-client-id", "desk"))

    def __enter__(self) -> tuple[GRPCInferenceServiceStub, tuple[tuple[str, str], ...]]:
        return GRPCInferenceServiceStub(self._channel), self._metadata

    def __exit__(self, *_: object) -> None:
        self._channel.close()


def _refused(place: Place, key: str, asked: pb.ModelInferRequest) -> grpc.Call:
    with _stub(place, key) as (stub, metadata), pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(asked, metadata=metadata, timeout=30)
    error = caught.value
    assert isinstance(error, grpc.Call)
    return error


@pytest.mark.parametrize(
    ("asked", "kind", "status", "code", "field"),
    [
        (question(FIRST), "", grpc.StatusCode.UNAUTHENTICATED, "unauthorized", "x-api-key"),
        (question(FIRST, SECOND), "limited", grpc.StatusCode.NOT_FOUND, "unknown_park", "park_id[1]"),
        (question("nowhere"), "desk", grpc.StatusCode.NOT_FOUND, "unknown_park", "park_id[0]"),
        (question(FIRST, hours=0), "desk", None, "", ""),
        (question(FIRST, hours=999), "desk", grpc.StatusCode.INVALID_ARGUMENT, "invalid_input", "horizon_hours[0]"),
        (question(*[FIRST] * 101), "desk", grpc.StatusCode.RESOURCE_EXHAUSTED, "too_large", "park_id"),
    ],
)
def test_both_transports_refuse_in_the_one_shape(
    place: Place, asked: InferRequest, kind: str, status: grpc.StatusCode | None, code: str, field: str
) -> None:
    key = getattr(place, kind) if kind else "pvf_wrong-key-0123456789"
    body, _ = asked.to_rest()
    rest = place.post(INFER, body, key)
    if status is None:  # an horizon of 0 is the default
        assert rest.status_code == 200
        return
    error = _refused(place, key, asked.to_grpc())
    assert error.code() is status
    for told in (json.loads(error.details()), rest.json()):
        assert set(told) == SHAPE
        assert (told["code"], told["field"]) == (code, field)
        assert told["request_id"]
    trailers = dict(error.trailing_metadata() or ())
    if kind:
        assert trailers["x-request-id"] == json.loads(error.details())["request_id"]


def test_bytes_that_are_no_message_are_refused_like_any_other_question(place: Place) -> None:
    with grpc.insecure_channel(place.address) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.RpcError) as caught:
            call(b"\xff\xff\xff", metadata=(("x-api-key", place.desk),), timeout=30)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    told = json.loads(caught.value.details())
    assert (told["code"], told["field"]) == ("invalid_input", "message")


def test_a_model_of_another_name_and_the_repository_are_not_there(place: Place) -> None:
    asked = question(FIRST).to_grpc()
    asked.model_name = "other"
    assert json.loads(_refused(place, place.desk, asked).details())["code"] == "unknown_model"
    body, _ = question(FIRST).to_rest()
    assert place.post("/v2/models/other/infer", body, place.desk).json()["code"] == "unknown_model"
    assert place.get("/v2/models/other", place.desk).status_code == 404
    with _stub(place, place.desk) as (stub, metadata):
        unload = pb.RepositoryModelUnloadRequest(model_name=MODEL)
        with pytest.raises(grpc.RpcError) as caught:
            stub.RepositoryModelUnload(unload, metadata=metadata, timeout=30)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert place.ask(FIRST, place.desk).status_code == 200


def test_without_the_predictor_both_transports_say_when_to_try_again(place: Place) -> None:
    predictor = place.services.services["predictor"]
    body, _ = question(FIRST).to_rest()
    v1 = {"instances": [{"park_id": FIRST, "horizon_hours": 3}]}
    [good] = place.post(PREDICT, v1, place.desk).json()["predictions"]
    predictor.stop()
    try:
        rest = place.post(INFER, body, place.desk)
        assert (rest.status_code, rest.json()["code"]) == (503, "not_ready")
        assert rest.headers["retry-after"]
        error = _refused(place, place.desk, question(FIRST).to_grpc())
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert json.loads(error.details())["code"] == "not_ready"
        assert dict(error.trailing_metadata() or ())["retry-after"]
        assert place.get(f"/v2/models/{MODEL}/ready", place.desk).status_code == 503
        assert place.post(PREDICT, v1, place.desk).status_code == 503
        [stale] = place.post(PREDICT, v1 | {"allow_stale": True}, place.desk).json()["predictions"]
        assert stale == good | {"degraded": [*good["degraded"], "stale_forecast"]}
        old = place.post(INFER, body | {"parameters": {"allow_stale": True}}, place.desk).json()["outputs"]
        assert next(one["data"] for one in old if one["name"] == "degraded") == [json.dumps(stale["degraded"])]
    finally:
        predictor.start()
        predictor.wait()
    eventually(lambda: place.post(INFER, body, place.desk).status_code == 200)


@pytest.mark.parametrize("number", [0, 1])
def test_the_documented_clients_work(place: Place, number: int, capsys: pytest.CaptureFixture[str]) -> None:
    example = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.S)[number]
    exec(example.replace("pvdaq-50", FIRST), {"URL": place.url, "KEY": place.desk})
    assert capsys.readouterr().out.count("\n") == 48


def test_the_documented_message_of_grpcurl_is_answered(place: Place) -> None:
    (text,) = re.findall(r"grpcurl .*? -d '(.*?)'", DOCS.read_text(), re.S)
    park = base64.b64encode(FIRST.encode()).decode()
    asked = json_format.Parse(text.replace("cHZkYXEtNTA=", park), pb.ModelInferRequest())
    with _stub(place, place.desk) as (stub, metadata):
        assert stub.ModelInfer(asked, metadata=metadata, timeout=30).outputs[1].shape == [48]


def test_no_traceback_and_a_line_for_each_request_is_in_the_log(place: Place) -> None:
    log = (place.services.folder / "transformer.log").read_text()
    assert "Traceback" not in log
    assert "grpc ModelInfer" in log
    assert place.desk not in log
