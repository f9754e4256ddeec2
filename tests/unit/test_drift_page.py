"""The page of a park's drift tells reference, alarms and their causes, and says when a fault was planted."""

from __future__ import annotations

from typing import Any

from pvf.drift_page import page

SERIES: dict[str, Any] = {
    "park_id": "<p>",
    "planted": None,
    "days": ["2013-09-01", "2013-09-02", "2013-09-03"],
    "z": {"level": [0.1, None, -2.0], "clr": [None, None, None]},
    "energy_ratio": [1.0, None, 0.8],
    "scores": {"warn": {"cusum_level": [0.0, 0.0, 9.0]}, "page": {}},
    "alarms": [
        {
            "day": "2013-09-03", "level": "warn", "cause": "loss_or_soiling", "advice": "retrain", "event_id": "e",
            "detectors": ["cusum_level"], "evidence": {"power_ratio": 0.8},
        }
    ],
    "cleared": [{"opened": "2013-09-03", "closed": "2013-09-20"}],
    "reference": {
        "reference_id": "abc", "kind": "full", "first": "2012-01-01", "until": "2013-08-31",
        "thresholds": {"warn": {"cusum_level": 8.0}, "page": {"cusum_level": 15.0}}, "realised": {"warn": 0.4},
    },
}  # fmt: skip


def test_it_names_what_was_found_and_against_what() -> None:
    html = page(SERIES)
    for text in ("reference abc", "loss or soiling", "retrain", "power_ratio 0.8", "2013-09-20", "&lt;p&gt;"):
        assert text in html
    assert html.count("data:image/png;base64,") == 1
    assert "<p>" in html
    assert "Drift of <p>" not in html


def test_a_simulation_says_so_first() -> None:
    html = page({**SERIES, "planted": {"fault": "loss", "at": "2013-09-02T00:00:00Z", "size": None}, "alarms": []})
    assert "SIMULATED: loss from 2013-09-02T00:00:00Z" in html
    assert "None." in html
