"""The images, built by buildah and started as a pod would start them: read-only, user 10001, no capabilities.

The base is made by debootstrap, so that no registry is needed. PVF_TEST_IMAGES names a folder to keep the builds in,
PVF_TEST_IMAGES_DRIVER=vfs is for file systems that take no overlays.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import psycopg
import pytest
import yaml

from inference.drift.tests import lakes
from pvforecast.lake import Lake, tables
from pvforecast.settings import Settings
from tests.bundles import record, site, tiny_bundle
from tests.debian import requires_debian
from tests.serving import PARKS, eventually, free_ports, serving
from tools import images

pytestmark = [
    pytest.mark.slow,
    pytest.mark.debian,
    requires_debian("buildah", "debootstrap"),
    pytest.mark.skipif(os.geteuid() != 0, reason="buildah, debootstrap and mounts need root here"),
    pytest.mark.timeout(3_600),
]

ROOT = Path(__file__).parents[2]
NO_BUSINESS = {
    *("gcc", "g++", "cc", "c++", "ld", "as", "make", "cmake", "cargo"),
    *("apt", "apt-get", "dpkg", "perl", "pip", "pip3", "curl", "wget", "git", "ssh", "nc"),
    *("su", "mount", "umount", "chsh", "passwd", "gdb", "strace"),
}
SHELLS = {"sh", "dash", "bash"}


@dataclass(frozen=True)
class Image:
    """A built image, mounted. Its own variables are set for what runs in it, as a container runtime sets them."""

    root: Path
    described: dict[str, Any]

    def call(
        self, *command: str, binds: Mapping[Path, str] = MappingProxyType({}), **more: str
    ) -> subprocess.CompletedProcess[str]:
        words, environment = images.confined(self.root, command, binds), self._environment(more)
        return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300, check=False)

    @contextmanager
    def running(self, *command: str, **more: str) -> Iterator[None]:
        with tempfile.TemporaryFile() as log:
            words, environment = images.confined(self.root, command), self._environment(more)
            process = subprocess.Popen(words, env=environment, stdout=log, stderr=log, start_new_session=True)
            try:
                yield
                assert process.poll() is None, "it ended by itself"
            except BaseException:
                log.seek(0)
                sys.stderr.write(log.read().decode()[-4000:])
                raise
            finally:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(20)

    def programs(self) -> set[str]:
        folders = ("usr/bin", "usr/sbin", "usr/local/bin", "usr/local/sbin", "opt/venv/bin")
        return {path.name for folder in folders for path in self.root.joinpath(folder).glob("*")}

    def files(self) -> Iterator[Path]:
        """All but what a container runtime covers with its own."""
        for folder, names, files in os.walk(self.root):
            if Path(folder) == self.root:
                names[:] = [name for name in names if name not in ("dev", "proc", "sys")]
            yield from (Path(folder, name) for name in files)

    def _environment(self, more: Mapping[str, str]) -> dict[str, str]:
        own: dict[str, str] = self.described["environment"]
        return own | {"PATH": f"{own['PATH']}:/usr/sbin:/sbin"} | dict(more)  # where mount and chroot are, outside


class Images:
    """Built when they are first asked for, so that `-k serve` builds that alone."""

    def __init__(self, builder: images.Builder, stack: ExitStack) -> None:
        self._builder, self._stack, self._made = builder, stack, dict[str, Image]()

    def __getitem__(self, name: str) -> Image:
        if name not in self._made:
            self._builder.build(name)
            root = self._stack.enter_context(self._builder.root(name))
            self._made[name] = Image(root, self._builder.describe(name))
        return self._made[name]


@pytest.fixture(scope="module")
def builder() -> Iterator[images.Builder]:
    kept = os.environ.get("PVF_TEST_IMAGES")
    folder = Path(kept) if kept else Path(tempfile.mkdtemp(prefix="pvf-images-", dir="/var/tmp"))
    yield images.Builder(folder, os.environ.get("PVF_TEST_IMAGES_DRIVER", "overlay"))
    if not kept:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def built(builder: images.Builder) -> Iterator[Images]:
    with ExitStack() as stack:
        yield Images(builder, stack)


@pytest.mark.parametrize("name", images.NAMES)
class TestWhatIsInIt:
    def test_its_user_is_a_number_other_than_root(self, built: Images, name: str) -> None:
        assert built[name].described["user"] == "10001:10001"

    def test_labels_say_what_it_is(self, built: Images, name: str) -> None:
        labels = built[name].described["labels"]
        assert labels["org.opencontainers.image.title"] == f"pvforecast/{name}"
        assert labels["org.opencontainers.image.revision"] == "built-for-a-test"
        assert labels["org.opencontainers.image.version"] == "0.1.0"

    def test_no_compiler_package_manager_or_downloader(self, built: Images, name: str) -> None:
        programs = built[name].programs()
        assert programs & NO_BUSINESS == set()
        assert bool(programs & SHELLS) == (name == "app")  # Kubeflow Pipelines starts tasks by a shell

    def test_nothing_lets_a_process_become_another_user(self, built: Images, name: str) -> None:
        modes = {path: path.lstat().st_mode for path in built[name].files()}
        assert [path for path, mode in modes.items() if mode & (stat.S_ISUID | stat.S_ISGID)] == []

    def test_its_user_owns_and_may_write_nothing(self, built: Images, name: str) -> None:
        for path in built[name].files():
            status = path.lstat()
            assert status.st_uid == 0, path
            assert path.is_symlink() or not status.st_mode & stat.S_IWOTH, path

    def test_no_tests_keys_or_history_of_the_tree(self, built: Images, name: str) -> None:
        tree = built[name].root / "opt" / "pvforecast"
        assert not [p for p in tree.rglob("*") if p.name in ("tests", ".pvf", ".git", "secrets") or p.suffix == ".pem"]

    def test_all_code_is_compiled(self, built: Images, name: str) -> None:
        """The file system is read-only: what is not compiled now is compiled at each start."""
        sources = list((built[name].root / "opt" / "pvforecast").rglob("*.py"))
        assert len(sources) > 50
        compiled = [path.parent / "__pycache__" / f"{path.stem}.cpython-311.pyc" for path in sources]
        assert [path for path in compiled if not path.exists()] == []

    def test_its_list_of_contents_is_what_was_locked(self, built: Images, name: str) -> None:
        sbom = json.loads((built[name].root / "usr" / "share" / "sbom" / f"{name}.cdx.json").read_text())
        assert sbom["bomFormat"] == "CycloneDX"
        listed = {f"{_normal(part['name'])}=={part['version']}" for part in sbom["components"]}
        locked = {pin for pin, marker in _lock(name) if "never" not in marker and not pin.startswith("pytest==")}
        assert listed == locked

    def test_every_command_of_the_manifests_starts_in_it(self, built: Images, name: str) -> None:
        commands = [command for image, command in _commands_of_manifests() if image == name]
        assert commands
        for command in commands:
            done = built[name].call(*command, "--help")
            assert done.returncode == 0, f"{command}: {done.stderr[-2000:]}"


def test_the_root_is_read_only_and_rights_are_gone(built: Images) -> None:
    """Of the way these tests start images, without which they would prove little."""
    code = (
        "import os, pathlib\n"
        "print(os.getuid(), os.getgid(), [l for l in open('/proc/self/status') if 'CapEff' in l or 'NoNew' in l])\n"
        "pathlib.Path('/tmp/x').write_text('')\n"
        "try: pathlib.Path('/opt/x').write_text('')\n"
        "except OSError as error: print(error.strerror)"
    )
    done = built["serve"].call("python", "-c", code)
    assert "10001 10001" in done.stdout, done.stderr
    assert r"CapEff:\t0000000000000000\n" in done.stdout
    assert r"NoNewPrivs:\t1\n" in done.stdout
    assert "Read-only file system" in done.stdout or "Permission denied" in done.stdout


@pytest.mark.stack
def test_serve_forecasts_logs_and_streams(built: Images, infra: Settings) -> None:
    with serving(infra) as made, ExitStack() as stack:
        made.deploy(tiny_bundle(record(site(PARKS[0]))), "7")
        for name in ("sink", "predictor", "transformer"):
            service = made.services[name]
            command = ["python", "-m", service.module, *service.arguments]
            stack.enter_context(built["serve"].running(*command, **service.env | {"PVF_HOME": "/tmp/pvf"}))
        port = free_ports(1)[0]
        command = ["python", "-m", "inference.stream", "--port", str(port)]
        more = made.env | {"PVF_TRANSFORMER_URL": made.url, "PVF_HOME": "/tmp/pvf"}
        stack.enter_context(built["serve"].running(*command, **more))
        for health in (made.services["sink"].health, f"{made.predictor_url}/v2/health/ready", f"{made.url}/"):
            _healthy(health)
        _healthy(f"http://127.0.0.1:{port}/healthz")
        answer = made.ask({"park_id": PARKS[0]})
        assert answer.status_code == 200, answer.text
        assert answer.json()["predictions"][0]["model_version"] == "7"
        assert len(answer.json()["predictions"][0]["valid_at"]) == 48
        eventually(lambda: _logged(made.dsn) == 2, 60)  # request and response


@pytest.mark.stack
def test_app_answers_as_retrain_trigger(built: Images, infra: Settings) -> None:
    port = free_ports(1)[0]
    command = ["python", "-m", "inference.retrain", "--port", str(port)]
    more = {
        "PVF_POSTGRES_DSN": infra.postgres_dsn.get_secret_value(),
        "PVF_TRAINING_COMMAND": '["python", "-c", "pass"]',
    }
    with built["app"].running(*command, **more):
        _healthy(f"http://127.0.0.1:{port}/healthz")


def test_app_compiles_the_pipelines(built: Images) -> None:
    """By a shell, as Kubeflow Pipelines starts its tasks."""
    done = built["app"].call("sh", "-ec", "python -m pvf pipeline compile /tmp/compiled && ls /tmp/compiled")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "training.yaml" in done.stdout


def test_app_writes_a_lake_in_a_folder(built: Images, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    lake.mkdir()
    (lake / "parks.csv").write_text(
        "park_id,latitude,longitude,timezone,ac_capacity_kw,dc_capacity_kw,tilt_deg,azimuth_deg\n"
        "north,52.5,13.4,Europe/Berlin,800,1000,30,180\n"
    )
    os.chown(lake, images.USER, images.USER)
    command = ["python", "-m", "pvf", "import", "parks", "/tmp/lake/parks.csv"]
    done = built["app"].call(*command, binds={lake: "/tmp/lake"}, PVF_LAKE_URI="/tmp/lake/data")
    assert done.returncode == 0, done.stdout + done.stderr
    assert Lake(str(lake / "data")).read(tables.PARKS, columns=["park_id"])["park_id"].to_pylist() == ["north"]


@pytest.mark.stack
def test_app_backs_up_a_database(built: Images, infra: Settings, tmp_path: Path) -> None:
    """By pg_dump of the server's version, which can speak TLS: the local server has none, and says so itself."""
    tmp_path.chmod(0o777)
    dsn = infra.postgres_dsn.get_secret_value()
    command = ["python", "-m", "pvf", "backup", "create", "--at", "/tmp/backups"]
    done = built["app"].call(*command, binds={tmp_path: "/tmp/backups"}, PVF_POSTGRES_DSN=dsn)
    assert done.returncode == 0, done.stdout + done.stderr
    (dump,) = tmp_path.glob("backups/*/postgres.dump")
    assert dump.read_bytes().startswith(b"PGDMP")
    encrypted = f"{dsn}{'&' if '?' in dsn else '?'}sslmode=require"
    done = built["app"].call(*command, binds={tmp_path: "/tmp/backups"}, PVF_POSTGRES_DSN=encrypted)
    assert "server does not support SSL, but SSL was required" in done.stdout + done.stderr


def test_drift_learns_a_reference_and_checks_a_park(built: Images, tmp_path: Path) -> None:
    folder = tmp_path / "lake"
    lakes.fill(Lake(str(folder)), record(site("sim-a"), days=120))
    subprocess.run(["chown", "-R", str(images.USER), folder], check=True)
    words = (["reference", "--until", "2013-08-20T12:00:00Z"], ["check", "--as-of", "2013-08-25T12:00:00Z"])
    seen = []
    for command in words:
        job = ["python", "-m", "inference.drift", *command, "--all", "--json"]
        done = built["drift"].call(*job, binds={folder: "/tmp/lake"}, PVF_LAKE_URI="/tmp/lake")
        assert done.returncode == 0, done.stdout + done.stderr[-2000:]
        seen += [json.loads(line)["status"] for line in done.stdout.splitlines()]
    assert seen == ["made", "ok"]


def test_drift_explains_with_alibi_detect(built: Images) -> None:
    code = (
        "from alibi_detect.cd import KSDrift; import numpy as np; x = np.random.default_rng(0).normal(size=(200, 1));"
        " print(KSDrift(x, p_val=0.01).predict(x + 2)['data']['is_drift'])"
    )
    done = built["drift"].call("python", "-W", "ignore", "-c", code)
    assert done.stdout.strip() == "1", done.stderr[-2000:]


def test_built_again_from_nothing_it_is_the_same(builder: images.Builder, built: Images) -> None:
    builder.build("serve", cached=False)
    assert builder.describe("serve")["layers"] == built["serve"].described["layers"]


def _healthy(url: str) -> None:
    eventually(lambda: httpx.get(url, timeout=2).status_code == 200, 120)


def _commands_of_manifests() -> set[tuple[str, tuple[str, ...]]]:
    """(image, command with its subcommands) of every container in manifests/."""
    found = set()
    for file in (ROOT / "manifests").rglob("*.yaml"):
        for container in _containers(list(yaml.safe_load_all(file.read_text()))):
            match = re.fullmatch(r"pvforecast/(\w+):.*", container["image"])
            if match:
                words = [word for word in container.get("args", ()) if re.fullmatch(r"[a-z]+", word)]
                many = {"pvf": 2, "inference.drift": 1, "mlflow": 1}.get(container["command"][-1], 0)
                found.add((match[1], (*container["command"], *words[:many])))
    return found


def _containers(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict) and "image" in value and "command" in value:
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _containers(inner)


def _lock(name: str) -> list[tuple[str, str]]:
    """(name==version, marker) of each package."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    found = re.findall(r"^([a-z0-9._-]+)(?:\[[^\]]*\])?==([^ ;\\]+)([^\\\n]*)", text, re.MULTILINE)
    return [(f"{_normal(package)}=={version}", marker) for package, version, marker in found]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _logged(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT count(*) FROM prediction_log").fetchone()
    return int(row[0]) if row else 0
