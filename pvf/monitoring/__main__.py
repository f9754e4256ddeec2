"""What kustomize/components/monitoring has of rules and dashboards, and a Prometheus for one machine.

`python -m pvf.monitoring` writes the files; `python -m pvf.monitoring scrape` prints the configuration of a Prometheus
that scrapes the stack which runs on PVF_HOME.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import yaml

from pvf.monitoring import dashboards, rules, scrape
from pvforecast.errors import StackError
from pvforecast.settings import load

FOLDER = Path(__file__).resolve().parents[2] / "kustomize" / "components" / "monitoring"
_HEAD = "# Written by `python -m pvf.monitoring`; change pvf/monitoring/ instead.\n"


def files() -> dict[Path, str]:
    """Every written file with its content."""
    text = yaml.safe_dump(rules.prometheus_rule(), sort_keys=False, width=1_000, allow_unicode=True)
    pictures = {FOLDER / "dashboards" / name: text for name, text in dashboards.files().items()}
    return {FOLDER / "prometheus-rule.yaml": _HEAD + text, **pictures}


def scraped(home: Path) -> str:
    """Prometheus' configuration for the stack that runs there.

    Raises
    ------
    StackError
        none does.
    """
    try:
        parts = json.loads((home / "run" / "stack.json").read_text())["parts"]
        admin = json.loads((home / "run" / "ports.json").read_text())["gateway-admin"]
    except FileNotFoundError as error:
        raise StackError(f"no stack runs on {home}", field="PVF_HOME", hint="start one: pvf up") from error
    jobs = scrape.targets({name: part["url"] for name, part in parts.items()}, admin)
    return yaml.safe_dump(scrape.config(jobs), sort_keys=False)


def main(words: list[str]) -> int:
    if words == ["scrape"]:
        try:
            print(scraped(load().home), end="")
        except StackError as error:
            print(error, file=sys.stderr)
            return 1
        return 0
    if words:
        print("usage: python -m pvf.monitoring [scrape]", file=sys.stderr)
        return 2
    for path, text in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        print(path.relative_to(Path.cwd()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
