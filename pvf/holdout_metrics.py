"""How the champion did on the days held out before its promotion, by park: metrics out of its MLflow run."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client.core import GaugeMetricFamily

from inference import metrics
from inference.metric_names import MOST_PARKS
from pvf.kept import Kept
from pvforecast.settings import Settings

_PREFIX = "holdout."
_SHOWN = {  # the run's name -> ours
    "daylight_nmae": "pvf_holdout_daylight_nmae",
    "daylight_bias": "pvf_holdout_daylight_bias",
    "daylight_picp80": "pvf_holdout_coverage",
    "skill": "pvf_holdout_skill",
}
_KEPT_S = 300.0  # it changes with a promotion


def champion(settings: Settings) -> Kept:
    """Of the champion; nothing before the first one, or while MLflow or Postgres is away."""
    return Kept(lambda: families(_logged(settings)), _KEPT_S)


def families(logged: Mapping[str, float]) -> list[GaugeMetricFamily]:
    """The metrics by park, out of an MLflow run's; the worst parks are kept where there are too many."""
    made = {name: metrics.family(name) for name in _SHOWN.values()}
    found: dict[tuple[str, str], float] = {}
    for name, value in logged.items():
        if name.startswith(_PREFIX):
            park, _, score = name.removeprefix(_PREFIX).rpartition(".")
            found[park, score] = value
    errors = {park: value for (park, score), value in found.items() if score == "daylight_nmae"}
    worst = set(sorted(errors, key=lambda park: -errors[park])[:MOST_PARKS])
    for (park, score), value in found.items():
        if score in _SHOWN and park in worst:
            made[_SHOWN[score]].add_metric([park], value)
    return list(made.values())


def _logged(settings: Settings) -> dict[str, float]:
    if not settings.mlflow_uri or not settings.postgres_dsn.get_secret_value():
        return {}
    from pvforecast import clients  # MLflow takes seconds to import

    current = clients.promotions(settings).current()
    if current is None or not current.mlflow_run_id:
        return {}
    found: dict[str, float] = clients.tracking(settings).run(current.mlflow_run_id)["metrics"]
    return found
