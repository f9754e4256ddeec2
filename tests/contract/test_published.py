"""The compiled pipelines and components that are published: as the code makes them, and usable without it."""

# No `from __future__ import annotations`: KFP reads the signature of a pipeline as it stands.

import difflib
import shutil
import warnings
from pathlib import Path

import pytest
from kfp import compiler, dsl, local
from kfp.components import load_component_from_file

from pipelines.compile import PUBLISHED, content_hash, publish
from pipelines.profile import DEFAULT, TASKS
from pvforecast import fleet
from pvforecast.lake import Lake
from pvforecast.lake.tables import GENERATION
from pvforecast.settings import Settings, to_env
from pvforecast.sources.pvdaq_samples import PARKS
from tests.contract.tree import ROOT

CURRENT = PUBLISHED / DEFAULT.image.rpartition(":")[2]
AGAIN = "run `pvf pipeline compile --publish` and look at the diff; a released version gets a new number first"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    publish(folder)
    return folder / CURRENT.name


def changes(old: Path, new: Path) -> str:
    """What differs between two folders of YAML, as a diff."""
    names = sorted({path.relative_to(folder) for folder in (old, new) for path in folder.rglob("*.yaml")})
    lines: list[str] = []
    for name in names:
        texts = [(folder / name).read_text() if (folder / name).exists() else "" for folder in (old, new)]
        lines += difflib.unified_diff(
            *(t.splitlines() for t in texts), f"published/{name}", f"now/{name}", n=2, lineterm=""
        )
    return "\n".join(lines)


def test_what_is_published_is_what_the_code_compiles_to(made: Path) -> None:
    found = changes(CURRENT, made)
    assert not found, f"\n{found[:6000]}\n{AGAIN}"


def test_a_change_is_shown_as_a_diff(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    changed = tmp_path / "pipelines" / "ingestion.yaml"
    text = changed.read_text().replace("defaultValue: 0.5", "defaultValue: 0.25")
    assert text != changed.read_text()
    changed.write_text(text)
    shown = changes(made, tmp_path).splitlines()
    assert [line for line in shown if line.startswith(("-  ", "+  "))] == [
        "-        defaultValue: 0.5",
        "+        defaultValue: 0.25",
    ]
    assert content_hash(changed) != content_hash(made / "pipelines" / "ingestion.yaml")


def test_every_component_is_published_alone() -> None:
    assert {path.stem for path in (CURRENT / "components").iterdir()} == set(TASKS)


def test_every_published_component_of_every_version_still_loads() -> None:
    for file in sorted(PUBLISHED.rglob("*.yaml")):
        assert load_component_from_file(str(file)).component_spec.name, file


def test_someone_else_s_pipeline_runs_three_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: Path
) -> None:
    """From the published files alone, on a lake in a folder."""
    weather, generation, validated = (
        load_component_from_file(str(made / "components" / f"{name}.yaml"))
        for name in ("ingest_weather", "ingest_generation", "validate")
    )

    @dsl.pipeline(name="two-days")
    def two_days(shard: dict) -> dict:  # type: ignore[type-arg]
        brought = weather(shard=shard).set_caching_options(False)
        loaded = generation(shard=shard, status=brought.outputs["Output"]).set_caching_options(False)
        return validated(shard=shard, status=loaded.outputs["Output"]).outputs["Output"]  # type: ignore[no-any-return]

    file = tmp_path / "two-days.yaml"
    compiler.Compiler().compile(two_days, str(file))
    lake = Lake(str(tmp_path / "lake"))
    fleet.register(lake, PARKS[1])
    for name, value in to_env(Settings(home=tmp_path, lake_uri=str(tmp_path / "lake"))).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "runs"), raise_on_error=True)
    shard = {
        "parks": ["serf-east"], "since": "2013-08-01T06:00:00+00:00", "until": "2013-08-03T06:00:00+00:00",
        "as_of": "2013-08-03T06:00:00+00:00", "source": "pvdaq_samples", "source_options": {},
        "weather_source": "pvdaq_samples", "weather_options": {},
    }  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # kfp.local's, for each task: that the image is not a Python one
        task = load_component_from_file(str(file))(shard=shard)
    assert task.outputs["Output"] == {"serf-east": "ok"}
    assert 44 <= len(lake.read(GENERATION)) <= 48
