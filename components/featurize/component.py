"""Build a shard's feature rows."""

from kfp import dsl

from components.image import APP_IMAGE


@dsl.component(base_image=APP_IMAGE, install_kfp_package=False)
def featurize(shard: dict, status: dict) -> dict:
    """Build the training features of each park as they were known at each issue time, and store them.

    Args:
        shard: As `plan` gives it.
        status: Of the step before; failed parks are left out.

    Returns:
        Park id -> ``ok``, ``no generation: ...`` for a park with none of late, or ``failed: ...``.
    """
    from pvforecast import shards, wiring
    from pvforecast.settings import load

    return shards.featurize(wiring.lake(load()), shard, status)
