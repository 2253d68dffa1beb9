"""The store of raw bars: one way in, `write_bars`, and one way out, `read_bars`.

Rows are kept as they came, bad ones and duplicates included, so that validation sees them; readers
get them without the quarantined keys, and none at all that validation has not seen. Bars of a
minute or less lie in a file a month, other intraday bars in a file a year, daily bars and surfaces
in one file a symbol. A row that is stored stays, but for what a split or dividend makes of its
adj_close (`pipelines.merge`): keys that are missing are added, in whole files that replace the old
ones, so a second run changes no byte and a kill loses nothing.
"""

import logging
import re
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from atlas.bars import PRICES, Timeframe, check_bars
from atlas.config import MarketConfig, Modality
from atlas.errors import DataError
from atlas.surfaces import SURFACE_COLUMNS, check_surfaces
from pipelines.contents import Contents
from pipelines.files import write_parquet
from pipelines.merge import (
    KEYS,
    Adjustment,
    among,
    differing,
    extends,
    is_restated,
    like_stored,
    merged,
    restate,
)
from pipelines.partitions import partitions
from pipelines.paths import Paths
from pipelines.verdict import require_verdict

__all__ = [
    "Extent",
    "Written",
    "extent",
    "known_by",
    "market_as_of",
    "night_of",
    "read_after",
    "read_bars",
    "read_raw",
    "symbol_files",
    "symbol_name",
    "symbols",
    "write_bars",
]

log = logging.getLogger(__name__)

_SYMBOL = re.compile(r"[A-Za-z0-9_=^-][A-Za-z0-9._=^-]{0,63}")


class Extent(NamedTuple):
    """How much of a market is stored and known by a night."""

    bars: int
    first: pd.Timestamp | None
    last: pd.Timestamp | None


class Written(NamedTuple):
    """What adding rows to a symbol did.

    Attributes:
        files: those that changed.
        bytes_read: of the store.
        bytes_written: of the files that changed, whole.
        adjustment: the split or dividend that restated stored rows, if one did.
    """

    files: list[Path]
    bytes_read: int
    bytes_written: int
    adjustment: Adjustment | None


_NOTHING = Extent(0, None, None)


def symbol_name(name: str) -> str:
    """Return `name` if it is safe as a symbol and as a file's name, else raise DataError."""
    if not _SYMBOL.fullmatch(name):
        raise DataError(
            f"symbol name {name!r}: expected at most 64 letters, digits and . _ = ^ -, "
            "not starting with a dot"
        )
    return name


def symbols(paths: Paths, market: str) -> list[str]:
    """Return the symbols that the store holds for a market, in order."""
    folder = paths.bars(market)
    entries = folder.iterdir() if folder.is_dir() else ()
    return sorted(
        entry.name.removesuffix("" if entry.is_dir() else ".parquet")
        for entry in entries
        if not entry.name.startswith(".") and (entry.is_dir() or entry.suffix == ".parquet")
    )


def symbol_files(paths: Paths, market: str, symbol: str) -> list[Path]:
    """Return the files that hold a symbol, in the order of time."""
    whole = paths.bars(market) / f"{symbol_name(symbol)}.parquet"
    parts = sorted((paths.bars(market) / symbol).glob("[0-9]*.parquet"))
    return [whole, *parts] if whole.is_file() else parts


def known_by(
    timestamps: "pd.Series[pd.Timestamp]", as_of: pd.Timestamp, config: MarketConfig
) -> "pd.Series[bool]":
    """Return which rows a night knows: bars closed, surfaces taken, at or before `as_of`."""
    return timestamps <= as_of - _delay(config)


def night_of(last: pd.Timestamp, config: MarketConfig) -> pd.Timestamp:
    """Return the first night that knows the row at `last`: the midnight UTC at or after it."""
    return (last + _delay(config)).ceil("D")


def read_bars(
    paths: Paths,
    market: str,
    symbol: str,
    *,
    as_of: pd.Timestamp,
    config: MarketConfig,
    quarantined: bool = True,
) -> pd.DataFrame:
    """Read what a night knows of a symbol, in order of time.

    Args:
        as_of: the night; later rows are left out, even if the store has them.
        quarantined: drop the rows whose key is in quarantine; only validation sees them.

    Returns:
        Bars as `check_bars` gives them (index timestamp), or quotes as `check_surfaces` does
        (column timestamp), perhaps no rows.

    Raises:
        DataError: the symbol is not stored, a file of it cannot be read, or rows are asked for
            that validation has not seen.
    """
    name = f"{market}/{symbol}"
    found = _stored(paths, market, symbol)
    verdict = require_verdict(paths, market) if quarantined else None
    if verdict and symbol in verdict.unreadable:
        return _no_rows(config)
    frame, _ = _known(found, as_of, config)
    if verdict:
        unseen = ~known_by(frame["timestamp"], verdict.covers, config)
        if unseen.any():
            raise DataError(
                f"{name}: expected rows that validation has seen; got {int(unseen.sum())} known "
                f"after the night of {verdict.covers:%Y-%m-%d}, the last it judged: run validate "
                f"first (`python -m pipelines validate --market {market}`)"
            )
        frame = _without_quarantined(frame, paths.quarantine(market), symbol)
    return _checked(frame, name, config.modality)


def read_raw(
    paths: Paths, market: str, symbol: str, *, as_of: pd.Timestamp, config: MarketConfig
) -> tuple[pd.DataFrame, dict[Path, int]]:
    """Read what a night knows of a symbol, bad rows included: for validation alone.

    Returns:
        What `read_bars` gives, and how many of the rows each file holds, in their order.

    Raises:
        DataError: the symbol is not stored, or a file of it cannot be read.
    """
    frame, rows = _known(_stored(paths, market, symbol), as_of, config)
    return _checked(frame, f"{market}/{symbol}", config.modality), rows


def read_after(
    paths: Paths, market: str, symbol: str, config: MarketConfig, moment: pd.Timestamp
) -> pd.DataFrame:
    """Return the keys of a symbol's stored rows that lie after a moment, perhaps none.

    Raises:
        DataError: a file of it cannot be read.
    """
    names = KEYS[config.modality]
    found = [path for path in symbol_files(paths, market, symbol) if _ends_after(path, moment)]
    if not found:
        return pd.DataFrame(columns=names)
    rows = _joined(found, names)
    return rows[rows["timestamp"] > moment]


def write_bars(
    paths: Paths,
    market: str,
    symbol: str,
    frame: pd.DataFrame,
    timeframe: Timeframe,
    modality: Modality,
    *,
    restated: Literal["keep", "refuse"] = "keep",
    report: Callable[[Adjustment], None] | None = None,
    contents: Contents | None = None,
) -> Written:
    """Add the rows whose keys the store lacks, and what the source now says of adj_close.

    Args:
        frame: a frame that `check_bars` or `check_surfaces` accepts.
        restated: keep rows that are stored and have other values now, saying so, or refuse first.
        report: told of a split or dividend before anything is written.
        contents: what is known of files, which then need not be read; told what they hold now.

    Raises:
        DataError: the frame, the name or a stored file is not acceptable.
    """
    name = f"{market}/{symbol}"
    rows = _checked(frame, name, modality)
    rows = rows if modality == "surface" else rows.reset_index()
    keys = KEYS[modality]
    base = paths.bars(market) / symbol_name(symbol)
    cut = partial(partitions, base, timeframe=timeframe, modality=modality)
    given = cut(rows)
    there = [path for path in given if path.is_file()]
    same = contents.unread(there, given) if contents else {}
    read = [path for path in there if path not in same]
    stored = dict.fromkeys(given, rows.iloc[:0]) | same | {path: _read(path) for path in read}
    grown = {*same, *(path for path in read if extends(given[path], stored[path]))}
    adjustment, rewrites = None, False
    if len(grown) < len(there):
        splits = restated == "keep"
        differ = sum(differing(p, stored[k], keys, splits=splits) for k, p in given.items())
        _told(name, differ, paths.bars(market), restated)
        if modality == "chart" and restated == "keep":
            given = like_stored(given, stored)
            touched = pd.concat([stored[path] for path in there], ignore_index=True)
            rewrites = is_restated(touched, rows)
        if rewrites:
            read = symbol_files(paths, market, symbol)
            whole, rows, adjustment = restate(_joined(read), rows)
            given, stored = cut(rows), cut(whole)
        grown = {path for path in given if path in stored and extends(given[path], stored[path])}
    if adjustment and report:
        report(adjustment)
    size = sum(path.stat().st_size for path in read)
    held = {path: stored[path] for path in read if path in stored}
    written = []
    for path, content in merged(given, stored, grown, keys, restated=rewrites):
        written += [path] if write_parquet(path, content) else []
        held[path] = content
    if contents:
        contents.note(held)
    return Written(written, size, sum(path.stat().st_size for path in written), adjustment)


def _told(name: str, differ: int, folder: Path, restated: str) -> None:
    """Say, or refuse, that the source makes other rows now than those that are stored."""
    if differ and restated == "refuse":
        raise DataError(
            f"{name}: {differ} stored rows are not those the source makes now (other params "
            f"or another version made them): use another home, or remove {folder}"
        )
    if differ:
        log.warning("%s: %d rows differ from the source now; stored ones stay", name, differ)


def extent(paths: Paths, market: str, config: MarketConfig, as_of: pd.Timestamp) -> Extent:
    """Return number, first and last timestamp of the stored rows that a night knows.

    Read from the files' footers, but for files that reach past the night.
    """
    bars = 0
    times: list[pd.Timestamp] = []
    for symbol in symbols(paths, market):
        for path in symbol_files(paths, market, symbol):
            part = _footer(path)
            if part.last is not None and part.last > as_of - _delay(config):
                stamps = _read(path, ["timestamp"])["timestamp"]
                stamps = stamps[known_by(stamps, as_of, config)]
                known = Extent(len(stamps), stamps.min(), stamps.max())
                part = known if len(stamps) else _NOTHING
            bars += part.bars
            times += [time for time in (part.first, part.last) if time is not None]
    return Extent(bars, min(times), max(times)) if times else _NOTHING


def market_as_of(
    paths: Paths, market: str, config: MarketConfig, as_of: pd.Timestamp
) -> pd.Timestamp:
    """Return where a market ends for a night: `as_of`, or earlier if its bars end before."""
    last = extent(paths, market, config, as_of).last
    return as_of if last is None else min(as_of, night_of(last, config))


def _delay(config: MarketConfig) -> pd.Timedelta:
    if config.modality == "surface":
        return pd.Timedelta(0)
    return Timeframe.parse(config.timeframe).delta


def _no_rows(config: MarketConfig) -> pd.DataFrame:
    """Return the form of a symbol's rows without any."""
    names = SURFACE_COLUMNS if config.modality == "surface" else ("timestamp", *PRICES)
    frame = pd.DataFrame({name: np.zeros(0) for name in names})
    frame["timestamp"] = pd.DatetimeIndex([], tz="UTC")
    return check_surfaces(frame) if config.modality == "surface" else check_bars(frame)


def _without_quarantined(frame: pd.DataFrame, path: Path, symbol: str) -> pd.DataFrame:
    state = path.stat()
    bad = _quarantined(path, state.st_ino, state.st_mtime_ns, state.st_size).get(symbol)
    if bad is None:
        return frame
    keys = [key for key in KEYS["surface"] if key in frame.columns and key in bad.columns]
    bad = bad[keys].astype({key: frame[key].dtype for key in keys})
    return frame[~among(frame, bad, keys)]


def _stored(paths: Paths, market: str, symbol: str) -> list[Path]:
    found = symbol_files(paths, market, symbol)
    if not found:
        raise DataError(f"{market}/{symbol}: no bars are stored: run ingest first")
    return found


def _known(
    files: list[Path], as_of: pd.Timestamp, config: MarketConfig
) -> tuple[pd.DataFrame, dict[Path, int]]:
    """Return the rows of files that a night knows, and their number by file."""
    parts = [_read(path) for path in files]
    frame = pd.concat(parts, ignore_index=True)
    is_known = known_by(frame["timestamp"], as_of, config).to_numpy()
    owns = np.split(is_known, np.cumsum([len(part) for part in parts])[:-1])
    rows = {path: int(own.sum()) for path, own in zip(files, owns, strict=True)}
    return frame if is_known.all() else frame[is_known], rows


def _checked(frame: pd.DataFrame, name: str, modality: Modality) -> pd.DataFrame:
    if modality == "surface":
        return check_surfaces(frame, symbol=name)
    return check_bars(frame, symbol=name)


def _joined(files: list[Path], columns: list[str] | None = None) -> pd.DataFrame:
    return pd.concat([_read(path, columns) for path in files], ignore_index=True)


@lru_cache(maxsize=1)  # a market's symbols are read one after another: once, not once a symbol
def _quarantined(path: Path, *state: int) -> dict[str, pd.DataFrame]:
    """Return a quarantine's rows by symbol; `state` of the file tells one content from the next."""
    del state
    rows = pd.read_parquet(path)
    return {str(symbol): own for symbol, own in rows.groupby("symbol", sort=False)}


def _read(path: Path, columns: list[str] | None = None) -> pd.DataFrame:
    try:
        frame: pd.DataFrame = pq.ParquetFile(path).read(columns=columns).to_pandas()
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{path}: the stored file cannot be read ({error}): remove it and run ingest again"
        ) from None
    return frame


def _ends_after(path: Path, moment: pd.Timestamp) -> bool:
    last = _footer(path).last
    return last is not None and last > moment


def _footer(path: Path) -> Extent:
    try:
        footer = pq.read_metadata(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{path}: the stored file cannot be read ({error}): remove it and run ingest again"
        ) from None
    place = footer.schema.names.index("timestamp")
    groups = [footer.row_group(i).column(place).statistics for i in range(footer.num_row_groups)]
    if not footer.num_rows:
        return _NOTHING
    first = min(pd.Timestamp(group.min) for group in groups)
    return Extent(footer.num_rows, first, max(pd.Timestamp(group.max) for group in groups))
