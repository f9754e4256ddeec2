"""For tests/ and components/ alike. Plugins can be named only here, above all tests.

The tests of one file run in one process, in their order, because they share servers and what those hold; so do those of
a folder with servers of its own, and those of all components, because each step of the training run stands on the step
before.
"""

from __future__ import annotations

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

pytest_plugins = ["tests.stack_fixtures", "tests.component_fixtures"]

_TOGETHER = ("components/", "tests/integration/protocols/")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return _ByFile(config, log)


class _ByFile(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::")[0]
        return next((folder for folder in _TOGETHER if file.startswith(folder)), file)
