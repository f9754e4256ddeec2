"""What a part of the stack is: a command with a health check."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[2]  # where `pvf`, `inference` and the rest are imported from

THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class UnhealthyError(Exception):
    """The part does not answer as it should (yet)."""


def _nothing() -> None:
    return None


@dataclass(frozen=True)
class Part:
    """One server process.

    `prepare` runs before the start, `finish` once the health check holds and before any part that needs this one.
    """

    name: str
    command: tuple[str, ...]
    health: Callable[[], None]  # raises UnhealthyError
    url: str = ""
    env: Mapping[str, str] = field(default_factory=dict)  # the whole environment of the process
    needs: tuple[str, ...] = ()
    prepare: Callable[[], None] = _nothing
    finish: Callable[[], None] = _nothing
    cwd: Path | None = None
    user: tuple[int, int] | None = None  # uid and gid; None: whoever runs the stack
    folder: Path | None = None  # a directory that only processes of this part work in
    start_deadline_s: float = 60.0
    stop_signal: int = int(signal.SIGTERM)
    stop_deadline_s: float = 10.0


def as_user(user: tuple[int, int] | None) -> dict[str, Any]:
    """Arguments that make `subprocess` run a program as that uid and gid, without any other group."""
    return {} if user is None else {"user": user[0], "group": user[1], "extra_groups": []}


def bare_env(**more: str) -> dict[str, str]:
    """The environment for a server that needs nothing of ours."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TZ", "TMPDIR") if name in os.environ}
    return {"PATH": os.defpath, **kept, **more}


def python_env(**more: str) -> dict[str, str]:
    """The environment for one of our Python processes: one thread each, since they share few cores.

    Cloud credentials of the user stay out: the stack has its own S3 and its own keys.
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "PVF_", "MLFLOW_"))}
    paths = [str(ROOT), *filter(None, [kept.get("PYTHONPATH")])]
    threads = dict.fromkeys(THREAD_LIMITS, "1")
    no_proxy = ",".join(filter(None, [kept.get("NO_PROXY") or kept.get("no_proxy"), "127.0.0.1,localhost"]))
    fixed = {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1", "PYTHONSAFEPATH": "1"}
    return {**kept, **threads, **fixed, "NO_PROXY": no_proxy, "no_proxy": no_proxy, **more}


def python_module(module: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", module, *arguments)


def answers(url: str, *, timeout_s: float = 2.0) -> Callable[[], None]:
    """A health check: GET `url` answers 2xx."""
    parts = urlsplit(url)

    def check() -> None:
        connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=timeout_s)
        try:
            connection.request("GET", parts.path or "/")
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            raise UnhealthyError(f"GET {url}: {error}") from error
        finally:
            connection.close()
        if not 200 <= status < 300:
            raise UnhealthyError(f"GET {url} answered {status}")

    return check


def listens(port: int) -> None:
    """Raises UnhealthyError when nothing accepts connections there: the cheap question before a dear one."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError as error:
        raise UnhealthyError(f"127.0.0.1:{port}: {error}") from error
