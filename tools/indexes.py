"""Makes uv follow what the user told pip: package indexes, certificates, proxies' own roots.

uv reads neither pip's variables nor its files, and trusts only the roots it brings: behind a company's proxy
or mirror pip works where uv does not. What is set for uv itself always wins.
"""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Mapping
from pathlib import Path

SYSTEM_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/ssl/cert.pem",  # Alpine
)


def pip_settings(python: Path) -> dict[str, str]:
    """The settings pip would use (its files, then its variables), by bare name: `index-url`, `cert`, ..."""
    listed = subprocess.run([python, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True).stdout
    settings: dict[str, str] = {}
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        section, _, name = key.rpartition(".")
        # Sections in the order of pip's own precedence: files' global, the command's, then the variables.
        rank = {"global": 0, "install": 1, ":env:": 2}.get(section)
        if rank is not None and rank >= int(settings.get(f"#{name}", "0")):
            settings[name] = str(ast.literal_eval(value))
            settings[f"#{name}"] = str(rank)
    return {name: value for name, value in settings.items() if not name.startswith("#")}


def system_bundle() -> str | None:
    """The machine's own bundle of certificate authorities."""
    return next((bundle for bundle in SYSTEM_BUNDLES if Path(bundle).exists()), None)


def for_uv(environ: Mapping[str, str], pip: Mapping[str, str], bundle: str | None) -> dict[str, str]:
    """The variables to add to `environ` so that uv reaches what pip would reach.

    Parameters
    ----------
    environ : the user's environment; nothing in it is replaced.
    pip : settings of pip, as `pip_settings` gives them.
    bundle : the machine's certificate bundle, if there is one.
    """
    added: dict[str, str] = {}

    def offer(value: str | None, name: str, *already: str) -> None:
        if value and not any(environ.get(key) for key in (name, *already)):
            added[name] = value

    offer(pip.get("index-url"), "UV_DEFAULT_INDEX", "UV_INDEX_URL")
    offer(" ".join(pip.get("extra-index-url", "").split()), "UV_INDEX", "UV_EXTRA_INDEX_URL")
    if "UV_INDEX" in added:
        # As pip does; every file is held to its hash, so that no index can slip in another.
        offer("unsafe-best-match", "UV_INDEX_STRATEGY")
    offer(",".join(pip.get("find-links", "").split()), "UV_FIND_LINKS")
    offer(" ".join(pip.get("trusted-host", "").split()), "UV_INSECURE_HOST")
    offer(pip.get("default-timeout") or pip.get("timeout"), "UV_HTTP_TIMEOUT")
    offer(pip.get("cert"), "SSL_CERT_FILE", "SSL_CERT_DIR", "UV_SYSTEM_CERTS", "UV_NATIVE_TLS")
    if bundle and "SSL_CERT_FILE" not in added:
        offer("true", "UV_SYSTEM_CERTS", "UV_NATIVE_TLS", "SSL_CERT_FILE", "SSL_CERT_DIR")
    return added
