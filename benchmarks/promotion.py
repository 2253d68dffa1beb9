"""How often the e-process swaps a champion: never for nothing, soon for something.

`python -m benchmarks.promotion [--home HOME] [--evidence HOME] [--models N]` takes the models of a
simulated night (both mixtures, the CNN, LightGBM); those of every seed of the long benchmark in
another home, thinned in each session to as many rows as the night has; and trains N more mixtures
at a small budget. Trained models and finished games are kept in var/benchmarks/promotion, so a run
that was stopped goes on. Nights are played with the models' test sessions: they are drawn in blocks
(stationary bootstrap, mean block a week, the same draw for markets of the same sessions); the first
night brings as many as the nightly cut leaves, each later night one of every market.

- A/A: two models whose session differences are centered in each market, so that neither is better;
  400 pairs, 50 nights each, any night's e ≥ 20 with a lower plain mean counts as a swap.
- +2: the champion is a model whose log-odds were blurred (half the noise shared by a session) until
  it calls two points fewer right, recalibrated; the challenger is the model itself. −2 the reverse.
- The same without the first night's history, one session of each market a night from the start.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import typer
from scipy.optimize import brentq, minimize_scalar
from scipy.special import expit, logit

from atlas.config import ATLASConfig, PromotionConfig
from atlas.eprocess import log_evidence
from atlas.metrics import log_losses
from atlas.moe import Network
from atlas.prediction import predict
from atlas.windows import MarketData
from benchmarks.balance import PROJECT, configuration, trained
from benchmarks.harness import metadata
from pipelines import samples
from pipelines.files import read_json, write_json, write_parquet
from pipelines.paths import Paths

__all__ = ["Pool", "nights", "play", "pool", "swapped"]

Floats = npt.NDArray[np.float64]
FIRST = {"1d": 250, "1min": 5}  # test sessions of the nightly cut; 20 for other intraday bars
SCORED = {"1d": 250, "1min": 8}  # sessions scored here; 30 for other intraday bars
KEPT = PROJECT / "var" / "benchmarks" / "promotion"
KINDS = ("even", "gain", "loss")
POINTS = 0.02
_MIXTURES = ("moe_mlp", "moe_random", "moe_rule", "moe_uniform")
TRAINED = ("cnn", "cnn_1d", "cnn_fingerprint", "lightgbm", "logistic", *_MIXTURES)
BLOCK = 5.0
LEVEL = np.log(20)


class Pool(NamedTuple):
    """What nights are drawn from: by market the mean loss difference of each session, (S,)."""

    gaps: dict[str, Floats]  # challenger − champion
    first: dict[str, int]
    groups: dict[str, str]  # markets of one group are drawn together


def main(
    home: Annotated[Path, typer.Option(help="of a simulated night")] = PROJECT,
    models: Annotated[int, typer.Option(help="how many more to train, half of them moe_rule")] = 16,
    evidence: Annotated[
        Path | None, typer.Option(help="home of the long benchmark, simulated; its models count")
    ] = None,
    pairs: Annotated[int, typer.Option(help="A/A pairs")] = 400,
    planted: Annotated[int, typer.Option(help="games with +2 and with −2 points")] = 200,
    json_path: Annotated[
        Path | None, typer.Option("--json", help="write the document here")
    ] = None,
) -> None:
    """Train what is missing, play, print the figures beside their targets."""
    config = _config()
    frames = _of_night(home, config)
    frames += _of_evidence(evidence, config, frames[0]) if evidence else []
    frames += [_scored(home, config, seed) for seed in range(1, models + 1)]
    rows = []
    for history in (True, False):
        rows += _games(frames, config.promotion, pairs, planted, history=history)
    for row in rows:
        typer.echo(f"{row['name']:<34} {row['value']:.4f} of n = {row['n']:<4} {row['target']}")
    fresh = _fresh(frames[0])
    typer.echo(f"{len(frames)} models; fresh windows in a night after the first: {fresh}")
    if json_path:
        heading = {**metadata("promotion", 11), "models": len(frames), "fresh_windows": fresh}
        write_json(json_path, {"metadata": heading, "results": [], "ratios": rows})


def pool(frame: pd.DataFrame, champion: Floats, challenger: Floats) -> Pool:
    """Reduce two models' probabilities of the same rows to session means.

    Args:
        frame: market, session, y and timeframe of each row (B,).
        champion: probabilities (B,).
        challenger: probabilities (B,).
    """
    y = frame["y"].to_numpy(float)
    table = frame[["market", "session", "timeframe"]].assign(
        gap=log_losses(y, challenger) - log_losses(y, champion)
    )
    gaps, first, groups = {}, {}, {}
    for market, own in table.groupby("market"):
        means = own.groupby("session")["gap"].mean()
        name, length = str(market), str(own["timeframe"].iloc[0])
        gaps[name] = means.to_numpy(float)
        first[name] = FIRST.get(length, 20)
        groups[name] = f"{length} {means.size}"
    return Pool(gaps, first, groups)


def nights(found: Pool, rng: np.random.Generator, count: int, *, history: bool) -> list[Floats]:
    """Draw the day differences of `count` nights; the first holds the history.

    Returns:
        For each night the day differences that it adds, each the mean over all markets with absent
        ones at 0, as `pipelines.pair` takes it.
    """
    length = (max(found.first.values()) if history else 1) + count - 1
    total = np.zeros(length)
    draws: dict[str, npt.NDArray[np.int64]] = {}
    for market, gaps in found.gaps.items():
        group = found.groups[market]
        if group not in draws:
            draws[group] = _draw(gaps.size, length, rng)
        own = gaps[draws[group]]
        own[: length - count + 1 - (found.first[market] if history else 1)] = 0
        total += own / len(found.gaps)
    start = length - count + 1
    return [total[:start], *(total[day : day + 1] for day in range(start, len(total)))]


def play(days: list[Floats], bound: float) -> int | None:
    """Return the night in which the challenger takes office, from 1, or None."""
    joined = np.concatenate(days)
    path = log_evidence(-joined, bound=bound)
    ends = np.cumsum([len(part) for part in days]) - 1
    for night, end in enumerate(ends, start=1):
        if path[end] >= LEVEL and joined[: end + 1].mean() < 0:
            return night
    return None


def swapped(
    pools: list[Pool], rng: np.random.Generator, games: int, count: int, bound: float, history: bool
) -> Floats:
    """Return the night of the swap of each game, infinity where there is none, (games,)."""
    ended = [
        play(nights(pools[int(rng.integers(len(pools)))], rng, count, history=history), bound)
        for _ in range(games)
    ]
    return np.array([np.inf if night is None else night for night in ended])


def _games(
    frames: list[pd.DataFrame],
    settings: PromotionConfig,
    pairs: int,
    planted: int,
    *,
    history: bool,
) -> list[dict[str, Any]]:
    suffix = "" if history else ", no history"
    allowed = 0.05 + 2 * np.sqrt(0.05 * 0.95 / pairs)

    def ended(kind: str, games: int, count: int) -> Floats:
        def work() -> Floats:
            rng = np.random.default_rng([11, KINDS.index(kind), int(history)])
            pools = _even(frames) if kind == "even" else _blurred(frames, rng, worse=kind == "loss")
            return swapped(pools, rng, games, count, settings.bound, history)

        key = [kind, games, count, history, settings.bound, *(_digest(f) for f in frames)]
        return _once(key, work)

    even = ended("even", pairs, 50)
    gain, loss = ended("gain", planted, 10), ended("loss", planted, settings.nights)
    return [
        _row(f"A/A pairs that swap{suffix}", np.isfinite(even), f"<= {allowed:.3f}"),
        _row(f"+2 points within 10 nights{suffix}", np.isfinite(gain), ">= 0.90"),
        _row(f"+2 points in the first night{suffix}", gain == 1, ""),
        _row(f"-2 points ever{suffix}", np.isfinite(loss), "= 0"),
    ]


def _once(key: list[Any], work: Callable[[], Floats]) -> Floats:
    """Return the nights of games played before, or play them and keep them."""
    name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
    path = KEPT / f"games-{name}.json"
    if not path.is_file():
        write_json(path, [None if np.isinf(n) else int(n) for n in work()])
        typer.echo(f"played: {key[0]}, {'with' if key[3] else 'without'} history")
    return np.array([np.inf if n is None else n for n in read_json(path)], np.float64)


def _digest(frame: pd.DataFrame) -> str:
    return str(pd.util.hash_pandas_object(frame["probability"], index=False).sum())


def _row(name: str, hits: npt.NDArray[np.bool_], target: str) -> dict[str, Any]:
    return {"name": name, "value": float(hits.mean()), "n": int(hits.size), "target": target}


def _even(frames: list[pd.DataFrame]) -> list[Pool]:
    """Return every ordered pair of models of the same rows, neither better in any market.

    Centering each market's session differences makes them so.
    """
    flat = [
        pool(frame, np.full(len(frame), 0.5), frame["probability"].to_numpy()) for frame in frames
    ]
    shape = [{market: gaps.size for market, gaps in found.gaps.items()} for found in flat]
    pools = []
    for i, one in enumerate(flat):
        for j, other in enumerate(flat):
            if i != j and shape[i] == shape[j]:
                gaps = {market: other.gaps[market] - own for market, own in one.gaps.items()}
                pools.append(one._replace(gaps={m: gap - gap.mean() for m, gap in gaps.items()}))
    return pools


def _blurred(frames: list[pd.DataFrame], rng: np.random.Generator, *, worse: bool) -> list[Pool]:
    """Return for each model the pair of it and itself, blurred; the challenger is the worse one."""
    pools = []
    for frame in frames:
        own, blurred = frame["probability"].to_numpy(float), _blur(frame, rng)
        pools.append(pool(frame, own, blurred) if worse else pool(frame, blurred, own))
    return pools


def _blur(frame: pd.DataFrame, rng: np.random.Generator) -> Floats:
    """Blur a model's log-odds in each market until it calls two points fewer right; recalibrate."""
    blurred = np.zeros(len(frame))
    for _, rows in frame.groupby("market").indices.items():
        own = frame.iloc[rows]
        p, odds = own["p"].to_numpy(float), logit(own["probability"].to_numpy(float))
        _, day = np.unique(own["session"], return_inverse=True)
        noise = (rng.normal(size=day.max() + 1)[day] + rng.normal(size=odds.size)) / np.sqrt(2)

        def lost(scale: float, p: Floats = p, odds: Floats = odds, noise: Floats = noise) -> float:
            return _right(p, odds) - _right(p, odds + scale * noise) - POINTS

        noisy = odds + float(brentq(lost, 0, 20, xtol=1e-3)) * noise
        fit = minimize_scalar(
            lambda slope, p=p, noisy=noisy: _expected(p, expit(slope * noisy)),
            bounds=(0.01, 2),
            method="bounded",
        )
        blurred[rows] = expit(fit.x * noisy)
    return blurred


def _right(p: Floats, odds: Floats) -> float:
    return float(np.mean(np.where(odds > 0, p, 1 - p)))


def _expected(p: Floats, q: Floats) -> float:
    return float(-np.mean(p * np.log(q) + (1 - p) * np.log1p(-q)))


def _draw(sessions: int, length: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Draw `length` sessions in blocks of a week on average."""
    anew = rng.random(length) < 1 / BLOCK
    anew[0] = True
    starts, steps = rng.integers(sessions, size=length), np.arange(length)
    begun = np.maximum.accumulate(np.where(anew, steps, 0))
    return np.asarray((starts[begun] + steps - begun) % sessions)


def _config() -> ATLASConfig:
    config = configuration()
    markets = {}
    for name, market in config.markets.items():
        cut = market.cut.model_copy(update={"test": SCORED.get(market.timeframe, 30)})
        markets[name] = market.model_copy(update={"cut": cut})
    return config.model_copy(update={"markets": markets})


def _scored(home: Path, config: ATLASConfig, seed: int) -> pd.DataFrame:
    """Return one model's test rows; train and score it unless that was done before."""
    variant = "moe_rule" if seed % 2 else "moe_mlp"
    path = KEPT / f"{variant}-{seed}.parquet"
    if not path.is_file():
        as_of = pd.Timestamp(str(config.simulated.as_of), tz="UTC")
        data = samples.load(Paths(home), config, as_of)
        model = trained(config, variant, data, seed)
        rows = [_rows(model, own, config.markets[name].timeframe) for name, own in data.items()]
        write_parquet(path, pd.concat(rows, ignore_index=True))
        typer.echo(f"model {seed}: {json.dumps(str(path))}")
    return pd.read_parquet(path)


def _of_night(home: Path, config: ATLASConfig) -> list[pd.DataFrame]:
    """Return the test rows of the night's own models and of LightGBM, those that are there."""
    paths = Paths(home)
    files = [paths.model(name) / "predictions.parquet" for name in ("cnn", "moe_rule", "moe_mlp")]
    tables = [pd.read_parquet(path) for path in files if path.is_file()]
    yardsticks = paths.benchmark / "predictions.parquet"
    if yardsticks.is_file():
        table = pd.read_parquet(yardsticks)
        tables.append(table[table["model"] == "lightgbm"])
    frames = []
    for table in tables:
        rows = table[(table["split"] == "test") & table["p"].notna()].reset_index(drop=True)
        length = rows["market"].map({name: m.timeframe for name, m in config.markets.items()})
        frames.append(rows[["market", "session", "y", "p", "probability"]].assign(timeframe=length))
    return frames


def _of_evidence(home: Path, config: ATLASConfig, night: pd.DataFrame) -> list[pd.DataFrame]:
    """Return the test rows of the long benchmark's trained models, as many a session as a night."""
    wanted = night.groupby(["market", "session"]).size().groupby("market").median()
    length = {name: market.timeframe for name, market in config.markets.items()}
    frames = []
    for path in sorted((home / "artifacts" / "evidence" / "simulated").glob("*/*/*.parquet")):
        if path.stem not in TRAINED or path.parent.name == "volatility":
            continue
        table = pd.read_parquet(
            path, columns=["market", "session", "split", "y", "p", "probability"]
        )
        rows = table[(table["split"] == "test") & table["p"].notna()].drop(columns="split")
        thin = rows.sample(frac=1, random_state=1)  # the same rows of every model
        place = thin.groupby(["market", "session"]).cumcount()
        kept = thin[place < thin["market"].map(wanted)].sort_index().reset_index(drop=True)
        frames.append(kept.assign(timeframe=kept["market"].map(length)))
    return frames


def _rows(model: Network, own: MarketData, timeframe: str) -> pd.DataFrame:
    panel, ends = own.panel, own.split.test
    assert panel.probability is not None
    ends = ends[np.isfinite(panel.probability[ends])]
    found = predict(model, own, ends, market_index=model.markets.index(panel.market))
    return pd.DataFrame(
        {
            "market": panel.market,
            "timeframe": timeframe,
            "session": panel.session[ends],
            "y": own.labels.direction[ends],
            "p": panel.probability[ends],
            "probability": found["probability"],
        }
    )


def _fresh(frame: pd.DataFrame) -> int:
    by_session = frame.groupby(["market", "session"]).size().groupby("market").median()
    return int(by_session.sum())


if __name__ == "__main__":
    typer.run(main)
