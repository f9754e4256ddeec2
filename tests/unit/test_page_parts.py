"""The page's pure parts, and what lies in the tree for it."""

from __future__ import annotations

import asyncio
import hashlib
import io
import re
from datetime import UTC, datetime

import httpx
import pyarrow.csv
import pyarrow.parquet
import pytest

from inference.page import numbers, series
from inference.page.app import ASSETS
from inference.page.facts import Facts
from inference.panels import Query
from pvforecast.known import HOUR
from tests.bundles import NOW, record, site
from tests.serving import free_ports

VENDORED = {  # of uPlot 1.6.32 as npm has it
    "uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
    "uPlot.LICENSE": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
}
HOURS = ["2026-03-01T10:00:00Z", "2026-03-01T11:00:00Z"]
PREDICTION = {
    "valid_at": HOURS, "power_kw": {"0.1": [1.0, 2.0], "0.5": [3.0, 4.0]},
    "park_id": "a", "issued_at": HOURS[0], "model_version": "7",
}  # fmt: skip


def test_what_was_taken_over_is_what_its_authors_published() -> None:
    found = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in (ASSETS / "vendor").iterdir()}
    assert found == VENDORED


def test_no_file_names_another_host() -> None:
    ours = [file for file in ASSETS.iterdir() if file.is_file()]
    assert len(ours) > 6
    named = {url for file in ours for url in re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"'`]*", file.read_text())}
    assert named == {"http://www.w3.org/2000/svg"}  # a namespace, which nobody fetches


def test_a_table_has_a_row_for_each_interval_of_any_column() -> None:
    measured = {"valid_at": ["2026-03-01T09:00:00Z", HOURS[0]], "power_kw": [0.5, 0.7]}
    yesterday = {"valid_at": [HOURS[1], "2026-03-01T12:00:00Z"], "power_kw": {"0.5": [9.0, 8.0]}}
    rows = series.table(PREDICTION, measured, yesterday)
    assert rows["valid_at"].to_pylist() == [datetime(2026, 3, 1, hour, tzinfo=UTC) for hour in (9, 10, 11, 12)]
    assert rows["power_kw_0.1"].to_pylist() == [None, 1.0, 2.0, None]
    assert rows["metered_kw"].to_pylist() == [0.5, 0.7, None, None]
    assert rows["yesterdays_forecast_kw"].to_pylist() == [None, None, 9.0, 8.0]
    assert set(rows["model_version"].to_pylist()) == {"7"}
    assert pyarrow.parquet.read_table(io.BytesIO(series.as_parquet(rows))).to_pydict() == rows.to_pydict()
    again = pyarrow.csv.read_csv(io.BytesIO(series.as_csv(rows)))
    assert again["metered_kw"].to_pylist() == rows["metered_kw"].to_pylist()


def test_a_table_without_a_past_has_its_columns_all_the_same() -> None:
    rows = series.table(PREDICTION, {"valid_at": [], "power_kw": []}, None)
    assert rows["yesterdays_forecast_kw"].to_pylist() == rows["metered_kw"].to_pylist() == [None, None]


def test_metered_is_what_the_snapshot_knows_of_the_last_hours() -> None:
    known = record(site("a")).known_at(NOW)
    known.history.power_kw[-2] = float("nan")
    told = series.metered(known, hours=6)
    assert len(told["valid_at"]) == 5
    first = (NOW - 6 * HOUR).astype("datetime64[s]")
    assert told["valid_at"][0] == f"{first}Z"
    assert all(power == power for power in told["power_kw"])


@pytest.mark.parametrize("dsn", ["", "dead"])
def test_without_postgres_nothing_is_known_and_nothing_fails(dsn: str) -> None:
    facts = Facts(f"postgresql://nobody@127.0.0.1:{free_ports(1)[0]}/none" if dsn else "")
    now = datetime.now(UTC)
    assert facts.drifted() is facts.runs() is facts.yesterdays_forecast("a", now, now) is None


def test_a_series_is_named_as_in_the_dashboards() -> None:
    query = Query("x", "{{service}} {{code}}")
    result = [
        {"metric": {"service": "stream", "code": "ok"}, "value": [0, "3"]},
        {"metric": {"service": "page"}, "value": [0, "2.5"]},
        {"metric": {"service": "idle"}, "value": [0, "NaN"]},
    ]
    assert numbers.values(query, result) == [{"name": "page", "value": 2.5}, {"name": "stream ok", "value": 3.0}]
    assert numbers.named("", {"model_version": "7", "bundle_id": "b"}) == "bundle_id b, model_version 7"


def test_without_prometheus_or_while_it_is_away_there_are_no_numbers() -> None:
    async def asked() -> list[object]:
        (port,) = free_ports(1)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as dead:
            return [await numbers.Numbers(None).now(), await numbers.Numbers(dead).now()]

    assert asyncio.run(asked()) == [None, None]
