"""Virtual environments made from requirement files with hashes, and known to be whole.

A stamp inside the environment says what it was made from. It is written last, and a marker stands in its
place while the installation runs: who finds the marker finds an interrupted one, and starts from nothing.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STAMP = ".setup.json"
MARKER = ".setup-unfinished"


@dataclass(frozen=True)
class Environment:
    """One environment: where it is, and the requirement files that are its whole content."""

    name: str
    requirements: tuple[str, ...]
    root: Path = ROOT

    @property
    def folder(self) -> Path:
        return self.root / self.name

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def files(self) -> list[Path]:
        return [self.root / "requirements" / name for name in self.requirements]

    def wanted(self) -> dict[str, str]:
        """What the stamp of a finished environment says.

        Moving the tree or changing the interpreter breaks an environment as surely as new requirements do.
        """
        made_by = Path(__file__).with_name("setup.py")
        files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (*self.files, made_by)}
        python = {"python": sys.version.split()[0], "base": sys.base_prefix}
        return {**files, **python, "folder": str(self.folder)}

    def stamp(self) -> dict[str, str]:
        """What the environment was made from; empty if unknown."""
        try:
            stamp: dict[str, str] = json.loads((self.folder / STAMP).read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return {}
        return stamp

    def is_ready(self) -> bool:
        """Finished, and made from these requirement files as they are now (others on top do no harm)."""
        return self.wanted().items() <= self.stamp().items() and self.python.exists()

    def must_be_made_anew(self) -> bool:
        """Cut short, moved, or made with another interpreter: not to be repaired by installing into it."""
        if not self.folder.exists() or (self.folder / MARKER).exists() or not self.python.exists():
            return True
        wanted, stamp = self.wanted(), self.stamp()
        return any(stamp.get(key, wanted[key]) != wanted[key] for key in ("python", "base", "folder"))

    def install(self, create: Callable[[Path], None], fill: Callable[[Path, Sequence[Path]], None]) -> None:
        """Makes the environment with `create(folder)` where needed, then `fill(python, files)`."""
        if self.must_be_made_anew():
            if self.folder.exists():
                shutil.rmtree(self.folder)
            self.folder.mkdir(parents=True)
            (self.folder / MARKER).touch()
            create(self.folder)
        (self.folder / MARKER).touch()
        (self.folder / STAMP).unlink(missing_ok=True)
        fill(self.python, self.files)
        (self.folder / STAMP).write_text(json.dumps(self.wanted(), indent=1))
        (self.folder / MARKER).unlink()

    def size_mb(self) -> int:
        """What it takes on disk, in MB."""
        return sum(path.lstat().st_size for path in self.folder.rglob("*")) // 1_000_000


def packages_in(files: Sequence[Path]) -> int:
    """How many packages the requirement files pin."""
    lines = (line for path in files for line in path.read_text().splitlines())
    return len({line.split("==")[0] for line in lines if line[:1].isalnum()})
