"""Starting services and gateway takes longer than asking them: all files here ask the same ones, in one process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pvforecast.settings import Settings
from tests.gateway import Place
from tests.gateway import place as gateway_place


@pytest.fixture(scope="package")
def place(infra: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with gateway_place(infra, tmp_path_factory.mktemp("home")) as made:
        yield made
