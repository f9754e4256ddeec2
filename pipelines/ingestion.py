"""The ingestion pipeline: source -> raw -> validated -> processed -> online snapshots, by shard of parks."""

from typing import Any

from kfp import dsl

from components.ingest_generation.component import ingest_generation
from components.ingest_weather.component import ingest_weather
from components.logical_time.component import logical_time
from components.plan.component import plan
from components.publish_snapshots.component import publish_snapshots
from components.tally.component import tally
from components.validate.component import validate
from pipelines.profile import Profile


def shard_pipeline(profile: Profile) -> Any:
    """The loop's body.

    A sub-pipeline: inside a loop body, kfp.local replaces upstream parameters by the loop's item.
    """

    @dsl.pipeline(name="ingest-shard")
    def ingest_shard(shard: dict) -> dict:
        """Load, check and publish one shard.

        Args:
            shard: As `plan` gives it.
        """
        weather = profile.fit(ingest_weather(shard=shard), looped=True)
        loaded = profile.fit(ingest_generation(shard=shard, status=weather.outputs["Output"]), looped=True)
        checked = profile.fit(validate(shard=shard, status=loaded.outputs["Output"]), looped=True)
        published = profile.fit(publish_snapshots(shard=shard, status=checked.outputs["Output"]), looped=True)
        return published.output

    return ingest_shard


def build(profile: Profile) -> Any:
    """The pipeline with what its tasks may use."""
    ingest_shard = shard_pipeline(profile)

    @dsl.pipeline(name="ingestion", description="Loads weather and generation of the fleet and publishes snapshots.")
    def ingestion(
        as_of: str = "",
        since: str = "",
        lookback_hours: int = 336,
        parks: list = [],  # noqa: B006 - KFP reads defaults at compile time
        source: str = "pvdaq_samples",
        source_options: dict = {},  # noqa: B006
        weather_source: str = "",
        weather_options: dict = {},  # noqa: B006
        parks_per_shard: int = 50,
        quorum: float = 0.5,
        publish: bool = True,
    ) -> dict:
        """Load the fleet.

        Args:
            as_of: ISO instant with offset; nothing later is read. Empty for the time of the schedule.
            since: ISO instant with offset; source data from here on is loaded. Empty for `lookback_hours` before
                `as_of`.
            lookback_hours: See `since`.
            parks: Park ids; empty for every registered park.
            source: Name of the source of generation; ``none`` where the parks push it.
            source_options: Options of the source.
            weather_source: Name of the source of weather; empty for that of the settings (PVF_WEATHER_SOURCE).
            weather_options: Options of the source of weather.
            parks_per_shard: How many parks a shard holds at most.
            quorum: Share of the parks that must not have failed.
            publish: Whether serving gets new snapshots; False for a load that serving should not notice.

        Returns:
            Park id -> status of the parks that failed or got no new weather. The run fails below the quorum.
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
                recipe={},
                publish=publish,
                until="",
            )
        )
        with dsl.ParallelFor(items=shards.output, parallelism=profile.parallelism) as shard:
            loaded = ingest_shard(shard=shard)
        told = tally(statuses=dsl.Collected(loaded.output), quorum=quorum, needs_weather=True)
        return profile.fit(told).output

    return ingestion
