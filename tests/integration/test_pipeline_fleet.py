"""A thousand parks stay below what KFP can hand on: the plan, the statuses, the compiled pipelines, and a dry run."""

# No `from __future__ import annotations`: KFP reads the signature of a component as it stands.

import json
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from kfp import dsl, local
from kfp.compiler import Compiler
from kfp.components import load_component_from_text
from kfp.local import subprocess_task_handler

from components.image import APP_IMAGE
from pipelines import training
from pipelines.compile import compile_all
from pipelines.profile import DEFAULT
from pvforecast import fleet, shards
from pvforecast.errors import InvalidInput
from pvforecast.lake import Lake
from pvforecast.settings import Settings, to_env
from pvforecast.sources.pvdaq_samples import PARKS
from tests.contract.tree import ROOT

WORD_BYTES = 128 * 1024  # the longest word of a command line in Linux; KFP hands a task its inputs as one
OBJECT_BYTES = 1024 * 1024  # an Argo workflow lives in one object of Kubernetes' etcd, 1.5 MiB at most
NAMES = [f"solar-park-{number:04d}-north" for number in range(1000)]
SINCE, AS_OF = "2013-07-27T06:00:00+00:00", "2013-08-10T06:00:00+00:00"


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = Lake(str(tmp_path_factory.mktemp("fleet")))
    fleet.register_all(lake, [PARKS[1].model_copy(update={"id": name}) for name in NAMES])
    return lake


def plan(lake: Lake, parks_per_shard: int) -> list[shards.Shard]:
    weather = shards.Weather("open_meteo", {"models": ["icon_eu", "icon_global", "ecmwf_ifs025"]})
    return shards.plan(lake, [], SINCE, AS_OF, "pvdaq_samples", {}, weather, parks_per_shard, {"rounds": 300}, True)


def test_the_plan_of_a_thousand_parks_fits_and_what_would_not_is_refused(lake: Lake) -> None:
    made = plan(lake, 50)
    assert (len(made), sum(len(shard["parks"]) for shard in made)) == (20, 1000)
    assert len(json.dumps(made)) < 40_000
    assert len(json.dumps(plan(lake, 10))) < shards.MOST_BYTES
    with pytest.raises(InvalidInput, match=r"parks_per_shard: 1 makes 1000 shards of .* bytes.*raise it"):
        plan(lake, 1)


def test_statuses_of_a_thousand_failed_parks_fit_into_the_task_that_gathers_them(lake: Lake) -> None:
    def fails(_: object) -> None:
        raise ValueError("x" * 10_000)

    statuses = [shards._each(lake, shard, None, fails) for shard in plan(lake, 50)]
    assert len({park for status in statuses for park in status}) == 1000
    text = json.dumps({"inputs": {"parameterValues": {"statuses": statuses}}})
    assert len(text) < 100_000 < WORD_BYTES
    assert statuses[0][NAMES[0]].startswith("failed: ValueError: xxx")


def test_a_status_is_cut_only_as_far_as_the_fleet_needs(lake: Lake) -> None:
    weather = shards.Weather("pvdaq_samples", {})
    (few,) = shards.plan(lake, NAMES[:10], SINCE, AS_OF, "pvdaq_samples", {}, weather, 50, {}, False)
    assert few["status_length"] == 500
    assert plan(lake, 50)[0]["status_length"] == 67


def test_longer_names_leave_less_to_the_statuses_and_too_many_parks_are_refused() -> None:
    long = [f"{name}-{'x' * 40}" for name in NAMES]
    assert shards._status_length(long) == 26
    thousands = [f"park-{number}" for number in range(4000)]
    with pytest.raises(InvalidInput, match="parks: 4,000 parks in one run"):
        shards._status_length(thousands)


def test_the_compiled_pipelines_are_far_below_the_size_of_an_object(tmp_path: Path) -> None:
    sizes = {name: file.stat().st_size for name, file in compile_all(tmp_path).items()}
    assert max(sizes.values()) < OBJECT_BYTES / 10


class Longest(NamedTuple):
    """The longest word of a command line, and whose."""

    size: int
    task: str


@pytest.mark.parametrize("parks", [60, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_dry_run_hands_every_task_its_inputs(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parks: int
) -> None:
    """The training pipeline with empty bodies; plan, time and tally as they are. Half of the weather fails."""
    for name, component in dry_bodies().items():
        monkeypatch.setattr(training, name, component)
    compiled = tmp_path / "dry.yaml"
    Compiler().compile(training.build(DEFAULT), str(compiled))
    for name, value in to_env(Settings(home=tmp_path, lake_uri=lake.uri)).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    words: list[Longest] = []
    as_it_is = subprocess_task_handler.run_local_subprocess

    def watched(full_command: list[str], **more: Any) -> Any:
        words.append(max(Longest(len(word.encode()), " ".join(full_command)[-60:]) for word in full_command))
        return as_it_is(full_command=full_command, **more)

    monkeypatch.setattr(subprocess_task_handler, "run_local_subprocess", watched)
    monkeypatch.setattr("builtins.print", print)  # kfp.local replaces it, and one shard may put the other's back
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "runs"), raise_on_error=True)
    runnable = compiled.read_text().replace(dsl.PIPELINE_JOB_SCHEDULE_TIME_UTC_PLACEHOLDER, "")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # kfp.local's, for each task: that the image is not a Python one
        task = load_component_from_text(runnable)(as_of=AS_OF, since=SINCE, parks=NAMES[:parks] if parks < 1000 else [])
    assert task.outputs["verdict"] == "keep"
    assert len(task.outputs["job"]["parks"]) == parks
    assert len(words) == -(-parks // 50) * 4 + 6
    assert max(words).size < WORD_BYTES
    if parks == 1000:
        assert max(words).size > 20_000  # it was the inputs that were measured


def dry_bodies() -> dict[str, Any]:
    """Components of the same names and signatures that do nothing."""

    @dsl.component(base_image=APP_IMAGE, install_kfp_package=False)
    def ingest_weather(shard: dict) -> dict:  # type: ignore[type-arg]
        long = ("weather failed: " + 600 * "x")[: int(shard["status_length"])]
        return {park: long if number % 2 else "ok" for number, park in enumerate(shard["parks"])}

    @dsl.component(base_image=APP_IMAGE, install_kfp_package=False)
    def ingest_generation(shard: dict, status: dict) -> dict:  # type: ignore[type-arg]
        return status

    @dsl.component(base_image=APP_IMAGE, install_kfp_package=False)
    def validate(shard: dict, status: dict) -> dict:  # type: ignore[type-arg]
        return status

    @dsl.component(base_image=APP_IMAGE, install_kfp_package=False)
    def featurize(shard: dict, status: dict) -> dict:  # type: ignore[type-arg]
        return status

    @dsl.component(base_image=APP_IMAGE, install_kfp_package=False)
    def train(
        statuses: list,
        as_of: str,
        reason: str,
        event_id: str,
        recipe: dict,
        actor: str,
        pipeline_run: str,  # type: ignore[type-arg]
    ) -> dict:  # type: ignore[type-arg]
        states = {park: state for status in statuses for park, state in status.items()}
        return {"parks": sorted(states), "left_out": {p: s for p, s in states.items() if s != "ok"}, "recipe": recipe}

    @dsl.component(base_image=APP_IMAGE, install_kfp_package=False)
    def evaluate(job: dict) -> dict:  # type: ignore[type-arg]
        return job

    @dsl.component(base_image=APP_IMAGE, install_kfp_package=False)
    def compare(job: dict) -> NamedTuple("Outputs", [("job", dict), ("verdict", str), ("promotes", bool)]):  # type: ignore[type-arg, valid-type]
        return job, "keep", False

    return {
        "ingest_weather": ingest_weather, "ingest_generation": ingest_generation, "validate": validate,
        "featurize": featurize, "train": train, "evaluate": evaluate, "compare": compare,
    }  # fmt: skip
