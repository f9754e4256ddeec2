"""Asks a deployed gateway as a client would: `python3 tools/smoke.py --url URL --park ID`, the key in PVF_API_KEY.

Standard library alone, so that it runs anywhere. Exit code 0 when every answer was as it must be.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any

_PATH = "/v1/models/pv-forecast:predict"
_TIMEOUT_S = 15.0


class WrongAnswer(Exception):
    """What came is not what a working platform answers."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tools/smoke.py", description=__doc__)
    parser.add_argument("--url", required=True, help="https://gateway")
    parser.add_argument("--park", required=True, help="a park this key sees")
    parser.add_argument("--within-minutes", type=float, default=0.0, help="try again for so long")
    options = parser.parse_args(argv)
    key, deadline = os.environ.get("PVF_API_KEY", ""), time.monotonic() + 60 * options.within_minutes
    while True:
        try:
            version = check(options.url.rstrip("/"), key, options.park)
        except (WrongAnswer, OSError, ValueError, KeyError, IndexError, TypeError) as error:
            if time.monotonic() > deadline:
                print(f"smoke: {error!r}", file=sys.stderr)
                return 1
            time.sleep(5)
        else:
            print(f"smoke: {options.park} is forecast by model {version}")
            return 0


def check(url: str, key: str, park: str) -> str:
    """The version of the model that answers. Raises WrongAnswer naming what is wrong."""
    _expect(_ask(url, "", park)[0], 401, "without a key")
    _expect(_ask(url, key, "no-such-park-anywhere")[0], 404, "for an unknown park")
    status, answer = _ask(url, key, park)
    _expect(status, 200, f"for {park}")
    prediction = answer["predictions"][0]
    hours = len(prediction["valid_at"])
    for quantile, values in prediction["power_kw"].items():
        if len(values) != hours or hours == 0 or not all(math.isfinite(v) and v >= 0 for v in values):
            raise WrongAnswer(f"quantile {quantile} is not {hours} powers of 0 kW or more: {values[:5]}")
    if not prediction["model_version"]:
        raise WrongAnswer("no model_version is named")
    return str(prediction["model_version"])


def _ask(url: str, key: str, park: str) -> tuple[int, Any]:
    body = json.dumps({"instances": [{"park_id": park}]}).encode()
    headers = {"content-type": "application/json", **({"x-api-key": key} if key else {})}
    request = urllib.request.Request(url + _PATH, body, headers)
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, None


def _expect(status: int, wanted: int, when: str) -> None:
    if status != wanted:
        raise WrongAnswer(f"{status} instead of {wanted} {when}")


if __name__ == "__main__":
    sys.exit(main())
