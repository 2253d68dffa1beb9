"""How long a user of the registry waits: loading by alias, and answers for one and many symbols.

`python -m benchmarks.predict [--home HOME] [--model champion]` asks a home's registered model, with
the code it was packed with, about bars of a random walk, 320 a symbol. It imports nothing of atlas:
a second atlas in the process would be refused. Each question is asked twice: of the model itself
(`unwrap_python_model`), and through MLflow's schema (`through_mlflow`), which looks at every value.
"""

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import mlflow
import numpy as np
import pandas as pd
import typer

from benchmarks.harness import Ratio, Report, metadata, timing, write_report

__all__ = ["bars", "main"]

PROJECT = Path(__file__).parent.parent
BARS = 320
END = pd.Timestamp("2026-11-19")
ASKED = {"now": "2026-11-20"}  # whenever this runs, the bars are no older than that
TARGETS = {"load_s": 0.5, "daily_symbol_ms": 2, "crypto_symbol_ms": 4, "thousand_symbols_s": 0.5}


def bars(market: str, freq: str, symbols: int, seed: int = 1) -> pd.DataFrame:
    """Return a long frame of random walks, `BARS` a symbol, with the sums of 30 sessions before."""
    rng = np.random.default_rng(seed)
    times = pd.date_range(end=END, periods=BARS, freq=freq)
    move = 0.0005 if freq == "min" else 0.01
    walk = 100 * np.exp(np.cumsum(rng.normal(0, move, (symbols, BARS)), axis=1))
    opens = walk * np.exp(rng.normal(0, move / 5, walk.shape))
    days = pd.date_range(end=END - pd.Timedelta(days=1), periods=30).strftime("%Y-%m-%d")
    frame = pd.DataFrame(
        {
            "market": market,
            "symbol": np.repeat([f"S{place:04d}" for place in range(symbols)], BARS),
            "timestamp": np.tile(times, symbols),
            "open": opens.ravel(),
            "high": (np.maximum(opens, walk) * (1 + move / 3)).ravel(),
            "low": (np.minimum(opens, walk) * (1 - move / 3)).ravel(),
            "close": walk.ravel(),
            "volume": np.exp(rng.normal(10, 1, walk.size)),
        }
    )
    if freq == "min":
        frame["session_sums"] = json.dumps(dict.fromkeys(days, 0.001))
    return frame


def main(
    home: Annotated[Path, typer.Option(help="with a registered model")] = PROJECT,
    model: Annotated[str, typer.Option(help="an alias or a version")] = "champion",
    rounds: Annotated[int, typer.Option(help="calls for one symbol")] = 200,
    json_path: Annotated[
        Path | None, typer.Option("--json", help="write the document here")
    ] = None,
) -> None:
    """Load, ask, print medians beside their targets."""
    store = (home / "var" / "mlflow" / "mlflow.db").resolve()
    if not store.is_file():
        raise typer.BadParameter(f"expected a home with a registered model; got {home}")
    address = f"sqlite:///{store}"
    mlflow.set_tracking_uri(address)
    mlflow.set_registry_uri(address)
    uri = f"models:/atlas-moe/{model}" if model.isdigit() else f"models:/atlas-moe@{model}"
    loading = _measured(lambda: mlflow.pyfunc.load_model(uri), 6)[1:]  # the first imports
    served = mlflow.pyfunc.load_model(uri)
    frames = {
        "daily_symbol_ms": (bars("equity_daily", "B", 1), rounds),
        "crypto_symbol_ms": (bars("crypto_1min", "min", 1), rounds),
        "thousand_symbols_s": (bars("equity_daily", "B", 1000), 7),
    }
    for frame, _ in frames.values():
        answers = served.predict(frame, params=ASKED)
        unasked = answers["abstain"] & ~answers["reason"].str.contains("unlike")
        if unasked.any():  # an unlike fingerprint goes all the way, and says nothing at the end
            raise SystemExit(f"it abstained: {answers['reason'][unasked].iloc[0]}: nothing to time")
    inner = served.unwrap_python_model()
    found = {"load_s": loading}
    for name, (frame, times) in frames.items():
        found[name] = _measured(partial(inner.predict, None, frame, params=ASKED), times)
        quantity, unit = name.rsplit("_", 1)
        through = partial(served.predict, frame, params=ASKED)
        found[f"{quantity}_through_mlflow_{unit}"] = _measured(through, max(7, times // 4))
    rows = []
    for name, spent in found.items():
        quantity, unit = name.rsplit("_", 1)
        scale = 1e3 if unit == "ms" else 1.0
        for place, kind in enumerate(("", "_processor")):
            values = [scale * both[place] for both in spent]
            rows.append(timing(f"{quantity}{kind}_{unit}", unit, values))
    for row in rows:
        target = f"(target <= {TARGETS[row.name]:g})" if row.name in TARGETS else ""
        typer.echo(f"{row.name:<44} {row.median:9.4g} {row.p10:9.4g} … {row.p90:<9.4g} {target}")
    ratios = [Ratio(one.name, one.median, TARGETS[one.name]) for one in rows if one.name in TARGETS]
    write_report(Report(rows, ratios), json_path, metadata("predict", 1))


def _measured(work: Callable[[], object], rounds: int) -> list[tuple[float, float]]:
    """Return the seconds of each round, by the clock and of processors."""
    found = []
    for _ in range(rounds):
        start, spent = time.perf_counter(), time.process_time()
        work()
        found.append((time.perf_counter() - start, time.process_time() - spent))
    return found


if __name__ == "__main__":
    typer.run(main)
