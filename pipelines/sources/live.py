"""What the live sources share: retries with back-off, complete bars, names safe for files.

The clock is read here and nowhere else: a bar that has not closed yet is never given.
"""

import datetime as dt
import difflib
import logging
import re
from collections.abc import Callable, Iterable
from typing import TypeVar

import pandas as pd
import tenacity

from atlas.config import ATLASConfig, LiveConfig, MarketConfig
from atlas.errors import ConfigError, DataError, SourceError
from pipelines.connections import Connection
from pipelines.store import known_by

__all__ = ["Transient", "complete", "live_settings", "now", "persist", "spelled", "suggestion"]

log = logging.getLogger(__name__)
T = TypeVar("T")

ATTEMPTS = 6
LONGEST_PAUSE_S = 60.0


class Transient(Exception):  # noqa: N818 (it never leaves this package)
    """A failure that may be gone at the next try."""


def now() -> pd.Timestamp:
    """Return the present moment, UTC."""
    return pd.Timestamp(dt.datetime.now(dt.UTC))


def live_settings(config: ATLASConfig, market: str) -> tuple[MarketConfig, LiveConfig]:
    """Return a live market's settings.

    Raises:
        ConfigError: the market is not in params.yaml, or has no block `live`.
    """
    if market not in config.markets:
        known = ", ".join(config.markets)
        raise ConfigError(f"market {market!r} is not in params.yaml, which has {known}")
    settings = config.markets[market]
    if settings.live is None:
        raise ConfigError(f"market {market!r}: expected a block live: with symbols and since")
    return settings, settings.live


def spelled(market: str, symbols: Iterable[str]) -> dict[str, str]:
    """Return the source's spelling by the store's name: / and : become -.

    Example:
        BTC/USDT is stored as BTC-USDT.

    Raises:
        ConfigError: two symbols would have one name.
    """
    names: dict[str, str] = {}
    for symbol in symbols:
        name = re.sub(r"[/:]", "-", symbol)
        if name in names:
            raise ConfigError(
                f"markets.{market}.live.symbols: {names[name]} and {symbol} are both stored as "
                f"{name}: leave one out"
            )
        names[name] = symbol
    return dict(sorted(names.items()))


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return a few known names near to one that is not, for an error's text."""
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def persist(ask: Callable[[], T], what: str, connection: Connection) -> T:
    """Ask until there is an answer, with longer and longer pauses between `ATTEMPTS` tries.

    Args:
        ask: raises `Transient` if another try makes sense.
        what: is asked for, for the log and the error.

    Raises:
        SourceError: the last try failed too.
    """

    def note(state: tenacity.RetryCallState) -> None:
        assert state.outcome is not None
        error = connection.scrub(state.outcome.exception())
        log.warning("%s: try %d of %d failed: %s", what, state.attempt_number, ATTEMPTS, error)

    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(ATTEMPTS),
        wait=tenacity.wait_exponential_jitter(
            initial=connection.retry_s, max=LONGEST_PAUSE_S, jitter=connection.retry_s
        ),
        retry=tenacity.retry_if_exception_type(Transient),
        before_sleep=note,
        reraise=True,
    )
    try:
        return retrying(ask)
    except Transient as error:
        raise SourceError(
            f"{what}: no usable answer in {ATTEMPTS} tries, the last: {connection.scrub(error)}: "
            "try again later"
        ) from None


def complete(
    rows: pd.DataFrame,
    settings: MarketConfig,
    *,
    as_of: pd.Timestamp,
    start: pd.Timestamp | None,
    name: str,
) -> pd.DataFrame:
    """Bring a live source's bars in order: once each, complete, and within what was asked for.

    Of bars with one timestamp the last that came counts.

    Raises:
        DataError: bars without a timestamp.
    """
    if rows["timestamp"].isna().any():
        raise DataError(f"{name}: expected bars with a timestamp each, got one without")
    wanted = known_by(rows["timestamp"], min(as_of, now()), settings)
    if start is not None:
        wanted &= rows["timestamp"] >= start
    rows = rows[wanted]
    unique = rows.drop_duplicates("timestamp", keep="last")
    if len(rows.drop_duplicates()) > len(unique):
        log.warning("%s: bars came twice with other values; the last counts", name)
    return unique.sort_values("timestamp", ignore_index=True)
