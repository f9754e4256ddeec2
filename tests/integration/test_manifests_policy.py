"""A policy engine looks at every overlay: what it finds is what is explained, no more and no less."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests import rendered
from tests.rendered import OVERLAYS, ROOT

CHECKOV = ROOT / ".venv-policy" / "bin" / "checkov"
EXCEPTIONS = yaml.safe_load((ROOT / "kustomize" / "policy-exceptions.yaml").read_text())


@pytest.fixture(scope="module")
def checkov() -> Path:
    """In an environment of its own, made at the first call."""
    subprocess.run([sys.executable, "-m", "tools.setup", "--policy"], cwd=ROOT, check=True, timeout=900)
    return CHECKOV


def test_each_exception_has_a_reason_and_a_place() -> None:
    for check, exception in EXCEPTIONS.items():
        assert exception.keys() == {"about", "in", "reason"}, check
        assert exception["in"] == "all" or set(exception["in"]) < set(OVERLAYS), check


@pytest.mark.slow
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_the_policy_engine_finds_is_explained(overlay: str, checkov: Path, tmp_path: Path) -> None:
    file = tmp_path / "rendered.yaml"
    file.write_text(rendered.text(ROOT / "kustomize" / "overlays" / overlay))
    command = [checkov, "--file", file, "--framework", "kubernetes", "--skip-download", "--compact", "--output", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, cwd=tmp_path)
    report = json.loads(done.stdout)
    assert report["summary"]["parsing_errors"] == 0
    assert report["summary"]["passed"] > 500
    found = {failure["check_id"] for failure in report["results"]["failed_checks"]}
    allowed = {check for check, why in EXCEPTIONS.items() if why["in"] == "all" or overlay in why["in"]}
    assert found == allowed, {
        f["check_id"]: (f["check_name"], f["resource"]) for f in report["results"]["failed_checks"]
    }
