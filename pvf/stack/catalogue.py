"""Which parts the platform has, where they listen, and the settings that follow from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from pvf.stack import postgres, seaweedfs
from pvf.stack.keyring import Keyring
from pvf.stack.part import Part
from pvf.stack.ports import Ports
from pvforecast.errors import StackError
from pvforecast.settings import Settings

# in the order they are started and shown
_NEEDS: dict[str, tuple[str, ...]] = {
    "seaweedfs": (),
    "postgres": (),
}
NAMES = tuple(_NEEDS)
BUCKET = "pvf"


def with_needs(names: Sequence[str]) -> tuple[str, ...]:
    """These parts and all that they need. Raises StackError for a name that is no part."""
    wanted = set[str]()
    todo = list(names)
    while todo:
        name = todo.pop()
        if name not in _NEEDS:
            raise StackError(f"{name!r} is no part of the stack", field="parts", hint="one of " + ", ".join(NAMES))
        if name not in wanted:
            wanted.add(name)
            todo += _NEEDS[name]
    return tuple(name for name in NAMES if name in wanted)


@dataclass(frozen=True)
class Plan:
    """What is needed to describe the parts of one data directory."""

    home: Path
    socket_dir: Path
    ports: Ports
    keys: Keyring
    names: tuple[str, ...]

    def settings(self, **overrides: Any) -> Settings:
        """Where everything will listen, for those parts that are asked for."""
        values: dict[str, Any] = {"home": self.home}
        if "seaweedfs" in self.names:
            values |= {
                "s3_endpoint": f"http://127.0.0.1:{self.ports.get('seaweedfs')}",
                "s3_bucket": BUCKET,
                "s3_access_key": SecretStr(self.keys.s3_access_key),
                "s3_secret_key": SecretStr(self.keys.s3_secret_key),
                "lake_uri": f"s3://{BUCKET}/lake",
            }
        if "postgres" in self.names:
            values["postgres_dsn"] = SecretStr(postgres.dsn(self.ports.get("postgres"), "pvf", self.keys.pvf_password))
        return Settings(**(values | overrides))

    def parts(self, settings: Settings) -> list[Part]:
        return [self._part(name, settings) for name in self.names]

    def _part(self, name: str, settings: Settings) -> Part:
        port = self.ports.get(name)
        if name == "seaweedfs":
            data = self.home / "seaweedfs"
            return seaweedfs.part(data, self.socket_dir, port, self.ports, BUCKET, self.keys)
        return postgres.part(self.home, port, self.keys)
