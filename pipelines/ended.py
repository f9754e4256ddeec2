"""How the runs of each pipeline ended last: on this machine from a small file each, on a KFP server from its list."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipelines.client.connection import Server
    from pipelines.client.runs import Run

_LOOKED_AT = 50


@dataclass(frozen=True)
class Ended:
    """The newest run of a pipeline that ended, and the newest that ended well.

    Attributes
    ----------
    at, succeeded_at : seconds since 1970, UTC; None where there was none.
    """

    failed: bool
    at: float
    succeeded_at: float | None


def note(home: Path, pipeline: str, *, failed: bool, at: float | None = None) -> None:
    """Keep how a run on this machine ended; of two at once the one that ends later stays."""
    now = datetime.now(UTC).timestamp() if at is None else at
    before = here(home).get(pipeline)
    kept = before.succeeded_at if before else None
    ended = Ended(failed, now, kept if failed else now)
    file = _folder(home) / f"{pipeline}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    scratch = file.with_suffix(f".{os.getpid()}.tmp")
    scratch.write_text(json.dumps(asdict(ended)))
    scratch.replace(file)


def here(home: Path) -> dict[str, Ended]:
    """By pipeline; a file that cannot be read is left out."""
    found = {}
    for file in _folder(home).glob("*.json"):
        try:
            found[file.stem] = Ended(**json.loads(file.read_text()))
        except (OSError, ValueError, TypeError):
            continue
    return found


def on_server(server: Server, experiment_id: str, pipelines: Sequence[str]) -> dict[str, Ended]:
    """By pipeline, of its newest runs."""
    from pipelines.client.runs import listing  # KFP's client takes seconds to import

    found = {name: of_runs(listing(server, experiment_id, pipeline=name, limit=_LOOKED_AT)) for name in pipelines}
    return {name: ended for name, ended in found.items() if ended is not None}


def of_runs(runs: Sequence[Run]) -> Ended | None:
    """How the run that ended last did; None where none has ended. One that was cancelled or skipped says nothing."""
    known = sorted(
        ((at.timestamp(), run.state == "SUCCEEDED") for run in runs
         if run.state in ("SUCCEEDED", "FAILED") and (at := run.finished_at or run.created_at)),
        reverse=True,
    )  # fmt: skip
    if not known:
        return None
    return Ended(not known[0][1], known[0][0], next((at for at, well in known if well), None))


def _folder(home: Path) -> Path:
    return home / "pipelines"
