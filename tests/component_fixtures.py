"""Each step of a training run by the component itself, on sixty real days of two parks.

A step needs what the steps before it made, so the fixtures stand in the order of the pipeline. Steps up to `featurized`
need only a folder; from `trained` on they use SeaweedFS, Postgres and MLflow.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from kfp import dsl

from components.compare.component import compare
from components.deploy.component import deploy
from components.evaluate.component import evaluate
from components.featurize.component import featurize
from components.ingest_generation.component import ingest_generation
from components.ingest_weather.component import ingest_weather
from components.plan.component import plan
from components.refit.component import refit
from components.train.component import train
from components.validate.component import validate
from pvf.stack.local import Stack
from pvforecast import fleet, wiring
from pvforecast.lake import Lake
from pvforecast.settings import Settings, to_env
from pvforecast.sources.pvdaq_samples import PARKS
from tests.stack_fixtures import new_home

SINCE, AS_OF = "2013-06-11T06:00:00+00:00", "2013-08-10T06:00:00+00:00"
QUICK = {"rounds": 40, "eta": 0.15, "max_depth": 4, "min_child_weight": 5.0, "calibration_folds": 2}
"""A recipe that fits in a second and still beats smart persistence."""


@dataclass
class Workshop:
    """A lake with both sample parks, and the settings that lead to it."""

    settings: Settings
    folder: Path
    artifacts: dict[str, Any] = field(default_factory=dict)

    @property
    def lake(self) -> Lake:
        return wiring.lake(self.settings)

    def call(self, component: Any, *outputs: type[dsl.Artifact], **arguments: Any) -> Any:
        """Run the body of `component` as its task would: settings in the environment, artifacts at local paths.

        Parameters
        ----------
        outputs : classes of the artifacts it writes, kept in `artifacts` under ``<component>.<name>``.
        """
        names = [n for n, spec in (component.component_spec.outputs or {}).items() if spec.type.startswith("system.")]
        for name, kind in zip(names, outputs, strict=True):
            arguments[name] = kind(name=name, uri=str(self.folder / component.name / name))
            self.artifacts[f"{component.name}.{name}"] = arguments[name]
        with pytest.MonkeyPatch.context() as patch:
            for name, value in to_env(self.settings).items():
                patch.setenv(name, value)
            patch.setenv("PVF_GIT_COMMIT", "of the test")  # a commit meanwhile would make it another training
            return component.python_func(**arguments)

    def report(self, name: str) -> str:
        """Text of an artifact."""
        return Path(self.artifacts[name].path).read_text()


def new_workshop(folder: Path, **settings: Any) -> Workshop:
    workshop = Workshop(Settings(home=folder / "home", lake_uri=str(folder / "lake"), **settings), folder)
    for park in PARKS:
        fleet.register(workshop.lake, park)
    return workshop


def planned(workshop: Workshop, **changes: Any) -> list[dict[str, Any]]:
    """Shards of the sample parks over `SINCE`..`AS_OF`."""
    arguments = {
        "parks": [], "since": SINCE, "as_of": AS_OF, "source": "pvdaq_samples", "source_options": {},
        "weather_source": "", "weather_options": {},
        "parks_per_shard": 50, "recipe": QUICK, "publish": True, "until": "",
    }  # fmt: skip
    shards: list[dict[str, Any]] = workshop.call(plan, **{**arguments, **changes})
    return shards


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return new_workshop(tmp_path_factory.mktemp("workshop"))


@pytest.fixture(scope="session")
def shard(workshop: Workshop) -> dict[str, Any]:
    (only,) = planned(workshop)
    return only


@pytest.fixture(scope="session")
def ingested(workshop: Workshop, shard: dict[str, Any]) -> dict[str, str]:
    weather = workshop.call(ingest_weather, dsl.Markdown, shard=shard)
    status: dict[str, str] = workshop.call(ingest_generation, dsl.Markdown, shard=shard, status=weather)
    return status


@pytest.fixture(scope="session")
def validated(workshop: Workshop, shard: dict[str, Any], ingested: dict[str, str]) -> dict[str, str]:
    status: dict[str, str] = workshop.call(validate, dsl.Markdown, dsl.HTML, dsl.Metrics, shard=shard, status=ingested)
    return status


@pytest.fixture(scope="session")
def featurized(workshop: Workshop, shard: dict[str, Any], validated: dict[str, str]) -> dict[str, str]:
    status: dict[str, str] = workshop.call(featurize, shard=shard, status=validated)
    return status


@pytest.fixture(scope="session")
def connected(workshop: Workshop) -> Iterator[Workshop]:
    """The same lake, with object store, Postgres and MLflow of its own: what is promoted stays in here."""
    home = new_home()
    with Stack(home, ["mlflow"]) as stack:
        yield Workshop(stack.settings.model_copy(update={"lake_uri": workshop.settings.lake_uri}), workshop.folder)
    shutil.rmtree(home)


@pytest.fixture(scope="session")
def trained(connected: Workshop, featurized: dict[str, str]) -> dict[str, Any]:
    job: dict[str, Any] = connected.call(
        train, statuses=[featurized], as_of=AS_OF, reason="a test", event_id="event-1", recipe=QUICK
    )
    return job


@pytest.fixture(scope="session")
def evaluated(connected: Workshop, trained: dict[str, Any]) -> dict[str, Any]:
    job: dict[str, Any] = connected.call(evaluate, dsl.Metrics, dsl.Markdown, dsl.HTML, job=trained)
    return job


@pytest.fixture(scope="session")
def compared(connected: Workshop, evaluated: dict[str, Any]) -> Any:
    return connected.call(compare, dsl.Metrics, dsl.Markdown, dsl.HTML, job=evaluated)


@pytest.fixture(scope="session")
def refitted(connected: Workshop, compared: Any) -> str:
    uri: str = connected.call(refit, job=compared.job)
    return uri


@pytest.fixture(scope="session")
def deployed(connected: Workshop, compared: Any, refitted: str) -> dict[str, Any]:
    promotion: dict[str, Any] = connected.call(deploy, job=compared.job, bundle_uri=refitted)
    return promotion
