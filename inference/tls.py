"""TLS between our own services, by a folder as cert-manager's Secrets are mounted: `tls.crt`, `tls.key`, `ca.crt`.

Servers show the certificate and take a renewed one for new connections without a restart; clients trust `ca.crt` alone.
The loopback address of a pod (transformer to predictor) is not encrypted.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path

from pvforecast.errors import InvalidInput
from pvforecast.settings import Settings

log = logging.getLogger(__name__)

RELOAD_S = 10.0
_HINT = "PEM files tls.crt and tls.key that belong together, as cert-manager writes them"


class Certificate:
    """The certificate and key of a server, as they are now: `context` for HTTP, `pair` in PEM for gRPC."""

    def __init__(self, folder: Path, context: ssl.SSLContext | None = None) -> None:
        """Raises InvalidInput when there is no such pair. `context` : of a server that made its own."""
        self._folder = folder
        self.pair = (b"", b"")
        self.context = context or ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["http/1.1"])
        try:
            self._load()
        except (OSError, ssl.SSLError) as error:
            raise InvalidInput(f"{folder}: {error}", field="PVF_TLS_FOLDER", hint=_HINT) from error

    def refresh(self) -> bool:
        """Take what lies there now. What can't be used is said in the log, and the one before is kept."""
        try:
            return self._load()
        except (OSError, ssl.SSLError) as error:
            log.warning("the certificate in %s is not taken, the one before goes on: %s", self._folder, error)
            return False

    async def follow(self) -> None:
        while True:
            await asyncio.sleep(RELOAD_S)
            if await asyncio.to_thread(self.refresh):
                log.info("the certificate in %s is a new one", self._folder)

    def _load(self) -> bool:
        # A kubelet swaps the folder behind tls.crt and tls.key at once: resolved, both are of one renewal.
        certificate, key = ((self._folder / name).resolve(strict=True) for name in ("tls.crt", "tls.key"))
        pair = (certificate.read_bytes(), key.read_bytes())
        if pair == self.pair:
            return False
        # On one of its own first: a context keeps a certificate whose key it has refused.
        for context in (ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), self.context):
            context.load_cert_chain(certificate, key)
        self.pair = pair
        return True


def certificate(settings: Settings) -> Certificate | None:
    """Of a server of ours; None where `PVF_TLS_FOLDER` is not set, which means plain HTTP."""
    return Certificate(settings.tls_folder) if settings.tls_folder else None


def trusted(settings: Settings) -> ssl.SSLContext | bool:
    """What a client of our services verifies them by, for httpx: our own authority, or the usual ones."""
    if not settings.tls_folder:
        return True
    try:
        return ssl.create_default_context(cafile=settings.tls_folder / "ca.crt")
    except (OSError, ssl.SSLError) as error:
        hint = "a PEM file ca.crt of the authority that signed our services' certificates"
        raise InvalidInput(f"{settings.tls_folder}: {error}", field="PVF_TLS_FOLDER", hint=hint) from error
