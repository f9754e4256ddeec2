"""The drift job's environment. Its own tests run there: `make test` calls them beside these."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-drift" / "bin" / "python"


def test_the_environment_holds_what_its_licence_and_pins_ask_for() -> None:
    code = (
        "import importlib.metadata as m;"
        " print(m.version('alibi-detect'), m.version('numpy')[0], m.version('pydantic')[0],"
        " any(d.name.startswith(('nvidia', 'opencv', 'kserve')) for d in m.distributions()))"
    )
    done = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["0.11.4", "1", "1", "False"]  # later alibi-detect is not free for production use
