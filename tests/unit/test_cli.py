"""The command line: what is wrong is one line with field and remedy, and exit code 1."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer.main
from typer.testing import CliRunner

from pvf import cli
from pvforecast import fleet
from pvforecast.lake import Lake
from pvforecast.sources.pvdaq_samples import PARKS

ROOT = Path(__file__).resolve().parents[2]
PARK = json.loads(PARKS[0].model_copy(update={"id": "my-roof"}).model_dump_json())


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No stack, no settings: an empty PVF_HOME."""
    for name in [name for name in os.environ if name.startswith("PVF_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PVF_HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.fixture
def lake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Lake:
    monkeypatch.setenv("PVF_LAKE_URI", str(tmp_path / "lake"))
    return Lake(str(tmp_path / "lake"))


def pvf(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Run the program here; exit code, stdout, stderr."""
    monkeypatch.setattr(sys, "argv", ["pvf", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out, printed.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("backtest --train-until 2013-01-01", "--train-until: '2013-01-01' has no UTC offset (e.g. "),
        ("backtest --test-until tomorrow", "--test-until: 'tomorrow' is no ISO instant (e.g. "),
        ("backtest --train-until 2014-06-01T00:00:00+00:00", "--train-until: lies after the end of the test (it must"),
        ("backtest --park nowhere", "park_id: no park 'nowhere' in the lake (list them: "),
        (
            "pipeline run nothing --as-of 2013-01-01T00:00:00Z",
            "NAME: no pipeline 'nothing' (backfill, ingestion, maintenance or training)",
        ),
        ("pipeline run training --as-of yesterday", "--as-of: 'yesterday' is no ISO instant (e.g. "),
        (
            "pipeline run training --as-of 2013-01-01T00:00:00Z --since recently",
            "--since: 'recently' is no ISO instant",
        ),
        ("up --clock sundial", "--clock: 'sundial' is no clock (snapshot or system)"),
        ("park add /nowhere/park.json", "FILE: "),
    ],
)
def test_a_wrong_word_is_named_with_what_would_be_right(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str, says: str
) -> None:
    code, out, err = pvf(monkeypatch, capsys, *words.split())
    assert (code, out) == (1, "")
    assert err.startswith(f"pvf: {says}")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "variable"),
    [
        ("park list", "PVF_S3_ENDPOINT"),
        ("backtest --lake", "PVF_S3_ENDPOINT"),
        ("model list", "PVF_MLFLOW_URI"),
        ("model history", "PVF_POSTGRES_DSN"),
        ("model show 1", "PVF_"),
        ("model compare 1 2", "PVF_"),
        ("model promote 1 --reason test", "PVF_"),
        ("model gc", "PVF_"),
        ("model rollback --reason test", "PVF_"),
        ("model reconcile", "PVF_"),
        ("forecast pvdaq-50", "PVF_GATEWAY_URL"),
        ("drift check --as-of 2013-01-01T00:00:00Z", "PVF_TRIGGER_URL"),
        ("pipeline run training --as-of 2013-01-01T00:00:00Z", "PVF_S3_ENDPOINT"),
        ("pipeline run ingestion --as-of 2013-01-01T00:00:00Z", "PVF_S3_ENDPOINT"),
    ],
)
def test_without_a_stack_the_remedy_is_named_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str, variable: str
) -> None:
    code, out, err = pvf(monkeypatch, capsys, *words.split())
    assert (code, out) == (1, "")
    assert err.startswith(f"pvf: {variable}")
    assert "pvf up" in err
    assert err.count("\n") == 1


def test_a_wrong_setting_is_one_line_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PVF_CLOCK", "sundial")
    code, _, err = pvf(monkeypatch, capsys, "park", "list")
    assert (code, err.count("\n")) == (1, 1)
    assert err.startswith("pvf: PVF_CLOCK: ")


def test_the_program_itself_ends_with_one_line_and_exit_code_1() -> None:
    words = [sys.executable, "-m", "pvf", "pipeline", "run", "nothing", "--as-of", "2013-01-01T00:00:00Z"]
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == "pvf: NAME: no pipeline 'nothing' (backfill, ingestion, maintenance or training)\n"


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, (*path, name))


@pytest.mark.parametrize("path", list(commands(typer.main.get_command(cli.app))), ids=" ".join)
def test_every_command_explains_itself(path: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(cli.app, [*path, "--help"])
    assert shown.exit_code == 0
    assert "Usage:" in shown.output
    text = [line for line in shown.output.splitlines() if line.strip() and "Usage:" not in line]
    assert text[0].strip().rstrip(".")  # says what it does


def test_an_unknown_command_is_a_usage_error() -> None:
    refused = CliRunner().invoke(cli.app, ["predict"])
    assert refused.exit_code == 2
    assert "No such command 'predict'" in refused.output


# --- what works without a server -------------------------------------------------------------------------------------


def test_a_park_is_added_and_listed(lake: Lake, nothing_runs: Path) -> None:
    file = nothing_runs / "park.json"
    file.write_text(json.dumps(PARK))
    added = CliRunner().invoke(cli.app, ["park", "add", str(file)])
    assert (added.exit_code, added.output) == (0, "registered my-roof\n")
    assert [park.id for park in fleet.registered(lake)] == ["my-roof"]
    listed = CliRunner().invoke(cli.app, ["park", "list", "--json"])
    assert [row["id"] for row in json.loads(listed.output)] == ["my-roof"]
    assert "my-roof" in CliRunner().invoke(cli.app, ["park", "list"], env={"COLUMNS": "200"}).output


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"latitude": 95}, "latitude"),
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"ac_capacity_kw": 0}, "ac_capacity_kw"),
        ({"id": "My Roof"}, "id"),
        ({"colour": "blue"}, "colour"),
        ({"surface_azimuth": None}, "surface_azimuth"),
    ],
)
def test_wrong_facts_of_a_park_are_named(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    lake: Lake,
    nothing_runs: Path,
    change: dict[str, object],
    field: str,
) -> None:
    file = nothing_runs / "park.json"
    file.write_text(json.dumps({**PARK, **change}))
    code, _, err = pvf(monkeypatch, capsys, "park", "add", str(file))
    assert (code, err.count("\n")) == (1, 1)
    assert err.startswith(f"pvf: {field}: ")
    assert fleet.registered(lake) == []


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00"])
def test_a_file_that_is_no_park_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], lake: Lake, nothing_runs: Path, text: str
) -> None:
    file = nothing_runs / "park.json"
    file.write_text(text)
    code, _, err = pvf(monkeypatch, capsys, "park", "add", str(file))
    assert (code, err.count("\n")) == (1, 1)
    assert str(file) in err


def test_pipelines_are_compiled_where_one_wants_them(nothing_runs: Path) -> None:
    made = CliRunner().invoke(cli.app, ["pipeline", "compile", str(nothing_runs / "out")])
    assert made.exit_code == 0
    made_names = {file.stem for file in (nothing_runs / "out").iterdir()}
    assert made_names == {"backfill", "ingestion", "maintenance", "training"}
