"""One change of champion at a time, whichever process or machine makes it.

MLflow moves an alias without asking who holds it. So whoever changes the champion holds a lock from
reading the alias to moving it: a file of the home, and where MLflow keeps to PostgreSQL also an
advisory lock of its database, as homes on several machines may share it but no file. Both end with
the process that holds them, so that a kill blocks nobody.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path

from filelock import FileLock

from atlas.errors import ModelError
from pipelines.paths import Paths

__all__ = ["alone"]

_KEY = 0x41544C4153  # ATLAS, in the database's space of advisory locks


@contextmanager
def alone(paths: Paths) -> Iterator[None]:
    """Hold the right to change the champion until the block ends; wait while another has it.

    Raises:
        ModelError: the database that both would ask cannot be reached.
    """
    server = paths.var / "mlflow" / "mlflow.dsn"
    shared = _advisory(server) if server.is_file() else nullcontext()
    with FileLock(paths.var / "mlflow" / "promotion.lock"), shared:
        yield


@contextmanager
def _advisory(server: Path) -> Iterator[None]:
    import psycopg2  # of homes with workers alone

    try:
        connection = psycopg2.connect(server.read_text(encoding="utf-8"))
    except psycopg2.OperationalError as error:
        raise ModelError(
            f"the champion cannot be changed: PostgreSQL, which {server} names, does not answer: "
            f"{' '.join(str(error).split())}; start it (`make up`) and run the night again"
        ) from None
    with closing(connection):  # which gives the lock back
        connection.autocommit = True  # no transaction stays open while another waits
        with connection.cursor() as cursor:
            cursor.execute("select pg_advisory_lock(%s)", (_KEY,))
        yield
