"""The configuration: params.yaml as small frozen models, checked once at the edge.

Unknown keys are refused by name, and so is a value that could only fail later in the night; deeper
code takes plain values. The `moe:` block is the seed's. A capability is off by being absent.
"""

import datetime as dt
import re
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from atlas.bars import Timeframe
from atlas.basket_config import BasketConfig, misfit
from atlas.catalogue import CATALOGUE, EXPERT_IDS
from atlas.errors import ConfigError
from atlas.refusals import explain

if TYPE_CHECKING:
    from atlas.optimization import Rule

__all__ = [
    "LIVE_SOURCES",
    "ATLASConfig",
    "BalanceConfig",
    "CutConfig",
    "LabelConfig",
    "LiveConfig",
    "MarketConfig",
    "MoEConfig",
    "ModelConfig",
    "MonitorConfig",
    "OwnTrainingConfig",
    "PromotionConfig",
    "SimulatedConfig",
    "SimulatedMarketConfig",
    "Source",
    "TrainingConfig",
]

Source = Literal["simulated", "files", "ccxt", "yfinance"]
Modality = Literal["chart", "surface"]
Optimizer = Literal["adamw", "nadam", "sgd"]
LIVE_SOURCES: frozenset[Source] = frozenset({"ccxt", "yfinance"})  # asked over the network
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LabelConfig(_Frozen):
    """What a model is asked: the kind of the label, its horizon and the bars skipped before it."""

    kind: Literal["direction", "relative_direction", "surface_change"] = "direction"
    measure: Literal["skew", "butterfly"] = "skew"
    horizon: int = Field(default=1, ge=1)
    skip: int = Field(default=0, ge=0)


class CutConfig(_Frozen):
    """Sessions at the end of a market's history for testing, and before them for validation."""

    test: int = Field(default=250, ge=1)
    validation: int = Field(default=120, ge=1)


class LiveConfig(_Frozen):
    """What is asked of a live source. Hosts and credentials never stand here.

    Attributes:
        symbols: as the source spells them, such as BTC/USDT or ^GSPC.
        since: the first day to ask for.
        exchange: its id in ccxt; for that source alone.
        rate: riskless rate a year, continuously compounded, that discounts options.
        min_days: expiries nearer than this are no tenor of a surface.
    """

    symbols: tuple[str, ...] = Field(min_length=1)
    since: dt.date
    exchange: str | None = None
    rate: float = Field(default=0.0, ge=-0.1, le=1)
    min_days: int = Field(default=5, ge=1)


class MarketConfig(_Frozen):
    """One market: its source, timeframe, calendar, label and limits."""

    timeframe: str
    calendar: str
    source: Source | None = None
    live: LiveConfig | None = None
    modality: Modality = "chart"
    required: bool = True
    label: LabelConfig = LabelConfig()
    volatility_horizon: int = Field(default=5, ge=1)
    cut: CutConfig = CutConfig()
    bad_share: float = Field(default=0.02, ge=0, le=1)
    stale_sessions: int = Field(default=3, ge=0)

    @field_validator("timeframe")
    @classmethod
    def _length(cls, timeframe: str) -> str:
        try:
            Timeframe.parse(timeframe)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return timeframe

    @field_validator("calendar")
    @classmethod
    def _listed(cls, calendar: str) -> str:
        if calendar not in _calendars():
            raise ValueError(
                f"calendar {calendar!r}: expected 24/7 or a name known to exchange_calendars, "
                "such as XNYS or CMES"
            )
        return calendar

    @model_validator(mode="after")
    def _answerable(self) -> "MarketConfig":
        if (self.label.kind == "surface_change") != (self.modality == "surface"):
            raise ValueError(
                f"label.kind {self.label.kind!r} does not fit modality {self.modality!r}: expected "
                "surface_change for surfaces, direction or relative_direction for charts"
            )
        return self


class SimulatedMarketConfig(_Frozen):
    """How many symbols and sessions of a simulated market are made."""

    symbols: int = Field(ge=1)
    sessions: int = Field(ge=1)


class SimulatedConfig(_Frozen):
    """The embedded simulated markets: their seed, the night they end at, and their sizes."""

    as_of: dt.date
    seed: int = 7
    markets: dict[str, SimulatedMarketConfig]


class BalanceConfig(_Frozen):
    """The load-balancing loss: `entropy` is λ·(log E − H(mean)), `switch` is Switch's f·P."""

    kind: Literal["entropy", "switch"] = "entropy"
    weight: float = Field(default=0.01, ge=0)


class MoEConfig(_Frozen):
    """The seed's `moe:` block, and the choices its open questions leave."""

    enabled: bool = True
    experts: tuple[str, ...] = EXPERT_IDS
    k: int = Field(default=2, ge=1, le=len(EXPERT_IDS))
    gate: Literal["rule", "mlp", "random", "uniform", "oracle"] = "mlp"
    bank: Literal["dictionary", "expert"] = "dictionary"
    balance: BalanceConfig = BalanceConfig()

    @field_validator("experts")
    @classmethod
    def _known(cls, experts: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in experts if name not in EXPERT_IDS]
        if unknown or not experts or len(set(experts)) != len(experts):
            raise ValueError(
                f"expected distinct experts out of {', '.join(EXPERT_IDS)}; got {list(experts)}"
            )
        return experts


class ModelConfig(_Frozen):
    """Widths of the network."""

    chart_width: int = Field(default=16, ge=1)
    series_width: int = Field(default=32, ge=1)
    hidden: int = Field(default=64, ge=1)


class OwnTrainingConfig(_Frozen):
    """How an expert's or the gate's own weights move; None is as for the shared weights."""

    optimizer: Optimizer | None = None
    learning_rate: float | None = Field(default=None, gt=0)


class TrainingConfig(_Frozen):
    """Budget and optimizer of one network's training."""

    epochs: int = Field(default=4, ge=1)
    windows_per_epoch: int = Field(default=48_000, ge=1)
    batch: int = Field(default=256, ge=2)
    optimizer: Optimizer = "adamw"
    learning_rate: float = Field(default=6e-3, gt=0)
    weight_decay: float = Field(default=1e-3, ge=0)
    volatility_weight: float = Field(default=0.1, ge=0)
    warm_start_share: float = Field(default=0.1, ge=0, le=1)
    explore_share: float = Field(default=0.8, ge=0, le=1)
    averaged_share: float = Field(default=0.3, ge=0, le=1)
    experts: dict[str, OwnTrainingConfig] = {}
    gate: OwnTrainingConfig = OwnTrainingConfig()
    start: Literal["cold", "warm"] = "cold"
    ensemble: int = Field(default=1, ge=1, le=16)
    window: Literal["expanding"] | PositiveInt = "expanding"
    seed: int = 1
    threads: int = Field(default=1, ge=1)
    processes: int = Field(default=1, ge=1, le=64)
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"

    @field_validator("experts")
    @classmethod
    def _known(cls, experts: dict[str, OwnTrainingConfig]) -> dict[str, OwnTrainingConfig]:
        unknown = [name for name in experts if name not in EXPERT_IDS]
        if unknown:
            raise ValueError(f"expected experts out of {', '.join(EXPERT_IDS)}; got {unknown}")
        return experts

    def rules(self) -> "tuple[Rule, dict[str, Rule]]":
        """Return how the shared weights move, and by owner how those move that differ."""
        from atlas.optimization import Rule  # PyTorch, which readers of params.yaml do without

        shared = Rule(self.optimizer, self.learning_rate, self.weight_decay)
        own = {}
        for owner, chosen in {**self.experts, "gate": self.gate}.items():
            if chosen != OwnTrainingConfig():
                optimizer = chosen.optimizer or self.optimizer
                rate = chosen.learning_rate or self.learning_rate
                own[owner] = Rule(optimizer, rate, self.weight_decay)
        return shared, own


class PromotionConfig(_Frozen):
    """The proof asked of a candidate; docs/promotion.md tells what each number does.

    `evidence` is the e-value that makes a challenger champion, `nights` how long it may stand,
    `bound` the largest loss difference of a session that counts, nats; `latency_ms` what an answer
    about one symbol may take of a processor; `resamples` and
    `confidence` are of the first champion's interval, and of the table's.
    """

    policy: Literal["proof", "refresh"] = "proof"
    evidence: float = Field(default=20.0, gt=1)
    nights: int = Field(default=60, ge=1)
    bound: float = Field(default=0.05, gt=0)
    freshness_days: int = Field(default=14, ge=1)
    latency_ms: float = Field(default=100.0, gt=0)
    resamples: int = Field(default=2_000, ge=100)
    confidence: float = Field(default=0.95, gt=0.5, lt=1)


class BenchmarkConfig(_Frozen):
    """The benchmark: own models; of the long one seeds, simulated windows, an archive's cuts."""

    seeds: tuple[int, ...] = Field(default=(1, 2, 3), min_length=1)
    train_windows: int = Field(default=32_000, ge=256)
    test_windows: int = Field(default=50_000, ge=256)
    cuts: tuple[dt.date, ...] = ()
    models: tuple[str, ...] = ()  # of the user's own, `module:factory`

    @field_validator("cuts")
    @classmethod
    def _ascending(cls, cuts: tuple[dt.date, ...]) -> tuple[dt.date, ...]:
        if list(cuts) != sorted(set(cuts)):
            raise ValueError(f"expected distinct dates in order; got {[str(c) for c in cuts]}")
        return cuts


class MonitorConfig(_Frozen):
    """What the daily watch takes for an alarm; docs/monitoring.md tells what each number does.

    `false_alarms` is the accepted chance that a day without any drift reports one, over all markets
    and columns; `window` how many of the newest sessions are looked at, at most; `night_days` how
    old the last night may be; `dead_share` of the places below which an expert is dead; `evidence`
    the e-value at which the champion's edge counts as lost.
    """

    false_alarms: float = Field(default=0.02, gt=0, lt=1)
    window: int = Field(default=20, ge=1)
    night_days: int = Field(default=4, ge=1)
    dead_share: float = Field(default=0.005, gt=0, lt=1)
    evidence: float = Field(default=20.0, gt=1)
    trigger_nightly: bool = False


class ATLASConfig(_Frozen):
    """The whole of params.yaml."""

    source: Source = "simulated"
    markets: dict[str, MarketConfig]
    simulated: SimulatedConfig
    moe: MoEConfig = MoEConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    promotion: PromotionConfig = PromotionConfig()
    benchmark: BenchmarkConfig = BenchmarkConfig()
    monitor: MonitorConfig = MonitorConfig()
    basket: BasketConfig | None = None  # of the cross-asset expert: docs/cross-asset.md
    tuning: str = Field(default="none", pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    pretraining: str = Field(default="none", pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")

    @model_validator(mode="after")
    def _named(self) -> "ATLASConfig":
        for name in self.markets:
            if not _NAME.fullmatch(name):
                raise ValueError(
                    f"market name {name!r}: expected lower-case letters, digits and underscores, "
                    "starting with a letter, at most 64"
                )
        unknown = sorted(set(self.simulated.markets) - set(self.markets))
        if unknown:
            raise ValueError(f"simulated.markets names {unknown}, which are not in markets")
        modalities = {name: market.modality for name, market in self.markets.items()}
        if self.basket is not None and (told := misfit(self.basket, modalities)):
            raise ValueError(told)
        return self

    @model_validator(mode="after")
    def _askable(self) -> "ATLASConfig":
        for name, market in self.markets.items():
            source = self.source_of(name)
            if source not in LIVE_SOURCES:
                continue
            if market.live is None:
                raise ValueError(
                    f"market {name!r}: the source {source!r} needs a block live: with symbols and "
                    "since"
                )
            if (market.live.exchange is None) == (source == "ccxt"):
                raise ValueError(
                    f"market {name!r}: live.exchange is the id of an exchange for the source "
                    f"ccxt, and for it alone; got {market.live.exchange!r} with {source!r}"
                )
            if source == "ccxt" and market.modality == "surface":
                raise ValueError(f"market {name!r}: the source ccxt gives bars, no surfaces")
        return self

    @model_validator(mode="after")
    def _simulable(self) -> "ATLASConfig":
        made_here = [m for m in self.simulated.markets if self.source_of(m) == "simulated"]
        if not made_here:
            return self
        from atlas.laws import LAWS  # compiles: only where markets are simulated

        modalities = {row.id: row.modality for row in CATALOGUE}
        for name in made_here:
            if name not in LAWS:
                raise ValueError(
                    f"simulated.markets: no law makes {name!r}; expected some of {', '.join(LAWS)}"
                )
            made, asked = modalities[LAWS[name].expert_id], self.markets[name].modality
            if made != asked:
                raise ValueError(f"market {name!r}: its law makes a {made}, not a {asked}")
        return self

    @classmethod
    def parse(cls, params: Mapping[str, Any]) -> "ATLASConfig":
        """Check a mapping read from params.yaml.

        Raises:
            ConfigError: naming every key that is unknown or out of range, one a line.
        """
        try:
            return cls.model_validate(params)
        except ValidationError as error:
            raise ConfigError(explain(error)) from None

    def source_of(self, market: str) -> Source:
        """Return where a market's bars come from: its own source, else the one for all."""
        return self.markets[market].source or self.source

    def sources(self) -> frozenset[Source]:
        """Return the sources of all markets."""
        return frozenset(self.source_of(market) for market in self.markets)

    def label(self, market: str) -> LabelConfig:
        """Return the market's label; a simulated market has horizon 1 and no skip (SIMULATION)."""
        chosen = self.markets[market].label
        if self.source_of(market) != "simulated":
            return chosen
        return chosen.model_copy(update={"horizon": 1, "skip": 0, "measure": "butterfly"})


@cache
def _calendars() -> frozenset[str]:
    """Return the names of calendars, without building one."""
    import exchange_calendars  # a tenth of a second that only a parse has to pay

    return frozenset(exchange_calendars.get_calendar_names())
