"""How runs ended is kept and shown: a failed weekly run must alert, and the next good one ends it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client.core import GaugeMetricFamily

from pipelines import ended, local
from pipelines.client.runs import Run
from pipelines.ended import Ended
from pvf import loop_metrics
from pvf.kept import Kept
from pvforecast.errors import NotReady
from pvforecast.settings import Settings

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)  # a Wednesday


def test_a_failed_run_keeps_when_one_went_well_last(tmp_path: Path) -> None:
    ended.note(tmp_path, "training", failed=False, at=10.0)
    ended.note(tmp_path, "training", failed=True, at=20.0)
    ended.note(tmp_path, "ingestion", failed=False, at=30.0)
    assert ended.here(tmp_path) == {"training": Ended(True, 20.0, 10.0), "ingestion": Ended(False, 30.0, 30.0)}
    ended.note(tmp_path, "training", failed=False, at=40.0)
    assert ended.here(tmp_path)["training"] == Ended(False, 40.0, 40.0)


def test_a_damaged_file_hides_no_other(tmp_path: Path) -> None:
    ended.note(tmp_path, "training", failed=False, at=10.0)
    (tmp_path / "pipelines" / "ingestion.json").write_text('{"failed": tr')
    assert list(ended.here(tmp_path)) == ["training"]


@pytest.mark.parametrize("error", [None, RuntimeError("a task failed"), KeyboardInterrupt()])
def test_a_local_run_notes_how_it_ended_however_it_did(tmp_path: Path, error: BaseException | None) -> None:
    try:
        with local._ending(tmp_path, "training"):
            if error is not None:
                raise error
    except (RuntimeError, KeyboardInterrupt):
        pass
    assert ended.here(tmp_path)["training"].failed == (error is not None)


def _run(state: str, hours: int) -> Run:
    at = NOW + timedelta(hours=hours)
    return Run("r", "n", "training", state, "", "", at, at, "")


def test_of_the_runs_on_a_server_the_newest_that_ended_counts() -> None:
    runs = [_run("RUNNING", 5), _run("CANCELED", 4), _run("FAILED", 3), _run("SUCCEEDED", 2), _run("SUCCEEDED", 1)]
    assert ended.of_runs(runs) == Ended(True, runs[2].finished_at.timestamp(), runs[3].finished_at.timestamp())  # type: ignore[union-attr]
    assert ended.of_runs(runs[:2]) is None


def test_the_next_run_is_the_schedule_s(tmp_path: Path) -> None:
    due = loop_metrics.due(Settings(home=tmp_path), NOW)
    assert due["ingestion"] == datetime(2026, 3, 4, 12, 5, tzinfo=UTC)
    assert due["training"] == datetime(2026, 3, 8, 3, tzinfo=UTC)


def test_metrics_tell_failures_successes_and_what_is_due() -> None:
    made = loop_metrics.families({"training": Ended(True, 20.0, None)}, {"training": NOW})
    values = {(family.name, *sample.labels.values()): sample.value for family in made for sample in family.samples}
    assert values == {
        ("pvf_pipeline_last_run_failed", "training"): 1.0,
        ("pvf_pipeline_next_run_timestamp_seconds", "training"): NOW.timestamp(),
    }


def test_what_cannot_be_read_is_absent_and_what_was_read_is_not_read_at_each_scrape() -> None:
    reads = []

    def read() -> list[GaugeMetricFamily]:
        reads.append(1)
        raise NotReady("the KFP server is away")

    kept = Kept(read)
    assert (list(kept.collect()), list(kept.collect()), len(reads)) == ([], [], 1)
