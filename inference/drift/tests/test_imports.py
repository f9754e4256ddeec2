"""What the job imports of this project must not bring in what its environment cannot hold."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import inference.drift

OURS = ("inference", "pvforecast")
FORBIDDEN = {
    "pydantic",
    "pydantic_settings",
    "kserve",
    "minio",
    "kfp",
    "mlflow",
    "fastapi",
    "components",
    "pipelines",
    "pvf",
}
START = [
    f"inference.drift.{path.stem}"
    for path in Path(inference.drift.__file__).parent.glob("*.py")
    if path.stem != "__init__"
]


def _imports(module: str) -> set[str]:
    spec = importlib.util.find_spec(module)
    assert spec is not None, module
    if spec.origin is None:
        return set()
    found = set()
    for node in ast.walk(ast.parse(Path(spec.origin).read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _closure() -> dict[str, set[str]]:
    """Module of ours -> all it imports, at module level or inside a function."""
    closure: dict[str, set[str]] = {}
    waiting = [*START]
    while waiting:
        module = waiting.pop()
        if module in closure or not _is_module(module):
            continue
        closure[module] = _imports(module)
        parents = {module.rsplit(".", n)[0] for n in range(1, module.count(".") + 1)}
        waiting += [name for name in closure[module] | parents if name.partition(".")[0] in OURS]
    return closure


def test_the_closure_is_free_of_what_the_environment_cannot_hold() -> None:
    closure = _closure()
    assert {"pvforecast.features", "pvforecast.lake.store", "pvforecast.known", "inference"} <= closure.keys()
    found = {
        module: {name for name in names if name.partition(".")[0] in FORBIDDEN} for module, names in closure.items()
    }
    assert {module: names for module, names in found.items() if names} == {}


def test_the_rest_of_inference_is_not_in_it() -> None:
    others = [m for m in _closure() if m.startswith("inference.") and not m.startswith("inference.drift")]
    assert others == []
