"""Promote the night's candidate if it is proven better than the champion.

- Proven: on the test sessions its log-loss, as a mean over markets, is lower, and the interval of
  the difference, from resampled sessions, excludes 0. The first champion must so beat the base
  rate. No champion is a valid end of a night.
- Sessions are resampled in blocks as for the night's table, at least twice the label's horizon.
- A row that the champion abstains on counts as the base rate's probability, which is what one has
  without an answer: a champion cannot win by silence, nor be judged on the rows it likes.
- The rows are those that neither model trained or chose itself on: sessions from the later of the
  two first test sessions on. The champion predicts them in a process of its own, with the code it
  was packaged with (`pipelines.challenge`).
- A night older than the champion's never promotes: its test sessions are the champion's past.
- A candidate answers the newest bars in a process of its own before it becomes champion: what
  cannot be loaded is never promoted, and its compiled code is there for the first user.
- A night whose candidate is the champion already repeats what was decided then, and leaves the
  evidence of its run and version as it is.
- The alias is the commit point and is moved under a lock, only if the champion still is the one
  that was judged (`tracking.swap`). Everything after it, promotion.json included, only tells.
"""

import json
import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from numpy.typing import NDArray

from atlas.config import ATLASConfig, PromotionConfig
from atlas.errors import ModelError
from atlas.evaluation import BLOCK, Interval, block_length, pooled, session_draws
from atlas.metrics import log_losses
from pipelines import challenge, predict, register, store, tracking
from pipelines.files import read_json, write_json
from pipelines.paths import Paths

__all__ = ["Verdict", "against", "block_lengths", "judge", "run"]

log = logging.getLogger(__name__)
KEYS = ["market", "symbol", "timestamp"]


class Verdict(NamedTuple):
    """Whether the candidate is better, why, and the figures behind it."""

    better: bool
    reason: str
    figures: dict[str, Any]


def run(paths: Paths, config: ATLASConfig, *, as_of: pd.Timestamp) -> dict[str, Any]:
    """Judge the registered candidate of this night; move the aliases if it is better.

    Returns:
        What promotion.json says: champion_version, promoted, reason, candidate,
        candidate_version, as_of, figures; and `skipped` if the same was decided before.

    Raises:
        ModelError: this night has registered no candidate, or the champion cannot predict, or the
            candidate that is to replace it cannot.
    """
    night = _registration(paths, as_of)
    client = tracking.open_registry(paths)
    holder = tracking.champion(paths)
    champion = str(holder.version) if holder else None
    question = {"champion": champion, "promotion": config.promotion.model_dump(), **night}
    path = paths.artifacts / tracking.DECISION
    known = read_json(path) if path.is_file() else {}
    if known.get("question") == tracking.digest_of(question):
        return {**known["decision"], "skipped": True}
    told = tracking.told(client, holder) if champion == night["candidate_version"] else None
    if told is not None:
        decision = {**told, "champion_version": champion}
        write_json(
            path, {**decision, "question": tracking.digest_of(question), "decision": decision}
        )
        return {**decision, "skipped": True}
    verdict = _verdict(paths, config, night, holder)
    if verdict.better:
        _rehearse(paths, config, night)
    promoted = verdict.better and tracking.swap(paths, night["candidate_version"], champion)
    reason = verdict.reason
    if verdict.better and not promoted:
        reason = "another promotion changed the champion meanwhile; the next night compares anew"
    holder = tracking.champion(paths)
    champion = str(holder.version) if holder else None
    decision = {
        "as_of": night["as_of"],
        "candidate": night["candidate"],
        "candidate_version": night["candidate_version"],
        "champion_version": champion,
        "figures": verdict.figures,
        "promoted": champion == night["candidate_version"],
        "reason": reason,
    }
    _tell(client, night, decision)
    answered = tracking.digest_of({**question, "champion": champion})
    write_json(path, {**decision, "question": answered, "decision": decision})
    log.info("promote: %s", reason)
    return {**decision, "skipped": False}


def judge(
    rows: pd.DataFrame,
    rival: str,
    settings: PromotionConfig,
    blocks: Mapping[str, float] | None = None,
) -> Verdict:
    """Compare a candidate with its rival on the same rows.

    Args:
        rows: market, session, y (0 or 1), probability (the candidate's) and rival.
        rival: the rival's name, for the reason.
        settings: resamples and confidence of the interval.
        blocks: mean length of the resampled blocks by market, sessions; a week where not given.
    """
    y = rows["y"].to_numpy(float)
    own = log_losses(y, rows["probability"].to_numpy(float))
    other = log_losses(y, rows["rival"].to_numpy(float))
    markets = rows["market"].to_numpy(str)
    losses = pd.DataFrame({"market": markets, "candidate": own, "rival": other})
    interval = _difference(losses, rows["session"].to_numpy("int64"), settings, blocks or {})
    by_market = losses.groupby("market").mean()
    figures = {
        "rival": rival,
        "log_loss_candidate": float(by_market["candidate"].mean()),
        "log_loss_rival": float(by_market["rival"].mean()),
        "difference": interval.value,
        "difference_low": interval.low,
        "difference_high": interval.high,
        "confidence": settings.confidence,
        "rows": len(rows),
        "markets": by_market.round(6).to_dict("index"),
    }
    better = interval.high < 0
    claim = "is lower" if better else "is not proven lower"
    return Verdict(
        better,
        f"log-loss {figures['log_loss_candidate']:.5f} {claim} than that of {rival}, "
        f"{figures['log_loss_rival']:.5f}: difference {interval.value:+.5f}, "
        f"{settings.confidence:.0%} interval [{interval.low:+.5f}, {interval.high:+.5f}]",
        figures,
    )


def _difference(
    losses: pd.DataFrame,
    sessions: NDArray[np.int64],
    settings: PromotionConfig,
    blocks: Mapping[str, float],
) -> Interval:
    """Return the mean over markets of the candidate's loss less the rival's, and its interval."""
    gain = (losses["candidate"] - losses["rival"]).to_numpy(float)
    markets = losses["market"].to_numpy(str)
    draws = [
        session_draws(
            gain[markets == market],
            sessions[markets == market],
            block=blocks.get(str(market), BLOCK),
            resamples=settings.resamples,
            confidence=settings.confidence,
            seed=place,
        )
        for place, market in enumerate(np.unique(markets))
    ]
    return pooled(draws).interval(settings.confidence)


def block_lengths(rows: pd.DataFrame, config: ATLASConfig) -> dict[str, float]:
    """Return the block of each market's test rows, as `pipelines.benchmark` counts it."""
    blocks = {}
    for market, own in rows.groupby("market"):
        horizon = config.label(str(market)).horizon
        days = own["session"].nunique() * own["symbol"].nunique()
        blocks[str(market)] = block_length(horizon, len(own) / days * horizon)
    return blocks


def _verdict(
    paths: Paths, config: ATLASConfig, night: dict[str, Any], holder: ModelVersion | None
) -> Verdict:
    own = _test_rows(paths.model(night["candidate"]) / "predictions.parquet", None)
    blocks = block_lengths(own, config)
    base = _test_rows(paths.benchmark / "predictions.parquet", "base_rate")
    rows = own.merge(
        base[[*KEYS, "probability"]].rename(columns={"probability": "base"}),
        on=KEYS,
        how="inner",
        validate="1:1",
    )
    if holder is None:
        verdict = judge(rows.assign(rival=rows["base"]), "the base rate", config.promotion, blocks)
        if verdict.better:
            return verdict
        return verdict._replace(reason=f"no champion: {verdict.reason}")
    version, held = str(holder.version), holder.tags["as_of"]
    if version == night["candidate_version"]:  # killed after the alias moved, before it was told
        return Verdict(False, f"version {version} already is the champion", {})
    if held > night["as_of"]:
        return Verdict(
            False,
            f"the champion's night {held} is newer than {night['as_of']}: a past night never "
            "promotes",
            {},
        )
    fresh = challenge.unseen(rows, challenge.first_sessions(holder))
    if fresh.empty:
        return Verdict(False, f"version {version} has seen every test session of this night", {})
    frame = challenge.frames(paths, config, fresh, pd.Timestamp(night["as_of"], tz="UTC"))
    answers = challenge.answers(paths, version, frame, threads=config.training.threads)
    return against(fresh, answers, version, config.promotion, blocks)


def against(
    fresh: pd.DataFrame,
    answers: pd.DataFrame,
    version: str,
    settings: PromotionConfig,
    blocks: Mapping[str, float],
) -> Verdict:
    """Judge a candidate by the champion's answers, and where it gave none by the base rate.

    Args:
        fresh: rows that neither has seen, with probability (the candidate's) and base.
        answers: what the champion says, with abstain; rows not answered at all are absent.
        version: the champion's number.
        settings: as `judge`.
        blocks: as `judge`.
    """
    given = answers.loc[~answers["abstain"], [*KEYS, "probability"]]
    rows = fresh.merge(
        given.rename(columns={"probability": "rival"}), on=KEYS, how="left", validate="1:1"
    )
    silent = rows["rival"].isna()
    verdict = judge(
        rows.assign(rival=rows["rival"].fillna(rows["base"])),
        f"version {version}",
        settings,
        blocks,
    )
    figures = {**verdict.figures, "answered": float(1 - silent.mean())}
    reason = verdict.reason
    if silent.any():
        reason += (
            f"; version {version} did not answer {int(silent.sum())} of {len(rows)} rows, which "
            "count as the base rate"
        )
    return Verdict(verdict.better, reason, figures)


def _rehearse(paths: Paths, config: ATLASConfig, night: dict[str, Any]) -> None:
    """Let the candidate answer one symbol of each market, with the code it was packaged with.

    Raises:
        ModelError: it cannot be loaded, or fails.
    """
    as_of = pd.Timestamp(night["as_of"], tz="UTC")
    asked = {names[0] for market in config.markets if (names := store.symbols(paths, market))}
    frames = [predict.symbol_frame(paths, config, symbol, as_of) for symbol in sorted(asked)]
    frame = pd.concat(frames, ignore_index=True)
    challenge.answers(paths, night["candidate_version"], frame, threads=config.training.threads)


def _test_rows(path: Any, model: str | None) -> pd.DataFrame:
    if not path.is_file():
        raise ModelError(f"{path} is missing: run the stages before promote first")
    rows = pd.read_parquet(path)
    if model is not None:
        rows = rows[rows["model"] == model]
    rows = rows[rows["split"] == "test"].reset_index(drop=True)
    if rows.empty:
        raise ModelError(f"{path}: holds no test row{f' of {model}' if model else ''}")
    return rows


def _registration(paths: Paths, as_of: pd.Timestamp) -> dict[str, Any]:
    path = register.registration(paths)
    night: dict[str, Any] = read_json(path) if path.is_file() else {}
    if night.get("as_of") != str(as_of.date()):
        came = f"the one of {night['as_of']}" if night else "none"
        raise ModelError(
            f"{path}: expected the candidate of {as_of.date()}, got {came}: run "
            f"`python -m pipelines register --as-of {as_of.date()}` first"
        )
    names = ("as_of", "candidate", "candidate_version", "key", "run_id")
    return {name: night[name] for name in names}


def _tell(client: MlflowClient, night: dict[str, Any], decision: dict[str, Any]) -> None:
    version, run_id = night["candidate_version"], night["run_id"]
    told = {"promoted": str(decision["promoted"]).lower(), "promotion_reason": decision["reason"]}
    for name, text in told.items():
        client.set_tag(run_id, name, text)
        client.set_model_version_tag(tracking.MODEL, version, name, text)
    client.log_text(run_id, json.dumps(decision, indent=2, sort_keys=True), tracking.DECISION)
