"""Write files so that a kill at any moment leaves the old one or the new one, never a half.

A file is written under a temporary name in the same folder, flushed to disk, then renamed.
Writing what is already there changes nothing, so an unchanged artifact keeps its time stamp.
"""

import hashlib
import io
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["digest", "read_json", "write_bytes", "write_json", "write_parquet"]


def write_bytes(path: Path, content: bytes) -> bool:
    """Put `content` at `path` atomically; return whether the file changed."""
    if path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)
    _sync_folder(path.parent)
    return True


def write_json(path: Path, value: Any) -> bool:
    """Write JSON with sorted keys, so that equal values give equal bytes."""
    text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False)
    return write_bytes(path, f"{text}\n".encode())


def write_parquet(path: Path, frame: pd.DataFrame) -> bool:
    """Write a frame without its index; equal frames give equal bytes (same pyarrow)."""
    buffer = io.BytesIO()
    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    pq.write_table(table, buffer, compression="zstd")
    return write_bytes(path, buffer.getvalue())


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
