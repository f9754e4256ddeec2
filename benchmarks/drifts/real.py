"""The two real parks as arrays in a file, for an environment that has no pvanalytics: run in the main one."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from pvf.backtest import TEST_UNTIL, sample_records
from pvforecast.known import HOUR

PARKS = ("pvdaq-50", "serf-east")


def export(folder: Path) -> None:
    """Hours, observed weather, metered power and site of each real park."""
    folder.mkdir(parents=True, exist_ok=True)
    for park_id, record in sample_records(list(PARKS), TEST_UNTIL).items():
        first, last = record.runs[0].valid_at[0], record.valid_at[-1]
        hours = np.arange(first, last + 49 * HOUR, HOUR)
        weather = {name: np.full(len(hours), np.nan) for name in ("ghi", "temp_air")}
        for run in record.runs:
            at = np.clip(((run.valid_at - first) / HOUR).astype(int), 0, len(hours) - 1)
            for name, series in weather.items():
                series[at] = run.variables[name]
        site = json.dumps(record.site.as_dict())
        np.savez_compressed(folder / park_id, site=site, hours=hours, power=record.truth(hours), **weather)


if __name__ == "__main__":
    export(Path(sys.argv[1]))
