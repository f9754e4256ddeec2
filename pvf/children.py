"""Work that runs as a child process: pipelines, and the drift job in its own environment."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pvforecast.errors import StackError
from pvforecast.settings import Settings, to_env

ROOT = Path(__file__).resolve().parent.parent
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
        subprocess.Popen(
            words,
            cwd=ROOT,
            env={**os.environ, **to_env(settings)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as child,
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
        subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **to_env(settings)}, stdout=subprocess.PIPE, stderr=file, text=True
        ) as child,
    ):
        assert child.stdout is not None
        for line in child.stdout:
            yield json.loads(line)
    if child.returncode != 0:
        last = (log.read_text(errors="replace").strip().splitlines() or ["no output"])[-1]
        raise StackError(f"the drift job failed: {last}", hint=f"its log is {log}")
