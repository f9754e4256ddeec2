"""Skill on the test year of system 50, beside the baselines: `make bench NAME=backtest`."""

from __future__ import annotations

import json
import time
from dataclasses import asdict

from pvf.backtest import on_samples
from pvforecast.evaluation import report


def main() -> None:
    """Train to the end of 2012, test on 2013."""
    begun = time.perf_counter()
    scores = on_samples()
    print(report.scores(scores.values()))
    result = {park: {**asdict(s), "skill": s.skill} for park, s in scores.items()}
    print(json.dumps({**result, "seconds": round(time.perf_counter() - begun, 1)}))


if __name__ == "__main__":
    main()
