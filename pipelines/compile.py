"""Compiles every pipeline to KFP YAML."""

from __future__ import annotations

from pathlib import Path

from kfp import compiler

from pipelines.ingestion import ingestion
from pipelines.maintenance import maintenance
from pipelines.training import training

PIPELINES = {"ingestion": ingestion, "maintenance": maintenance, "training": training}


def compile_all(folder: Path) -> dict[str, Path]:
    """Write ``<name>.yaml`` of each pipeline into `folder`; returns name -> file. Equal code gives equal bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for name, pipeline in PIPELINES.items():
        files[name] = folder / f"{name}.yaml"
        compiler.Compiler().compile(pipeline, str(files[name]))
    return files
