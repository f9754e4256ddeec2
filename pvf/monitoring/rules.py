"""Prometheus' rule groups out of the lists of alerts and SLOs."""

from __future__ import annotations

from typing import Any

from pvf.monitoring.alerts import GROUPS, OBJECT_STORE, Alert
from pvf.monitoring.cluster_alerts import CLUSTER
from pvf.monitoring.slos import BURNS, INPUTS, SLOS, WINDOWS, Burn, Slo, burning, recorded

Rule = dict[str, Any]
RUNBOOKS = "docs/runbooks"


def groups() -> list[dict[str, Any]]:
    """All rule groups, as `promtool check rules` and a PrometheusRule want them."""
    inputs = [{"record": name, "expr": expr} for name, expr in INPUTS.items()]
    errors = [
        {"record": recorded(window), "expr": slo.errors(window), "labels": {"slo": slo.name}}
        for slo in SLOS
        for window in WINDOWS
    ]
    burns = [_burn(slo, burn) for slo in SLOS for burn in BURNS]
    made: list[dict[str, Any]] = [
        {"name": "pvforecast-slo-errors", "interval": "30s", "rules": inputs + errors},
        {"name": "pvforecast-slo-burn", "rules": burns},
    ]
    every = {**GROUPS, "pvforecast-cluster": CLUSTER}
    return made + [{"name": name, "rules": [_rule(alert) for alert in alerts]} for name, alerts in every.items()]


def prometheus_rule() -> dict[str, Any]:
    """The resource of the Prometheus operator."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "pvforecast"},
        "spec": {"groups": groups()},
    }


def names() -> list[str]:
    """Every alert's name, ascending: each has a runbook."""
    return sorted({rule["alert"] for group in groups() for rule in group["rules"] if "alert" in rule})


def _rule(alert: Alert) -> Rule:
    labels = {"severity": alert.severity, "needs": alert.needs, "platform": "pvforecast"}
    return {
        "alert": alert.name,
        "expr": alert.expr,
        "for": alert.hold,
        "labels": {name: value for name, value in labels.items() if value},
        "annotations": _annotations(alert.name, alert.summary, alert.cause, alert.evidence, alert.next_step),
    }


def _burn(slo: Slo, burn: Burn) -> Rule:
    return {
        "alert": slo.alert,
        "expr": burning(slo, burn),
        "for": burn.hold,
        "labels": {"severity": burn.severity, "window": burn.long, "needs": OBJECT_STORE, "platform": "pvforecast"},
        "annotations": _annotations(
            slo.alert,
            f"the error budget of {slo.name} burns {burn.rate:g} times too fast",
            f"{slo.nf}: {slo.means}, {slo.objective:.1%} of the time",
            f"{{{{ $value | humanizePercentage }}}} are bad over {burn.long}, {slo.budget:.1%} may be",
            "see the runbook: it says which part to look at first",
        ),
    }


def _annotations(name: str, summary: str, cause: str, evidence: str, next_step: str) -> dict[str, str]:
    texts = {"summary": summary, "cause": cause, "evidence": evidence, "next_step": next_step}
    return {key: text for key, text in texts.items() if text} | {"runbook": f"{RUNBOOKS}/{name}.md"}
