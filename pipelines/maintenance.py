"""The maintenance pipeline: one task over the whole lake, daily."""

from typing import Any

from kfp import dsl

from components.logical_time.component import logical_time
from components.maintain.component import maintain
from pipelines.profile import Profile


def build(profile: Profile) -> Any:
    """The pipeline with what its tasks may use."""

    @dsl.pipeline(name="maintenance", description="Merges small files and deletes what no kept version needs.")
    def maintenance(as_of: str = "") -> dict:
        """Maintain the lake.

        Args:
            as_of: ISO instant with offset, from which ages are counted. Empty for the time of the schedule.

        Returns:
            Table -> number of its files.
        """
        now = profile.fit(
            logical_time(
                as_of=as_of,
                since="",
                lookback_hours=1,
                scheduled_at=dsl.PIPELINE_JOB_SCHEDULE_TIME_UTC_PLACEHOLDER,
            )
        )
        return profile.fit(maintain(as_of=now.outputs["as_of"])).outputs["Output"]

    return maintenance
