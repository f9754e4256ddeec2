"""The backfill pipeline: a range of past days into the lake; serving does not notice. Safe to repeat."""

from typing import Any

from kfp import dsl

from components.ingest_generation.component import ingest_generation
from components.ingest_weather.component import ingest_weather
from components.plan.component import plan
from components.tally.component import tally
from components.validate.component import validate
from pipelines.profile import Profile


def build(profile: Profile) -> Any:
    """The pipeline with what its tasks may use."""

    @dsl.pipeline(name="load-shard")
    def load_shard(shard: dict) -> dict:
        """Load and check one shard.

        Args:
            shard: As `plan` gives it.
        """
        weather = profile.fit(ingest_weather(shard=shard), looped=True)
        loaded = profile.fit(ingest_generation(shard=shard, status=weather.outputs["Output"]), looped=True)
        return profile.fit(validate(shard=shard, status=loaded.outputs["Output"]), looped=True).outputs["Output"]

    @dsl.pipeline(name="backfill", description="Loads a range of past days of the fleet; serving does not notice.")
    def backfill(
        as_of: str,
        since: str,
        until: str,
        parks: list = [],  # noqa: B006 - KFP reads defaults at compile time
        source: str = "pvdaq_samples",
        source_options: dict = {},  # noqa: B006
        weather_source: str = "",
        weather_options: dict = {},  # noqa: B006
        parks_per_shard: int = 10,
        quorum: float = 0.5,
    ) -> dict:
        """Load [since, until) of the fleet. Rows that are stored are not stored again.

        Args:
            as_of: ISO instant with offset, not before `until`; the run's now.
            since: ISO instant with offset; source data from here on is loaded.
            until: ISO instant with offset; source data up to here is loaded.
            parks: Park ids; empty for every registered park.
            source: Name of the source of generation; ``none`` where the parks push it.
            source_options: Options of the source.
            weather_source: Name of the source of weather; empty for that of the settings (PVF_WEATHER_SOURCE).
            weather_options: Options of the source of weather.
            parks_per_shard: How many parks a shard holds at most; a year of ten parks fits into a shard's memory.
            quorum: Share of the parks that must not have failed.

        Returns:
            Park id -> status of the parks that failed or got no new weather. The run fails below the quorum.
        """
        shards = profile.fit(
            plan(
                parks=parks,
                since=since,
                as_of=as_of,
                source=source,
                source_options=source_options,
                weather_source=weather_source,
                weather_options=weather_options,
                parks_per_shard=parks_per_shard,
                recipe={},
                publish=False,
                until=until,
            )
        )
        with dsl.ParallelFor(items=shards.output, parallelism=profile.parallelism) as shard:
            loaded = load_shard(shard=shard)
        told = tally(statuses=dsl.Collected(loaded.output), quorum=quorum, needs_weather=False)
        return profile.fit(told).output

    return backfill
