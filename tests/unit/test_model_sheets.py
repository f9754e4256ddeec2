"""Model card and data sheet: what they say is what the bundle and its run hold; what is unknown is called so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pvforecast import model_card, model_sheets
from pvforecast.model import bundle as bundles
from tests.bundles import record, site, tiny_bundle

INFO = {
    "trained_until": "2013-06-01T00:00:00",
    "trained_rows": 1234,
    "parks": ["north", "south"],
    "data_versions": {"features": 7, "processed/generation": 12, "processed/weather": -1},
    "git_commit": "abc1234",
    "recipe_hash": "r1",
    "versions": {"xgboost": "3.2.0"},
    "level_changes": {"north": {"at": "2013-03-01", "factor": 0.9}},
}
BUNDLE = replace(tiny_bundle(record(site())), info=INFO)
RUN = {"metrics": {"overall/daylight_nmae": 0.0596, "overall/skill": 0.636}, "tags": {}}
PROMOTED = {"promoted_at": "2013-06-02T00:00:00Z", "verdict": "promote", "actor": "pipeline", "reason": "better by 3 %"}


def test_a_card_names_what_how_good_and_how_it_came_to_serve() -> None:
    text = model_sheets.card(BUNDLE, RUN, [PROMOTED], "version 7")
    assert text.startswith("# Model card: pv-forecast version 7\n")
    for fact in (BUNDLE.bundle_id, BUNDLE.spec.hash, "0.1, 0.5, 0.9", "abc1234", "xgboost 3.2.0", "2, 1234"):
        assert fact in text
    assert "| nMAE by day | 0.0596 |" in text
    assert "promote by pipeline: better by 3 %" in text
    assert "| north | factor 0.900 from 2013-03-01 |" in text


def test_what_is_not_known_is_said() -> None:
    text = model_sheets.card(replace(BUNDLE, info={}))
    assert "Unknown: its run has no scores" in text
    assert "It has not been promoted." in text
    assert "| code | unknown |" in text


def test_a_data_sheet_names_the_versions_to_read_again() -> None:
    text = model_sheets.data_sheet(BUNDLE)
    assert "| `features` | version 7 | issued_at until 2013-06-01 00:00:00+00:00 |" in text
    assert "| `processed/generation` | version 12 |" in text
    assert "processed/weather" not in text
    assert "north, south" in text


def test_every_registered_bundle_gets_both(tmp_path: Path) -> None:
    files = model_card.files(BUNDLE, f"s3://pvf/{bundles.PREFIX}/x", "run")
    assert {model_sheets.CARD, model_sheets.DATA} <= files.keys()
