"""Closed-loop clients in a process of their own: each sends its next request when the last is answered.

    python -m benchmarks.serve.load URL --clients 8 --seconds 10 --bodies bodies.json

Reads the API key from stdin's first line. With `--seconds 0` it goes on until stdin ends. With `--rate` the clients
together send so many requests a second at most. Prints one JSON object:
{"ms": [...], "errors": [...], "seconds": ...}. Plain asyncio streams, so that the client takes little of the cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

_TIMEOUT_S = 10.0


class Clients:
    """What all clients of one run share."""

    def __init__(self, url: str, key: str, bodies: list[str], pause_s: float) -> None:
        parts = urlsplit(url)
        self.host, self.port = str(parts.hostname), int(parts.port or 80)
        head = f"POST {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\ncontent-type: application/json\r\n"
        head += f"x-api-key: {key}\r\n" if key else ""
        self.requests = [f"{head}content-length: {len(body)}\r\n\r\n{body}".encode() for body in bodies]
        self.ms: list[float] = []
        self.errors: list[str] = []
        self.stopping = False
        self.pause_s = pause_s  # of each client, from the beginning of one request to that of the next

    async def run(self, number: int) -> None:
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        at = number * 7  # not all begin with the same park
        while not self.stopping:
            begun = time.perf_counter()
            try:
                async with asyncio.timeout(_TIMEOUT_S):
                    if streams is None:
                        streams = await asyncio.open_connection(self.host, self.port)
                    status, keep = await _ask(*streams, self.requests[at % len(self.requests)])
                if status == 200:
                    self.ms.append((time.perf_counter() - begun) * 1e3)
                else:
                    self.errors.append(f"HTTP {status}")
                if not keep:
                    streams[1].close()
                    streams = None
            except (OSError, ValueError, EOFError, TimeoutError) as error:
                self.errors.append(f"{type(error).__name__}: {error}"[:120])
                if streams is not None:
                    streams[1].close()
                streams = None
                await asyncio.sleep(0.05)
            at += 1
            if self.pause_s:
                await asyncio.sleep(max(0.0, begun + self.pause_s - time.perf_counter()))


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> tuple[int, bool]:
    writer.write(request)
    await writer.drain()
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
    await reader.readexactly(length)
    return int(head.split(b" ", 2)[1]), b"connection: close" not in head


async def _main(url: str, clients: int, seconds: float, rate: float, bodies: list[str]) -> dict[str, object]:
    loop = asyncio.get_running_loop()
    key = (await loop.run_in_executor(None, sys.stdin.readline)).strip()
    shared = Clients(url, key, bodies, clients / rate if rate else 0.0)
    begun = time.perf_counter()
    tasks = [asyncio.create_task(shared.run(number)) for number in range(clients)]
    if seconds:
        await asyncio.sleep(seconds)
    else:
        await loop.run_in_executor(None, sys.stdin.read)
    shared.stopping = True
    lasted = time.perf_counter() - begun
    await asyncio.gather(*tasks)
    return {"ms": [round(one, 3) for one in shared.ms], "errors": shared.errors, "seconds": lasted}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--bodies", type=Path, required=True)
    parser.add_argument("--rate", type=float, default=0.0)
    args = parser.parse_args()
    bodies = json.loads(args.bodies.read_text())
    print(json.dumps(asyncio.run(_main(args.url, args.clients, args.seconds, args.rate, bodies))))
