"""A stand-in for the KFP API server: it keeps state, pages its lists, and fails when it is told to.

No KFP server can run in these tests. What stands in for its strictness: every request body must be a model of the
package `kfp_server_api` (no unknown field, right types, words of the enumerations), filters too; an uploaded pipeline
must parse as KFP's protobufs; parameters of a run must be the pipeline's; names are unique where KFP's database says
so, and recurring runs are not, as in KFP. What it does not do: run anything.
"""

from __future__ import annotations

import email.parser
import email.policy
import itertools
import json
import re
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kfp_server_api
import yaml
from google.protobuf import json_format
from kfp.kubernetes.kubernetes_executor_config_pb2 import KubernetesExecutorConfig
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec, PlatformSpec

API = "/apis/v2beta1"
_CRON = re.compile(r"^[\d*/,-]+ [\d*/,-]+ [\d*/,-]+ [\d*/,?-]+ [\dA-Z*/,-]+ [\dA-Z*/,?-]+$")
_KINDS = {
    "STRING": str,
    "NUMBER_INTEGER": int,
    "NUMBER_DOUBLE": (int, float),
    "BOOLEAN": bool,
    "LIST": list,
    "STRUCT": dict,
}


class Refused(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class KfpStub:
    """The server; `url` is its address while `running`.

    Attributes
    ----------
    faults : number of a call, from 0 -> what happens at it: ``<status>`` instead of doing it, ``done-<status>`` after
        doing it; ``reset`` and ``done-reset``, the connection breaks; ``hang`` and ``done-hang``, no answer; ``html``.
    """

    def __init__(self, token: str = "", page_size: int = 20) -> None:
        self.url = ""
        self.token = token
        self.calls: list[str] = []
        self.faults: dict[int, str] = {}
        self.always = ""  # a fault at every call
        self.headers: dict[str, str] = {}
        self.pipelines: dict[str, dict[str, Any]] = {}
        self.versions: dict[str, dict[str, Any]] = {}
        self.experiments: dict[str, dict[str, Any]] = {}
        self.recurring: dict[str, dict[str, Any]] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.logs: dict[str, str] = {}
        self.hang_s = 5.0
        self._page_size = page_size
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    @contextmanager
    def running(self, context: ssl.SSLContext | None = None) -> Iterator[KfpStub]:
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # an answer in one packet: in two, the second waits 40 ms for the client's acknowledgement

            def _serve(self) -> None:
                stub._serve(self)

            do_GET = do_POST = do_DELETE = do_PATCH = _serve  # noqa: N815 - the names that http.server calls

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
            server.handle_error = lambda *_: None  # type: ignore[method-assign] # a client that turns away
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()

    # --- what tests do to it ---

    def finish(self, run_id: str, state: str, **more: Any) -> None:
        self.runs[run_id] |= {"state": state, "finished_at": _now(), **more}

    def trigger(self, recurring_run_id: str, scheduled_at: str) -> str:
        """Start the run of a schedule, as the controller does."""
        job = self.recurring[recurring_run_id]
        run_id = self._id("run")
        self.runs[run_id] = {
            "run_id": run_id, "display_name": f"Run of {job['display_name']} ({run_id})", "state": "RUNNING",
            "created_at": self._later(), "scheduled_at": scheduled_at, "recurring_run_id": recurring_run_id,
            "experiment_id": job["experiment_id"], "runtime_config": job["runtime_config"],
        }  # fmt: skip
        return run_id

    def enabled(self, display_name: str) -> list[str]:
        """Ids of the enabled recurring runs of that name."""
        return [
            key
            for key, job in self.recurring.items()
            if job["display_name"] == display_name and job["status"] == "ENABLED"
        ]

    # --- the protocol ---

    def _serve(self, http: BaseHTTPRequestHandler) -> None:
        body = http.rfile.read(int(http.headers.get("content-length", 0)))
        with self._lock:
            number = len(self.calls)
            self.calls.append(f"{http.command} {urlsplit(http.path).path}")
            fault = self.faults.get(number, self.always)
            after = fault.removeprefix("done-")
            if fault and after == fault:
                return self._fail(http, fault)
            try:
                answer: Any = self._answer(http, body)
            except Refused as error:
                return _send(http, error.status, {"code": error.status, "message": str(error)}, {})
            if fault:
                return self._fail(http, after)
        if isinstance(answer, str):
            return _send(http, 200, answer, {}, "text/plain")
        return _send(http, 200, answer, {})

    def _fail(self, http: BaseHTTPRequestHandler, fault: str) -> None:
        if fault == "reset":
            http.connection.close()
            http.close_connection = True
        elif fault == "hang":
            time.sleep(self.hang_s)
            http.close_connection = True
        elif fault == "html":
            _send(http, 200, "<html>Sign in</html>", {}, "text/html")
        else:
            _send(http, int(fault), {"code": int(fault), "message": f"told to fail with {fault}"}, self.headers)

    def _answer(self, http: BaseHTTPRequestHandler, body: bytes) -> Any:
        if self.token and http.headers.get("authorization") != f"Bearer {self.token}":
            raise Refused(401, "Unauthenticated: no valid token")
        at = urlsplit(http.path)
        query = {name: values[0] for name, values in parse_qs(at.query).items()}
        words = f"{http.command} {at.path.removeprefix(API)}"
        match words.replace(":", "/").split("/"):
            case ["GET ", "pipelines"]:
                return self._page("pipelines", self.pipelines, query, {})
            case ["POST ", "pipelines"]:
                return self._add(self.pipelines, "pipeline", _model("V2beta1Pipeline", body), unique=("display_name",))
            case ["GET ", "pipelines", of, "versions"]:
                self._known(self.pipelines, of)
                return self._page("pipeline_versions", self.versions, query, {"pipeline_id": of})
            case ["POST ", "pipelines", "upload_version"]:
                return self._upload(http.headers["content-type"], body, query)
            case ["GET ", "experiments"]:
                return self._page("experiments", self.experiments, query, {})
            case ["POST ", "experiments"]:
                given = _model("V2beta1Experiment", body)
                return self._add(self.experiments, "experiment", given, unique=("display_name",))
            case ["GET ", "recurringruns"]:
                return self._page("recurringRuns", self.recurring, query, {})
            case ["POST ", "recurringruns"]:
                return self._schedule(_model("V2beta1RecurringRun", body))
            case ["POST ", "recurringruns", key, ("enable" | "disable") as word]:
                self._known(self.recurring, key)["status"] = f"{word.upper()}D"
                return {}
            case ["DELETE ", "recurringruns", key]:
                self._known(self.recurring, key)
                for run in self.runs.values():
                    if run.get("recurring_run_id") == key and run["state"] == "RUNNING":
                        run["state"] = "FAILED"  # Kubernetes deletes what the schedule owns
                del self.recurring[key]
                return {}
            case ["GET ", "runs"]:
                alone = {"experiment_id": query["experiment_id"]} if query.get("experiment_id") else {}
                return self._page("runs", self.runs, query, alone)
            case ["POST ", "runs"]:
                given = _model("V2beta1Run", body)
                self._check_reference(given)
                return self._add(self.runs, "run", given | {"state": "PENDING"})
            case ["GET ", "runs", key]:
                return self._known(self.runs, key)
            case ["POST ", "runs", key, "terminate"]:
                run = self._known(self.runs, key)
                if run["state"] not in ("PENDING", "RUNNING"):
                    raise Refused(400, f"run {key} has ended")
                run["state"] = "CANCELING"
                return {}
        log = re.fullmatch(r"/apis/v1alpha1/runs/([^/]+)/nodes/([^/]+)/log", at.path)
        if http.command == "GET" and log and log[2] in self.logs:
            return self.logs[log[2]]
        raise Refused(404, f"{http.command} {at.path}: not found")

    def _page(self, name: str, table: dict[str, Any], query: dict[str, str], only: dict[str, str]) -> dict[str, Any]:
        rows = [row for row in table.values() if all(row.get(key) == value for key, value in only.items())]
        if query.get("filter"):
            given = _model("V2beta1Filter", query["filter"].replace('"stringValue"', '"string_value"').encode())
            for predicate in given["predicates"]:
                if predicate["operation"] != "EQUALS":
                    raise Refused(400, f"the stub knows EQUALS only, not {predicate['operation']}")
                rows = [row for row in rows if row.get(predicate["key"]) == predicate["string_value"]]
        if query.get("sort_by"):
            key, _, way = query["sort_by"].partition(" ")
            rows = sorted(rows, key=lambda row: str(row.get(key, "")), reverse=way == "desc")
        begin = int(query.get("page_token") or 0)
        # KFP may give less than was asked for, and does so here, so that lists have pages.
        end = begin + min(int(query.get("page_size") or 20), self._page_size)
        return {
            name: rows[begin:end],
            "total_size": len(rows),
            "next_page_token": str(end) if end < len(rows) else "",
        }

    def _add(
        self, table: dict[str, Any], kind: str, given: dict[str, Any], unique: tuple[str, ...] = ()
    ) -> dict[str, Any]:
        for name in unique:
            if any(row.get(name) == given.get(name) for row in table.values()):
                raise Refused(409, f"Already exist: the {kind} {given.get(name)} is there")
        key = self._id(kind)
        table[key] = {**given, f"{kind}_id": key, "created_at": self._later()}
        return table[key]

    def _upload(self, kind: str, body: bytes, query: dict[str, str]) -> dict[str, Any]:
        message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(
            f"Content-Type: {kind}\n\n".encode() + body
        )
        (part,) = list(message.iter_parts())
        spec, *platform = yaml.safe_load_all(part.get_payload(decode=True).decode())  # type: ignore[union-attr]
        json_format.ParseDict(spec, PipelineSpec())
        for document in platform:
            json_format.ParseDict(document, PlatformSpec())
            for config in document["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values():
                json_format.ParseDict(config, KubernetesExecutorConfig())
        self._known(self.pipelines, query["pipelineid"])
        same = [v for v in self.versions.values() if v["pipeline_id"] == query["pipelineid"]]
        if any(v["display_name"] == query["name"] for v in same):
            raise Refused(409, "Already exist: the version is there")
        given = {"pipeline_id": query["pipelineid"], "name": query["name"], "display_name": query["name"]}
        key = self._id("version")
        self.versions[key] = {**given, "pipeline_version_id": key, "created_at": self._later(), "pipeline_spec": spec}
        return self.versions[key]

    def _schedule(self, given: dict[str, Any]) -> dict[str, Any]:
        self._check_reference(given)
        self._known(self.experiments, given["experiment_id"])
        if not _CRON.match(given["trigger"]["cron_schedule"]["cron"]):
            raise Refused(400, f"cron {given['trigger']['cron_schedule']['cron']!r}: six fields are needed")
        if not 1 <= int(given["max_concurrency"]) <= 10:
            raise Refused(400, "max_concurrency must be within 1 and 10")
        if given["mode"] not in ("ENABLE", "DISABLE"):
            raise Refused(400, "mode must be ENABLE or DISABLE")
        return self._add(self.recurring, "recurring_run", given | {"status": f"{given['mode']}D"})

    def _check_reference(self, given: dict[str, Any]) -> None:
        reference = given["pipeline_version_reference"]
        version = self._known(self.versions, reference["pipeline_version_id"])
        if version["pipeline_id"] != reference["pipeline_id"]:
            raise Refused(400, "the version is of another pipeline")
        inputs = version["pipeline_spec"]["root"].get("inputDefinitions", {}).get("parameters", {})
        parameters = given.get("runtime_config", {}).get("parameters", {})
        for name, value in parameters.items():
            if name not in inputs:
                raise Refused(400, f"the pipeline has no parameter {name}")
            if not isinstance(value, _KINDS[inputs[name]["parameterType"]]):
                raise Refused(400, f"parameter {name} is no {inputs[name]['parameterType']}")
        missing = [n for n, spec in inputs.items() if n not in parameters and not spec.get("isOptional")]
        if missing:
            raise Refused(400, f"parameters are missing: {missing}")

    def _known(self, table: dict[str, Any], key: str) -> dict[str, Any]:
        if key not in table:
            raise Refused(404, f"ResourceNotFoundError: {key} not found")
        row: dict[str, Any] = table[key]
        return row

    def _id(self, kind: str) -> str:
        return f"{kind}-{next(self._numbers):04d}"

    def _later(self) -> str:
        """A time after every one given before, so that newest first is an order."""
        return (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=next(self._numbers))).isoformat()


def self_signed(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """A CA file and a server context for 127.0.0.1."""
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "kfp")])
    begin = datetime.now(UTC) - timedelta(days=1)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(begin).not_valid_after(begin + timedelta(days=10)).add_extension(address, False)
    made = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), True).sign(key, hashes.SHA256())
    public, private = folder / "ca.pem", folder / "key.pem"
    public.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    private.write_bytes(key.private_bytes(encoding, form, serialization.NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    return public, context


def _model(name: str, body: bytes) -> dict[str, Any]:
    """A JSON body that is the model `name`, with nothing else in it."""
    try:
        value = json.loads(body)
    except ValueError as error:
        raise Refused(400, f"no JSON: {error}") from error
    _check(name, value, name)
    result: dict[str, Any] = value
    return result


def _check(kind: str, value: Any, where: str) -> None:
    plain = {"str": str, "int": int, "bool": bool, "datetime": str, "float": (int, float)}
    if kind == "object":
        return
    if kind in plain:
        if not isinstance(value, plain[kind]) or (kind != "bool" and isinstance(value, bool)):
            raise Refused(400, f"{where}: {value!r} is no {kind}")
    elif kind.startswith("list["):
        for item in value:
            _check(kind[5:-1], item, where)
    elif kind.startswith("dict("):
        if not isinstance(value, dict):
            raise Refused(400, f"{where}: {value!r} is no mapping")
        for key, item in value.items():
            _check(kind[5:-1].split(", ")[1], item, f"{where}.{key}")
    else:
        model = getattr(kfp_server_api.models, kind)
        if hasattr(model, "allowable_values"):
            if value not in model.allowable_values:
                raise Refused(400, f"{where}: {value!r} is none of {model.allowable_values}")
            return
        names = {key: attribute for attribute, key in model.attribute_map.items()}
        for key, item in value.items():
            if key not in names:
                raise Refused(400, f"{where}: no field {key!r}")
            _check(model.openapi_types[names[key]], item, f"{where}.{key}")


def _send(
    http: BaseHTTPRequestHandler, status: int, body: Any, headers: dict[str, str], kind: str = "application/json"
) -> None:
    data = (body if isinstance(body, str) else json.dumps(body)).encode()
    http.send_response(status)
    for name, value in {**headers, "content-type": kind, "content-length": str(len(data))}.items():
        http.send_header(name, value)
    http.end_headers()
    http.wfile.write(data)


def _now() -> str:
    return datetime.now(UTC).isoformat()
