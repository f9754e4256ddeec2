"""Passwords and keys of the local stack: made once, kept in files that only their owner can read."""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from pvf.stack.processes import write_atomically


@dataclass(frozen=True)
class Keyring:
    """Random words: no meaning, no default, different on every machine."""

    s3_access_key: str
    s3_secret_key: str
    postgres_password: str  # of the superuser, used by the stack itself only
    pvf_password: str
    mlflow_password: str

    def __repr__(self) -> str:
        return "Keyring(…)"


def load(directory: Path) -> Keyring:
    """The keys of this data directory, made at the first call."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)
    file = directory / "stack.json"
    if not file.exists():
        made = Keyring(
            s3_access_key=f"pvf-{secrets.token_hex(6)}",
            s3_secret_key=secrets.token_urlsafe(30),
            postgres_password=secrets.token_urlsafe(24),
            pvf_password=secrets.token_urlsafe(24),
            mlflow_password=secrets.token_urlsafe(24),
        )
        write_atomically(file, json.dumps(asdict(made)))
    return Keyring(**json.loads(file.read_text()))
