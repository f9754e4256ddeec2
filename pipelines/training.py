"""The training pipeline: plan -> (ingest, validate, featurize) per shard -> train -> evaluate -> compare -> deploy."""

from typing import Any, NamedTuple

from kfp import dsl

from components.compare.component import compare
from components.deploy.component import deploy
from components.evaluate.component import evaluate
from components.featurize.component import featurize
from components.ingest_generation.component import ingest_generation
from components.ingest_weather.component import ingest_weather
from components.logical_time.component import logical_time
from components.plan.component import plan
from components.refit.component import refit
from components.tally.component import tally
from components.train.component import train
from components.validate.component import validate
from pipelines.profile import Profile


def shard_pipeline(profile: Profile) -> Any:
    """The loop's body."""

    @dsl.pipeline(name="prepare-shard")
    def prepare_shard(shard: dict) -> dict:
        """Load, check and featurize one shard; always ends with a status, so that one bad park does not end the run.

        Args:
            shard: As `plan` gives it.
        """
        weather = profile.fit(ingest_weather(shard=shard), looped=True)
        loaded = profile.fit(ingest_generation(shard=shard, status=weather.outputs["Output"]), looped=True)
        checked = profile.fit(validate(shard=shard, status=loaded.outputs["Output"]), looped=True)
        return profile.fit(featurize(shard=shard, status=checked.outputs["Output"]), looped=True).output

    return prepare_shard


def deploy_pipeline(profile: Profile) -> Any:
    """What follows the verdict.

    A sub-pipeline too: kfp.local resolves a condition on a named output only where it is a pipeline's own input.
    """

    @dsl.pipeline(name="deploy-winner")
    def deploy_winner(job: dict, promotes: bool):
        """Refit on everything and make it the champion, if the verdict says so.

        Args:
            job: As `compare` gives it.
            promotes: As `compare` gives it.
        """
        with dsl.If(promotes == True):  # noqa: E712 - KFP builds a condition from the comparison
            fitted = profile.fit(refit(job=job))
            profile.fit(deploy(job=job, bundle_uri=fitted.output))

    return deploy_winner


class Outputs(NamedTuple):
    """Of the training pipeline."""

    verdict: str
    job: dict


def build(profile: Profile) -> Any:
    """The pipeline with what its tasks may use."""
    prepare_shard, deploy_winner = shard_pipeline(profile), deploy_pipeline(profile)

    @dsl.pipeline(
        name="training", description="Trains a challenger, compares it with the champion, deploys the winner."
    )
    def training(
        as_of: str = "",
        since: str = "",
        lookback_hours: int = 336,
        reason: str = "by hand",
        event_id: str = "",
        actor: str = "",
        parks: list = [],  # noqa: B006 - KFP reads defaults at compile time
        source: str = "pvdaq_samples",
        source_options: dict = {},  # noqa: B006
        weather_source: str = "",
        weather_options: dict = {},  # noqa: B006
        parks_per_shard: int = 50,
        quorum: float = 0.5,
        recipe: dict = {},  # noqa: B006
    ) -> Outputs:
        """Train, judge and deploy.

        Args:
            as_of: ISO instant with offset; every task uses it as now. Empty for the time of the schedule.
            since: ISO instant with offset; source data from here on is loaded before training. Empty for
                `lookback_hours` before `as_of`.
            lookback_hours: See `since`.
            reason: Why this run was started.
            event_id: Id of the drift event that started it, or empty.
            actor: Who started it by hand, or empty.
            parks: Park ids; empty for every registered park.
            source: Name of the source of generation; ``none`` where the parks push it.
            source_options: Options of the source.
            weather_source: Name of the source of weather; empty for that of the settings (PVF_WEATHER_SOURCE).
            weather_options: Options of the source of weather.
            parks_per_shard: How many parks a shard holds at most.
            quorum: Share of the parks that must not have failed, or nothing is trained.
            recipe: Settings of the model recipe that differ from the default.

        Returns:
            The verdict, and the job with its references (MLflow run, hold-out, scores).
        """
        now = profile.fit(
            logical_time(
                as_of=as_of,
                since=since,
                lookback_hours=lookback_hours,
                scheduled_at=dsl.PIPELINE_JOB_SCHEDULE_TIME_UTC_PLACEHOLDER,
            )
        )
        shards = profile.fit(
            plan(
                parks=parks,
                since=now.outputs["since"],
                as_of=now.outputs["as_of"],
                source=source,
                source_options=source_options,
                weather_source=weather_source,
                weather_options=weather_options,
                parks_per_shard=parks_per_shard,
                recipe=recipe,
                publish=False,
                until="",
            )
        )
        with dsl.ParallelFor(items=shards.output, parallelism=profile.parallelism) as shard:
            prepared = prepare_shard(shard=shard)
        enough = profile.fit(tally(statuses=dsl.Collected(prepared.output), quorum=quorum, needs_weather=False))
        trained = profile.fit(
            train(
                statuses=dsl.Collected(prepared.output),
                as_of=now.outputs["as_of"],
                reason=reason,
                event_id=event_id,
                recipe=recipe,
                actor=actor,
                pipeline_run=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
            )
        ).after(enough)
        scored = profile.fit(evaluate(job=trained.output))
        compared = profile.fit(compare(job=scored.outputs["Output"]))
        deploy_winner(job=compared.outputs["job"], promotes=compared.outputs["promotes"])
        return Outputs(verdict=compared.outputs["verdict"], job=compared.outputs["job"])

    return training
