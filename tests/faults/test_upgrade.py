"""To the next version and back, replica by replica, under load: no request fails, each one answered is in the log.

The next version is this tree with each stored format moved on: one more column in Postgres, other formats of bundle and
snapshot. It reads the formats of this version too; this version refuses the next one's bundles.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import psycopg
import pytest

from benchmarks.serve.rig import REPLICAS, Rig, rig
from pvf.stack.part import Part, python_env
from pvforecast import snapshot, wiring
from pvforecast.known import HOUR
from pvforecast.model import bundle as bundles
from pvforecast.settings import Settings, to_env
from tests.bundles import NOW, record, site, tiny_bundle
from tests.serving import eventually
from tests.stack_fixtures import new_home

pytestmark = [pytest.mark.stack, pytest.mark.slow, pytest.mark.timeout(1_200)]

ROOT = Path(__file__).resolve().parents[2]
PARK = "sim-a"
PATH = "/v1/models/pv-forecast:predict"
CLIENTS = 3

# What the next version changes: file, pattern, replacement.
NEXT = (
    ("pvforecast/model/bundle.py", r"^FORMAT = 2$", "FORMAT = 3"),
    ("pvforecast/model/bundle.py", r'info\.pop\("format"\) != FORMAT', 'info.pop("format") not in (2, FORMAT)'),
    ("pvforecast/snapshot.py", r"^_FORMAT = 1$", "_FORMAT = 2"),
    (
        "inference/prediction_log/partitions.py",
        r"^CREATE INDEX IF NOT EXISTS prediction_log_time",
        "ALTER TABLE prediction_log ADD COLUMN IF NOT EXISTS release text DEFAULT 'next';\n\\g<0>",
    ),
)


class Load:
    """Clients that ask all the time, and what became of each request."""

    def __init__(self, url: str, key: str) -> None:
        self._url, self._headers = url + PATH, {"x-api-key": key}
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(CLIENTS)]
        self.answered, self.versions, self.failed = 0, Counter[str](), list[str]()

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        body = {"instances": [{"park_id": PARK, "horizon_hours": 24}]}
        with httpx.Client(headers=self._headers, timeout=30) as session:
            while not self._stopping.is_set():
                try:
                    answer = session.post(self._url, json=body)
                except httpx.HTTPError as error:
                    self.failed.append(repr(error))
                    continue
                if answer.status_code == 200:
                    self.answered += 1
                    self.versions[answer.json()["predictions"][0]["model_version"]] += 1
                else:
                    self.failed.append(answer.text)
                time.sleep(0.02)


@pytest.fixture(scope="module")
def next_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = tmp_path_factory.mktemp("next")
    for name in ("pvforecast", "inference"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("tests", "__pycache__"))
    for file, pattern, replacement in NEXT:
        path = tree / file
        text, count = re.subn(pattern, replacement, path.read_text(), flags=re.MULTILINE)
        assert count == 1, f"{file} has no {pattern}: the formats moved on, so must this test"
        path.write_text(text)
    return tree


@pytest.fixture
def servers() -> Iterator[tuple[Rig, Settings]]:
    home = new_home()
    with rig(home) as made:
        yield made
    shutil.rmtree(home)


def test_up_and_back_under_load(servers: tuple[Rig, Settings], next_tree: Path) -> None:
    made, settings = servers
    store, this = wiring.objects(settings), dict(made.parts)
    following = {name: _from(part, next_tree) for name, part in this.items() if name != "gateway"}
    history = record(site(PARK))
    snapshot.write(store, history.known_at(NOW - 2 * HOUR))
    first = bundles.save(store, tiny_bundle(history))
    _deploy(settings, first, "1")
    replicas = [f"{kind}-{number}" for number in REPLICAS for kind in ("predictor", "transformer")]
    made.start("prediction-log", *replicas, "gateway")
    key, url = made.key, made.parts["gateway"].url
    eventually(lambda: httpx.get(f"{url}/v1/models/pv-forecast", headers={"x-api-key": key}).status_code == 200, 120)

    with Load(url, key) as load:
        eventually(lambda: load.versions["1"] > 20, 60)
        _roll(made, following, replicas)
        second = _next_writes(next_tree, settings)  # a snapshot and a bundle in the next formats
        assert "of another format" in _refused_here(settings, second)
        _deploy(settings, second, "2")
        _all_serve(made, second)
        before = load.versions["2"]
        eventually(lambda: load.versions["2"] > before + 20, 60)
        _deploy(settings, first, "1")  # back: the model first
        _all_serve(made, first)
        snapshot.write(store, history.known_at(NOW))
        _roll(made, this, replicas)
        before = load.versions["1"]
        eventually(lambda: load.versions["1"] > before + 20, 60)

    assert load.failed == []
    assert set(load.versions) == {"1", "2"}
    dsn = settings.postgres_dsn.get_secret_value()
    eventually(lambda: _logged(dsn) >= load.answered, 120)
    assert _logged(dsn) == load.answered
    print(f"{load.answered} requests, by model {dict(load.versions)}, none failed, all of them logged")


def _from(part: Part, tree: Path) -> Part:
    """The same part, its code out of another tree."""
    return replace(part, env={**part.env, "PYTHONPATH": f"{tree}"})


def _roll(made: Rig, parts: dict[str, Part], replicas: list[str]) -> None:
    """One process after the other, each healthy before the next goes."""
    made.parts |= parts
    for name in ("prediction-log", *replicas):
        made.stop(name)
        made.start(name)
        if name in replicas:
            transformer = made.parts[f"transformer-{name[-1]}"].url
            eventually(lambda url=transformer: httpx.get(f"{url}/v1/models/pv-forecast").status_code == 200, 120)


def _deploy(settings: Settings, uri: str, version: str) -> None:
    pointer = {"bundle_uri": uri, "bundle_id": uri.rsplit("/", 1)[-1], "model_version": version}
    wiring.objects(settings).put_json("models/deployed.json", pointer | {"promotion_id": int(version)})


def _all_serve(made: Rig, uri: str) -> None:
    wanted = f'bundle_id="{uri.rsplit("/", 1)[-1]}"'
    for number in REPLICAS:
        metrics = made.parts[f"predictor-{number}"].url + "/metrics"
        eventually(lambda url=metrics: wanted in httpx.get(url, timeout=5).text, 120)


def _next_writes(tree: Path, settings: Settings) -> str:
    """The next version trains (another bundle) and publishes a snapshot; returns the bundle's URI."""
    shutil.copytree(ROOT / "tests", tree / "tests", ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    code = (
        "from pvforecast import settings, snapshot, wiring; from pvforecast.model import bundle\n"
        "from tests.bundles import NOW, record, site, tiny_bundle; from pvforecast.known import HOUR\n"
        f"store = wiring.objects(settings.load()); history = record(site({PARK!r}))\n"
        "assert (bundle.FORMAT, snapshot._FORMAT) == (3, 2)\n"
        "snapshot.write(store, history.known_at(NOW - HOUR)); print(bundle.save(store, tiny_bundle(history, seed=5)))"
    )
    environment = python_env(**to_env(settings)) | {"PYTHONPATH": f"{tree}"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=tree, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def _refused_here(settings: Settings, uri: str) -> str:
    with pytest.raises(bundles.BundleError) as refused:
        bundles.load(wiring.objects(settings), uri)
    return str(refused.value)


def _logged(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT count(DISTINCT id) FROM prediction_log WHERE type LIKE '%response'").fetchone()
    return int(row[0]) if row else 0
