"""Makes a logged forecast again from what its log row names, and compares bits."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from pvforecast import features, snapshot
from pvforecast.known import Known, WeatherRun
from pvforecast.model import bundle as bundles
from pvforecast.objects import ObjectStore


class LogRow(Protocol):
    """What is needed of a response in the log: `prediction_log.store.Row` is one."""

    @property
    def data(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class ReplayResult:
    """How many rows were made again, how many with equal bits (features and quantiles), what differed first."""

    rows: int
    bit_equal_rows: int
    first_difference: str | None = None


def replay(store: ObjectStore, row: LogRow) -> ReplayResult:
    """Rebuild every prediction of a logged response through the training path.

    Raises
    ------
    KeyError
        the snapshot is gone.
    BundleError
        the bundle is gone, or does not reproduce its golden rows here.
    """
    rows, equal, first = 0, 0, None
    for prediction in row.data["predictions"]:
        differing = _differences(store, prediction)
        rows += len(prediction["valid_at"])
        equal += len(prediction["valid_at"]) - len(differing)
        first = first or next(iter(differing), None)
    return ReplayResult(rows, equal, first)


def _differences(store: ObjectStore, logged: dict[str, Any]) -> list[str]:
    """A description of each row whose features or quantiles have other bits."""
    bundle = bundles.load(store, f"s3://{store.bucket}/{bundles.PREFIX}/{logged['bundle_id']}")
    known = snapshot.read(store, logged["park_id"], logged["snapshot_id"])
    issued_at, hours = _instants([logged["issued_at"]])[0], _instants(logged["valid_at"])
    if logged["weather"] is not None:
        known = _with_weather(known, logged["weather_source"], logged["weather"], issued_at)
    again = features.build_known(bundle.spec, known, issued_at, hours)
    quantiles = bundle.predict(again, logged["spec_hash"], [logged["park_id"]] * len(hours)).astype("<f4", copy=False)
    served = np.frombuffer(base64.b64decode(logged["quantiles_fraction"]), "<f4").reshape(len(hours), -1)
    digests = [hashlib.blake2b(line.astype("<f4", copy=False).tobytes(), digest_size=8).hexdigest() for line in again]
    found = []
    for at, hour in enumerate(logged["valid_at"]):
        wrong = []
        if digests[at] != logged["row_digests"][at]:
            wrong.append("features")
        if quantiles[at].tobytes() != served[at].tobytes():
            wrong.append(f"quantiles {served[at].tolist()} now {quantiles[at].tolist()}")
        if wrong:
            found.append(f"{logged['park_id']} {hour}: {' and '.join(wrong)}")
    return found


def _with_weather(known: Known, source: str, weather: dict[str, Any], issued_at: np.datetime64) -> Known:
    variables = {name: np.array(values, np.float64) for name, values in weather.items() if name != "valid_at"}
    run = WeatherRun(source, issued_at, issued_at, _instants(weather["valid_at"]), variables)
    return replace(known, weather=run)


def _instants(texts: list[str]) -> np.ndarray[tuple[int], np.dtype[np.datetime64]]:
    return np.array([text.removesuffix("Z") for text in texts], "datetime64[s]")
