"""How near do spreads estimated from bars come to the true ones?

`python -m benchmarks.spreads FOLDER` reads `FOLDER/<symbol>.parquet`, hourly bars with bid and ask,
and compares, over windows of a day, a week and a month, the mean true (ask − bid)/mid with two
estimates from the bars alone: Corwin and Schultz (2012), which ATLAS uses where no quotes exist
(the fingerprint flags it, `spread_estimated`), and EDGE of Ardia, Guidotti and Kroencke (2024), by
its authors' package `bidask`. Printed are medians of truth and estimate in basis points, the median
of estimate/truth, the rank correlation, and the share of windows with an estimate above zero.

Bars of an archive of quotes may be bars of mids, which hold no spread at all: what an estimator
then finds is its error. So each symbol is judged twice, as it is (`mids`) and with every price
moved by half the true spread as if it were a trade (`trades`): the high at the ask, the low at the
bid, open and close at either by a seeded draw (the model both estimators assume; Roll, 1984).
"""

from pathlib import Path
from typing import Annotated

import bidask
import numpy as np
import numpy.typing as npt
import pandas as pd
import typer

from atlas import formulas

__all__ = ["as_trades", "estimates"]

Floats = npt.NDArray[np.float64]
WINDOWS = {"a day": 24, "a week": 120, "a month": 480}
BASIS = 1e4


def estimates(bars: pd.DataFrame, window: int) -> pd.DataFrame:
    """Return truth, corwin_schultz and edge of each whole window of N bars, fractions."""
    high, low, close = (np.log(bars[name].to_numpy(float)) for name in ("high", "low", "close"))
    true = formulas.relative_spread(bars["bid"].to_numpy(float), bars["ask"].to_numpy(float))
    single = formulas.corwin_schultz(high, low, close)
    rows = []
    for start in range(1, len(bars) - window + 1, window):
        part = bars.iloc[start : start + window]
        edge = bidask.edge(part["open"], part["high"], part["low"], part["close"])
        place = slice(start, start + window)
        rows.append((np.nanmean(true[place]), np.nanmean(single[place]), edge))
    return pd.DataFrame(rows, columns=["truth", "corwin_schultz", "edge"])


def as_trades(bars: pd.DataFrame, seed: int = 7) -> pd.DataFrame:
    """Move prices from the mid to the bid or the ask, (N,) rows."""
    rng = np.random.default_rng(seed)
    half = (bars["ask"] - bars["bid"]) / 2
    side = rng.choice([-1.0, 1.0], size=(2, len(bars)))
    return bars.assign(
        open=bars["open"] + side[0] * half,
        high=bars["high"] + half,
        low=bars["low"] - half,
        close=bars["close"] + side[1] * half,
    )


def main(folder: Annotated[Path, typer.Argument(help="bars with bid and ask")]) -> None:
    """Print a row for each symbol, window and estimator."""
    typer.echo(
        "symbol    bars of  window   estimator       truth bp  found bp  ratio  rank r  above 0"
    )
    for path in sorted(folder.glob("*.parquet")):
        mids = pd.read_parquet(path)
        for kind, bars in (("mids", mids), ("trades", as_trades(mids))):
            for name, window in WINDOWS.items():
                _tell(f"{path.stem:<9} {kind:<8} {name:<8}", estimates(bars, window))


def _tell(heading: str, found: pd.DataFrame) -> None:
    for estimator in ("corwin_schultz", "edge"):
        truth, own = found["truth"], found[estimator]
        rank = own.corr(truth, method="spearman") if own.max() > own.min() else float("nan")
        typer.echo(
            f"{heading} {estimator:<15} {BASIS * truth.median():8.2f} {BASIS * own.median():9.2f} "
            f"{(own / truth).median():6.2f} {rank:7.2f} {(own > 0).mean():8.1%}  n={len(found)}"
        )


if __name__ == "__main__":
    typer.run(main)
