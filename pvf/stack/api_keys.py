"""API keys of the gateway's clients: several per client, so that one can be replaced while the other still works.

`secrets/api-keys.json` is {"client": ["key", ...]}; Envoy compares plain text, so the file's mode guards them.
"""

from __future__ import annotations

import json
import re
import secrets
from pathlib import Path

from pvf.stack.processes import write_atomically
from pvforecast.errors import InvalidInput

DEFAULT_CLIENT = "desk"
_CLIENT = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")
_KEY = re.compile(r"[A-Za-z0-9._-]{16,200}")

Keys = dict[str, list[str]]


def new_key() -> str:
    """160 random bits, with a beginning by which a leaked one is recognised."""
    return f"pvf_{secrets.token_hex(20)}"


def load(file: Path) -> Keys:
    """All keys by client; at the first call a file with one key for `desk` is made.

    Raises InvalidInput naming the client or the key's place when the file breaks the form above.
    """
    if not file.exists():
        write_atomically(file, json.dumps({DEFAULT_CLIENT: [new_key()]}, indent=1))
    try:
        found = json.loads(file.read_text())
    except json.JSONDecodeError as error:
        raise InvalidInput(f"{file} is not JSON: {error}", field="api-keys", hint="restore or remove it") from error
    return validate(found)


def validate(keys: object) -> Keys:
    """The keys, when they have the right form and none belongs to two clients; raises InvalidInput otherwise."""
    if not isinstance(keys, dict):
        raise InvalidInput("the top is no object", field="api-keys", hint='{"client": ["key", ...]}')
    owner: dict[str, str] = {}
    for client, of_client in keys.items():
        if not _CLIENT.fullmatch(client):
            raise InvalidInput(
                f"{client!r} is no client name", field="api-keys", hint="a-z, 0-9, . _ -, at most 40 characters"
            )
        if not isinstance(of_client, list):
            raise InvalidInput("not a list of keys", field=f"api-keys.{client}", hint='{"client": ["key", ...]}')
        for place, key in enumerate(of_client):
            where = f"api-keys.{client}[{place}]"  # never the key itself: this text ends up in logs
            if not isinstance(key, str) or not _KEY.fullmatch(key):
                raise InvalidInput("not a key", field=where, hint="16 to 200 of A-Z, a-z, 0-9, . _ -")
            if key in owner:
                raise InvalidInput(
                    f"client {owner[key]} has the same key", field=where, hint="every key belongs to one client, once"
                )
            owner[key] = client
    return keys


def add(file: Path, client: str) -> str:
    """Give a client another key; returns it. Takes effect with `gateway.apply_keys`."""
    key = new_key()
    keys = load(file)
    keys.setdefault(client, []).append(key)
    write_atomically(file, json.dumps(validate(keys), indent=1))
    return key


def revoke(file: Path, key: str) -> str:
    """Take a key away; returns whose it was. Raises InvalidInput when nobody has it."""
    keys = load(file)
    for client, of_client in keys.items():
        if key in of_client:
            of_client.remove(key)
            write_atomically(file, json.dumps(keys, indent=1))
            return client
    raise InvalidInput("no client has this key", field="key", hint=f"see {file}")
