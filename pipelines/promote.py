"""Promote what is proven better than the champion, and nothing else.

- Without a champion the night's candidate must beat the base rate (`pipelines.proof`). No champion
  is a valid end of a night.
- With one, there is one challenger at a time. A night's candidate takes that place if it is free;
  every night the two are scored, each in a process of its own with its own code
  (`pipelines.challenge`), on sessions that neither has seen, and their losses feed an e-process
  (`pipelines.pair`). At `promotion.evidence` and with the guards of `pipelines.guards` it takes
  office; after `promotion.nights` nights it gives way. Later candidates only register.
- `promotion.policy: refresh` lets a retrain of the champion's own settings on newer data replace it
  unless it is shown worse.
- A night older than the champion's never promotes: its test sessions are the champion's past.
- A night whose candidate is the champion already repeats what was decided then, and leaves the
  evidence of its run and version as it is.
- The alias is the commit point and is moved under a lock (`pipelines.office`), only if the champion
  still is the one that was judged (`tracking.swap`). Of two promotions at once one wins, and the
  other says to whom it lost. Everything after it, promotion.json included, only tells.
"""

import json
import logging
from typing import Any, NamedTuple

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from atlas.config import ATLASConfig
from atlas.errors import ModelError
from pipelines import challenge, duel, history, predict, proof, register, store, tracking
from pipelines.files import read_json, write_json
from pipelines.paths import Paths

__all__ = ["run"]

log = logging.getLogger(__name__)


class _Question(NamedTuple):
    """What is to be decided: the night's candidate, and who holds which place."""

    night: dict[str, Any]
    champion: str | None
    challenger: str | None
    settings: dict[str, Any]

    @property
    def digest(self) -> str:
        places = {"champion": self.champion, "challenger": self.challenger}
        return tracking.digest_of({**self.night, **places, "promotion": self.settings})


def run(paths: Paths, config: ATLASConfig, *, as_of: pd.Timestamp) -> dict[str, Any]:
    """Judge the challenger, or the night's candidate where there is none; move the aliases.

    Returns:
        What promotion.json says: champion_version, challenger_version, promoted, reason, candidate,
        candidate_version, as_of, figures; and `skipped` if the same was decided before.

    Raises:
        ModelError: this night has registered no candidate, or a version that is asked cannot
            predict.
    """
    client = tracking.open_registry(paths)
    asked = _question(paths, config, _registration(paths, as_of))
    path = paths.artifacts / tracking.DECISION
    known = read_json(path) if path.is_file() else {}
    if known.get("question") == asked.digest:
        return {**known["decision"], "skipped": True}
    holder = tracking.champion(paths)
    is_champion = asked.champion == asked.night["candidate_version"]
    told = tracking.told(client, holder) if is_champion else None
    if told is not None:
        decision = {**told, "champion_version": asked.champion}
        write_json(path, {**decision, "question": asked.digest, "decision": decision})
        return {**decision, "skipped": True}
    outcome = _outcome(paths, config, asked.night, holder)
    reason, swapped = outcome.reason, False
    if outcome.winner is not None:
        swapped = tracking.swap(paths, outcome.winner, asked.champion)
        reason = outcome.reason if swapped else _lost(paths, asked, outcome.winner)
    if swapped and outcome.winner is not None:
        _inaugurate(paths, asked, outcome)
    answered = _question(paths, config, asked.night)
    decision = {
        "as_of": asked.night["as_of"],
        "candidate": asked.night["candidate"],
        "candidate_version": asked.night["candidate_version"],
        "challenger_version": answered.challenger,
        "champion_version": answered.champion,
        "figures": outcome.figures,
        "promoted": swapped or is_champion,
        "reason": reason,
    }
    _tell(client, asked.night, decision)
    write_json(path, {**decision, "question": answered.digest, "decision": decision})
    log.info("promote: %s", reason)
    return {**decision, "skipped": False}


def _lost(paths: Paths, asked: _Question, winner: str) -> str:
    now = tracking.champion(paths)
    wanted = f"follow version {asked.champion}" if asked.champion else "be the first champion"
    return (
        f"version {winner} was to {wanted}, but another promotion was faster: "
        f"{f'version {now.version}' if now else 'nobody'} is champion now; the next night compares "
        "anew"
    )


def _outcome(
    paths: Paths, config: ATLASConfig, night: dict[str, Any], holder: ModelVersion | None
) -> duel.Outcome:
    if holder is None:
        return _first(paths, config, night)
    version, held = str(holder.version), holder.tags["as_of"]
    if version == night["candidate_version"]:  # killed after the alias moved, before it was told
        return duel.Outcome(None, f"version {version} already is the champion", {})
    if held > night["as_of"]:
        reason = f"the champion's night {held} is newer than {night['as_of']}: a past night never"
        return duel.Outcome(None, f"{reason} promotes", {})
    return duel.judge(paths, config, night, holder)


def _first(paths: Paths, config: ATLASConfig, night: dict[str, Any]) -> duel.Outcome:
    """Judge the candidate of a home without a champion against the base rate."""
    candidate = night["candidate_version"]
    if why := duel.stood_down(paths, candidate):
        return duel.Outcome(None, f"no champion: version {candidate} was {why}", {})
    own = duel.rows_of(paths.model(night["candidate"]) / "predictions.parquet", None)
    base = duel.rows_of(paths.benchmark / "predictions.parquet", "base_rate")
    rows = own.merge(
        base[[*duel.KEYS, "probability"]].rename(columns={"probability": "rival"}),
        on=duel.KEYS,
        how="inner",
        validate="1:1",
    )
    blocks = proof.block_lengths(own, config)
    verdict = proof.judge(rows, "the base rate", config.promotion, blocks)
    if not verdict.better:
        return duel.Outcome(None, f"no champion: {verdict.reason}", verdict.figures)
    _rehearse(paths, config, night)
    return duel.Outcome(candidate, verdict.reason, verdict.figures)


def _inaugurate(paths: Paths, asked: _Question, outcome: duel.Outcome) -> None:
    """Tell the history, and free the place of a challenger that has won."""
    winner = str(outcome.winner)
    history.note(
        paths,
        winner,
        asked.champion,
        how=outcome.how,
        as_of=asked.night["as_of"],
        reason=outcome.reason,
    )
    duel.free_place_of(paths, winner)


def _question(paths: Paths, config: ATLASConfig, night: dict[str, Any]) -> _Question:
    places = (tracking.alias(paths, name) for name in (tracking.CHAMPION, tracking.CHALLENGER))
    champion, challenger = (str(held.version) if held else None for held in places)
    return _Question(night, champion, challenger, config.promotion.model_dump())


def _rehearse(paths: Paths, config: ATLASConfig, night: dict[str, Any]) -> None:
    """Let the candidate answer one symbol of each market, with the code it was packaged with.

    What cannot be loaded is never promoted, and its compiled code is there for the first user.

    Raises:
        ModelError: it cannot be loaded, or fails.
    """
    as_of = pd.Timestamp(night["as_of"], tz="UTC")
    asked = {names[0] for market in config.markets if (names := store.symbols(paths, market))}
    frames = [predict.symbol_frame(paths, config, symbol, as_of) for symbol in sorted(asked)]
    frame = pd.concat(frames, ignore_index=True)
    threads = config.training.threads
    challenge.answers(paths, night["candidate_version"], frame, threads=threads, now=as_of)


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
    """Leave the decision with the candidate's run and version, and with those of another winner."""
    versions = {night["candidate_version"]: night["run_id"]}
    champion = decision["champion_version"]
    if decision["promoted"] and champion not in versions:
        versions[champion] = client.get_model_version(tracking.MODEL, champion).run_id
    for version, run_id in versions.items():
        is_promoted = decision["promoted"] and version == champion
        told = {"promoted": str(is_promoted).lower(), "promotion_reason": decision["reason"]}
        for name, text in told.items():
            client.set_tag(run_id, name, text)
            client.set_model_version_tag(tracking.MODEL, version, name, text)
        client.log_text(run_id, json.dumps(decision, indent=2, sort_keys=True), tracking.DECISION)
