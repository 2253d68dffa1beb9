"""One night of a standing champion: who challenges it, what both say, and who wins.

The order makes every step safe to be killed at: the shadow log, then the alias `challenger`, then
the pair's state. Each is written whole, and a second run of the night adds only what is missing.
A candidate that cannot answer is an error and does not stand; a challenger whose files were changed
since gives way.
"""

import logging
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from mlflow.entities.model_registry import ModelVersion

from atlas.config import ATLASConfig
from atlas.errors import ModelError
from pipelines import challenge, guards, pair, score, shadow, tracking
from pipelines.pair import KEYS
from pipelines.paths import Paths

__all__ = ["KEYS", "Outcome", "free_place_of", "judge", "rows_of", "stood_down"]

log = logging.getLogger(__name__)


class Outcome(NamedTuple):
    """Who is to be champion (None: nothing changes), why, the figures, and the word for it."""

    winner: str | None
    reason: str
    figures: dict[str, Any]
    how: str = "promoted"


def judge(
    paths: Paths, config: ATLASConfig, night: dict[str, Any], holder: ModelVersion
) -> Outcome:
    """Let the champion and its challenger meet on the sessions of this night."""
    champion, candidate = str(holder.version), str(night["candidate_version"])
    free_place_of(paths, champion)  # a kill came between its promotion and this
    rival = tracking.resolve(paths, candidate)
    barred = stood_down(paths, candidate)
    is_retrain = (
        config.promotion.policy == "refresh" and not barred and _settings_match(rival, holder)
    )
    if is_retrain and rival.tags["as_of"] > holder.tags["as_of"]:
        outcome = _refresh(paths, config, night, holder, rival)
        if outcome.winner is not None:
            return outcome
        log.info("promote: %s", outcome.reason)
    news = _give_way(paths, config, night, champion)
    standing = tracking.alias(paths, tracking.CHALLENGER)
    if standing is None:
        if barred:
            return Outcome(None, f"{news}no challenger: version {candidate} was {barred}", {})
        standing = rival
    return _meet(paths, config, night, holder, standing, news)


def free_place_of(paths: Paths, version: str) -> None:
    """Take the alias `challenger` from a version that is champion."""
    standing = tracking.alias(paths, tracking.CHALLENGER)
    if standing is not None and str(standing.version) == version:
        tracking.stand_down(paths, version)


def stood_down(paths: Paths, version: str) -> str | None:
    """Return why a version may not stand against a champion, or None if it may."""
    reason: str | None = tracking.resolve(paths, version).tags.get(tracking.STOOD_DOWN)
    return reason


def rows_of(path: Path, model: str | None) -> pd.DataFrame:
    """Return the test rows of a file of predictions.

    Raises:
        ModelError: there is no file, or no test row in it.
    """
    if not path.is_file():
        raise ModelError(f"{path} is missing: run the stages before promote first")
    rows = pd.read_parquet(path)
    if model is not None:
        rows = rows[rows["model"] == model]
    rows = rows[rows["split"] == "test"].reset_index(drop=True)
    if rows.empty:
        raise ModelError(f"{path}: holds no test row{f' of {model}' if model else ''}")
    return rows


def _give_way(paths: Paths, config: ATLASConfig, night: dict[str, Any], champion: str) -> str:
    """End the challenge of one that has stood long enough or is broken; say so, or nothing."""
    standing = tracking.alias(paths, tracking.CHALLENGER)
    if standing is None:
        return ""
    version = str(standing.version)
    try:
        challenge.check(paths, version)
    except ModelError as error:
        tracking.stand_down(paths, version, f"broken: {error}")
        return f"version {version} gave way: {error}; "
    state = pair.load(paths, champion, version)
    stood = state["nights"] if state else []
    if len(stood) < config.promotion.nights or night["as_of"] in stood:
        return ""
    tracking.stand_down(paths, version, f"not proven better in {len(stood)} nights")
    return f"version {version} gave way after {len(stood)} nights; "


def _meet(
    paths: Paths,
    config: ATLASConfig,
    night: dict[str, Any],
    holder: ModelVersion,
    standing: ModelVersion,
    news: str,
) -> Outcome:
    champion, challenger = str(holder.version), str(standing.version)
    as_of = pd.Timestamp(night["as_of"], tz="UTC")
    state, rows = _state(paths, config, holder, standing, as_of)
    state = _scored(paths, config, night, state, rows)
    tracking.stand(paths, challenger)  # after it has answered: what cannot does not stand
    pair.save(paths, state)
    slope = guards.slope(paths, state)
    figures = _figures(state, slope._asdict(), guards.lag_days(state, as_of), config)
    said = f"{news}{_story(state, figures)}"
    if not state["days"]:
        said = f"{news}version {challenger} challenges version {champion}: no session yet that"
        return Outcome(None, f"{said} neither has seen", figures)
    if state["e"] < config.promotion.evidence:
        return Outcome(None, f"{said}: not proven, version {champion} stays champion", figures)
    failed = guards.unmet(state, slope, as_of, config.promotion)
    if failed:
        why = "; ".join(failed)
        return Outcome(None, f"{said}: proven, but {why}: version {champion} stays", figures)
    return Outcome(challenger, f"{said}: proven better", figures)


def _state(
    paths: Paths,
    config: ATLASConfig,
    holder: ModelVersion,
    standing: ModelVersion,
    as_of: pd.Timestamp,
) -> tuple[pair.State, pd.DataFrame]:
    """Return the pair's state and this night's rows that it has not judged yet."""
    first, second = (challenge.first_sessions(version) for version in (holder, standing))
    markets = [name for name in config.markets if name in first and name in second]
    state = pair.load(paths, str(holder.version), str(standing.version))
    if state is None:
        state = pair.opened(str(holder.version), str(standing.version), markets, config.promotion)
    rows = rows_of(paths.benchmark / "predictions.parquet", "base_rate")
    rows = rows[[*KEYS, "session", "y", "probability"]].rename(columns={"probability": "base"})
    rows = challenge.unseen(challenge.unseen(rows, first), second)
    return state, pair.unjudged(pair.ready(rows, as_of), state)


def _scored(
    paths: Paths,
    config: ATLASConfig,
    night: dict[str, Any],
    state: pair.State,
    rows: pd.DataFrame,
) -> pair.State:
    """Ask both about the rows, log what they say, and return the state with the night in it."""
    if rows.empty:
        return pair.add(state, night["as_of"], rows, {})
    frame = challenge.frames(paths, config, rows, pd.Timestamp(night["as_of"], tz="UTC"))
    said = {
        role: challenge.answers(paths, state[role], frame, threads=config.training.threads)
        for role in pair.ROLES
    }
    told = [(role, state[role], answers) for role, answers in said.items()]
    shadow.keep(paths, night["as_of"], rows, told)
    modality = {name: market.modality for name, market in config.markets.items()}
    loads = {role: guards.loads(answers, modality) for role, answers in said.items()}
    for role, answers in said.items():
        rows = pair.filled(rows, role, answers)
    spent = {role: answers.attrs.get(score.LATENCY) for role, answers in said.items()}
    return {**pair.add(state, night["as_of"], rows, loads), "latency_ms": spent}


def _refresh(
    paths: Paths,
    config: ATLASConfig,
    night: dict[str, Any],
    holder: ModelVersion,
    rival: ModelVersion,
) -> Outcome:
    """Replace the champion by a retrain of its own settings, unless that is shown worse."""
    as_of = pd.Timestamp(night["as_of"], tz="UTC")
    state, rows = _state(paths, config, holder, rival, as_of)
    state = _scored(paths, config, night, state, rows)
    pair.save(paths, state)
    slope = guards.slope(paths, state)
    figures = _figures(state, slope._asdict(), guards.lag_days(state, as_of), config)
    worse = pair.evidence_of(state, reverse=True)
    figures |= {"evidence_worse": worse}
    said = f"version {rival.version} is version {holder.version} trained on newer data (refresh)"
    if worse >= config.promotion.evidence:
        return Outcome(None, f"{said}, but it is shown worse: e = {worse:.3g}", figures)
    failed = guards.unmet(state, slope, as_of, config.promotion)
    failed = [reason for reason in failed if "plain mean" not in reason]  # worse must be shown
    if failed:
        return Outcome(None, f"{said}, but {'; '.join(failed)}", figures)
    return Outcome(
        str(rival.version),
        f"{said} and is not shown worse: e = {worse:.3g} of {config.promotion.evidence:g}",
        figures,
        how="refreshed",
    )


def _settings_match(rival: ModelVersion, holder: ModelVersion) -> bool:
    names = ("settings", "variant", "code")
    return all(name in holder.tags and rival.tags.get(name) == holder.tags[name] for name in names)


def _figures(
    state: pair.State, slope: dict[str, float], lag: int | None, config: ATLASConfig
) -> dict[str, Any]:
    """Return what promotion.json says of the pair; a number that is unknown is None."""
    by_market = pair.losses(state)
    mean = {
        role: sum(own[role] for own in by_market.values()) / max(len(by_market), 1)
        for role in pair.ROLES
    }
    known = bool(by_market)
    rows = int(sum(own["rows"] for own in by_market.values()))
    silent = {role: sum(day["silent"][role] for day in state["days"]) for role in pair.ROLES}
    finite = {name: value if abs(value) < 1e9 else None for name, value in slope.items()}
    return {
        "rival": f"version {state['champion']}",
        "challenger": state["challenger"],
        "champion": state["champion"],
        "evidence": state["e"],
        "evidence_needed": config.promotion.evidence,
        "nights": len(state["nights"]),
        "nights_allowed": config.promotion.nights,
        "sessions": len(state["days"]),
        "newest_session": state["days"][-1]["day"] if known else None,
        "lag_days": lag,
        "rows": rows,
        "log_loss_challenger": mean["challenger"] if known else None,
        "log_loss_champion": mean["champion"] if known else None,
        "difference": mean["challenger"] - mean["champion"] if known else None,
        "silent": silent,
        "recalibration_slope": finite,
        "markets": by_market,
    }


def _story(state: pair.State, figures: dict[str, Any]) -> str:
    if not state["days"]:
        return ""
    nights, sessions = figures["nights"], figures["sessions"]
    text = (
        f"version {state['challenger']} against version {state['champion']}: "
        f"e = {state['e']:.3g} of {figures['evidence_needed']:g} after {nights} "
        f"{'night' if nights == 1 else 'nights'} and {sessions} sessions that neither has seen, "
        f"the newest {figures['newest_session']}, {figures['lag_days']} d before the night; "
        f"log-loss {figures['log_loss_challenger']:.5f} against {figures['log_loss_champion']:.5f}"
    )
    for role, count in figures["silent"].items():
        if count:
            text += (
                f"; version {state[role]} did not answer {count} of {figures['rows']} rows, which "
                "count as the base rate"
            )
    return text
