"""Open Inference v2 in and out: what is read from JSON, raw bytes and gRPC, and how a forecast becomes tensors."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kserve import InferInput, InferRequest, InferResponse
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

from inference.transformer import openinference, request, tensors
from inference.transformer.errors import TooLarge
from pvforecast.errors import InvalidInput, UnknownPark

HOURS = ["2013-06-09T18:00:00Z", "2013-06-09T19:00:00Z"]
FULL: dict[str, tuple[str, np.ndarray]] = {
    "park_id": ("BYTES", np.array(["sim-a", "sim-b"], object)),
    "horizon_hours": ("INT32", np.array([2], np.int32)),
    "issued_at": ("BYTES", np.array(["", HOURS[0]], object)),
    "quantiles": ("FP32", np.array([0.1, 0.5], np.float32)),
    "weather.valid_at": ("BYTES", np.array([HOURS, HOURS], object)),
    "weather.ghi": ("FP64", np.array([[100.0, np.nan], [300.0, 400.0]])),
}
SAME = {
    "instances": [
        {
            "park_id": park,
            "horizon_hours": 2,
            "issued_at": issued_at,
            "quantiles": [0.1, 0.5],
            "weather": {"valid_at": HOURS, "ghi": ghi},
        }
        for park, issued_at, ghi in (("sim-a", None, [100.0, None]), ("sim-b", HOURS[0], [300.0, 400.0]))
    ]
}


def kserves(*, binary: bool) -> InferRequest:
    """The request as KServe's own client makes it."""
    inputs = []
    for name, (datatype, values) in FULL.items():
        made = InferInput(name, list(values.shape), datatype)
        made.set_data_from_numpy(values, binary_data=binary)
        inputs.append(made)
    return InferRequest("pv-forecast", inputs, "id-1")


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("over", ["rest", "grpc"])
def test_kserves_clients_ask_the_same_whatever_they_send_it_as(over: str, binary: bool) -> None:
    sent = kserves(binary=binary)
    if over == "grpc":
        read = tensors.from_grpc(sent.to_grpc())
    else:
        body, length = sent.to_rest()
        text = body if isinstance(body, bytes) else orjson.dumps(body)
        read = tensors.from_rest(text.replace(b"NaN", b"null"), length)
    assert read.id == "id-1"
    assert openinference.as_body(read) == SAME


def test_what_is_left_out_is_as_in_v1() -> None:
    read = tensors.from_rest(_body(_park("sim-a")))
    assert openinference.as_body(read) == {
        "instances": [{"park_id": "sim-a", "issued_at": None, "horizon_hours": None, "weather": None}]
    }


def _park(*ids: object, **fields: Any) -> dict[str, Any]:
    return {"name": "park_id", "datatype": "BYTES", "shape": [len(ids)], "data": list(ids)} | fields


def _body(*inputs: object, **fields: Any) -> bytes:
    return json.dumps({"inputs": list(inputs)} | fields).encode()


def _input(name: str, datatype: str, *data: object) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [len(data)], "data": list(data)}


BAD = {
    # name: (body, field, part of the message or hint)
    "no JSON": (b"{", "body", "not JSON"),
    "a list": (b"[]", "body", "not a JSON object"),
    "no inputs": (b"{}", "inputs", "list of tensors"),
    "an input is a text": (_body("park_id"), "inputs", "list of tensors"),
    "no name": (_body({"datatype": "BYTES"}), "inputs[0].name", "not a text"),
    "no datatype": (_body({"name": "park_id"}), "park_id", "datatype"),
    "a shape of texts": (_body(_park("a", shape=["1"])), "park_id", "shape"),
    "a negative shape": (_body(_park("a", shape=[-1])), "park_id", "not possible"),
    "nine dimensions": (_body(_park("a", shape=[1] * 9)), "park_id", "not possible"),
    "a shape too large": (_body(_park("a", shape=[2**40, 2**40])), "park_id", "do not fill"),
    "no data": (_body({"name": "park_id", "datatype": "BYTES", "shape": [1]}), "park_id", "neither data"),
    "data an object": (_body(_park(data={})), "park_id", "not a list"),
    "an object in the data": (_body(_park({})), "park_id", "something else"),
    "nested too deep": (_body(_park(data=[[[[[[[[[["a"]]]]]]]]]])), "park_id", "something else"),
    "raw bytes beyond the body": (_body(_park(data=None) | {"data": 1}), "park_id", "not a list"),
    "an input twice": (_body(_park("a"), _park("b")), "park_id", "twice"),
    "no park": (_body(), "park_id", "missing"),
    "another input": (_body(_park("a"), _input("park", "BYTES", "b")), "park", "no such input"),
    "another datatype": (_body(_input("park_id", "INT64", 1)), "park_id", "BYTES"),
    "a parameter unknown": (_body(_park("a"), parameters={"seed": 1}), "parameters", "binary_data_output"),
    "parameters a list": (_body(_park("a"), parameters=[]), "parameters", "not an object"),
    "an output unknown": (_body(_park("a"), outputs=[{"name": "power"}]), "outputs", "power_kw"),
    "raw wanted by a word": (_body(_park("a"), parameters={"binary_data_output": "no"}), "parameters", "true or false"),
    "an id that is a number": (_body(_park("a"), id=3), "id", "not a text"),
    "three horizons for two": (_body(_park("a", "b"), _input("horizon_hours", "INT64", 1, 2, 3)), "horizon_hours", "2"),
    "weather of another shape": (_body(_park("a", "b"), _input("weather.ghi", "FP64", 1)), "weather.ghi", "row a"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_tensor_is_named_with_the_fix(name: str) -> None:
    body, field, said = BAD[name]
    with pytest.raises(InvalidInput) as caught:
        openinference.as_body(tensors.from_rest(body))
    assert caught.value.field == field
    assert said in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize(
    ("data", "said"),
    [(b"\x05\0\0\0sim", "within a text"), (b"\x05\0", "within a text"), (b"\x02\0\0\0\xff\xfe", "UTF-8")],
)
def test_raw_texts_that_are_broken_are_refused(data: bytes, said: str) -> None:
    head = {"name": "park_id", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": len(data)}}
    text = _body(head)
    with pytest.raises(InvalidInput, match=said):
        tensors.from_rest(text + data, len(text))
    with pytest.raises(InvalidInput, match="binary_data_size"):
        tensors.from_rest(text, len(text))  # the bytes are missing
    with pytest.raises(InvalidInput, match="the body has"):
        tensors.from_rest(text, len(text) + 1)


def test_more_parks_than_a_request_may_have_are_too_large() -> None:
    with pytest.raises(TooLarge, match="101 parks"):
        openinference.as_body(tensors.from_rest(_body(_park(*["a"] * 101))))


@pytest.mark.parametrize(
    ("told", "renamed"),
    [
        ("instances[2].park_id", "park_id[2]"),
        ("instances[1].weather.ghi[3]", "weather.ghi[1][3]"),
        ("instances[0].quantiles[1]", "quantiles[1]"),
        ("instances", "park_id"),
    ],
)
def test_errors_speak_of_tensors(told: str, renamed: str) -> None:
    error = openinference.in_its_words(UnknownPark("no such park", field=told, hint="check"))
    assert (type(error), error.field) == (UnknownPark, renamed)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "datatype", "shape", "data", "parameters", "binary_data_size"]), inner, max_size=5
        )
    ),
    max_leaves=8,
)
one_input = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(list(openinference.INPUTS)) | values,
        "datatype": st.sampled_from(["BYTES", "FP32", "FP64", "INT64", "BOOL"]) | values,
        "shape": st.lists(st.integers(-1, 4), max_size=3) | values,
        "data": values,
        "parameters": values,
    },
)


@given(st.fixed_dictionaries({"inputs": st.lists(one_input, max_size=4) | values}, optional={"outputs": values}))
@settings(max_examples=300, deadline=None)
def test_whatever_json_comes_it_is_read_or_refused_with_a_field(body: Any) -> None:
    try:
        request.parse(openinference.as_body(tensors.from_rest(orjson.dumps(body, default=str))))
    except InvalidInput as refused:
        assert refused.field  # noqa: PT017  # any other error fails the test
    except TypeError:  # a number that JSON has not
        return


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_whatever_message_comes_it_is_read_or_refused_with_a_field(data: bytes) -> None:
    message = pb.ModelInferRequest(model_name="pv-forecast")
    tensor = message.inputs.add(name="park_id", datatype="BYTES", shape=[1])
    tensor.parameters["binary_data_size"].int64_param = len(data)
    message.raw_input_contents.append(data)
    try:
        [found] = tensors.from_grpc(message).tensors.values()
        assert data.endswith(found.values[0].encode())
    except InvalidInput as refused:
        assert refused.field == "park_id"  # noqa: PT017


def _told(park: str, *, held: bool = False, degraded: tuple[str, ...] = ()) -> dict[str, Any]:
    power = {"0.1": [1.0, 2.0], "0.9": [3.0, 4.0]}
    return {
        "park_id": park, "issued_at": HOURS[0], "resolution": "PT1H", "model_version": "3", "bundle_id": "b",
        "spec_hash": "s", "snapshot_id": park + "-1", "valid_at": HOURS, "power_kw": power,
        "possible_kw": {level: [9.0, 9.0] for level in power} if held else None, "median_energy_kwh": None,
        "weather_source": None, "weather_run_at": None,
        "weather_age_minutes": None, "generation_age_minutes": 7, "degraded": list(degraded),
    }  # fmt: skip


@pytest.mark.parametrize("binary", [False, True])
def test_a_forecast_becomes_tensors_that_kserves_client_reads(binary: bool) -> None:
    body = {"predictions": [_told("sim-a", degraded=("no_weather",)), _told("sim-b", held=True)]}
    asked = tensors.Request("id-1", {}, {"binary_data_output": binary}, {})
    content, length = openinference.rest_body(openinference.as_response(body, asked, "request"))
    length = len(content) if length is None else length
    assert json.loads(content[:length])["model_version"] == "3"
    response = InferResponse.from_bytes(content, length)
    read = {output.name: output.as_numpy() for output in response.outputs}
    assert set(read) == set(openinference.OUTPUTS)
    assert response.id == "id-1"
    np.testing.assert_array_equal(read["instance"], [0, 0, 1, 1])
    np.testing.assert_array_equal(read["power_kw"], [[1, 3], [2, 4]] * 2)
    np.testing.assert_array_equal(read["possible_kw"], [[1, 3], [2, 4], [9, 9], [9, 9]])
    np.testing.assert_array_equal(read["quantile_levels"], [0.1, 0.9])
    np.testing.assert_array_equal(read["weather_age_minutes"], [-1, -1])
    np.testing.assert_array_equal(np.isnan(read["median_energy_kwh"].astype(float)), [True, True])
    texts = [value.decode() if isinstance(value, bytes) else value for value in read["degraded"]]
    assert texts == ['["no_weather"]', "[]"]


def test_only_the_outputs_that_are_wanted_come_each_as_it_is_wanted() -> None:
    outputs: dict[str, dict[str, Any]] = {"power_kw": {"binary_data": True}, "park_id": {}}
    asked = tensors.Request("", {}, {}, outputs)
    content, length = openinference.rest_body(openinference.as_response({"predictions": [_told("a")]}, asked, "r-1"))
    head = json.loads(content[:length])
    assert [output["name"] for output in head["outputs"]] == ["power_kw", "park_id"]
    assert head["outputs"][0]["parameters"] == {"binary_data_size": 32}
    assert head["outputs"][1]["data"] == ["a"]
    assert head["id"] == "r-1"
    np.testing.assert_array_equal(np.frombuffer(content[length:]), [1, 3, 2, 4])
