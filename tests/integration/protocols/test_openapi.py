"""The served OpenAPI document, and the running service held to it by schemathesis."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from inference.transformer import openapi
from pvforecast import snapshot
from pvforecast.known import HOUR
from tests.bundles import NOW, record, site
from tests.gateway import Place
from tests.serving import PARKS, eventually

pytestmark = pytest.mark.stack

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
    ignored_auth,
]


def described() -> dict[str, Any]:
    """The document, of parks that exist: or every question would be about one that does not."""
    document = openapi.document()
    document["components"]["schemas"]["Instance"]["properties"]["park_id"] = {"enum": list(PARKS)}
    return document


schema = schemathesis.openapi.from_dict(described())


@schema.parametrize()
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
def test_whatever_the_document_allows_or_forbids_is_answered_as_it_says(case: schemathesis.Case, place: Place) -> None:
    case.call_and_validate(base_url=place.url, headers={"x-api-key": place.desk}, checks=CHECKS, timeout=30)


def test_the_served_document_is_the_one_that_was_checked_and_all_of_it_passes_the_gateway(place: Place) -> None:
    document = place.get("/v1/openapi.json", place.desk).json()
    assert document == openapi.document()
    for path, operations in document["paths"].items():
        for method in operations:
            answer = httpx.request(method, place.url + path, headers={"x-api-key": place.desk}, json={}, timeout=30)
            assert answer.status_code in (200, 400), path


def test_a_tag_tells_cheaply_whether_there_is_a_newer_forecast(place: Place) -> None:
    path = f"/v1/forecasts?park={PARKS[0]}&horizon_hours=6"
    first = place.get(path, place.limited)
    assert first.json()["predictions"] == place.ask(PARKS[0], place.desk, horizon_hours=6).json()["predictions"]
    tag = first.headers["etag"]
    again = place.get(path, place.limited, **{"if-none-match": f'"other", W/{tag}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert place.get(path.replace("=6", "=7"), place.desk, **{"if-none-match": tag}).status_code == 200
    known = replace(record(site(PARKS[0])).known_at(NOW), as_of=NOW + HOUR)
    snapshot.write(place.services.store, known)
    eventually(lambda: place.get(path, place.limited, **{"if-none-match": tag}).status_code == 200)
    for query, status, field in (
        (f"park={PARKS[1]}", 404, "park[0]"), ("", 400, "park"), ("park=a&x=1", 400, "x"), ("park=..", 404, "park[0]"),
        (f"park={PARKS[0]}&horizon_hours=0", 400, "horizon_hours"), ("park=a&horizon_hours=x", 400, "horizon_hours"),
    ):  # fmt: skip
        for headers in ({}, {"if-none-match": tag}):
            refused = place.get(f"/v1/forecasts?{query}", place.limited, **headers)
            assert (refused.status_code, refused.json()["field"]) == (status, field)


def test_a_method_that_is_not_there_is_told_which_are(place: Place) -> None:
    answer = httpx.put(f"{place.url}/v1/portfolio", headers={"x-api-key": place.desk})
    assert (answer.status_code, answer.json()["code"], answer.headers["allow"]) == (405, "method_not_allowed", "POST")


def test_an_answer_with_everything_in_it_is_as_described(place: Place) -> None:
    operation = schema["/v1/models/pv-forecast:predict"]["POST"]
    body = {"instances": [{"park_id": park, "horizon_hours": 6, "explain": True} for park in PARKS]}
    answer = place.post("/v1/models/pv-forecast:predict", body, place.desk)
    assert answer.status_code == 200
    operation.validate_response(answer)
