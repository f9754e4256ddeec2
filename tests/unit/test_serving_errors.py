"""Each row of the table of errors in docs/serving.md, from what is raised to what is told."""

from __future__ import annotations

import re

import pytest
from fastapi.exceptions import RequestValidationError
from kserve import errors as kserve_errors
from starlette.exceptions import HTTPException

from inference.transformer.errors import TooLarge, Unavailable, problem
from pvforecast.errors import BundleError, DataError, InvalidInput, NoChampion, NotReady, UnknownPark
from tests.contract.tree import ROOT

RAISED: dict[tuple[int, str], list[Exception]] = {
    (400, "invalid_input"): [InvalidInput("x"), kserve_errors.InvalidInput("x"), RequestValidationError([])],
    (404, "unknown_park"): [UnknownPark("x")],
    (404, "unknown_model"): [kserve_errors.ModelNotFound("x")],
    (404, "not_found"): [HTTPException(404)],
    (405, "method_not_allowed"): [HTTPException(405)],
    (413, "too_large"): [TooLarge("x")],
    (503, "no_champion"): [NoChampion("x")],
    (503, "not_ready"): [Unavailable("x"), NotReady("http://10.0.0.1"), kserve_errors.ModelNotReady("x")],
    (503, "data_error"): [DataError("s3://bucket")],
    (503, "bundle_error"): [BundleError("s3://bucket")],
    (500, "internal"): [RuntimeError("a password"), KeyError("x")],
}


def test_the_table_names_each_error_that_there_is() -> None:
    text = (ROOT / "docs" / "serving.md").read_text().split("## Errors")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (\d{3})[^|]*\| ([^|]*) \|", text, re.M)
    assert {(int(status), code) for status, codes in rows for code in re.findall(r"`(\w+)`", codes)} == set(RAISED)


@pytest.mark.parametrize(("status", "code"), RAISED)
def test_what_is_raised_is_told_in_the_one_shape_without_what_is_inside(status: int, code: str) -> None:
    for error in RAISED[status, code]:
        told = problem(error)
        assert (told.status, told.code) == (status, code)
        body = told.as_dict("r-1")
        assert set(body) == {"error", "code", "field", "hint", "request_id"}
        assert body["error"]
        for secret in ("10.0.0.1", "s3://", "password"):
            assert secret not in str(body)
