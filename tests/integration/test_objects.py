"""Objects, snapshots and bundles on SeaweedFS; and what is said when there is none."""

from __future__ import annotations

import contextlib
import http.server
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from pvforecast import snapshot
from pvforecast.errors import BundleError, InvalidInput, NotReady
from pvforecast.known import HOUR, Known
from pvforecast.model import bundle as bundles
from pvforecast.objects import ObjectStore
from tests.bundles import NOW, record, site, tiny_bundle

HISTORY = record(site())
KNOWN = HISTORY.known_at(NOW)
BUNDLE = tiny_bundle(HISTORY)
stack = pytest.mark.stack


@pytest.fixture
def folder() -> str:
    """A prefix that no other test uses."""
    return f"objects-test-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def park() -> str:
    return f"park-{uuid.uuid4().hex[:8]}"


# --- objects ---------------------------------------------------------------------------------------------------------


@stack
@pytest.mark.parametrize("data", [b"", b"\x00\xff" * 10, bytes(6_000_000)], ids=["empty", "small", "6 MB"])
def test_an_object_comes_back_as_it_was_put_with_its_etag(infra_store: ObjectStore, folder: str, data: bytes) -> None:
    key = f"{folder}/a b+ü.bin"
    assert not infra_store.exists(key)
    infra_store.put(key, data)
    found, etag = infra_store.get_with_etag(key)
    assert found == data
    assert infra_store.exists(key)
    assert etag.strip('"') == infra_store.etag(key).strip('"')


@stack
def test_another_content_has_another_etag_and_the_same_the_same(infra_store: ObjectStore, folder: str) -> None:
    etags = []
    for data in (b"one", b"two", b"one"):
        infra_store.put(f"{folder}/x", data)
        etags.append(infra_store.etag(f"{folder}/x"))
    assert etags[0] == etags[2] != etags[1]


@stack
def test_keys_are_listed_below_a_prefix_in_order(infra_store: ObjectStore, folder: str) -> None:
    names = [f"{folder}/deep/{i:04}" for i in range(1100)]  # more than one page of S3
    for name in (*names[:3], *names[1097:], f"{folder}/z", f"{folder}-not/x"):
        infra_store.put(name, b"")
    assert list(infra_store.keys(f"{folder}/")) == [*names[:3], *names[1097:], f"{folder}/z"]
    assert list(infra_store.keys(f"{folder}/nothing")) == []


@stack
def test_what_is_not_there_is_a_key_error(infra_store: ObjectStore, folder: str) -> None:
    for ask in (infra_store.get, infra_store.get_with_etag, infra_store.etag, infra_store.get_json):
        with pytest.raises(KeyError, match=folder):
            ask(f"{folder}/nothing")


@stack
def test_json_comes_back(infra_store: ObjectStore, folder: str) -> None:
    infra_store.put_json(f"{folder}/x.json", {"b": [1, 2.5, None], "a": "ü"})
    assert infra_store.get_json(f"{folder}/x.json") == {"a": "ü", "b": [1, 2.5, None]}


def everything(store: ObjectStore) -> Iterator[None]:
    """Each way to use a store, as a generator of attempts."""
    for attempt in (
        lambda: store.get("x"),
        lambda: store.etag("x"),
        lambda: store.exists("x"),
        lambda: store.put("x", b"1"),
        lambda: list(store.keys("x")),
    ):
        with pytest.raises(NotReady) as caught:
            attempt()
        assert store._endpoint in caught.value.message
        assert caught.value.hint
        yield


def test_a_dead_endpoint_is_named_within_seconds() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    store = ObjectStore(f"http://127.0.0.1:{port}", "pvf", "key", "secret")
    begin = time.monotonic()
    assert len(list(everything(store))) == 5
    assert time.monotonic() - begin < 15


def test_a_server_that_never_answers_is_given_up_on() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(16)
        store = ObjectStore(f"http://127.0.0.1:{silent.getsockname()[1]}", "pvf", "key", "secret", timeout_s=0.2)
        begin = time.monotonic()
        with pytest.raises(NotReady, match="did not answer"):
            store.get("x")
        assert time.monotonic() - begin < 5


@contextlib.contextmanager
def web_server(status: int) -> Iterator[str]:
    """A web server that answers everything with a page: no S3."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"<html>hello</html>"
            self.send_response(status)
            self.send_header("content-type", "text/html")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815 - the name that http.server looks for

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("status", [403, 500, 502])
def test_a_server_that_is_no_s3_is_named_too(status: int) -> None:
    with web_server(status) as endpoint:
        store = ObjectStore(endpoint, "pvf", "key", "secret")
        with pytest.raises(NotReady, match=endpoint):
            store.get("x")
        with pytest.raises(NotReady, match=endpoint):
            list(store.keys("x"))


@pytest.mark.parametrize(
    "endpoint", ["", "127.0.0.1:8333", "s3.example", "ftp://x", "http://", "http://a:b", "http://a b", "http://a/b"]
)
def test_an_endpoint_that_is_no_url_names_the_setting(endpoint: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        ObjectStore(endpoint, "pvf", "key", "secret")
    assert caught.value.field == "PVF_S3_ENDPOINT"
    assert caught.value.hint


# --- snapshots -------------------------------------------------------------------------------------------------------


def of(park: str, after_hours: int = 0) -> Known:
    """What is known of a park, at NOW or some hours from it."""
    return replace(KNOWN, site=replace(KNOWN.site, park_id=park), as_of=NOW + after_hours * HOUR)


@stack
def test_a_snapshot_is_found_by_its_id_and_pointed_to(infra_store: ObjectStore, park: str) -> None:
    assert snapshot.latest_entry(infra_store, park) is None
    assert snapshot.entry_at(infra_store, park, NOW) is None
    name = snapshot.write(infra_store, of(park))
    assert snapshot.latest_entry(infra_store, park) == {"snapshot_id": name, "as_of": str(NOW)}
    again = snapshot.read(infra_store, park, name)
    assert snapshot.encode(again) == snapshot.encode(of(park))
    assert park in snapshot.parks(infra_store)
    assert snapshot.write(infra_store, of(park)) == name  # equal content, equal name
    with pytest.raises(KeyError):
        snapshot.read(infra_store, park, "0" * 64)


@stack
def test_an_older_snapshot_that_is_written_later_does_not_move_the_pointer(infra_store: ObjectStore, park: str) -> None:
    newest = snapshot.write(infra_store, of(park, 24))
    older = snapshot.write(infra_store, of(park, 0))
    assert snapshot.latest_entry(infra_store, park) == {"snapshot_id": newest, "as_of": str(NOW + 24 * HOUR)}
    assert snapshot.entry_at(infra_store, park, NOW + 23 * HOUR) == {"snapshot_id": older, "as_of": str(NOW)}


@stack
def test_a_past_issue_time_gets_the_newest_snapshot_taken_before_it(infra_store: ObjectStore, park: str) -> None:
    taken = {hours: snapshot.write(infra_store, of(park, hours)) for hours in (0, 6, 12)}
    for hours, expected in ((0, 0), (5, 0), (6, 6), (11, 6), (12, 12), (99, 12)):
        entry = snapshot.entry_at(infra_store, park, NOW + hours * HOUR)
        assert entry is not None
        assert entry["snapshot_id"] == taken[expected]
    assert snapshot.entry_at(infra_store, park, NOW - HOUR) is None


@stack
def test_a_correction_at_the_same_instant_takes_the_pointer(infra_store: ObjectStore, park: str) -> None:
    first = snapshot.write(infra_store, of(park))
    corrected = replace(of(park), history=replace(KNOWN.history, power_kw=KNOWN.history.power_kw * 0.5))
    second = snapshot.write(infra_store, corrected)
    entry = snapshot.latest_entry(infra_store, park)
    assert entry is not None
    assert (entry["snapshot_id"], second != first) == (second, True)
    assert snapshot.encode(snapshot.read(infra_store, park, first)) == snapshot.encode(of(park))  # kept for the log


# --- bundles ---------------------------------------------------------------------------------------------------------


@stack
def test_a_bundle_comes_back_with_its_answers_and_its_id(infra_store: ObjectStore) -> None:
    uri = bundles.save(infra_store, BUNDLE)
    assert uri == f"s3://{infra_store.bucket}/models/bundles/{BUNDLE.bundle_id}"
    again = bundles.load(infra_store, uri)
    assert again.bundle_id == BUNDLE.bundle_id
    assert again.info == BUNDLE.info
    rows = BUNDLE.golden_features
    np.testing.assert_array_equal(again.predict(rows).view(np.uint32), BUNDLE.predict(rows).view(np.uint32))
    assert bundles.save(infra_store, again) == uri


@stack
@pytest.mark.parametrize("file", ["bundle.json", "model.ubj", "golden.arrow"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "one bit", "another's"])
def test_a_damaged_bundle_is_refused_before_it_is_parsed(infra_store: ObjectStore, file: str, damage: str) -> None:
    """A flipped bit in an Arrow or UBJ file can end the process; none of these may."""
    other = tiny_bundle(HISTORY, seed=7)
    files = replace(BUNDLE, info={"test": f"{file} {damage}"}).files
    uri = bundles.save(infra_store, replace(BUNDLE, info={"test": f"{file} {damage}"}))
    key = f"{uri.removeprefix(f's3://{infra_store.bucket}/')}/{file}"
    middle = len(files[file]) // 2
    flipped = files[file][:middle] + bytes([files[file][middle] ^ 0x10]) + files[file][middle + 1 :]
    spoiled = {"empty": b"", "cut": files[file][:-40], "one bit": flipped, "another's": other.files[file]}
    if damage == "missing":
        infra_store._client.remove_object(infra_store.bucket, key)
    else:
        infra_store.put(key, spoiled[damage])
    with pytest.raises(BundleError, match=uri) as caught:
        bundles.load(infra_store, uri)
    assert "pvf model rollback" in str(caught.value.hint)


@stack
def test_a_bundle_that_never_was_is_named(infra_store: ObjectStore) -> None:
    uri = f"s3://{infra_store.bucket}/models/bundles/0123456789abcdef"
    with pytest.raises(BundleError, match=r"0123456789abcdef has no .*bundle\.json"):
        bundles.load(infra_store, uri)
