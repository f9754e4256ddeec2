"""A real server that stands in for Open-Meteo, in a thread of the test."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import uvicorn
from fastapi import FastAPI

from pvf.stub.app import Stub, make


@contextmanager
def serving(now: datetime, **how: Any) -> Iterator[tuple[Stub, str]]:
    """The stub, and the template of its services' addresses."""
    stub = Stub(now=lambda: now, **how)
    with served(make(stub)) as url:
        yield stub, url + "/{service}"


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """Any app on a free port of 127.0.0.1; its address."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical", access_log=False))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
