"""One MQTT session: persistent, QoS 1, acknowledged by hand. All of paho is used in this one thread."""

from __future__ import annotations

import logging
import random
import select
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from inference.ingest.inbox import Inbox
from inference.ingest.metrics import Metrics
from inference.ingest.options import Options
from inference.ingest.wire import BufferedClient
from pvforecast.errors import InvalidInput
from pvforecast.quarantine import PAYLOAD_LIMIT
from pvforecast.telemetry.translate import Message

log = logging.getLogger(__name__)

_TAKEN_OVER = 0x8E
_FIRST_PAUSE_S, _LAST_PAUSE_S = 0.5, 15.0
_LONG_S = 60.0  # a connection that lasted so long was a good one
_SUSPICIOUS = 2
_ACKS_A_TURN = 5_000


class Session(threading.Thread):
    """Reads messages into the inbox, acknowledges what `acknowledge` names, and connects again when it must.

    Parameters
    ----------
    url : ``mqtt://host:1883`` or ``mqtts://host:8883``.
    topics : filters to subscribe to.
    """

    def __init__(
        self,
        url: str,
        user: str,
        password: str,
        topics: Sequence[str],
        options: Options,
        inbox: Inbox,
        metrics: Metrics,
    ) -> None:
        super().__init__(name="mqtt", daemon=True)
        parts = urlsplit(url)
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname:
            raise InvalidInput(f"{url!r} is no broker", field="PVF_MQTT_URL", hint="e.g. mqtt://127.0.0.1:1883")
        self._address = (parts.hostname, parts.port or (8883 if parts.scheme == "mqtts" else 1883))
        self._topics = list(dict.fromkeys(topics))
        self._options, self._inbox, self._metrics = options, inbox, metrics
        self._acks: deque[tuple[int, list[int]]] = deque()
        self._open = 0  # messages of this connection that are not acknowledged
        metrics.unacknowledged.set_function(lambda: self._open)
        self._connection = 0
        self._had_session = False
        self._taken_over = False
        self._subscribed = False  # in this connection
        self._short = 0  # connections in a row that ended soon and without a reason
        self._stopping = threading.Event()
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self.connected = False
        self.state = "has not connected yet"
        self._client = self._make_client(user, password, parts.scheme == "mqtts")

    def acknowledge(self, connection: int, packets: list[int]) -> None:
        """These messages are stored: the broker may forget them. From any thread."""
        self._acks.append((connection, packets))
        self._wake()

    def stop(self) -> None:
        """Acknowledge what was named so far, and leave in order; the broker keeps the session."""
        self._stopping.set()
        self._wake()

    def run(self) -> None:
        pause = _FIRST_PAUSE_S
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                self._converse()
            except (OSError, mqtt.WebsocketConnectionError) as error:
                self.state = f"no connection to {self._address[0]}:{self._address[1]}: {error}"
            lasted = time.monotonic() - began
            self._suspect(lasted)
            self._end()
            if self._stopping.is_set():
                break
            self._metrics.disconnects.inc()
            pause = _FIRST_PAUSE_S if lasted > _LONG_S else min(2 * pause, _LAST_PAUSE_S)
            wait = self._options.takeover_pause_s if self._taken_over else pause * random.uniform(0.5, 1.0)
            self._taken_over = False
            log.warning("mqtt: %s; again in %.1f s", self.state, wait)
            self._stopping.wait(wait)

    def _suspect(self, lasted: float) -> None:
        """Brokers should say that another client took the session. Mosquitto 2.0.11 just closes the connection."""
        unexplained = self._subscribed and lasted < _LONG_S and not self._taken_over and not self._stopping.is_set()
        self._short = self._short + 1 if unexplained else 0
        if self._short >= _SUSPICIOUS:
            self._taken(f"probably: the broker closed {self._short} connections in a row without giving a reason")

    def _taken(self, how: str) -> None:
        self._taken_over = True
        self._metrics.takeovers.inc()
        self.state = (
            f"another process took the session of client id {self._options.client_id!r} ({how}): run one service, "
            "or give each its own PVF_MQTT_CLIENT_ID"
        )

    def _converse(self) -> None:
        """From connecting to the loss of the connection."""
        self._connection += 1
        self._inbox.restart(self._connection)
        self._open = 0
        self._subscribed = False
        self._client.reconnect()
        while self._client.wire is not None and self._client.socket() is not None:
            self._turn()
            if self._stopping.is_set() and self._leave():
                return

    def _turn(self) -> None:
        client, wire = self._client, self._client.wire
        assert wire is not None
        client.loop_write()
        sent = wire.flush()
        reading = self._inbox.size < self._options.max_waiting_bytes
        if not (reading and wire.pending()):
            listening: list[Any] = [self._wake_in, *([wire] if reading else [])]
            ready, _, _ = select.select(listening, [] if sent else [wire], [], 0.5 if reading else 0.05)
            if self._wake_in in ready:
                self._wake_in.recv(4096)
            reading = wire in ready
        if reading:
            for _ in range(2_000):  # then acknowledgements have their turn
                if client.loop_read() != mqtt.MQTT_ERR_SUCCESS or not wire.pending():
                    break
        self._send_acks()
        client.loop_misc()
        if client.want_write():
            client.loop_write()
        if client.socket() is not None:
            wire.flush()

    def _send_acks(self) -> None:
        sent = 0
        while self._acks and sent < _ACKS_A_TURN:
            connection, packets = self._acks.popleft()
            if connection != self._connection:
                continue  # of a lost connection: the broker delivers again, under ids of its own choice
            for packet in packets:
                self._client.ack(packet, 1)
            sent += len(packets)
        if sent:
            self._open -= sent
            self._metrics.acknowledged.inc(sent)

    def _leave(self) -> bool:
        if self._acks and self.connected:
            return False
        self._client.disconnect()
        self._client.loop_write()
        return True

    def _end(self) -> None:
        self.connected = False
        self._metrics.connected.set(0)

    def _wake(self) -> None:
        try:
            self._wake_out.send(b"x")
        except BlockingIOError:
            return  # it is awake

    def _make_client(self, user: str, password: str, tls: bool) -> BufferedClient:
        options = self._options
        client = BufferedClient(CallbackAPIVersion.VERSION2, options.client_id, protocol=mqtt.MQTTv5, manual_ack=True)
        if user:
            client.username_pw_set(user, password)
        if tls:
            client.tls_set(ca_certs=str(options.ca_file) if options.ca_file else None, cert_reqs=ssl.CERT_REQUIRED)
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_message, client.on_subscribe = self._on_message, self._on_subscribe
        # So that paho leaves writing to this loop instead of doing it inside of every call.
        client.on_socket_register_write = lambda *_: None
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = options.session_expiry_s
        properties.ReceiveMaximum = options.receive_maximum
        client.connect_async(*self._address, keepalive=options.keepalive_s, clean_start=False, properties=properties)
        return client

    def _on_connect(
        self, client: mqtt.Client, _data: Any, flags: mqtt.ConnectFlags, reason: ReasonCode, _props: Properties | None
    ) -> None:
        if reason.is_failure:
            self.state = f"the broker refuses the connection: {reason}"
            return
        if self._had_session and not flags.session_present:
            self._metrics.sessions_lost.inc()
            log.error("mqtt: the broker lost the session: what was published meanwhile was not kept for this service")
        self._had_session = True
        # Here and not with SUBACK, which comes behind all that the broker kept.
        self.connected, self.state = True, "connected"
        self._subscribed = True
        self._metrics.connected.set(1)
        log.info("mqtt: connected to %s:%d as %s", *self._address, self._options.client_id)
        # Stored values of retained topics are not measurements of now: they are not asked for.
        wanted = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND)
        client.subscribe([(topic, wanted) for topic in self._topics])

    def _on_subscribe(
        self, _client: mqtt.Client, _data: Any, _mid: int, reasons: list[ReasonCode], _props: Properties | None
    ) -> None:
        refused = [f"{t}: {reason}" for t, reason in zip(self._topics, reasons, strict=False) if reason.is_failure]
        if refused:
            self.connected, self.state = False, f"the broker refuses the subscription: {'; '.join(refused)}"
            self._metrics.connected.set(0)
            log.error("mqtt: %s", self.state)

    def _on_disconnect(
        self,
        _client: mqtt.Client,
        _data: Any,
        _flags: mqtt.DisconnectFlags,
        reason: ReasonCode,
        _props: Properties | None,
    ) -> None:
        self.connected = False
        if reason.value == _TAKEN_OVER:
            self._taken("the broker says so")
        elif not self._stopping.is_set() and "refuses" not in self.state:
            self.state = f"the connection was lost: {reason}"

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        payload = bytes(message.payload)
        size = len(payload)
        if size > self._options.max_payload_bytes:
            payload = payload[:PAYLOAD_LIMIT]  # what will be quarantined of it; the rest is let go at once
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ascii(message._topic)
        self._metrics.received.inc()
        self._open += 1
        self._inbox.put(Message(topic, payload, time.time_ns() // 1_000, size, message.retain), message.mid)
