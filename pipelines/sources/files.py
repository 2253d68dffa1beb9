"""An archive: a folder with `<market>/<symbol>.parquet` or `.csv`, one file a symbol.

Its night is its latest last bar, each market ending at its own. What can be told from names,
footers and headers is checked for every file before anything is written (`check`); what takes
reading the rows, once before a night starts (`check_rows`). What is wrong with a market that is
not required leaves out that market alone. A folder that is no market in params.yaml is named and
left alone.
"""

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from atlas.bars import COLUMNS, OPTIONAL, PRICES, Timeframe, check_bars, utc_timestamps
from atlas.config import ATLASConfig, MarketConfig
from atlas.errors import BarsError, ConfigError, DataError, GateError, SurfacesError
from atlas.measures import bad_bars, bad_quotes
from atlas.surfaces import SURFACE_COLUMNS, check_surfaces
from pipelines.store import known_by, night_of, symbol_name

__all__ = ["FilesSource", "archive_as_of", "check", "check_rows"]

log = logging.getLogger(__name__)

T = TypeVar("T")

_REQUIRED = {"chart": ("timestamp", *PRICES), "surface": SURFACE_COLUMNS}
_USED = {"chart": ("timestamp", *COLUMNS, *OPTIONAL), "surface": SURFACE_COLUMNS}
_ERROR = {"chart": BarsError, "surface": SurfacesError}
_CONTRACT = "prices or iv above 0, high ≥ max(open, close), low ≤ min(open, close), keys once"
_UNREADABLE = (
    pa.ArrowException,
    OSError,
    UnicodeDecodeError,
    pd.errors.EmptyDataError,
    pd.errors.ParserError,
)


class FilesSource:
    """The source `files`; its methods are those of `pipelines.sources.Source`."""

    is_live = False
    restates = True

    def __init__(self, folder: Path, config: ATLASConfig) -> None:
        """Hold an archive's folder; it is listed once, when a market is first asked for."""
        self.folder = folder
        self.config = config
        self.now = pd.Timestamp.now("UTC")
        self._listed: dict[str, dict[str, Path]] = {}
        self._last: tuple[Path, pd.DataFrame] | None = None  # read, checked, then fetched

    def files(self, market: str) -> dict[str, Path]:
        """Return the market's files by symbol, none if it may be absent and is.

        Raises:
            DataError: naming the folder or the file, and what is wrong with its name.
        """
        if market not in self._listed:
            self._listed[market] = self._list(market)
        return self._listed[market]

    def symbols(self, market: str) -> list[str]:
        """Return the market's symbols, after checking the form of its files.

        A market that is not required may be absent: it has none.

        Raises:
            DataError: naming the folder or the file, and what is wrong with it.
        """
        found = self.files(market)
        for symbol, path in found.items():
            _check_form(path, f"{market}/{symbol}", self._market(market))
        return list(found)

    def check_rows(self, market: str) -> None:
        """Read every row of a market and refuse what is wrong input rather than a few bad rows.

        Counted are the rows that validation would quarantine (`atlas.row_rules`), and those later
        than the clock, which are told of here, as no night knows them.

        Raises:
            DataError: a file's rows cannot be read.
            GateError: such rows are more than half of a file, or more than the market's
                `bad_share` of all.
        """
        settings = self._market(market)
        total, bad, example = 0, 0, ""
        for symbol, path in self.files(market).items():
            rows = self._read(path, f"{market}/{symbol}", settings)
            late = rows["timestamp"] > self.now
            if late.any():
                log.warning(
                    "%s/%s: %d rows are later than the clock, first %s: no night has them; mend %s",
                    *(market, symbol, late.sum(), rows["timestamp"][late].iloc[0], path),
                )
            broken = _broken(rows, settings) | late.to_numpy()
            own = int(broken.sum())
            if own and not example:
                example = f"{symbol} at {rows['timestamp'][broken].iloc[0]}"
            if 2 * own > len(rows):
                raise GateError(
                    f"{market}/{symbol}: {own} of {len(rows)} rows break their contract "
                    f"({_CONTRACT}), so they are not what the columns say: mend or remove {path}"
                )
            total, bad = total + len(rows), bad + own
        if bad > settings.bad_share * total:
            raise GateError(
                f"{market}: {bad} of {total} rows break their contract ({_CONTRACT}), first "
                f"{example}; at most {settings.bad_share:.2%} may: mend the files of "
                f"{self.folder / market}"
            )

    def fetch(
        self, market: str, symbol: str, *, as_of: pd.Timestamp, start: pd.Timestamp | None = None
    ) -> pd.DataFrame:
        """Return a symbol's rows known by `as_of`, from `start` on, timestamp a column.

        Raises:
            DataError: the archive has no such symbol, or its file cannot be read.
        """
        config = self._market(market)
        if symbol not in self.files(market):
            raise DataError(f"{market}/{symbol}: no such file in {self.folder / market}")
        rows = self._read(self.files(market)[symbol], f"{market}/{symbol}", config)
        wanted = known_by(rows["timestamp"], as_of, config)
        if start is not None:
            wanted &= rows["timestamp"] >= start
        return rows.reset_index(drop=True) if wanted.all() else rows[wanted].reset_index(drop=True)

    def as_of(self, market: str) -> pd.Timestamp:
        """Return the first night that knows the market's last bar that is not of the future.

        Raises:
            DataError: the market has no files, or no row that is not later than the clock.
        """
        found = self.files(market)
        if not found:
            raise DataError(f"{self.folder / market}: expected files of this market, found none")
        config = self._market(market)
        ends = [_last(path, f"{market}/{name}", config, self.now) for name, path in found.items()]
        known = [end for end in ends if end is not None]
        if not known:
            raise DataError(
                f"{self.folder / market}: every row is later than the clock, "
                f"{self.now:%Y-%m-%d %H:%M} UTC: mend their timestamps"
            )
        return night_of(max(known), config)

    def times(self, market: str, symbol: str) -> "pd.Series[pd.Timestamp]":
        """Return the timestamps of a symbol's rows that are not later than the clock."""
        config, name = self._market(market), f"{market}/{symbol}"
        times = _times(self.files(market)[symbol], name, config)
        return times[times <= self.now]

    def digest(self, market: str) -> str:
        """Return a digest over folder, names, sizes and times of the market's files."""
        total = hashlib.sha256(str(self.folder).encode())
        for symbol, path in self.files(market).items():
            status = path.stat()
            total.update(f"{symbol} {status.st_size} {status.st_mtime_ns}\n".encode())
        return total.hexdigest()

    def _read(self, path: Path, name: str, config: MarketConfig) -> pd.DataFrame:
        if self._last is None or self._last[0] != path:
            self._last = None  # one at a time in memory
            self._last = (path, _rows(path, name, config))
        return self._last[1]

    def _market(self, market: str) -> MarketConfig:
        if market not in self.config.markets:
            known = ", ".join(self.config.markets)
            raise ConfigError(f"market {market!r} is not in params.yaml, which has {known}")
        return self.config.markets[market]

    def _list(self, market: str) -> dict[str, Path]:
        required = self._market(market).required
        folder = self.folder / market
        if not folder.is_dir():
            if required:
                raise DataError(
                    f"{folder}: the folder of market {market!r} is missing: add it, or give the "
                    "market required: false in params.yaml"
                )
            log.warning("%s is missing: market %s is left out", folder, market)
            return {}
        found: dict[str, Path] = {}
        for path in sorted(folder.iterdir()):
            if path.name.startswith(".") or path.suffix.lower() not in (".parquet", ".csv"):
                continue
            if symbol_name(path.stem) in found:
                raise DataError(f"{path}: symbol {path.stem!r} has a second file: keep one")
            found[path.stem] = path
        if not found and required:
            raise DataError(
                f"{folder}: market {market!r} is empty: expected .parquet or .csv files"
            )
        return found


def check(folder: Path, config: ATLASConfig) -> None:
    """Check names and form of all files of an archive, without reading their rows.

    Raises:
        DataError: naming the folder or the file, and what is wrong with it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: expected a folder with a folder for each market; it is missing")
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and not entry.name.startswith(".") and entry.name not in config.markets:
            log.warning("%s is no market in params.yaml: left alone", entry)
    source = FilesSource(folder, config)
    found = [_of_market(config, market, source.symbols) for market in _own(config)]  # all
    if not any(found):
        raise DataError(f"{folder}: expected files of a market in params.yaml, found none")


def check_rows(folder: Path, config: ATLASConfig) -> None:
    """Read every row of an archive and refuse a market that validation is sure to refuse.

    Raises:
        DataError: what `FilesSource.check_rows` finds in a market that is required.
    """
    source = FilesSource(folder, config)
    for market in _own(config):
        _of_market(config, market, source.check_rows)


def archive_as_of(folder: Path, config: ATLASConfig) -> pd.Timestamp:
    """Return an archive's night: that of the market which ends last.

    Raises:
        DataError: no market has files.
    """
    source = FilesSource(folder, config)
    present = [market for market in _own(config) if _of_market(config, market, source.files)]
    nights = [_of_market(config, market, source.as_of) for market in present]
    known = [night for night in nights if night is not None]
    if not known:
        raise DataError(f"{folder}: expected files of a market in params.yaml, found none")
    return max(known)


def _own(config: ATLASConfig) -> list[str]:
    return [market for market in config.markets if config.source_of(market) == "files"]


def _of_market(config: ATLASConfig, market: str, ask: Callable[[str], T]) -> T | None:
    """Ask something of a market; if the answer is an error and it may be absent, only warn."""
    try:
        return ask(market)
    except DataError as error:
        if config.markets[market].required:
            raise
        log.warning("%s; market %s is not required: left out", error, market)
        return None


def _check_form(path: Path, name: str, config: MarketConfig) -> None:
    columns, rows = _form(path, name)
    missing = [column for column in _REQUIRED[config.modality] if column not in columns]
    if missing:
        raise _ERROR[config.modality](
            f"{name}: column {missing[0]!r} is missing in {path}; columns that came: "
            f"{', '.join(columns)}"
        )
    if not rows:
        raise _ERROR[config.modality](f"{name}: {path} holds no rows: remove it or fill it")


def _form(path: Path, name: str) -> tuple[list[str], int]:
    """Return a file's columns and whether it has rows (their number, or 1)."""
    try:
        if path.suffix.lower() == ".csv":
            head = pd.read_csv(path, nrows=1)
            return [str(column) for column in head.columns], len(head)
        footer = pq.read_metadata(path)
        return footer.schema.to_arrow_schema().names, footer.num_rows
    except _UNREADABLE as error:
        raise _unreadable(path, name, error) from None


def _read(path: Path, name: str, wanted: tuple[str, ...]) -> pd.DataFrame:
    try:
        if path.suffix.lower() == ".csv":
            return pd.read_csv(path, usecols=lambda column: column in wanted)
        file = pq.ParquetFile(path)
        names = [column for column in file.schema_arrow.names if column in wanted]
        frame: pd.DataFrame = file.read(names).to_pandas()
    except _UNREADABLE as error:
        raise _unreadable(path, name, error) from None
    return frame


def _unreadable(path: Path, name: str, error: Exception) -> DataError:
    kind = "CSV" if path.suffix.lower() == ".csv" else "Parquet"
    return DataError(f"{name}: {path} cannot be read as {kind}: {error}")


def _rows(path: Path, name: str, config: MarketConfig) -> pd.DataFrame:
    raw = _read(path, name, _USED[config.modality])
    if config.modality == "surface":
        return check_surfaces(raw, symbol=name)
    return check_bars(raw, symbol=name).reset_index()


def _last(path: Path, name: str, config: MarketConfig, now: pd.Timestamp) -> pd.Timestamp | None:
    """Return a file's newest timestamp up to `now`, from its footer where that tells; else None."""
    frame = None if path.suffix.lower() == ".csv" else _newest(path, name)
    if frame is not None:
        last = utc_timestamps(frame, name, _ERROR[config.modality]).max()
        if last <= now:
            return pd.Timestamp(last)
    times = _times(path, name, config)
    times = times[times <= now]
    return pd.Timestamp(times.max()) if len(times) else None


def _times(path: Path, name: str, config: MarketConfig) -> "pd.Series[pd.Timestamp]":
    frame = _read(path, name, ("timestamp",))
    return utc_timestamps(frame, name, _ERROR[config.modality])


def _newest(path: Path, name: str) -> pd.DataFrame | None:
    """Return the newest timestamp of each row group of a Parquet file if its footer has all."""
    try:
        footer = pq.read_metadata(path)
    except _UNREADABLE as error:
        raise _unreadable(path, name, error) from None
    schema = footer.schema.to_arrow_schema()
    if "timestamp" not in schema.names or not pa.types.is_timestamp(schema.field("timestamp").type):
        return None  # text sorts differently from the dates it spells
    place = footer.schema.names.index("timestamp")
    groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
    found = [group.column(place).statistics for group in groups if group.num_rows]
    if not found or any(one is None or not one.has_min_max or one.null_count for one in found):
        return None
    return pd.DataFrame({"timestamp": [pd.Timestamp(one.max) for one in found]})


def _broken(
    rows: pd.DataFrame, config: MarketConfig
) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    if config.modality == "surface":
        return bad_quotes(rows)
    return bad_bars(rows.set_index("timestamp"), Timeframe.parse(config.timeframe).seconds * 10**6)
