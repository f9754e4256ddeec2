"""Count who came through."""

from kfp import dsl

from components.image import APP_IMAGE


@dsl.component(base_image=APP_IMAGE, install_kfp_package=False)
def tally(statuses: list, quorum: float, needs_weather: bool) -> dict:
    """Gather the statuses of all shards; fails when too few parks came through, so that a silent source is not green.

    Args:
        statuses: One dict a shard, park id -> status.
        quorum: Share of the parks, 0 to 1, that must not have failed.
        needs_weather: Whether a run in which no park got new weather is a failure.

    Returns:
        Park id -> status of the parks that failed or got no new weather; empty when all came through.
    """
    from pvforecast import shards

    return shards.tally(statuses, quorum, needs_weather)
