"""A component is a folder of fixed files around a body of a few lines that calls the library."""

from __future__ import annotations

import ast
import importlib
import re
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import compiler

from components.image import APP_IMAGE
from tests.contract.tree import ROOT
from tools import component_readmes

FOLDERS = sorted(path for path in (ROOT / "components").iterdir() if path.is_dir() and path.name != "__pycache__")
NAMES = [path.name for path in FOLDERS]
MAX_STATEMENTS = 8
METADATA = {"name", "stability", "tags", "dependencies", "lastVerified"}

each = pytest.mark.parametrize("name", NAMES)


def test_the_pipelines_components_are_here() -> None:
    learning = {"train", "evaluate", "compare", "refit", "deploy"}
    loading = {"logical_time", "plan", "ingest_weather", "ingest_generation", "validate", "publish_snapshots", "tally"}
    assert set(NAMES) == loading | {"featurize", "maintain"} | learning


@each
def test_a_folder_has_its_files(name: str) -> None:
    folder = ROOT / "components" / name
    assert [file for file in ("component.py", "README.md", "metadata.yaml") if not (folder / file).is_file()] == []
    assert list((folder / "tests").glob("test_*.py"))


@each
def test_folder_function_and_task_have_one_name(name: str) -> None:
    assert _function(name).name == name
    assert _component(name).name == name.replace("_", "-")


@each
def test_a_body_is_thin(name: str) -> None:
    _docstring, *body = _function(name).body
    assert len([node for line in body for node in ast.walk(line) if isinstance(node, ast.stmt)]) <= MAX_STATEMENTS


@each
def test_a_component_runs_in_the_app_s_image_and_installs_nothing(name: str) -> None:
    container = _component(name).component_spec.implementation.container
    assert container.image == APP_IMAGE
    assert "pip install" not in " ".join(map(str, container.command))


@each
def test_every_parameter_is_described_where_kfp_s_ui_reads_it(name: str) -> None:
    spec = _component(name).component_spec
    assert spec.description
    assert [n for n, given in (spec.inputs or {}).items() if not given.description] == []


@each
def test_the_readme_has_its_sections(name: str) -> None:
    text = _readme(name)
    assert text.startswith(f"# {name}\n")
    assert re.findall(r"^## (.+)$", text, re.M) == ["Inputs and outputs", "In a pipeline", "Writes"]
    links = re.findall(r"\]\((?!https?://)([^)#\s]+)", text)
    assert [link for link in links if not (ROOT / "components" / name / link).exists()] == []


@each
def test_the_example_in_the_readme_compiles(name: str, tmp_path: Path) -> None:
    (example,) = re.findall(r"^```python\n(.*?)^```$", _readme(name), re.M | re.S)
    (function,) = re.findall(r"^def (\w+)\(", example, re.M)
    names: dict[str, Any] = {"__name__": f"example_of_{name}"}
    exec(compile(example, f"components/{name}/README.md", "exec", dont_inherit=True), names)
    compiler.Compiler().compile(names[function], str(tmp_path / "example.yaml"))
    assert f"exec-{name.replace('_', '-')}:" in (tmp_path / "example.yaml").read_text()


@each
def test_metadata_says_how_far_to_trust_it(name: str) -> None:
    metadata = yaml.safe_load((ROOT / "components" / name / "metadata.yaml").read_text())
    assert set(metadata) == METADATA
    assert metadata["name"] == name
    assert metadata["stability"] in ("alpha", "beta", "stable")
    assert metadata["tags"]
    assert {"kfp"} <= set(metadata["dependencies"]["packages"])
    assert set(metadata["dependencies"]["services"]) <= {"lake", "object store", "MLflow", "Postgres", "Kubernetes"}
    assert isinstance(metadata["lastVerified"], date)


def test_readmes_and_versions_are_as_their_sources_say() -> None:
    stale = [path.relative_to(ROOT).as_posix() for path, _ in component_readmes.out_of_date(ROOT)]
    assert stale == [], "run .venv/bin/python -m tools.component_readmes"


def test_the_tool_notices_and_mends(tmp_path: Path) -> None:
    for part in ("components/plan/component.py", "components/plan/README.md", "components/plan/metadata.yaml"):
        (tmp_path / part).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / part, tmp_path / part)
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    body = tmp_path / "components/plan/component.py"
    body.write_text(body.read_text().replace("Options of the source.", "Options, e.g. a planted loss."))
    lock = tmp_path / "requirements/main.txt"
    lock.write_text(re.sub(r"^kfp==\S+", "kfp==9.9.9", lock.read_text(), flags=re.M))
    stale = dict(component_readmes.out_of_date(tmp_path))
    assert {path.name for path in stale} == {"README.md", "metadata.yaml"}
    for path, text in stale.items():
        path.write_text(text)
    assert "| `source_options` | dict | Options, e.g. a planted loss. |" in (body.parent / "README.md").read_text()
    assert '    kfp: "9.9.9"' in (body.parent / "metadata.yaml").read_text()
    assert list(component_readmes.out_of_date(tmp_path)) == []


def test_composing_a_pipeline_needs_kfp_alone() -> None:
    """A body's imports stand inside it: the machine that compiles and submits needs none of them."""
    modules = [f"components.{name}.component" for name in NAMES]
    heavy = ["kserve", "mlflow", "pvforecast", "xgboost", "deltalake", "pandas"]
    program = (
        f"import importlib, sys; [importlib.import_module(name) for name in {modules!r}]; "
        f"print(*[name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def _component(name: str) -> Any:
    return getattr(importlib.import_module(f"components.{name}.component"), name)


def _function(name: str) -> ast.FunctionDef:
    tree = ast.parse((ROOT / "components" / name / "component.py").read_text())
    (function,) = (node for node in tree.body if isinstance(node, ast.FunctionDef))
    return function


def _readme(name: str) -> str:
    return (ROOT / "components" / name / "README.md").read_text()
