"""Ask a registered model about a symbol of the store or about a file of bars.

The answer comes from the version's own code, in a process of its own: this process runs the
checkout's. Programs elsewhere do the same with `mlflow.pyfunc.load_model`.
"""

from collections.abc import Collection
from pathlib import Path

import pandas as pd

from atlas.config import LIVE_SOURCES, ATLASConfig, Source
from atlas.errors import DataError
from pipelines import challenge, store, tracking
from pipelines.paths import Paths

__all__ = ["moment", "predict", "symbol_frame"]


def predict(
    paths: Paths,
    config: ATLASConfig,
    target: str,
    *,
    as_of: pd.Timestamp,
    which: str = tracking.CHAMPION,
    is_dated: bool = False,
) -> pd.DataFrame:
    """Predict the next move after the last bar that is known.

    Args:
        target: a symbol of the store, or a path of a Parquet or CSV file that holds the long frame
            of `atlas.serving.forecast`.
        as_of: for a symbol, the night; bars known later are left out.
        which: an alias or a number of a version.
        is_dated: whether the user has named the night, see `moment`.

    Raises:
        DataError: there is no such symbol or file, or it cannot be read.
        ModelError: there is no such version, or it fails.
    """
    version = str(tracking.resolve(paths, which).version)
    path = Path(target)
    is_file = path.suffix in (".parquet", ".csv")  # a symbol may hold a dot, as BRK.B does
    frame = _file(path) if is_file else symbol_frame(paths, config, target, as_of)
    sources = frozenset() if is_file else {config.source_of(m) for m in frame["market"].unique()}
    now = moment(sources, as_of, is_dated=is_dated)
    return challenge.answers(paths, version, frame, threads=config.training.threads, now=now)


def moment(
    sources: Collection[Source], as_of: pd.Timestamp, *, is_dated: bool
) -> pd.Timestamp | None:
    """Return to which moment it is counted whether bars are stale; None for the clock.

    Args:
        sources: of the symbol's markets; none for a file, of which nobody knows whether it goes on.
        as_of: the night, which is the moment of a question that is dated, and of sources that do
            not go on by the clock: simulated markets and archives.
        is_dated: whether the user has named the night.
    """
    is_timeless = bool(sources) and not LIVE_SOURCES & set(sources)
    return as_of if is_dated or is_timeless else None


def symbol_frame(
    paths: Paths, config: ATLASConfig, symbol: str, as_of: pd.Timestamp
) -> pd.DataFrame:
    """Collect the newest bars of a symbol, in every market that has it, as one long frame.

    Raises:
        DataError: no market has the symbol, or none knows a bar of it by `as_of`.
    """
    parts = []
    for market, settings in config.markets.items():
        if symbol not in store.symbols(paths, market):
            continue
        bars = store.read_bars(paths, market, symbol, as_of=as_of, config=settings)
        if len(bars):
            last = bars["timestamp"].iloc[-1] if "timestamp" in bars else bars.index[-1]
            tail = challenge.recent(bars, settings, last)
            parts.append(tail.assign(market=market, symbol=symbol))
    if not parts:
        raise DataError(
            f"{symbol}: expected a symbol with bars known by {as_of.date()} or a .parquet or .csv "
            f"file; the markets {', '.join(config.markets)} have no such symbol"
        )
    frame: pd.DataFrame = pd.concat(parts, ignore_index=True)
    return frame


def _file(path: Path) -> pd.DataFrame:
    try:
        frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    if frame.empty:
        raise DataError(f"{path}: expected a long frame of bars, got no row")
    return frame
