"""The ingestion pipeline: source -> raw -> validated -> processed -> online snapshots, by shard of parks."""

from kfp import dsl

from components.ingest_generation.component import ingest_generation
from components.ingest_weather.component import ingest_weather
from components.plan.component import plan
from components.publish_snapshots.component import publish_snapshots
from components.tally.component import tally
from components.validate.component import validate


# A sub-pipeline around the loop's body: inside a loop body, kfp.local replaces upstream parameters by the loop's item.
@dsl.pipeline(name="ingest-shard")
def ingest_shard(shard: dict) -> dict:
    """Load, check and publish one shard.

    Args:
        shard: As `plan` gives it.
    """
    weather = ingest_weather(shard=shard).set_caching_options(False)
    loaded = ingest_generation(shard=shard, status=weather.outputs["Output"]).set_caching_options(False)
    checked = validate(shard=shard, status=loaded.outputs["Output"]).set_caching_options(False)
    published = publish_snapshots(shard=shard, status=checked.outputs["Output"]).set_caching_options(False)
    return published.output


@dsl.pipeline(name="ingestion", description="Loads weather and generation of the fleet and publishes snapshots.")
def ingestion(
    as_of: str,
    since: str,
    parks: list = [],  # noqa: B006 - KFP reads defaults at compile time
    source: str = "pvdaq_samples",
    source_options: dict = {},  # noqa: B006
    weather_source: str = "",
    weather_options: dict = {},  # noqa: B006
    parks_per_shard: int = 50,
    publish: bool = True,
) -> dict:
    """Load the fleet.

    Args:
        as_of: ISO instant with offset; nothing later is read.
        since: ISO instant with offset; source data from here on is loaded.
        parks: Park ids; empty for every registered park.
        source: Name of the source of generation; ``none`` where the parks push it.
        source_options: Options of the source.
        weather_source: Name of the source of weather; empty for that of the settings (PVF_WEATHER_SOURCE).
        weather_options: Options of the source of weather.
        parks_per_shard: How many parks a shard holds at most.
        publish: Whether serving gets new snapshots; False for a backfill.

    Returns:
        Park id -> status of the parks that failed or got no new weather. The run fails when no park came through.
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
        recipe={},
        publish=publish,
    ).set_caching_options(False)
    with dsl.ParallelFor(items=shards.output, parallelism=4) as shard:
        loaded = ingest_shard(shard=shard)
    return tally(statuses=dsl.Collected(loaded.output)).set_caching_options(False).output
