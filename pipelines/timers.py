"""The schedules as systemd user timers: hourly and weekly runs on a single machine, without a cluster."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipelines.schedules import Schedule
from pvforecast.errors import InvalidInput, StackError

PREFIX = "pvforecast-"
_SECONDS = 60.0


def units(schedules: Sequence[Schedule], command: Sequence[str], environment: Mapping[str, str]) -> dict[str, str]:
    """File name -> content: a service and a timer for each schedule that is not paused.

    A service never runs twice at once. A run missed while the machine was off is made up once, for the newest time that
    was missed; its look-back loads the rest.

    Parameters
    ----------
    command : runs a schedule when its name is added.
    environment : variables of the service; no secrets, because units can be read by everyone.
    """
    made: dict[str, str] = {}
    for schedule in (schedule for schedule in schedules if not schedule.paused):
        about = f"PV forecast: {schedule.pipeline}, every {schedule.every}"
        words = " ".join(_word(word) for word in [*command, schedule.name])
        variables = [f'Environment="{name}={_escaped(value)}"' for name, value in sorted(environment.items())]
        made[f"{PREFIX}{schedule.name}.service"] = "\n".join(
            ["[Unit]", f"Description={about}", "", "[Service]", "Type=oneshot", *variables,
             "EnvironmentFile=-%h/.config/pvforecast.env", f"ExecStart={words}", "TimeoutStartSec=infinity",
             "Nice=10", ""]
        )  # fmt: skip
        made[f"{PREFIX}{schedule.name}.timer"] = "\n".join(
            ["[Unit]", f"Description={about}", "", "[Timer]", f"OnCalendar={schedule.on_calendar}", "Persistent=true",
             "AccuracySec=1s", "", "[Install]", "WantedBy=timers.target", ""]
        )  # fmt: skip
    return made


def folder(environment: Mapping[str, str] | None = None) -> Path:
    """Where systemd looks for a user's units."""
    env = os.environ if environment is None else environment
    return Path(env.get("XDG_CONFIG_HOME") or Path(env.get("HOME", "~")).expanduser() / ".config") / "systemd" / "user"


def write(made: Mapping[str, str], where: Path) -> list[Path]:
    """Write the units that differ, and delete those of schedules that are gone; returns the files that changed.

    Raises
    ------
    InvalidInput
        the folder cannot be written.
    """
    try:
        where.mkdir(parents=True, exist_ok=True)
        gone = [
            file for kind in ("service", "timer") for file in where.glob(f"{PREFIX}*.{kind}") if file.name not in made
        ]
        for file in gone:
            file.unlink()
        changed = [where / name for name, text in made.items() if _text(where / name) != text]
        for file in changed:
            file.write_text(made[file.name])
    except OSError as error:
        raise InvalidInput(
            f"cannot be written: {error.strerror}", field=str(where), hint="--local alone prints"
        ) from error
    return sorted([*gone, *changed])


def commands(made: Mapping[str, str]) -> list[list[str]]:
    """What makes systemd take the units up."""
    timers = sorted(name for name in made if name.endswith(".timer"))
    return [["systemctl", "--user", "daemon-reload"], ["systemctl", "--user", "enable", "--now", *timers]]


def start(made: Mapping[str, str]) -> None:
    """Make systemd take the units up.

    Raises
    ------
    StackError
        systemd does not run for this user, or refuses.
    """
    for words in commands(made):
        try:
            done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=_SECONDS)
            said = done.stderr.strip().splitlines()[-1:] if done.returncode else []
        except (OSError, subprocess.TimeoutExpired) as error:
            done, said = None, [str(error)]
        if done is None or done.returncode:
            hint = "where systemd runs for you: " + "; ".join(shlex.join(words) for words in commands(made))
            raise StackError(f"the units are written, but {words[0]} failed: {' '.join(said)}", hint=hint)


def _word(word: str) -> str:
    """A word of ExecStart: systemd expands % and $ itself."""
    text = word.replace("%", "%%").replace("$", "$$")
    return f'"{_quoted(text)}"' if not text or any(letter in text for letter in " \t\"'\\;") else text


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _escaped(value: str) -> str:
    return _quoted(value.replace("%", "%%"))


def _text(file: Path) -> str:
    return file.read_text() if file.exists() else ""
