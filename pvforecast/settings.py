"""Where the outside world is: S3, Postgres, MLflow, the services. Read from `PVF_*` variables, never at import.

The same names serve a laptop and a cluster: `pvf up` exports them for what it starts (and keeps them in
`$PVF_HOME/run/stack.json` for commands in another terminal), kustomize sets them from ConfigMaps and Secrets.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from pvforecast.errors import InvalidInput


class Settings(BaseSettings):
    """All settings of the platform.

    Values come from `PVF_*` variables first, then from the running local stack (`$PVF_HOME/run/stack.json`).
    """

    model_config = SettingsConfigDict(env_prefix="PVF_", extra="ignore")

    home: Path = Path(".pvf")

    s3_endpoint: str = ""  # http://127.0.0.1:8333
    s3_bucket: str = "pvf"
    s3_region: str = "us-east-1"
    s3_access_key: SecretStr = SecretStr("")
    s3_secret_key: SecretStr = SecretStr("")
    lake_uri: str = "s3://pvf/lake"  # or a local folder

    postgres_dsn: SecretStr = SecretStr("")
    mlflow_dsn: SecretStr = SecretStr("")  # MLflow's database, for backups alone
    mlflow_uri: str = ""

    predictor_grpc: str = "127.0.0.1:8081"
    transformer_url: str = ""
    transformer_grpc: str = ""  # host:port of Open Inference v2; several separated by commas, as with the URL
    gateway_url: str = ""
    prediction_log_url: str = ""
    prediction_log_days: int = Field(default=400, ge=0)  # a month is kept so long after its end; 0 keeps everything
    trigger_url: str = ""
    prometheus_url: str = ""  # that scrapes the platform: the page shows what its dashboards would
    mqtt_url: str = ""  # mqtt://127.0.0.1:1883, mqtts://broker:8883
    mqtt_user: str = ""
    mqtt_password: SecretStr = SecretStr("")
    telemetry_url: str = ""
    tls_folder: Path | None = None  # tls.crt, tls.key and ca.crt between our own services; None: plain HTTP
    park_access_file: Path | None = None  # which client may see which parks; absent: every client sees all

    weather_source: str = "pvdaq_samples"  # of a pipeline run that names no other
    weather_options: dict[str, Any] = {}
    open_meteo_url: str = ""  # with {service}; empty: that of the free tier, or with a key that of customers
    open_meteo_api_key: SecretStr = SecretStr("")
    open_meteo_limits: str = "free"  # free, none, or minute/hour/day/at_once
    weather_api_key: SecretStr = SecretStr("")  # of the source `json`

    recipe: dict[str, Any] = {}  # of a training that names no other: what differs from the default, e.g. of `pvf tune`
    horizon_hours: int = 48  # of an answer that was not asked for another
    forecast_cache_rows: int = Field(default=100_000, ge=0)  # intervals that a transformer remembers; 0: none
    correct_clocks: bool = True  # move rows by what was found about a logger's clock; False: name it only
    clock: Literal["system", "snapshot"] = "system"  # snapshot: a replay, "now" is when the snapshot was taken

    # NF4. Weather: since a run could be had; most models run every six hours, and are fetched hourly. Generation: how
    # long after its end an interval may take to be readable, while the sun is up.
    weather_max_age_minutes: int = Field(default=420, ge=1)
    generation_max_age_minutes: int = Field(default=15, ge=1)

    quorum: float = Field(default=0.5, gt=0, le=1)  # share of the parks that must come through, or the run fails
    runs_kept: int = Field(default=20, ge=1)  # folders of local runs, in $PVF_HOME/runs
    pipeline_profile: Path | None = None  # image, resources, node selector of the tasks: see docs/pipelines.md
    pipeline_schedules: Path | None = None  # what runs when, instead of the built-in schedules
    kfp_url: str = ""  # https://kubeflow.example.org/pipeline
    kfp_token: SecretStr = SecretStr("")
    kfp_token_file: Path | None = None  # read anew for each request: a projected service-account token
    kfp_ca_file: Path | None = None
    kfp_namespace: str = ""  # of a Kubeflow with profiles; empty where there is one for all
    kfp_experiment: str = "pvforecast"
    kfp_service_account: str = ""  # of the runs' pods; empty for the server's default
    kfp_timeout_s: float = Field(default=30, gt=0)

    inference_service: str = ""  # namespace/name on a cluster; empty: servers follow models/deployed.json
    rollout_timeout_s: float = Field(default=900, gt=0)  # for how long its new pods may take to serve
    api_key: SecretStr = SecretStr("")  # of the gateway

    backup_uri: str = ""  # a folder, or s3://bucket/prefix
    backup_s3_endpoint: str = ""  # of that bucket, where it is another store's
    backup_s3_access_key: SecretStr = SecretStr("")
    backup_s3_secret_key: SecretStr = SecretStr("")

    log_retention_days: int = Field(default=30, ge=8)  # how far back the log of each table reaches
    pin_days: int = Field(default=90, ge=8)  # how long the data of a model that was not promoted are kept
    raw_retention_days: int = Field(default=0, ge=0)  # 0 keeps everything, else at least 90
    quarantine_retention_days: int = Field(default=0, ge=0)  # 0 keeps everything

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - not used here
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, _RunningStack(settings_cls, init_settings, env_settings)


class _RunningStack(PydanticBaseSettingsSource):
    """Reads what the running local stack wrote down, so that a second terminal needs no exports."""

    def __init__(
        self,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
    ) -> None:
        super().__init__(settings_cls)
        home = {**env_settings(), **init_settings()}.get("home", ".pvf")
        self._file = Path(home) / "run" / "stack.json"

    def get_field_value(self, _field: Any, field_name: str) -> tuple[Any, str, bool]:
        raise KeyError(field_name)  # values are given whole by __call__

    def __call__(self) -> dict[str, Any]:
        if not self._file.exists():
            return {}
        try:
            settings: dict[str, Any] = json.loads(self._file.read_text())["settings"]
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidInput(f"not what `pvf up` writes: {error}", field=str(self._file), hint="delete it") from error
        return settings


def load(**overrides: Any) -> Settings:
    """Settings from the environment and the running local stack.

    Raises
    ------
    InvalidInput
        a value that its setting can't have.
    """
    try:
        return Settings(**overrides)
    except ValidationError as error:
        first = error.errors()[0]
        field = f"PVF_{'.'.join(map(str, first['loc'])).upper()}"
        raise InvalidInput(first["msg"], field=field, hint="set it right, or unset it") from error


def to_env(settings: Settings) -> dict[str, str]:
    """The settings as `PVF_*` variables, secrets in plain text: for the environment of a child process only."""
    env = {}
    for name, value in settings.model_dump().items():
        if value is None:
            continue
        if isinstance(value, SecretStr):
            value = value.get_secret_value()
        env[f"PVF_{name.upper()}"] = json.dumps(value) if isinstance(value, list | tuple | dict) else str(value)
    return env
