"""What all tests share: see stack_fixtures for real servers."""

from __future__ import annotations

pytest_plugins = ["tests.stack_fixtures"]
