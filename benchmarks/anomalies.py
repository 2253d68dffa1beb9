"""Does validation find in an archive what is known of it, and nothing else?

`python -m benchmarks.anomalies FOLDER [--list FILE]` reads every market of an archive of real bars
(`FOLDER/<market>/<symbol>.parquet`), judges it by the rules of validation, and compares what would
be quarantined with a committed list of known anomalies (market, symbol, date, reason and how many
rows of that date; never a price). It also prints the share of valid rows that are warned of, which
is to stay under 0.5 %, and writes the list anew with `--write`. It exits with 1 where they differ.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer
import yaml

from atlas.config import ATLASConfig, MarketConfig
from atlas.row_rules import Rule, broken_by
from pipelines import findings
from pipelines.paths import PROJECT
from pipelines.sources.files import FilesSource
from pipelines.suite import rules_of

__all__ = ["KNOWN", "judged"]

KNOWN = PROJECT / "benchmarks" / "known_anomalies.csv"
LARGEST_SHARE = 0.005  # of valid rows that are warned of
_LISTED = ("no_unannounced_split",)  # warnings that the list names one by one, with what is bad
_KEY = ["market", "symbol", "date", "reason"]


def judged(source: FilesSource, market: str) -> tuple[pd.DataFrame, int, int]:
    """Return a market's anomalies by date, its valid rows, and how many of them are warned of."""
    settings = source.config.markets[market]
    as_of = source.as_of(market)
    parts, valid, warned = [], 0, 0
    for symbol in source.files(market):
        rows = source.fetch(market, symbol, as_of=as_of).assign(symbol=symbol)
        found, bad, looked_at = _of_symbol(rows, settings, as_of)
        parts.append(found.assign(market=market, symbol=symbol))
        valid, warned = valid + int((~bad).sum()), warned + int((looked_at & ~bad).sum())
    every = pd.concat(parts, ignore_index=True)
    return (
        every.groupby(_KEY, as_index=False).size().rename(columns={"size": "rows"}),
        valid,
        warned,
    )


def _of_symbol(
    rows: pd.DataFrame, settings: MarketConfig, as_of: pd.Timestamp
) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    columns = findings.measured(rows, settings, as_of).columns
    values = {str(name): rows[name].to_numpy(float) for name in rows.select_dtypes("number")}
    known = {**values, **columns}
    rules = [rule for rule in rules_of(settings) if rule.columns <= known.keys()]
    masks = {rule: broken_by(known, rule) for rule in rules}

    def merged(chosen: list[Rule]) -> np.ndarray:
        return np.asarray(np.logical_or.reduce([masks[rule] for rule in chosen]))

    bad = merged([rule for rule in rules if not rule.warns])
    warned = merged([rule for rule in rules if rule.warns])
    dates = rows["timestamp"].dt.strftime("%Y-%m-%d")
    parts = [
        pd.DataFrame({"date": dates[mask], "reason": rule.name})
        for rule, mask in masks.items()
        if not rule.warns or rule.name in _LISTED
    ]
    return pd.concat(parts, ignore_index=True), bad, warned


def main(
    folder: Annotated[Path, typer.Argument(help="an archive of real bars")],
    known: Annotated[Path, typer.Option("--list", help="the known anomalies")] = KNOWN,
    write: Annotated[bool, typer.Option("--write", help="write the list anew")] = False,
) -> None:
    """Print what differs from the list, and each market's share of warnings."""
    params = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    source = FilesSource(folder, ATLASConfig.parse({**params, "source": "files"}))
    parts, is_calm = [], True
    for market in source.config.markets:
        found, valid, warned = judged(source, market)
        parts.append(found)
        bad = int(found["rows"][~found["reason"].isin(_LISTED)].sum())
        is_calm &= warned <= LARGEST_SHARE * valid
        typer.echo(
            f"{market:<14} {valid:>9} valid rows  {bad:>4} reasons to quarantine  "
            f"{warned:>5} warned of ({warned / valid:.3%}, at most {LARGEST_SHARE:.1%})"
        )
    every = pd.concat(parts, ignore_index=True).sort_values(_KEY, ignore_index=True)
    if write:
        every.to_csv(known, index=False)
    listed = pd.read_csv(known, dtype={"date": str})
    both = every.merge(listed, how="outer", on=[*_KEY, "rows"], indicator="in")
    for text, side in (("not in the list", "left_only"), ("only in the list", "right_only")):
        for row in both[both["in"] == side].itertuples():
            typer.echo(f"{text}: {row.market} {row.symbol} {row.date} {row.reason} {row.rows}")
    same = bool((both["in"] == "both").all())
    typer.echo(f"{len(listed)} known anomalies; {'the run agrees' if same else 'the run differs'}")
    raise typer.Exit(0 if same and is_calm else 1)


if __name__ == "__main__":
    typer.run(main)
