"""A forecast for people."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from pvf import show

PREDICTION = {
    "park_id": "pvdaq-50",
    "issued_at": "2013-08-10T06:00:00Z",
    "model_version": "3",
    "valid_at": [f"2013-08-10T{hour:02}:00:00Z" for hour in range(10, 16)],
    "power_kw": {
        "0.1": [0.0, 0.0, 0.1, 0.4, 0.7, 1.0],
        "0.5": [0.0, 0.0, 0.2, 0.6, 1.0, 1.5],
        "0.9": [0.0, 0.05, 0.3, 0.8, 1.4, 2.25],
    },
}
ZONE = "America/Denver"


def shown(metered: np.ndarray | None = None) -> list[str]:
    console = Console(width=120)
    with console.capture() as capture:
        console.print(show.table(PREDICTION, ZONE, metered))
    return capture.get().splitlines()


def test_hours_are_shown_in_the_parks_own_time() -> None:
    lines = shown()
    assert "pvdaq-50: issued 2013-08-10T06:00:00Z, model version 3" in " ".join(" ".join(lines).split())
    assert any("Sat 10 Aug 09:00" in line and "1.00" in line and "1.50" in line and "2.25" in line for line in lines)
    assert any("America/Denver" in line for line in lines)


def test_night_is_left_out_and_an_hour_with_any_chance_of_power_is_not() -> None:
    text = "\n".join(shown())
    assert "04:00" not in text
    assert "05:00" in text


def test_what_was_metered_stands_beside_it_and_a_gap_is_a_dash() -> None:
    lines = shown(np.array([0, 0, 0.25, np.nan, 1.1, 1.6]))
    assert any("metered" in line for line in lines)
    six, seven = (next(line for line in lines if f"10 Aug {hour}" in line) for hour in ("06:00", "07:00"))
    assert "0.25" in six
    assert "-" in seven.split("0.80")[1]
    assert not any("metered" in line for line in shown())


@pytest.mark.parametrize("levels", [("0.1", "0.5", "0.9"), ("0.05", "0.1", "0.25", "0.5", "0.75", "0.9", "0.95")])
def test_the_fan_chart_is_a_png_whatever_the_levels(tmp_path: Path, levels: tuple[str, ...]) -> None:
    power = {level: [float(level) * hour for hour in range(6)] for level in levels}
    file = tmp_path / "charts" / "fan.png"
    show.fan_chart({**PREDICTION, "power_kw": power}, ZONE, file, np.arange(6.0))
    assert file.read_bytes().startswith(b"\x89PNG\r\n")
    assert file.stat().st_size > 10_000
