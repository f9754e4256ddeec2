"""Compiles the pipelines, and each component alone, to KFP YAML. Equal code gives equal bytes."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from kfp import compiler

from pipelines import backfill, ingestion, maintenance, training
from pipelines.profile import DEFAULT, TASKS, Profile

PIPELINES: dict[str, Callable[[Profile], Any]] = {
    "backfill": backfill.build,
    "ingestion": ingestion.build,
    "maintenance": maintenance.build,
    "training": training.build,
}
PUBLISHED = Path(__file__).parent / "published"


@cache
def built_in(name: str) -> Any:
    """Pipeline `name` with the built-in profile.

    Not at import: KFP inspects the call stack at each limit of a task, which within an import takes seconds.
    """
    return PIPELINES[name](DEFAULT)


def compile_one(name: str, file: Path, profile: Profile = DEFAULT) -> Path:
    """Write pipeline `name` to `file`; returns it."""
    pipeline = built_in(name) if profile == DEFAULT else PIPELINES[name](profile)
    file.parent.mkdir(parents=True, exist_ok=True)
    compiler.Compiler().compile(pipeline, str(file))
    return file


def compile_all(folder: Path, profile: Profile = DEFAULT) -> dict[str, Path]:
    """Write ``<name>.yaml`` of each pipeline into `folder`; returns name -> file."""
    return {name: compile_one(name, folder / f"{name}.yaml", profile) for name in PIPELINES}


def compile_components(folder: Path) -> dict[str, Path]:
    """Write ``<name>.yaml`` of each component into `folder`, for pipelines elsewhere; returns name -> file."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for name in sorted(TASKS):
        component = getattr(importlib.import_module(f"components.{name}.component"), name)
        files[name] = folder / f"{name}.yaml"
        compiler.Compiler().compile(component, str(files[name]))
    return files


def publish(folder: Path = PUBLISHED) -> list[Path]:
    """Write pipelines and components below `folder`, in the folder of the image's version; returns the files."""
    image = DEFAULT.image.rpartition(":")[2]
    components = compile_components(folder / image / "components")
    return [*components.values(), *compile_all(folder / image / "pipelines").values()]


def content_hash(file: Path) -> str:
    """The name of a compiled pipeline's content: 12 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12]
