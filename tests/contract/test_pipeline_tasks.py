"""What each task may use stands in the compiled pipeline, where KFP's driver reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp.kubernetes.kubernetes_executor_config_pb2 import KubernetesExecutorConfig
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec

from pipelines import profile
from pipelines.compile import PIPELINES, compile_all
from pipelines.profile import DEFAULT, TASKS, Limits, Profile
from pvforecast.errors import InvalidInput

OWN = """
image: registry.example/pvforecast/app@sha256:0123
parallelism: 12
node_selector: {pool: batch}
node_selectors: {train: {pool: large, disk: ssd}}
tolerations: [{key: pool, value: batch}, {key: spot, effect: NoExecute}]
labels: {app.kubernetes.io/name: runs}
config_map_files: {authority: /etc/authority}
config_maps: {settings: [PVF_S3_ENDPOINT, PVF_S3_BUCKET]}
secrets: {keys: [PVF_S3_SECRET_KEY]}
tasks:
  train: {cpu: "16", memory: 64Gi, disk: 100Gi, minutes: 300, retries: 3}
"""


class Compiled:
    """A pipeline's IR, by component."""

    def __init__(self, file: Path) -> None:
        spec, platform = yaml.safe_load_all(file.read_text())
        self.spec = json_format.ParseDict(spec, PipelineSpec())
        self.executors = self.spec.deployment_spec["executors"]
        self.kubernetes = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
        for config in self.kubernetes.values():
            json_format.ParseDict(config, KubernetesExecutorConfig())

    def tasks(self) -> dict[str, Any]:
        """Executor label without its prefix -> the task."""
        dags = [self.spec.root.dag, *(c.dag for c in self.spec.components.values() if c.HasField("dag"))]
        made = {}
        for task in (task for dag in dags for task in dag.tasks.values()):
            label = self.spec.components[task.component_ref.name].executor_label
            if label:
                made[label.removeprefix("exec-").replace("-", "_")] = task
        return made

    def container(self, name: str) -> Any:
        return self.executors[f"exec-{name.replace('_', '-')}"]["container"]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Compiled]:
    return {name: Compiled(file) for name, file in compile_all(tmp_path_factory.mktemp("compiled")).items()}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """The training pipeline of an installation that has a profile."""
    folder = tmp_path_factory.mktemp("own")
    file = folder / "profile.yaml"
    file.write_text(OWN)
    return Compiled(compile_all(folder, profile.load(file))["training"])


@pytest.mark.parametrize("name", sorted(PIPELINES))
def test_every_task_has_cpu_memory_scratch_space_and_a_time_limit(name: str, compiled: dict[str, Compiled]) -> None:
    ir = compiled[name]
    for task in ir.tasks():
        limits, resources = TASKS[task], ir.container(task)["resources"]
        assert resources["resourceMemoryLimit"] == resources["resourceMemoryRequest"] == limits.memory
        assert resources["resourceCpuLimit"] == limits.cpu
        assert resources["resourceCpuRequest"] == f"{int(limits.cpu) * 500}m"
        on_node = ir.kubernetes[f"exec-{task.replace('_', '-')}"]
        assert on_node["activeDeadlineSeconds"] == str(limits.minutes * 60)
        assert on_node["emptyDirMounts"] == [
            {"volumeName": "scratch", "mountPath": "/tmp", "sizeLimit": limits.disk}
        ]  # fmt: skip


def test_all_components_are_in_a_pipeline(compiled: dict[str, Compiled]) -> None:
    assert {task for ir in compiled.values() for task in ir.tasks()} == set(TASKS)


def test_retries_have_a_growing_pause_and_stand_only_where_kfp_heeds_them(compiled: dict[str, Compiled]) -> None:
    tasks = compiled["training"].tasks()
    policy = tasks["train"].retry_policy
    assert (policy.max_retry_count, policy.backoff_factor) == (1, 2.0)
    assert (policy.backoff_duration.seconds, policy.backoff_max_duration.seconds) == (30, 600)
    assert tasks["plan"].retry_policy.max_retry_count == 2
    looped = {"ingest_weather", "ingest_generation", "validate", "featurize"}  # the body retries itself
    assert {name for name, task in tasks.items() if not task.HasField("retry_policy")} == looped


def test_only_what_its_inputs_say_all_about_is_cached(compiled: dict[str, Compiled]) -> None:
    cached = {name for ir in compiled.values() for name, t in ir.tasks().items() if t.caching_options.enable_cache}
    assert cached == {"tally"}


def test_an_installation_s_profile_sets_image_nodes_resources_and_parallelism(own: Compiled) -> None:
    images = {own.container(task)["image"] for task in own.tasks()}
    assert images == {"registry.example/pvforecast/app@sha256:0123"}
    assert own.kubernetes["exec-train"]["nodeSelector"] == {"labels": {"pool": "large", "disk": "ssd"}}
    assert own.kubernetes["exec-plan"]["nodeSelector"] == {"labels": {"pool": "batch"}}
    assert own.container("train")["resources"]["resourceMemoryLimit"] == "64Gi"
    for task in own.tasks():
        config = own.kubernetes[f"exec-{task.replace('_', '-')}"]
        assert config["tolerations"] == [
            {"key": "pool", "operator": "Equal", "value": "batch", "effect": "NoSchedule"},
            {"key": "spot", "operator": "Exists", "effect": "NoExecute"},
        ]
        assert config["podMetadata"] == {"labels": {"app.kubernetes.io/name": "runs"}}
        given = {variable["envVar"] for variable in config["configMapAsEnv"][0]["keyToEnv"]}
        assert given == {"PVF_S3_ENDPOINT", "PVF_S3_BUCKET"}
        assert config["configMapAsVolume"][0]["mountPath"] == "/etc/authority"
        assert config["secretAsEnv"][0]["secretName"] == "keys"
    assert own.kubernetes["exec-train"]["activeDeadlineSeconds"] == str(300 * 60)
    assert own.tasks()["train"].retry_policy.max_retry_count == 3
    assert own.container("refit")["resources"]["resourceMemoryLimit"] == TASKS["refit"].memory  # not named: as it was
    loops = [task for task in own.spec.root.dag.tasks.values() if task.WhichOneof("iterator")]
    assert [task.iterator_policy.parallelism_limit for task in loops] == [12]


def test_without_a_profile_no_node_is_asked_for(compiled: dict[str, Compiled]) -> None:
    assert not any("nodeSelector" in config for ir in compiled.values() for config in ir.kubernetes.values())
    assert profile.load(None) is DEFAULT


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("tasks: {trian: {}}", "tasks: no component 'trian' (known: logical_time, plan"),
        ("node_selectors: {trian: {a: b}}", "no component 'trian'"),
        ("tasks: {train: {memory: much}}", "tasks.train.memory: "),
        ("tasks: {train: {gpu: 1}}", "tasks.train.gpu: "),
        ("tasks: {train: {retries: -1}}", "tasks.train.retries: "),
        ("parallelism: 0", "parallelism: "),
        ("pool: batch", "pool: "),
        ("[1]", "is no mapping"),
        ("{", "cannot be read"),
    ],
)
def test_a_profile_is_checked(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "profile.yaml"
    file.write_text(text)
    with pytest.raises(InvalidInput) as caught:
        profile.load(file)
    assert says in str(caught.value)


def test_half_of_the_cpu_is_asked_for() -> None:
    assert [profile._half(cpu) for cpu in ("1", "0.5", "250m", "16")] == ["500m", "250m", "125m", "8000m"]
    assert Profile(tasks={**TASKS, "plan": Limits(cpu="1m")}) != DEFAULT


# --- logical time ---


def test_every_task_takes_its_time_from_the_run(compiled: dict[str, Compiled]) -> None:
    """As an input of its own, in its shard, in its job, or in statuses that were made with it."""
    carriers = {"as_of", "shard", "job", "statuses"}
    for name, ir in compiled.items():
        for task, spec in ir.tasks().items():
            assert carriers & set(spec.inputs.parameters), f"{name}/{task}"


@pytest.mark.parametrize("name", sorted(set(PIPELINES) - {"backfill"}))
def test_the_schedule_s_time_comes_in_where_kfp_s_driver_puts_it_in(name: str, compiled: dict[str, Compiled]) -> None:
    """As a constant input of a task: as a parameter of the run KFP leaves the text as it is."""
    given = compiled[name].tasks()["logical_time"].inputs.parameters
    assert given["scheduled_at"].runtime_value.constant.string_value == "{{$.pipeline_job_schedule_time_utc}}"
    assert given["as_of"].component_input_parameter == "as_of"
