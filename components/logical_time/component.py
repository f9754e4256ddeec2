"""Settle the run's one time."""

from typing import NamedTuple

from kfp import dsl

from components.image import APP_IMAGE


@dsl.component(base_image=APP_IMAGE, install_kfp_package=False)
def logical_time(as_of: str, since: str, lookback_hours: int, scheduled_at: str) -> NamedTuple(  # type: ignore[valid-type] # KFP reads the names of the outputs off this form
    "Outputs", [("as_of", str), ("since", str)]
):
    """Settle what the run takes as now, once for all its tasks: as its caller gave it, or as its schedule did.

    Args:
        as_of: ISO instant with offset; empty for that of the schedule.
        since: ISO instant with offset; empty for `lookback_hours` before `as_of`.
        lookback_hours: Hours before `as_of` from which source data is loaded, where `since` is empty.
        scheduled_at: The placeholder that KFP replaces by the time for which the run was scheduled.

    Returns:
        ISO instant with offset, the run's now; ISO instant with offset, from which source data is loaded.
    """
    from pvforecast import logical_time

    return logical_time.resolve(as_of, since, lookback_hours, scheduled_at)
