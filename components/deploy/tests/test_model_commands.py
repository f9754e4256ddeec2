"""`pvf model` on what a training deployed."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from pvf import cli
from pvforecast import clients
from pvforecast.settings import to_env
from tests.component_fixtures import Workshop

pytestmark = pytest.mark.stack


class Pvf:
    """The program with the settings of the workshop: what it printed."""

    def __init__(self, settings: Any, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._patch, self._capsys = patch, capsys
        for name, value in to_env(settings).items():
            patch.setenv(name, value)

    def __call__(self, *words: str, fails: bool = False) -> str:
        self._patch.setattr(sys, "argv", ["pvf", "model", *words])
        code: Any = 0
        try:
            cli.main()
        except SystemExit as ended:
            code = ended.code
        out, err = self._capsys.readouterr()
        assert bool(code) is fails, err
        return err if fails else out

    def json(self, *words: str) -> Any:
        return json.loads(self(*words, "--json"))


@pytest.fixture
def pvf(connected: Workshop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Pvf:
    return Pvf(connected.settings, monkeypatch, capsys)


@pytest.fixture(scope="session")
def second(connected: Workshop, compared: Any, deployed: dict[str, Any]) -> int:
    """Another version, after the one deployed: the challenger, which has not learned from the hold-out."""
    assert deployed["predecessor"] == 0
    tags = {"trained_until": compared.job["holdout_from"]}
    return clients.tracking(connected.settings).register(compared.job["run_id"], compared.job["challenger_uri"], tags)


def test_list_says_what_each_version_is(pvf: Pvf, deployed: dict[str, Any], second: int) -> None:
    rows = {row["version"]: row for row in pvf.json("list")}
    champion = rows[deployed["model_version"]]
    assert (champion["is"], champion["bundle_id"], champion["verdict"]) == (
        "champion",
        deployed["bundle_id"],
        "promote",
    )
    assert champion["hold-out nMAE"].endswith("%")
    assert rows[second]["is"] == ""
    assert "champion" in pvf("list")


def test_show_names_data_reason_and_when_it_served(pvf: Pvf, deployed: dict[str, Any]) -> None:
    number = str(deployed["model_version"])
    text = pvf("show", number)
    for words in ("processed/generation", "a test", "event-1", deployed["bundle_uri"], "overall/skill", "promotion 1"):
        assert words in text
    shown = pvf.json("show", number)
    assert shown["promotions"][0]["id"] == deployed["id"]
    assert shown["run"]["tags"]["trigger"] == "drift"
    assert "there is no version 99" in pvf("show", "99", fails=True)


def test_compare_puts_two_versions_side_by_side_on_the_same_days(
    pvf: Pvf, compared: Any, deployed: dict[str, Any], second: int
) -> None:
    first, since = deployed["model_version"], compared.job["holdout_from"] + "+00:00"
    both = pvf.json("compare", str(first), str(second), "--since", since)
    assert both["learned"] == [first]  # it was refitted on these days
    assert both["loss"][0] < both["loss"][1]
    assert both["interval"][0] < both["difference"] < both["interval"][1]
    assert both["days"] == 28
    assert str(first) in both["says"]
    text = pvf("compare", str(first), str(second), "--since", since)
    assert f"! version {first} has learned from some of these days" in text
    assert "own hold-out: overall/daylight_nmae" in text


def test_compare_needs_days_and_two_versions(pvf: Pvf, deployed: dict[str, Any], second: int) -> None:
    first = str(deployed["model_version"])
    assert "--since: nothing was metered from 2013-08-10" in pvf("compare", first, str(second), fails=True)
    assert "twice" in pvf("compare", first, first, fails=True)


def test_promote_and_rollback_are_one_row_each_that_says_who_and_why(
    pvf: Pvf, connected: Workshop, deployed: dict[str, Any], second: int
) -> None:
    assert f"version {second} " in pvf("promote", str(second), "--reason", "try it", "--actor", "ada")
    tracking = clients.tracking(connected.settings)
    assert tracking.champion_version() == second
    assert f"version {deployed['model_version']} " in pvf("rollback", "--reason", "worse", "--actor", "bob")
    assert tracking.champion_version() == deployed["model_version"]
    rows = pvf.json("history")
    assert [(r["verdict"], r["from"], r["to"], r["by"], r["why"]) for r in rows[:2]] == [
        ("rollback", second, deployed["model_version"], "bob", "worse"),
        ("promote", deployed["model_version"], second, "ada", "try it"),
    ]
    assert rows[-1]["from"] == ""
    assert pvf("reconcile") == "nothing to repair\n"


def test_gc_is_dry_unless_told_and_keeps_what_is_young(pvf: Pvf, deployed: dict[str, Any]) -> None:
    found = pvf.json("gc")
    assert found["dry_run"] is True
    why = {row["bundle_id"]: row["why"] for row in found["bundles"]}
    assert why[deployed["bundle_id"]] == "was promoted"
    assert all(row["kept"] for row in found["bundles"])
    assert f"0 would be deleted, {len(why)} kept" in pvf("gc")
