"""A second model gets its share of real requests, and loses it when it fails; nobody is refused meanwhile."""

from __future__ import annotations

import collections
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from pvf import client
from pvf.stack import canary
from pvf.stack.local import Stack
from pvforecast import snapshot, wiring
from pvforecast.errors import StackError
from pvforecast.model import bundle as bundles
from tests.bundles import NOW, record, site, tiny_bundle
from tests.serving import eventually
from tests.stack_fixtures import new_home

pytestmark = [pytest.mark.stack, pytest.mark.slow]


class _Clients:
    """Ask all the time; which model versions answered, and what was refused."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.versions: collections.Counter[str] = collections.Counter()
        self.refused: list[str] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> _Clients:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        url = self._stack.settings.gateway_url + client.PATH
        headers = {"x-api-key": client.key(self._stack.settings)}
        body = {"instances": [{"park_id": "sim-a", "horizon_hours": 1}]}
        with httpx.Client(timeout=10) as session:
            while not self._stopping.is_set():
                answer = session.post(url, json=body, headers=headers)
                if answer.status_code == 200:
                    self.versions[answer.json()["predictions"][0]["model_version"]] += 1
                else:
                    self.refused.append(answer.text)
                time.sleep(0.02)


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    home = new_home()
    with Stack(home, ["predictor", "transformer", "gateway"], clock="snapshot") as made:
        store = wiring.objects(made.settings)
        past = record(site("sim-a"))
        snapshot.write(store, past.known_at(NOW))
        bundle = tiny_bundle(past)
        pointer: dict[str, Any] = {"bundle_uri": bundles.save(store, bundle), "bundle_id": bundle.bundle_id}
        store.put_json("models/deployed.json", pointer | {"model_version": "1", "promotion_id": 1})
        url, key = made.settings.gateway_url, client.key(made.settings)
        ready = f"{url}/v1/models/pv-forecast"
        eventually(lambda: httpx.get(ready, headers={"x-api-key": key}).status_code == 200, 60)
        yield made
    shutil.rmtree(home)


def test_it_gets_its_share_and_gives_it_back_at_the_end(stack: Stack) -> None:
    store, home = wiring.objects(stack.settings), stack.settings.home
    uri = bundles.save(store, tiny_bundle(record(site("sim-a")), seed=9))
    with canary.running(stack.settings, uri, "2", lambda _: None) as parts, _Clients(stack) as clients:
        assert canary.share(home, parts, 0.5, 8, lambda *_: None) is None
        during = dict(clients.versions)
        time.sleep(0.5)
        clients.versions.clear()
        time.sleep(1)
    assert 0.3 < during["2"] / sum(during.values()) < 0.7
    assert set(clients.versions) == {"1"}
    assert clients.refused == []


def test_it_goes_by_itself_when_its_predictor_dies_and_nobody_is_refused(stack: Stack) -> None:
    store, home = wiring.objects(stack.settings), stack.settings.home
    uri = bundles.save(store, tiny_bundle(record(site("sim-a")), seed=9))
    with canary.running(stack.settings, uri, "2", lambda _: None) as parts, _Clients(stack) as clients:
        victim = _pid(home, "predictor-canary")
        killer = threading.Timer(4, os.kill, (victim, signal.SIGKILL))
        killer.start()
        begun = time.monotonic()
        reason = canary.share(home, parts, 0.5, 60, lambda *_: None)
        assert reason is not None
        assert time.monotonic() - begun < 20
        clients.versions.clear()
        time.sleep(1)
    assert set(clients.versions) == {"1"}
    # between its death and the next look of the gateway, up to half a second, its share is refused by itself
    assert len(clients.refused) < 50
    assert all(json.loads(text)["code"] == "not_ready" for text in clients.refused)


def test_a_bundle_that_is_refused_gets_no_request(stack: Stack) -> None:
    store = wiring.objects(stack.settings)
    uri = bundles.save(store, tiny_bundle(record(site("sim-a")), seed=11))
    key = uri.removeprefix(f"s3://{store.bucket}/")
    golden = next(name for name in store.keys(key) if "golden" in name)
    store.put(golden, store.get(golden)[:-40])
    with (
        pytest.raises(StackError, match="the model cannot be served"),
        canary.running(stack.settings, uri, "3", lambda _: None),
    ):
        pass


def _pid(home: Path, name: str) -> int:
    parts = json.loads((home / "canary" / "run" / "parts.json").read_text())["parts"]
    return int(next(part["pid"] for part in parts if part["name"] == name))


def test_the_command_says_what_is_missing(tmp_path: Path) -> None:
    environment = {**os.environ, "PVF_HOME": str(tmp_path)}
    words = [sys.executable, "-m", "pvf", "canary", "2"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (1, "pvf: canary: no stack runs here (start it: pvf up)")
