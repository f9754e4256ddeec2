"""API keys of the gateway's clients: several per client, so that one can be replaced while the other still works.

`secrets/api-keys.json` is {"client": [{"key", "made_at", "ends_at", "parks", "groups"}, ...]}; a plain string stands
for a key without an end and without a limit. Envoy compares plain text, so the file's mode guards the keys. A key's id
is the beginning of its SHA-256: it can be told, logged and asked for.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pvf.stack.processes import write_atomically
from pvforecast.errors import InvalidInput

DEFAULT_CLIENT = "desk"
_CLIENT = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")
_KEY = re.compile(r"[A-Za-z0-9._-]{16,200}")
_ID_LENGTH = 8
_FORM = '{"client": ["key", {"key": "...", "made_at": null, "ends_at": null, "parks": [], "groups": []}]}'


@dataclass(frozen=True)
class Key:
    """One key.

    Parameters
    ----------
    key : the secret itself.
    made_at, ends_at : UTC; None where it is not known, or there is no end.
    parks, groups : what it may see; both empty: everything.
    """

    key: str = field(repr=False)
    made_at: datetime | None = None
    ends_at: datetime | None = None
    parks: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return hashlib.sha256(self.key.encode()).hexdigest()[:_ID_LENGTH]

    @property
    def limited(self) -> bool:
        return bool(self.parks or self.groups)

    def holds(self, now: datetime) -> bool:
        return self.ends_at is None or now < self.ends_at

    def principal(self, client: str) -> str:
        """By what name the services behind the gateway know who asks: a limited key has one of its own."""
        return f"{client}#{self.id}" if self.limited else client


Keys = dict[str, list[Key]]


def new_key() -> str:
    """160 random bits, with a beginning by which a leaked one is recognised."""
    return f"pvf_{secrets.token_hex(20)}"


def load(file: Path) -> Keys:
    """All keys by client; at the first call a file with one key for `desk` is made.

    Raises InvalidInput naming the client or the key's place when the file breaks the form above.
    """
    if not file.exists():
        with _locked(file):
            if not file.exists():
                _save(file, {DEFAULT_CLIENT: [Key(new_key(), datetime.now(UTC).replace(microsecond=0))]})
    try:
        found = json.loads(file.read_text())
    except json.JSONDecodeError as error:
        raise InvalidInput(f"{file} is not JSON: {error}", field="api-keys", hint="restore or remove it") from error
    return validate(found)


def validate(keys: object) -> Keys:
    """The keys, when they have the right form and none belongs to two clients; raises InvalidInput otherwise."""
    if not isinstance(keys, dict):
        raise InvalidInput("the top is no object", field="api-keys", hint=_FORM)
    owner: dict[str, str] = {}
    found: Keys = {}
    for client, of_client in keys.items():
        check_client(client)
        if not isinstance(of_client, list):
            raise InvalidInput("not a list of keys", field=f"api-keys.{client}", hint=_FORM)
        found[client] = []
        for place, entry in enumerate(of_client):
            where = f"api-keys.{client}[{place}]"  # never the key itself: this text ends up in logs
            one = _key(entry, where)
            if one.key in owner:
                raise InvalidInput(
                    f"client {owner[one.key]} has the same key",
                    field=where,
                    hint="every key belongs to one client, once",
                )
            owner[one.key] = client
            found[client].append(one)
    return found


def check_client(client: str) -> None:
    """Raises InvalidInput where it is no client's name."""
    if not _CLIENT.fullmatch(client):
        raise InvalidInput(
            f"{client!r} is no client name", field="api-keys", hint="a-z, 0-9, . _ -, at most 40 characters"
        )


def in_force(keys: Mapping[str, Sequence[Key]], now: datetime) -> Keys:
    """Without the keys whose end has come."""
    return {client: [key for key in of_client if key.holds(now)] for client, of_client in keys.items()}


def next_end(keys: Mapping[str, Sequence[Key]], now: datetime) -> datetime | None:
    """When the next of these keys ends."""
    ends = [key.ends_at for of_client in keys.values() for key in of_client if key.ends_at and key.holds(now)]
    return min(ends, default=None)


def add(
    file: Path, client: str, *, parks: Sequence[str] = (), groups: Sequence[str] = (), now: datetime | None = None
) -> Key:
    """Give a client another key, limited to these parks and groups where there are any."""
    made = Key(new_key(), _second(now), parks=tuple(parks), groups=tuple(groups))
    with _changed(file) as keys:
        check_client(client)
        keys.setdefault(client, []).append(made)
    return made


def rotate(
    file: Path, client: str, overlap: timedelta, *, key_id: str | None = None, now: datetime | None = None
) -> tuple[Key, list[Key]]:
    """A new key with the limits of those that it replaces; these hold for `overlap` longer, so that nobody is cut off.

    Parameters
    ----------
    key_id : replace this key only; None replaces all keys of the client that hold.

    Returns
    -------
    The new key, and the old ones with their end.

    Raises
    ------
    InvalidInput
        the client has no such key, or its keys have different limits and none was named.
    """
    moment = _second(now)
    with _changed(file) as keys:
        old = [key for key in keys.get(client, []) if key.holds(moment) and key_id in (None, key.id)]
        if not old:
            what = f"no key {key_id} that holds" if key_id else "no key that holds"
            raise InvalidInput(f"the client {client!r} has {what}", field="client", hint="see them: pvf key list")
        if len({(key.parks, key.groups) for key in old}) > 1:
            names = ", ".join(key.id for key in old)
            raise InvalidInput(f"the keys {names} see different parks", field="client", hint="name one with --key")
        end = moment + overlap
        ended = [replace(key, ends_at=end if key.ends_at is None else min(end, key.ends_at)) for key in old]
        made = Key(new_key(), moment, parks=old[0].parks, groups=old[0].groups)
        by_id = {key.id: key for key in ended}
        keys[client] = [by_id.get(key.id, key) for key in keys[client]] + [made]
    return made, ended


def revoke(file: Path, key: str) -> str:
    """Take a key away, named by its id or by itself; returns whose it was. Raises InvalidInput when nobody has it."""
    with _changed(file) as keys:
        for client, of_client in keys.items():
            left = [one for one in of_client if key not in (one.id, one.key)]
            if len(left) < len(of_client):
                keys[client] = left
                return client
        raise InvalidInput("no client has this key", field="key", hint="see them: pvf key list")


@contextmanager
def _changed(file: Path) -> Iterator[Keys]:
    """The keys, to be changed: stored at the end, unless an error leaves the block."""
    load(file)  # outside the lock: it makes the file under the same one
    with _locked(file):
        keys = load(file)
        yield keys
        _save(file, keys)


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Two programs that change keys at once would each store what the other has not seen."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(file.with_name(f".{file.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _save(file: Path, keys: Keys) -> None:
    plain = {client: [_plain(key) for key in of_client] for client, of_client in keys.items()}
    write_atomically(file, json.dumps(plain, indent=1))


def _plain(key: Key) -> dict[str, Any]:
    values = {name: value for name, value in asdict(key).items() if value}
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()}


def _key(entry: object, where: str) -> Key:
    fields = {"key": entry} if isinstance(entry, str) else entry
    if not isinstance(fields, dict) or not isinstance(fields.get("key"), str) or not _KEY.fullmatch(fields["key"]):
        raise InvalidInput("not a key", field=where, hint="16 to 200 of A-Z, a-z, 0-9, . _ -")
    if strange := set(fields) - {"key", "made_at", "ends_at", "parks", "groups"}:
        raise InvalidInput(f"unknown: {', '.join(sorted(map(str, strange)))}", field=where, hint=_FORM)
    limits = [fields.get(name, []) for name in ("parks", "groups")]
    if not all(isinstance(limit, list) and all(isinstance(name, str) for name in limit) for limit in limits):
        raise InvalidInput("parks and groups are lists of names", field=where, hint=_FORM)
    made_at, ends_at = (_instant(fields.get(name), f"{where}.{name}") for name in ("made_at", "ends_at"))
    return Key(fields["key"], made_at, ends_at, *(tuple(limit) for limit in limits))


def _instant(text: object, where: str) -> datetime | None:
    if text is None:
        return None
    try:
        instant = datetime.fromisoformat(str(text))
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        raise InvalidInput("no ISO instant with offset", field=where, hint="e.g. 2026-01-31T12:00:00+00:00")
    return instant.astimezone(UTC)


def _second(now: datetime | None) -> datetime:
    return (now or datetime.now(UTC)).astimezone(UTC).replace(microsecond=0)
