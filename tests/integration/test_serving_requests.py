"""What a caller gets from the transformer: forecasts, and for every wrong question an answer that helps."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx
import numpy as np
import pytest

from inference.metric_names import METRICS
from pvforecast import features
from pvforecast.known import HOUR
from pvforecast.model.bundle import Bundle
from pvforecast.model.effects import Effect, Effects
from pvforecast.settings import Settings
from tests.bundles import NOW, record, site, tiny_bundle
from tests.serving import EARLIER, PARKS, Serving, eventually, serving, text

pytestmark = pytest.mark.stack

ALL = {"x-client-id": "everything"}
OK = {"park_id": "sim-a"}
HOURS = [text(NOW + lead * HOUR) for lead in range(6)]
CLEAR = {"valid_at": HOURS, "ghi": [0.0] * 6}


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    made = tiny_bundle(record(site("sim-a")))
    widths = {"full": 1.0, "no recent generation": 1.1, "no weather": 1.9, "neither": 2.0}
    none = np.zeros((3, 3))
    own = {park: Effect(np.array([-0.2 if park == "sim-a" else 0.0, 0.0, 0.0]), none) for park in PARKS}
    return replace(made, info=made.info | {"band_width": widths}, effects=Effects(own, 0.01 * np.eye(3)))


@pytest.fixture(scope="module")
def stack(infra: Settings, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    access = tmp_path_factory.mktemp("access") / "access.json"
    access.write_text(json.dumps({"everything": "*", "one": ["sim-a"]}))
    with serving(
        infra, "predictor", "transformer", PVF_PARK_ACCESS_FILE=str(access), PVF_PREDICTION_LOG_URL=""
    ) as made:
        assert made.ask(OK, **ALL).status_code == 503  # nothing is deployed
        made.deploy(bundle, "7")
        eventually(lambda: made.ask(OK, **ALL).status_code == 200)
        yield made


def test_a_forecast_is_the_bundles_answer_in_kilowatts(stack: Serving, bundle: Bundle) -> None:
    [prediction] = stack.ask(OK, **ALL).json()["predictions"]
    known = record(site("sim-a")).known_at(NOW)
    hours = features.horizon(NOW, 48)
    rows = features.build_known(bundle.spec, known, NOW, hours)
    fractions = bundle.predict(rows, park_id=["sim-a"] * 48)
    assert fractions.sum() < 0.9 * bundle.predict(rows).sum()  # the park's own level is in it
    expected = np.where(features.daylight(known.site, hours)[:, None], np.clip(fractions * 3.05, 0, 3.05), 0.0)
    served = np.array([prediction["power_kw"][level] for level in ("0.1", "0.5", "0.9")]).T
    np.testing.assert_allclose(served, expected, atol=1e-4)
    assert 0 < served[:, 1].sum() == pytest.approx(prediction["median_energy_kwh"], abs=1e-3)
    assert prediction["valid_at"] == [text(hour) for hour in hours]
    assert prediction["issued_at"] == text(NOW)
    assert (prediction["model_version"], prediction["bundle_id"]) == ("7", bundle.bundle_id)
    assert (prediction["degraded"], prediction["weather_source"]) == ([], "simulated")
    assert (prediction["weather_age_minutes"], prediction["generation_age_minutes"]) == (0, 0)
    assert (prediction["weather_run_at"], prediction["band_hours"]) == (text(NOW), {"full": 48})


def test_contributions_by_group_are_told_where_they_are_asked_for(stack: Serving) -> None:
    asked = [{**OK, "horizon_hours": 30, "explain": True}, {"park_id": PARKS[1], "horizon_hours": 6}]
    told, plain = stack.ask(*asked, **ALL).json()["predictions"]
    explanation = told.pop("explanation")
    assert plain["explanation"] is None
    moved = np.array(list(explanation["groups_kw"].values())).sum(axis=0)
    total = np.array(explanation["base_kw"]) + moved + explanation["after_kw"]
    np.testing.assert_allclose(total, told["power_kw"]["0.5"], atol=1e-3)
    assert np.abs(explanation["groups_kw"]["weather"]).max() > 0.1
    assert "XGBoost" in explanation["explains"]
    alone = stack.ask({**OK, "horizon_hours": 30}, **ALL).json()["predictions"][0]
    assert told["power_kw"] == alone["power_kw"]


def test_more_hours_than_can_be_explained_in_time_are_refused(stack: Serving) -> None:
    refused = stack.ask({**OK, "horizon_hours": 97, "explain": True}, **ALL)
    assert refused.status_code == 413
    assert refused.json()["field"] == "explain"
    assert stack.ask({**OK, "explain": "yes"}, **ALL).status_code == 400


def test_many_parks_in_one_request_answer_as_each_alone(stack: Serving) -> None:
    instances = [{"park_id": PARKS[at % 2], "horizon_hours": 1 + at} for at in range(100)]
    together = stack.ask(*instances, **ALL).json()["predictions"]
    alone = [stack.ask(instances[at], **ALL).json()["predictions"][0] for at in (0, 47, 99)]
    assert [together[at] for at in (0, 47, 99)] == alone
    assert [len(one["valid_at"]) for one in together] == list(range(1, 101))


def test_an_earlier_issue_time_is_answered_from_the_snapshot_of_then(stack: Serving) -> None:
    [then] = stack.ask({**OK, "issued_at": text(EARLIER + 2 * HOUR)}, **ALL).json()["predictions"]
    [now] = stack.ask(OK, **ALL).json()["predictions"]
    assert then["snapshot_id"] != now["snapshot_id"]
    assert then["valid_at"][0] == text(EARLIER + 2 * HOUR)
    assert (then["weather_age_minutes"], then["generation_age_minutes"]) == (120, 120)


def test_an_issue_time_in_another_zone_means_the_same_instant(stack: Serving) -> None:
    local = "2013-06-09T00:00:00-06:00"
    assert stack.ask({**OK, "issued_at": local}, **ALL).json() == stack.ask(OK, **ALL).json()


def test_a_callers_weather_is_used_and_named(stack: Serving) -> None:
    [prediction] = stack.ask({**OK, "horizon_hours": 12, "weather": CLEAR}, **ALL).json()["predictions"]
    assert prediction["weather_source"] == "request"
    assert prediction["degraded"] == ["partial_weather"]
    day = [text(NOW + lead * HOUR) for lead in range(24)]
    sunny = {"valid_at": day, "ghi": [900.0] * 24, "temp_air": [15] * 24, "wind_speed": [None] * 24}
    dark = {"valid_at": day, "ghi": [0.0] * 24}
    energies = [
        stack.ask({**OK, "horizon_hours": 24, "weather": weather}, **ALL).json()["predictions"][0]["median_energy_kwh"]
        for weather in (sunny, dark)
    ]
    assert energies[0] > 2 * energies[1]


def test_hours_beyond_the_weather_are_flagged(stack: Serving) -> None:
    [prediction] = stack.ask({**OK, "horizon_hours": 72}, **ALL).json()["predictions"]
    assert len(prediction["valid_at"]) == 72
    assert prediction["degraded"] == ["partial_weather"]
    assert prediction["band_hours"] == {"full": 48, "no weather": 24}
    assert prediction["band_width"] == {"full": 1.0, "no weather": 1.9}


def test_chosen_quantiles_only(stack: Serving) -> None:
    [prediction] = stack.ask({**OK, "quantiles": [0.9, 0.5]}, **ALL).json()["predictions"]
    assert list(prediction["power_kw"]) == ["0.5", "0.9"]


def test_a_client_sees_its_own_parks_only(stack: Serving) -> None:
    assert stack.ask({"park_id": "sim-a"}, **{"x-client-id": "one"}).status_code == 200
    for client in ({"x-client-id": "one"}, {"x-client-id": "stranger"}, {}):
        hidden = stack.ask({"park_id": "sim-b"}, **client)
        assert (hidden.status_code, hidden.json()["code"]) == (404, "unknown_park")
        # Exactly what a park that does not exist is answered.
        missing = stack.ask({"park_id": "sim-z"}, **client)
        assert hidden.json()["error"].replace("sim-b", "sim-z") == missing.json()["error"]


def test_the_request_id_comes_back(stack: Serving) -> None:
    assert stack.ask(OK, **ALL, **{"x-request-id": "abc-1"}).headers["x-request-id"] == "abc-1"
    made = stack.ask(OK, **ALL, **{"x-request-id": "with space"}).headers["x-request-id"]
    assert len(made) == 36
    refused = stack.ask({"park_id": "nix"}, **ALL, **{"x-request-id": "abc-2"})
    assert refused.json()["request_id"] == refused.headers["x-request-id"] == "abc-2"


def _one(**fields: Any) -> dict[str, Any]:
    return {"instances": [{**OK, **fields}]}


def _weather(**fields: Any) -> dict[str, Any]:
    return _one(weather={**CLEAR, **fields})


FUTURE, ANCIENT = "2031-01-01T00:00:00Z", "2001-01-01T00:00:00Z"
GAP = [*HOURS[:5], text(NOW + 9 * HOUR)]
HALF_PAST = [hour.replace(":00:00Z", ":30:00Z") for hour in HOURS]
OTHER_YEAR = {"valid_at": ["2012-01-01T00:00:00Z"], "ghi": [1]}
LAST_YEAR = "9999-12-31T23:59:59-10:00"

BAD = {
    # name: (body, status, field, part of the message or hint)
    "broken json": (b'{"instances": [', 400, "body", "not JSON"),
    "empty body": (b"", 400, "body", "not JSON"),
    "not utf-8": (b'{"instances": "\xff"}', 400, "body", "not JSON"),
    "a NaN": (b'{"instances": [{"park_id": "sim-a", "horizon_hours": NaN}]}', 400, "body", "not JSON"),
    "an infinity": (b'{"instances": [{"park_id": "sim-a", "quantiles": [1e999]}]}', 400, "body", "not JSON"),
    "deeply nested": (b"[" * 100_000, 400, "body", "not JSON"),
    "a list": ([], 400, "body", "not a JSON object"),
    "a number": (3, 400, "body", "not a JSON object"),
    "null": (None, 400, "body", "not a JSON object"),
    "no instances": ({}, 400, "instances", "required"),
    "wrong key": ({"instance": [OK]}, 400, "instances, instance", "known here: instances"),
    "another key beside": ({"instances": [OK], "signature": "x"}, 400, "signature", "remove it"),
    "instances not a list": ({"instances": OK}, 400, "instances", "valid list"),
    "instances null": ({"instances": None}, 400, "instances", "valid list"),
    "no instance": ({"instances": []}, 400, "instances", "at least 1"),
    "an instance not an object": ({"instances": ["sim-a"]}, 400, "instances[0]", "1 to 100"),
    "101 instances": ({"instances": [OK] * 101}, 413, "instances", "at most 100"),
    "a body too large": (b'{"instances": [' + b" " * 5_000_000 + b"]}", 413, "body", "larger than 4 MiB"),
    "no park": ({"instances": [{"horizon_hours": 3}]}, 400, "instances[0].park_id", "required"),
    "park a number": (_one(park_id=3), 400, "instances[0].park_id", "a text"),
    "park empty": (_one(park_id=""), 400, "instances[0].park_id", "at least 1"),
    "park unknown": (_one(park_id="nowhere"), 404, "instances[0].park_id", "'nowhere'"),
    "park a path": (_one(park_id="../../models/deployed"), 404, "instances[0].park_id", "no such park"),
    "park of dots": (_one(park_id=".."), 404, "instances[0].park_id", "no such park"),
    "park with NUL": (_one(park_id="sim\0a"), 404, "instances[0].park_id", "no such park"),
    "one park of two unknown": ({"instances": [OK, {"park_id": "x"}]}, 404, "instances[1].park_id", "'x'"),
    "unknown field": (_one(horizon=3), 400, "instances[0].horizon", "known here: park_id, horizon_hours"),
    "horizon 0": (_one(horizon_hours=0), 400, "instances[0].horizon_hours", "1 to 168"),
    "horizon 10000": (_one(horizon_hours=10_000), 400, "instances[0].horizon_hours", "1 to 168"),
    "horizon huge": (_one(horizon_hours=10**30), 400, "instances[0].horizon_hours", "1 to 168"),
    "horizon a fraction": (_one(horizon_hours=1.5), 400, "instances[0].horizon_hours", "whole number"),
    "horizon a text": (_one(horizon_hours="48"), 400, "instances[0].horizon_hours", "whole number"),
    "horizon true": (_one(horizon_hours=True), 400, "instances[0].horizon_hours", "whole number"),
    "issued in the future": (_one(issued_at=FUTURE), 400, "instances[0].issued_at", "in the future"),
    "issued in the last year": (_one(issued_at=LAST_YEAR), 400, "instances[0].issued_at", "out of range"),
    "issued before all snapshots": (_one(issued_at=ANCIENT), 400, "instances[0].issued_at", "pvf backtest"),
    "issued in year 1": (_one(issued_at="0001-01-01T00:00:00Z"), 400, "instances[0].issued_at", "pvf backtest"),
    "issued without offset": (_one(issued_at="2013-06-09T06:00:00"), 400, "instances[0].issued_at", "no UTC offset"),
    "issued a day": (_one(issued_at="2013-06-09"), 400, "instances[0].issued_at", "no UTC offset"),
    "issued a number": (_one(issued_at=1370757600), 400, "instances[0].issued_at", "ISO 8601"),
    "issued nonsense": (_one(issued_at="yesterday"), 400, "instances[0].issued_at", "ISO 8601"),
    "quantiles empty": (_one(quantiles=[]), 400, "instances[0].quantiles", "at least 1"),
    "quantiles a number": (_one(quantiles=0.5), 400, "instances[0].quantiles", "list of levels"),
    "quantile 0": (_one(quantiles=[0.0]), 400, "instances[0].quantiles[0]", "greater than 0"),
    "quantile 50": (_one(quantiles=[0.5, 50]), 400, "instances[0].quantiles[1]", "less than 1"),
    "quantile not calibrated": (_one(quantiles=[0.42]), 400, "instances[0].quantiles", "0.1, 0.5, 0.9"),
    "weather a text": (_one(weather="sunny"), 400, "instances[0].weather", "object with valid_at"),
    "weather without hours": (_one(weather={"ghi": [1]}), 400, "instances[0].weather.valid_at", "required"),
    "weather without ghi": (_one(weather={"valid_at": HOURS}), 400, "instances[0].weather.ghi", "required"),
    "weather of other length": (_weather(ghi=[1.0]), 400, "instances[0].weather", "1 values for 6 hours"),
    "weather with a gap": (_weather(valid_at=GAP), 400, "instances[0].weather", "consecutive"),
    "weather at half past": (_weather(valid_at=HALF_PAST), 400, "instances[0].weather", "whole hours"),
    "weather of another year": (_one(weather=OTHER_YEAR), 400, "instances[0].weather.valid_at", "none of the hours"),
    "weather in percent": (_weather(cloud_cover=[40] * 6), 400, "instances[0].weather.cloud_cover[0]", "not percent"),
    "weather in kelvin": (_weather(temp_air=[288.0] * 6), 400, "instances[0].weather.temp_air[0]", "°C"),
    "weather negative": (_weather(ghi=[-5] * 6), 400, "instances[0].weather.ghi[0]", "0 to 1600"),
    "weather a text inside": (_weather(ghi=["1"] * 6), 400, "instances[0].weather.ghi[0]", "W/m²"),
    "weather unknown column": (_weather(rain=[0] * 6), 400, "instances[0].weather.rain", "known here: valid_at, ghi"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_question_is_answered_with_field_and_fix(stack: Serving, name: str) -> None:
    body, status, field, said = BAD[name]
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    for content_type in ("application/json", "text/plain; charset=utf-8"):
        response = httpx.post(
            f"{stack.url}/v1/models/pv-forecast:predict", content=content, headers={**ALL, "content-type": content_type}
        )
        answer = response.json()
        assert response.status_code == status, answer
        assert set(answer) == {"error", "code", "field", "hint", "request_id"}
        assert (answer["field"] or "").startswith(field)
        assert said in f"{answer['error']} {answer['hint']}"
        assert answer["hint"]
        assert answer["request_id"] == response.headers["x-request-id"]
        assert "127.0.0.1" not in response.text


def test_every_wrong_field_is_named_at_once(stack: Serving) -> None:
    answer = stack.ask({"park_id": 3, "horizon_hours": 0, "issued_at": "x"}, {"park_id": "a", "z": 1}, **ALL).json()
    assert answer["field"] == (
        "instances[0].park_id, instances[0].horizon_hours, instances[0].issued_at, instances[1].z"
    )


def test_a_question_that_comes_as_a_cloudevent_is_answered_as_one(stack: Serving) -> None:
    event = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/me", "ce-type": "ask"}
    response = stack.ask(OK, **ALL, **event)
    assert response.json() == stack.ask(OK, **ALL).json()
    assert response.headers["ce-type"] == "io.kserve.inference.response"
    refused = stack.ask(OK, **ALL, **event | {"ce-specversion": "9.9"})
    assert (refused.status_code, refused.json()["field"]) == (400, "body")
    empty = {name.removeprefix("ce-"): value for name, value in event.items()} | {"data": [1], "time": "x"}
    structured = httpx.post(f"{stack.url}/v1/models/pv-forecast:predict", json=empty, headers=ALL)
    assert (structured.status_code, structured.json()["field"]) == (400, "body")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/models/other:predict", 404),
        ("POST", "/v1/models/pv-forecast:explain", 405),
        ("GET", "/v1/models/other", 404),
        ("PUT", "/v1/models/pv-forecast:predict", 405),
        ("GET", "/nowhere", 404),
        ("POST", "/v2/repository/models/pv-forecast/unload", 404),
        ("POST", "/v2/models/pv-forecast/infer", 400),  # V1's words
        ("GET", "/v2/models/pv-forecast/infer", 405),
    ],
)
def test_what_is_not_served_is_refused_in_the_same_shape(stack: Serving, method: str, path: str, status: int) -> None:
    response = httpx.request(method, f"{stack.url}{path}", json={"instances": [OK]}, headers=ALL)
    assert response.status_code == status
    assert set(response.json()) == {"error", "code", "field", "hint", "request_id"}


def test_what_is_measured_has_the_names_that_rules_use(stack: Serving) -> None:
    stack.ask(OK, **ALL)
    stack.ask({"park_id": "nowhere"}, **ALL)
    for url, most in ((stack.url, 300), (stack.predictor_url, 300)):
        lines = httpx.get(f"{url}/metrics").text.splitlines()
        ours = [line for line in lines if line.startswith("pvf_")]
        bases = {re.sub(r"(_bucket|_sum|_count)$", "", re.split(r"[{ ]", line)[0]) for line in ours}
        assert bases - set(METRICS) == set()
        assert 10 < len(ours) < most
        assert not any("sim-a" in line or "nowhere" in line or "everything" in line for line in ours)
    told = httpx.get(f"{stack.url}/metrics").text
    for code in ("ok", "unknown_park"):
        assert f'pvf_requests_total{{code="{code}",protocol="v1",service="transformer"}}' in told
    for hop in ("snapshots", "features", "predictor", "answer"):
        assert f'pvf_hop_duration_seconds_bucket{{hop="{hop}",le="0.2"}}' in told
    predictor = httpx.get(f"{stack.predictor_url}/metrics").text
    assert 'pvf_requests_total{code="ok",protocol="grpc",service="predictor"}' in predictor
    [until] = re.findall(r"^pvf_model_trained_until_timestamp_seconds (\S+)", predictor, re.M)
    assert datetime.fromtimestamp(float(until), UTC).year == 2000  # as the small bundle says of itself


def test_the_stack_is_well_after_all_of_this(stack: Serving) -> None:
    assert stack.ask(OK, **ALL).status_code == 200
    assert httpx.get(f"{stack.url}/v1/models/pv-forecast").json() == {"name": "pv-forecast", "ready": True}
    metrics = httpx.get(f"{stack.url}/metrics").text
    assert 'pvf_degraded_forecasts_total{reason="partial_weather"}' in metrics
    assert "Traceback" not in (stack.folder / "transformer.log").read_text()
