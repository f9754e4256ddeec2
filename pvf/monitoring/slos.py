"""The service level objectives, and the burn-rate alerts that follow from them.

A burn rate of 1 uses up the error budget of 30 days in just 30 days. An alert asks for a rate over a long window, so
that it is worth somebody's time, and over a short one, so that it ends when the trouble does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Slo:
    """One objective.

    Attributes
    ----------
    nf : the requirement it stands for.
    objective : share that must be good, over 30 days.
    errors : the share that is bad, over a window such as ``5m``.
    means : in words, what is good.
    """

    name: str
    nf: str
    objective: float
    errors: Callable[[str], str]
    means: str
    alert: str

    @property
    def budget(self) -> float:
        """Share that may be bad."""
        return round(1 - self.objective, 6)


@dataclass(frozen=True)
class Burn:
    """How fast, over which windows, and how loud."""

    rate: float
    long: str
    short: str
    hold: str
    severity: str


BURNS = (
    Burn(14.4, "1h", "5m", "2m", "critical"),  # 2 % of the budget in an hour
    Burn(6, "6h", "30m", "15m", "critical"),  # 5 % in six hours
    Burn(3, "1d", "2h", "1h", "warning"),  # 10 % in a day
    Burn(1, "3d", "6h", "3h", "warning"),  # 10 % in three days
)
WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")

_FAST = 'pvf_request_duration_seconds_bucket{service="transformer", le="0.2"}'
_ANSWERED = 'pvf_request_duration_seconds_count{service="transformer"}'
_GATEWAY = 'envoy_http_downstream_rq_xx{envoy_http_conn_manager_prefix!="admin"'


def _slow(window: str) -> str:
    return f"1 - sum(rate({_FAST}[{window}])) / sum(rate({_ANSWERED}[{window}]))"


def _failed(window: str) -> str:
    bad, every = f'{_GATEWAY}, envoy_response_code_class="5"}}', f"{_GATEWAY}}}"
    return f"(sum(rate({bad}[{window}])) or vector(0)) / sum(rate({every}[{window}]))"


def _stale(window: str) -> str:
    return f"avg_over_time(pvf:stale_generation:share[{window}])"


def _old(window: str) -> str:
    return f"avg_over_time(pvf:model_too_old:bool[{window}])"


SLOS = (
    Slo("latency", "NF1", 0.95, _slow, "a forecast is answered within 200 ms", "LatencyBudgetBurn"),
    Slo("availability", "NF2", 0.999, _failed, "the gateway's answer is no 5xx", "AvailabilityBudgetBurn"),
    Slo("model-age", "NF3", 0.99, _old, "the served model learned up to the last 7 days", "ModelAgeBudgetBurn"),
    Slo("freshness", "NF4", 0.99, _stale, "a park's generation is readable within 15 minutes", "FreshnessBudgetBurn"),
)

INPUTS = {
    "pvf:stale_generation:share": "max(pvf_parks_stale_generation) / (max(pvf_parks) > 0)",
    "pvf:model_too_old:bool": "time() - min(pvf_model_trained_until_timestamp_seconds) > bool 7 * 86400",
}
"""Series that are recorded because a ratio over time needs them."""


def recorded(window: str) -> str:
    """Name of the series with the share of errors over a window; its label `slo` says of what."""
    return f"pvf:slo_errors:ratio_{window}"


def burning(slo: Slo, burn: Burn) -> str:
    """When an SLO's budget burns at that rate."""
    limit = round(burn.rate * slo.budget, 6)
    parts = (f'{recorded(window)}{{slo="{slo.name}"}} > {limit:g}' for window in (burn.long, burn.short))
    return " and ".join(parts)
