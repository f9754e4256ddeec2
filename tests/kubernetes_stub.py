"""A stand-in for a Kubernetes API server with KServe: one InferenceService and its Deployment, over real connections.

It does server-side apply by field manager, checks what a request must have, brings pods up in steps (one each time the
Deployment is looked at, old ones going only when new ones are available), and fails where it is told to. It is no
cluster: what a real one would do beyond this is not shown by it.
"""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import yaml

MANIFEST = Path(__file__).parents[1] / "manifests" / "serving" / "inference-service.yaml"
NAMESPACE, NAME, REPLICAS = "solar", "pv-forecast", 2
SERVICE = f"/apis/serving.kserve.io/v1beta1/namespaces/{NAMESPACE}/inferenceservices/{NAME}"
DEPLOYMENT = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{NAME}-predictor"
BUNDLE_URI = "pvforecast.io/bundle-uri"

Object = dict[str, Any]


@dataclass
class KubernetesStub:
    """Start it by `with`.

    Attributes
    ----------
    service : the InferenceService as the cluster has it; None: there is none.
    owners : annotation -> field manager that holds it.
    broken : bundle URIs whose pods never get ready.
    failures : statuses that the next requests get instead of an answer.
    requests : every request: method, path, query.
    pods : URI -> pods that serve it.
    fewest : the fewest pods that ever served at once.
    on_pods : told the URI of pods that have just become available.
    """

    service: Object | None = None
    owners: dict[str, str] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    failures: list[int] = field(default_factory=list)
    requests: list[tuple[str, str, dict[str, list[str]]]] = field(default_factory=list)
    pods: dict[str, int] = field(default_factory=lambda: {"": REPLICAS})
    fewest: int = REPLICAS
    on_pods: Callable[[str], None] = lambda _: None
    url: str = ""

    def __post_init__(self) -> None:
        self.service = yaml.safe_load(MANIFEST.read_text())
        self.service["metadata"] |= {"namespace": NAMESPACE, "uid": "uid-1", "generation": 1}
        self._looks = 0
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._answer(None)

            def do_PATCH(self) -> None:
                self._answer(self.rfile.read(int(self.headers["Content-Length"])))

            def _answer(self, body: bytes | None) -> None:
                with stub._lock:
                    status, made = stub._handle(self.command, self.path, dict(self.headers), body)
                data = json.dumps(made).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def annotations(self) -> dict[str, str]:
        assert self.service is not None
        told: dict[str, str] = self.service["spec"]["predictor"].get("annotations", {})
        return told

    def kubeconfig(self, folder: Path) -> Path:
        """A file that leads here, with a token."""
        one = {"name": "stub", "cluster": {"server": self.url}}
        user = {"name": "stub", "user": {"token": "a-token"}}
        context = {"name": "stub", "context": {"cluster": "stub", "user": "stub"}}
        path = folder / "kubeconfig"
        path.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [one],
                    "users": [user],
                    "contexts": [context],
                    "current-context": "stub",
                }
            )
        )
        return path

    def _handle(self, method: str, target: str, headers: dict[str, str], body: bytes | None) -> tuple[int, Object]:
        url = urlsplit(target)
        query = parse_qs(url.query)
        self.requests.append((method, url.path, query))
        if self.failures:
            return _status(self.failures.pop(0), "told to fail")
        if {name.lower(): value for name, value in headers.items()}.get("authorization") != "Bearer a-token":
            return _status(401, "Unauthorized")
        if self.service is None or url.path not in (SERVICE, DEPLOYMENT):
            return _status(404, f"{url.path} not found")
        if method == "PATCH":
            return self._apply(url.path, query, headers, json.loads(body or b"null"))
        if url.path == SERVICE:
            return 200, copy.deepcopy(self.service)
        self._step()
        return 200, self._deployment()

    def _apply(
        self, path: str, query: dict[str, list[str]], headers: dict[str, str], body: Object
    ) -> tuple[int, Object]:
        assert self.service is not None
        if path != SERVICE or headers.get("Content-Type") != "application/apply-patch+yaml":
            return _status(415, "not a server-side apply")
        manager = query.get("fieldManager", [""])[0]
        metadata = body.get("metadata", {})
        if not manager or (body.get("apiVersion"), body.get("kind")) != (
            self.service["apiVersion"], self.service["kind"],
        ) or (metadata.get("name"), metadata.get("namespace")) != (NAME, NAMESPACE):  # fmt: skip
            return _status(400, "fieldManager, apiVersion, kind, name and namespace are needed")
        if metadata.get("uid", self.service["metadata"]["uid"]) != self.service["metadata"]["uid"]:
            return _status(409, "the UID in the precondition does not match")
        if set(body) != {"apiVersion", "kind", "metadata", "spec"} or set(body["spec"]) != {"predictor"} or set(
            body["spec"]["predictor"]
        ) != {"annotations"}:  # fmt: skip
            return _status(422, "it would own more than annotations")
        wanted: dict[str, str] = body["spec"]["predictor"]["annotations"]
        for name, value in wanted.items():
            owner = self.owners.get(name, manager)
            if owner != manager and self.annotations.get(name) != value and query.get("force") != ["true"]:
                return _status(409, f'Apply failed with 1 conflict: conflict with "{owner}": .{name}')
        if query.get("dryRun") == ["All"]:
            return 200, copy.deepcopy(self.service)
        if self.annotations | wanted != self.annotations:
            self.service["metadata"]["generation"] += 1
            self.service["spec"]["predictor"]["annotations"] = self.annotations | wanted
            self._looks = 0
        self.owners |= dict.fromkeys(wanted, manager)
        return 200, copy.deepcopy(self.service)

    def _step(self) -> None:
        """KServe acts at the second look, then a pod comes up at each look, and an old one goes."""
        self._looks += 1
        uri = self.annotations.get(BUNDLE_URI, "")
        if self._looks < 2 or uri in self.broken:
            return
        old = next((one for one, number in self.pods.items() if one != uri and number), None)
        if self.pods.get(uri, 0) < REPLICAS:
            self.pods[uri] = self.pods.get(uri, 0) + 1
            self.on_pods(uri)
        elif old is not None:
            self.pods[old] -= 1
        self.fewest = min(self.fewest, sum(self.pods.values()))

    def _deployment(self) -> Object:
        assert self.service is not None
        uri = self.annotations.get(BUNDLE_URI, "")
        seen = self._looks >= 2
        gave_up = uri in self.broken and self._looks > 4
        progress = {"type": "Progressing", "status": "False" if gave_up else "True", "message": "2 pods unready"}
        progress["reason"] = "ProgressDeadlineExceeded" if gave_up else "ReplicaSetUpdated"
        generation = self.service["metadata"]["generation"]
        return {
            "metadata": {"generation": generation},
            "spec": {
                "replicas": REPLICAS,
                "template": {"metadata": {"annotations": self.annotations if seen else {}}},
            },
            "status": {
                "observedGeneration": generation if seen else generation - 1,
                "replicas": sum(self.pods.values()) + (uri in self.broken),
                "updatedReplicas": self.pods.get(uri, 0) + (uri in self.broken),
                "availableReplicas": sum(self.pods.values()),
                "conditions": [progress],
            },
        }


def _status(code: int, message: str) -> tuple[int, Object]:
    return code, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code}
