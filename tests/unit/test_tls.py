"""TLS between our services: real handshakes over loopback, certificates of a throw-away authority."""

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
from pathlib import Path

import grpc
import httpx
import pytest
from cryptography import x509
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from inference import server, tls, web
from pvf import exporter
from pvforecast.errors import InvalidInput
from pvforecast.settings import Settings
from tests.certificates import Authority
from tests.serving import eventually

APP = Starlette(routes=[Route("/", lambda _request: PlainTextResponse("here"))])


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def folder(authority: Authority, tmp_path: Path) -> Path:
    authority.issue(tmp_path / "tls", "forecast-api")
    return tmp_path / "tls"


def settings(folder: Path) -> Settings:
    return Settings(tls_folder=folder)


def shown(port: int) -> int:
    """The serial number of the certificate that a new connection is shown."""
    pem = ssl.get_server_certificate(("127.0.0.1", port), timeout=10)
    return x509.load_pem_x509_certificate(pem.encode()).serial_number


async def ask(listener: socket.socket, verify: ssl.SSLContext | bool, scheme: str = "https") -> str:
    async with httpx.AsyncClient(verify=verify, trust_env=False) as client:
        return (await client.get(f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/")).text


def test_who_trusts_our_authority_is_answered_and_nobody_else(
    authority: Authority, folder: Path, tmp_path: Path
) -> None:
    Authority("another").issue(tmp_path / "other", "forecast-api")

    async def run() -> None:
        listener = web.listen("127.0.0.1", 0)
        certificate = tls.certificate(settings(folder))
        assert certificate is not None
        serving = asyncio.create_task(web.serve(APP, listener, certificate))
        port = listener.getsockname()[1]
        assert await ask(listener, tls.trusted(settings(folder))) == "here"
        for stranger in (tls.trusted(settings(tmp_path / "other")), True):
            with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                await ask(listener, stranger)
        with pytest.raises(httpx.HTTPError):
            await ask(listener, True, "http")

        renewed = authority.issue(folder, "forecast-api")
        assert await asyncio.to_thread(shown, port) != renewed
        assert certificate.refresh()
        assert await asyncio.to_thread(shown, port) == renewed
        assert not certificate.refresh()
        assert await ask(listener, tls.trusted(settings(folder))) == "here"

        (folder / "tls.key").unlink()
        (folder / "tls.key").symlink_to(tmp_path / "other" / "tls.key")
        assert not certificate.refresh()  # a key of another certificate: the pair before goes on
        assert await ask(listener, tls.trusted(settings(folder))) == "here"
        signal.raise_signal(signal.SIGTERM)
        await serving

    asyncio.run(run())


def test_grpc_shows_a_renewed_certificate_to_new_connections(authority: Authority, folder: Path) -> None:
    async def run() -> None:
        certificate = tls.Certificate(folder)
        rpc = grpc.aio.server()
        port = rpc.add_secure_port("127.0.0.1:0", server._credentials(certificate))
        await rpc.start()
        renewed = authority.issue(folder, "forecast-api")
        assert await asyncio.to_thread(shown, port) != renewed
        certificate.refresh()
        assert await asyncio.to_thread(shown, port) == renewed
        trusted = grpc.ssl_channel_credentials((folder / "ca.crt").read_bytes())
        async with grpc.aio.secure_channel(f"127.0.0.1:{port}", trusted) as channel:
            await asyncio.wait_for(channel.channel_ready(), 30)
        await rpc.stop(0)

    asyncio.run(run())


def test_the_metrics_of_the_fleet_are_encrypted_too(
    authority: Authority, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "RELOAD_S", 0.05)
    listening = exporter._listen(CollectorRegistry(), "127.0.0.1", 0, folder)
    try:
        with socket.create_connection(("127.0.0.1", listening.server_port)):  # says nothing
            url, verify = f"https://127.0.0.1:{listening.server_port}/metrics", tls.trusted(settings(folder))
            assert httpx.get(url, verify=verify, trust_env=False, timeout=30).status_code == 200
            renewed = authority.issue(folder, "fleet-metrics")
            eventually(lambda: shown(listening.server_port) == renewed)
    finally:
        listening.shutdown()
        listening.server_close()


@pytest.mark.parametrize("missing", ["tls.crt", "tls.key"])
def test_a_server_without_its_certificate_says_so(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(InvalidInput, match="PVF_TLS_FOLDER"):
        tls.certificate(settings(folder))


def test_a_client_without_its_authority_says_so(folder: Path) -> None:
    (folder / "ca.crt").unlink()
    with pytest.raises(InvalidInput, match="PVF_TLS_FOLDER"):
        tls.trusted(settings(folder))
    assert tls.certificate(Settings(tls_folder=None)) is None
    assert tls.trusted(Settings(tls_folder=None)) is True
