"""The benchmark table: every model on the very same rows, beside the seed's figures.

- One row per market and model, and one per model for the mean over markets; never over rows.
- All models of a market are resampled by the same sessions, so their intervals can be compared.
- A model that scored other rows than the rest is refused: its figure would mean something else.
- The seed's figures are printed as a hypothesis beside ours; they enter no computation.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd

from atlas.errors import ModelError
from atlas.evaluation import BLOCK, POOLED, Draws, pooled, session_draws
from atlas.metrics import hits, lift, log_losses

__all__ = [
    "COLUMNS",
    "HEADINGS",
    "MODELS",
    "POOLED",
    "SEED_FIGURES",
    "TableSettings",
    "assemble",
    "check_same_rows",
    "mean_log_loss",
    "text_rows",
]

SEED_FIGURES: Final[Mapping[str, Mapping[str, float]]] = {
    "crypto_1min": {"cnn": 0.582, "moe_rule": 0.619, "moe_mlp": 0.635},
    "equity_daily": {"cnn": 0.650, "moe_rule": 0.654, "moe_mlp": 0.661},
    "futures_30min": {"cnn": 0.607, "moe_rule": 0.642, "moe_mlp": 0.650},
    "options_skew": {"cnn": 0.553, "moe_rule": 0.588, "moe_mlp": 0.596},
    "low_vol_etf": {"cnn": 0.521, "moe_rule": 0.530, "moe_mlp": 0.534},
}
MODELS: Final = ("base_rate", "reversal", "lightgbm", "cnn", "moe_rule", "moe_mlp")
COLUMNS: Final = (
    "market",
    "model",
    "n",
    "ties",
    "base_rate",
    "accuracy",
    "accuracy_low",
    "accuracy_high",
    "log_loss",
    "log_loss_low",
    "log_loss_high",
    "lift",
    "seed_figure",
)
HEADINGS: Final = ("market", "model", "accuracy", "log-loss", "lift", "seed")
_KEYS: Final = ["symbol", "timestamp"]


class TableSettings(NamedTuple):
    """How figures are resampled; `blocks` are mean blocks in sessions by market."""

    resamples: int = 2_000
    confidence: float = 0.95
    seed: int = 0
    blocks: Mapping[str, float] = {}


class _Score(NamedTuple):
    """One model on one market."""

    n: int
    accuracy: Draws
    log_loss: Draws
    lift: float


def assemble(
    predictions: Mapping[str, pd.DataFrame],
    *,
    ties: Mapping[str, int],
    settings: TableSettings | None = None,
) -> pd.DataFrame:
    """Score every model on every market.

    Args:
        predictions: for each model its test rows: market, symbol, timestamp, session (days),
            y (0 or 1), probability of up, p the true one or NaN. One model is called
            `base_rate`: its accuracy is the base rate beside the others'.
        ties: test rows of each market left out because nothing moved.
        settings: of the intervals.

    Returns:
        The table, columns `COLUMNS`; shares as fractions, log-loss in nats, lift and seed_figure
        NaN where there is none. The rows named `POOLED` are means over the markets that every
        model has.

    Raises:
        ModelError: two models have different rows of a market.
    """
    settings = settings or TableSettings()
    check_same_rows(predictions)
    scores: dict[str, dict[str, _Score]] = {}
    for place, market in enumerate(ties):
        seed = settings.seed + place
        scores[market] = {
            model: _score(frame[frame["market"] == market], market, seed, settings)
            for model, frame in predictions.items()
            if (frame["market"] == market).any()
        }
    rows = [
        _row(market, model, score, own["base_rate"].accuracy.value, ties[market], settings)
        for market, own in scores.items()
        for model, score in own.items()
    ]
    shared = [market for market, own in scores.items() if len(own) == len(predictions)]
    if shared:
        whole = {model: _mean([scores[name][model] for name in shared]) for model in predictions}
        base, all_ties = whole["base_rate"].accuracy.value, sum(ties[name] for name in shared)
        rows += [_row(POOLED, m, score, base, all_ties, settings) for m, score in whole.items()]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def mean_log_loss(predictions: pd.DataFrame) -> float:
    """Return the mean over markets of the mean log-loss of rows with market, y, probability."""
    losses = log_losses(predictions["y"].to_numpy(), predictions["probability"].to_numpy())
    return float(pd.Series(losses).groupby(predictions["market"].to_numpy()).mean().mean())


def check_same_rows(predictions: Mapping[str, pd.DataFrame]) -> None:
    """Refuse models that were scored on different rows of a market.

    Raises:
        ModelError: naming market and models.
    """
    known: dict[str, tuple[str, pd.DataFrame]] = {}
    for model, frame in predictions.items():
        for market, rows in frame.groupby("market", observed=True):
            keys = rows[_KEYS].sort_values(_KEYS, ignore_index=True)
            first, expected = known.setdefault(str(market), (model, keys))
            if len(keys) != len(expected) or not (keys == expected).all(axis=None):
                raise ModelError(
                    f"{market}: expected {model} to be scored on the {len(expected)} rows of "
                    f"{first}; got {len(keys)} rows, not the same: train both for the same night"
                )


def text_rows(table: pd.DataFrame, market: str) -> list[list[str]]:
    """Lay the rows of one market out as cells under `HEADINGS`, per cent where shares are.

    What the rows share (windows, ties, base rate) runs down the market's column.
    """
    own = table[table["market"] == market]
    first = own.iloc[0]
    facts = [market, f"n {first['n']:,}", f"ties {first['ties']:,}"]
    facts.append(f"base {100 * first['base_rate']:.2f}")
    facts += [""] * (len(own) - len(facts))
    return [
        [
            fact,
            str(row["model"]),
            _with_half_width(row, "accuracy", 100, 2),
            _with_half_width(row, "log_loss", 1, 4),
            "" if np.isnan(row["lift"]) else f"{row['lift']:.3f}",
            "" if np.isnan(row["seed_figure"]) else f"{100 * row['seed_figure']:.1f}",
        ]
        for fact, (_, row) in zip(facts, own.iterrows(), strict=False)
    ]


def _score(rows: pd.DataFrame, market: str, seed: int, settings: TableSettings) -> _Score:
    rows = rows.sort_values(_KEYS)
    y, q = rows["y"].to_numpy(np.float64), rows["probability"].to_numpy(np.float64)
    p, sessions = rows["p"].to_numpy(np.float64), rows["session"].to_numpy(np.int64)
    accuracy, loss = (
        session_draws(
            values,
            sessions,
            block=settings.blocks.get(market, BLOCK),
            resamples=settings.resamples,
            confidence=settings.confidence,
            seed=seed,
        )
        for values in (hits(y, q), log_losses(y, q))
    )
    return _Score(len(rows), accuracy, loss, lift(p, q) if np.isfinite(p).all() else float("nan"))


def _mean(scores: Sequence[_Score]) -> _Score:
    return _Score(
        sum(score.n for score in scores),
        pooled([score.accuracy for score in scores]),
        pooled([score.log_loss for score in scores]),
        float(np.mean([score.lift for score in scores])),
    )


def _row(
    market: str, model: str, score: _Score, base_rate: float, ties: int, settings: TableSettings
) -> dict[str, Any]:
    accuracy = score.accuracy.interval(settings.confidence)
    loss = score.log_loss.interval(settings.confidence)
    figure = SEED_FIGURES.get(market, {}).get(model, float("nan"))
    cells = (market, model, score.n, ties, base_rate, *accuracy, *loss, score.lift, figure)
    return dict(zip(COLUMNS, cells, strict=True))


def _with_half_width(row: "pd.Series[Any]", name: str, scale: float, digits: int) -> str:
    half = scale * (row[f"{name}_high"] - row[f"{name}_low"]) / 2
    return f"{scale * row[name]:.{digits}f} ± {half:.{digits}f}"
