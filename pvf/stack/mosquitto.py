"""Mosquitto: the MQTT broker, Debian's package. Optional: the local stack runs without it.

Its defaults keep 1,000 messages for an absent service and nothing over a restart; the settings here keep what a plant
sends in a day. Two users: `ingest` reads, `plant` writes; both passwords are in secrets/mqtt.json.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

from pvf.stack.part import Part, bare_env, listens
from pvf.stack.processes import write_atomically
from pvforecast.errors import StackError

NAME = "mosquitto"
READER, WRITER = "ingest", "plant"

# A fleet of 1,000 inverters sends 1.4 million messages a day.
QUEUED_MESSAGES = 2_000_000
MESSAGE_BYTES = 1_048_576  # a telemetry message has 200; a larger one than this is refused, and its sender told

_SETTINGS = """\
# Written at each start of the stack: changes are lost.
listener {port} 127.0.0.1
set_tcp_nodelay true
allow_anonymous false
password_file {folder}/passwords
acl_file {folder}/acl
persistence true
persistence_location {folder}/
autosave_on_changes true
autosave_interval 10000
persistent_client_expiration 14d
max_queued_messages {queued}
max_queued_bytes 0
max_inflight_messages 1000
message_size_limit {message_bytes}
log_dest stdout
log_type error
log_type warning
log_type notice
connection_messages false
"""
_ACL = f"user {READER}\ntopic read #\n\nuser {WRITER}\ntopic write #\n"


@dataclass(frozen=True)
class Passwords:
    """Of the two users."""

    ingest: str
    plant: str

    def __repr__(self) -> str:
        return "Passwords(…)"


def passwords(home: Path) -> Passwords:
    """Made at the first call, kept in a file that only its owner can read."""
    file = home / "secrets" / "mqtt.json"
    if not file.exists():
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(file, json.dumps(asdict(Passwords(secrets.token_urlsafe(24), secrets.token_urlsafe(24)))))
    return Passwords(**json.loads(file.read_text()))


def part(home: Path, port: int, *, message_bytes: int = MESSAGE_BYTES) -> Part:
    """The broker on 127.0.0.1.

    Raises
    ------
    StackError
        the package is not installed.
    """
    folder = home / "mosquitto"
    program, hasher = find("mosquitto"), find("mosquitto_passwd")
    if program is None or hasher is None:
        raise StackError(
            "the MQTT broker is not installed", field=NAME, hint="apt-get install mosquitto, or leave telemetry out"
        )

    def prepare() -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        known = passwords(home)
        text = _SETTINGS.format(port=port, folder=folder, queued=QUEUED_MESSAGES, message_bytes=message_bytes)
        # As root it would become `mosquitto`, who can't look into the data directory.
        text += "user root\n" if os.geteuid() == 0 else ""
        write_atomically(folder / "mosquitto.conf", text)
        write_atomically(folder / "acl", _ACL)
        hashed = folder / "passwords.new"
        write_atomically(hashed, f"{READER}:{known.ingest}\n{WRITER}:{known.plant}\n")
        subprocess.run([hasher, "-U", str(hashed)], check=True, capture_output=True)
        hashed.rename(folder / "passwords")

    return Part(
        NAME,
        (program, "-c", str(folder / "mosquitto.conf")),
        lambda: listens(port),
        url=f"mqtt://127.0.0.1:{port}",
        env=bare_env(),
        prepare=prepare,
        cwd=home,
        start_deadline_s=60.0,  # it reads what it kept
        stop_deadline_s=30.0,  # and writes it
    )


def find(program: str) -> str | None:
    """Debian puts servers where an ordinary user's PATH does not look."""
    return shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")
