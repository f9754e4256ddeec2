"""Serving under load, reloads and restarts: `make bench NAME=serving`.

Everything on loopback and on this machine's cores, the clients too. Two replicas of transformer and predictor behind
Envoy with API keys, JSON log and prediction log, 100 parks of 48 hours, the default recipe's model. The baseline in the
same run is FastAPI with pandas features and the same model (`benchmarks/serve/baseline.py`, two workers, no gateway).
The clients ask for the same parks again and again, as those who poll do: `cache_hit_share` tells how many requests a
transformer answered from its memory. The figures `uncached_…` are without that memory: each forecast is made.
`ARGS="--reloads 30 --restarts 20 --seconds 15 --fleet 1000"` are the defaults. `ARGS="--soak 30"`: instead of all that,
so many minutes at half the load that it bears (`benchmarks/serve/soak.py`). The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import pickle
import shutil
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.serve import baseline, clients, fleet, soak
from benchmarks.serve.rig import BASELINE, REPLICAS, Rig, rig
from pvforecast import snapshot, wiring
from pvforecast.known import Known
from pvforecast.model import bundle as bundles
from pvforecast.model.bundle import Bundle
from pvforecast.objects import ObjectStore

PARKS = 100
_PREDICT = "/v1/models/pv-forecast:predict"
_A_REQUEST = 100  # parks at most in one


def main() -> None:
    """Prints what it does on stderr, the result on stdout."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--reloads", type=int, default=30)
    parser.add_argument("--restarts", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--fleet", type=int, default=1_000)
    parser.add_argument("--soak", type=float, nargs="?", const=30.0, default=0.0, metavar="MINUTES")
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
    clients.say("training the default recipe on a year of one park")
    park = fleet.record()
    models = fleet.bundles(park)
    clients.say(f"writing snapshots of {args.fleet} simulated parks")
    known = list(fleet.parks(park, max(args.fleet, PARKS)))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda one: snapshot.write(store, one), known))
    uris = [bundles.save(store, model) for model in models]
    deploy(store, models[0], uris[0], 1)
    ids = [one.site.park_id for one in known]
    stored = {"files": models[0].files, "parks": {one.site.park_id: one for one in known[:PARKS]}}
    (servers.home / baseline.FILE).write_bytes(pickle.dumps(stored))
    result: dict[str, Any] = {}

    ours = clients.bodies(
        servers.home / "ours.json", [{"instances": [{"park_id": park, "horizon_hours": 48}]} for park in ids[:PARKS]]
    )
    if args.soak:
        _start_ours(servers, "transformer")
        return soak.run(servers, _url(servers), ours, args.soak, _events(store, known[:PARKS], models, uris))

    clients.say("baseline")
    servers.start(BASELINE)
    theirs = clients.bodies(servers.home / "baseline.json", [{"park_id": park} for park in ids[:PARKS]])
    clients.load(f"{servers.parts[BASELINE].url}/forecast", "", theirs, 4, 3.0)
    slow = {
        count: clients.load(f"{servers.parts[BASELINE].url}/forecast", "", theirs, count, args.seconds)
        for count in (8, 16)
    }
    result |= {f"baseline_p95_ms_{count}_clients": clients.percentile(of["ms"], 95) for count, of in slow.items()}
    result["baseline_requests_per_s"] = clients.rate(slow[16])
    result["baseline_rss_mb"] = round(servers.rss_mb(BASELINE))
    servers.stop(BASELINE)

    url = _url(servers)
    clients.say("ours, each forecast made")
    names = _start_ours(servers, "uncached")
    made = _figures(servers, url, ours, args.seconds)
    made |= _many(servers, url, ids)
    result |= {f"uncached_{name}": value for name, value in made.items()}
    for replica in REPLICAS:
        servers.stop(f"uncached-{replica}")
    clients.say("ours")
    names = _start_ours(servers, "transformer")
    quick = _figures(servers, url, ours, args.seconds)
    result |= quick
    result["cache_hit_share"] = servers.cache_hit_share()
    for prefix in ("", "uncached_"):
        ratio = result[f"{prefix}requests_per_s"] / result["baseline_requests_per_s"]
        result[f"{prefix}throughput_ratio"] = round(ratio, 2)
    result["errors"] += made["errors"] + sum(len(of["errors"]) for of in slow.values())
    result |= _many(servers, url, ids)
    result |= {f"rss_mb_{name}": round(servers.rss_mb(name)) for name in ("predictor-1", "transformer-1", "gateway")}
    result |= {f"start_s_{name}": round(servers.start_s[name], 1) for name in ("predictor-1", "transformer-1")}

    clients.say(f"{args.reloads} reloads under 16 clients")
    with clients.under_load(url, servers.key, ours) as load:
        result["reloads"] = _reload(servers, store, models, uris, args.reloads)
    result["reload_requests"], result["reload_failed_requests"] = len(load["ms"]), len(load["errors"])
    clients.tell({16: load}, "reloads")

    clients.say(f"{args.restarts} restarts under 16 clients")
    with clients.under_load(url, servers.key, ours) as load:
        for number in range(args.restarts):
            name = names[number % len(names)]
            servers.stop(name)
            servers.start(name)
            clients.until(lambda name=name: _ready(servers, name))
    result["restarts"] = args.restarts
    result["restart_requests"], result["restart_failed_requests"] = len(load["ms"]), len(load["errors"])
    clients.tell({16: load}, "restarts")
    return result


def _start_ours(servers: Rig, transformer: str) -> list[str]:
    """Starts what is not running yet, with these transformers; returns what can be restarted one by one."""
    names = [f"{kind}-{number}" for number in REPLICAS for kind in ("predictor", transformer)]
    servers.start_missing("prediction-log", *names, "gateway")
    url = _url(servers)
    for name in names:
        clients.until(lambda name=name: _ready(servers, name))
    clients.until(lambda: httpx.post(url, content="{}", headers={"x-api-key": servers.key}).status_code == 400)
    return names


def _figures(servers: Rig, url: str, bodies: Path, seconds: float) -> dict[str, Any]:
    """Latencies with 1, 8 and 16 clients, what a request costs, and what went wrong."""
    clients.load(url, servers.key, bodies, 8, 5.0)
    runs = {count: clients.load(url, servers.key, bodies, count, seconds) for count in (1, 8)}
    before = servers.cpu_s()
    runs[16] = clients.load(url, servers.key, bodies, 16, seconds)
    spent = {name: (after - before[name]) / len(runs[16]["ms"]) * 1e3 for name, after in servers.cpu_s().items()}
    clients.tell(runs, "ours")
    return {
        **{f"cpu_ms_a_request_{name}": round(ms, 2) for name, ms in spent.items()},
        **{f"p95_ms_{count}_clients": clients.percentile(of["ms"], 95) for count, of in runs.items()},
        "p50_ms_1_client": clients.percentile(runs[1]["ms"], 50),
        "p99_ms_16_clients": clients.percentile(runs[16]["ms"], 99),
        "requests_per_s": clients.rate(runs[16]),
        "errors": sum(len(of["errors"]) for of in runs.values()),
    }


def _many(servers: Rig, url: str, ids: Sequence[str]) -> dict[str, float]:
    """100 parks and the whole fleet, each for itself and as a portfolio."""
    told = {}
    for some in (ids[:PARKS], ids):
        told[f"fleet_{len(some)}_parks_ms"] = _fleet(url, servers.key, some)
        told[f"portfolio_{len(some)}_parks_ms"] = _portfolio(servers.parts["gateway"].url, servers.key, some)
    return told


def _url(servers: Rig) -> str:
    return servers.parts["gateway"].url + _PREDICT


def _events(store: ObjectStore, known: Sequence[Known], models: Sequence[Bundle], uris: Sequence[str]) -> soak.Events:
    """What happens during a soak."""

    def reload(number: int) -> None:
        deploy(store, models[number % 2], uris[number % 2], number + 1)

    def refresh(number: int) -> None:
        for one in known:
            snapshot.write(store, replace(one, as_of=one.as_of + np.timedelta64(number, "s")))

    return soak.Events(reload, refresh)


def _reload(servers: Rig, store: ObjectStore, models: Sequence[Bundle], uris: Sequence[str], count: int) -> int:
    """Deploy the two bundles in turn, each time until both predictors serve it; returns how often they did."""
    for number in range(1, count + 1):
        model, uri = models[number % 2], uris[number % 2]
        deploy(store, model, uri, number + 1)
        for replica in REPLICAS:
            metrics = servers.parts[f"predictor-{replica}"].url + "/metrics"
            wanted = f'bundle_id="{model.bundle_id}"'
            clients.until(lambda metrics=metrics, wanted=wanted: wanted in httpx.get(metrics, timeout=5).text)
    return count


def _ready(servers: Rig, name: str) -> bool:
    """The replica of this process can make forecasts again."""
    transformer = servers.parts[f"transformer-{name.rsplit('-', 1)[1]}"].url
    return httpx.get(f"{transformer}/v1/models/pv-forecast", timeout=5).status_code == 200


def deploy(store: ObjectStore, model: Bundle, uri: str, version: int) -> None:
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


if __name__ == "__main__":
    main()
