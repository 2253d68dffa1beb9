"""Search how weights move, inside each expert, on inner walk-forward folds before the test span.

- A fold trains on what lies before some validation sessions and is judged on those; the folds are
  the newest such blocks before the test sessions. A fold holds no test window at all.
- Searched: learning rate, optimizer and weight decay of the shared weights, and optimizer and
  learning rate of each expert and of the gate. The loss is what early stopping watches, the mean
  over folds; a trial that is worse than the median of the others at the same point is pruned.
- A trial's proposal depends on (seed, its number) and on the trials before it alone. So a search
  that was killed goes on with the trials it would have made; the one under way is made again.
- A market that was never tuned starts from the settings of the nearest fingerprint (`nearest`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import optuna
from optuna.samplers import TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from atlas.catalogue import EXPERT_IDS
from atlas.config import TrainingConfig
from atlas.cuts import cut
from atlas.data_fingerprint import FINGERPRINT_COLUMNS
from atlas.errors import ModelError
from atlas.moe import Network
from atlas.optimization import OPTIMIZERS
from atlas.sampling import spread_evenly
from atlas.training import train
from atlas.training_state import TrainingState
from atlas.windows import MarketData, Split

__all__ = [
    "Seen",
    "described",
    "inner_folds",
    "nearest",
    "objective",
    "proposal",
    "search",
    "settings_of",
    "start_from",
]

RATES = (3e-4, 2e-2)
DECAYS = (1e-5, 1e-1)
STARTUP = 8  # trials drawn at random before the sampler looks at the others
ROWS = 4_096  # of a market, whose median is its fingerprint
_LOGGED = ("vol30", "spread", "atr")
_NOTHING = np.zeros(0, np.int64)

Settings = dict[str, Any]
Evaluate = Callable[[Settings, Callable[[float, int], None]], float]


class Seen(NamedTuple):
    """A market that was tuned: its fingerprint, the rule's usual expert, what was found best."""

    market: str
    modality: str
    expert: str
    fingerprint: tuple[float, ...]  # (F,), see `described`
    settings: Settings


def inner_folds(
    data: Mapping[str, MarketData],
    cuts: Mapping[str, tuple[int, int]],
    count: int,
) -> list[dict[str, MarketData]]:
    """Cut every market `count` times before its test sessions, the newest fold first.

    Args:
        data: the night's markets.
        cuts: for each market its test and its validation sessions.
        count: of folds; fold k is validated k blocks of validation sessions further back.

    Raises:
        DataError: a market has too few sessions for so many folds.
    """
    folds = []
    for fold in range(count):
        parts = {}
        for market, own in data.items():
            test, validation = cuts[market]
            horizon = own.labels.question.horizon
            span = test + fold * validation
            split = cut(own.panel, own.labels, test=span, validation=validation, horizon=horizon)
            parts[market] = replace(own, split=Split(split.train, split.validation, _NOTHING))
        folds.append(parts)
    return folds


def proposal(trial: Trial, owners: Sequence[str]) -> Settings:
    """Ask a trial for settings of the shared weights and of each owner."""
    trial.suggest_float("learning_rate", *RATES, log=True)
    trial.suggest_float("weight_decay", *DECAYS, log=True)
    trial.suggest_categorical("optimizer", OPTIMIZERS[:2])
    for owner in owners:
        trial.suggest_float(f"{owner}.learning_rate", *RATES, log=True)
        trial.suggest_categorical(f"{owner}.optimizer", OPTIMIZERS)
    return settings_of(trial.params)


def settings_of(params: Mapping[str, Any]) -> Settings:
    """Turn a trial's flat parameters into fields of `TrainingConfig`."""
    settings: Settings = {"experts": {}, "gate": {}}
    for name, value in params.items():
        owner, _, field = name.rpartition(".")
        if not owner:
            settings[field] = value
        elif owner == "gate":
            settings["gate"][field] = value
        else:
            settings["experts"].setdefault(owner, {})[field] = value
    return settings


def objective(
    folds: Sequence[Mapping[str, MarketData]],
    build: Callable[[], Network],
    training: TrainingConfig,
    *,
    seed: int,
) -> Evaluate:
    """Return the function that trains on every fold and gives the mean of the best epochs' losses.

    Args:
        folds: from `inner_folds`.
        build: a network with the same first weights each time.
        training: budget, and whatever a trial does not set.
        seed: of the draws, the same for every trial.
    """

    def evaluate(settings: Settings, report: Callable[[float, int], None]) -> float:
        chosen = TrainingConfig.model_validate({**training.model_dump(), **settings})
        best: list[float] = []

        def told(state: TrainingState) -> None:
            losses = [epoch["validation_loss"] for epoch in state.meta["history"]]
            step = len(best) * training.epochs + len(losses)
            report(float(np.mean([*best, min(losses)])), step)

        for fold in folds:
            result = train(build(), fold, chosen, seed=seed, checkpoint=told)
            best.append(min(epoch.validation_loss for epoch in result.history))
        return float(np.mean(best))

    return evaluate


def search(
    study: Study,
    evaluate: Evaluate,
    owners: Sequence[str],
    *,
    trials: int,
    seed: int,
    starts: Sequence[Settings] = (),
    is_over: Callable[[], bool] = lambda: False,
    told: Callable[[FrozenTrial], None] = lambda _trial: None,
) -> None:
    """Make trials until `trials` have ended, those of earlier calls included.

    Args:
        study: minimizing; its storage decides whether the search can go on after a kill.
        evaluate: from `objective`.
        owners: experts and `gate`.
        trials: that end, pruned ones included.
        seed: of the proposals.
        starts: settings to try first, in a study that is new.
        is_over: asked before each trial.
        told: called with each trial that has ended.
    """
    if not study.trials:
        for settings in starts:
            study.enqueue_trial(_params_of(settings, owners))
    for left in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(left.number, state=TrialState.FAIL)
        study.enqueue_trial(left.params)
    while (ended := _ended(study)) < trials and not is_over():
        study.sampler = TPESampler(seed=seed * 100_003 + ended, n_startup_trials=STARTUP)
        trial = study.ask()
        settings = proposal(trial, owners)
        try:
            study.tell(trial, evaluate(settings, _reporter(trial)))
        except optuna.TrialPruned:
            study.tell(trial, state=TrialState.PRUNED)
        except ModelError as error:  # a learning rate at which the loss is not finite
            trial.set_user_attr("error", str(error))
            study.tell(trial, state=TrialState.PRUNED)
        told(study.trials[trial.number])


def described(own: MarketData) -> tuple[str, tuple[float, ...]]:
    """Return a market's usual expert and its median fingerprint (F,), by training rows alone.

    Quantities that spread over decades are logged; one that is never known is NaN.
    """
    ends = spread_evenly(own.split.train, ROWS)
    values = own.panel.fingerprint[ends].astype(np.float64)
    logged = [FINGERPRINT_COLUMNS.index(name) for name in _LOGGED]
    values[:, logged] = np.log(np.where(values[:, logged] > 0, values[:, logged], np.nan))
    known = np.isfinite(values)
    medians = [
        float(np.median(column[is_known])) if is_known.any() else float("nan")
        for column, is_known in zip(values.T, known.T, strict=True)
    ]
    usual = np.bincount(own.panel.rule[ends], minlength=len(EXPERT_IDS)).argmax()
    return EXPERT_IDS[int(usual)], tuple(medians)


def nearest(fingerprint: Sequence[float], modality: str, seen: Sequence[Seen]) -> Seen | None:
    """Return the seen market of the modality with the least distance, None if there is none.

    The distance is Euclidean over columns, each in standard deviations over the seen markets and
    this one; a column that one of the two lacks counts as one standard deviation.
    """
    own = [one for one in seen if one.modality == modality]
    if not own:
        return None
    rows = np.array([fingerprint, *(one.fingerprint for one in own)], np.float64)
    known = np.isfinite(rows)
    filled = np.where(known, rows, 0.0)
    count = np.maximum(known.sum(0), 1)
    center = filled.sum(0) / count
    spread = np.sqrt((np.where(known, rows - center, 0.0) ** 2).sum(0) / count)
    scaled = np.where(known, rows - center, 0.0) / np.where(spread > 1e-12, spread, 1.0)
    gap = np.where(known[1:] & known[0], scaled[1:] - scaled[0], 1.0 * (known[1:] != known[0]))
    return own[int(_norms(gap).argmin())]


def start_from(data: Mapping[str, MarketData], seen: Sequence[Seen]) -> Settings | None:
    """Return where to start tuning: each usual expert as at its market's nearest seen market.

    The shared settings are those of the first market that has a neighbor; an expert that no
    market asks for keeps them. None if no market has a neighbor.
    """
    start: Settings | None = None
    for own in data.values():
        expert, fingerprint = described(own)
        found = nearest(fingerprint, own.panel.modality, seen)
        if found is None:
            continue
        if start is None:
            start = {**found.settings, "experts": {}}
        best = found.settings.get("experts", {}).get(found.expert)
        if best is not None:
            start["experts"].setdefault(expert, best)
    return start


def _params_of(settings: Settings, owners: Sequence[str]) -> dict[str, Any]:
    """Turn settings into a trial's flat parameters, within the ranges that are searched."""
    shared = {"optimizer": settings["optimizer"], "learning_rate": settings["learning_rate"]}
    params = dict(shared)
    params["weight_decay"] = min(max(settings["weight_decay"], DECAYS[0]), DECAYS[1])
    for owner in owners:
        own = settings["gate"] if owner == "gate" else settings["experts"].get(owner, {})
        for field, common in shared.items():
            params[f"{owner}.{field}"] = own.get(field) or common
    for name, value in params.items():
        if name.endswith("learning_rate"):
            params[name] = min(max(value, RATES[0]), RATES[1])
    return params


def _reporter(trial: Trial) -> Callable[[float, int], None]:
    def report(loss: float, step: int) -> None:
        trial.report(loss, step)
        if trial.should_prune():
            raise optuna.TrialPruned

    return report


def _ended(study: Study) -> int:
    return len(study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED)))


def _norms(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(np.sqrt((rows**2).sum(1)))
