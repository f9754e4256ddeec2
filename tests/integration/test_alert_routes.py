"""Where alerts go: the committed Alertmanager config, asked by Debian's amtool."""

from __future__ import annotations

import subprocess

import pytest

from pvf.monitoring import rules
from tests.contract.tree import ROOT
from tests.debian import program, requires_debian

CONFIG = ROOT / "kustomize" / "components" / "monitoring" / "alertmanager" / "alertmanager.yaml"
pytestmark = requires_debian("amtool")


def _amtool(*words: str) -> str:
    return subprocess.run(
        [program("amtool"), *words], capture_output=True, text=True, timeout=60, check=True
    ).stdout.strip()


def test_the_config_is_one() -> None:
    assert "SUCCESS" in _amtool("check-config", str(CONFIG))


@pytest.mark.parametrize(
    ("labels", "receivers"),
    [
        ({"severity": "warning", "alertname": "WeatherStale"}, "slack"),
        ({"severity": "critical", "alertname": "ErrorRateHigh"}, "pagerduty,slack"),
        ({"severity": "none", "alertname": "DeadMansSwitch"}, "dead-mans-switch"),
        ({"alertname": "OfAnotherTeam"}, "mail"),
    ],
)
def test_an_alert_goes_to(labels: dict[str, str], receivers: str) -> None:
    words = [f"{name}={value}" for name, value in labels.items()]
    assert _amtool("config", "routes", "test", f"--config.file={CONFIG}", *words) == receivers


def test_every_severity_of_a_rule_has_a_route() -> None:
    severities = {
        rule["labels"].get("severity") for group in rules.groups() for rule in group["rules"] if "alert" in rule
    }
    assert severities == {"critical", "warning", "none", None}  # None: the series says it
