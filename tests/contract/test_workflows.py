"""CI and CD: valid against GitHub's schema, no token wider than its job, all pinned, a person before production."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.contract.tree import ROOT

GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
BIN = Path(sys.executable).parent


def load(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())  # type: ignore[no-any-return]


def jobs() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in WORKFLOWS:
        for name, job in load(path)["jobs"].items():
            yield f"{path.stem}.{name}", job


JOBS = dict(jobs())


def test_they_are_valid_against_github_s_schema() -> None:
    _run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *map(str, WORKFLOWS))


def test_renovate_s_settings_are_valid() -> None:
    _run("check-jsonschema", "--builtin-schema", "vendor.renovate", str(ROOT / "renovate.json"))


def test_an_audit_finds_nothing() -> None:
    _run("zizmor", "--offline", "--no-progress", str(GITHUB))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_no_token_has_rights_but_those_its_job_names(path: Path) -> None:
    assert load(path)["permissions"] == {}
    for name, job in load(path)["jobs"].items():
        writes = {right for right, level in job["permissions"].items() if level == "write"}
        allowed = {"contents"} if path.stem == "deploy" or "deploy.yml" in job.get("uses", "") else {"id-token"}
        assert writes <= allowed, name


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_by_commit_and_say_their_version(path: Path) -> None:
    for used in re.findall(r"uses: (\S+.*)", path.read_text()):
        assert used.startswith("./") or re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", used), used


def test_every_job_ends_some_day() -> None:
    assert [name for name, job in JOBS.items() if "uses" not in job and "timeout-minutes" not in job] == []


def test_production_waits_for_staging_to_answer_and_for_a_person() -> None:
    release = load(GITHUB / "workflows" / "release.yml")["jobs"]
    assert release["build"]["needs"] == "check"
    assert release["production"]["needs"] == "try-staging"
    assert release["try-staging"]["needs"] == "staging"
    assert load(GITHUB / "workflows" / "deploy.yml")["jobs"]["commit"]["environment"] == "${{ inputs.environment }}"
    environments = {one["name"]: one for one in load(GITHUB / "settings.yml")["environments"]}
    assert environments["production"]["reviewers"]
    assert environments["production"]["prevent_self_review"]


def test_every_environment_a_job_names_is_protected() -> None:
    named = {job["environment"] for job in JOBS.values() if "${{" not in job.get("environment", "${{")}
    named |= {job["with"]["environment"] for job in JOBS.values() if "with" in job}
    assert named <= {one["name"] for one in load(GITHUB / "settings.yml")["environments"]}


def test_what_protects_main_is_what_runs() -> None:
    main = next(one for one in load(GITHUB / "settings.yml")["branches"] if one["name"] == "main")["protection"]
    names = {job.get("name") for job in load(GITHUB / "workflows" / "check.yml")["jobs"].values()}
    assert set(main["required_status_checks"]["contexts"]) <= names
    assert main["enforce_admins"]
    assert main["required_pull_request_reviews"]["require_code_owner_reviews"]


def test_every_image_is_built_scanned_signed_and_deployed() -> None:
    build = load(GITHUB / "workflows" / "release.yml")["jobs"]["build"]
    targets = set(re.findall(r"^FROM scratch AS (\w+)$", (ROOT / "images" / "Dockerfile").read_text(), re.MULTILINE))
    assert set(build["strategy"]["matrix"]["image"]) == targets
    steps = [str(step.get("run", step.get("uses"))) for step in build["steps"]]
    order = [next(at for at, step in enumerate(steps) if word in step) for word in ("buildx", "trivy", "cosign sign")]
    assert order == sorted(order)


def test_owners_are_named_for_everything() -> None:
    lines = (GITHUB / "CODEOWNERS").read_text().splitlines()
    owned = [line.split()[0] for line in lines if line and not line.startswith("#")]
    assert owned[0] == "*"
    assert [path for path in owned[1:] if not (ROOT / path.strip("/")).exists()] == []


def test_the_dockerfile_is_clean() -> None:
    _run("hadolint", str(ROOT / "images" / "Dockerfile"))


def _run(program: str, *words: str) -> None:
    done = subprocess.run([BIN / program, *words], capture_output=True, text=True, timeout=120, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
