"""The drift job on trial: `make bench NAME=drift`; in .venv-drift, two cores, a quarter of an hour.

System 50 and SERF East (real, observed weather) and 32 simulated parks of four climates, three years each, under
forecasts with errors (`benchmarks.drifts`). The expectation is the frozen reference of the design, made from each
park's first 380 days (SERF East: 46, provisional) and never refitted; all later days are watched. False alarms are
those of the healthy parks. Then each fault is planted at random days with random sizes into each park and watched for
60 days (SERF East: 30) after 30 healthy ones. A day counts from its start to the check that looks at it, so 1 is the
first check there is. Simulated means simulated: `real` holds the two real parks apart.

    ARGS="--quick"       4 parks, one of each climate, each fault once; no scale part
    ARGS="--parks 16"    other numbers; --draws, --seed
    ARGS="--no-scale"    without the timed check of 100 parks; --only-scale: nothing else
    ARGS="--out FILE"    every case as JSON lines

The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.drifts import climates, scale, score, simulator, trial
from pvforecast.site import Site

ROOT = Path(__file__).resolve().parent.parent
MAIN_PYTHON = ROOT / ".venv" / "bin" / "python"
REAL = ("pvdaq-50", "serf-east")


def main() -> None:
    """Run all, print tables, and one JSON object last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--parks", type=int)
    parser.add_argument("--draws", type=int)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--no-scale", action="store_true")
    parser.add_argument("--only-scale", action="store_true")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    parks = given.parks or (4 if given.quick else 32)
    draws = given.draws or (1 if given.quick else 3)
    begun = time.perf_counter()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory(prefix="pvf-drift-") as folder, ProcessPoolExecutor(2) as pool:
        data = Path(folder)
        subprocess.run([MAIN_PYTHON, "-m", "benchmarks.drifts.real", str(data)], check=True, cwd=ROOT)
        if given.only_scale:
            print(json.dumps(scale.measure(data, given.seed)))
            return
        actual = [pool.submit(_real, data, park_id, draws, given.seed) for park_id in REAL]
        trials = list(pool.map(partial(_simulated, data, draws, given.seed), range(parks)))
        real = [one.result() for one in actual]
        result = {
            "benchmark": "drift",
            "parks_simulated": parks,
            "expectation": "frozen reference of 380 days, never refitted",
            **score.of(trials),
            "real": {one.park_id: score.of([one], brief=True) for one in real},
        }
        if not (given.quick or given.no_scale):
            result |= scale.measure(data, given.seed)
    if given.out:
        cases: list[dict[str, object]] = [row for one in (*real, *trials) for row in one.found]
        cases += [{"park": one.park_id, "false": one.false} for one in (*real, *trials)]
        given.out.write_text("\n".join(json.dumps(row) for row in cases) + "\n")
    score.show(result)
    result["seconds"] = round(time.perf_counter() - begun, 1)
    print(json.dumps(result))


def _simulated(data: Path, draws: int, seed: int, number: int) -> trial.Trial:
    warnings.simplefilter("ignore")  # pvlib divides by tiny powers at dawn
    park = simulator.park(number, climates.load(data / "pvdaq-50.npz"), seed=seed)
    return trial.run(park, draws, seed)


def _real(data: Path, park_id: str, draws: int, seed: int) -> trial.Trial:
    parks = {}
    for name in REAL:
        with np.load(data / f"{name}.npz") as kept:
            arrays = {key: kept[key] for key in kept.files}
        parks[name] = simulator.real(name, arrays, Site.from_dict(json.loads(str(arrays["site"]))))
    others = tuple(park.record() for name, park in parks.items() if name != park_id)
    return trial.run(parks[park_id], draws, seed, others)


if __name__ == "__main__":
    sys.exit(main())
