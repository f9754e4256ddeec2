"""Paho's client on a socket with buffers.

Paho reads a packet in three or four system calls and writes one for each acknowledgement. Each of them gives up the
interpreter's lock, and while another thread computes, it takes 5 ms to get it back: a few hundred messages a second.
With buffers one system call brings hundreds of packets.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import Any

import paho.mqtt.client as mqtt

_CHUNK = 262_144


class BufferedSocket:
    """What paho needs of a socket; `flush` sends what it wrote."""

    def __init__(self, inner: socket.socket) -> None:
        self._inner = inner
        self._in = memoryview(b"")
        self._out = bytearray()

    def recv(self, size: int) -> bytes:
        if not self._in:
            if size >= _CHUNK:
                return self._inner.recv(size)
            self._in = memoryview(self._inner.recv(_CHUNK))
        data, self._in = self._in[:size], self._in[size:]
        return bytes(data)

    def pending(self) -> int:
        """Bytes that were received and not read; of TLS, those decrypted too."""
        return len(self._in) or int(getattr(self._inner, "pending", int)())

    def send(self, data: bytes | bytearray) -> int:
        self._out += data
        return len(data)

    def flush(self) -> bool:
        """Send; True when all is out. Raises OSError when the connection is lost."""
        while self._out:
            try:
                sent = self._inner.send(self._out)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return False
            del self._out[:sent]
        return True

    def setblocking(self, flag: bool) -> None:
        self._inner.setblocking(flag)

    def fileno(self) -> int:
        return self._inner.fileno()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.flush()  # paho closes right after it wrote that it leaves
        self._inner.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class BufferedClient(mqtt.Client):
    """Driven by its owner's loop: `loop_read` while `wire.pending()`, then `wire.flush()`."""

    wire: BufferedSocket | None = None

    def _create_socket(self) -> Any:  # paho's own place for another kind of socket: its WebSocket stands here too
        self.wire = BufferedSocket(super()._create_socket())  # type: ignore[arg-type]
        return self.wire
