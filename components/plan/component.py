"""Cut the fleet into shards."""

from kfp import dsl

from components.image import APP_IMAGE


@dsl.component(base_image=APP_IMAGE, install_kfp_package=False)
def plan(
    parks: list,
    since: str,
    as_of: str,
    source: str,
    source_options: dict,
    weather_source: str,
    weather_options: dict,
    parks_per_shard: int,
    recipe: dict,
    publish: bool,
    until: str,
) -> list:
    """Cut the fleet into fully resolved shards, one for each turn of the loop.

    Args:
        parks: Park ids; empty for every registered park.
        since: ISO instant with offset; source data from here on is loaded.
        as_of: ISO instant with offset; nothing later is read. Every task of the run uses this one time.
        source: Name of the source of generation, e.g. ``pvdaq_samples``; ``none`` where the parks push it.
        source_options: Options of the source.
        weather_source: Name of the source of weather, e.g. ``open_meteo``; empty for that of the settings.
        weather_options: Options of the source of weather.
        parks_per_shard: How many parks a shard holds at most.
        recipe: Settings of the model recipe that differ from the default.
        publish: Whether serving gets new snapshots; False for a backfill.
        until: ISO instant with offset; source data up to here is loaded. Empty for `as_of`.

    Returns:
        One dict a shard: its park ids and everything else that its tasks need.
    """
    from pvforecast import shards, wiring
    from pvforecast.settings import load

    settings = load()
    weather = shards.Weather.of(weather_source, weather_options, settings)
    lake = wiring.lake(settings)
    return shards.plan(
        lake, parks, since, as_of, source, source_options, weather, parks_per_shard, recipe, publish, until
    )
