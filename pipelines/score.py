"""Let a registered model predict in this process, with the code it was packaged with.

Two versions cannot share a process: the second would run the first one's atlas. So promotion runs
this module as a program. It imports nothing of atlas itself; loading the model puts the packaged
code first on sys.path, and the model refuses to load beside any other.

The model is asked past MLflow's schema, which would look at every value of every free column in
turn: a thousand symbols would wait twenty times as long. The model's own checks are the stricter.
"""

import argparse
import os
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # read by MLflow while it is being imported

import mlflow
import pandas as pd

__all__ = ["LATENCY", "latency_ms", "main", "refusal", "score"]

LATENCY = "latency_ms"  # the attribute of the answers
_CALLS = 20
_BARS = 320


def score(model_uri: str, frame: pd.DataFrame, now: str = "") -> pd.DataFrame:
    """Predict the last bar of every symbol, or every bar from a moment on.

    Args:
        model_uri: MLflow's address of the model.
        frame: the long frame of `predict`; with a column `since`, every bar is asked for from
            there on, the same moment for all rows of a market.
        now: the moment of the question, an ISO time; empty for the clock.

    Returns:
        The predictions of all markets, with the attribute `LATENCY`.
    """
    model = mlflow.pyfunc.load_model(model_uri).unwrap_python_model()
    answers = _answers(model, frame, now)
    answers.attrs[LATENCY] = latency_ms(model, frame)
    return answers


def latency_ms(model: Any, frame: pd.DataFrame) -> float:
    """Return the processor time of an answer about one symbol's last 320 rows, the median of 20.

    Processor time and not the clock's: a busy machine is no fault of the model.
    """
    charts = frame[frame["close"].notna()] if "close" in frame.columns else frame
    rows = charts if len(charts) else frame
    first = rows.iloc[0]
    is_own = (rows["market"] == first["market"]) & (rows["symbol"] == first["symbol"])
    one = rows[is_own].tail(_BARS).drop(columns="since", errors="ignore")
    then = {"now": pd.Timestamp(one["timestamp"].max()).isoformat()}  # or an old bar is stale
    times = []
    for _ in range(_CALLS):
        start = time.process_time()
        model.predict(None, one, params=then)
        times.append(1e3 * (time.process_time() - start))
    return median(times)


def _answers(model: Any, frame: pd.DataFrame, now: str) -> pd.DataFrame:
    if "since" not in frame.columns:
        answers: pd.DataFrame = model.predict(None, frame, params={"now": now})
        return answers
    parts = [
        model.predict(
            None,
            rows.drop(columns="since").reset_index(drop=True),
            params={"every_bar": True, "since": rows["since"].iloc[0].isoformat()},
        )
        for _, rows in frame.groupby("market", sort=True)
    ]
    joined: pd.DataFrame = pd.concat(parts, ignore_index=True)
    return joined


def main(arguments: list[str] | None = None) -> int:
    """Read a frame, score it, write the predictions; return the exit code."""
    parser = argparse.ArgumentParser(description="Score bars with a registered model.")
    parser.add_argument("--tracking-uri", required=True)
    parser.add_argument("--model-uri", required=True)
    parser.add_argument("--frame", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--now", default="")
    given = parser.parse_args(arguments)
    mlflow.set_tracking_uri(given.tracking_uri)
    mlflow.set_registry_uri(given.tracking_uri)
    try:
        predictions = score(given.model_uri, pd.read_parquet(given.frame), given.now)
    except _refusals() as error:
        refusal(given.out).write_text(str(error), encoding="utf-8")
        return 2
    predictions.to_parquet(given.out, index=False)
    return 0


def refusal(out: Path) -> Path:
    """Return where the model's own words are left if it refuses the frame, instead of answers."""
    return out.with_suffix(".refused")


def _refusals() -> tuple[type[Exception], ...]:
    """Return the errors of the packed code, which is imported when a model has been loaded."""
    packed = sys.modules.get("atlas.errors")
    return (packed.AtlasError,) if packed else ()


if __name__ == "__main__":
    sys.exit(main())
