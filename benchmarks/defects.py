"""Which defects of market data does validation name? Kinds of defect as rows of data, injected.

`python -m benchmarks.defects [--kind NAME]` spoils each of 20 simulated symbols at a random place
of its own, with one kind of defect at a time (`benchmarks.defect_kinds`), and runs the validate
stage on them (a kind of file goes through the source `files`). A defect is caught where the stage
names the symbol and a time within the defect, which it does not name on the same bars unspoiled. A
kind is caught if at least 19 of its 20 are. Where it was named is in the last column.

A shifted time zone leaves no trace in bars around the clock: a day has the same minutes. It is seen
only where new bars overlap stored ones, as rows that differ, and ingest names the symbol alone: so
`overlap` is told below the table and counts for nothing.
"""

import logging
import tempfile
from functools import cache
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer
import yaml

from atlas.bars import Timeframe
from atlas.config import ATLASConfig
from atlas.errors import DataError
from atlas.synthetic import simulate
from benchmarks.defect_kinds import EDGE, FILE_KINDS, KINDS, Kind
from pipelines import store, validate
from pipelines.files import write_parquet
from pipelines.paths import PROJECT, Paths
from pipelines.sources.files import FilesSource

__all__ = ["PLACES", "caught", "caught_files", "clean", "named"]

NIGHT = pd.Timestamp("2026-11-20", tz="UTC")
PLACES, NEEDED = 20, 19
SESSIONS = {"crypto_1min": 3, "equity_5min": 12, "equity_daily": 300, "options_skew": 60}


@cache
def configuration() -> ATLASConfig:
    """Return params.yaml for an archive, whose markets never fail as a whole."""
    params = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    for settings in params["markets"].values():
        settings["bad_share"] = 1.0
    return ATLASConfig.parse({**params, "source": "files"})


def clean(market: str, symbols: int = PLACES) -> dict[str, pd.DataFrame]:
    """Return unspoiled rows by symbol; bars have quotes and adj_close too."""
    settings = configuration().markets[market]
    made = simulate(
        market,
        symbols=symbols,
        history=SESSIONS[market],
        history_end=NIGHT,
        timeframe=Timeframe.parse(settings.timeframe),
        calendar=settings.calendar,
        as_of=NIGHT,
        seed=7,
    )
    frames = {}
    for one in made:
        frame = one.frame.reset_index(drop=one.frame.index.name is None)
        if settings.modality == "chart":
            close = frame["close"]
            frame = frame.assign(bid=0.9999 * close, ask=1.0001 * close, adj_close=close)
        frames[one.symbol] = frame.reset_index(drop=True)
    return frames


def named(home: Path, market: str, frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Store rows as they are, validate them, and return what is named: symbol, time, where."""
    paths = Paths(home)
    folder = paths.bars(market)
    settings = configuration().markets[market]
    whole = settings.modality == "surface" or settings.timeframe == "1d"
    for symbol, frame in frames.items():
        place = folder / f"{symbol}.parquet" if whole else folder / symbol / "2026.parquet"
        write_parquet(place, frame)
    validate.run(paths, configuration(), as_of=NIGHT, market=market)
    parts = [
        pd.read_parquet(paths.quarantine(market)).assign(where="quarantine"),
        pd.read_parquet(paths.warnings(market)).assign(where="warning"),
        pd.read_parquet(paths.sessions(market))
        .rename(columns={"first": "timestamp"})
        .assign(where="calendar", reason="calendar"),
    ]
    every = pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)
    return every[["symbol", "timestamp", "reason", "where"]].drop_duplicates()


def caught(
    kind: Kind, home: Path, frames: dict[str, pd.DataFrame], known: pd.DataFrame, seed: int = 7
) -> list[str]:
    """Spoil each symbol once; return where each that is caught was named first."""
    rng = np.random.default_rng([seed, sum(map(ord, kind.name))])
    spoiled, spans = {}, {}
    for symbol, frame in frames.items():
        at = int(rng.integers(EDGE, len(frame) - 3 * EDGE))
        spoiled[symbol], spans[symbol] = kind.spoil(frame.copy(), at)
    found = named(home, kind.market, spoiled)
    marked = found.merge(known, how="left", indicator="before")
    fresh = found[(marked["before"] == "left_only").to_numpy()]
    places = []
    for symbol, (first, last) in spans.items():
        own = fresh[fresh["symbol"] == symbol]
        own = own[(own["timestamp"] >= first) & (own["timestamp"] <= last)]
        if len(own):
            places.append(f"{own['where'].iloc[0]}: {own['reason'].iloc[0].split('; ')[0]}")
    return places


def caught_files(name: str, home: Path, frames: dict[str, pd.DataFrame]) -> list[str]:
    """Write one spoiled file at a time; return the kinds of the errors that name its symbol."""
    rng = np.random.default_rng([7, sum(map(ord, name))])
    config = configuration()
    places = []
    for symbol, frame in frames.items():
        folder = home / name.replace(" ", "_") / symbol
        (folder / "equity_daily").mkdir(parents=True)
        FILE_KINDS[name](folder / "equity_daily" / symbol, frame, rng)
        source = FilesSource(folder, config)
        try:
            source.symbols("equity_daily")
            source.check_rows("equity_daily")
        except DataError as error:
            if symbol in str(error):
                places.append(f"refused: {type(error).__name__}")
    return places


def overlap(home: Path, frames: dict[str, pd.DataFrame]) -> list[str]:
    """Store minutes, then offer them again an hour off; return what the store says of each."""
    paths, settings = Paths(home), configuration().markets["crypto_1min"]
    timeframe = Timeframe.parse(settings.timeframe)
    heard: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: heard.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("pipelines.store").addHandler(handler)
    logging.getLogger("pipelines.store").setLevel(logging.WARNING)
    for symbol, frame in frames.items():
        store.write_bars(paths, "crypto_1min", symbol, frame, timeframe, "chart")
        moved = frame.assign(timestamp=frame["timestamp"] + pd.Timedelta("1h"))
        store.write_bars(paths, "crypto_1min", symbol, moved, timeframe, "chart")
    logging.getLogger("pipelines.store").removeHandler(handler)
    return [f"ingest: {text.split(': ', 1)[1][:60]}" for text in heard if "differ" in text]


def main(
    kind: Annotated[str, typer.Option(help="only kinds whose name has this")] = "",
) -> None:
    """Print a row for each kind of defect, and how many kinds are caught."""
    logging.getLogger("pipelines").setLevel(logging.ERROR)
    markets = {one.market: clean(one.market) for one in KINDS}
    scores: dict[str, list[str]] = {}
    typer.echo("| kind of defect | rows of | caught of 20 | named in |\n|---|---|---|---|")

    def tell(name: str, market: str, places: list[str]) -> None:
        scores[name] = places
        where = ", ".join(pd.Series(places).value_counts().index[:2]) if places else "-"
        typer.echo(f"| {name} | {market} | {len(places)} | {where} |")

    with tempfile.TemporaryDirectory() as folder:
        known = {m: named(Path(folder) / "clean", m, frames) for m, frames in markets.items()}
        for number, one in enumerate(KINDS):
            if kind in one.name:
                home = Path(folder) / str(number)
                places = caught(one, home, markets[one.market], known[one.market])
                tell(one.name, one.market, places)
        for name in FILE_KINDS:
            if kind in name:
                tell(name, "a file", caught_files(name, Path(folder), markets["equity_daily"]))
        heard = overlap(Path(folder) / "overlap", markets["crypto_1min"]) if not kind else []
    good = sum(len(places) >= NEEDED for places in scores.values())
    if heard:
        typer.echo(f"\ntime zone shifted, around the clock: {len(heard)} of {PLACES}, {heard[0]}")
    typer.echo(f"\n{good} of {len(scores)} kinds are caught (at least {NEEDED} of {PLACES})")


if __name__ == "__main__":
    typer.run(main)
