"""A model is replaced, refused, lost and found again, and callers do not notice or are told what to do."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Iterator

import httpx
import numpy as np
import pytest

from inference.deployed import DeployedPointer
from inference.predictor import reload
from inference.transformer.client import PredictorClient, SpecMoved
from pvforecast import features, snapshot
from pvforecast.errors import InvalidInput, NoChampion, NotReady
from pvforecast.features import DEFAULT_SPEC, FeatureSpec
from pvforecast.known import HOUR
from pvforecast.model import bundle as bundles
from pvforecast.settings import Settings
from tests.bundles import NOW, record, site, tiny_bundle
from tests.serving import HangingServer, Serving, Wire, eventually, free_ports, serving, text

pytestmark = pytest.mark.stack

HISTORY = record(site("sim-a"))
FIRST = tiny_bundle(HISTORY, seed=1)
SECOND = tiny_bundle(HISTORY, seed=2)
NARROW = tiny_bundle(HISTORY, spec=FeatureSpec(DEFAULT_SPEC.names[:20]))
OK = {"park_id": "sim-a", "horizon_hours": 24}


@pytest.fixture(scope="module")
def empty(infra: Settings) -> Iterator[Serving]:
    """Predictor and transformer; nothing is deployed before `stack` is first used."""
    with serving(infra, "predictor", "transformer", PVF_PREDICTION_LOG_URL="") as made:
        yield made


@pytest.fixture
def stack(empty: Serving) -> Serving:
    """`empty` with the first bundle served."""
    serve(empty, FIRST)
    return empty


def serve(stack: Serving, bundle: bundles.Bundle) -> None:
    bundle_id = stack.deploy(bundle, "1")
    eventually(lambda: served_by(stack) == bundle_id)


def served_by(stack: Serving) -> str | None:
    response = stack.ask(OK)
    return response.json()["predictions"][0]["bundle_id"] if response.status_code == 200 else None


def metric(url: str, line: str) -> float:
    text = httpx.get(f"{url}/metrics").text
    return sum(float(each.rsplit(" ", 1)[1]) for each in text.splitlines() if each.startswith(line))


def predictor(stack: Serving, rows: np.ndarray, spec_hash: str) -> object:
    """Ask the predictor itself; the error it answers with is returned."""

    async def ask() -> object:
        client = PredictorClient(stack.grpc)
        try:
            return await client.infer(rows, spec_hash, "test")
        except (InvalidInput, NotReady, SpecMoved) as error:
            return error
        finally:
            await client.close()

    return asyncio.run(ask())


def test_before_the_first_promotion_all_live_and_nothing_is_ready(empty: Serving) -> None:
    stack = empty
    assert httpx.get(f"{stack.predictor_url}/v2/health/live").status_code == 200
    assert httpx.get(f"{stack.predictor_url}/v2/models/pv-forecast/ready").status_code == 503
    assert httpx.get(f"{stack.url}/v1/models/pv-forecast").status_code == 503
    response = stack.ask(OK)
    assert (response.status_code, response.json()["code"]) == (503, "no_champion")
    assert response.headers["retry-after"] == "2"
    assert isinstance(predictor(stack, np.zeros((1, 3), np.float32), "x"), NoChampion)


def test_the_predictor_answers_as_the_contract_says(stack: Serving) -> None:
    hours = features.horizon(NOW, 24)
    rows = features.build_known(FIRST.spec, HISTORY.known_at(NOW), NOW, hours)
    answer = predictor(stack, rows, FIRST.spec.hash)
    assert answer.fractions.tobytes() == FIRST.predict(rows).tobytes()
    assert (answer.levels, answer.bundle_id, answer.spec_hash) == (FIRST.quantiles, FIRST.bundle_id, FIRST.spec.hash)
    assert answer.model_version == "1"


@pytest.mark.parametrize(
    ("shape", "spec_hash", "error", "said"),
    [
        ((2, len(FIRST.spec)), "0" * 16, SpecMoved, FIRST.spec.hash),
        ((2, 3), FIRST.spec.hash, SpecMoved, FIRST.spec.hash),
        ((2, len(FIRST.spec)), "", InvalidInput, "spec_hash"),
        ((4,), FIRST.spec.hash, InvalidInput, "FP32, shape [n, f]"),
        ((20_001, 1), FIRST.spec.hash, InvalidInput, "20000 rows"),
    ],
)
def test_the_predictor_refuses_what_it_cannot_answer(
    stack: Serving, shape: tuple[int, ...], spec_hash: str, error: type[Exception], said: str
) -> None:
    answer = predictor(stack, np.zeros(shape, np.float32), spec_hash)
    assert isinstance(answer, error)
    assert said in str(answer)


def test_the_model_is_replaced_under_load_without_an_error(stack: Serving) -> None:
    """Six replacements, two of them by a model with other features, under four clients."""
    answers: list[tuple[int, str]] = []
    stop = threading.Event()

    def ask() -> None:
        with httpx.Client(timeout=15) as client:
            while not stop.is_set():
                response = client.post(f"{stack.url}/v1/models/pv-forecast:predict", json={"instances": [OK]})
                good = response.status_code == 200
                answers.append(
                    (response.status_code, response.json()["predictions"][0]["bundle_id"] if good else response.text)
                )

    clients = [threading.Thread(target=ask) for _ in range(4)]
    for client in clients:
        client.start()
    before = metric(stack.predictor_url, "pvf_model_reloads_total")
    for bundle in (SECOND, FIRST, NARROW, FIRST, NARROW, SECOND):
        bundle_id = stack.deploy(bundle, "1")
        eventually(lambda wanted=bundle_id: answers[-1][1] == wanted)
    stop.set()
    for client in clients:
        client.join()
    assert {status for status, _ in answers} == {200}, [said for status, said in answers if status != 200][:3]
    assert {said for _, said in answers} == {FIRST.bundle_id, SECOND.bundle_id, NARROW.bundle_id}
    assert metric(stack.predictor_url, "pvf_model_reloads_total") - before == 6
    info = metric(stack.predictor_url, f'pvf_model_info{{bundle_id="{SECOND.bundle_id}"')
    assert (info, metric(stack.predictor_url, "pvf_model_info{")) == (1, 1)


def test_a_broken_bundle_is_refused_and_the_old_one_serves_on(stack: Serving) -> None:
    before = metric(stack.predictor_url, "pvf_model_reload_failures_total")
    for file, damage in (("golden.arrow", SECOND.files["golden.arrow"]), ("model.ubj", b"nonsense"), (None, b"")):
        uri = bundles.save(stack.store, FIRST).replace(FIRST.bundle_id, f"broken-{file}")
        for name, data in FIRST.files.items() if file else ():
            stack.store.put(f"models/bundles/broken-{file}/{name}", damage if name == file else data)
        stack.store.put_json("models/deployed.json", {"bundle_uri": uri, "bundle_id": "broken", "model_version": "2"})
        time.sleep(1.5)
        assert served_by(stack) == FIRST.bundle_id
    log = (stack.folder / "predictor.log").read_text()
    assert log.count(f"refused bundle broken, {FIRST.bundle_id} serves on") == 3
    stack.store.put("models/deployed.json", b"{")
    time.sleep(1.5)
    assert served_by(stack) == FIRST.bundle_id
    assert metric(stack.predictor_url, "pvf_model_reload_failures_total") - before == 4


def test_a_repaired_bundle_is_taken_without_a_restart(stack: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reload, "_REFUSED_AGAIN_S", 0.0)
    file = f"models/bundles/{SECOND.bundle_id}/golden.arrow"
    uri = bundles.save(stack.store, SECOND)
    stack.store.put(file, b"damaged")
    stack.store.put_json(
        "models/deployed.json", {"bundle_uri": uri, "bundle_id": SECOND.bundle_id, "model_version": "2"}
    )
    reloader = reload.Reloader(stack.store, DeployedPointer(stack.store))
    reloader.poll()
    assert reloader.current is None
    stack.store.put(file, SECOND.files["golden.arrow"])
    reloader.poll()
    assert reloader.current is not None
    assert reloader.current.bundle.bundle_id == SECOND.bundle_id


def test_a_lost_predictor_is_a_503_that_says_when_to_come_back(stack: Serving) -> None:
    stack.services["predictor"].kill()
    begin = time.monotonic()
    response = stack.ask(OK)
    assert time.monotonic() - begin < 5
    assert (response.status_code, response.json()["code"], response.headers["retry-after"]) == (503, "not_ready", "2")
    assert "127.0.0.1" not in response.text
    assert str(stack.ports["grpc"]) not in response.text
    assert httpx.get(f"{stack.url}/v1/models/pv-forecast").status_code == 503
    assert httpx.get(stack.url).status_code == 200
    stack.services["predictor"].start()
    eventually(lambda: served_by(stack) == FIRST.bundle_id, 60)


def test_a_predictor_that_hangs_is_given_up_after_the_deadline(stack: Serving) -> None:
    stack.services["predictor"].signal(signal.SIGSTOP)
    begin = time.monotonic()
    response = stack.ask(OK)
    assert 1 < time.monotonic() - begin < 6
    assert (response.status_code, response.json()["error"]) == (503, "the predictor did not answer in time")
    stack.services["predictor"].signal(signal.SIGCONT)
    eventually(lambda: served_by(stack) == FIRST.bundle_id)


def test_a_taken_port_is_named(stack: Serving) -> None:
    port = free_ports(1)[0]
    both = ["--http-port", str(port), "--grpc-port", str(stack.ports["grpc"])]
    clash = stack.add("clash", "inference.predictor", both, "")
    clash.start()
    assert clash.process is not None
    assert clash.process.wait(60) == 1
    said = clash.log.read_text()
    assert f"cannot listen on 127.0.0.1:{stack.ports['grpc']}" in said
    assert "Traceback" not in said
    assert served_by(stack) == FIRST.bundle_id


def test_a_pinned_bundle_ignores_the_pointer(stack: Serving) -> None:
    uri = bundles.save(stack.store, SECOND)
    http, grpc, front = free_ports(3)
    pin = {"PVF_BUNDLE_URI": uri, "PVF_MODEL_VERSION": "9", "PVF_PREDICTOR_GRPC": f"127.0.0.1:{grpc}"}
    ports = ["--http-port", str(http), "--grpc-port", str(grpc)]
    pinned = stack.add(
        "pinned", "inference.predictor", ports, f"http://127.0.0.1:{http}/v2/models/pv-forecast/ready", **pin
    )
    asked = stack.add(
        "asked", "inference.transformer", ["--http-port", str(front)], f"http://127.0.0.1:{front}/", **pin
    )
    for service in (pinned, asked):
        service.start()
    for service in (pinned, asked):
        service.wait()
    body = {"instances": [OK]}
    [answer] = httpx.post(f"http://127.0.0.1:{front}/v1/models/pv-forecast:predict", json=body).json()["predictions"]
    assert (answer["bundle_id"], answer["model_version"]) == (SECOND.bundle_id, "9")
    # SIGTERM is an orderly stop.
    assert (pinned.stop(), asked.stop()) == (0, 0)


@pytest.mark.slow
def test_serving_outlives_the_object_store(infra: Settings, stack: Serving) -> None:
    """Cut off from S3 both serve on from memory; afterwards they follow pointer and snapshots again."""
    host, port = infra.s3_endpoint.removeprefix("http://").split(":")
    wire = Wire((host, int(port)))
    with serving(
        infra, "predictor", "transformer", PVF_S3_ENDPOINT=f"http://127.0.0.1:{wire.port}", PVF_PREDICTION_LOG_URL=""
    ) as cut_off:
        serve(cut_off, FIRST)
        wire.cut()
        begin = time.monotonic()
        while time.monotonic() - begin < 5:
            asked_at = time.monotonic()
            assert served_by(cut_off) == FIRST.bundle_id
            assert time.monotonic() - asked_at < 4
        unseen = cut_off.ask({"park_id": "sim-b"})
        assert (unseen.status_code, unseen.json()["code"]) == (503, "not_ready")
        assert "127.0.0.1" not in unseen.text
        assert httpx.get(f"{cut_off.predictor_url}/v2/models/pv-forecast/ready").status_code == 200
        wire.mend()
        serve(cut_off, SECOND)
        assert cut_off.ask({"park_id": "sim-b"}).status_code == 200


@pytest.mark.slow
def test_a_store_that_hangs_is_given_up_after_the_deadline(infra: Settings) -> None:
    port = free_ports(1)[0]
    hanging = HangingServer(port)
    env = {"PVF_S3_ENDPOINT": f"http://127.0.0.1:{port}", "PVF_PREDICTION_LOG_URL": ""}
    with serving(infra, "transformer", **env) as made:
        begin = time.monotonic()
        response = made.ask(OK)
        assert (response.status_code, response.json()["code"]) == (503, "not_ready")
        assert time.monotonic() - begin < 8
        assert made.services["transformer"].stop() == 0
    hanging.close()


def test_a_new_snapshot_is_served_within_seconds(stack: Serving) -> None:
    later = NOW + 3 * HOUR
    assert served_by(stack) == FIRST.bundle_id
    snapshot_id = snapshot.write(stack.store, HISTORY.known_at(later))
    eventually(lambda: stack.ask(OK).json()["predictions"][0]["snapshot_id"] == snapshot_id, 4)
    assert stack.ask(OK).json()["predictions"][0]["issued_at"] == text(later)


def test_a_damaged_snapshot_is_a_503_and_the_others_serve_on(stack: Serving) -> None:
    key = "snapshots/latest/damaged.json"
    whole = snapshot.encode(record(site()).known_at(NOW))
    for name, data in (("cut", whole[:-9]), ("flipped", whole[:-30] + b"\xff" * 20 + whole[-10:])):
        stack.store.put(f"snapshots/objects/damaged/{name}.arrow", data)
    try:
        for entry in ({"snapshot_id": "cut"}, {"snapshot_id": "flipped"}, {"x": 1}, {"snapshot_id": 5}, ["x"]):
            stack.store.put_json(key, entry)
            time.sleep(2.1)  # until the transformer looks at a pointer again
            answer = stack.ask({"park_id": "damaged"})
            assert answer.status_code == 503, (entry, answer.text)
            assert answer.json()["code"] == "data_error"
        assert served_by(stack)
    finally:
        stack.store.put(key, b"null")
