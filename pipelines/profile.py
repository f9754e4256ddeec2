"""What each task may use on a cluster: image, cpu, memory, disk, time, tries, nodes. On one machine none of it applies.

A profile is compiled into the pipeline, so that a version of a pipeline names what it ran with. An installation changes
what it needs in a YAML file (`PVF_PIPELINE_PROFILE`), docs/pipelines.md has an example.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from kfp import kubernetes
from kfp.dsl import PipelineTask
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from components.image import APP_IMAGE
from pvforecast.errors import InvalidInput

SCRATCH = "/tmp"  # the one place a task may write to: its root file system is read-only
_QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|[KMGT]i?)?$"


class Limits(BaseModel):
    """What one task may use.

    Attributes
    ----------
    cpu, memory : Kubernetes quantities. Memory is requested whole, so that a task is not evicted for another's peak;
        half of the cpu is requested, and the rest is used where it is free.
    disk : size limit of the scratch volume, ephemeral storage of the node; beyond it the pod is evicted.
    minutes : after which the pod is ended.
    retries : how often it is tried again, after 30 s, 60 s, ... at most 10 minutes. KFP ignores it inside a loop.
    cached : whether KFP may take the result of an earlier task with equal inputs; only where the inputs say it all.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    cpu: str = Field(default="1", pattern=_QUANTITY)
    memory: str = Field(default="1Gi", pattern=_QUANTITY)
    disk: str = Field(default="1Gi", pattern=_QUANTITY)
    minutes: int = Field(default=10, ge=1)
    retries: int = Field(default=2, ge=0, le=10)
    cached: bool = False


SMALL = Limits()
SHARD = Limits(cpu="1", memory="2Gi", disk="2Gi", minutes=30)
TASKS = {
    "logical_time": SMALL,
    "plan": SMALL,
    "ingest_weather": SHARD,
    "ingest_generation": SHARD,
    # 50 parks with two years of hours take 2 GiB: `make bench NAME=training`.
    "validate": SHARD.model_copy(update={"memory": "4Gi"}),
    "publish_snapshots": SHARD,
    "featurize": SHARD.model_copy(update={"memory": "4Gi", "minutes": 60}),
    "tally": SMALL.model_copy(update={"cached": True}),
    "train": Limits(cpu="4", memory="8Gi", disk="8Gi", minutes=120, retries=1),
    "evaluate": Limits(cpu="2", memory="4Gi", disk="4Gi", minutes=30, retries=1),
    "compare": Limits(cpu="4", memory="8Gi", disk="8Gi", minutes=120, retries=1),
    "refit": Limits(cpu="4", memory="8Gi", disk="8Gi", minutes=120, retries=1),
    # Longer than PVF_ROLLOUT_TIMEOUT_S twice, there and back. A try that was cut off is gone on with.
    "deploy": SMALL.model_copy(update={"minutes": 45, "retries": 1}),
    "maintain": Limits(cpu="2", memory="4Gi", disk="4Gi", minutes=240, retries=1),
}


class Toleration(BaseModel):
    """A taint of nodes that tasks may run on all the same, e.g. of a pool that is taken away at any time."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: str = Field(min_length=1)
    value: str = ""  # empty: whatever it is
    effect: Literal["NoSchedule", "NoExecute", "PreferNoSchedule"] = "NoSchedule"


class Profile(BaseModel):
    """What a cluster gives the pipelines.

    Attributes
    ----------
    image : of every task.
    parallelism : shards at once.
    node_selector : labels that a node must have, of tasks that have none of their own.
    node_selectors : the same by component.
    tolerations : of taints, for every task.
    labels : of every task's pod, e.g. for network policies.
    config_map_files : ConfigMap -> folder that its files are found in.
    config_maps, secrets : object in the runs' namespace -> the variables that each task gets from it, by their names.
    tasks : component -> what it may use.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: str = Field(default=APP_IMAGE, min_length=1)
    parallelism: int = Field(default=4, ge=1, le=100)
    node_selector: dict[str, str] = {}
    node_selectors: dict[str, dict[str, str]] = {}
    tolerations: tuple[Toleration, ...] = ()
    labels: dict[str, str] = {}
    config_map_files: dict[str, str] = {}
    config_maps: dict[str, tuple[str, ...]] = {}
    secrets: dict[str, tuple[str, ...]] = {}
    tasks: dict[str, Limits] = TASKS

    def fit(self, task: PipelineTask, *, looped: bool = False) -> PipelineTask:
        """Give a task its limits.

        Parameters
        ----------
        looped : it stands in a loop, where KFP ignores retries (kubeflow/pipelines#13897): the body retries itself.
        """
        name = task.component_spec.name.replace("-", "_")
        limits = self.tasks[name]
        task.set_container_image(self.image)
        task.set_cpu_request(_half(limits.cpu)).set_cpu_limit(limits.cpu)
        task.set_memory_request(limits.memory).set_memory_limit(limits.memory)
        task.set_caching_options(limits.cached)
        if limits.retries and not looped:
            task.set_retry(
                limits.retries, backoff_duration="30s", backoff_factor=2.0, backoff_max_duration="600s"
            )  # fmt: skip
        kubernetes.set_timeout(task, limits.minutes * 60)
        kubernetes.empty_dir_mount(task, volume_name="scratch", mount_path=SCRATCH, size_limit=limits.disk)
        for label, value in sorted(self.node_selectors.get(name, self.node_selector).items()):
            kubernetes.add_node_selector(task, label, value)
        for one in self.tolerations:
            kubernetes.add_toleration(
                task, one.key, "Equal" if one.value else "Exists", one.value or None, one.effect
            )  # fmt: skip
        for label, value in sorted(self.labels.items()):
            kubernetes.add_pod_label(task, label, value)
        for source, folder in sorted(self.config_map_files.items()):
            kubernetes.use_config_map_as_volume(task, source, folder)
        for source, names in sorted(self.config_maps.items()):
            kubernetes.use_config_map_as_env(task, source, {name: name for name in names})
        for source, names in sorted(self.secrets.items()):
            kubernetes.use_secret_as_env(task, source, {name: name for name in names})
        return task


DEFAULT = Profile()


def load(file: Path | None) -> Profile:
    """The profile in a YAML file, over the built-in one; that itself without a file.

    Raises
    ------
    InvalidInput
        no such file, no YAML, a field or component that does not exist, a value that its field can't have.
    """
    if file is None:
        return DEFAULT
    given = read_yaml(file, "PVF_PIPELINE_PROFILE")
    tasks = given.pop("tasks", None) or {}
    unknown = sorted({*tasks, *(given.get("node_selectors") or {})} - set(TASKS))
    if unknown:
        raise InvalidInput(f"no component {unknown[0]!r}", field=f"{file}: tasks", hint=f"known: {', '.join(TASKS)}")
    try:
        merged = {name: {**limits.model_dump(), **(tasks.get(name) or {})} for name, limits in TASKS.items()}
        return Profile.model_validate({**given, "tasks": merged})
    except (ValidationError, TypeError) as error:
        raise refused(error, file) from error


def read_yaml(file: Path, setting: str) -> dict[str, Any]:
    """The mapping in a YAML file; an empty file is an empty one."""
    try:
        found = yaml.safe_load(file.read_text()) or {}
    except (OSError, yaml.YAMLError) as error:
        raise InvalidInput(f"cannot be read: {error}", field=str(file), hint=f"named by {setting}") from error
    if not isinstance(found, dict):
        raise InvalidInput("is no mapping", field=str(file), hint="see docs/pipelines.md")
    return found


def refused(error: Exception, file: Path) -> InvalidInput:
    """What pydantic found, as one line that names the field."""
    if not isinstance(error, ValidationError):
        return InvalidInput(str(error), field=str(file), hint="see docs/pipelines.md")
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    return InvalidInput(first["msg"], field=f"{file}: {where}", hint="see docs/pipelines.md")


def _half(cpu: str) -> str:
    milli = int(cpu[:-1]) if cpu.endswith("m") else int(float(cpu) * 1000)
    return f"{max(1, milli // 2)}m"
