"""No component reads a clock: what decides about data is the run's `as_of`.

Followed from the bodies of the components through the library, function by function where a module is named below. Each
reading that is left is listed with the reason why no result depends on it; a new one fails here.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.test_imports import _file, _imports
from tests.contract.tree import ROOT

NOW = {"datetime": {"now", "utcnow", "today"}, "Timestamp": {"now", "utcnow", "today"}, "date": {"today"},
       "time": {"time", "time_ns", "localtime", "ctime"}}  # fmt: skip
MADE_OF_NOW = {"datetime64", "Timestamp", "to_datetime"}
HARMLESS = {
    "pvforecast/fleet.py": "when a park was registered; no component registers one",
    "pvforecast/importing/fleets.py": "imports of files are no component",
    "pvforecast/importing/load.py": "imports of files are no component",
    "pvforecast/tracking.py": "start and end of an MLflow run; nothing is computed from them",
    "pvforecast/sources/fetching.py": "how long a server asks to wait, where it names an instant",
    "pvforecast/sources/open_meteo_budget.py": "how much of a quota is left",
    "pvforecast/sources/scada_rest.py": "received_at of rows asked for just now: when they arrived is what it says",
    "pvforecast/sources/json_weather.py": "available_at of a forecast asked for just now, never after the run's as_of",
}


def test_no_body_of_a_component_reads_a_clock() -> None:
    bodies = sorted((ROOT / "components").glob("*/component.py"))
    assert len(bodies) > 10
    assert [path.parent.name for path in bodies if list(_readings(path))] == []


def test_what_components_reach_reads_a_clock_only_where_no_result_depends_on_it() -> None:
    reached = set(_reached())
    assert "pvforecast/shards.py" in reached, "the imports were not followed: the test is broken"
    assert len(reached) > 30
    found = {path for path in reached if any(_readings(ROOT / path))}
    assert {path for path in found if path not in HARMLESS} == set()


def test_the_list_of_harmless_readings_has_nothing_that_is_gone() -> None:
    assert [path for path in HARMLESS if not any(_readings(ROOT / path))] == []


@pytest.mark.parametrize(
    "line",
    [
        "a = datetime.now(UTC)",
        "a = dt.datetime.utcnow()",
        "a = time.time()",
        "a = pd.Timestamp.now('UTC')",
        "a = date.today()",
        "a = np.datetime64('now')",
        "a = time.strftime('%Y')",
    ],
)
def test_a_reading_is_found(tmp_path: Path, line: str) -> None:
    file = tmp_path / "module.py"
    file.write_text(f'"""A text about datetime.now() is no reading."""\n{line}\n')
    assert len(list(_readings(file))) == 1


def _readings(path: Path) -> Iterator[str]:
    """Expressions of a file that read a clock, or are the reading of one; texts and comments are none."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Attribute(value=ast.Name(id=owner) | ast.Attribute(attr=owner), attr=word):
                if word in NOW.get(owner, ()):
                    yield ast.unparse(node)
            case ast.Call(func=ast.Attribute(value=ast.Name(id="time"), attr="strftime"), args=[_]):
                yield ast.unparse(node)
            case ast.Call(func=ast.Attribute(value=ast.Name(id="time"), attr="gmtime"), args=[]):
                yield ast.unparse(node)
            case ast.Call(func=ast.Attribute(attr=word), args=[ast.Constant(value="now" | "today"), *_]):
                if word in MADE_OF_NOW:
                    yield ast.unparse(node)


def _reached() -> Iterator[str]:
    """Files of the library that the components' bodies reach."""
    queue = [name for path in (ROOT / "components").glob("*/component.py") for name in _imports(path)]
    seen = set(queue)
    while queue:
        path = _file(queue.pop())
        if path is None or "pvforecast" not in path.relative_to(ROOT).parts:
            continue
        yield path.relative_to(ROOT).as_posix()
        for name in _imports(path):
            if name not in seen:
                seen.add(name)
                queue.append(name)
