"""One archive, cut once, for `benchmarks.ideas`: what is trained, what it says, how it scores.

The sessions before the cut are parted once more: early stopping and calibration see the `TUNED`
before the newest `JUDGED`, and ideas are judged on these, which no training has seen. The test span
after the cut is scored by `tested` alone. Weights, and what models say of every row, are kept in
var/benchmarks/ideas/, the rivals' answers on the test span among them, for blends.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import safetensors.torch
import torch

from atlas.baselines import BaseRate, LightGBM, LightGBMSettings, ReversalRule, Yardstick
from atlas.config import ATLASConfig
from atlas.cuts import cut_at
from atlas.errors import ConfigError
from atlas.evaluation import POOLED
from atlas.linear import Logistic
from atlas.moe import Network
from atlas.prediction import predict
from atlas.training import train
from atlas.windows import WINDOW, MarketData, Split
from benchmarks import ideas_score
from benchmarks.idea_data import COARSE
from benchmarks.idea_table import BLENDS, IDEAS, REREADINGS, USUAL
from benchmarks.kept import folder
from benchmarks.units import PROJECT
from pipelines import ledger, samples
from pipelines.files import read_json, write_bytes, write_parquet
from pipelines.night import read_config
from pipelines.paths import Paths

__all__ = ["CUT", "JUDGED", "NAME", "RIVALS", "TUNED", "Bench", "Parted", "parted"]

NAME = "ideas"
CUT = "2022-07-01"  # the middle one: four markets have bars on both sides of it
JUDGED = 250  # sessions before the cut that ideas are judged on
TUNED = 120  # sessions before those, for early stopping and calibration
WINDOWS = 24_000  # an epoch, half of params.yaml: on real bars the best epoch is an early one
RIVALS = ("base_rate", "reversal", "logistic", "lightgbm")
Positions = npt.NDArray[np.int64]
_BUDGET = ("epochs", "windows_per_epoch", "batch", "learning_rate", "volatility_weight")


class Parted(NamedTuple):
    """A market to train on, whose split tests what is judged, and the true test rows beside it."""

    data: MarketData
    test: Positions


def parted(own: MarketData, *, day: int, end: int, horizon: int) -> Parted:
    """Part a market before the cut `day` into train, tuned and judged rows, and test rows after it.

    Args:
        own: the market; its own split is not looked at.
        day: the cut, days since 1970-01-01.
        end: of the test span, the day after its last.
        horizon: step of the grid.

    Returns:
        Judged rows as `split.test`, purged at the cut; tuned and training rows purged at the first
        judged session. Judged and test rows have the bars of the longest window behind them.
    """
    panel, labels = own.panel, own.labels
    outer = cut_at(panel, labels, day=day, end=end, validation=JUDGED, horizon=horizon)
    first = int(panel.session[outer.validation].min(initial=day))
    inner = cut_at(panel, labels, day=first, end=first, validation=TUNED, horizon=horizon)
    seen = panel.index >= COARSE * WINDOW - 1
    judged, test = (part[seen[part]] for part in (outer.validation, outer.test))
    return Parted(replace(own, split=Split(inner.train, inner.validation, judged)), test)


class Bench:
    """The archive, and where units leave their files."""

    def __init__(self, home: Path) -> None:
        self.paths = Paths(home.resolve())
        config = read_config(PROJECT / "params.yaml", source="files")
        budget = config.training.model_copy(update={"windows_per_epoch": WINDOWS})
        self.config = config.model_copy(update={"training": budget})
        self._asked: tuple[Any, dict[str, MarketData]] = (None, {})
        self.as_of = pd.Timestamp(str(read_json(self.paths.night)["as_of"]), tz="UTC")
        days = [str(day) for day in self.config.benchmark.cuts]
        if CUT not in days[:-1]:
            raise ConfigError(f"benchmark.cuts: expected {CUT} and a later date; got {days}")
        self.day, self.end = (_days(day) for day in days[days.index(CUT) :][:2])

    def settings(self) -> dict[str, Any]:
        """Return what all units share."""
        training = self.config.training.model_dump(mode="json", include=set(_BUDGET))
        return {"cut": CUT, "judged": JUDGED, "tuned": TUNED, **training}

    def markets(self, idea: str) -> dict[str, Parted]:
        """Return what an idea trains and is scored on."""
        asks, shows = IDEAS[idea].asks, IDEAS[idea].shows
        config = asks(self.config) if asks else self.config
        found = {}
        for market, own in self._loaded(config).items():
            if not (own.panel.session < self.day).any():
                continue
            horizon = config.label(market).horizon
            one = parted(own, day=self.day, end=self.end, horizon=horizon)
            if shows is not None:
                bars = config.markets[market].volatility_horizon
                tested = replace(one.data, split=replace(one.data.split, test=one.test))
                one = Parted(shows(one.data, bars), shows(tested, bars).split.test)
            if one.data.split.train.size and one.data.split.test.size:
                found[market] = one
        return found

    def _loaded(self, config: ATLASConfig) -> dict[str, MarketData]:
        """Return the archive's markets, labelled as asked; the last ones asked for are kept."""
        asked = {market: config.label(market) for market in config.markets}
        if self._asked[0] != asked:
            self._asked = (asked, samples.load(self.paths, config, self.as_of))
        return self._asked[1]

    def rivals(self) -> dict[str, Any]:
        """Fit the simple rivals on the usual question and keep what they say."""
        markets = self.markets(USUAL)
        data = {market: one.data for market, one in markets.items()}
        settings = LightGBMSettings(threads=self.config.training.threads, seed=1)
        models: dict[str, Yardstick] = {
            "base_rate": BaseRate(),
            "reversal": ReversalRule(),
            "logistic": Logistic(),
            "lightgbm": LightGBM(settings),
        }
        scores = {}
        for name, model in models.items():
            model.fit(data)
            for part in ("judged", "test"):
                said = {
                    market: model.predict(market, _ends(one, part))
                    for market, one in markets.items()
                    if _ends(one, part).size
                }
                self._write(name, None, part, markets, said)
            scores[name] = self.score([(name, None)])
        return {"scores": scores, "facts": _facts(markets)}

    def train(self, idea: str, seed: int) -> dict[str, Any]:
        """Train one network, keep its weights and what it says of the judged rows; record it."""
        markets, row = self.markets(idea), IDEAS[idea]
        data = {market: one.data for market, one in markets.items()}
        settings = self.config.training.model_copy(update=dict(row.training))
        model = self._built(idea, seed)
        result = train(model, data, settings, seed=seed)
        weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
        write_bytes(self._place(idea, seed, "weights"), safetensors.torch.save(weights))
        self._said(idea, seed, model, markets, "judged")
        found = self._recorded(idea, seed, settings.model_dump(mode="json"))
        return found | {"epochs": result.best_epoch, "facts": _facts(markets)}

    def blend(self, name: str, seed: int) -> dict[str, Any]:
        """Keep the mean of what a blend's members say of the judged rows; record it."""
        self._blended(name, seed, "judged")
        return self._recorded(name, seed, {"members": [list(m) for m in BLENDS[name].members]})

    def reread(self, name: str, seed: int) -> dict[str, Any]:
        """Keep what the usual mixture says of the judged rows if it is read so; record it."""
        self._say(name, seed, "judged")
        return self._recorded(name, seed, {"of": USUAL})

    def score(
        self, members: Sequence[tuple[str, int | None]], part: str = "judged"
    ) -> dict[str, Any]:
        """Score a model's seeds, as one, against the base rate of its own question."""
        own = [self._read(name, seed, part) for name, seed in members]
        return ideas_score.score(own, ideas_score.base_of(own[0]))

    def compared(self, idea: str, seeds: Sequence[int]) -> dict[str, Any]:
        """Score all seeds of an idea as one: against its base rate and the usual mixture."""
        own = [self._read(idea, seed, "judged") for seed in seeds]
        usual = [self._read(USUAL, seed, "judged") for seed in seeds]
        found: dict[str, Any] = {
            "seeds": list(seeds),
            "base": self.score([(idea, s) for s in seeds]),
        }
        if idea != USUAL and ideas_score.same_rows(own[0], usual[0]):
            found["usual"] = ideas_score.score(own, usual)
        if idea in IDEAS:
            found["alpha"] = self._alpha(idea, seeds)
        span = ledger.span_of(own[0])
        return found | {"trials": ledger.trials(ledger.entries(self.paths), span)}

    def _alpha(self, idea: str, seeds: Sequence[int]) -> dict[str, float]:
        """Return by market how much of the network the tuned sessions kept, mean over seeds."""
        files = [safetensors.torch.load_file(self._place(idea, s, "weights")) for s in seeds]
        alpha = torch.stack([file["calibration.alpha"][:, 0] for file in files]).mean(0)
        return dict(zip(self.config.markets, alpha.tolist(), strict=False))

    def tested(self, idea: str, seeds: Sequence[int]) -> dict[str, Any]:
        """Score the chosen idea and the usual mixture on the test span; the only look at it."""
        found: dict[str, Any] = {"chosen": idea, "seeds": list(seeds)}
        for name in (idea, USUAL):
            for seed in seeds:
                self._say(name, seed, "test")
            frames = [self._read(name, seed, "test") for seed in seeds]
            (base,) = ideas_score.base_of(frames[0])
            for seed, frame in zip(seeds, frames, strict=True):
                scored = {f"idea/{name}": frame}
                ledger.record(self.paths, scored, self.settings(), seed=seed, base=base)
            found[name] = self.score([(name, seed) for seed in seeds], "test")
        own = [self._read(idea, seed, "test") for seed in seeds]
        usual = [self._read(USUAL, seed, "test") for seed in seeds]
        if ideas_score.same_rows(own[0], usual[0]):
            found["difference"] = ideas_score.score(own, usual)
        span = ledger.span_of(own[0])
        return found | {"trials": ledger.trials(ledger.entries(self.paths), span)}

    def _recorded(self, name: str, seed: int, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Score one trial and write it into the home's ledger."""
        frame, found = self._read(name, seed, "judged"), self.score([(name, seed)])
        ledger.record_trial(
            self.paths,
            f"idea/{name}",
            {**self.settings(), "training": dict(settings)},
            span=ledger.span_of(frame),
            rows=len(frame),
            loss=found[POOLED]["value"],
            seed=seed,
        )
        return found

    def _built(self, idea: str, seed: int) -> Network:
        torch.manual_seed(seed)
        return IDEAS[idea].network(self.config)

    def _say(self, name: str, seed: int, part: str) -> None:
        """Have what was trained speak of other rows, from the weights that it left."""
        if name in BLENDS:
            for member, own in BLENDS[name].members:
                if member in IDEAS:
                    self._say(member, seed if own is None else own, part)
            self._blended(name, seed, part)
            return
        idea = USUAL if name in REREADINGS else name
        model = self._built(idea, seed)
        model.load_state_dict(safetensors.torch.load_file(self._place(idea, seed, "weights")))
        if name in REREADINGS:
            REREADINGS[name].change(model)
        self._said(name, seed, model, self.markets(idea), part)

    def _said(
        self, name: str, seed: int, model: Network, markets: Mapping[str, Parted], part: str
    ) -> None:
        said = {}
        for market, one in markets.items():
            ends, index = _ends(one, part), model.markets.index(market)
            if ends.size:
                said[market] = predict(model, one.data, ends, market_index=index)["probability"]
        self._write(name, seed, part, markets, said)

    def _blended(self, name: str, seed: int, part: str) -> None:
        parts = []
        for member, own in BLENDS[name].members:
            chosen = None if member in RIVALS else seed if own is None else own
            parts.append(self._read(member, chosen, part))
        mean = np.mean([one["probability"].to_numpy() for one in parts], axis=0)
        write_parquet(self._place(name, seed, part), parts[0].assign(probability=mean))

    def _write(
        self,
        name: str,
        seed: int | None,
        part: str,
        markets: Mapping[str, Parted],
        said: Mapping[str, npt.NDArray[np.float64]],
    ) -> None:
        base = BaseRate().fit({market: one.data for market, one in markets.items()})
        rows = []
        for market, probability in said.items():
            own, ends = markets[market].data, _ends(markets[market], part)
            facts = {
                "market": market,
                "symbol": own.panel.symbol_of(ends),
                "timestamp": pd.to_datetime(own.panel.timestamp[ends], unit="us", utc=True),
                "session": own.panel.session[ends],
                "y": own.labels.direction[ends],
                "probability": probability,
                "base": base.predict(market, ends),
            }
            rows.append(pd.DataFrame(facts))
        frame = pd.concat(rows, ignore_index=True)
        ordered = frame.sort_values(["market", "symbol", "timestamp"], ignore_index=True)
        write_parquet(self._place(name, seed, part), ordered)

    def _read(self, name: str, seed: int | None, part: str) -> pd.DataFrame:
        return pd.read_parquet(self._place(name, seed, part))

    def _place(self, name: str, seed: int | None, part: str) -> Path:
        ending = "safetensors" if part == "weights" else "parquet"
        return folder(NAME) / f"{name}-{seed or 0}-{part}.{ending}"


def _ends(one: Parted, part: str) -> Positions:
    return one.test if part == "test" else one.data.split.test


def _facts(markets: Mapping[str, Parted]) -> dict[str, dict[str, Any]]:
    """Return how many rows of each market trained, tuned and judged, and when those are."""
    found = {}
    for market, (own, _) in markets.items():
        split = own.split
        days = own.panel.session[split.test]
        found[market] = {
            "train": int(split.train.size),
            "tuned": int(split.validation.size),
            "judged": int(split.test.size),
            "from": str(np.datetime64(int(days.min()), "D")),
            "to": str(np.datetime64(int(days.max()), "D")),
        }
    return found


def _days(day: str) -> int:
    return int(np.datetime64(day, "D").astype(np.int64))
