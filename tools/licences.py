"""The licence of every package of both environments: `python -m tools.licences` prints them as CSV.

Read from what is installed, which comes from the locks, hash by hash.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tools.environments import ROOT

ENVIRONMENTS = {"main": Path(sys.executable), "drift": ROOT / ".venv-drift" / "bin" / "python"}
# Their metadata name no licence; the file LICENSE in their wheels does.
_KNOWN = {"huey": "MIT", "skops": "MIT"}

_LIST = """
import importlib.metadata, json
found = []
for one in importlib.metadata.distributions():
    meta = one.metadata
    classifiers = [c.split("::")[-1].strip() for c in meta.get_all("Classifier") or [] if c.startswith("License ::")]
    text = [meta.get("License-Expression") or "", *classifiers, (meta.get("License") or "")[:200]]
    name = meta["Name"].lower().replace("_", "-").replace(".", "-")
    found.append((name, one.version, "; ".join(word for word in text if word)))
print(json.dumps(sorted(found)))
"""


class Package(NamedTuple):
    """One installed package; `licence` as its metadata say it, empty where they say nothing."""

    name: str
    version: str
    licence: str


def installed(environment: str) -> list[Package]:
    """All packages of an environment, by name."""
    command = [str(ENVIRONMENTS[environment]), "-c", _LIST]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return [Package(name, version, _KNOWN.get(name, text)) for name, version, text in json.loads(done.stdout)]


def main() -> None:
    """The report, on stdout."""
    report = csv.writer(sys.stdout, lineterminator="\n")
    report.writerow(["environment", *Package._fields])
    for environment in ENVIRONMENTS:
        for package in installed(environment):
            report.writerow([environment, package.name, package.version, " ".join(package.licence.split())])


if __name__ == "__main__":
    main()
