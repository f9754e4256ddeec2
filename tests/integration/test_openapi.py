"""The served OpenAPI document, and the running service held to it by schemathesis."""

from __future__ import annotations

from collections.abc import Iterator

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
    unsupported_method,
)

from pvforecast.settings import Settings
from tests.gateway import Place
from tests.gateway import place as gateway_place
from tests.serving import PARKS

pytestmark = pytest.mark.stack

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
    unsupported_method,
    ignored_auth,
]


@pytest.fixture(scope="module")
def place(infra: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with gateway_place(infra, tmp_path_factory.mktemp("home")) as made:
        yield made


@pytest.fixture
def described(place: Place) -> schemathesis.schemas.BaseSchema:
    document = place.get("/v1/openapi.json", place.desk).json()
    known = {"enum": list(PARKS)}  # or every question would be about a park that does not exist
    schemas = document["components"]["schemas"]
    schemas["Instance"]["properties"]["park_id"] = known
    return schemathesis.openapi.from_dict(document)


schema = schemathesis.pytest.from_fixture("described")


@schema.parametrize()
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
def test_whatever_the_document_allows_or_forbids_is_answered_as_it_says(case: schemathesis.Case, place: Place) -> None:
    case.call_and_validate(base_url=place.url, headers={"x-api-key": place.desk}, checks=CHECKS, timeout=30)


def test_the_document_names_every_path_that_passes_the_gateway(place: Place) -> None:
    document = httpx.get(f"{place.url}/v1/openapi.json", headers={"x-api-key": place.desk}).json()
    inside = httpx.get(f"{place.services.url}/nowhere").json()
    assert inside["code"] == "not_found"
    for path, operations in document["paths"].items():
        for method in operations:
            answer = httpx.request(method, place.url + path, headers={"x-api-key": place.desk}, json={}, timeout=30)
            assert answer.status_code in (200, 400), path


def test_an_answer_with_everything_in_it_is_as_described(
    place: Place, described: schemathesis.schemas.BaseSchema
) -> None:
    operation = described["/v1/models/pv-forecast:predict"]["POST"]
    body = {"instances": [{"park_id": park, "horizon_hours": 6, "explain": True} for park in PARKS]}
    answer = place.post("/v1/models/pv-forecast:predict", body, place.desk)
    assert answer.status_code == 200
    operation.validate_response(answer)
