"""Debian's packages that some tests use: `python3.11 -m tools.debian`.

As root they are installed; as an ordinary user they are named, and the tests that need them are skipped.
kustomize is taken from Debian 13 and only unpacked, into .tools/: Debian 12 has none that knows components.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tools.environments import ROOT

PACKAGES = {
    "mosquitto": "mosquitto",
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "amtool": "prometheus-alertmanager",
    "chromium": "chromium",
    "buildah": "buildah",
    "debootstrap": "debootstrap",
}
TOOLS = ROOT / ".tools"
KUSTOMIZE_FROM = "trixie"
DEBIAN_RELEASES = {"bullseye", "bookworm", "trixie", "forky", "sid", "oldstable", "stable", "testing"}
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
POLICY = Path("/usr/sbin/policy-rc.d")  # asked by maintainer scripts before they start a service


def find(program: str) -> Path | None:
    """Where a program is: unpacked in .tools/, on the PATH, or where Debian puts servers; None if nowhere."""
    folders = [str(TOOLS / "usr" / "bin"), os.environ.get("PATH", os.defpath), "/usr/sbin"]
    path = shutil.which(program, path=":".join(folders))
    if path is None or (program == "kustomize" and not _knows_components(Path(path))):
        return None
    return Path(path)


def main() -> int:
    """Installs what is missing, or says what to install. Returns the exit status."""
    packages = sorted({package for program, package in PACKAGES.items() if not find(program)})
    started = time.monotonic()
    if not shutil.which("apt-get"):
        missing = [*packages, *([] if find("kustomize") else ["kustomize (5 or later)"])]
        if missing:
            _say(f"not a Debian system; without these some tests are skipped: {', '.join(missing)}")
        return 0
    try:
        if packages and os.geteuid() == 0:
            _say(f"installing {' '.join(packages)} (chromium with its libraries is about 700 MB)")
            _install(packages)
            _say(f"installed in {time.monotonic() - started:.0f} s")
        elif packages:
            _say(f"not root; some tests are skipped until: sudo apt-get install {' '.join(packages)}")
        if not find("kustomize"):
            _unpack_kustomize()
            _say(f"kustomize unpacked into {TOOLS.name}/, {time.monotonic() - started:.0f} s in all")
    except subprocess.CalledProcessError as error:
        _say(f"`{' '.join(map(str, error.cmd))}` ended with status {error.returncode}: {error.stderr or ''}")
        return 1
    return 0


def _install(packages: Sequence[str]) -> None:
    """Installs packages without their recommendations, and without starting their services."""
    apt = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0"]
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    _run([*apt, "update"])
    with _no_services():
        _run([*apt, "install", "--yes", "--no-install-recommends", *packages], environ)


@contextmanager
def _no_services() -> Iterator[None]:
    """The tests start servers of their own: the packages' daemons must not run beside them."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()


def _unpack_kustomize() -> None:
    """Downloads kustomize from this machine's own Debian mirror and unpacks it; root is not needed.

    apt checks the signature, in a state of its own, so that the machine's package lists stay as they are.
    """
    mirror = _debian_mirror()
    if mirror is None:
        _say("no Debian archive among the apt sources; tests that render manifests need a kustomize >= 5")
        return
    with tempfile.TemporaryDirectory(prefix="kustomize-") as temporary:
        state = Path(temporary)
        for folder in ("lists/partial", "cache/archives/partial", "download"):
            (state / folder).mkdir(parents=True)
        sources = state / "sources.list"
        sources.write_text(f"deb [signed-by={KEYRING}] {mirror} {KUSTOMIZE_FROM} main\n")
        options = {
            "Dir::State::lists": state / "lists",
            "Dir::Cache": state / "cache",
            "Dir::Etc::sourcelist": sources,
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
            "Acquire::Languages": "none",
            "APT::Sandbox::User": "root",  # its own user could not write here
        }
        apt = [
            "apt-get",
            "-qq",
            *(word for key, value in options.items() for word in ("-o", f"{key}={value}")),
        ]
        _run([*apt, "update"])
        _run([*apt, "download", f"kustomize/{KUSTOMIZE_FROM}"], folder=state / "download")
        for package in (state / "download").glob("kustomize_*.deb"):
            _run(["dpkg-deb", "-x", str(package), str(TOOLS)])


def _debian_mirror() -> str | None:
    """The address of the Debian archive this machine installs from."""
    listed = _run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages"]
    )
    for line in listed.splitlines():
        uri, release, component = line.split()
        if release in DEBIAN_RELEASES and component == "main":
            return uri
    return None


def _knows_components(kustomize: Path) -> bool:
    if kustomize.is_relative_to(TOOLS):
        return True  # Debian's own build does not know its version
    version = subprocess.run([kustomize, "version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"v?(\d+)\.\d+", version)
    return bool(found and int(found[1]) >= 5)


def _run(command: Sequence[str], environ: dict[str, str] | None = None, folder: Path | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environ, cwd=folder)
    return done.stdout


def _say(text: str) -> None:
    print(f"[debian] {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
