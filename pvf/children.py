"""Work that runs as a child process: pipelines, and the drift job in its own environment."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from pvf.stack import processes
from pvforecast.errors import StackError
from pvforecast.settings import Settings, to_env

ROOT = Path(__file__).resolve().parent.parent
_STOP_DEADLINE_S = 5.0
_TASK = re.compile(r"Task \S*'([\w-]+)'\S* finished with status \S*?(SUCCESS|FAILURE)")


def pipeline(
    name: str, settings: Settings, arguments: dict[str, Any], on_task: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Run a pipeline under `kfp.local`; returns the JSON object it ends with.

    Parameters
    ----------
    arguments : as_of, since, reason, event_id, and any other pipeline parameter.
    on_task : gets the name of each task that finished.

    Raises
    ------
    StackError
        it failed; names the log.
    """
    words = [sys.executable, "-m", "pipelines.local", name]
    for key, value in arguments.items():
        if key in ("as_of", "since", "reason", "event_id"):
            words += [f"--{key.replace('_', '-')}", str(value)]
        else:
            words += ["--set", f"{key}={json.dumps(value)}"]
    log = settings.home / "log" / f"pipeline-{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        log.open("ab") as file,
        _started(words, settings, stderr=subprocess.PIPE) as child,
    ):
        assert child.stdout is not None
        assert child.stderr is not None
        for line in child.stderr:
            file.write(line.encode())
            finished = _TASK.search(line)
            if finished:
                on_task(finished[1])
        output = child.stdout.read()
    if child.returncode != 0:
        last = log.read_text(errors="replace").strip().splitlines()[-1]
        raise StackError(f"the pipeline {name} failed: {last}", hint=f"its log is {log}")
    result: dict[str, Any] = json.loads(output.strip().splitlines()[-1])
    return result


def drift(settings: Settings, *words: str) -> Iterator[dict[str, Any]]:
    """Run the drift job in its own environment; yields its JSON lines as they come.

    Raises
    ------
    StackError
        its environment is missing, or it failed.
    """
    python = Path(os.environ.get("PVF_DRIFT_PYTHON", ROOT / ".venv-drift" / "bin" / "python"))
    if not python.exists():
        raise StackError(f"the drift job's environment is missing: {python}", hint="make it: make setup")
    log = settings.home / "log" / "drift.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [str(python), "-m", "inference.drift", *words, "--lake-uri", settings.lake_uri, "--json"]
    with (
        log.open("ab") as file,
        _started(command, settings, stderr=file) as child,
    ):
        assert child.stdout is not None
        for line in child.stdout:
            yield json.loads(line)
    if child.returncode != 0:
        last = (log.read_text(errors="replace").strip().splitlines() or ["no output"])[-1]
        raise StackError(f"the drift job failed: {last}", hint=f"its log is {log}")


@contextmanager
def _started(words: list[str], settings: Settings, stderr: IO[bytes] | int) -> Iterator[subprocess.Popen[str]]:
    """A child in a session of its own, whose tasks belong to it: when the caller leaves early, all of it ends."""
    with subprocess.Popen(
        words,
        cwd=ROOT,
        env={**os.environ, **to_env(settings)},
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        start_new_session=True,
    ) as child:
        try:
            yield child
        except BaseException:
            _end(child)
            raise


def _end(child: subprocess.Popen[str]) -> None:
    found = processes.stat(child.pid)
    if found is None:
        return
    entry = processes.Entry("child", child.pid, found.started, stage=0, stop_deadline_s=_STOP_DEADLINE_S)
    processes.stop([entry])
