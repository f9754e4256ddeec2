"""Programs of Debian packages in tests: where they are, and the mark for tests that need them."""

from __future__ import annotations

import pytest

from tools import debian


def program(name: str) -> str:
    """Where a program is (`mosquitto`, `promtool`, `amtool`, `kustomize`, ...); skips the test without it."""
    path = debian.find(name)
    if path is None:
        pytest.skip(f"needs Debian's {debian.PACKAGES.get(name, name)} (`make debian` says how)")
    return str(path)


def requires_debian(*names: str) -> pytest.MarkDecorator:
    """Marks a test that runs these programs; without one of them it is skipped, loudly."""
    missing = [debian.PACKAGES.get(name, name) for name in names if debian.find(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs Debian's {', '.join(missing)} (`make debian` says how)")
