"""A plant that publishes: `python -m benchmarks.lake.plant`, a process of its own.

It writes MQTT 5 packets by itself, many a system call: on two cores a Python client library would take the time that
the service under test needs. What the broker has not acknowledged when the connection breaks is sent again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import socket
import struct
import sys
import time
from collections import OrderedDict
from collections.abc import Iterator

_WINDOW = 900  # unacknowledged at most; the broker allows 1,000
_TICK_S = 0.02


class Plant:
    """Sends messages at a rate, at least once each."""

    def __init__(self, host: str, port: int, user: str, password: str, client_id: str) -> None:
        self._address, self._user, self._password, self._id = (host, port), user, password, client_id
        self._open: OrderedDict[int, bytes] = OrderedDict()
        self._next = 1
        self._socket: socket.socket | None = None
        self._rest = b""
        self.acknowledged = 0
        self.refused = 0
        self.reconnects = -1

    def send(self, bodies: list[bytes]) -> None:
        """Topic and payload, packed by `body`; returns when they are under way."""
        self._connected()
        while bodies:
            room = _WINDOW - len(self._open)
            some, bodies = bodies[:room], bodies[room:]
            packets = []
            for part in some:
                packet = self._number()
                self._open[packet] = part
                packets.append(_publish(packet, part, again=False))
            self._write(b"".join(packets))
            self._read(0.0 if not bodies else 0.05)

    def finish(self) -> None:
        """Until the broker has acknowledged all."""
        while self._open:
            self._read(0.2)
        if self._socket is not None:
            self._socket.sendall(b"\xe0\x00")
            self._socket.close()

    def _number(self) -> int:
        while self._next in self._open:
            self._next = self._next % 65_535 + 1
        number, self._next = self._next, self._next % 65_535 + 1
        return number

    def _write(self, data: bytes) -> None:
        try:
            self._connected().sendall(data)
        except OSError:
            self._lost()

    def _read(self, wait: float) -> None:
        try:
            sock = self._connected()
            while select.select([sock], [], [], wait)[0]:
                data = sock.recv(262_144)
                if not data:
                    raise ConnectionResetError
                self._take(self._rest + data)
                wait = 0.0
        except OSError:
            self._lost()

    def _take(self, data: bytes) -> None:
        at = 0
        while len(data) - at >= 2 and len(data) - at >= 2 + data[at + 1]:
            kind, length = data[at] >> 4, data[at + 1]
            if kind == 4:
                self._open.pop(struct.unpack_from("!H", data, at + 2)[0], None)
                self.acknowledged += 1
                self.refused += length > 2 and data[at + 4] >= 0x80
            at += 2 + length
        self._rest = data[at:]

    def _connected(self) -> socket.socket:
        while self._socket is None:
            try:
                self._connect()
            except OSError:
                time.sleep(0.2)
        return self._socket

    def _connect(self) -> None:
        sock = socket.create_connection(self._address, 5.0)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        fields = b"".join(_text(value) for value in (self._id, self._user, self._password))
        variable = _text("MQTT") + b"\x05\xc2" + struct.pack("!H", 600) + b"\x00"
        sock.sendall(b"\x10" + _length(len(variable + fields)) + variable + fields)
        answer = sock.recv(512)
        if len(answer) < 4 or answer[0] >> 4 != 2 or answer[3] != 0:
            sock.close()
            raise ConnectionRefusedError(repr(answer))
        sock.settimeout(10.0)
        self._socket, self._rest = sock, b""
        self.reconnects += 1
        sock.sendall(b"".join(_publish(packet, part, again=True) for packet, part in self._open.items()))

    def _lost(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None
        time.sleep(0.1)


def body(topic: str, payload: bytes) -> bytes:
    """A message's topic and payload, with room for the packet id between them."""
    return _text(topic) + b"\0\0\0" + payload


def _publish(packet: int, part: bytes, *, again: bool) -> bytes:
    topic = 2 + (part[0] << 8 | part[1])
    head = b"\x3a" if again else b"\x32"
    return head + _length(len(part)) + part[:topic] + struct.pack("!H", packet) + part[topic + 2 :]


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("!H", len(data)) + data


def _length(value: int) -> bytes:
    found = bytearray()
    while True:
        value, digit = divmod(value, 128)
        found.append(digit | (128 if value else 0))
        if not value:
            return bytes(found)


def power_w(park: int, device: int, step: int) -> float:
    """What a device reports at a step: told again by whoever checks what was stored."""
    return float(1_000 + 37 * park + 11 * device + 7 * step % 101 + 13 * (step // 60))


def energy_wh(park: int, device: int, step: int) -> int:
    """The device's counter: in step with its power, within a few percent."""
    return 1_000_000 + step * (1_060 + 37 * park + 11 * device) // 60


def messages(
    parks: int, devices: int, first: int, count: int, start_ms: int, share: tuple[int, int]
) -> Iterator[list[tuple[str, bytes]]]:
    """Sample after sample of the whole fleet, a minute apart, from `start_ms` on; `share`: the k-th of n plants."""
    fleet = [(p, d) for p in range(parks) for d in range(devices)][share[0] :: share[1]]
    for step in range(first, first + count):
        at = start_ms + step * 60_000
        yield [
            (
                f"pv/sim-{p:03d}/inv-{d}/telemetry",
                b'{"v":1,"site":"sim-%03d","dev":"inv-%d","ts":%d,"seq":%d,"p_ac_w":%.1f,"e_total_wh":%d,"state":"run",'
                b'"q":"good"}' % (p, d, at, step, power_w(p, d, step), energy_wh(p, d, step)),
            )
            for p, d in fleet
        ]


def main() -> int:
    parser = argparse.ArgumentParser()
    for name in ("port", "parks", "devices", "steps", "start-ms", "share", "of"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True, help="messages a second of this plant")
    parser.add_argument("--again", type=float, default=0.0, help="share of messages sent twice")
    args = parser.parse_args()
    plant = Plant("127.0.0.1", args.port, "plant", os.environ["PLANT_PASSWORD"], f"plant-{args.share}")
    began, sent = time.time(), 0
    rng = random.Random(args.share)
    marks = []
    rows = messages(args.parks, args.devices, 0, args.steps, args.start_ms, (args.share, args.of))
    for step, row in enumerate(rows):
        rng.shuffle(row)
        chunk = max(1, int(args.rate * _TICK_S))
        for at in range(0, len(row), chunk):
            some = [body(*one) for one in row[at : at + chunk]]
            some += [one for one in some if rng.random() < args.again]
            plant.send(some)
            sent += len(row[at : at + chunk])
            ahead = began + sent / args.rate - time.time()
            if ahead > 0:
                time.sleep(ahead)
        marks.append((step, time.time()))
    plant.finish()
    ended = time.time()
    print(
        json.dumps(
            {
                "sent": sent, "began": began, "ended": ended, "acknowledged": plant.acknowledged,
                "refused": plant.refused, "reconnects": plant.reconnects, "marks": marks,
            }
        )
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
