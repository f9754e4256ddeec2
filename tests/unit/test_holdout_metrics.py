"""A champion's scores by park, out of what its run logged."""

from __future__ import annotations

import pytest

from pvf import holdout_metrics


def test_each_park_has_its_scores_and_nothing_else_is_shown() -> None:
    logged = {
        "holdout.a.daylight_nmae": 0.06, "holdout.a.skill": 0.6, "holdout.b.c.daylight_nmae": 0.07,
        "holdout.a.r2": 0.9, "overall/skill": 0.5, "overall/daylight_nmae": 0.065,
    }  # fmt: skip
    made = holdout_metrics.families(logged)
    values = {(family.name, sample.labels["park"]): sample.value for family in made for sample in family.samples}
    assert values == {
        ("pvf_holdout_daylight_nmae", "a"): 0.06,
        ("pvf_holdout_daylight_nmae", "b.c"): 0.07,
        ("pvf_holdout_skill", "a"): 0.6,
    }


def test_of_too_many_parks_the_worst_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holdout_metrics, "MOST_PARKS", 1)
    made = holdout_metrics.families({"holdout.a.daylight_nmae": 0.06, "holdout.b.daylight_nmae": 0.07})
    assert [sample.labels["park"] for family in made for sample in family.samples] == ["b"]
