"""Forecasts of realised variance find what a known process has, and read nothing of the future."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from arch import arch_model

from atlas.cuts import cut
from atlas.metrics import qlike, r2
from atlas.volatility import (
    Garch,
    Har,
    HarX,
    LightGBMVolatility,
    Persistence,
    VolatilityYardstick,
    score_volatility,
)
from atlas.windows import MarketData, label
from tests.panels import panel_of
from tests.toys import toy_data

HORIZON = 5
ALPHA, BETA = 0.15, 0.8


def _garch_market(symbols: int = 3, bars: int = 1_500) -> MarketData:
    """Closes whose returns follow a GARCH(1,1); levels of the symbols lie apart by half."""
    rng = np.random.default_rng(5)
    closes = []
    for place in range(symbols):
        z, h, level = rng.standard_normal(bars), 1.0, 0.01 * 1.5**place
        r = np.empty(bars)
        for t in range(bars):
            r[t] = level * np.sqrt(h) * z[t]
            h = (1 - ALPHA - BETA) + ALPHA * h * z[t] ** 2 + BETA * h
        closes.append(100 * np.exp(np.cumsum(r)))
    # hourly bars of a market that never closes: variance is of squared returns
    panel = panel_of(
        np.concatenate(closes),
        symbols=symbols,
        timeframe="1h",
        per_session=24,
        has_close=False,
    )
    labels = label(panel, volatility_horizon=HORIZON)
    return MarketData(panel, labels, cut(panel, labels, test=12, validation=8, horizon=1))


@pytest.fixture(scope="module")
def market() -> dict[str, MarketData]:
    return {"market": _garch_market()}


def _models() -> dict[str, VolatilityYardstick]:
    horizons = {"market": HORIZON, **dict.fromkeys(toy_data(bars=200, test=20, validation=20), 5)}
    return {
        "persistence": Persistence(horizons),
        "har": Har(),
        "harx": HarX(),
        "garch": Garch(horizons),
        "lightgbm": LightGBMVolatility(rounds=60),
    }


def test_every_rival_of_volatility_beats_persistence_on_garch(
    market: dict[str, MarketData],
) -> None:
    """Persistence overreacts; who knows that variance returns to its mean does not."""
    scores = {}
    for name, model in _models().items():
        frame = score_volatility(model, market)
        scores[name] = qlike(frame["log_rv"].to_numpy(), frame["log_rv_predicted"].to_numpy())
    assert scores["garch"] < 0.8 * scores["persistence"]
    assert scores["har"] < 0.8 * scores["persistence"]
    assert scores["harx"] < 0.8 * scores["persistence"]
    assert scores["lightgbm"] < scores["persistence"]


def test_garch_finds_its_parameters_and_forecasts_as_arch_does(
    market: dict[str, MarketData],
) -> None:
    """α and β within what a few thousand returns tell; the recursion equals arch's forecast."""
    model = Garch({"market": HORIZON}).fit(market)
    alpha, beta = model.parameters["market"]
    assert alpha == pytest.approx(ALPHA, abs=0.08)
    assert beta == pytest.approx(BETA, abs=0.12)
    close = np.array(market["market"].panel.values)[3]
    returns = np.diff(np.log(close[:1_500]))
    ends, expected = np.array([1_100, 1_250, 1_400]), []
    for end in ends:
        past = returns[:end]
        level = float((past**2).mean())
        unit = arch_model(past / level**0.5, mean="Zero", vol="GARCH", p=1, q=1, rescale=False)
        fixed = unit.fix([1 - alpha - beta, alpha, beta])
        ahead = fixed.forecast(horizon=HORIZON, reindex=False).variance.to_numpy()[-1]
        expected.append(np.log(ahead.sum() * level))
    apart = model.predict("market", ends) - expected  # the intercept, which every bar shares
    assert np.ptp(apart) < 0.01
    assert np.ptp(expected) > 0.1


def test_answers_come_in_the_form_of_the_predictions() -> None:
    """Charts and surfaces, a row a test window, columns and times as the train stage writes."""
    data = toy_data()
    for name, model in _models().items():
        frame = score_volatility(model, data, splits=("validation", "test"))
        columns = ["market", "symbol", "timestamp", "session", "split"]
        assert [*frame] == [*columns, "log_rv", "log_rv_predicted"], name
        assert str(frame["timestamp"].dtype) == "datetime64[us, UTC]"
        assert np.isfinite(frame["log_rv_predicted"]).all()
        for market, own in data.items():
            rows = frame[(frame["market"] == market) & (frame["split"] == "test")]
            np.testing.assert_array_equal(rows["log_rv"], own.labels.log_rv[own.split.test])
            if name in ("har", "harx", "garch", "lightgbm"):  # not far off in level
                bias = rows["log_rv"].mean() - rows["log_rv_predicted"].mean()
                assert abs(bias) < 0.35, (name, market)


def test_no_forecast_reads_ahead(market: dict[str, MarketData]) -> None:
    """Bars after a test window, and every label of the test span, change nothing before them."""
    own = market["market"]
    end = own.split.test[40]
    values = np.array(own.panel.values)
    values[:, end + 1 : 1_500] *= np.linspace(1, 3, 1_500 - end - 1)
    log_rv = own.labels.log_rv.copy()
    log_rv[own.split.test] += 9
    poisoned = dataclasses.replace(
        own,
        panel=dataclasses.replace(own.panel, values=values),
        labels=dataclasses.replace(own.labels, log_rv=log_rv),
    )
    rows = own.split.test[:41]
    for (name, clean), other in zip(_models().items(), _models().values(), strict=True):
        before = clean.fit(market).predict("market", rows)
        after = other.fit({"market": poisoned}).predict("market", rows)
        np.testing.assert_array_equal(before, after, err_msg=name)


def test_persistence_repeats_the_last_variance(market: dict[str, MarketData]) -> None:
    """The forecast at t is the realised variance of the bars up to t: the label of t − h."""
    own = market["market"]
    ends = own.split.test[:30]
    found = Persistence({"market": HORIZON}).fit(market).predict("market", ends)
    np.testing.assert_allclose(found, own.labels.log_rv[ends - HORIZON], rtol=1e-5)


def test_a_symbol_without_train_rows_is_forecast_from_its_own_past() -> None:
    """Paths drawn afresh are new symbols: GARCH takes their level from the returns so far."""
    own = _garch_market()
    old = own.split.train[own.split.train < 1_500]
    data = {"market": dataclasses.replace(own, split=dataclasses.replace(own.split, train=old))}
    frame = score_volatility(Garch({"market": HORIZON}), data)
    new = frame[frame["symbol"] == "S2"]
    assert isinstance(new, pd.DataFrame)
    assert r2(new["log_rv"].to_numpy(), new["log_rv_predicted"].to_numpy()) > 0
