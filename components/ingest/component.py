"""Load a shard's parks from their source into the raw tables."""

from kfp import dsl

from components.image import APP_IMAGE


@dsl.component(base_image=APP_IMAGE, install_kfp_package=False)
def ingest(shard: dict, report: dsl.Output[dsl.Markdown]) -> dict:
    """Load generation and weather as delivered; find and correct clock faults; repeatable.

    Args:
        shard: As `plan` gives it.
        report: What was loaded, and what was corrected.

    Returns:
        Park id -> ``ok``, or ``failed: ...``. A failing park does not fail the others.
    """
    from pvforecast import shards, wiring
    from pvforecast.settings import load

    return shards.ingest(wiring.lake(load()), shard, report.path)
