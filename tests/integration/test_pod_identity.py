"""S3 without keys, by what a pod gets for its service account: asked for at an address of the pod, as on EKS."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from pydantic import SecretStr

from pvforecast import pod_identity, wiring
from pvforecast.errors import NotReady
from pvforecast.lake.tables import PARKS
from pvforecast.settings import Settings

pytestmark = pytest.mark.stack


@pytest.fixture
def keyless(infra: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Settings]:
    """Settings without keys, in a pod whose agent hands out those of the store."""
    answer = {
        "AccessKeyId": infra.s3_access_key.get_secret_value(),
        "SecretAccessKey": infra.s3_secret_key.get_secret_value(),
        "Token": "",
        "Expiration": "2099-01-01T00:00:00Z",
    }

    class Agent(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            """Quiet."""

    token = tmp_path / "token"
    token.write_text("of the service account")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Agent) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://127.0.0.1:{server.server_port}/credentials")
        monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(token))
        yield infra.model_copy(update={"s3_access_key": SecretStr(""), "s3_secret_key": SecretStr("")})
        server.shutdown()


def test_objects_are_read_and_written(keyless: Settings) -> None:
    store = wiring.objects(keyless)
    store.put("pod-identity/x", b"1")
    assert store.get("pod-identity/x") == b"1"


def test_the_lake_is_read_and_written(keyless: Settings) -> None:
    lake = wiring.lake(keyless.model_copy(update={"lake_uri": f"s3://{keyless.s3_bucket}/pod-identity"}))
    began = pd.Timestamp("2024-01-01", tz="UTC")
    lake.append_new(PARKS, pd.DataFrame([{"park_id": "a", "valid_from": began, "recorded_at": began, "facts": "{}"}]))
    assert lake.read(PARKS, columns=["park_id"])["park_id"].to_pylist() == ["a"]


def test_without_a_role_keys_are_asked_for(infra: Settings) -> None:
    assert pod_identity.offered({}) == {}
    with pytest.raises(NotReady):
        wiring.objects(infra.model_copy(update={"s3_access_key": SecretStr("")})).get("x")
