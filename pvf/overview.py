"""The state of the platform at a glance: ages, limits, snapshots, champion, quarantine, maintenance."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pvforecast import fleet, freshness, quarantine, snapshot, wiring
from pvforecast.errors import PvForecastError
from pvforecast.freshness import Freshness, Limits
from pvforecast.lake import Lake, layout
from pvforecast.lake.tables import MAINTENANCE, QUARANTINE, TABLES, features
from pvforecast.objects import ObjectStore
from pvforecast.settings import Settings

MAINTENANCE_MAX_AGE = timedelta(hours=36)


@dataclass(frozen=True)
class Overview:
    """What `pvf status` shows.

    Attributes
    ----------
    snapshots : park id -> minutes since its newest snapshot was taken.
    champion : model version, bundle id and when it was promoted; in words why it is not known.
    quarantined : rows that are held, by table.
    files : number of files, by table.
    maintained_at : when maintenance last ran, and what it left undone.
    """

    now: datetime
    limits: Limits
    parks: list[Freshness]
    snapshots: dict[str, int]
    champion: dict[str, Any] | str
    quarantined: dict[str, int]
    files: dict[str, int]
    maintained_at: datetime | None
    maintenance_notes: list[str]

    def stale(self, what: str) -> list[str]:
        """Parks whose weather, or generation, is older than its limit."""
        return [park.park_id for park in self.parks if what in park.stale]

    def broken(self) -> list[str]:
        """Limits that do not hold, a line each."""
        lines = []
        for what in ("weather", "generation"):
            late = self.stale(what)
            if late:
                more = f" and {len(late) - 5} more" if len(late) > 5 else ""
                lines.append(f"{what} is older than {getattr(self.limits, what)} min: {', '.join(late[:5])}{more}")
        if self.maintained_at is not None and self.now - self.maintained_at > MAINTENANCE_MAX_AGE:
            lines.append(f"maintenance last ran at {self.maintained_at.isoformat()}")
        return lines + [f"maintenance: {note}" for note in self.maintenance_notes if note.startswith("failed")]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "now": self.now.isoformat(),
            "limits": {"weather_minutes": self.limits.weather, "generation_minutes": self.limits.generation},
            "parks": [{**park.as_dict(), "snapshot_age_minutes": self.snapshots.get(park.park_id)}
                      for park in self.parks],
            "champion": self.champion,
            "quarantined": self.quarantined,
            "files": self.files,
            "maintained_at": self.maintained_at.isoformat() if self.maintained_at else None,
            "maintenance_notes": self.maintenance_notes,
            "broken": self.broken(),
        }  # fmt: skip


def take(settings: Settings, now: datetime | None = None) -> Overview:
    """The state now. In a replay, now is when the newest snapshot was taken."""
    lake = wiring.lake(settings)
    store = wiring.objects(settings) if settings.s3_endpoint else None
    parks = [park for park in fleet.registered(lake) if not park.retired]
    taken = _snapshots(store, [park.id for park in parks]) if store else {}
    if now is None:
        replayed = settings.clock == "snapshot" and bool(taken)
        now = max(taken.values()) if replayed else datetime.now(UTC)
    limits = Limits(settings.weather_max_age_minutes, settings.generation_max_age_minutes)
    maintained_at, notes = _maintenance(lake)
    return Overview(
        now,
        limits,
        freshness.of_parks(lake, [park.site() for park in parks], now, limits),
        {park: int((now - at) / timedelta(minutes=1)) for park, at in taken.items()},
        _champion(settings),
        held(lake),
        files(lake),
        maintained_at,
        notes,
    )


def held(lake: Lake) -> dict[str, int]:
    """Rows in quarantine that were neither replayed nor dismissed, by table."""
    settled = f"SELECT id FROM t WHERE state <> '{quarantine.HELD}'"
    rows = lake.query(
        QUARANTINE,
        f"SELECT \"table\" AS name, count(*) AS n FROM t WHERE state = '{quarantine.HELD}' AND id NOT IN ({settled})"
        ' GROUP BY "table" ORDER BY 1',
    )
    return {} if rows is None else {row["name"]: row["n"] for row in rows.to_pylist()}


def files(lake: Lake) -> dict[str, int]:
    """Number of files of the current version, by table."""
    tables = {table.name: lake.delta(table) for table in [*TABLES.values(), features(())]}
    return {name: layout.size(delta)[0] for name, delta in tables.items() if delta is not None}


def _maintenance(lake: Lake) -> tuple[datetime | None, list[str]]:
    rows = lake.query(MAINTENANCE, 'SELECT at, "table" AS name, note FROM t WHERE at = (SELECT max(at) FROM t)')
    found = [] if rows is None else rows.to_pylist()
    at = found[0]["at"] if found else None
    return at and at.astimezone(UTC), [f"{row['note']} ({row['name']})" for row in found if row["note"]]


def _snapshots(store: ObjectStore, parks: list[str]) -> dict[str, datetime]:
    with ThreadPoolExecutor(max_workers=16) as pool:
        entries = zip(parks, pool.map(lambda park: snapshot.latest_entry(store, park), parks), strict=True)
        return {park: datetime.fromisoformat(entry["as_of"]).replace(tzinfo=UTC) for park, entry in entries if entry}


def _champion(settings: Settings) -> dict[str, Any] | str:
    if not settings.postgres_dsn.get_secret_value():
        return "not known: PVF_POSTGRES_DSN is not set"
    from pvforecast import clients  # MLflow takes a second to import

    try:
        current = clients.promotions(settings).current()
    except PvForecastError as error:
        return f"not known: {error}"
    if current is None:
        return "none yet"
    kept = ("model_version", "bundle_id", "verdict", "promoted_at")
    return {name: value for name, value in current.as_dict().items() if name in kept}
