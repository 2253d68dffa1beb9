"""What stands beside HAR, and how firmly a ridge must hold it: QLIKE on validation rows.

`python -m benchmarks.harx --home HOME`; HOME is an archive's, its night fingerprinted. Four spans
of validation: before each cut of an archive's benchmark that a market reaches back to, the newest
`JUDGED` sessions, and of the night's own validation the newer half. Nothing is fitted on them. Of
these only the span before the first cut is in no test span of the archive's benchmark: sessions
before a later cut are tested by the cut before it. So that span is also told by itself. LightGBM,
which is no part of the base, shows what is left to be had.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import pandas as pd
import typer

from atlas import base
from atlas.base import features_of, fit_har, fit_harx, fitted_standardizer, rows_at, training_rows
from atlas.config import ATLASConfig
from atlas.flat import by_modality
from atlas.metrics import qlike
from atlas.sampling import spread_evenly
from atlas.volatility import LightGBMVolatility
from atlas.windows import MarketData, Split
from benchmarks.harness import Report, metadata, timing, write_report
from benchmarks.idea_bench import parted
from benchmarks.units import PROJECT
from pipelines import samples
from pipelines.files import read_json
from pipelines.night import read_config
from pipelines.paths import Paths

__all__ = ["RIDGES", "run"]

RIDGES = ((0.001, 0), (0.03, 0), (0.03, 500), (0.3, 0))  # a share of the rows, and rows
ASKED = 20_000  # validation rows of a market and span
Spans = Iterator[dict[str, MarketData]]
Scores = dict[tuple[str, str], list[float]]


def run(home: Path) -> Report:
    """Score HAR, HAR-X under each ridge, and LightGBM on every span."""
    paths = Paths(home.resolve())
    config = read_config(PROJECT / "params.yaml", source="files")
    as_of = pd.Timestamp(str(read_json(paths.night)["as_of"]), tz="UTC")
    scores: Scores = {}
    for place, data in enumerate(_spans(samples.load(paths, config, as_of), config)):
        found = _score(data, config.training.threads)
        for (market, model), value in found.items():
            scores.setdefault((market, model), []).append(value)
            if place == 0:
                scores[f"before the first cut: {market}", model] = [value]
    rows = [timing(f"{market} {model}", "QLIKE", all_) for (market, model), all_ in scores.items()]
    return Report(sorted(rows), [])


def _spans(data: Mapping[str, MarketData], config: ATLASConfig) -> Spans:
    """Yield the markets with validation rows in the place of test rows."""
    for day in config.benchmark.cuts:
        cut, found = int(np.datetime64(str(day), "D").astype(int)), {}
        for market, own in data.items():
            if (own.panel.session < cut).any():
                horizon = config.label(market).horizon
                found[market] = parted(own, day=cut, end=cut, horizon=horizon).data
        yield {market: own for market, own in found.items() if _is_whole(own.split)}
    halves = {}
    for market, own in data.items():
        rows = own.split.validation
        days = own.panel.session[rows]
        later = days >= np.median(np.unique(days))
        halves[market] = replace(own, split=Split(own.split.train, rows[~later], rows[later]))
    yield halves


def _is_whole(split: Split) -> bool:
    return bool(split.train.size and split.validation.size and split.test.size)


def _score(data: Mapping[str, MarketData], threads: int) -> dict[tuple[str, str], float]:
    found = {}
    trees, learned = LightGBMVolatility(threads=threads).fit(data), training_rows(data)
    for markets in by_modality(data).values():
        standardizer = fitted_standardizer({market: learned[market] for market in markets})
        for market in markets:
            ends = spread_evenly(data[market].split.test, ASKED)
            seen, asked = learned[market], rows_at(data[market], ends)
            features = [features_of(standardizer, rows) for rows in (seen, asked)]
            past = fit_har(seen.har, seen.log_rv)
            said = {"har": past[0] + asked.har @ past[1:], "lightgbm": trees.predict(market, ends)}
            for share, rows in RIDGES:
                name = f"harx, ridge {share:g} of the rows and {rows}"
                said[name] = _harx(seen, asked, features, share, rows)
            for name, log_rv in said.items():
                found[market, name] = qlike(asked.log_rv, log_rv)
    return found


def _harx(
    seen: base.Rows,
    asked: base.Rows,
    features: list[npt.NDArray[np.float64]],
    share: float,
    rows: int,
) -> npt.NDArray[np.float64]:
    past, beside = fit_harx(seen.har, features[0], seen.log_rv, ridge=(share, rows))
    return np.asarray(past[0] + asked.har @ past[1:] + features[1] @ beside)


def main(
    home: Annotated[Path, typer.Option(help="of an archive's night")],
    json_path: Annotated[Path | None, typer.Option("--json", help="write the document")] = None,
) -> None:
    """Measure and print."""
    report = run(home)
    for row in report.results:
        typer.echo(f"{row.name:<56} {row.median:8.4f} {row.p10:8.4f} … {row.p90:8.4f} n={row.n}")
    about = metadata("harx", 1) | {"command": "python -m benchmarks.harx --home HOME"}
    write_report(report, json_path, about)


if __name__ == "__main__":
    typer.run(main)
