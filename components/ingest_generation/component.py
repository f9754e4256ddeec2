"""Load a shard's generation from its source into the raw tables."""

from kfp import dsl

from components.image import APP_IMAGE


@dsl.component(base_image=APP_IMAGE, install_kfp_package=False)
def ingest_generation(shard: dict, status: dict, report: dsl.Output[dsl.Markdown]) -> dict:
    """Load generation as delivered; find and correct clock faults; repeatable.

    Args:
        shard: As `plan` gives it.
        status: Of the step before; failed parks are left out.
        report: What was loaded, and what was corrected.

    Returns:
        Park id -> ``ok``, ``weather failed: ...`` or ``failed: ...``. A failing park does not fail the others.
    """
    from pvforecast import shards, wiring
    from pvforecast.settings import load

    return shards.ingest_generation(wiring.lake(load()), shard, status, report.path)
