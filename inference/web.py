"""Listening: a port that is free or a clear error, one log line when up, an orderly stop with status 0."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from typing import NoReturn

import uvicorn
from starlette.types import ASGIApp

from inference.tls import Certificate
from pvforecast.errors import PvForecastError, StackError

log = logging.getLogger(__name__)

GRACE_S = 5
"""How long requests that are under way may take to finish after SIGTERM."""


def arguments(prog: str, port: str) -> argparse.ArgumentParser:
    """A command line with `--host` and the named port option."""
    parser = argparse.ArgumentParser(prog=prog)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 in a container")
    parser.add_argument(port, type=int, required=True)
    return parser


def run(name: str, main: Callable[[], int]) -> NoReturn:
    """The process of a server: its exit status, or one line for an error made on purpose."""
    try:
        sys.exit(main())
    except PvForecastError as error:
        sys.exit(f"{name}: {error}")


def configure_logging() -> None:
    """One line an event on stderr; libraries are left at warnings."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", force=True)
    for name in ("kserve", "kserve.trace", "uvicorn", "uvicorn.error", "uvicorn.access", "httpx", "httpcore"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.WARNING)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises StackError where the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only where the protocol is named; with it each answer waits 40 ms for an ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise taken(host, port, str(error)) from error
    return listener


def taken(host: str, port: int, reason: str) -> StackError:
    return StackError(
        f"cannot listen on {host}:{port}: {reason}", field="port", hint="stop what uses it or name another port"
    )


async def serve(app: ASGIApp, listener: socket.socket, certificate: Certificate | None = None) -> None:
    """Answer until SIGTERM or SIGINT, finish what is under way, return. With a certificate over HTTPS alone."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        timeout_keep_alive=65,
        timeout_graceful_shutdown=GRACE_S,
        ssl_context_factory=(lambda _config, _default: certificate.context) if certificate else None,
    )
    http = _Http(config)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, setattr, http, "should_exit", True)
    follow = asyncio.create_task(certificate.follow()) if certificate else None
    try:
        await http.serve(sockets=[listener])
    finally:
        if follow is not None:
            follow.cancel()


class _Http(uvicorn.Server):
    """Uvicorn without its own signal handling, which raises the signal again and so ends with its status."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
