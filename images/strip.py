"""Removes from a Debian root file system what an image does not run with: `python3 -I strip.py [PACKAGE ...]`.

Kept are the C library, what Python is linked against, Python itself (Debian's, or another below /usr/local), the
certificates and the packages named. What is kept stays in dpkg's database, so that scanners see it; the rest is gone
from both. Needs nothing but Python, because it also removes the shell.
"""

from __future__ import annotations

import compileall
import os
import py_compile
import re
import shutil
import stat
import sys
from pathlib import Path

DPKG = Path("/var/lib/dpkg")
KEPT = [
    "base-files",
    "netbase",
    "tzdata",
    "libc6",
    "libstdc++6",
    "libgcc-s1",
    "python3",
    "libssl3",
    "libsqlite3-0",
    "libffi8",
    "zlib1g",
    "libbz2-1.0",
    "liblzma5",
    "libexpat1",
    "libuuid1",
    "libncursesw6",
    "libreadline8",
    "libgdbm6",
    "libnsl2",
    "libdb5.3",
    "libcrypt1",
]
NOT_FOLLOWED = {"dpkg", "debconf", "perl-base", "install-info", "mawk", "debianutils", "sensible-utils", "bsdutils"}
FOLDERS = [
    "/usr/share/doc",
    "/usr/share/man",
    "/usr/share/info",
    "/usr/share/locale",
    "/usr/share/lintian",
    "/usr/share/bash-completion",
    "/usr/share/perl5",
    "/usr/lib/apt",
    "/var/lib/apt",
    "/var/cache",
    "/var/log",
    "/etc/apt",
    "/etc/cron.daily",
    "/usr/local/include",
    "/usr/local/lib/python3.11/ensurepip",
    "/usr/local/lib/python3.11/idlelib",
    "/usr/local/lib/python3.11/test",
    "/usr/lib/python3.11/ensurepip",
    "/usr/share/python-wheels",
]


def stanzas() -> dict[str, str]:
    text = (DPKG / "status").read_text()
    return {part.split("\n", 1)[0].removeprefix("Package: "): part for part in text.split("\n\n") if part.strip()}


def closure(packages: dict[str, str], roots: list[str]) -> set[str]:
    """The packages named, with what they depend on as far as it is needed to run."""
    found: set[str] = set()
    waiting = [name for name in roots if name in packages]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        wanted = ",".join(re.findall(r"^(?:Pre-)?Depends: (.*)$", packages[name], re.MULTILINE))
        names = {re.split(r"[ :(]", word.strip(), maxsplit=1)[0] for word in re.split(r"[,|]", wanted)}
        waiting += sorted((names & packages.keys()) - NOT_FOLLOWED)
    return found


def files(package: str) -> set[Path]:
    """The paths of a package, by the folder they really lie in (/bin is a link to /usr/bin)."""
    lists = [*DPKG.glob(f"info/{package}.list"), *DPKG.glob(f"info/{package}:*.list")]
    paths = [Path(line) for file in lists for line in file.read_text().splitlines()]
    return {path.parent.resolve() / path.name for path in paths if path.is_symlink() or path.is_file()}


def main(named: list[str]) -> None:
    packages = stanzas()
    kept = closure(packages, KEPT + named)
    used = set().union(*map(files, kept))
    for package in packages.keys() - kept:
        for path in files(package) - used:
            path.unlink(missing_ok=True)
    (DPKG / "status").write_text("\n\n".join(packages[name].strip("\n") for name in sorted(kept)) + "\n")
    for path in DPKG.iterdir():
        if path.name != "status":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for folder in FOLDERS:
        shutil.rmtree(folder, ignore_errors=True)
    for pip in Path("/usr/local/lib/python3.11/site-packages").glob("*"):  # environments bring their own
        shutil.rmtree(pip) if pip.is_dir() else pip.unlink()
    _tidy(Path("/"))
    for library in (Path("/usr/lib/python3.11"), Path("/usr/local/lib/python3.11")):
        if library.exists():  # trusted by its hash: the same bytes whenever it is built
            mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
            compileall.compile_dir(library, quiet=2, invalidation_mode=mode)
    Path(__file__).unlink()


def _tidy(root: Path) -> None:
    """No link to nothing, no right to become another user, no byte code dated by its file."""
    device = root.stat().st_dev
    for folder, names, plain in os.walk(root, topdown=True):
        names[:] = [name for name in names if os.lstat(Path(folder, name)).st_dev == device]
        for path in (Path(folder, name) for name in plain + names):
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                if not path.exists():
                    path.unlink()
            elif mode & (stat.S_ISUID | stat.S_ISGID):
                path.chmod(mode & ~(stat.S_ISUID | stat.S_ISGID))
            elif path.suffix == ".pyc":
                path.unlink()


if __name__ == "__main__":
    main(sys.argv[1:])
