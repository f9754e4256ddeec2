"""Load a shard's weather from its source into the raw tables."""

from kfp import dsl

from components.image import APP_IMAGE


@dsl.component(base_image=APP_IMAGE, install_kfp_package=False)
def ingest_weather(shard: dict, report: dsl.Output[dsl.Markdown]) -> dict:
    """Load weather runs as delivered, many parks a request; repeatable.

    Args:
        shard: As `plan` gives it.
        report: What was loaded, from where, and the credit that the source's licence asks for.

    Returns:
        Park id -> ``ok``, or ``weather failed: ...`` for a park that keeps the run it has.
    """
    from pvforecast import shards, wiring
    from pvforecast.settings import load

    settings = load()
    return shards.ingest_weather(wiring.lake(settings), settings, shard, report.path)
