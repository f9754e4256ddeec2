"""Settings of the telemetry service: `PVF_MQTT_*`. The broker's address and keys are in `pvforecast.settings`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from pvforecast.errors import InvalidInput


class Options(BaseSettings):
    """How messages are taken.

    Attributes
    ----------
    client_id : names the session the broker keeps; two processes with one id take it from each other.
    mapping_file : rules for foreign messages; the canonical topic needs none.
    session_expiry_s : how long the broker keeps the session of an absent service.
    receive_maximum : messages that may be unacknowledged: all that the memory ever holds.
    batch_rows, flush_s : commit when so many messages wait, or when the oldest has waited so long.
    max_waiting_bytes : reading pauses while more payload than this waits.
    refresh_s : between two roll-ups of the parks that something came for.
    quarantine_per_minute : entries; what exceeds it is counted, and acknowledged as well.
    takeover_pause_s : before the session is taken back from another process.
    """

    model_config = SettingsConfigDict(env_prefix="PVF_MQTT_", extra="ignore")

    client_id: str = Field(default="pvf-telemetry", pattern=r"^[A-Za-z0-9._-]{1,64}$")
    mapping_file: Path | None = None
    rest_file: Path | None = None
    ca_file: Path | None = None
    session_expiry_s: int = Field(default=14 * 86_400, ge=60, le=2**32 - 2)
    receive_maximum: int = Field(default=40_000, ge=20, le=65_535)
    batch_rows: int = Field(default=20_000, ge=1, le=65_535)
    flush_s: float = Field(default=10.0, gt=0, le=20)
    max_payload_bytes: int = Field(default=16_384, ge=256, le=1_048_576)
    max_waiting_bytes: int = Field(default=64 * 2**20, ge=1_048_576)
    max_age_days: int = Field(default=30, ge=1, le=3650)
    max_ahead_s: int = Field(default=300, ge=0, le=86_400)
    refresh_s: float = Field(default=120.0, gt=0, le=300)
    quarantine_per_minute: int = Field(default=600, ge=0, le=100_000)
    takeover_pause_s: float = Field(default=60.0, ge=0)
    keepalive_s: int = Field(default=30, ge=5, le=600)


def load() -> Options:
    """The options of this environment; raises InvalidInput naming the variable that is wrong."""
    try:
        options = Options()
    except ValidationError as error:
        first = error.errors()[0]
        name = f"PVF_MQTT_{str(first['loc'][0]).upper()}"
        raise InvalidInput(
            f"{first['input']!r}: {first['msg']}", field=name, hint="unset it for the default"
        ) from error
    if options.batch_rows > options.receive_maximum:
        raise InvalidInput(
            f"{options.receive_maximum} is less than the {options.batch_rows} messages of a batch, which never fills",
            field="PVF_MQTT_RECEIVE_MAXIMUM",
            hint="raise it, or lower PVF_MQTT_BATCH_ROWS",
        )
    return options
