"""python -m pvf.stub --port 8123 [--clock 2013-08-10T06:00:00+00:00] [--limits free] [--faults 0.05]"""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime

import uvicorn

from pvf.stub.app import Stub, make
from pvforecast.errors import InvalidInput, PvForecastError
from pvforecast.sources.open_meteo_budget import limits_of


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pvf.stub", description="A stand-in for Open-Meteo on 127.0.0.1.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--clock", default="system", help="system, or an ISO instant with offset: a replay's now")
    parser.add_argument("--limits", default="none", help="free, none, or minute/hour/day/at_once")
    parser.add_argument("--faults", type=float, default=0.0, help="share of answers that fail, 0 to 1")
    parser.add_argument("--seed", type=int, default=1, help="of the faults")
    parser.add_argument("--api-key", default="", help="that the services named customer- want")
    given = parser.parse_args(argv)
    try:
        held = None if given.clock == "system" else _held(given.clock)
        limits = limits_of(given.limits)
    except PvForecastError as error:
        print(f"stub: {error}", file=sys.stderr)
        return 2
    stub = Stub(
        now=lambda: held or datetime.now(UTC),
        limits=limits,
        faults=given.faults,
        seed=given.seed,
        api_key=given.api_key,
    )
    uvicorn.run(make(stub), host="127.0.0.1", port=given.port, log_level="warning", access_log=False)
    return 0


def _held(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInput(f"{text!r} is no instant", field="--clock", hint="system, or ISO with offset") from error
    if moment.tzinfo is None:
        raise InvalidInput(f"{text!r} has no UTC offset", field="--clock", hint="e.g. 2013-08-10T06:00:00+00:00")
    return moment


if __name__ == "__main__":
    sys.exit(main())
