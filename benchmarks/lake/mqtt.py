"""Telemetry: how fast, and what is lost when things break. `python -m benchmarks.lake.mqtt` prints JSON last.

Publishers, broker, SeaweedFS and service are real processes on this machine. A message counts when its row can be read
from the committed table.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil

from benchmarks.lake import plant
from benchmarks.lake.rig import Memory, Rig, fleet_of, register, rig
from pvforecast import snapshot
from pvforecast.errors import NotReady
from pvforecast.lake.tables import GENERATION, RAW_GENERATION

PARKS, DEVICES = 100, 10
FLEET = PARKS * DEVICES


def say(text: str) -> None:
    print(f"[mqtt] {text}", file=sys.stderr, flush=True)


def start_ms(now: float) -> int:
    """The beginning of the simulated samples: a full hour, so long ago that 300 minutes fit before now."""
    return (int(now) // 3600 - 5) * 3_600_000


def count(rig: Rig) -> int:
    """Rows that can be read now."""
    found = rig.lake.query(RAW_GENERATION, "SELECT count(*) AS n FROM t")
    return 0 if found is None else int(found["n"][0].as_py())


def throughput(seconds: int = 60, rate: float = 5_500, plants: int = 1) -> dict[str, Any]:
    """Messages a second into the committed table, from the first commit to the last while publishing goes on."""
    with rig({}) as made:
        made.start("seaweedfs")
        register(made.lake, fleet_of(PARKS, time.time()))
        made.start("mosquitto")
        made.start("telemetry")
        memory = Memory(made, "telemetry")
        memory.start()
        steps = int((seconds + 15) * rate / FLEET)
        begin = start_ms(time.time()) - max(0, steps - 300) * 60_000
        each = rate / plants
        running = [made.plant(k, plants, each, steps, begin, parks=PARKS, devices=DEVICES) for k in range(plants)]
        seen: list[tuple[float, int]] = []
        total = steps * FLEET
        ended = None
        while not seen or seen[-1][1] < total:
            time.sleep(0.5)
            rows = count(made)
            if rows and (not seen or rows > seen[-1][1]):
                seen.append((time.time(), rows))
            if ended is None and all(one.poll() is not None for one in running):
                ended = time.time()
            if ended and time.time() - ended > 180:
                break
        said = [json.loads(one.communicate()[0]) for one in running]
        published = max(one["ended"] for one in said)
        within = [(at, rows) for at, rows in seen if at <= published + 1]
        (t0, n0), (t1, n1) = within[0], within[-1]
        offered = total / (published - min(one["began"] for one in said))
        result = {
            "mqtt_messages_per_second": round((n1 - n0) / (t1 - t0)),
            "measured_seconds": round(t1 - t0, 1),
            "offered_per_second": round(offered),
            "rows": seen[-1][1],
            "messages": total,
            "drain_seconds": round(seen[-1][0] - published, 1),
            "peak_rss_mb": memory.stop(),
            "cpu_seconds": _cpu(made),
        }
        say(str(result))
        return result


def _cpu(made: Rig) -> dict[str, float]:
    used = {}
    for name in ("seaweedfs", "mosquitto", "telemetry"):
        times = psutil.Process(made.pid(name)).cpu_times()
        used[name] = round(times.user + times.system, 1)
    return used


@dataclass(frozen=True)
class Schedule:
    """A fault run: seconds after the first message."""

    seconds: int = 300
    kills: tuple[float, ...] = (40.0, 230.0)
    dead_s: float = 5.0
    broker_at: float = 100.0
    store_at: float = 150.0
    store_away_s: float = 30.0
    refresh_s: float = 120.0

    def affected(self) -> list[tuple[float, float]]:
        """Times whose messages may be late: what waits for a commit when a fault begins, until it is over."""
        ends = [(at, at + self.dead_s) for at in self.kills]
        ends += [(self.broker_at, self.broker_at + self.dead_s), (self.store_at, self.store_at + self.store_away_s)]
        return [(begin - 15.0, end + 30.0) for begin, end in ends]


SHORT = Schedule(60, (12.0,), 3.0, 26.0, 36.0, 8.0, 10.0)


def faults(plan: Schedule | None = None) -> dict[str, Any]:
    """1,000 messages a second while the service is killed, the broker restarted and the object store away."""
    plan = plan or Schedule()
    with rig({"PVF_MQTT_REFRESH_S": str(plan.refresh_s)}) as made:
        made.start("seaweedfs")
        register(made.lake, fleet_of(PARKS, time.time()))
        made.start("mosquitto")
        made.start("telemetry")
        memory = Memory(made, "telemetry")
        memory.start()
        begin_ms = start_ms(time.time())
        sender = made.plant(0, 1, FLEET, plan.seconds, begin_ms, parks=PARKS, devices=DEVICES, again=0.01)
        began = time.time()
        trouble = threading.Thread(target=_trouble, args=(made, plan, began))
        trouble.start()
        watch = _Watch(made, plan.seconds, begin_ms)
        while sender.poll() is None:
            watch.look()
            time.sleep(2.0)
        trouble.join()
        said = json.loads(sender.communicate()[0])
        last = said["ended"]
        watch.until(lambda: len(watch.readable) == plan.seconds, last + 180)
        watch.until(lambda: len(watch.shown) == plan.seconds // 60, last + 400)
        result = {
            "messages": plan.seconds * FLEET,
            "published_again": said["acknowledged"] - said["sent"],
            **_stored(made, plan.seconds, begin_ms),
            **watch.latencies(plan, said),
            "drain_seconds": round(max(watch.readable.values(), default=0) - last, 1),
            "peak_rss_mb": memory.stop(),
        }
        say(str(result))
        return result


def _trouble(made: Rig, plan: Schedule, began: float) -> None:
    events: list[tuple[float, str, Callable[[], None]]] = [
        (plan.broker_at, "broker stopped", lambda: made.stop("mosquitto")),
        (plan.broker_at + plan.dead_s, "broker started", lambda: made.start("mosquitto")),
        (plan.store_at, "object store stopped", lambda: made.stop("seaweedfs")),
        (plan.store_at + plan.store_away_s, "object store started", lambda: made.start("seaweedfs")),
    ]
    for at in plan.kills:
        events.append((at, "service killed", lambda: made.kill("telemetry")))
        events.append((at + plan.dead_s, "service started", lambda: made.start("telemetry")))
    for at, name, act in sorted(events, key=lambda event: event[0]):
        time.sleep(max(0.0, began + at - time.time()))
        act()
        say(f"{time.time() - began:5.0f} s  {name}")


class _Watch:
    """Looks at the table and at snapshots, and notes when what was there first.

    Attributes
    ----------
    readable : step -> when the rows of all its messages could be read.
    shown : simulated hour -> when the snapshots of the watched parks had it.
    """

    def __init__(self, made: Rig, steps: int, begin_ms: int) -> None:
        self._made, self._steps, self._begin_ms = made, steps, begin_ms
        self._parks = [f"sim-{number:03d}" for number in range(0, PARKS, PARKS // 5)]
        self._looks = 0
        self.readable: dict[int, float] = {}
        self.shown: dict[int, float] = {}

    def look(self) -> None:
        try:
            self._rows()
            if self._looks % 3 == 0:
                self._snapshots()
        except (NotReady, KeyError):
            pass  # the object store is away
        self._looks += 1

    def until(self, done: Callable[[], bool], deadline: float) -> None:
        while not done() and time.time() < deadline:
            self.look()
            time.sleep(1.0)

    def latencies(self, plan: Schedule, said: dict[str, Any]) -> dict[str, float | None]:
        sent = dict(said["marks"])
        rows = {step: at - sent[step] for step, at in self.readable.items()}
        shown = {step: self.shown[step // 60] - sent[step] for step in sent if step // 60 in self.shown}
        calm = {
            step
            for step, at in sent.items()
            if not any(first <= at - said["began"] <= last for first, last in plan.affected())
        }
        return {
            "p95_row_seconds": _p95([value for step, value in rows.items() if step in calm]),
            "p95_row_seconds_with_outages": _p95(list(rows.values())),
            "p95_snapshot_seconds": _p95([value for step, value in shown.items() if step in calm]),
            "p95_snapshot_seconds_with_outages": _p95(list(shown.values())),
            "hours_in_snapshots": len(self.shown),
        }

    def _rows(self) -> None:
        found = self._made.lake.query(
            RAW_GENERATION,
            "SELECT measured_at, count(DISTINCT park_id || '/' || inverter_id) AS n FROM t GROUP BY measured_at",
        )
        now = time.time()
        for row in [] if found is None else found.to_pylist():
            step = (int(row["measured_at"].timestamp() * 1000) - self._begin_ms) // 60_000
            if row["n"] == FLEET:
                self.readable.setdefault(step, now)

    def _snapshots(self) -> None:
        hours: list[set[int]] = []
        for park in self._parks:
            entry = snapshot.latest_entry(self._made.store, park)
            if entry is None:
                return
            history = snapshot.read(self._made.store, park, entry["snapshot_id"]).history
            at = history.valid_at.astype("datetime64[s]").astype(np.int64)
            right = [
                (int(second) - self._begin_ms // 1000) // 3600
                for second, power in zip(at, history.power_kw, strict=True)
                if _right(int(park[4:]), (int(second) - self._begin_ms // 1000) // 3600, power)
            ]
            hours.append(set(right))
        for hour in set.intersection(*hours):
            self.shown.setdefault(hour, time.time())


def _expected_kw(park: int, hour: int) -> float:
    samples = [plant.power_w(park, d, s) for d in range(DEVICES) for s in range(hour * 60, hour * 60 + 60)]
    return sum(samples) / 60 / 1000


def _right(park: int, hour: int, power_kw: float) -> bool:
    return abs(power_kw - _expected_kw(park, hour)) < 1e-6


def _stored(made: Rig, steps: int, begin_ms: int) -> dict[str, Any]:
    """What the tables hold in the end, against what was published."""
    sql = "SELECT DISTINCT park_id, inverter_id, measured_at FROM t"
    raw, distinct = (
        made.lake.query(RAW_GENERATION, f"SELECT count(*) AS n FROM {source}") for source in ("t", f"({sql})")
    )
    hours = made.lake.read(GENERATION).to_pandas(use_threads=False)
    hours = hours[hours.period_s == 3600].sort_values("available_at")
    doubled = int(hours.duplicated(["park_id", "valid_at", "available_at"]).sum())
    newest = hours.drop_duplicates(["park_id", "valid_at"], keep="last")
    wrong = 0
    for row in newest.itertuples():
        hour = int(row.valid_at.timestamp() - begin_ms // 1000) // 3600
        wrong += not (_right(int(row.park_id[4:]), hour, row.power_kw) and row.completeness <= 1.0)
    missing = steps // 60 * PARKS - len(newest)
    assert raw is not None
    assert distinct is not None
    return {
        "mqtt_lost": steps * FLEET - int(distinct["n"][0].as_py()),
        "mqtt_duplicated_rows": doubled + wrong,
        "raw_rows": int(raw["n"][0].as_py()),
        "processed_hours": len(newest),
        "processed_hours_missing": missing,
        "processed_rows": len(hours),
    }


def _p95(values: list[float]) -> float | None:
    return round(float(np.percentile(values, 95)), 1) if values else None


def measure() -> dict[str, Any]:
    """Both runs; the figures of the issue at the top."""
    speed, run = throughput(), faults()
    return {
        "mqtt_messages_per_second": speed["mqtt_messages_per_second"],
        "mqtt_lost": run["mqtt_lost"],
        "mqtt_duplicated_rows": run["mqtt_duplicated_rows"],
        "mqtt_drain_seconds": run["drain_seconds"],
        "mqtt_p95_row_seconds": run["p95_row_seconds"],
        "mqtt_p95_snapshot_seconds": run["p95_snapshot_seconds"],
        "mqtt_peak_rss_mb": max(run["peak_rss_mb"]["service"], speed["peak_rss_mb"]["service"]),
        "mqtt_throughput": speed,
        "mqtt_faults": run,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=["throughput", "faults", "short"], help="short: the fault run in a minute")
    runs = {"throughput": throughput, "faults": faults, "short": lambda: faults(SHORT), None: measure}
    print(json.dumps(runs[parser.parse_args().only]()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
