"""PostgreSQL and Redis from the system's packages, as programs of a home.

PostgreSQL refuses to run as root. Started by root it runs as its package's own user, and its files
lie where that user may read them; else it runs as the caller, with its files in the home.
"""

import hashlib
import os
import pwd
import shutil
import subprocess
from contextlib import closing
from pathlib import Path

import psycopg2
import redis

from atlas.errors import HomeError
from pipelines.paths import Paths
from services.distributed import USER, Backing, passfile, password
from services.private import write_private
from services.processes import LOCALHOST, Program

__all__ = ["DATABASES", "NAMES", "cluster", "connection_text", "ensure", "prepare", "programs"]

NAMES = ("postgres", "redis")
DATABASES = ("airflow", "mlflow", "mlflow_login")
_DEBIAN = Path("/usr/lib/postgresql")
_CONNECTIONS = 100


def cluster(paths: Paths) -> Path:
    """Return the folder of PostgreSQL's files."""
    if os.getuid():
        return paths.var / "postgres"
    name = hashlib.sha256(str(paths.home).encode()).hexdigest()[:16]
    return Path(_owner().pw_dir) / f"atlas-{name}"


def prepare(paths: Paths) -> None:
    """Make the cluster and Redis's configuration, unless they are there.

    Raises:
        HomeError: a program is missing, or the cluster cannot be made.
    """
    folder = cluster(paths)
    if not (folder / "PG_VERSION").is_file():
        _make_cluster(paths, folder)
    home = paths.var / "redis"
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    lines = (f"requirepass {password(paths, 'redis')}", f"dir {home}", "appendonly yes")
    write_private(home / "redis.conf", "\n".join(lines) + "\n")


def programs(paths: Paths, found: Backing) -> tuple[Program, Program]:
    """Return both as programs."""
    folder = cluster(paths)
    serve = [str(_postgres("postgres")), "-D", str(folder), "-k", ""]
    serve += ["-h", LOCALHOST, "-p", str(found.postgres_port), "-N", str(_CONNECTIONS)]
    serve += ["-c", "shared_buffers=64MB"]
    store = [_program("redis-server"), str(paths.var / "redis" / "redis.conf")]
    store += ["--bind", LOCALHOST, "--port", str(found.redis_port)]
    return (
        Program("postgres", (*_as_owner(), *serve), {}, found.postgres_port),
        Program("redis", tuple(store), {}, found.redis_port),
    )


def ensure(paths: Paths, found: Backing) -> bool:
    """Make the databases once PostgreSQL answers; return whether it and Redis do."""
    try:
        with closing(psycopg2.connect(connection_text(paths, found, "postgres"))) as server:
            server.autocommit = True
            with server.cursor() as cursor:
                cursor.execute("select datname from pg_database")
                known = {name for (name,) in cursor.fetchall()}
                for name in (name for name in DATABASES if name not in known):
                    cursor.execute(f'create database "{name}"')
        secret = password(paths, "redis")
        with redis.Redis(LOCALHOST, found.redis_port, password=secret) as store:
            store.ping()
    except (psycopg2.OperationalError, redis.RedisError):
        return False
    return True


def connection_text(paths: Paths, found: Backing, database: str) -> str:
    """Return libpq's own form of an address; it names the passfile, not the password."""
    return (
        f"host={LOCALHOST} port={found.postgres_port} user={USER} dbname={database} "
        f"passfile='{passfile(paths)}' connect_timeout=5"
    )


def _make_cluster(paths: Paths, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)  # what a kill has left half made
    folder.mkdir(mode=0o700, parents=True)
    given = folder.with_name(f"{folder.name}.first")
    write_private(given, password(paths, "postgres"))
    if not os.getuid():
        for path in (folder, given):
            os.chown(path, _owner().pw_uid, _owner().pw_gid)
    command = [*_as_owner(), str(_postgres("initdb")), "-D", str(folder), "-U", USER]
    command += ["-E", "UTF8", "--locale=C.UTF-8", "-A", "scram-sha-256", f"--pwfile={given}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    given.unlink()
    if done.returncode != 0:
        shutil.rmtree(folder, ignore_errors=True)
        raise HomeError(f"initdb failed: {done.stderr.strip()[-1000:]}")


def _owner() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        raise HomeError("no user postgres: apt-get install postgresql") from None


def _as_owner() -> tuple[str, ...]:
    if os.getuid():
        return ()
    change = ("--reuid=postgres", "--regid=postgres", "--init-groups")
    return (_program("setpriv"), *change, _program("env"), "--chdir=/")


def _postgres(name: str) -> Path:
    found = sorted(_DEBIAN.glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    if not found:
        raise HomeError(f"no PostgreSQL under {_DEBIAN}: apt-get install postgresql")
    return found[-1]


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise HomeError(f"{name} not found: apt-get install redis-server util-linux coreutils")
    return found
