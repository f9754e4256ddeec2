"""The time of a run is given, by its caller or by its schedule; and it is the same whenever the run is repeated."""

from __future__ import annotations

import pytest

from components.logical_time.component import logical_time
from pvforecast.errors import InvalidInput

AS_OF = "2013-08-10T06:00:00+00:00"
PLACEHOLDER = "{{$.pipeline_job_schedule_time_utc}}"


def settle(
    as_of: str = "", since: str = "", lookback_hours: float = 24, scheduled_at: str = PLACEHOLDER
) -> tuple[str, str]:
    as_of, since = logical_time.python_func(
        as_of=as_of, since=since, lookback_hours=lookback_hours, scheduled_at=scheduled_at
    )
    return as_of, since


def test_what_the_caller_gave_goes_on_as_given() -> None:
    assert settle(AS_OF, "2013-08-01T00:00:00-06:00", scheduled_at="2026-01-09T13:00:00Z") == (
        AS_OF,
        "2013-08-01T00:00:00-06:00",
    )


def test_without_since_the_look_back_decides() -> None:
    assert settle(AS_OF, lookback_hours=24.0) == (AS_OF, "2013-08-09T06:00:00+00:00")  # KFP hands ints over as floats


def test_a_run_of_a_schedule_takes_the_schedule_s_time() -> None:
    assert settle(scheduled_at="2026-01-09T13:00:00Z") == ("2026-01-09T13:00:00+00:00", "2026-01-08T13:00:00+00:00")


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({}, "as_of"),  # the server left the placeholder
        ({"scheduled_at": ""}, "as_of"),
        ({"as_of": "2013-08-10T06:00:00"}, "as_of"),
        ({"as_of": AS_OF, "since": "yesterday"}, "since"),
        ({"as_of": AS_OF, "since": AS_OF}, "since"),
        ({"as_of": AS_OF, "lookback_hours": 0}, "lookback_hours"),
    ],
)
def test_what_is_wrong_is_named(given: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        settle(**given)  # type: ignore[arg-type]
    assert caught.value.field == field
    assert caught.value.hint
