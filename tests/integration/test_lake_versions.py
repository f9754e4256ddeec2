"""Versions of tables: what a reference names, what changed between two, and which ones models name."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from pvf import cli
from pvforecast.errors import DataError, InvalidInput
from pvforecast.lake import Lake, versions
from pvforecast.lake.tables import GENERATION, WEATHER, features
from pvforecast.lake.versions import Reference
from pvforecast.objects import ObjectStore

NAME = GENERATION.name
BEGIN = pd.Timestamp("2013-01-30", tz="UTC")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def hours(n: int, park: str = "a", power: float = 1.0) -> pd.DataFrame:
    at = pd.date_range(BEGIN, periods=n, freq="h")
    rows = {"park_id": park, "valid_at": at, "available_at": at, "period_s": np.int32(3600), "power_kw": power}
    return pd.DataFrame({**rows, "completeness": 1.0})


def weather(ghi: float, x_snow: float | None) -> pd.DataFrame:
    row = {"park_id": "a", "source": "nwp", "run_at": BEGIN, "available_at": BEGIN, "valid_at": BEGIN, "ghi": ghi}
    extra = None if x_snow is None else {"x_snow": x_snow}
    return pd.DataFrame([{**row, "period_s": np.int32(3600), "extra": extra}])


def run(lake: Lake, *words: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("PVF_LAKE_URI", lake.uri)
    monkeypatch.setenv("PVF_HOME", str(Path(lake.uri).parent / "home"))
    done = CliRunner().invoke(cli.app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_reference_is_a_table_a_version_and_a_filter(lake: Lake) -> None:
    lake.append_new(GENERATION, hours(30))
    named = versions.reference(
        lake, NAME, parks=("a",), since=BEGIN.to_pydatetime(), until=(BEGIN + pd.Timedelta(hours=3)).to_pydatetime()
    )
    lake.append_new(GENERATION, hours(30, "b"))
    assert named.version == 1
    assert len(versions.read(lake, named)) == 3
    assert Reference.from_dict(json.loads(json.dumps(named.as_dict()))) == named
    with pytest.raises(InvalidInput, match="--by: processed/generation has no time 'run_at'"):
        versions.read(lake, Reference(NAME, 1, since=BEGIN.to_pydatetime(), column="run_at"))


def test_a_bundle_names_its_training_sets(lake: Lake) -> None:
    at = pd.date_range(BEGIN, periods=4, freq="D")
    rows = pd.DataFrame({"park_id": "a", "issued_at": at, "valid_at": at, "target": 0.5, "ghi": np.float32(1)})
    lake.replace_park(features(("ghi",)), "a", rows)
    info = {"data_versions": {"features": 1, NAME: -1}, "parks": ["a"], "trained_until": "2013-02-01T00:00:00"}
    (named,) = versions.of_bundle(info)
    assert named == Reference("features", 1, ("a",), until=datetime(2013, 2, 1, tzinfo=UTC), column="issued_at")
    assert len(versions.read(lake, named)) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [("raw/nothing", "no table 'raw/nothing'"), (f"{NAME}@", "'' is no version"), (f"{NAME}@-1", "'-1' is no version")],
)
def test_a_name_that_can_t_be_is_refused(text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        versions.parse(text)


def test_a_diff_counts_by_key_and_shows_examples(lake: Lake) -> None:
    table = features(("ghi",))

    def rows(n: int, ghi: float) -> pd.DataFrame:
        at = pd.date_range(BEGIN, periods=n, freq="h")
        return pd.DataFrame({"park_id": "a", "issued_at": at, "valid_at": at, "target": np.nan, "ghi": np.float32(ghi)})

    lake.replace_park(table, "a", rows(10, 1.0))
    changed = rows(12, 1.0).iloc[3:]
    lake.replace_park(table, "a", changed.assign(ghi=changed.ghi.where(changed.index > 4, np.float32(2))))
    found = versions.diff(lake, Reference("features", 1), versions.reference(lake, "features"))
    assert {what: found[what] for what in ("added", "removed", "changed")} == {"added": 2, "removed": 3, "changed": 2}
    assert found["examples"]["changed"][0] == {
        "park_id": "a",
        "issued_at": BEGIN + pd.Timedelta(hours=3),
        "valid_at": BEGIN + pd.Timedelta(hours=3),
        "ghi before": 1.0,
        "ghi after": 2.0,
    }  # NaN is as NaN was, and not among them
    until = (BEGIN + pd.Timedelta(hours=4)).to_pydatetime()
    some = versions.diff(lake, Reference("features", 1, until=until), Reference("features", 2, until=until))
    assert (some["added"], some["removed"], some["changed"]) == (0, 3, 1)


def test_a_diff_sees_free_columns(lake: Lake) -> None:
    lake.append(WEATHER, weather(1.0, 0.5))
    assert versions.diff(lake, Reference(WEATHER.name, 1), Reference(WEATHER.name, 1))["changed"] == 0
    delta = lake.delta(WEATHER)
    assert delta is not None
    delta.delete()
    lake.append(WEATHER, weather(1.0, 0.7))
    found = versions.diff(lake, Reference(WEATHER.name, 1), versions.reference(lake, WEATHER.name))
    assert (found["added"], found["removed"], found["changed"]) == (0, 0, 1)
    assert [name for name in found["examples"]["changed"][0] if name.endswith("after")] == ["extra after"]


def test_a_diff_says_which_columns_came(lake: Lake) -> None:
    at = pd.date_range(BEGIN, periods=2, freq="h")
    rows = pd.DataFrame({"park_id": "a", "issued_at": at, "valid_at": at, "target": 0.5, "ghi": np.float32(1)})
    lake.replace_park(features(("ghi",)), "a", rows)
    lake.replace_park(features(("ghi", "poa")), "a", rows.assign(poa=np.float32(1)))
    found = versions.diff(lake, Reference("features", 1), Reference("features", 2))
    assert (found["columns_added"], found["columns_removed"], found["changed"]) == (["poa"], [], 0)


def test_the_command_line_shows_logs_and_compares(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    lake.append_new(GENERATION, hours(3))
    lake.append_new(GENERATION, hours(2, "b"))
    entries = json.loads(run(lake, "data", "log", NAME, "--json", monkeypatch=monkeypatch))
    assert [(entry["version"], entry["rows_added"]) for entry in entries] == [(2, 2), (1, 3), (0, None)]
    shown = json.loads(
        run(lake, "data", "show", f"{NAME}@2", "--park", "a", "--limit", "1", "--json", monkeypatch=monkeypatch)
    )
    assert (shown["rows"], len(shown["shown"])) == (3, 1)
    assert shown["shown"][0]["valid_at"] == "2013-01-30T00:00:00+00:00"
    assert f"3 rows of {NAME}@1" in run(lake, "data", "show", f"{NAME}@1", monkeypatch=monkeypatch)
    said = run(lake, "data", "diff", f"{NAME}@1", monkeypatch=monkeypatch)
    assert f"{NAME}@1 -> @2\nadded    2\n" in said
    assert '"park_id": "b"' in said
    done = json.loads(run(lake, "data", "maintain", "--no-models", "--json", monkeypatch=monkeypatch))
    assert [(row["table"], row["files_after"], row["note"]) for row in done] == [(NAME, 2, "")]


@pytest.mark.stack
def test_versions_are_named_by_promoted_bundles_for_good_and_by_others_for_a_while(infra_store: ObjectStore) -> None:
    for bundle, version in (("promoted", 4), ("other", 7)):
        info = {"data_versions": {NAME: version, "features": version + 1}}
        infra_store.put_json(f"models/bundles/test-{bundle}/bundle.json", info)
    soon, late = datetime.now(UTC) + timedelta(days=1), datetime.now(UTC) + timedelta(days=100)
    assert versions.pinned(infra_store, (), soon, 90)[NAME] >= {4, 7}
    found = versions.pinned(infra_store, {"test-promoted"}, late, 90)
    assert 4 in found[NAME]
    assert 5 in found["features"]
    assert 7 not in found[NAME]
    infra_store.put("models/bundles/test-broken/bundle.json", b"{")
    try:
        with pytest.raises(DataError, match=r"models/bundles/test-broken/bundle\.json does not say"):
            versions.pinned(infra_store, (), soon, 90)
    finally:
        infra_store.put_json("models/bundles/test-broken/bundle.json", {"data_versions": {}})
