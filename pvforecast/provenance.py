"""Where a run comes from: which commit, which libraries, and what started it."""

from __future__ import annotations

import hashlib
import os
import platform
from importlib.metadata import distributions
from pathlib import Path

_TREE = Path(__file__).resolve().parent.parent


def git_commit(root: Path = _TREE) -> str:
    """The commit this code is of: `PVF_GIT_COMMIT`, or read from `.git` without a git binary; else ``unknown``."""
    named = os.environ.get("PVF_GIT_COMMIT")
    if named:
        return named
    folder = _git_folder(root)
    head = folder / "HEAD"
    if not head.exists():
        return "unknown"
    text = head.read_text().strip()
    if not text.startswith("ref: "):
        return text
    ref = text.removeprefix("ref: ")
    common = folder / "commondir"
    shared = folder / common.read_text().strip() if common.exists() else folder
    loose, packed = shared / ref, shared / "packed-refs"
    if loose.exists():
        return loose.read_text().strip()
    lines = packed.read_text().splitlines() if packed.exists() else []
    return next((line.split()[0] for line in lines if line.endswith(f" {ref}")), "unknown")


def _git_folder(root: Path) -> Path:
    """Of a worktree or a submodule `.git` is a file that names it."""
    git = root / ".git"
    return root / git.read_text().strip().removeprefix("gitdir: ") if git.is_file() else git


def environment() -> str:
    """Python and every installed distribution with its version, one a line, sorted; equal environments, equal text."""
    installed = {f"{item.metadata['Name'].lower().replace('_', '-')}=={item.version}" for item in distributions()}
    lines = [f"python=={platform.python_version()}", f"machine=={platform.machine()}", *sorted(installed)]
    return "\n".join(lines) + "\n"


def environment_hash(text: str) -> str:
    """First 16 hex digits of the SHA-256 of `environment`."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def trigger(reason: str, event_id: str) -> str:
    """``drift``, ``schedule`` or ``manual``: a drift event has an id, a schedule says that it is one."""
    if event_id:
        return "drift"
    return "schedule" if reason.lower().startswith("schedule") else "manual"
