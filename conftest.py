"""For tests/ and components/ alike. Plugins can be named only here, above all tests."""

from __future__ import annotations

pytest_plugins = ["tests.stack_fixtures", "tests.component_fixtures"]
