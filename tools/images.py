"""Builds the images by Debian's buildah, without a daemon or a registry: `python -m tools.images FOLDER [--only NAME]`.

The base that a registry would give (Debian 12 with its Python 3.11) is made by debootstrap. Everything lies in FOLDER;
the last line is JSON: per image its digest, its layers, its size in MB. Needs root.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tools.environments import ROOT

NAMES = ("serve", "drift", "app")
USER = 10001
TIMESTAMP = "1767225600"  # of every file in a layer, so that the same tree gives the same digest
_SYSTEM = "python3,python3-venv,ca-certificates"
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


class Builder:
    """Buildah on a storage of its own in `folder`.

    driver : of its layers. `overlay` needs a file system below that takes overlays; `vfs` works anywhere and copies
        everything for each step, which takes ten times as long and as much room.
    """

    def __init__(self, folder: Path, driver: str = "overlay") -> None:
        self.folder = folder.absolute()
        storage = ["--storage-driver", driver, "--root", f"{self.folder}/storage", "--runroot", f"{self.folder}/run"]
        self._buildah = ["buildah", *storage]

    def make_base(self) -> None:
        """The image `localhost/base` from Debian's archive, with this machine's certificates; once a folder."""
        if self._has("localhost/base"):
            return
        root = self.folder / "rootfs"
        shutil.rmtree(root, ignore_errors=True)
        root.parent.mkdir(parents=True, exist_ok=True)
        _run(["debootstrap", "--variant=minbase", f"--include={_SYSTEM}", "bookworm", str(root)])
        shutil.rmtree(root / "var" / "cache" / "apt")
        if _CERTIFICATES.exists():
            shutil.copyfile(_CERTIFICATES, root / _CERTIFICATES.relative_to("/"))
        container = self._call("from", "scratch").strip()
        self._call("add", "--quiet", container, str(root), "/")
        self._call("config", "--env", f"PIP_CERT={_CERTIFICATES}", container)
        self._call("commit", "--quiet", "--timestamp", TIMESTAMP, container, "localhost/base")
        self._call("rm", container)
        shutil.rmtree(root)

    def build(self, name: str, *, cached: bool = True) -> None:
        """The image `localhost/NAME`. Not `cached`: every step is done again."""
        self.make_base()
        arguments = {"BUILD_IMAGE": "localhost/base", "BASE_IMAGE": "localhost/base", "GIT_COMMIT": "built-for-a-test"}
        arguments |= {key: os.environ[key] for key in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL") if key in os.environ}
        options = ["--isolation", "chroot", "--layers", "--timestamp", TIMESTAMP, "--quiet"]
        options += [] if cached else ["--no-cache"]  # by itself it would make one layer of all
        words = [word for key, value in arguments.items() for word in ("--build-arg", f"{key}={value}")]
        file = ["-f", "images/Dockerfile", "--ignorefile", "images/Dockerfile.dockerignore"]
        self._call("build", *options, *words, *file, "--target", name, "-t", f"localhost/{name}", ".")

    def describe(self, name: str) -> dict[str, Any]:
        """What a registry would say of the image."""
        found = json.loads(self._call("inspect", "--type", "image", f"localhost/{name}"))
        with self.root(name) as root:
            size = subprocess.run(["du", "-sm", root], capture_output=True, text=True, check=True).stdout
        config = found["OCIv1"]
        return {
            "digest": found["FromImageDigest"],
            "layers": config["rootfs"]["diff_ids"],
            "megabytes": int(size.split()[0]),
            "user": config["config"]["User"],
            "labels": config["config"]["Labels"],
            "environment": dict(word.split("=", 1) for word in config["config"]["Env"]),
        }

    @contextmanager
    def root(self, name: str) -> Iterator[Path]:
        """The image's file system, for as long as the block lasts."""
        container = self._call("from", "--pull-never", f"localhost/{name}").strip()
        try:
            yield Path(self._call("mount", container).strip())
        finally:
            self._call("rm", container)

    def _has(self, name: str) -> bool:
        return f"{name}:latest" in self._call("images", "--format", "{{.Name}}:{{.Tag}}")

    def _call(self, *words: str) -> str:
        return _run([*self._buildah, *words])


def confined(root: Path, command: Sequence[str], binds: Mapping[Path, str] = MappingProxyType({})) -> list[str]:
    """The command line that runs `command` in `root` as a pod would: user 10001 without capabilities or a way to any,
    on a read-only file system with an empty /tmp. The network is this machine's.

    binds : folder of this machine -> where below /tmp it is seen, writable.
    """
    # The image may hold neither a shell nor env: its Python changes the folder.
    start = "import os, sys; os.chdir('/opt/pvforecast'); os.execvp(sys.argv[1], sys.argv[1:])"
    mounts = "".join(
        f'mkdir -p "$root{inside}"; mount --bind {shlex.quote(str(folder))} "$root{inside}"; '
        for folder, inside in binds.items()
    )
    script = (
        'root=$0; mount --bind "$root" "$root"; mount -o remount,bind,ro "$root"; '
        'mount -t tmpfs -o mode=1777 tmp "$root/tmp"; mount -t proc proc "$root/proc"; mount --rbind /dev "$root/dev"; '
        f"{mounts}exec setpriv --no-new-privs --bounding-set=-all,+sys_chroot,+setuid,+setgid "
        f'chroot --userspec={USER}:{USER} --groups={USER} "$root" /opt/venv/bin/python -c "{start}" "$@"'
    )
    return ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-euc", script, str(root), *command]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tools.images")
    parser.add_argument("folder", type=Path, help="where the build lies; 10 GB, with vfs 40 GB")
    parser.add_argument("--driver", choices=["overlay", "vfs"], default="overlay", help="of buildah's storage")
    parser.add_argument("--only", choices=NAMES, action="append")
    parser.add_argument("--no-cache", action="store_true", help="do every step again")
    options = parser.parse_args(argv)
    builder, report = Builder(options.folder, options.driver), {}
    for name in options.only or NAMES:
        started = time.monotonic()
        builder.build(name, cached=not options.no_cache)
        report[name] = builder.describe(name) | {"seconds": round(time.monotonic() - started)}
        print(f"{name}: {report[name]['megabytes']} MB, {report[name]['seconds']} s", file=sys.stderr, flush=True)
    print(json.dumps(report))
    return 0


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        words = " ".join(command[:12])
        raise RuntimeError(f"`{words} ...` ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
