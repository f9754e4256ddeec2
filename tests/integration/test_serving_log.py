"""Each prediction is logged once, whatever the sink does, and can be made again bit for bit."""

from __future__ import annotations

import asyncio
import base64
import copy
import dataclasses
import json
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import psycopg
import pytest
from kserve import InferenceGRPCClient, InferInput, InferRequest

from inference.prediction_log import store as log_store
from inference.prediction_log.record import REQUEST, RESPONSE
from inference.prediction_log.replay import replay
from pvforecast import snapshot
from pvforecast.features import DEFAULT_SPEC, FeatureSpec
from pvforecast.known import HOUR
from pvforecast.model.bundle import Bundle
from pvforecast.settings import Settings
from tests.bundles import NOW, record, site, tiny_bundle
from tests.serving import EARLIER, HangingServer, Serving, Wire, eventually, free_ports, serving, text

pytestmark = pytest.mark.stack

OK = {"park_id": "sim-a"}
HEADERS = {
    "content-type": "application/json",
    "ce-specversion": "1.0",
    "ce-id": "event-1",
    "ce-type": RESPONSE,
    "ce-source": "test",
    "ce-inferenceservicename": "pv-forecast",
    "ce-namespace": "local",
    "ce-component": "transformer",
    "ce-endpoint": "default",
}


@pytest.fixture(scope="module")
def stack(infra: Settings) -> Iterator[Serving]:
    with serving(infra) as made:
        made.ports["transformer-grpc"] = free_ports(1)[0]
        made.services["transformer"].arguments += ["--grpc-port", str(made.ports["transformer-grpc"])]
        for name in ("predictor", "transformer", "sink"):
            made.services[name].start()
        for name in ("predictor", "transformer", "sink"):
            made.services[name].wait()
        first = tiny_bundle(record(site("sim-a")))
        made.promoted(first, "1", EARLIER)
        made.deploy(first, "1")
        eventually(lambda: made.ask(OK).status_code == 200)
        yield made


def logged(stack: Serving, **headers: str) -> tuple[log_store.Row, log_store.Row]:
    """The pair of a request that was just made with this request id."""
    request_id = headers["request_id"]
    eventually(lambda: len(log_store.find(stack.dsn, request_id=request_id)) == 2)
    request, response = log_store.find(stack.dsn, request_id=request_id)
    return request, response


def post(stack: Serving, body: object = None, **headers: str | None) -> httpx.Response:
    merged = {name: value for name, value in {**HEADERS, **headers}.items() if value is not None}
    content = body if isinstance(body, bytes) else json.dumps(body or {"predictions": [{"park_id": "p"}]}).encode()
    return httpx.post(stack.sink_url, content=content, headers=merged, timeout=15)


def test_a_prediction_is_logged_as_a_pair_of_events(stack: Serving) -> None:
    answer = stack.ask(
        OK, {"park_id": "sim-b", "horizon_hours": 3}, **{"x-request-id": "pair", "x-client-id": "me"}
    ).json()
    request, response = logged(stack, request_id="pair")
    assert (request.id, request.type, response.type) == (response.id, REQUEST, RESPONSE)
    assert request.data["instances"][1] == {"park_id": "sim-b", "horizon_hours": 3}
    assert request.park_ids == response.park_ids == ["sim-a", "sim-b"]
    assert (response.inferenceservice, response.namespace, response.component) == (
        "pv-forecast",
        "local",
        "transformer",
    )
    assert response.data["client_id"] == "me"
    for told, kept in zip(answer["predictions"], response.data["predictions"], strict=True):
        shared = ("park_id", "issued_at", "valid_at", "snapshot_id", "bundle_id", "spec_hash", "power_kw", "degraded")
        assert {name: told[name] for name in shared} == {name: kept[name] for name in shared}
        assert len(kept["row_digests"]) == len(kept["valid_at"])
        fractions = np.frombuffer(base64.b64decode(kept["quantiles_fraction"]), "<f4")
        assert fractions.size == len(kept["valid_at"]) * len(kept["quantile_levels"])
    assert log_store.recent(stack.dsn, "sim-b", 1)[0].id == response.id
    assert log_store.find(stack.dsn, event_id=response.id) == [request, response]


def test_each_protocol_logs_the_same(stack: Serving) -> None:
    """What was asked over V1, Open Inference REST and gRPC is one kind of row, and is made again from it."""
    park = InferInput("park_id", [1], "BYTES")
    park.set_data_from_numpy(np.array(["sim-a"], object), binary_data=False)
    asked = InferRequest("pv-forecast", [park])

    async def over_grpc() -> None:
        async with InferenceGRPCClient(f"127.0.0.1:{stack.ports['transformer-grpc']}", timeout=15) as client:
            await client.infer(asked, headers=(("x-request-id", "by-grpc"),))

    stack.ask(OK, **{"x-request-id": "by-v1"})
    url, headers = f"{stack.url}/v2/models/pv-forecast/infer", {"x-request-id": "by-v2"}
    assert httpx.post(url, json=asked.to_rest()[0], headers=headers, timeout=15).status_code == 200
    asyncio.run(over_grpc())
    rows = [logged(stack, request_id=f"by-{name}")[1] for name in ("v1", "v2", "grpc")]
    [first], [second], [third] = (row.data["predictions"] for row in rows)
    assert first == second == third
    assert all(first[name] for name in ("snapshot_id", "bundle_id", "spec_hash", "row_digests"))
    assert [replay(stack.store, row).bit_equal_rows for row in rows] == [48, 48, 48]


def test_a_wrong_question_is_not_logged(stack: Serving) -> None:
    stack.ask({"park_id": "nowhere"}, **{"x-request-id": "wrong"})
    stack.ask(OK, **{"x-request-id": "right-after"})
    logged(stack, request_id="right-after")
    assert log_store.find(stack.dsn, request_id="wrong") == []


WEATHER = {
    "valid_at": [text(NOW + lead * HOUR) for lead in range(24)],
    "ghi": [37.7 * lead for lead in range(24)],
    "temp_air": [11.1, None] * 12,
}


@pytest.mark.parametrize(
    "instance",
    [
        {},
        {"horizon_hours": 168},
        {"horizon_hours": 1, "quantiles": [0.5]},
        {"issued_at": text(NOW - 20 * HOUR - np.timedelta64(1234, "s"))},
        {"horizon_hours": 24, "weather": WEATHER},
    ],
    ids=["default", "longest", "one hour", "the past", "own weather"],
)
def test_a_served_forecast_is_made_again_bit_for_bit(
    stack: Serving, instance: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    request_id = request.node.name.replace(" ", "-")
    predictions = stack.ask(OK | instance, {"park_id": "sim-b"}, **{"x-request-id": request_id}).json()["predictions"]
    _, row = logged(stack, request_id=request_id)
    result = replay(stack.store, row)
    assert result.first_difference is None
    assert result.bit_equal_rows == result.rows == sum(len(one["valid_at"]) for one in predictions)


def test_replay_sees_a_single_changed_bit(stack: Serving) -> None:
    stack.ask(OK, **{"x-request-id": "tampered"})
    _, row = logged(stack, request_id="tampered")
    for change in ("quantiles", "features", "snapshot"):
        data = copy.deepcopy(row.data)
        prediction = data["predictions"][0]
        if change == "quantiles":
            served = bytearray(base64.b64decode(prediction["quantiles_fraction"]))
            served[4 * 3 * 10] ^= 1
            prediction["quantiles_fraction"] = base64.b64encode(served).decode()
        elif change == "features":
            prediction["row_digests"][10] = "0" * 16
        else:
            earlier = stack.ask({**OK, "issued_at": text(NOW - 3 * HOUR)}).json()["predictions"][0]
            prediction["snapshot_id"] = earlier["snapshot_id"]
        result = replay(stack.store, dataclasses.replace(row, data=data))
        if change == "snapshot":
            assert result.bit_equal_rows < result.rows == 48
        else:
            assert (result.rows, result.bit_equal_rows) == (48, 47)
            assert f"sim-a {prediction['valid_at'][10]}: {change}" in str(result.first_difference)


def test_the_sink_answers_when_the_event_is_stored_and_stores_it_once(stack: Serving) -> None:
    for _ in range(3):
        assert post(stack, **{"ce-id": "once"}).status_code == 202
        assert len(log_store.find(stack.dsn, event_id="once")) == 1
    assert post(stack, {"instances": [{"park_id": "p"}]}, **{"ce-id": "once", "ce-type": REQUEST}).status_code == 202
    assert {row.type for row in log_store.find(stack.dsn, event_id="once")} == {REQUEST, RESPONSE}


@pytest.mark.parametrize("header", sorted(set(HEADERS)))
def test_a_missing_header_is_named(stack: Serving, header: str) -> None:
    response = post(stack, **{header: None})
    assert (response.status_code, response.json()["field"]) == (400, header)


@pytest.mark.parametrize(
    ("body", "headers", "field"),
    [
        (b"{", {}, "body"),
        (b"\xff", {}, "body"),
        ([1], {}, "body"),
        ({"predictions": 3}, {}, "body"),
        ({"predictions": ["x"]}, {}, "body"),
        ({"instances": []}, {}, "body"),
        ({"predictions": [{"park_id": "nul \0 in it"}]}, {}, "body"),
        (b'{"predictions": [{"x": NaN}]}', {}, "body"),
        (None, {"ce-time": "yesterday"}, "ce-time"),
        (None, {"ce-time": "2013-06-01T00:00:00"}, "ce-time"),
        (None, {"ce-specversion": "0.3"}, "ce-specversion"),
        (None, {"ce-type": "other"}, "ce-type"),
        (None, {"ce-id": "x" * 300}, "ce-id"),
    ],
)
def test_a_malformed_event_is_refused(stack: Serving, body: object, headers: dict[str, str], field: str) -> None:
    response = post(stack, body, **headers)
    assert (response.status_code, response.json()["field"]) == (400, field)
    assert post(stack, **{"ce-id": "after"}).status_code == 202


def test_two_sinks_make_the_table_at_once(infra: Settings) -> None:
    with serving(infra) as made:
        ports = free_ports(3)
        for port in ports:
            made.add(
                f"sink-{port}", "inference.prediction_log", ["--port", str(port)], f"http://127.0.0.1:{port}/healthz"
            ).start()
        for port in ports:
            made.services[f"sink-{port}"].wait()
            assert httpx.post(f"http://127.0.0.1:{port}", json={"predictions": []}, headers=HEADERS).status_code == 202
        assert log_store.count(made.dsn) == 1


def test_without_postgres_the_sink_lives_and_asks_to_come_back(infra: Settings) -> None:
    url = httpx.URL(infra.postgres_dsn.get_secret_value().replace("postgresql", "http"))
    wire = Wire((url.host, url.port or 5432))
    with serving(infra) as made:
        sink = made.services["sink"]
        sink.env = sink.env | {"PVF_POSTGRES_DSN": made.dsn.replace(f":{url.port}/", f":{wire.port}/")}
        wire.cut()
        sink.start()
        sink.wait()
        refused = post(made)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
        wire.mend()
        assert post(made).status_code == 202
        wire.cut()
        assert post(made, **{"ce-id": "event-2"}).status_code == 503
        wire.mend()
        assert post(made, **{"ce-id": "event-2"}).status_code == 202
        assert log_store.count(made.dsn) == 2
        assert sink.stop() == 0


def test_nothing_the_sink_does_reaches_a_prediction(stack: Serving) -> None:
    """Sink stopped, hanging, back; the transformer restarted in between. Each prediction is stored exactly once."""
    sink, transformer = stack.services["sink"], stack.services["transformer"]
    assert sink.stop() == 0
    before = log_store.count(stack.dsn)

    def ask(kind: str) -> list[float]:
        seconds = []
        for at in range(15):
            begin = time.monotonic()
            assert stack.ask(OK, **{"x-request-id": f"{kind}-{at}"}).status_code == 200
            seconds.append(time.monotonic() - begin)
        return seconds

    slowest = {"dead": max(ask("dead"))}
    eventually(lambda: any(stack.spool.iterdir()))
    hanging = HangingServer(stack.ports["sink"])
    eventually(lambda: hanging.connections > 0)
    slowest["hanging"] = max(ask("hanging"))
    assert max(slowest.values()) < 1.0, slowest  # the sink's deadline is 2 s: nothing waited for it
    assert transformer.stop() == 0
    hanging.close()
    assert log_store.count(stack.dsn) == before
    assert sum(path.stat().st_size for path in stack.spool.iterdir()) > 10_000

    transformer.start()
    transformer.wait()
    ask("restarted")
    sink.start()
    eventually(lambda: log_store.count(stack.dsn) == before + 90, 60)
    eventually(lambda: not any(stack.spool.iterdir()))
    with psycopg.connect(stack.dsn) as connection:
        rows = connection.execute(
            "SELECT request_id FROM prediction_log WHERE request_id ~ '^(dead|hang|rest)'"
        ).fetchall()
    assert Counter(Counter(row[0] for row in rows).values()) == {2: 45}
    metrics = httpx.get(f"{stack.url}/metrics").text
    assert 'pvf_prediction_log_events_total{outcome="dropped"} 0.0' in metrics
    assert "pvf_prediction_log_spool_bytes 0.0" in metrics


# --- the past --------------------------------------------------------------------------------------------------------

THEN = {"park_id": "sim-c", "issued_at": text(EARLIER)}


@dataclass
class Past:
    """Two models came since the one that answered `then`, of a park whose newest snapshot was that of `EARLIER`."""

    then: dict[str, Any]
    first: str
    between: Bundle
    last: str


@pytest.fixture(scope="module")
def past(stack: Serving) -> Past:
    history = record(site("sim-c"))
    for as_of in (EARLIER - 24 * HOUR, EARLIER):
        snapshot.write(stack.store, history.known_at(as_of))
    [then] = stack.ask({"park_id": "sim-c"}, **{"x-request-id": "then"}).json()["predictions"]
    between = tiny_bundle(history, seed=2, spec=FeatureSpec(DEFAULT_SPEC.names[:20]), quantiles=(0.2, 0.5, 0.8))
    last = tiny_bundle(history, seed=3)
    stack.promoted(between, "2", NOW - 8 * HOUR)
    stack.promoted(last, "3", NOW - 4 * HOUR)
    stack.deploy(last, "3")
    snapshot.write(stack.store, history.known_at(NOW))

    def caught_up() -> bool:
        [now] = stack.ask({"park_id": "sim-c"}).json()["predictions"]
        return (now["issued_at"], now["bundle_id"]) == (text(NOW), last.bundle_id)

    eventually(caught_up)
    return Past(then, then["bundle_id"], between, last.bundle_id)


def test_the_past_is_answered_as_it_was_then(stack: Serving, past: Past) -> None:
    """Two ask at once, as soon as another model serves: the same answer, the same log, one load."""
    assert (past.then["issued_at"], past.then["model_version"]) == (text(EARLIER), "1")
    with ThreadPoolExecutor(2) as pool:
        asked = pool.map(lambda name: stack.ask(THEN, **{"x-request-id": name}), ("again-1", "again-2"))
    assert [answer.json() for answer in asked] == [{"predictions": [past.then]}] * 2
    [then] = logged(stack, request_id="then")[1].data["predictions"]
    for name in ("again-1", "again-2"):
        _, row = logged(stack, request_id=name)
        assert row.data["predictions"] == [then]
        assert replay(stack.store, row).bit_equal_rows == 48
    said = (stack.folder / "predictor.log").read_text()
    assert said.count(f"bundle {past.first} is loaded for questions of the past") == 1


def test_features_and_levels_are_those_of_the_model_of_then(stack: Serving, past: Past) -> None:
    asked = {"park_id": "sim-c", "issued_at": text(NOW - 7 * HOUR)}
    [answer] = stack.ask(asked, **{"x-request-id": "between"}).json()["predictions"]
    assert (answer["bundle_id"], answer["model_version"]) == (past.between.bundle_id, "2")
    assert (answer["spec_hash"], list(answer["power_kw"])) == (past.between.spec.hash, ["0.2", "0.5", "0.8"])
    result = replay(stack.store, logged(stack, request_id="between")[1])
    assert result.bit_equal_rows == result.rows == 48
    assert list(stack.ask(asked | {"quantiles": [0.2]}).json()["predictions"][0]["power_kw"]) == ["0.2"]
    refused = stack.ask({"park_id": "sim-c"}, asked | {"quantiles": [0.1]}).json()
    assert (refused["field"], refused["hint"]) == ("instances[1].quantiles", "the calibrated levels are 0.2, 0.5, 0.8")


def test_now_and_then_in_one_request_are_answered_by_their_models(stack: Serving, past: Past) -> None:
    now, between = {"park_id": "sim-c"}, {"park_id": "sim-b", "issued_at": text(NOW - 5 * HOUR), "horizon_hours": 3}
    together = stack.ask(now, THEN, between, now | {"park_id": "sim-a"}).json()["predictions"]
    assert [one["bundle_id"] for one in together] == [past.last, past.first, past.between.bundle_id, past.last]
    assert together == [stack.ask(one).json()["predictions"][0] for one in (now, THEN, between, OK)]


def test_every_protocol_names_the_model_of_then(stack: Serving, past: Past) -> None:
    """Also of two models with other levels in one answer of tensors; and the sum of a portfolio."""
    park, issued_at = InferInput("park_id", [2], "BYTES"), InferInput("issued_at", [2], "BYTES")
    park.set_data_from_numpy(np.array(["sim-c", "sim-c"], object), binary_data=False)
    times = np.array([text(EARLIER), text(NOW - 7 * HOUR)], object)
    issued_at.set_data_from_numpy(times, binary_data=False)
    asked = InferRequest("pv-forecast", [park, issued_at])

    async def over_grpc() -> Any:
        async with InferenceGRPCClient(f"127.0.0.1:{stack.ports['transformer-grpc']}", timeout=15) as client:
            return await client.infer(asked)

    rest = httpx.post(f"{stack.url}/v2/models/pv-forecast/infer", json=asked.to_rest()[0], timeout=15).json()
    tensors = {output["name"]: output["data"] for output in rest["outputs"]}
    assert tensors["bundle_id"] == [past.first, past.between.bundle_id]
    assert tensors["model_version"] == ["1", "2"]
    assert tensors["quantile_levels"] == [0.1, 0.2, 0.5, 0.8, 0.9]
    power = np.array(tensors["power_kw"], float).reshape(96, 5)
    assert power[:48, [0, 2, 4]].T.tolist() == [past.then["power_kw"][level] for level in ("0.1", "0.5", "0.9")]
    assert np.isnan(power[:48, [1, 3]]).all()
    assert np.isnan(power[48:, [0, 4]]).all()
    response = asyncio.run(over_grpc())
    names = response.get_output_by_name("bundle_id").as_numpy().ravel().tolist()
    assert [name.decode() if isinstance(name, bytes) else name for name in names] == tensors["bundle_id"]

    body = {"parks": ["sim-c"], "issued_at": text(EARLIER)}
    together = httpx.post(f"{stack.url}/v1/portfolio", json=body, timeout=15).json()
    assert (together["portfolio"]["bundle_id"], together["portfolio"]["model_version"]) == ([past.first], ["1"])
    assert together["predictions"] == [past.then]


def test_before_the_first_promotion_there_is_no_forecast(stack: Serving, past: Past) -> None:
    early = text(EARLIER - 3 * HOUR)
    refused = stack.ask(OK, THEN | {"issued_at": early})
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_input")
    assert refused.json()["field"] == "instances[1].issued_at"
    assert "no model served yet" in refused.json()["error"]
    assert "pvf backtest" in refused.json()["hint"]
    refused = httpx.post(f"{stack.url}/v1/portfolio", json={"parks": ["sim-c"], "issued_at": early}, timeout=15)
    assert (refused.status_code, refused.json()["field"]) == (400, "issued_at")


@pytest.mark.parametrize(("file", "hours"), [("golden.arrow", 3), ("bundle.json", 2)])
def test_a_model_that_is_gone_is_said(stack: Serving, past: Past, file: str, hours: int) -> None:
    """What the predictor cannot load, and what the transformer does not find."""
    gone = dataclasses.replace(past.between, info={**past.between.info, "name": file})
    before = stack.store.get_json("models/history.json")
    stack.promoted(gone, "4", NOW - hours * HOUR)
    stack.store.remove(f"models/bundles/{gone.bundle_id}/{file}")

    def refused() -> bool:  # the transformer looks at the history every two seconds
        answer = stack.ask({"park_id": "sim-c", "issued_at": text(NOW - hours * HOUR + HOUR // 2)})
        return answer.status_code == 400 and (answer.json()["field"], answer.json()["hint"]) == (
            "instances[0].issued_at",
            "forecasts of the past from the record: pvf backtest",
        )

    eventually(refused)
    stack.store.put_json("models/history.json", before)


def test_one_request_is_about_few_models_of_the_past(stack: Serving, past: Past) -> None:
    """Beside those that the serving one answers."""
    third = dataclasses.replace(past.between, info={**past.between.info, "name": "third"})
    before = stack.store.get_json("models/history.json")
    stack.promoted(third, "4", NOW - 3 * HOUR)
    times = (EARLIER, NOW - 7 * HOUR, NOW - 4 * HOUR)
    asked = [OK, *(THEN | {"issued_at": text(at)} for at in times)]
    assert stack.ask(*asked).status_code == 200
    asked.append(THEN | {"issued_at": text(NOW - 2 * HOUR)})
    eventually(lambda: stack.ask(*asked).status_code == 413)  # it looks at the history every two seconds
    assert stack.ask(*asked).json()["field"] == "instances[4].issued_at"
    stack.store.put_json("models/history.json", before)


@pytest.mark.slow
def test_a_thousand_logged_requests_are_made_again_bit_for_bit(stack: Serving, past: Past) -> None:
    """A third of them is about the past, and answered by the three models that served then."""
    eventually(lambda: stack.ask(OK | {"issued_at": text(NOW - 2 * HOUR)}).status_code == 200)
    chance = np.random.default_rng(5)

    def ask(number: int) -> int:
        fields: dict[str, Any] = {"park_id": f"sim-{'ab'[number % 2]}", "horizon_hours": int(chance.integers(1, 169))}
        if number % 3 == 0:
            fields["issued_at"] = text(NOW - int(chance.integers(0, 24)) * HOUR)
        if number % 5 == 0:
            ghi = chance.uniform(0, 1_000, 30).round(3).tolist()
            fields["weather"] = {"valid_at": [text(NOW + lead * HOUR) for lead in range(-24, 6)], "ghi": ghi}
        if number % 7 == 0:
            fields["quantiles"] = [0.5]
        return stack.ask(fields, **{"x-request-id": f"replay-{number}"}).status_code

    assert set(map(ask, range(1_000))) == {200}
    eventually(lambda: log_store.find(stack.dsn, request_id="replay-999"), 120)
    rows, models = 0, set()
    for number in range(1_000):
        eventually(lambda number=number: len(log_store.find(stack.dsn, request_id=f"replay-{number}")) == 2, 60)
        _, response = log_store.find(stack.dsn, request_id=f"replay-{number}")
        found = replay(stack.store, response)
        assert found.bit_equal_rows == found.rows, found.first_difference
        rows += found.rows
        models |= {one["bundle_id"] for one in response.data["predictions"]}
    assert rows > 50_000
    assert models == {past.first, past.between.bundle_id, past.last}
