"""Whether `pvf` would take words as its command line.

Typer carries a click of its own: what asks for types of the click that is installed finds none, and passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import typer.main

from pvf.cli import app


@cache
def _program() -> Any:
    return typer.main.get_command(app)


def accepted(words: Sequence[str]) -> str:
    """The command that would run, its options read; fails as the program itself would."""
    command, parent, rest, path = _program(), None, list(words), list[str]()
    while True:
        context = command.make_context(command.name, rest, parent=parent)
        if not hasattr(command, "commands"):
            return " ".join(path)
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        path.append(name)
        parent = context


def unknown(words: Sequence[str]) -> list[str]:
    """Of words that a text names, the commands and options that there are not; placeholders are no matter."""
    command, rest = _program(), list(words)
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        if rest[0] not in command.commands:
            return [rest[0]]
        command = command.commands[rest.pop(0)]
    options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    return [word for word in rest if word.startswith("--") and word.partition("=")[0] not in {*options, "--help"}]
