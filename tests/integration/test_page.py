"""The forecast page: who gets in and what they see, over HTTP and in a real browser."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pyarrow.csv
import pyarrow.parquet
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from inference.retrain.store import Store
from pvforecast import fleet, wiring
from pvforecast.known import HOUR
from pvforecast.parks import Park
from pvforecast.settings import Settings
from tests.browser import Tab, browser
from tests.bundles import NOW
from tests.debian import requires_debian
from tests.gateway import Place
from tests.gateway import place as gateway_place
from tests.serving import PARKS, eventually, text

pytestmark = pytest.mark.stack

FIRST, SECOND = PARKS
PICTURES = os.environ.get("PVF_PAGE_PICTURES", "")  # a folder to keep the browser's pictures in


def park(park_id: str, **more: Any) -> Park:
    facts = {
        "id": park_id, "name": f"Park {park_id}", "latitude": 39.7406, "longitude": -105.1775, "ac_capacity_kw": 3.05,
        "surface_tilt": 45.0, "surface_azimuth": 158.0, "source": "test", "timezone": "America/Denver",
    }  # fmt: skip
    return Park.model_validate(facts | more)


@pytest.fixture(scope="module")
def place(infra: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with gateway_place(infra, tmp_path_factory.mktemp("home"), page=True) as made:
        lake_uri = f"s3://{made.services.settings.s3_bucket}/lake"
        lake = wiring.lake(made.services.settings.model_copy(update={"lake_uri": lake_uri}))
        fleet.register(lake, park(FIRST, groups=["north"]))
        fleet.register(lake, park(SECOND, name="Zweiter Park", latitude=40.1, longitude=-104.6, ac_capacity_kw=9.0))
        assert made.ask(FIRST, made.desk, issued_at=text(NOW - 24 * HOUR), horizon_hours=48).status_code == 200
        store = Store(made.services.dsn)
        store.open()
        store.close()
        with psycopg.connect(made.services.dsn) as connection:
            connection.execute(
                "INSERT INTO retrain_events (id, park_id, event_time, status, event, type) VALUES ('e', %s, now(), "
                """'noted', '{"data": {"severity": "critical", "cause": {"likely": "outage"}}}', """
                "'io.pvforecast.drift.detected.v1')",
                (SECOND,),
            )
        eventually(lambda: _logged(made, text(NOW - 24 * HOUR)), 60)
        yield made


def _logged(made: Place, issued_at: str) -> bool:
    query = "SELECT count(*) FROM prediction_log WHERE data->'predictions'->0->>'issued_at' = %s"
    with psycopg.connect(made.services.dsn) as connection:
        return connection.execute(query, (issued_at,)).fetchone() == (1,)


@pytest.fixture
def log_in(place: Place) -> Iterator[Callable[[str], httpx.Client]]:
    """Logs a key in; the clients it gives are closed at the end of the test."""
    with ExitStack() as clients:

        def client_of(key: str) -> httpx.Client:
            client = clients.enter_context(httpx.Client(base_url=place.url, timeout=30))
            assert client.post("/page/login", headers={"x-api-key": key}).status_code == 204
            return client

        yield client_of


def test_the_page_itself_is_open_and_holds_no_data(place: Place) -> None:
    for path in ("/", "/page"):
        moved = httpx.get(f"{place.url}{path}")
        assert (moved.status_code, httpx.URL(moved.headers["location"]).path) == (301, "/page/")
    page = httpx.get(f"{place.url}/page/")
    assert page.status_code == 200
    assert FIRST not in page.text
    assert "default-src 'self'" in page.headers["content-security-policy"]
    for asset in re.findall(r'(?:src|href)="(assets/[^"]+)"', page.text):
        assert httpx.get(f"{place.url}/page/{asset}").status_code == 200
    for path in ("/page/api/fleet", "/page/api/status", "/page/api/numbers", f"/page/api/parks/{FIRST}/export"):
        assert httpx.get(f"{place.url}{path}").status_code == 401
    for path in ("/page/healthz", "/page/metrics", "/page/assets/../app.py", "/page/assets/%2e%2e/app.py"):
        assert (httpx.get(f"{place.url}{path}").status_code, place.get(path, place.desk).status_code) == (401, 404)


def test_a_log_in_gives_a_cookie_that_scripts_cannot_read(place: Place) -> None:
    with httpx.Client(base_url=place.url, timeout=30) as client:
        cookie = client.post("/page/login", headers={"x-api-key": place.desk}).headers["set-cookie"]
        assert cookie.startswith("pvf_key=")
        assert {"HttpOnly", "SameSite=strict", "Path=/", "Max-Age=43200"} <= set(cookie.split("; "))
        assert "Secure" not in cookie  # this gateway speaks no TLS
        assert client.get("/page/api/fleet").status_code == 200
        assert (
            client.post("/v1/models/pv-forecast:predict", json={"instances": [{"park_id": FIRST}]}).status_code == 200
        )
        gone = client.post("/page/logout")
        assert "Max-Age=0" in gone.headers["set-cookie"]
        assert client.get("/page/api/fleet").status_code == 401


@pytest.mark.parametrize("key", ["", "pvf_0000000000000000000000000000000000000000", "x"])
def test_a_wrong_key_opens_nothing(place: Place, key: str) -> None:
    response = httpx.post(f"{place.url}/page/login", headers={"x-api-key": key} if key else {})
    assert response.status_code == 401
    assert "set-cookie" not in response.headers
    assert httpx.get(f"{place.url}/page/api/fleet", cookies={"pvf_key": key or "none"}).status_code == 401


def test_a_cookie_counts_for_pages_of_this_origin_only(place: Place, log_in: Callable[[str], httpx.Client]) -> None:
    client = log_in(place.desk)
    asked = {"instances": [{"park_id": FIRST, "horizon_hours": 1}]}
    for origin, status in ((place.url, 200), ("http://evil.example", 401), ("null", 401)):
        path = "/v1/models/pv-forecast:predict"
        assert client.post(path, json=asked, headers={"origin": origin}).status_code == status
    # the key in its header is no browser's doing
    response = place.post("/v1/models/pv-forecast:predict", asked, place.desk, origin="http://evil.example")
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("origin", "opens"), [("own", True), ("http://evil.example", False), (None, False)], ids=["own", "evil", "none"]
)
def test_a_websocket_with_the_cookie_must_come_from_this_origin(place: Place, origin: str | None, opens: bool) -> None:
    url = f"ws://{place.address}/v1/forecasts/stream?park={FIRST}"
    headers = {"cookie": f"pvf_key={place.desk}"} | (
        {"origin": place.url if origin == "own" else origin} if origin else {}
    )
    if opens:
        with connect(url, additional_headers=headers, proxy=None) as socket:
            assert FIRST in str(socket.recv(30))
        return
    with pytest.raises(InvalidStatus) as caught, connect(url, additional_headers=headers, proxy=None):
        pass
    assert caught.value.response.status_code == 401


def test_a_client_sees_its_parks_only(place: Place, log_in: Callable[[str], httpx.Client]) -> None:
    desk, limited = log_in(place.desk), log_in(place.limited)
    assert [one["id"] for one in desk.get("/page/api/fleet").json()["parks"]] == [FIRST, SECOND]
    assert [row["park_id"] for row in desk.get("/page/api/status").json()["drift"]] == [SECOND]
    seen = limited.get("/page/api/fleet").json()
    assert ([one["id"] for one in seen["parks"]], seen["drift"]) == ([FIRST], [])
    assert limited.get("/page/api/status").json()["drift"] == []
    issued = text(NOW)
    for path in (f"/page/api/parks/{SECOND}/past?issued_at={issued}", f"/page/api/parks/{SECOND}/export"):
        hidden, unknown = limited.get(path), limited.get(path.replace(SECOND, "nowhere"))
        assert (hidden.status_code, unknown.status_code) == (404, 404)
        assert hidden.json()["error"].replace(SECOND, "nowhere") == unknown.json()["error"]


def test_without_a_prometheus_the_status_view_says_so(place: Place, log_in: Callable[[str], httpx.Client]) -> None:
    told = log_in(place.desk).get("/page/api/numbers")
    assert (told.status_code, told.json()) == (200, {"whole_fleet": True, "dashboards": None})


def test_the_past_is_what_was_metered_and_forecast_a_day_before(
    place: Place, log_in: Callable[[str], httpx.Client]
) -> None:
    client = log_in(place.desk)
    told = client.get(f"/page/api/parks/{FIRST}/past?issued_at={text(NOW)}").json()
    assert told["yesterday"]["issued_at"] == text(NOW - 24 * HOUR)
    assert set(told["yesterday"]["power_kw"]) == {"0.1", "0.5", "0.9"}
    assert len(told["yesterday"]["valid_at"]) == 48
    assert 0 < len(told["metered"]["valid_at"]) <= 48
    assert max(told["metered"]["valid_at"]) < text(NOW)
    assert client.get(f"/page/api/parks/{SECOND}/past?issued_at={text(NOW)}").json()["yesterday"] is None
    wrong = client.get(f"/page/api/parks/{FIRST}/past?issued_at=today")
    assert (wrong.status_code, wrong.json()["field"]) == (400, "issued_at")


def test_csv_and_parquet_hold_the_same_table(place: Place, log_in: Callable[[str], httpx.Client]) -> None:
    client = log_in(place.desk)
    url = f"/page/api/parks/{FIRST}/export?horizon_hours=24&format="
    csv, parquet = client.get(url + "csv"), client.get(url + "parquet")
    assert csv.headers["content-disposition"] == f'attachment; filename="{FIRST}-{text(NOW)[:13]}.csv"'
    rows = pyarrow.parquet.read_table(io.BytesIO(parquet.content))
    again = pyarrow.csv.read_csv(io.BytesIO(csv.content))
    assert again.column_names == rows.column_names
    assert again["power_kw_0.5"].to_pylist() == rows["power_kw_0.5"].to_pylist()
    forecast = client.post(
        "/v1/models/pv-forecast:predict", json={"instances": [{"park_id": FIRST, "horizon_hours": 24}]}
    ).json()["predictions"][0]
    ahead = [power for power in rows["power_kw_0.5"].to_pylist() if power is not None]
    assert ahead == forecast["power_kw"]["0.5"]
    assert any(power is not None for power in rows["metered_kw"].to_pylist())
    assert any(power is not None for power in rows["yesterdays_forecast_kw"].to_pylist())
    assert rows["valid_at"].to_pylist() == sorted(rows["valid_at"].to_pylist())
    for query, field in (
        ("format=xls", "format"),
        ("horizon_hours=many", "horizon_hours"),
        ("horizon_hours=999", "horizon_hours"),
    ):
        wrong = client.get(f"/page/api/parks/{FIRST}/export?{query}")
        assert (wrong.status_code, wrong.json()["field"]) == (400, field)


def test_no_key_is_written_down(place: Place, log_in: Callable[[str], httpx.Client]) -> None:
    log_in(place.desk).get("/page/api/fleet")
    logs = [*place.home.glob("log/*"), *place.services.folder.glob("*.log")]
    assert logs
    assert not any(place.desk in file.read_text() for file in logs)


@pytest.fixture
def tab(place: Place, tmp_path: Path) -> Iterator[Tab]:
    with browser(tmp_path) as made:
        made.size(1280, 900)
        made.scheme("light")
        yield made


def keep(tab: Tab, name: str, tmp_path: Path) -> bytes:
    return tab.picture((Path(PICTURES) if PICTURES else tmp_path) / f"{name}.png")


CHART = "document.querySelector('#chart canvas') && document.querySelector('#facts dd')"


@requires_debian("chromium")
def test_a_person_logs_in_by_keyboard_and_reads_the_forecast(place: Place, tab: Tab, tmp_path: Path) -> None:
    tab.open(f"{place.url}/page/?park={FIRST}&hours=24")
    tab.wait("document.activeElement.id === 'key'")  # the log-in asks, and has the cursor
    keep(tab, "login", tmp_path)
    tab.type("pvf_not-a-key-that-anybody-has")
    tab.press("Enter", "\r")
    tab.wait("!document.querySelector('#message').hidden")
    assert "not known" in tab.text("#message")
    tab.evaluate("document.querySelector('#key').value = ''")
    tab.type(place.desk)
    tab.press("Enter", "\r")
    tab.wait(CHART)
    tab.wait("document.querySelector('#live').textContent.startsWith('live')")  # the WebSocket took the cookie
    assert tab.text("#forecast-title") == f"Park {FIRST}"
    words = tab.text("#facts")
    for expected in ("version 1", "simulated", "none open", "issued"):
        assert expected in words
    assert tab.evaluate("document.querySelectorAll('#hours-table tr').length") == 25
    assert tab.evaluate("document.cookie") == ""
    light = keep(tab, "light", tmp_path)

    tab.scheme("dark")
    tab.wait("document.documentElement.dataset.theme === 'dark'")
    assert keep(tab, "dark", tmp_path) != light

    tab.size(390, 844)
    tab.open(f"{place.url}/page/?park={FIRST}&hours=24&theme=light")
    tab.wait(CHART)
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing is wider than a telephone"
    keep(tab, "narrow", tmp_path)

    # nothing but this host was asked, and neither scripts nor the content policy complained
    assert {httpx.URL(url).host for url in tab.requests if not url.startswith(("data:", "about:"))} == {"127.0.0.1"}
    assert [line for line in tab.errors if "401" not in line] == []


@requires_debian("chromium")
def test_the_link_keeps_the_state_and_the_fleet_is_reached_by_keyboard(place: Place, tab: Tab, tmp_path: Path) -> None:
    tab.call("Network.setCookie", name="pvf_key", value=place.desk, url=place.url, httpOnly=True, sameSite="Strict")
    tab.open(f"{place.url}/page/?view=fleet")
    tab.wait("document.querySelectorAll('#map a').length === 2")
    tab.wait("document.querySelector('#fleet-table').textContent.includes('version') || "
             "document.querySelectorAll('#fleet-table td')[9].textContent === '1'")  # fmt: skip
    assert tab.evaluate("document.querySelector('#map a.drifted').dataset.park") == SECOND
    assert "critical" in tab.text("#fleet-table")
    keep(tab, "fleet", tmp_path)
    for _ in range(12):
        tab.press("Tab")
        if tab.evaluate(f"document.activeElement.dataset?.park === '{SECOND}'"):
            break
    tab.press("Enter", "\r")
    tab.wait(CHART)
    assert tab.text("#forecast-title") == "Zweiter Park"
    assert f"park={SECOND}" in tab.evaluate("location.search")

    tab.evaluate("document.querySelector('#hours').value = '96';"
                 "document.querySelector('#hours').dispatchEvent(new Event('change'))")  # fmt: skip
    tab.wait("document.querySelectorAll('#hours-table tr').length === 97")
    link = tab.evaluate("location.href")
    tab.open("about:blank")
    tab.open(link)
    tab.wait("document.querySelectorAll('#hours-table tr').length === 97")
    assert (tab.text("#forecast-title"), tab.evaluate("document.querySelector('#hours').value")) == (
        "Zweiter Park",
        "96",
    )
    tab.evaluate("history.pushState(null, '', '?view=status'); dispatchEvent(new PopStateEvent('popstate'))")
    tab.wait("document.querySelector('#drift-table').textContent.includes('outage')")
    keep(tab, "status", tmp_path)
    assert tab.errors == []


@requires_debian("chromium")
def test_a_limited_client_is_shown_its_park_alone(place: Place, tab: Tab) -> None:
    tab.call("Network.setCookie", name="pvf_key", value=place.limited, url=place.url, httpOnly=True, sameSite="Strict")
    tab.open(f"{place.url}/page/?park={SECOND}")
    tab.wait(CHART)
    assert tab.evaluate("[...document.querySelector('#park').options].map((one) => one.value)") == [FIRST, "sum:north"]
    assert "no such park" in tab.text("#message")
    assert tab.text("#forecast-title") == f"Park {FIRST}"
