"""Audit the walk from stored bars to predictions: `python -m pipelines audit [--market M]`.

The checks are `atlas.audit` and `atlas.luck`; this stage hands them the very functions that the
other stages use, on the bars of the home. It writes nothing. What it poisons are copies in memory.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import safetensors.torch
import torch
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table

from atlas.audit import (
    Finding,
    changed_rows,
    check_cut,
    check_future,
    check_labels,
    check_rolls,
    check_scaling,
    finding,
)
from atlas.bars import COLUMNS
from atlas.catalogue import EXPERT_IDS
from atlas.config import ATLASConfig, MarketConfig
from atlas.cuts import cut_at
from atlas.data_fingerprint import FINGERPRINT_COLUMNS
from atlas.ensemble import build_trained
from atlas.errors import DataError, ModelError
from atlas.luck import check_shifted, check_shuffled, shuffled_values
from atlas.moe import Network, build_model
from atlas.windows import Labels, MarketData, Panel, Split
from pipelines import fingerprint, samples, store
from pipelines.files import read_json
from pipelines.paths import Paths

__all__ = ["run", "show"]

log = logging.getLogger(__name__)
Positions = NDArray[np.int64]
_SYMBOLS = 8  # whose bars are poisoned, spread over the market
_MOMENTS = (0.25, 0.75)  # of the test span, after which bars are poisoned
_ROWS = 64  # windows predicted before each moment
_SHAKE = 0.1
_ROLLING = ("CME", "ICE", "EUREX", "us_futures")  # calendars of contracts that end
_SCALED = ("open", "high", "low", "close", "bid", "ask")


def run(
    paths: Paths, config: ATLASConfig, *, as_of: pd.Timestamp, markets: Sequence[str]
) -> list[Finding]:
    """Check every market named; return what was seen.

    Raises:
        DataError: a market did not pass validation in this night, or has no fingerprints.
    """
    model, about = _network(paths, config)
    log.info("audit: predictions of %s", about)
    found: list[Finding] = []
    for market in markets:
        own = samples.load_market(paths, config, market, as_of)
        found += _market(paths, config, as_of, own, model)
        log.info("audit: %s is done", market)
    return found


def show(found: Sequence[Finding], console: Console) -> bool:
    """Print the findings as a table; return whether nothing leaked."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("market", "check", "cut", "looked at", "changed", "verdict", "note"):
        right = name in ("looked at", "changed")
        table.add_column(name, justify="right" if right else "left", no_wrap=name != "note")
    bad = [one for one in found if one.verdict in ("leak", "blind")]
    for market in dict.fromkeys(one.market for one in found):
        for one in (each for each in found if each.market == market):
            verdict = f"[red]{one.verdict.upper()}[/red]" if one in bad else one.verdict
            counts = f"{one.looked:,}", f"{one.changed:,}"
            table.add_row(one.market, one.check, one.cut, *counts, verdict, one.note)
        table.add_section()
    wide = console if console.is_terminal else Console(file=console.file, width=140)
    wide.print(table, highlight=False)
    unknown = sum(one.verdict == "unknown" for one in found)
    console.print(
        f"{len(found)} checks: {len(bad)} leaks or blind, {unknown} with nothing to look at",
        highlight=False,
    )
    for one in bad:
        console.print(f"LEAK {one.market}: {one.check} {one.cut}", highlight=False, markup=False)
    return not bad


def _market(
    paths: Paths, config: ATLASConfig, as_of: pd.Timestamp, own: MarketData, model: Network
) -> Iterator[Finding]:
    panel, settings = own.panel, config.markets[own.panel.market]
    yield from _futures(paths, config, as_of, own, model)
    labeller = partial(_labels, config)
    horizon = settings.volatility_horizon
    yield from check_labels(panel, own.labels, labeller, volatility_horizon=horizon)
    if panel.contract is not None or settings.calendar.startswith(_ROLLING):
        yield check_rolls(panel, own.labels, volatility_horizon=horizon)
    for name, cutter in (
        ("nightly", partial(_nightly, config)),
        *(
            (str(np.datetime64(day, "D")), partial(_shared, config, day))
            for day in _days(config, panel)
        ),
    ):
        yield from check_cut(
            panel, own.labels, labeller, cutter, name=name, volatility_horizon=horizon
        )
    yield check_scaling(own, partial(build_model, config, variant=_variant(config)))
    yield check_shifted(own)
    yield check_shuffled(_shuffled(config, own))


def _futures(
    paths: Paths, config: ATLASConfig, as_of: pd.Timestamp, own: MarketData, model: Network
) -> Iterator[Finding]:
    """Poison the bars after two moments, make fingerprints of them, and compare what was before."""
    panel, settings = own.panel, config.markets[own.panel.market]
    chosen = np.unique(np.linspace(0, len(panel.symbols) - 1, _SYMBOLS).astype(int))
    frames = {
        int(place): store.read_bars(
            paths, panel.market, panel.symbols[place], as_of=as_of, config=settings
        )
        for place in chosen
    }
    made = _remade(panel, settings, frames)
    rows = np.concatenate([np.arange(*panel.offsets[[i, i + 1]]) for i in frames])
    stored = changed_rows(panel.fingerprint[rows], made.fingerprint[rows])
    stored |= panel.rule[rows] != made.rule[rows]
    yield finding(panel.market, "fingerprint as stored", rows.size, int(stored.sum()))
    tests = np.intersect1d(own.split.test, rows)
    if not tests.size:
        yield finding(panel.market, "future, fingerprint", 0, 0)
        return
    index = model.markets.index(panel.market) if panel.market in model.markets else -1
    clean = replace(own, panel=made)
    sums: dict[str, Finding] = {}
    for seed, share in enumerate(_MOMENTS):
        moment = np.sort(panel.timestamp[tests])[int(share * (tests.size - 1))]
        dirty = _remade(panel, settings, {i: _spoiled(f, moment, seed) for i, f in frames.items()})
        known = rows[panel.timestamp[rows] <= moment]
        moved = changed_rows(made.fingerprint[known], dirty.fingerprint[known])
        moved |= made.rule[known] != dirty.rule[known]
        now = [finding(panel.market, "future, fingerprint", known.size, int(moved.sum()))]
        ends = tests[panel.timestamp[tests] <= moment]
        ends = ends[np.argsort(panel.timestamp[ends], kind="stable")][-_ROWS:]
        now += check_future(clean, dirty, ends, model, index=index)
        for one in now:
            before = sums.get(one.check)
            looked, changed = (before.looked, before.changed) if before else (0, 0)
            sums[one.check] = finding(
                one.market, one.check, looked + one.looked, changed + one.changed
            )
    yield from sums.values()


def _remade(panel: Panel, settings: MarketConfig, frames: dict[int, pd.DataFrame]) -> Panel:
    """Return the panel with the values, fingerprints and verdicts that these frames give."""
    values, described = np.array(panel.values), panel.fingerprint.copy()
    rule = panel.rule.copy()
    for place, frame in frames.items():
        own = slice(*panel.offsets[[place, place + 1]])
        times, grid = samples.grid_of(frame, settings)
        if len(times) != own.stop - own.start:
            raise DataError(
                f"{panel.market}/{panel.symbols[place]}: expected the {own.stop - own.start} bars "
                f"that were loaded; got {len(times)}: the store changed meanwhile, audit again"
            )
        values[own if panel.modality == "surface" else (slice(None), own)] = grid
        bars = None if panel.modality == "surface" else frame
        history = fingerprint.History(bars, None if bars is not None else grid, times)
        _describe(panel, settings, place, history, (described, rule))
    return replace(panel, values=values, fingerprint=described, rule=rule)


def _shuffled(config: ATLASConfig, own: MarketData) -> MarketData:
    """Take the market's shuffled bars through fingerprints, labels and cut."""
    panel, settings = own.panel, config.markets[own.panel.market]
    values = shuffled_values(panel)
    described, rule = panel.fingerprint.copy(), panel.rule.copy()
    for place in range(len(panel.symbols)):
        part = slice(*panel.offsets[[place, place + 1]])
        stamps = panel.timestamp[part].view("datetime64[us]")
        times = pd.DatetimeIndex(stamps, tz="UTC", name="timestamp")
        if panel.modality == "surface":
            history = fingerprint.History(None, values[part], times)
        else:
            bars = pd.DataFrame(values[:, part].T, index=times, columns=list(COLUMNS))
            history = fingerprint.History(bars, None, times)
        _describe(panel, settings, place, history, (described, rule))
    walk = replace(panel, values=values, fingerprint=described, rule=rule, probability=None)
    labels = _labels(config, walk)
    return MarketData(walk, labels, _nightly(config, walk, labels))


def _describe(
    panel: Panel,
    settings: MarketConfig,
    place: int,
    history: fingerprint.History,
    into: tuple[NDArray[np.float32], NDArray[np.int8]],
) -> None:
    rows = fingerprint.rows_of(history, settings, panel.market, panel.symbols[place], 0)
    own = slice(*panel.offsets[[place, place + 1]])
    into[0][own] = rows[list(FINGERPRINT_COLUMNS)].to_numpy(np.float32)
    into[1][own] = pd.Categorical(rows["rule"].astype(str), categories=EXPERT_IDS).codes


def _spoiled(frame: pd.DataFrame, moment: int, seed: int) -> pd.DataFrame:
    """Return other quotes after `moment`, microseconds since 1970; what is before stays."""
    times = pd.DatetimeIndex(frame.get("timestamp", frame.index))
    later = np.asarray(times.as_unit("us").asi8) > moment
    rng, out = np.random.default_rng(seed), frame.copy()
    factor = np.where(later, np.exp(0.5 * rng.standard_normal(later.size)), 1.0)
    extra = np.where(later, 1 + 9 * rng.random(later.size), 1.0)
    for name in out.columns:
        if name in (*_SCALED, "iv"):
            out[name] = out[name] * factor
        elif name in ("volume", "turnover"):
            out[name] = out[name] * extra
        elif name == "adj_close":
            out[name] = out[name] * factor * np.where(later, 0.5, 1.0)
    return out


def _labels(config: ATLASConfig, panel: Panel) -> Labels:
    return samples.labels_of(panel, config)


def _nightly(config: ATLASConfig, panel: Panel, labels: Labels) -> Split:
    return samples.split_of(panel, labels, config)


def _shared(config: ATLASConfig, day: int, panel: Panel, labels: Labels) -> Split:
    settings = config.markets[panel.market]
    return cut_at(
        panel,
        labels,
        day=day,
        end=np.iinfo(np.int64).max,
        validation=settings.cut.test,
        horizon=config.label(panel.market).horizon,
    )


def _days(config: ATLASConfig, panel: Panel) -> list[int]:
    """Return the benchmark's dates that part this market, or one of its own if none does."""
    days = np.unique(panel.session)
    wanted = [int(np.datetime64(day, "D").astype(np.int64)) for day in config.benchmark.cuts]
    return [day for day in wanted if days[0] < day <= days[-1]] or [int(days[2 * days.size // 3])]


def _variant(config: ATLASConfig) -> str:
    return "moe_mlp" if config.moe.enabled else "moe_rule"


def _network(paths: Paths, config: ATLASConfig) -> tuple[Network, str]:
    """Return the night's network, or an untrained one, and what it is.

    Raises:
        ModelError: its files do not fit each other.
    """
    folder = paths.model(_variant(config))
    if not (folder / "model.safetensors").is_file():
        torch.manual_seed(config.training.seed)
        model = build_model(config, variant=_variant(config))
        with (
            torch.no_grad()
        ):  # it starts by adding nothing to its base: shake it, or it sees nothing
            for weights in model.parameters():
                weights.add_(_SHAKE * torch.randn_like(weights))
        return model, "an untrained network"
    card = read_json(folder / "config.json")
    trained = ATLASConfig.parse(card["config"])
    names = card["model_markets"]
    try:
        ordered = {name: trained.markets[name] for name in names}
        trained = trained.model_copy(update={"markets": ordered})
        model = build_trained(trained, variant=card["variant"])
        model.load_state_dict(safetensors.torch.load((folder / "model.safetensors").read_bytes()))
    except (KeyError, RuntimeError) as error:
        raise ModelError(
            f"{folder}: expected weights that fit their config.json; {error}: "
            "run `python -m pipelines train` again"
        ) from None
    return model, f"{card['variant']} of {card['as_of']}"
