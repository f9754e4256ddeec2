"""Settings of the stream, from `PVF_STREAM_*` variables."""

from __future__ import annotations

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from pvforecast.errors import InvalidInput


class Options(BaseSettings):
    """How often, how patient, how long; seconds."""

    model_config = SettingsConfigDict(env_prefix="PVF_STREAM_", extra="ignore")

    heartbeat_s: float = Field(default=20.0, gt=0, le=40)  # the gateway ends what is silent for 90 s
    send_timeout_s: float = Field(default=5.0, gt=0)  # for one message: longer is a slow consumer
    max_age_s: float = Field(default=3_600.0, gt=0)  # a connection's; then the key is looked at again
    poll_s: float = Field(default=0.3, gt=0)


def load() -> Options:
    """Raises InvalidInput naming the variable that is wrong."""
    try:
        return Options()
    except ValidationError as error:
        first = error.errors()[0]
        name = f"PVF_STREAM_{str(first['loc'][0]).upper()}"
        raise InvalidInput(
            f"{first['input']!r}: {first['msg']}", field=name, hint="unset it for the default"
        ) from error
