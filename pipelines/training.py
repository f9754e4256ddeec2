"""The training pipeline: plan -> (ingest, validate, featurize) per shard -> train -> evaluate -> compare -> deploy."""

from typing import NamedTuple

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


@dsl.pipeline(name="prepare-shard")
def prepare_shard(shard: dict) -> dict:
    """Load, check and featurize one shard; always ends with a status, so that one bad park does not end the run.

    Args:
        shard: As `plan` gives it.
    """
    weather = ingest_weather(shard=shard).set_caching_options(False)
    loaded = ingest_generation(shard=shard, status=weather.outputs["Output"]).set_caching_options(False)
    checked = validate(shard=shard, status=loaded.outputs["Output"]).set_caching_options(False)
    built = featurize(shard=shard, status=checked.outputs["Output"]).set_caching_options(False)
    return built.output


class Outputs(NamedTuple):
    """Of the training pipeline."""

    verdict: str
    job: dict


# A sub-pipeline too: kfp.local resolves a condition on a named output only where it is a pipeline's own input.
@dsl.pipeline(name="deploy-winner")
def deploy_winner(job: dict, promotes: bool):
    """Refit on everything and make it the champion, if the verdict says so.

    Args:
        job: As `compare` gives it.
        promotes: As `compare` gives it.
    """
    with dsl.If(promotes == True):  # noqa: E712 - KFP builds a condition from the comparison
        fitted = refit(job=job).set_caching_options(False)
        deploy(job=job, bundle_uri=fitted.output).set_caching_options(False)


@dsl.pipeline(name="training", description="Trains a challenger, compares it with the champion, deploys the winner.")
def training(
    as_of: str,
    since: str,
    reason: str = "by hand",
    event_id: str = "",
    parks: list = [],  # noqa: B006 - KFP reads defaults at compile time
    source: str = "pvdaq_samples",
    source_options: dict = {},  # noqa: B006
    weather_source: str = "",
    weather_options: dict = {},  # noqa: B006
    parks_per_shard: int = 50,
    recipe: dict = {},  # noqa: B006
) -> Outputs:
    """Train, judge and deploy.

    Args:
        as_of: ISO instant with offset; every task uses it as now.
        since: ISO instant with offset; source data from here on is loaded before training.
        reason: Why this run was started.
        event_id: Id of the drift event that started it, or empty.
        parks: Park ids; empty for every registered park.
        source: Name of the source of generation; ``none`` where the parks push it.
        source_options: Options of the source.
        weather_source: Name of the source of weather; empty for that of the settings (PVF_WEATHER_SOURCE).
        weather_options: Options of the source of weather.
        parks_per_shard: How many parks a shard holds at most.
        recipe: Settings of the model recipe that differ from the default.

    Returns:
        The verdict, and the job with its references (MLflow run, hold-out, scores).
    """
    shards = plan(
        parks=parks,
        since=since,
        as_of=as_of,
        source=source,
        source_options=source_options,
        weather_source=weather_source,
        weather_options=weather_options,
        parks_per_shard=parks_per_shard,
        recipe=recipe,
        publish=False,
    ).set_caching_options(False)
    with dsl.ParallelFor(items=shards.output, parallelism=4) as shard:
        prepared = prepare_shard(shard=shard)
    trained = train(
        statuses=dsl.Collected(prepared.output), as_of=as_of, reason=reason, event_id=event_id, recipe=recipe
    ).set_caching_options(False)
    scored = evaluate(job=trained.output).set_caching_options(False)
    compared = compare(job=scored.outputs["Output"]).set_caching_options(False)
    deploy_winner(job=compared.outputs["job"], promotes=compared.outputs["promotes"])
    return Outputs(verdict=compared.outputs["verdict"], job=compared.outputs["job"])
