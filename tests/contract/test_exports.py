"""The library's public surface. A name that goes or comes is a decision: change it here, and in the changelog."""

from __future__ import annotations

import ast

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
        "DAYLIGHT_ELEVATION_DEG",
        "DEFAULT_SPEC",
        "FeatureSpec",
        "Features",
        "WEATHER_DERIVED",
        "WEATHER_ONLY_SPEC",
        "build",
        "build_known",
        "clear_sky_power",
        "daylight",
        "horizon",
        "physical_power",
    },
    "known": {
        "Floats",
        "HISTORY_DAYS",
        "HOUR",
        "History",
        "Known",
        "ParkRecord",
        "Times",
        "WEATHER_VARIABLES",
        "WeatherRun",
        "Words",
    },
    "model.bundle": {"Bundle", "GOLDEN_TOLERANCE", "PREFIX", "Quantiles", "from_files", "load", "save"},
    "objects": {"ObjectStore"},
    "settings": {"Settings", "load", "to_env"},
    "site": {"Limit", "Plane", "Site"},
    "snapshot": {"decode", "encode", "entry_at", "latest_entry", "parks", "read", "write"},
}


@pytest.mark.parametrize("module", sorted(PUBLIC))
def test_public_names(module: str) -> None:
    path = ROOT / "pvforecast" / f"{module.replace('.', '/')}.py"
    assert set(_public(path.read_text())) == PUBLIC[module]


def _public(source: str) -> list[str]:
    names: list[str] = []
    for node in ast.parse(source).body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.append(name)
            case ast.Assign(targets=targets):
                names += [target.id for target in targets if isinstance(target, ast.Name)]
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.append(name)
    return [name for name in names if not name.startswith("_") and name != "log"]
