"""The compiled pipelines are what KFP's own protobufs accept, byte for byte the same for the same code."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec.pipeline_spec_pb2 import ComponentSpec, DagSpec, PipelineSpec, PlatformSpec

from pipelines.compile import compile_all

PIPELINES = {"ingestion", "maintenance", "training"}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return compile_all(tmp_path_factory.mktemp("compiled"))


@pytest.fixture(scope="module")
def specs(compiled: dict[str, Path]) -> dict[str, PipelineSpec]:
    return {name: _parse(path) for name, path in compiled.items()}


def test_every_pipeline_is_compiled(compiled: dict[str, Path]) -> None:
    assert set(compiled) >= PIPELINES


def test_every_pipeline_has_tasks_and_says_what_it_does(specs: dict[str, PipelineSpec]) -> None:
    for name, spec in specs.items():
        assert spec.root.dag.tasks, name
        assert spec.pipeline_info.description, name


def test_every_task_has_its_component_and_every_component_its_executor(specs: dict[str, PipelineSpec]) -> None:
    for name, spec in specs.items():
        executors = spec.deployment_spec["executors"]
        dags = [spec.root.dag, *(c.dag for c in spec.components.values() if c.HasField("dag"))]
        for task in (task for dag in dags for task in dag.tasks.values()):
            assert task.component_ref.name in spec.components, f"{name}: {task.task_info.name}"
        for component in spec.components.values():
            if component.executor_label:
                assert component.executor_label in executors, f"{name}: {component.executor_label}"


def test_every_container_runs_a_versioned_image_and_installs_nothing(specs: dict[str, PipelineSpec]) -> None:
    for name, spec in specs.items():
        for label, executor in spec.deployment_spec["executors"].items():
            if "container" not in executor:
                continue
            image = executor["container"]["image"]
            assert ":" in image.rpartition("/")[2], f"{name}/{label}: {image}"
            assert not image.endswith(":latest"), f"{name}/{label}: {image}"
            words = [*executor["container"]["command"], *executor["container"]["args"]]
            assert not any("pip install" in word for word in words), f"{name}/{label}"


def test_loops_are_bounded_and_not_nested(specs: dict[str, PipelineSpec]) -> None:
    for name, spec in specs.items():
        for where, dag in _dags(spec):
            for task in dag.tasks.values():
                if task.WhichOneof("iterator"):
                    assert task.iterator_policy.parallelism_limit > 0, f"{name}/{where}"
                    body = spec.components[task.component_ref.name]
                    assert not _has_loop(spec, body), f"{name}/{where}: a loop in a loop"


def test_equal_code_compiles_to_equal_bytes(compiled: dict[str, Path], tmp_path: Path) -> None:
    again = compile_all(tmp_path)
    assert {name: path.read_bytes() for name, path in again.items()} == {
        name: path.read_bytes() for name, path in compiled.items()
    }


def _parse(path: Path) -> PipelineSpec:
    first, *platform = yaml.safe_load_all(path.read_text())
    for document in platform:
        json_format.ParseDict(document, PlatformSpec())
    return json_format.ParseDict(first, PipelineSpec())  # raises on an unknown field


def _dags(spec: PipelineSpec) -> list[tuple[str, DagSpec]]:
    inner = [(name, c.dag) for name, c in spec.components.items() if c.HasField("dag")]
    return [("root", spec.root.dag), *inner]


def _has_loop(spec: PipelineSpec, component: ComponentSpec) -> bool:
    if not component.HasField("dag"):
        return False
    tasks = component.dag.tasks.values()
    return any(t.WhichOneof("iterator") or _has_loop(spec, spec.components[t.component_ref.name]) for t in tasks)
