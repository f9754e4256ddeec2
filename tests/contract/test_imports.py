"""Imports point one way, so that each part can be read, tested and shipped without those above it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

MAY_IMPORT = {
    "pvf": {"pipelines", "components", "inference", "pvforecast"},
    "pipelines": {"components", "pvforecast"},
    "components": {"pvforecast"},
    "inference": {"pvforecast"},
    "pvforecast": set(),
    "tools": set(),
    "benchmarks": {"pvf", "pipelines", "components", "inference", "pvforecast", "tools", "tests"},  # tests: its servers
}
OURS = {*MAY_IMPORT, "tests"}
NOT_IN_THE_LIBRARY = {"kfp", "kfp_kubernetes", "kserve", "kubernetes", "fastapi", "uvicorn", "typer", "rich"}
NOT_IN_THE_DRIFT_JOB = {"pydantic", "pydantic_settings", "kserve", "kfp", "mlflow", "fastapi"}


@pytest.mark.parametrize("package", sorted(MAY_IMPORT))
def test_a_package_imports_only_those_below_it(package: str) -> None:
    allowed = MAY_IMPORT[package] | {package}
    wrong = {
        f"{_where(path)} imports {name}"
        for path in _modules(package)
        for name in _imports(path)
        if (top := name.partition(".")[0]) in OURS and top not in allowed
    }
    assert wrong == set()


def test_the_library_knows_no_orchestrator_and_no_server() -> None:
    wrong = {
        f"{_where(path)} imports {name}"
        for path in _modules("pvforecast")
        for name in _imports(path)
        if name.partition(".")[0] in NOT_IN_THE_LIBRARY
    }
    assert wrong == set()


def test_set_up_needs_only_the_standard_library() -> None:
    foreign = {
        f"{_where(path)} imports {name}"
        for path in _modules("tools")
        for name in _imports(path)
        if (top := name.partition(".")[0]) != "tools" and top not in sys.stdlib_module_names
    }
    assert foreign == set()


def test_the_drift_job_reaches_neither_pydantic_nor_kserve() -> None:
    """Alibi Detect pins pydantic 1: what the job reaches, however far down, must do without pydantic."""
    reached = dict(_closure("inference.drift"))
    assert "pvforecast.lake" in reached, "the closure was not followed: the test is broken"
    wrong = {
        " -> ".join(chain) for module, chain in reached.items() if module.partition(".")[0] in NOT_IN_THE_DRIFT_JOB
    }
    assert wrong == set()


def test_the_drift_job_imports_in_its_own_environment() -> None:
    modules = [_dotted(path) for path in _modules("inference/drift") if path.stem != "__main__"]
    program = f"import importlib; [importlib.import_module(name) for name in {modules!r}]"
    python = ROOT / ".venv-drift" / "bin" / "python"
    done = subprocess.run([python, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr


def _modules(package: str) -> list[Path]:
    """The Python files of a package, less tests."""
    files = (ROOT / package).rglob("*.py")
    return sorted(path for path in files if "tests" not in path.relative_to(ROOT).parts)


def _imports(path: Path) -> Iterator[str]:
    """Absolute names of all that a file imports, inside functions too; not what is for the type checker only."""
    for node in _nodes(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = path.relative_to(ROOT).parts[: -node.level]
                base = ".".join((*package, *filter(None, [base])))
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _nodes(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            yield from (inner for branch in node.orelse for inner in _nodes(branch))
            continue
        yield node
        yield from _nodes(node)


def _closure(package: str) -> Iterator[tuple[str, list[str]]]:
    """Every module reached from a package, with the chain of imports that leads to it."""
    start = [_dotted(path) for path in _modules(package.replace(".", "/"))]
    queue = [(name, [name]) for name in start]
    seen = set(start)
    while queue:
        name, chain = queue.pop()
        yield name, chain
        path = _file(name)
        if path is None:
            continue
        # Importing a.b.c runs a and a.b as well.
        parents = {name.rsplit(".", depth)[0] for depth in range(1, name.count(".") + 1)}
        for found in {*_imports(path), *parents}:
            if found not in seen:
                seen.add(found)
                queue.append((found, [*chain, found]))


def _file(name: str) -> Path | None:
    if name.partition(".")[0] not in OURS:
        return None
    path = ROOT.joinpath(*name.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.exists()), None)


def _dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _where(path: Path) -> str:
    return str(path.relative_to(ROOT))
