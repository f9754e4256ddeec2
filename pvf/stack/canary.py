"""A second model beside the one that serves: it gets a share of the gateway's requests, and gives it back by itself.

Its predictor and transformer run for as long as the command does, and are no parts of the stack: they are ended here,
and what a killed command left behind at the next one's start.
"""

from __future__ import annotations

import http.client
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pvf.stack import gateway, services
from pvf.stack.gateway_config import CANARY
from pvf.stack.part import Part
from pvf.stack.ports import Ports
from pvf.stack.processes import Record
from pvf.stack.supervisor import Supervisor
from pvforecast.errors import StackError
from pvforecast.settings import Settings

_READY_S = 60.0
_MIN_ERRORS = 5
_MAX_ERROR_RATE = 0.02  # and no more than twice the other's
_LOST_S = 3.0  # how long it may be unready
_DRAIN_S = 1.0
_COUNT = re.compile(r"^cluster\.(\S+): (\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class Counts:
    """Answers of one model's transformers since they were first counted."""

    requests: int
    errors: int  # 5xx, broken connections and timeouts

    def since(self, earlier: Counts) -> Counts:
        return Counts(self.requests - earlier.requests, self.errors - earlier.errors)

    @property
    def error_rate(self) -> float:
        return self.errors / self.requests if self.requests else 0.0


def verdict(canary: Counts, stable: Counts) -> str | None:
    """Why the canary has to go; None while it may stay."""
    if canary.errors < _MIN_ERRORS or canary.error_rate <= max(_MAX_ERROR_RATE, 2 * stable.error_rate):
        return None
    return (
        f"{canary.errors} of its {canary.requests} answers were errors ({canary.error_rate:.1%}; "
        f"the other model {stable.error_rate:.1%})"
    )


@contextmanager
def running(settings: Settings, bundle_uri: str, version: str, say: Callable[[str], None]) -> Iterator[Parts]:
    """The canary's two servers, ready to forecast with that bundle.

    Raises
    ------
    StackError
        they do not get ready: the bundle is refused, its golden rows differ, or the object store is away.
    """
    folder = settings.home.absolute() / "canary"
    for name in ("run", "log"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for left in Record(folder / "run" / "parts.json").sweep():
        say(f"ended {left.name} (pid {left.pid}), left over from a canary that ended abruptly")
    parts = _parts(folder, settings, bundle_uri, version)
    supervisor = Supervisor([parts.predictor, parts.transformer], folder / "run", folder / "log", say)
    try:
        supervisor.start()
        _wait_ready(parts, supervisor, folder)
        yield parts
    finally:
        supervisor.stop()


@dataclass(frozen=True)
class Parts:
    """The two servers, and where the gateway reaches the transformer."""

    predictor: Part
    transformer: Part
    address: tuple[str, int]


def share(
    home: Path, parts: Parts, part_of_all: float, seconds: float, tell: Callable[[Counts, Counts], None]
) -> str | None:
    """Give the canary its share for so long; returns why it was taken back early, None when it held out.

    Parameters
    ----------
    tell : is told the counts of canary and stable every second.
    """
    admin = json.loads((home / "run" / "ports.json").read_text())["gateway-admin"]
    begin = _counts(admin)
    healthy_at = time.monotonic()
    gateway.set_canary(home, [parts.address], part_of_all)
    try:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            time.sleep(min(1.0, max(deadline - time.monotonic(), 0.0)))
            now = _counts(admin)
            canary, stable = (now[name].since(begin[name]) for name in (CANARY, "transformer"))
            tell(canary, stable)
            if _ready(parts.transformer):
                healthy_at = time.monotonic()
            elif time.monotonic() - healthy_at > _LOST_S:
                return "it cannot forecast any more; the gateway asks the other model meanwhile"
            if reason := verdict(canary, stable):
                return reason
        return None
    finally:
        gateway.set_canary(home, [parts.address], 0.0)
        time.sleep(_DRAIN_S)  # what it was asked is answered
        gateway.set_canary(home, [], 0.0)


def _parts(folder: Path, settings: Settings, bundle_uri: str, version: str) -> Parts:
    ports = Ports(folder / "run" / "ports.json", {})
    predictor_port, grpc, transformer_port = (
        ports.get(name) for name in ("predictor", "predictor-grpc", "transformer")
    )
    own = settings.model_copy(update={"home": folder, "predictor_grpc": f"127.0.0.1:{grpc}"})
    pinned = {"PVF_BUNDLE_URI": bundle_uri, "PVF_MODEL_VERSION": version}
    predictor = services.predictor(folder, predictor_port, grpc, own)
    transformer = services.transformer(folder, transformer_port, own)
    ports.save()
    return Parts(
        replace(predictor, name="predictor-canary", env={**predictor.env, **pinned}),
        replace(transformer, name="transformer-canary", env={**transformer.env, **pinned}),
        ("127.0.0.1", transformer_port),
    )


def _wait_ready(parts: Parts, supervisor: Supervisor, folder: Path) -> None:
    deadline = time.monotonic() + _READY_S
    while not _ready(parts.transformer):
        supervisor.check()
        if time.monotonic() > deadline or "refused bundle" in (folder / "log" / "predictor-canary.log").read_text():
            raise StackError(
                "the model cannot be served, nothing was sent to it",
                field="canary",
                hint=f"see {folder / 'log' / 'predictor-canary.log'}",
            )
        time.sleep(0.2)


def _ready(transformer: Part) -> bool:
    host, port = transformer.url.removeprefix("http://").rsplit(":", 1)
    try:
        return _get(host, int(port), "/v1/models/pv-forecast")[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def _counts(admin: int) -> dict[str, Counts]:
    text = _get("127.0.0.1", admin, "/stats?filter=upstream_rq_(total|5xx|timeout|pending_failure_eject)$")[1]
    found = {name: int(count) for name, count in _COUNT.findall(text)}
    return {
        name: Counts(
            found.get(f"{name}.upstream_rq_total", 0),
            sum(found.get(f"{name}.upstream_rq_{kind}", 0) for kind in ("5xx", "timeout", "pending_failure_eject")),
        )
        for name in (CANARY, "transformer")
    }


def _get(host: str, port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()
