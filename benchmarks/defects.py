"""Which defects of market data does validation name? Kinds of defect as rows of data, injected.

`python -m benchmarks.defects` spoils each of 20 simulated symbols at a random place of its own,
with one kind of defect at a time (`benchmarks.defect_kinds`), and runs the validate stage on them
(a kind of file goes through the source `files`). A defect is caught where the stage names the
symbol and a time within the defect, which it does not name on the same bars unspoiled. A kind is
caught if at least 19 of its 20 are. Where it was named is in the last column. Each kind is kept in
`benchmarks/results/defects.json` as it ends, so that a killed run goes on; the table in
docs/data-quality.md is written from there.

A shifted time zone leaves no trace in bars around the clock: a day has the same minutes. It is seen
only where new bars overlap stored ones, as rows that differ, and ingest names the symbol alone: so
`overlap` is told apart and counts for nothing.
"""

import logging
import tempfile
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
import yaml

from atlas.bars import Timeframe
from atlas.config import ATLASConfig
from atlas.errors import DataError
from atlas.synthetic import simulate
from benchmarks.defect_kinds import EDGE, FILE_KINDS, KINDS, Kind
from benchmarks.units import Results, resumed, table
from pipelines import store, validate
from pipelines.files import write_parquet
from pipelines.paths import PROJECT, Paths
from pipelines.sources.files import FilesSource

__all__ = ["PLACES", "caught", "caught_files", "clean", "named", "page", "text", "units"]

NIGHT = pd.Timestamp("2026-11-20", tz="UTC")
PLACES, NEEDED = 20, 19
SEED = 7
OVERLAP = "time zone shifted, around the clock"
PAGE = PROJECT / "docs" / "data-quality.md"
MARK, END = "<!-- defects: written by python -m benchmarks.defects -->", "<!-- end -->"
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
        seed=SEED,
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
    kind: Kind, home: Path, frames: dict[str, pd.DataFrame], known: pd.DataFrame, seed: int = SEED
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
    rng = np.random.default_rng([SEED, sum(map(ord, name))])
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


def units(folder: Path) -> dict[str, Callable[[], dict[str, Any]]]:
    """Return what there is to measure, by name: every kind of defect, and the overlap."""
    frames = cache(clean)
    known = cache(lambda market: named(folder / "clean" / market, market, frames(market)))

    def of_rows(kind: Kind) -> dict[str, Any]:
        home = folder / kind.name.replace(" ", "_")
        places = caught(kind, home, frames(kind.market), known(kind.market))
        return _unit(kind.market, places)

    def of_file(name: str) -> dict[str, Any]:
        return _unit("a file", caught_files(name, folder, frames("equity_daily")))

    return {
        **{kind.name: partial(of_rows, kind) for kind in KINDS},
        **{name: partial(of_file, name) for name in FILE_KINDS},
        OVERLAP: lambda: _unit("crypto_1min", overlap(folder / "overlap", frames("crypto_1min"))),
    }


def _unit(market: str, places: list[str]) -> dict[str, Any]:
    where = pd.Series(places, dtype=object).value_counts()
    return {"rows_of": market, "caught": len(places), "named_in": list(where.index[:2])}


def text(found: Mapping[str, Any]) -> str:
    """Return what the page says of a results document: how many kinds are caught, and which."""
    kinds = {name: unit for name, unit in found["units"].items() if name != OVERLAP}
    good = sum(unit["caught"] >= NEEDED for unit in kinds.values())
    missed = [f"*{name}*" for name, unit in kinds.items() if unit["caught"] < NEEDED]
    rows = [
        [name, unit["rows_of"], str(unit["caught"]), ", ".join(unit["named_in"]) or "-"]
        for name, unit in kinds.items()
    ]
    lines = [
        f"{good} of {len(kinds)} kinds were caught at least {NEEDED} times of {PLACES}"
        + (f"; not {' and '.join(missed)}." if missed else "."),
        f"Overlapping rows an hour off: {found['units'][OVERLAP]['caught']} of {PLACES} symbols.",
    ]
    header = f"kind of defect | rows of | caught of {PLACES} | named in"
    head, *body = table(header, rows, left=2).splitlines()
    return "\n".join([*lines, "", head, *body])


def page() -> str:
    """Return docs/data-quality.md; between its marks stands what the results say, once all do."""
    found = Results("defects").read()
    if OVERLAP not in found.get("units", {}):  # the last one
        return PAGE.read_text(encoding="utf-8")
    before, rest = PAGE.read_text(encoding="utf-8").split(MARK)
    after = rest.split(END)[1]
    return f"{before}{MARK}\n\n{text(found)}\n\n{END}{after}"


def main(
    minutes: Annotated[float, typer.Option(help="after which no further kind is begun")] = 600.0,
) -> None:
    """Measure the kinds that the results lack; write the page once there are all."""
    logging.getLogger("pipelines").setLevel(logging.ERROR)
    settings = {"places": PLACES, "night": str(NIGHT.date()), "sessions": SESSIONS, "seed": SEED}
    with tempfile.TemporaryDirectory() as folder:
        work = units(Path(folder))
        found = resumed("defects", "python -m benchmarks.defects", SEED, settings, work, minutes)
    typer.echo(text(found) if OVERLAP in found["units"] else f"{len(found['units'])} are measured")
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
