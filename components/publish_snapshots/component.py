"""Publish what is known of each park for serving."""

from kfp import dsl

from components.image import APP_IMAGE


@dsl.component(base_image=APP_IMAGE, install_kfp_package=False)
def publish_snapshots(shard: dict, status: dict) -> dict:
    """Write the online snapshot of each park: facts, recent generation, latest weather run.

    Args:
        shard: As `plan` gives it.
        status: Of the step before; failed parks keep their older snapshot.

    Returns:
        Park id -> ``ok``, or ``failed: ...``.
    """
    from pvforecast import shards, wiring
    from pvforecast.settings import load

    settings = load()
    return shards.publish_snapshots(wiring.lake(settings), wiring.objects(settings), shard, status)
