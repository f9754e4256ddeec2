"""Serving under load, reloads and restarts: `make bench NAME=serving`.

Everything on loopback and on this machine's cores, the clients too. Two replicas of transformer and predictor behind
Envoy with API keys, JSON log and prediction log, 100 parks of 48 hours, the default recipe's model. The baseline in the
same run is FastAPI with pandas features and the same model (`benchmarks/serve/baseline.py`, two workers, no gateway).
`ARGS="--reloads 30 --restarts 20 --seconds 15 --fleet 1000"` are the defaults. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import pickle
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.serve import baseline, fleet
from benchmarks.serve.rig import BASELINE, REPLICAS, Rig, rig
from pvf.stack.part import ROOT
from pvforecast import snapshot, wiring
from pvforecast.model import bundle as bundles
from pvforecast.model.bundle import Bundle
from pvforecast.objects import ObjectStore

PARKS = 100
_PREDICT = "/v1/models/pv-forecast:predict"
_A_REQUEST = 100  # parks at most in one
_RELOAD_DEADLINE_S = 30.0


def main() -> None:
    """Prints what it does on stderr, the result on stdout."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--reloads", type=int, default=30)
    parser.add_argument("--restarts", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--fleet", type=int, default=1_000)
    args = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="pvf-serving-bench-"))
    home.chmod(0o755)  # Postgres' user walks through it
    try:
        with rig(home) as (servers, settings):
            result = _measure(servers, wiring.objects(settings), args)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    print(json.dumps(result))


def _measure(servers: Rig, store: ObjectStore, args: argparse.Namespace) -> dict[str, Any]:
    _say("training the default recipe on a year of one park")
    park = fleet.record()
    models = fleet.bundles(park)
    _say(f"writing snapshots of {args.fleet} simulated parks")
    known = list(fleet.parks(park, max(args.fleet, PARKS)))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda one: snapshot.write(store, one), known))
    uris = [bundles.save(store, model) for model in models]
    _deploy(store, models[0], uris[0], 1)
    ids = [one.site.park_id for one in known]
    stored = {"files": models[0].files, "parks": {one.site.park_id: one for one in known[:PARKS]}}
    (servers.home / baseline.FILE).write_bytes(pickle.dumps(stored))
    result: dict[str, Any] = {}

    _say("baseline")
    servers.start(BASELINE)
    theirs = _bodies(servers, "baseline", [{"park_id": park} for park in ids[:PARKS]])
    _load(f"{servers.parts[BASELINE].url}/forecast", "", theirs, 4, 3.0)
    slow = {
        clients: _load(f"{servers.parts[BASELINE].url}/forecast", "", theirs, clients, args.seconds)
        for clients in (8, 16)
    }
    result |= {f"baseline_p95_ms_{clients}_clients": _percentile(of["ms"], 95) for clients, of in slow.items()}
    result["baseline_requests_per_s"] = round(len(slow[16]["ms"]) / slow[16]["seconds"], 1)
    result["baseline_rss_mb"] = round(servers.rss_mb(BASELINE))
    servers.stop(BASELINE)

    _say("ours")
    names = [f"{kind}-{number}" for number in REPLICAS for kind in ("predictor", "transformer")]
    servers.start("prediction-log", *names, "gateway")
    ours = _bodies(servers, "ours", [{"instances": [{"park_id": park, "horizon_hours": 48}]} for park in ids[:PARKS]])
    url = servers.parts["gateway"].url + _PREDICT
    _until(lambda: httpx.post(url, content="{}", headers={"x-api-key": servers.key}).status_code == 400)
    _load(url, servers.key, ours, 8, 5.0)
    quick = {clients: _load(url, servers.key, ours, clients, args.seconds) for clients in (1, 8)}
    before = servers.cpu_s()
    quick[16] = _load(url, servers.key, ours, 16, args.seconds)
    spent = {name: (after - before[name]) / len(quick[16]["ms"]) * 1e3 for name, after in servers.cpu_s().items()}
    result |= {f"cpu_ms_a_request_{name}": round(ms, 2) for name, ms in spent.items()}
    result |= {f"p95_ms_{clients}_clients": _percentile(of["ms"], 95) for clients, of in quick.items()}
    result |= {
        "p50_ms_1_client": _percentile(quick[1]["ms"], 50),
        "p99_ms_16_clients": _percentile(quick[16]["ms"], 99),
    }
    result["requests_per_s"] = round(len(quick[16]["ms"]) / quick[16]["seconds"], 1)
    result["throughput_ratio"] = round(result["requests_per_s"] / result["baseline_requests_per_s"], 2)
    result["errors"] = sum(len(of["errors"]) for of in (*quick.values(), *slow.values()))
    _tell(quick, "ours")
    result["fleet_100_parks_ms"] = _fleet(url, servers.key, ids[:PARKS])
    result[f"fleet_{len(ids)}_parks_ms"] = _fleet(url, servers.key, ids)
    for some in (ids[:PARKS], ids):
        result[f"portfolio_{len(some)}_parks_ms"] = _portfolio(servers.parts["gateway"].url, servers.key, some)
    result |= {f"rss_mb_{name}": round(servers.rss_mb(name)) for name in ("predictor-1", "transformer-1", "gateway")}
    result |= {f"start_s_{name}": round(servers.start_s[name], 1) for name in ("predictor-1", "transformer-1")}

    _say(f"{args.reloads} reloads under 16 clients")
    with _under_load(url, servers.key, ours) as load:
        result["reloads"] = _reload(servers, store, models, uris, args.reloads)
    result["reload_requests"], result["reload_failed_requests"] = len(load["ms"]), len(load["errors"])
    _tell({16: load}, "reloads")

    _say(f"{args.restarts} restarts under 16 clients")
    with _under_load(url, servers.key, ours) as load:
        for number in range(args.restarts):
            name = names[number % len(names)]
            servers.stop(name)
            servers.start(name)
            _until(lambda name=name: _ready(servers, name))
    result["restarts"] = args.restarts
    result["restart_requests"], result["restart_failed_requests"] = len(load["ms"]), len(load["errors"])
    _tell({16: load}, "restarts")
    return result


def _reload(servers: Rig, store: ObjectStore, models: Sequence[Bundle], uris: Sequence[str], count: int) -> int:
    """Deploy the two bundles in turn, each time until both predictors serve it; returns how often they did."""
    for number in range(1, count + 1):
        model, uri = models[number % 2], uris[number % 2]
        _deploy(store, model, uri, number + 1)
        for replica in REPLICAS:
            metrics = servers.parts[f"predictor-{replica}"].url + "/metrics"
            wanted = f'bundle_id="{model.bundle_id}"'
            _until(lambda metrics=metrics, wanted=wanted: wanted in httpx.get(metrics, timeout=5).text)
    return count


def _ready(servers: Rig, name: str) -> bool:
    """The replica of this process can make forecasts again."""
    transformer = servers.parts[f"transformer-{name.rsplit('-', 1)[1]}"].url
    return httpx.get(f"{transformer}/v1/models/pv-forecast", timeout=5).status_code == 200


def _deploy(store: ObjectStore, model: Bundle, uri: str, version: int) -> None:
    pointer = {"bundle_uri": uri, "bundle_id": model.bundle_id, "model_version": str(version), "promotion_id": version}
    store.put_json("models/deployed.json", pointer)


def _fleet(url: str, key: str, parks: Sequence[str]) -> float:
    """The whole fleet's 48 hours, in pages of 100 parks, four at a time; the median of five, ms."""
    pages = [parks[at : at + _A_REQUEST] for at in range(0, len(parks), _A_REQUEST)]
    bodies = [{"instances": [{"park_id": park, "horizon_hours": 48} for park in page]} for page in pages]
    took = []
    with httpx.Client(headers={"x-api-key": key}, timeout=30) as session, ThreadPoolExecutor(4) as pool:
        for _ in range(6):
            begun = time.perf_counter()
            answers = list(pool.map(lambda body: session.post(url, json=body), bodies))
            took.append((time.perf_counter() - begun) * 1e3)
            served = sum(len(answer.json()["predictions"]) for answer in answers)
            assert served == len(parks), f"{served} of {len(parks)} parks"
    return round(float(np.median(took[1:])), 1)  # the first reads snapshots that were never asked for


def _portfolio(gateway: str, key: str, parks: Sequence[str]) -> float:
    """These parks' 48 hours, each and together, in one request; the median of three, ms."""
    took = []
    with httpx.Client(headers={"x-api-key": key}, timeout=60) as session:
        for _ in range(4):
            begun = time.perf_counter()
            answer = session.post(f"{gateway}/v1/portfolio", json={"parks": list(parks)}).raise_for_status().json()
            took.append((time.perf_counter() - begun) * 1e3)
            assert len(answer["predictions"]) == len(parks)
    return round(float(np.median(took[1:])), 1)


def _bodies(servers: Rig, name: str, bodies: Sequence[dict[str, Any]]) -> Path:
    file = servers.home / f"{name}.json"
    file.write_text(json.dumps([json.dumps(body) for body in bodies]))
    return file


def _client(url: str, bodies: Path, clients: int, seconds: float) -> subprocess.Popen[str]:
    words = [url, "--clients", str(clients), "--seconds", str(seconds), "--bodies", str(bodies)]
    command = [sys.executable, "-m", "benchmarks.serve.load", *words]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _load(url: str, key: str, bodies: Path, clients: int, seconds: float) -> dict[str, Any]:
    process = _client(url, bodies, clients, seconds)
    out, _ = process.communicate(f"{key}\n", timeout=seconds + 60)
    result: dict[str, Any] = json.loads(out)
    return result


@contextmanager
def _under_load(url: str, key: str, bodies: Path) -> Iterator[dict[str, Any]]:
    """16 clients while the block runs; what they saw is in the dict afterwards."""
    process = _client(url, bodies, 16, 0)
    assert process.stdin is not None
    process.stdin.write(f"{key}\n")
    process.stdin.flush()
    seen: dict[str, Any] = {}
    try:
        yield seen
    finally:
        out, _ = process.communicate(timeout=60)
        seen |= json.loads(out)


def _percentile(ms: Sequence[float], percent: float) -> float:
    return round(float(np.percentile(ms, percent)), 1)


def _until(condition: Any, seconds: float = _RELOAD_DEADLINE_S) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except httpx.HTTPError:
            pass  # not yet
        if time.monotonic() > deadline:
            raise TimeoutError("the servers did not get there in time")
        time.sleep(0.05)


def _tell(runs: dict[int, dict[str, Any]], name: str) -> None:
    for clients, run in runs.items():
        errors = dict(Counter(run["errors"]).most_common(5))
        rate = len(run["ms"]) / run["seconds"]
        _say(f"{name}, {clients} clients: {rate:.0f}/s, p95 {_percentile(run['ms'], 95)} ms, errors {errors}")


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
