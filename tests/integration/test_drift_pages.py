"""`pvf drift calibrate`, `report` and `simulate` as people run them, on a lake in a folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from inference.drift.tests.lakes import fill
from inference.drift.tests.parks import SITE, simulated
from pvforecast.lake import Lake
from pvforecast.lake.tables import DRIFT_SCORES, HOLDS

ROOT = Path(__file__).resolve().parents[2]
AS_OF = "2022-07-25T12:00:00Z"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated park of 15 months, with a reference of the first 13."""
    folder = tmp_path_factory.mktemp("home")
    fill(Lake(str(folder / "lake")), simulated("2021-05-01", 396 + 60))
    made = json.loads(pvf(folder, "calibrate", "--until", "2022-06-01T12:00:00Z"))
    assert (made["park_id"], made["kind"], made["status"]) == (SITE.park_id, "full", "made")
    return folder


def run(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PVF_", "K_SINK"))}
    return subprocess.run(
        [sys.executable, "-m", "pvf", "drift", *words], cwd=ROOT, capture_output=True, text=True, timeout=300,
        env={**inherited, "PVF_HOME": str(home), "PVF_LAKE_URI": str(home / "lake")}, check=False,
    )  # fmt: skip


def pvf(home: Path, *words: str) -> str:
    done = run(home, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def told(home: Path, *words: str) -> tuple[dict[str, Any], str]:
    """The JSON that a command printed, and the page that it wrote."""
    said = json.loads(pvf(home, *words, "--as-of", AS_OF, "--out", str(home / f"{words[0]}.html"), "--json"))
    return said, Path(said["page"]).read_text()


def test_a_report_shows_a_healthy_park_with_its_reference_and_plots(home: Path) -> None:
    said, page = told(home, "report", SITE.park_id)
    assert (said["park_id"], said["alarms"]) == (SITE.park_id, [])
    assert said["days"] >= 50
    assert "<h2>Alarms</h2>\n<p>None.</p>" in page
    assert 'src="data:image/' in page
    assert "SIMULATED" not in page


def test_a_simulated_loss_is_found_named_and_leaves_no_trace(home: Path) -> None:
    words = ("--fault", "loss", "--at", "2022-06-15T07:00:00Z", "--size", "0.2")
    said, page = told(home, "simulate", SITE.park_id, *words)
    first = said["alarms"][0]
    assert (first["cause"], first["advice"]) == ("loss_or_soiling", "retrain")
    assert "2022-06-15" <= first["day"] <= "2022-07-10"
    assert "SIMULATED: loss of 0.2 from 2022-06-15" in page
    lake = Lake(str(home / "lake"))
    assert (len(lake.read(DRIFT_SCORES)), len(lake.read(HOLDS))) == (0, 0)


def test_a_simulated_outage_is_found_on_its_first_day(home: Path) -> None:
    said, _ = told(home, "simulate", SITE.park_id, "--fault", "outage", "--at", "2022-06-20T07:00:00Z")
    assert said["alarms"][0]["day"] in ("2022-06-20", "2022-06-21")
    assert said["alarms"][0]["advice"] == "fix_data"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("report", "no-such-park"), "no-such-park"),
        (("simulate", SITE.park_id, "--fault", "moon", "--at", AS_OF), "moon"),
        (("simulate", SITE.park_id, "--fault", "loss", "--at", "yesterday"), "yesterday"),
    ],
)
def test_a_wrong_call_is_named(home: Path, words: tuple[str, ...], named: str) -> None:
    done = run(home, *words)
    assert done.returncode != 0
    assert named in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
