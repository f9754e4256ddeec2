"""The drift job's own tests, run in its own environment."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-drift" / "bin" / "python"


def test_the_drift_job_passes_its_tests() -> None:
    assert PYTHON.exists(), "the drift environment is missing: make setup"
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "PVF_", "PYTHONPATH"))}
    done = subprocess.run(
        [PYTHON, "-m", "pytest", "inference/drift/tests", "-q", "-p", "no:cacheprovider"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) > 50
    assert "skipped" not in done.stdout


def test_the_environment_holds_what_its_licence_and_pins_ask_for() -> None:
    code = (
        "import importlib.metadata as m;"
        " print(m.version('alibi-detect'), m.version('numpy')[0], m.version('pydantic')[0],"
        " any(d.name.startswith(('nvidia', 'opencv', 'kserve')) for d in m.distributions()))"
    )
    done = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["0.11.4", "1", "1", "False"]  # later alibi-detect is not free for production use
