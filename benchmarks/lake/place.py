"""A SeaweedFS of its own for one measurement."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pvf.stack.local import Stack
from pvforecast.settings import Settings


@contextmanager
def seaweedfs() -> Iterator[tuple[Settings, Path]]:
    """Settings that lead to it, and a folder; both are gone afterwards."""
    home = Path(tempfile.mkdtemp(prefix="pvf-bench-"))
    home.chmod(0o755)
    try:
        with Stack(home, ["seaweedfs"]) as stack:
            yield stack.settings, home
    finally:
        shutil.rmtree(home, ignore_errors=True)
