"""One step of `benchmarks.training` in its own process: the component's body, with the simulated fleet as source."""

from __future__ import annotations

import json
import os
import resource
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace


def main(name: str, folder: Path) -> None:
    """Call component `name` with the arguments in ``in.json``; ``out.json`` gets its result, memory and CPU time."""
    from benchmarks.simulated_fleet import Simulated
    from pvforecast.sources import catalogue

    source = Simulated(Path(os.environ["PVF_BENCH_FLEET"]))
    catalogue.generation_source = lambda _name, _options=None: source  # type: ignore[assignment]
    catalogue.weather_source = lambda _name, _options, _settings: source  # type: ignore[assignment]
    component = getattr(import_module(f"components.{name}.component"), name)
    arguments = json.loads((folder / "in.json").read_text())
    for output, spec in (component.component_spec.outputs or {}).items():
        if spec.type.startswith("system."):
            arguments[output] = SimpleNamespace(path=str(folder / output), log_metric=lambda _name, _value: None)
    result = component.python_func(**arguments)
    used = resource.getrusage(resource.RUSAGE_SELF)
    measured = {"rss_gib": used.ru_maxrss / 2**20, "cpu_s": used.ru_utime + used.ru_stime}
    (folder / "out.json").write_text(json.dumps({"result": result, **measured}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
