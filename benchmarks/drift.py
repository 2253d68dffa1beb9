"""How often the watch's limits of drift cry for nothing, and what they find.

`python -m benchmarks.drift [--json PATH]` plays sessions of twenty rows whose level moves as slowly
as asked (an AR(1) over sessions, half of the variance common to all rows), where nothing drifts:
a reference, a gap, a window of `window_length` sessions. It counts how often the window passes the
limit of `atlas.drift`, beside the usual limit of .1; limits from rows put together at random,
which forget that rows hang together, and the limit of .25 stand beside it. Then the window is
moved by two standard deviations, which should be found.

The second table is of the real thing: fingerprints of simulated markets with other seeds (nothing
drifts in them), 2,000 sessions of reference, then a night every five sessions: the share of nights
in which any column of the market is an alarm at the share of `monitor.false_alarms` that
is the market's. What is finished stays in var/benchmarks/drift; remove it to measure anew.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import typer

from atlas.bars import Timeframe
from atlas.calendars import session_days
from atlas.catalogue import EXPERT_IDS
from atlas.config import ATLASConfig, MarketConfig
from atlas.data_fingerprint import FINGERPRINT_COLUMNS, LOOKBACK, fingerprint
from atlas.drift import bin_edges, limit, psi, session_counts, window_length
from atlas.rule import hysteresis, rule_experts
from atlas.synthetic import simulate
from benchmarks.balance import PROJECT, configuration
from benchmarks.harness import metadata
from pipelines.files import read_json, write_json
from pipelines.watch.columns import column_checks, names_of, spans_of

__all__ = ["main", "played", "series"]

Floats = npt.NDArray[np.float64]
WORK = PROJECT / "var" / "benchmarks" / "drift"
ROWS, GAP, LONGEST = 20, 60, 20
RATE = 0.01
MOVED = 2.0  # standard deviations
MARKETS = ("equity_daily", "low_vol_etf")
REFERENCE, NIGHTS, EVERY = 2_000, 60, 5


def series(phi: float, sessions: int, rng: np.random.Generator) -> Floats:
    """Return values (S, ROWS) of variance 1 whose sessions forget by `phi`."""
    steps = rng.normal(size=(sessions, ROWS + 1)) * np.sqrt(1 - phi**2)
    x = np.empty_like(steps)
    x[0] = rng.normal(size=ROWS + 1)
    for place in range(1, sessions):
        x[place] = phi * x[place - 1] + steps[place]
    return np.asarray((x[:, :1] + x[:, 1:]) / np.sqrt(2))


def played(phi: float, reference: int, rounds: int, seed: int) -> dict[str, Any]:
    """Play references of one length and slowness; return the shares of alarms, per cent."""
    names = ("measured limit", "limit of .1", "limit of .25", "limit of rows", "found", "unjudged")
    count = dict.fromkeys(names, 0.0)
    window = window_length(reference, LONGEST)
    for place in range(rounds):
        rng = np.random.default_rng([seed, place])
        values = series(phi, reference + GAP + window, rng)
        held, now = values[:reference], values[-window:]
        edges = bin_edges(held)
        counts, recent, moved = (_counts(x, edges) for x in (held, now, now + MOVED))
        bound = limit(counts, window, rate=RATE).alarm
        value = float(psi(recent.sum(0), counts.sum(0)))
        count["unjudged"] += np.isnan(bound)
        count["measured limit"] += value > bound
        count["limit of .1"] += value > 0.1
        count["limit of .25"] += value > 0.25
        count["limit of rows"] += value > _of_rows(held, edges, window, rng)
        count["found"] += float(psi(moved.sum(0), counts.sum(0))) > bound
    shares = {name: 100 * number / rounds for name, number in count.items()}
    return {"phi": phi, "reference": reference, "window": window, "rounds": rounds, **shares}


def main(
    rounds: Annotated[int, typer.Option(help="references of each kind")] = 200,
    seeds: Annotated[int, typer.Option(help="simulated histories of each market")] = 3,
    json_path: Annotated[Path | None, typer.Option("--json", help="write the document")] = None,
) -> None:
    """Print both tables."""
    rows = [
        _kept(f"{size}-{phi}-{rounds}", partial(played, phi, size, rounds, seed=7))
        for size in (60, 200, 500, 2_000)
        for phi in (0.0, 0.9, 0.97, 0.99)
    ]
    nights = [
        _kept(f"{market}-{seed}", partial(_nights, market, seed))
        for market in MARKETS
        for seed in range(11, 11 + seeds)
    ]
    typer.echo(pd.DataFrame(rows).to_string(index=False))
    typer.echo(pd.DataFrame(nights).round(2).to_string(index=False))
    if json_path is not None:
        about = metadata("drift", 7)
        about["command"] = f"python -m benchmarks.drift --rounds {rounds} --seeds {seeds}"
        document = {"metadata": about, "series": rows, "markets": nights}
        write_json(json_path, document)


def _kept(name: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what an earlier run found, or do the work and keep it."""
    path = WORK / f"{name}.json"
    if not path.is_file():
        write_json(path, work())
    found: dict[str, Any] = read_json(path)
    return found


def _counts(values: Floats, edges: Floats) -> Floats:
    sessions = np.repeat(np.arange(len(values)), ROWS)
    return session_counts(values.ravel(), sessions, edges)


def _of_rows(held: Floats, edges: Floats, window: int, rng: np.random.Generator) -> float:
    """Return the limit that rows drawn one by one from the reference would give."""
    shares = _counts(held, edges).sum(0) / held.size
    drawn = rng.multinomial(window * ROWS, shares, size=1_000).astype(np.float64)
    whole = np.broadcast_to(shares * held.size, drawn.shape)
    return float(np.quantile(psi(drawn, whole), 1 - RATE))


def _nights(market: str, seed: int) -> dict[str, Any]:
    """Watch one simulated history in which nothing drifts; count the nights with an alarm."""
    config = configuration()
    settings = config.markets[market]
    table = _table(config, market, settings, seed)
    days = np.unique(table["session"])
    first = int(days[REFERENCE])
    tested = sum(len(names_of(one)) + 1 for one in config.markets.values())
    rate = config.monitor.false_alarms / tested
    alarms, columns = 0, 0
    for end in days[REFERENCE + LONGEST :: EVERY][:NIGHTS]:
        known = days[days <= end]
        spans = spans_of(known, first, LONGEST)
        assert spans is not None
        raised = [c for c in column_checks(table, settings, market, spans, rate) if c.alarm]
        alarms += bool(raised)
        columns += len(raised)
    share = config.monitor.false_alarms * (len(names_of(settings)) / tested)
    return {
        "market": market,
        "seed": seed,
        "nights": NIGHTS,
        "with an alarm, %": 100 * alarms / NIGHTS,
        "accepted, %": 100 * share,
        "alarms": columns,
    }


def _table(config: ATLASConfig, market: str, settings: MarketConfig, seed: int) -> pd.DataFrame:
    step = Timeframe.parse(settings.timeframe)
    made = simulate(
        market,
        symbols=20,
        history=LOOKBACK + REFERENCE + LONGEST + EVERY * NIGHTS + 50,
        history_end=pd.Timestamp(str(config.simulated.as_of), tz="UTC"),
        timeframe=step,
        calendar=settings.calendar,
        as_of=pd.Timestamp(str(config.simulated.as_of), tz="UTC"),
        seed=seed,
    )
    return pd.concat(list(_parts([one.frame for one in made], settings, step)), ignore_index=True)


def _parts(
    frames: list[pd.DataFrame], settings: MarketConfig, step: Timeframe
) -> Iterator[pd.DataFrame]:
    for frame in frames:
        bars = frame.set_index("timestamp")
        rows = fingerprint(bars, settings.timeframe, calendar=settings.calendar)
        values = rows[list(FINGERPRINT_COLUMNS)].to_numpy(np.float32)
        verdicts = hysteresis(rule_experts(values, settings.modality, step))
        rows["rule"] = np.array(EXPERT_IDS, dtype=object)[verdicts]
        rows["session"] = session_days(pd.DatetimeIndex(bars.index), settings.calendar, step)
        yield rows.iloc[LOOKBACK:]


if __name__ == "__main__":
    typer.run(main)
