"""The lake under load and under fire: `make bench NAME=ingest`.

Each part is a module of `benchmarks.lake` and can be run by itself; ARGS="--only kill9,year" runs some of them here.
Each has a process of its own: kill9 and writers fork, which delta-rs forbids once the process has read a table.
The last line is one JSON object with the figures of all of them.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any

PARTS = ("mqtt", "weather", "bad_inputs", "kill9", "writers", "year")


def main(argv: list[str] | None = None) -> int:
    """Run the parts; one that fails is named in `failed`, and the others go on."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {', '.join(PARTS)}")
    chosen = [name.strip() for name in parser.parse_args(argv).only.split(",")]
    unknown = sorted(set(chosen) - set(PARTS))
    if unknown:
        parser.error(f"no part {unknown[0]!r}: {', '.join(PARTS)}")
    result: dict[str, Any] = {}
    seconds, failed = {}, {}
    for name in chosen:
        print(f"{name} ...", file=sys.stderr, flush=True)
        begun = time.monotonic()
        try:
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as own:
                result |= own.submit(_measure, name).result()
        except Exception as error:  # noqa: BLE001 - the other parts have figures of their own
            failed[name] = repr(error)
            print(f"{name} failed: {error!r}", file=sys.stderr, flush=True)
        seconds[name] = round(time.monotonic() - begun)
    print(json.dumps({**result, "seconds": seconds, "failed": failed}))
    return 1 if failed else 0


def _measure(name: str) -> dict[str, Any]:
    figures: dict[str, Any] = importlib.import_module(f"benchmarks.lake.{name}").measure()
    return figures


if __name__ == "__main__":
    sys.exit(main())
