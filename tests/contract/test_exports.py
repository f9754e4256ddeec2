"""The library's public surface. A name that goes or comes is a decision: change it here, and in the changelog."""

from __future__ import annotations

import ast
from typing import TypeGuard

import pytest

from tests.contract.tree import ROOT

PUBLIC = {
    "errors": {
        "BundleError",
        "DataError",
        "InvalidInput",
        "NoChampion",
        "NotEnoughData",
        "NotReady",
        "PromotionConflict",
        "PvForecastError",
        "SpecMismatch",
        "StackError",
        "UnknownPark",
    },
    "features": {
        "DEFAULT_SPEC",
        "FIRST_SPEC",
        "FeatureSpec",
        "Features",
        "WEATHER_ONLY_SPEC",
        "build",
        "build_known",
        "clear_sky_power",
        "daylight",
        "from_weather",
        "horizon",
        "physical_power",
        "with_extra",
    },
    "known": {
        "Floats",
        "HISTORY_DAYS",
        "HOUR",
        "History",
        "Known",
        "PAST",
        "PHYSICAL_VARIABLES",
        "ParkRecord",
        "Past",
        "Times",
        "WEATHER_VARIABLES",
        "WeatherRun",
        "Words",
    },
    "model.bundle": {
        "Bundle",
        "FILES",
        "FORMAT",
        "GOLDEN_TOLERANCE",
        "PREFIX",
        "Quantiles",
        "centre",
        "corrected",
        "from_files",
        "load",
        "save",
    },
    "objects": {"ObjectStore"},
    "settings": {"Settings", "load", "to_env"},
    "site": {"Limit", "PERIODS", "Plane", "Site"},
    "snapshot": {
        "decode",
        "encode",
        "entry_at",
        "keys_of",
        "latest_entry",
        "latest_etags",
        "newest_time",
        "parks",
        "prune",
        "read",
        "write",
    },
}


@pytest.mark.parametrize("module", sorted(PUBLIC))
def test_public_names(module: str) -> None:
    path = ROOT / "pvforecast" / f"{module.replace('.', '/')}.py"
    package = path.with_suffix("") / "__init__.py"
    assert set(_public((package if package.exists() else path).read_text())) == PUBLIC[module]


def _public(source: str) -> list[str]:
    names: list[str] = []
    body = ast.parse(source).body
    reexported = {name for node in body if _is_all(node) for name in ast.literal_eval(node.value)}
    for node in body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.append(name)
            case ast.Assign(targets=targets):
                names += [target.id for target in targets if isinstance(target, ast.Name)]
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.append(name)
            case ast.ImportFrom(names=found) if reexported:
                names += [alias.name for alias in found if alias.name in reexported]
    return [name for name in names if not name.startswith("_") and name != "log"]


def _is_all(node: ast.stmt) -> TypeGuard[ast.Assign]:
    return isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets)
