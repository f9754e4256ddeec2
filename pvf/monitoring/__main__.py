"""`python -m pvf.monitoring`: writes what kustomize/components/monitoring has of rules and dashboards."""

from __future__ import annotations

from pathlib import Path

import yaml

from pvf.monitoring import dashboards, rules

FOLDER = Path(__file__).resolve().parents[2] / "kustomize" / "components" / "monitoring"
_HEAD = "# Written by `python -m pvf.monitoring`; change pvf/monitoring/ instead.\n"


def files() -> dict[Path, str]:
    """Every written file with its content."""
    text = yaml.safe_dump(rules.prometheus_rule(), sort_keys=False, width=1_000, allow_unicode=True)
    pictures = {FOLDER / "dashboards" / name: text for name, text in dashboards.files().items()}
    return {FOLDER / "prometheus-rule.yaml": _HEAD + text, **pictures}


def main() -> None:
    for path, text in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        print(path.relative_to(Path.cwd()))


if __name__ == "__main__":
    main()
