"""Which parks have drifted, in the words of the trigger's table: for its metrics and for the page."""

from __future__ import annotations

from typing import LiteralString

SQL: LiteralString = """
SELECT id, park, event_time, data FROM (
    SELECT DISTINCT ON (park) id, park, event_time, type, event->'data' AS data
    FROM retrain_events e,
        LATERAL jsonb_array_elements_text(coalesce(e.event->'data'->'parks', jsonb_build_array(e.park_id))) AS park
    WHERE type IN ('io.pvforecast.drift.detected.v1', 'io.pvforecast.drift.cleared.v1')
    ORDER BY park, event_time DESC, received_at DESC
) newest
WHERE type = 'io.pvforecast.drift.detected.v1' ORDER BY event_time DESC, park
"""
"""The newest drift event of each park where it was not cleared since, the latest first; of two of one moment the one
that came last.

One of a fleet counts for each park that it names: each is cleared by itself.
"""
