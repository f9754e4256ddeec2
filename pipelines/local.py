"""Runs the compiled YAML of a pipeline on this machine, under `kfp.local`: the same file that a cluster runs.

    python -m pipelines.local training --as-of 2013-08-20T06:00:00+00:00 --reason "by hand"

The last line on stdout is one JSON object: run_id, verdict, model_version, mlflow_run_id. Of the runs' folders in
`$PVF_HOME/runs` the newest are kept, `PVF_RUNS_KEPT` of them.
"""

from __future__ import annotations

import argparse
import builtins
import contextlib
import json
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kfp import dsl, local
from kfp.components import load_component_from_text

from pipelines import ended, profile
from pipelines.arguments import checked
from pipelines.compile import PIPELINES, compile_one
from pvforecast.errors import PvForecastError
from pvforecast.settings import Settings, load
from pvforecast.shards import goes_on

ROOT = Path(__file__).resolve().parent.parent


def run(name: str, arguments: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """Compile pipeline `name` and run that YAML to its end; returns its outputs.

    Raises
    ------
    InvalidInput
        an argument is wrong; nothing was run.
    RuntimeError
        a task failed; the log names it.
    """
    arguments = checked(name, arguments, settings)
    tidy(settings.home.resolve() / "runs", settings.runs_kept - 1)
    root = settings.home.resolve() / "runs" / f"{name}-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{os.getpid()}"
    root.mkdir(parents=True, exist_ok=True)
    # Tasks are child processes: they find this tree and the settings in their environment.
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    os.environ["PVF_HOME"] = str(settings.home.resolve())
    with tempfile.TemporaryDirectory(prefix="pvf-") as scratch:
        compiled = compile_one(name, root / f"{name}.yaml", profile.load(settings.pipeline_profile))
        local.init(
            runner=local.SubprocessRunner(use_venv=False),
            pipeline_root=str(root),
            workspace_root=str(Path(scratch) / "work"),
            raise_on_error=True,
        )
        # kfp.local fails on a placeholder that it does not know; a run here has its as_of and needs no schedule.
        runnable = compiled.read_text().replace(dsl.PIPELINE_JOB_SCHEDULE_TIME_UTC_PLACEHOLDER, "")
        with _ending(settings.home.resolve(), name), _printing_restored():
            task = load_component_from_text(runnable)(**arguments)
    return dict(task.outputs)


@contextlib.contextmanager
def _ending(home: Path, name: str) -> Iterator[None]:
    """Note how a run ended, for `pvf metrics`: a failed one must alert."""
    try:
        yield
    except BaseException:
        ended.note(home, name, failed=True)
        raise
    ended.note(home, name, failed=False)


@contextlib.contextmanager
def _printing_restored() -> Iterator[None]:
    """kfp.local replaces `print` for the time of a task; of two at a time one may put the other's back."""
    printing = builtins.print
    try:
        yield
    finally:
        builtins.print = printing


def training(
    settings: Settings, *, as_of: str, since: str = "", reason: str, event_id: str = "", **more: Any
) -> dict[str, Any]:
    """Run the training pipeline; `model_version` is None where nothing was promoted."""
    outputs = run(
        "training", {"as_of": as_of, "since": since, "reason": reason, "event_id": event_id, **more}, settings
    )
    from pvforecast import clients  # MLflow takes seconds to import, and ingestion does without

    job = outputs["job"]
    promoted = next((p for p in clients.promotions(settings).history() if p.mlflow_run_id == job["run_id"]), None)
    return {
        "run_id": job["run_id"],
        "verdict": outputs["verdict"],
        "reason": job["verdict_reason"],
        "model_version": str(promoted.model_version) if promoted else None,
        "mlflow_run_id": job["run_id"],
        "left_out": job["left_out"],
        "without_generation": job["without_generation"],
    }


def loading(name: str, settings: Settings, *, as_of: str, **more: Any) -> dict[str, Any]:
    """Run `ingestion` or `backfill`; `left_out` names the parks that failed, `without_weather` those that got none."""
    outputs = run(name, {"as_of": as_of, **more}, settings)
    states: dict[str, str] = outputs["Output"]
    return {
        "as_of": as_of,
        "left_out": {park: state for park, state in states.items() if not goes_on(state)},
        "without_weather": {park: state for park, state in states.items() if goes_on(state)},
    }


def tidy(folder: Path, keep: int) -> list[Path]:
    """Delete the folders of all but the newest `keep` runs, and not those of runs that still go on; returns them."""
    found = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime) if folder.is_dir() else []
    old = [path for path in found[: max(0, len(found) - keep)] if path.is_dir() and not _goes_on(path)]
    for path in old:
        shutil.rmtree(path, ignore_errors=True)
    return old


def _goes_on(folder: Path) -> bool:
    pid = folder.name.rpartition("-")[2]
    return pid.isdigit() and Path(f"/proc/{pid}").exists() and int(pid) != os.getpid()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pipelines.local", description=__doc__.split("\n")[0])
    parser.add_argument("pipeline", choices=sorted(PIPELINES))
    parser.add_argument("--as-of", default="", help="ISO instant with offset; every pipeline but maintenance needs it")
    parser.add_argument("--since", default="", help="ISO instant with offset; default: two weeks before as-of")
    parser.add_argument("--reason", default="by hand")
    parser.add_argument("--event-id", default="")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=JSON", help="any other pipeline parameter")
    given = parser.parse_args(argv)
    if not given.as_of and given.pipeline != "maintenance":
        parser.error("the following arguments are required: --as-of")
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    settings = load()
    try:
        more = {name: json.loads(value) for name, _, value in (pair.partition("=") for pair in given.set)}
        # kfp.local prints its log; keep stdout for the one line of the result.
        with contextlib.redirect_stdout(sys.stderr):
            if given.pipeline == "maintenance":
                # Here, and not in a task, a clock may be read.
                as_of = given.as_of or datetime.now(UTC).isoformat(timespec="seconds")
                result = {"files": run("maintenance", {"as_of": as_of, **more}, settings)["Output"]}
            elif given.pipeline == "training":
                result = training(
                    settings, as_of=given.as_of, since=given.since, reason=given.reason, event_id=given.event_id, **more
                )
            else:
                result = loading(given.pipeline, settings, as_of=given.as_of, since=given.since, **more)
    except (PvForecastError, RuntimeError, json.JSONDecodeError) as error:
        print(f"{given.pipeline} failed: {error}", file=sys.stderr)
        return 1
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
