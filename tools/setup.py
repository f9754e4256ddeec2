"""Makes the virtual environments: `python3.11 -m tools.setup [--test] [--policy]`.

.venv-uv     the installer, by pip (the only thing pip installs)
.venv        the platform: requirements/main.txt, with --test also requirements/test.txt
.venv-drift  the drift job with its own, older pins: requirements/drift.txt
.venv-policy with --policy: checks of the manifests, requirements/policy.txt
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tools import indexes
from tools.environments import ROOT, Environment, packages_in

TEST_FILE = "test.txt"

UV = Environment(".venv-uv", ("uv.txt",))
MAIN = Environment(".venv", ("main.txt",))
MAIN_AND_TEST = Environment(".venv", ("main.txt", TEST_FILE))
DRIFT = Environment(".venv-drift", ("drift.txt",))
POLICY = Environment(".venv-policy", ("policy.txt",))
ABOUT_MB = {".venv-uv": 80, ".venv": 1600, ".venv-drift": 650, ".venv-policy": 250}
SPARE_MB = 1500  # the data of a first run, and what the cache holds beside the environments
BUILD = ROOT / "requirements" / "build.txt"
FROM_SOURCE = "kfp-server-api"  # pure Python, published without a wheel

Create = Callable[[Path], None]
Fill = Callable[[Path, Sequence[Path]], None]

PROGRAM = """#!/bin/sh
# Runs this tree's program from any folder.
export PVF_HOME="${{PVF_HOME:-{root}/.pvf}}"
exec "{root}/.venv/bin/python" -m pvf "$@"
"""


class SetupError(Exception):
    """A step of the set-up failed; the message says which, and what to do."""


def main(argv: Sequence[str] | None = None) -> int:
    """Sets up what is missing and returns the exit status."""
    parser = argparse.ArgumentParser(prog="tools.setup")
    parser.add_argument("--test", action="store_true", help="also install what the tests and linters need")
    parser.add_argument("--policy", action="store_true", help="also make the environment of the manifests' checks")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # An environment with the test packages keeps them: `make run` would else undo what `make test` did.
    options = parser.parse_args(argv)
    test = options.test or TEST_FILE in MAIN.stamp()
    wanted = [MAIN_AND_TEST if test else MAIN, DRIFT, *([POLICY] if options.policy else [])]
    try:
        if not all(environment.is_ready() for environment in wanted):
            with _one_at_a_time():
                set_up(wanted)
    except SetupError as error:
        print(f"set-up failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("set-up interrupted; the next call repairs it", file=sys.stderr)
        return 130
    return 0


def set_up(environments: Sequence[Environment]) -> None:
    """Installs those of `environments` that are not ready, one after the other, and says what is going on."""
    missing = [environment for environment in environments if not environment.is_ready()]
    for path in (path for environment in (UV, *missing) for path in environment.files):
        if not path.exists():
            raise SetupError(f"{path.relative_to(ROOT)} is missing; restore it from the repository")
    _check_disk(missing)
    if not UV.is_ready():
        _install(UV, _create_with_pip, _fill_by_pip)
    pip = indexes.pip_settings(UV.python)
    environ = {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
    environ |= indexes.for_uv(environ, pip, indexes.system_bundle())
    for environment in missing:
        _install(environment, _create_bare, lambda python, files: _fill_by_uv(python, files, environ))


def _install(environment: Environment, create: Create, fill: Fill) -> None:
    packages, about = packages_in(environment.files), ABOUT_MB[environment.name]
    _say(f"{environment.name}: {packages} packages, about {about} MB")
    started = time.monotonic()
    environment.install(create, fill)
    _say(f"{environment.name}: ready, {environment.size_mb()} MB, {time.monotonic() - started:.0f} s")


def _create_with_pip(folder: Path) -> None:
    _run([sys.executable, "-m", "venv", str(folder)])


def _create_bare(folder: Path) -> None:
    _run([sys.executable, "-m", "venv", "--without-pip", str(folder)])


def _fill_by_pip(python: Path, files: Sequence[Path]) -> None:
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    _run([*pip, "--require-hashes", "--only-binary=:all:", *_as_options(files)])


def _fill_by_uv(python: Path, files: Sequence[Path], environ: Mapping[str, str]) -> None:
    # sync, not install: `uv pip install` would bring in NVIDIA's NCCL, which the requirements leave out.
    uv = [str(UV.folder / "bin" / "uv"), "pip", "sync", "--python", str(python), "--require-hashes"]
    wheels = ["--only-binary", ":all:", "--no-binary", FROM_SOURCE]
    build = ["--build-constraints", str(BUILD), "--require-build-hashes"]
    preview = ["--preview-features", "build-dependency-hashes"]
    _run([*uv, *wheels, *build, *preview, *map(str, files)], environ)
    _add_tree(python)


def _add_tree(python: Path) -> None:
    """Makes the tree importable from any working directory, and the program callable: .venv/bin/pvf."""
    site_packages = python.parent.parent / "lib" / "python3.11" / "site-packages"
    (site_packages / "pvforecast-tree.pth").write_text(f"{ROOT}\n")
    if python == MAIN.python:
        program = python.with_name("pvf")
        program.write_text(PROGRAM.format(root=ROOT))
        program.chmod(0o755)


def _as_options(files: Sequence[Path]) -> list[str]:
    return [word for path in files for word in ("--requirement", str(path))]


def _run(command: Sequence[str], environ: Mapping[str, str] | None = None) -> None:
    """Runs a command and passes its words on, less the list of every package.

    The output is a pipe on purpose: uv then reports each large download in a line of its own, which reads the
    same on a terminal and in a log.
    """
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environ) as child:
        try:
            for line in child.stdout or ():
                if line.strip() and not line.startswith((" + ", " - ", " ~ ")):
                    _say(f"  {line.rstrip()}")
        except BaseException:  # interrupted: nothing may go on writing into the environment
            child.terminate()
            raise
    if child.returncode:
        raise SetupError(
            f"`{' '.join(command[:4])} ...` ended with status {child.returncode}, see above. Is the package "
            "index within reach? pip's and uv's settings (index, proxy, certificates) are followed. The next "
            "call takes up from here."
        )


def _check_disk(missing: Sequence[Environment]) -> None:
    needed = sum(ABOUT_MB[environment.name] for environment in missing) + SPARE_MB
    free = shutil.disk_usage(ROOT).free // 1_000_000
    if free < needed:
        raise SetupError(f"{free} MB are free on the disk of {ROOT}, {needed} MB are needed")


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Two calls at once (`make run` in one terminal, `make test` in the other) take turns."""
    descriptor = os.open(Path(__file__).parent, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("another set-up of this tree is running; waiting for it")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _say(text: str) -> None:
    print(f"[set-up] {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
