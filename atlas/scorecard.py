"""The long table: everything that is asked of a model, per market and as a mean over markets.

- A model may bring several seeds of the same rows; every figure is a mean over them, none is
  picked. Where each seed has rows of its own (simulated markets), they are laid end to end.
- Intervals and tests resample sessions, or whatever the column `session` numbers: on simulated
  markets it is the path, since paths are independent and the bars of one are not.
- The rival is chosen on validation rows and named; the test rows only answer.
- Ceilings enter as models of their own (`bayes`, `informed`), and shares are relative to them.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from atlas.benchmark import mean_log_loss
from atlas.comparison import compare
from atlas.costs import break_even
from atlas.errors import ModelError
from atlas.evaluation import BLOCK, POOLED, Draws, pooled, session_draws
from atlas.metrics import (
    expected_calibration_error,
    gain,
    hits,
    lift,
    log_losses,
)
from atlas.selection import confidence_threshold, selected_accuracy
from atlas.shares import Windows, model_shares

__all__ = [
    "CEILINGS",
    "COVERAGE",
    "FIGURES",
    "Rows",
    "ScoreSettings",
    "paired_tests",
    "rival_of",
    "scorecard",
]

Floats = NDArray[np.float64]
Rows = Mapping[str, Sequence[pd.DataFrame]]  # by model, a frame for each seed
CEILINGS: Final = ("bayes", "informed")
COVERAGE: Final = 0.10  # of the rows that a model is surest of
FIGURES: Final = (
    "accuracy",
    "accuracy_low",
    "accuracy_high",
    "log_loss",
    "log_loss_low",
    "log_loss_high",
    "ece",
    "accuracy_surest",
    "coverage_surest",
    "break_even",
    "lift",
    "bayes_gain",
    "informed_lift",
    "informed_lift_error",
    "informed_gain",
    "informed_gain_error",
)


class ScoreSettings(NamedTuple):
    """How figures are resampled; `blocks` and `lags` are in sessions, by market."""

    resamples: int = 1_000
    confidence: float = 0.95
    seed: int = 0
    blocks: Mapping[str, float] = {}
    lags: Mapping[str, int] = {}


class _Card(NamedTuple):
    accuracy: Draws
    log_loss: Draws
    plain: dict[str, float]


def scorecard(
    test: Rows, validation: Rows, *, settings: ScoreSettings | None = None
) -> pd.DataFrame:
    """Score every model on every market.

    Args:
        test: test rows: market, symbol, timestamp, session, y (0 or 1), probability of up, p the
            true one or NaN, returned (log return of the label's move) and spread, NaN unknown.
            One model is called `base_rate`.
        validation: validation rows of the same models, for thresholds; a ceiling needs none.
        settings: of the intervals.

    Returns:
        A row per market and model: market, model, n, seeds, base_rate and `FIGURES`; shares as
        fractions, log-loss in nats, NaN where a figure has no meaning. Rows named `POOLED` are
        means over the markets that the model has.
    """
    settings = settings or ScoreSettings()
    markets = list(dict.fromkeys(str(m) for m in test["base_rate"][0]["market"]))
    rows: list[tuple[object, ...]] = []
    cards: dict[str, list[tuple[_Card, int, float]]] = {}
    for place, market in enumerate(markets):
        own = {model: [_of(f, market) for f in frames] for model, frames in test.items()}
        before = {model: [_of(f, market) for f in frames] for model, frames in validation.items()}
        found = {
            model: _card(frames, before.get(model, []), own, market, place, settings)
            for model, frames in own.items()
            if len(frames[0])
        }
        base = found["base_rate"].accuracy.value
        for model, card in found.items():
            facts = (market, model, len(own[model][0]), len(own[model]), base)
            rows.append(_row(facts, card, settings))
            cards.setdefault(model, []).append((card, len(own[model][0]), base))
    for model, found_cards in cards.items():
        own_cards = [card for card, _, _ in found_cards]
        base = float(np.mean([rate for _, _, rate in found_cards]))
        facts = (POOLED, model, sum(n for _, n, _ in found_cards), len(test[model]), base)
        rows.append(_row(facts, _mean(own_cards), settings))
    columns = ["market", "model", "n", "seeds", "base_rate", *FIGURES]
    return pd.DataFrame(rows, columns=columns)


def rival_of(validation: Rows, among: Sequence[str]) -> str:
    """Return the model with the least log-loss on validation rows, mean over markets and seeds.

    Raises:
        ModelError: none of `among` has validation rows.
    """
    losses = {}
    for model in among:
        if frames := validation.get(model):
            losses[model] = np.mean([mean_log_loss(frame) for frame in frames])
    if not losses:
        raise ModelError(f"expected validation rows of one of {', '.join(among)}; got none")
    return min(losses, key=lambda model: losses[model])


def paired_tests(
    test: Rows, model: str, rival: str, *, settings: ScoreSettings | None = None
) -> pd.DataFrame:
    """Compare a model with a rival on the same rows, market by market (`atlas.comparison`)."""
    settings = settings or ScoreSettings()
    return compare(
        test[model],
        test[rival],
        lags=settings.lags,
        blocks=settings.blocks,
        confidence=settings.confidence,
        resamples=settings.resamples,
        seed=settings.seed,
    )


def _card(
    frames: Sequence[pd.DataFrame],
    before: Sequence[pd.DataFrame],
    rivals: Mapping[str, Sequence[pd.DataFrame]],
    market: str,
    place: int,
    settings: ScoreSettings,
) -> _Card:
    first = frames[0]
    y, p = _column(first, "y"), _column(first, "p")
    said = [_column(frame, "probability") for frame in frames]
    session = first["session"].to_numpy(np.int64)
    accuracy, loss = (
        session_draws(
            np.mean(values, axis=0),
            session,
            block=settings.blocks.get(market, BLOCK),
            resamples=settings.resamples,
            confidence=settings.confidence,
            seed=settings.seed + place,
        )
        for values in ([hits(y, q) for q in said], [log_losses(y, q) for q in said])
    )
    plain = {"ece": float(np.mean([expected_calibration_error(y, q) for q in said]))}
    plain |= _surest(frames, before)
    plain["break_even"] = float(
        np.mean([_net(frame, q) for frame, q in zip(frames, said, strict=True)])
    )
    if np.isfinite(p).all():
        informed = rivals.get("informed")
        ceiling = None if informed is None else _column(informed[0], "probability")
        plain |= _shares(p, said[0], ceiling, session, settings)
    return _Card(accuracy, loss, plain)


def _surest(frames: Sequence[pd.DataFrame], before: Sequence[pd.DataFrame]) -> dict[str, float]:
    if not before or not len(before[0]):
        return {}
    found = []
    for frame, earlier in zip(frames, before, strict=True):
        limit = confidence_threshold(_column(earlier, "probability"), COVERAGE)
        found.append(selected_accuracy(_column(frame, "y"), _column(frame, "probability"), limit))
    return {
        "accuracy_surest": float(np.mean([one.accuracy for one in found])),
        "coverage_surest": float(np.mean([one.coverage for one in found])),
    }


def _net(frame: pd.DataFrame, q: Floats) -> float:
    session = frame["session"].to_numpy(np.int64)
    found = break_even(
        q, _column(frame, "returned"), _column(frame, "spread"), session, resamples=2
    )
    return found.net.value


def _shares(
    p: Floats, q: Floats, ceiling: Floats | None, session: NDArray[np.int64], own: ScoreSettings
) -> dict[str, float]:
    """Return lift, and lift and gain as shares of the ceilings with bootstrap errors over paths."""
    found = {"lift": lift(p, q), "bayes_gain": gain(p, q, p)}
    if ceiling is None:
        return found
    windows = Windows(p, q, ceiling, session)
    shares = model_shares({"": windows}, resamples=own.resamples, seed=own.seed)
    for name in ("informed_lift", "informed_gain"):
        found[name], found[f"{name}_error"] = getattr(shares, name)
    return found


def _mean(cards: Sequence[_Card]) -> _Card:
    names = [name for name in FIGURES if any(name in card.plain for card in cards)]
    plain = {}
    for name in names:
        values = np.array([card.plain.get(name, np.nan) for card in cards])
        known = values[np.isfinite(values)]
        if name.endswith("_error"):
            plain[name] = float(np.sqrt((known**2).sum()) / max(known.size, 1))
        else:
            plain[name] = float(known.mean()) if known.size else float("nan")
    return _Card(
        pooled([card.accuracy for card in cards]), pooled([card.log_loss for card in cards]), plain
    )


def _row(
    facts: tuple[str, str, int, int, float], card: _Card, settings: ScoreSettings
) -> tuple[object, ...]:
    accuracy = card.accuracy.interval(settings.confidence)
    loss = card.log_loss.interval(settings.confidence)
    rest = [card.plain.get(name, float("nan")) for name in FIGURES[6:]]
    return (*facts, *accuracy, *loss, *rest)


def _of(frame: pd.DataFrame, market: str) -> pd.DataFrame:
    return frame[frame["market"] == market].sort_values(
        ["symbol", "timestamp"], kind="stable", ignore_index=True
    )


def _column(frame: pd.DataFrame, name: str) -> Floats:
    return frame[name].to_numpy(np.float64)
