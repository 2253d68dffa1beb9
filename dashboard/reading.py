"""Open what a home holds: columns of Parquet, JSON, SQLite; never the whole of a large file.

- Whatever is missing or broken becomes an `AtlasError` whose text is shown in place of the figure,
  so that one bad file never takes the page down.
- Results are kept by path, size and time of change: a page that is asked for again reads nothing.
  What is kept has a limit in bytes, and one file is read at a time, so that neither many visitors
  nor many symbols make the process grow.
- SQLite is opened in its read-only mode: a look at a registry can neither make nor lock one.
"""

import datetime as dt
import json
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from atlas.errors import AtlasError, DataError, HomeError

__all__ = [
    "FORM_ERRORS",
    "Panel",
    "attempt",
    "batches",
    "columns",
    "footer",
    "json_list",
    "json_of",
    "rows_of",
    "stored",
    "unexpected",
]

FORM_ERRORS = (ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError)
_ROWS = 16_384  # of a piece
_BUFFER = 2**16  # bytes of a column read ahead; without it a whole column of a row group is
_LEAST = 256  # bytes that any object is taken for
KEPT_BYTES = 16 * 2**20  # of results; the least recently asked for goes first
_T = TypeVar("_T")
_results: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
_lock = threading.Lock()
_reading = threading.RLock()  # a result may be made of others


class Panel(NamedTuple):
    """A part of a page: its value, or the notice that stands there instead."""

    value: Any
    notice: str


def attempt(work: Callable[..., Any], *arguments: Any) -> Panel:
    """Do `work`; what it raises on purpose, or a malformed file, becomes the panel's notice."""
    try:
        return Panel(work(*arguments), "")
    except AtlasError as error:
        return Panel(None, str(error))
    except FORM_ERRORS as error:
        return Panel(None, unexpected(error))


def unexpected(error: Exception) -> str:
    """Return the notice that stands where a file has another form than expected."""
    return (
        "A file of this home has another form than expected: run the night again "
        f"({type(error).__name__}: {error})"
    )


def stored(files: Sequence[Path], key: Hashable, work: Callable[[], _T]) -> _T:
    """Return what `work` returned for these files and this key, as long as no file changes."""
    marks = tuple((str(path), *_mark(path)) for path in files)
    whole = (marks, key)
    with _lock:
        if whole in _results:
            _results.move_to_end(whole)
            known: _T = _results[whole][0]
            return known
    with _reading:
        found = work()
    with _lock:
        _results[whole] = (found, _size(found))
        _forget()
    return found


def _forget() -> None:
    """Drop what was asked for longest ago until the rest is within the limit."""
    total = sum(size for _, size in _results.values())
    while total > KEPT_BYTES:
        total -= _results.popitem(last=False)[1][1]


def _size(value: Any) -> int:
    """Return about how many bytes a result holds."""
    if isinstance(value, pd.DataFrame):
        return int(value.memory_usage(deep=True).sum())
    if isinstance(value, pd.Series | pd.Index):
        return int(value.memory_usage(deep=True))
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, Mapping):
        return _LEAST + sum(map(_size, value.values()))
    if isinstance(value, list | tuple):
        return _LEAST + sum(map(_size, value))
    return _LEAST


def columns(
    path: Path, names: Sequence[str], *, equal: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Read some columns of a Parquet file, and only the rows in which others equal these texts.

    Raises:
        DataError: the file is missing or broken, or lacks a column; it says what to do.
    """
    parts = list(batches(path, names, equal=equal))
    if not parts:
        none = footer(path).schema.to_arrow_schema().empty_table().select(list(names))
        return pd.DataFrame(none.to_pandas())
    frame: pd.DataFrame = _categories(pa.Table.from_batches(parts)).to_pandas()
    return frame


def batches(
    path: Path, names: Sequence[str], *, equal: Mapping[str, str] | None = None
) -> Iterator[pa.RecordBatch]:
    """Give the rows of `columns` piece by piece: a large file is never whole in memory.

    Raises:
        DataError: as `columns`.
    """
    equal = equal or {}
    metadata = footer(path)
    wanted = [*names, *(name for name in equal if name not in names)]
    missing = [name for name in wanted if name not in metadata.schema.names]
    if missing:
        raise DataError(f"{path} lacks the columns {', '.join(missing)}: run the night again")
    groups = [k for k in range(metadata.num_row_groups) if _may_hold(metadata.row_group(k), equal)]
    try:
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER) as file:
            for batch in file.iter_batches(_ROWS, groups, wanted, use_threads=False):
                for name, value in equal.items():
                    batch = batch.filter(pc.equal(batch.column(name), value))
                if batch.num_rows:
                    yield batch.select(list(names))
    except (pa.ArrowException, OSError) as error:
        raise DataError(_broken(path, error)) from None


def footer(path: Path) -> Any:
    """Return a Parquet file's metadata without reading a row.

    Raises:
        DataError: the file is missing or broken.
    """
    if not path.is_file():
        raise DataError(f"There is no {path.name} yet ({path}): run a night first, make nightly")
    try:
        return pq.read_metadata(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(_broken(path, error)) from None


def json_of(path: Path) -> dict[str, Any]:
    """Return a JSON object; an empty one if there is no such file.

    Raises:
        DataError: the file is no JSON object.
    """
    found = _json(path)
    if found is not None and not isinstance(found, dict):
        raise DataError(f"{path}: expected a JSON object; got {type(found).__name__}: {_AGAIN}")
    return found or {}


def json_list(path: Path) -> list[dict[str, Any]]:
    """Return a JSON list of objects; an empty one if there is no such file.

    Raises:
        DataError: the file is no such list.
    """
    found = _json(path)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise DataError(f"{path}: expected a JSON list of objects: {_AGAIN}")
    return found


def rows_of(database: Path, question: str, values: Sequence[Any] = ()) -> list[Mapping[str, Any]]:
    """Ask a SQLite database, opened read-only; or PostgreSQL, if a `.dsn` beside it names one.

    Raises:
        HomeError: there is no such database, or it cannot be read.
    """
    if (server := database.with_suffix(".dsn")).is_file():
        return _rows_of_server(server, question, values)
    if not database.is_file():
        raise HomeError(f"There is no {database.name} yet ({database}): run make nightly")
    try:
        address = f"{database.resolve().as_uri()}?mode=ro"
        with closing(sqlite3.connect(address, uri=True, timeout=2.0)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(question, list(values))]
    except sqlite3.Error as error:
        raise HomeError(
            f"{database} cannot be read ({error}): put a copy in its place; make doctor says more"
        ) from None


def _rows_of_server(place: Path, question: str, values: Sequence[Any]) -> list[Mapping[str, Any]]:
    """Ask PostgreSQL in a transaction that can change nothing; answer as SQLite would."""
    import psycopg2  # a home on SQLite does without
    from psycopg2.extras import RealDictCursor

    try:
        with closing(psycopg2.connect(place.read_text(encoding="utf-8"))) as connection:
            connection.set_session(readonly=True)
            with connection.cursor(cursor_factory=RealDictCursor) as cursor:
                cursor.execute(question.replace("?", "%s"), list(values))
                return [{key: _plain(one) for key, one in row.items()} for row in cursor]
    except psycopg2.Error as error:
        raise HomeError(f"{place.stem} does not answer ({error}): make up starts it") from None


def _plain(value: Any) -> Any:
    if isinstance(value, dt.datetime):
        return value.isoformat(sep=" ")
    return json.dumps(value) if isinstance(value, dict) else value


def _may_hold(group: Any, equal: Mapping[str, str]) -> bool:
    """Return whether a row group's statistics allow rows with these texts."""
    for place in range(group.num_columns):
        column = group.column(place)
        value, marks = equal.get(column.path_in_schema), column.statistics
        if value is None or marks is None or not marks.has_min_max:
            continue
        if not marks.min <= value <= marks.max:
            return False
    return True


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DataError(_broken(path, error)) from None


_AGAIN = "remove it and run the night again"


def _broken(path: Path, error: Exception) -> str:
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    return f"{path} cannot be read ({first[:160]}): {_AGAIN}"


def _categories(table: pa.Table) -> pa.Table:
    """Turn texts into dictionaries: a million symbol names are twenty."""
    for place, field in enumerate(table.schema):
        if pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
            table = table.set_column(place, field.name, table.column(place).dictionary_encode())
    return table


def _mark(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0)
    return (found.st_mtime_ns, found.st_size)
