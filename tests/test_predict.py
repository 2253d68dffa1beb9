"""A registered model answers raw bars as the evaluation did, or says why it does not."""

import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest

from atlas.config import MarketConfig, Source
from atlas.data_fingerprint import fingerprint, session_sums
from atlas.doubts import FLAT, NO_HURST, NO_VOL30, SHORT_VOL30
from atlas.errors import DataError
from atlas.long_frame import sums_text
from atlas.serving import bars_per_session
from pipelines import challenge, predict, register, score, store, tracking
from pipelines.paths import Paths
from tests.registered import AS_OF, MARKETS, copy_home, tiny_config

CONFIG = tiny_config()


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    home = copy_home(tmp_path_factory.mktemp("served") / "home")
    register.run(home, CONFIG, as_of=AS_OF)
    return home


class Asked:
    """A registered model that is asked in the night of the bars, whenever the test runs."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def predict(self, frame: pd.DataFrame, params: dict[str, Any] | None = None) -> Any:
        return self.model.predict(frame, params={"now": AS_OF.isoformat(), **(params or {})})


@pytest.fixture(scope="module")
def model(paths: Paths) -> Asked:
    tracking.open_registry(paths)
    return Asked(mlflow.pyfunc.load_model(f"models:/{tracking.MODEL}/1"))


@pytest.fixture(scope="module")
def rows(paths: Paths) -> pd.DataFrame:
    """The candidate's test rows, as the train stage scored them."""
    night = json.loads(register.registration(paths).read_text())
    frame = pd.read_parquet(paths.model(night["candidate"]) / "predictions.parquet")
    return frame[frame["split"] == "test"]


@pytest.fixture
def bars(paths: Paths) -> pd.DataFrame:
    """Every bar of the stocks, as one long frame."""
    return pd.concat(
        [
            store.read_bars(
                paths, "equity_daily", symbol, as_of=AS_OF, config=CONFIG.markets["equity_daily"]
            )
            .reset_index()
            .assign(market="equity_daily", symbol=symbol)
            for symbol in store.symbols(paths, "equity_daily")
        ],
        ignore_index=True,
    )


@pytest.fixture(scope="module")
def minutes(paths: Paths) -> pd.DataFrame:
    """Every 5-minute bar of one stock, as a long frame."""
    symbol = store.symbols(paths, "equity_5min")[0]
    settings = CONFIG.markets["equity_5min"]
    bars = store.read_bars(paths, "equity_5min", symbol, as_of=AS_OF, config=settings)
    return bars.reset_index().assign(market="equity_5min", symbol=symbol)


def test_served_probabilities_are_those_of_the_evaluation(
    paths: Paths, model: Asked, rows: pd.DataFrame
) -> None:
    """From raw bars of both modalities, every test row gets the train stage's probability."""
    frame = challenge.frames(paths, CONFIG, rows, AS_OF).drop(columns="since")
    served = model.predict(frame, params={"every_bar": True})
    both = rows.merge(served, on=["market", "symbol", "timestamp"], suffixes=("", "_served"))
    assert len(both) == len(rows)
    assert set(both["market"]) == set(MARKETS)
    assert np.abs(both["probability"] - both["probability_served"]).max() < 1e-5
    gates = [f"gate_{name}" for name in CONFIG.moe.experts]
    np.testing.assert_allclose(both[[f"{name}_served" for name in gates]], both[gates], atol=1e-5)


def test_the_last_320_bars_are_enough(model: Asked, bars: pd.DataFrame) -> None:
    """A tail of 320 bars a symbol gets the answer of the whole history."""
    tail = bars.groupby("symbol").tail(320)
    whole, short = model.predict(bars), model.predict(tail)
    assert len(whole) == bars["symbol"].nunique()
    np.testing.assert_allclose(short["probability"], whole["probability"], atol=1e-6)


def test_asked_past_the_schema_it_says_the_same(model: Asked, bars: pd.DataFrame) -> None:
    """The model itself and MLflow's checked way to it give equal frames, whole prices too."""
    whole = bars.assign(close=bars["close"].round().astype(int), volume=1_000)
    direct = model.model.unwrap_python_model().predict
    for frame in (bars, whole.astype({"market": "category"})):
        now = {"now": "2026-11-21T00:00:00Z"}
        pd.testing.assert_frame_equal(direct(None, frame, now), model.predict(frame, now))


def test_without_a_finished_session_there_is_no_answer(model: Asked, minutes: pd.DataFrame) -> None:
    """Bars of one session alone leave vol30 unknown: the model abstains and says what to give."""
    answer = model.predict(minutes.tail(70)).iloc[0]
    assert answer["abstain"]
    assert answer["reason"] == NO_VOL30
    assert np.isnan(answer["probability"])


def test_a_vol30_of_few_sessions_is_said(model: Asked, minutes: pd.DataFrame) -> None:
    """320 5-minute bars hold three whole sessions: answered, with a word of warning."""
    answer = model.predict(minutes.tail(320)).iloc[0]
    assert not answer["abstain"]
    assert answer["reason"] == SHORT_VOL30


def test_session_sums_stand_for_the_sessions_before(model: Asked, minutes: pd.DataFrame) -> None:
    """With the 30 sums, 320 bars get the answer of the whole history, and 70 bars an answer."""
    sums = sums_text(session_sums(minutes, "5min", calendar="XNYS"))
    whole = model.predict(minutes).iloc[0]
    tail = model.predict(minutes.tail(320).assign(session_sums=sums)).iloc[0]
    few = model.predict(minutes.tail(70).assign(session_sums=sums)).iloc[0]
    assert tail["probability"] == pytest.approx(whole["probability"], abs=1e-6)
    assert tail["reason"] == whole["reason"] == ""
    assert few["reason"] == NO_HURST
    assert not few["abstain"]
    assert len(json.loads(sums)) == 30


def test_sums_are_of_one_symbol_of_a_long_frame(
    model: Asked, minutes: pd.DataFrame, bars: pd.DataFrame
) -> None:
    """The column may be empty for the other symbols of the frame."""
    sums = sums_text(session_sums(minutes, "5min", calendar="XNYS"))
    frame = pd.concat([minutes.tail(320).assign(session_sums=sums), bars])
    assert model.predict(frame)["reason"].tolist() == [""] * 4


@pytest.mark.parametrize("text", ["[0.1]", "x", '{"2026-11-18": -1}', '{"yesterday": 0.1}', "7"])
def test_sums_that_cannot_be_read_are_refused(
    model: Asked, minutes: pd.DataFrame, text: str
) -> None:
    """The error names the symbol and shows what is expected."""
    with pytest.raises(DataError, match=r"equity_5min/.*session_sums .*JSON object"):
        model.predict(minutes.tail(70).assign(session_sums=text))


def test_served_volatility_is_of_a_session(model: Asked, minutes: pd.DataFrame) -> None:
    """A session of 78 bars, not a day of 288: the median is that of vol30."""
    served = model.predict(minutes, params={"every_bar": True, "since": "2026-11-12"})
    known = fingerprint(minutes, "5min", calendar="XNYS")["vol30"].iloc[-len(served) :]
    assert 0.6 < served["volatility"].median() / known.median() < 1.25


@pytest.mark.parametrize(
    ("timeframe", "calendar", "bars"),
    [
        ("5min", "XNYS", 78),
        ("30min", "CMES", 46),
        ("1min", "24/7", 1440),
        ("1d", "XNYS", 1),
        ("1w", "XNYS", 1 / 5),
        ("1w", "24/7", 1 / 7),
    ],
)
def test_a_session_has_the_bars_of_its_calendar(timeframe: str, calendar: str, bars: float) -> None:
    """The half session of Thanksgiving, which the month holds, does not count."""
    settings = MarketConfig(timeframe=timeframe, calendar=calendar)
    near = pd.Timestamp("2026-11-30", tz="UTC")
    assert bars_per_session(settings, near) == pytest.approx(bars)


def test_an_answer_names_its_target_its_experts_and_its_age(
    model: Asked, bars: pd.DataFrame
) -> None:
    """The row says what was predicted, when the bar was known, and who answered."""
    answer = model.predict(bars, params={"now": "2026-11-21T00:00:00Z"}).iloc[0]
    weights = [answer[f"gate_{name}"] for name in CONFIG.moe.experts]
    assert (answer["kind"], answer["horizon"]) == ("direction", 1)
    assert answer["timestamp"] == pd.Timestamp("2026-11-19", tz="UTC")
    assert answer["as_of"] == AS_OF
    assert answer["data_age_s"] == 86_400
    assert answer["model_version"] == "1"
    assert sum(weights) == pytest.approx(1)
    assert answer["expert_ids"].split(",")[0] == CONFIG.moe.experts[int(np.argmax(weights))]
    assert 0 < answer["probability"] < 1
    assert 0 < answer["volatility"] < 0.2


def test_every_bar_starts_where_it_is_asked_to(model: Asked, bars: pd.DataFrame) -> None:
    """With every_bar there is a row for each bar with 64 bars, or for each from `since` on."""
    some = model.predict(bars, params={"every_bar": True, "since": "2026-11-18"})
    every = model.predict(bars, params={"every_bar": True})
    symbols = bars["symbol"].nunique()
    assert len(some) == 2 * symbols
    assert len(every) == len(bars) - 63 * symbols


def test_a_model_abstains_and_says_why(model: Asked, bars: pd.DataFrame) -> None:
    """Too few bars, a missing price and an unknown market are not answered; the others are."""
    one, two, three = bars["symbol"].unique()
    few = bars[bars["symbol"] == one].tail(63)
    holed = bars[bars["symbol"] == two].copy()
    holed.iloc[-5, holed.columns.get_loc("close")] = np.nan
    good = bars[bars["symbol"] == three]
    foreign = good.assign(market="tulips", symbol="SEMPER")
    answers = model.predict(pd.concat([few, holed, good, foreign])).set_index("symbol")
    assert answers["abstain"].to_dict() == {one: True, two: True, three: False, "SEMPER": True}
    assert answers.loc[one, "reason"] == "63 good bars, a window takes 64"
    assert "lacks a price" in answers.loc[two, "reason"]
    assert answers.loc[three, "reason"] == ""
    assert "unknown market" in answers.loc["SEMPER", "reason"]
    assert answers["probability"].isna().to_dict() == answers["abstain"].to_dict()


@pytest.mark.parametrize("spoil", ["last", "twice", "high"])
def test_a_bad_bar_in_the_window_is_not_answered(
    model: Asked, bars: pd.DataFrame, spoil: str
) -> None:
    """A bad last bar, a time that comes twice and a high below the close all abstain."""
    one = bars[bars["symbol"] == bars["symbol"].iloc[0]].copy()
    if spoil == "last":
        one.iloc[-1, one.columns.get_loc("open")] = np.nan
    elif spoil == "twice":
        one = pd.concat([one, one.iloc[-20:-19]])
    else:
        one.iloc[-3, one.columns.get_loc("high")] = 1e-3
    assert model.predict(one)["abstain"].tolist() == [True]


def test_a_short_history_is_answered_with_a_word(model: Asked, bars: pd.DataFrame) -> None:
    """64 to 255 daily bars leave hurst unknown, which is said."""
    one = bars[bars["symbol"] == bars["symbol"].iloc[0]]
    short, enough = model.predict(one.tail(200)).iloc[0], model.predict(one.tail(260)).iloc[0]
    assert not short["abstain"]
    assert short["reason"] == NO_HURST
    assert enough["reason"] == ""


def test_missing_days_are_noticed(model: Asked, bars: pd.DataFrame) -> None:
    """One day that is missing is said; two weeks make the bars no window."""
    one = bars[bars["symbol"] == bars["symbol"].iloc[0]]
    hole = model.predict(one.drop(index=one.index[-20])).iloc[0]
    gap = model.predict(one.drop(index=one.index[-30:-20])).iloc[0]
    assert (hole["abstain"], hole["reason"]) == (False, "the last 64 bars lack a session")
    assert gap["abstain"]
    assert "lack more than 5 sessions" in gap["reason"]
    assert np.isnan(gap["probability"])


def test_minutes_are_not_taken_for_days(model: Asked, bars: pd.DataFrame) -> None:
    """Bars of a shorter timeframe abstain, whatever else they lack; hours that change do not."""
    one = bars[bars["symbol"] == bars["symbol"].iloc[0]].tail(320)
    last = one["timestamp"].iloc[-1]
    minutes = one.assign(timestamp=pd.date_range(end=last, periods=len(one), freq="min"))
    shifted = one.assign(
        symbol="S",
        timestamp=[time + pd.Timedelta(hours=i // 160) for i, time in enumerate(one["timestamp"])],
    )
    answers = model.predict(pd.concat([minutes, shifted]))
    assert answers["abstain"].tolist() == [True, False]
    assert "another timeframe" in answers["reason"].iloc[0]


@pytest.mark.parametrize("name", ["since", "now"])
def test_a_time_that_cannot_be_read_is_named(model: Asked, bars: pd.DataFrame, name: str) -> None:
    """A parameter that is no time is told of with what was expected."""
    with pytest.raises(Exception, match=r"expected an ISO time such as .*, got 'soon'"):
        model.predict(bars, params={name: "soon"})


def test_prices_that_never_moved_are_not_answered(model: Asked, bars: pd.DataFrame) -> None:
    """A window of one price has no chart; one bar that moved makes it one."""
    one = bars[bars["symbol"] == bars["symbol"].iloc[0]].drop(columns="adj_close", errors="ignore")
    prices = ["open", "high", "low", "close"]
    one.loc[one.index[-64:], prices] = 100.0
    other = one.assign(symbol="MOVED")
    other.loc[other.index[-3], "high"] = 101.0
    answers = model.predict(pd.concat([one, other])).set_index("symbol")
    assert answers["abstain"].iloc[0]
    assert answers["reason"].iloc[0] == FLAT
    assert answers["reason"].iloc[1] != FLAT


def test_an_old_bad_bar_is_left_out_as_the_store_would(model: Asked, bars: pd.DataFrame) -> None:
    """A bad bar before the window is passed over: the answer is that of bars without it."""
    one = bars[bars["symbol"] == bars["symbol"].iloc[0]].copy()
    without = one.drop(index=one.index[-100])
    one.iloc[-100, one.columns.get_loc("low")] = -1.0
    spoiled, clean = model.predict(one), model.predict(without)
    assert not spoiled["abstain"].any()
    assert spoiled["probability"].tolist() == clean["probability"].tolist()


def test_bars_may_come_as_users_hold_them(model: Asked, bars: pd.DataFrame) -> None:
    """Dates without a zone or as text, whole volumes and shuffled rows make no difference."""
    plain = bars.assign(timestamp=bars["timestamp"].dt.tz_localize(None))
    text = bars.assign(timestamp=bars["timestamp"].dt.strftime("%Y-%m-%d"))
    whole = bars.assign(volume=bars["volume"].astype(np.int64))
    expected = model.predict(bars)["probability"].tolist()
    named = bars.astype({"symbol": "category", "market": "string"})
    for frame in (plain, text, whole, named):
        assert model.predict(frame)["probability"].tolist() == expected
    shuffled = model.predict(bars.sample(frac=1, random_state=1)).set_index("symbol")
    assert shuffled.loc[bars["symbol"].unique(), "probability"].tolist() == expected


def test_whole_prices_are_taken(model: Asked, bars: pd.DataFrame) -> None:
    """Integer prices, as a CSV of round ones is read, get the answer of the same floats."""
    round_ = bars.copy()
    prices = ["open", "high", "low", "close"]
    round_[prices] = round_[prices].mul(100).round()
    as_floats = model.predict(round_)["probability"].tolist()
    assert model.predict(round_.astype(dict.fromkeys(prices, int)))["probability"].tolist() == (
        as_floats
    )


def test_a_frame_without_prices_is_refused_by_name(model: Asked, bars: pd.DataFrame) -> None:
    """A column that the market needs and that is missing is named with the symbol."""
    with pytest.raises(DataError, match=r"equity_daily/.*'close' is missing"):
        model.predict(bars.drop(columns="close"))


def test_a_symbol_of_the_store_is_asked_by_its_name(paths: Paths, model: Asked) -> None:
    """The frame of a symbol holds the newest bars that an answer needs, in all its markets."""
    symbol = store.symbols(paths, "options_skew")[0]
    frame = predict.symbol_frame(paths, CONFIG, symbol, AS_OF)
    assert model.predict(frame)["abstain"].tolist() == [False]
    with pytest.raises(DataError, match=r"NOPE: expected a symbol"):
        predict.symbol_frame(paths, CONFIG, "NOPE", AS_OF)


def test_a_symbol_of_an_intraday_market_comes_with_its_sessions(
    paths: Paths, model: Asked, minutes: pd.DataFrame
) -> None:
    """Its newest bars give the answer of the whole history, vol30 of 30 sessions included."""
    frame = predict.symbol_frame(paths, CONFIG, minutes["symbol"].iloc[0], AS_OF)
    asked, whole = model.predict(frame).iloc[0], model.predict(minutes).iloc[0]
    assert len(frame) < len(minutes)
    assert asked["reason"] == ""
    assert asked["probability"] == pytest.approx(whole["probability"], abs=1e-6)
    assert asked["volatility"] == pytest.approx(whole["volatility"])


def test_many_symbols_are_answered_as_each_alone(model: Asked, bars: pd.DataFrame) -> None:
    """A long frame of odd symbols, sorted or not, gets the answers that each symbol gets alone."""
    frame = odd_symbols(bars[bars["symbol"] == bars["symbol"].iloc[0]].tail(330))
    now = {"now": "2026-11-21"}
    alone = pd.concat(
        [model.predict(own, params=now) for _, own in frame.groupby("symbol", sort=False)]
    )
    shuffled = frame.sample(frac=1, random_state=1)
    for asked in (frame, shuffled):
        together = model.predict(asked, params=now)
        keyed = [given.set_index("symbol").sort_index() for given in (together, alone)]
        pd.testing.assert_frame_equal(*keyed, rtol=0, atol=1e-6, check_dtype=False)
    silent = {"another scale", "bad", "empty", "few", "last bad", "split", "unknown before"}
    assert set(alone.loc[alone["abstain"], "symbol"]) == silent


def odd_symbols(one: pd.DataFrame) -> pd.DataFrame:
    """Copies of one symbol's bars, each with something of its own."""
    one = one.drop(columns="adj_close", errors="ignore").reset_index(drop=True)
    plain = one.assign(adj_close=np.nan, turnover=np.nan, bid=np.nan, ask=np.nan)
    close = plain["close"]
    prices = ["open", "high", "low", "close"]
    doubled = plain.copy()
    doubled.loc[200:, prices] *= 20
    spike = plain.copy()
    spike.loc[100, prices] *= 20
    kinds = {
        "plain": plain,
        "split": plain.assign(adj_close=close * np.where(plain.index < 150, 0.5, 1.0)),
        "holes": plain.assign(adj_close=close.mask(plain.index % 7 == 3)),
        "unknown before": plain.assign(adj_close=close.mask(plain.index < 290)),
        "quoted": plain.assign(bid=close * 0.999, ask=close * 1.001),
        "turnover": plain.assign(turnover=close * plain["volume"] * 1.1),
        "no volume": plain.assign(volume=np.nan),
        "another scale": doubled,
        "spike": spike,
        "few": plain.tail(63),
        "short": plain.tail(100),
        "bad": plain.assign(low=plain["low"].mask(plain.index == 320, 1e9)),
        "empty": plain.assign(close=np.nan),
        "last bad": plain.assign(open=plain["open"].mask(plain.index == plain.index[-1])),
    }
    return pd.concat([own.assign(symbol=name) for name, own in kinds.items()], ignore_index=True)


def test_names_that_read_alike_are_one_symbol(model: Asked, bars: pd.DataFrame) -> None:
    """A symbol that comes as a number in one row and as its text in another is one symbol."""
    one = bars[bars["symbol"] == bars["symbol"].iloc[0]]
    mixed = [600 if row % 2 else "600" for row in range(len(one))]
    answers = model.predict(one.assign(symbol=pd.Series(mixed, index=one.index, dtype=object)))
    assert answers["symbol"].tolist() == ["600"]
    assert not answers["abstain"].any()


def test_stale_bars_are_not_answered_today(model: Asked, bars: pd.DataFrame) -> None:
    """More sessions than the market's limit after the last bar: no answer, and the reason why."""
    limit = CONFIG.markets["equity_daily"].stale_sessions  # the last bar is of Thursday the 19th
    asked = {"2026-11-20": False, "2026-11-25 12:00": False, "2026-11-27": True, "2027-11-20": True}
    for now, abstains in asked.items():
        answers = model.predict(bars, params={"now": now})
        assert answers["abstain"].tolist() == [abstains] * len(answers)
        is_told = answers["reason"].str.startswith(f"stale: more than {limit} sessions")
        assert is_told.tolist() == [abstains] * len(answers)
    assert np.isnan(answers["probability"]).all()


def test_questions_about_the_past_are_never_stale(model: Asked, bars: pd.DataFrame) -> None:
    """A night scores old sessions, however late it is asked: each bar has its own moment."""
    late = {"every_bar": True, "since": "2026-11-01", "now": "2028-01-01"}
    assert not model.predict(bars, params=late)["abstain"].any()


def test_a_bar_that_may_go_on_is_said(model: Asked, bars: pd.DataFrame) -> None:
    """Asked within the day of its last bar, it answers and says that the bar may go on."""
    during = model.predict(bars, params={"now": "2026-11-19 20:00"})
    assert not during["abstain"].any()
    assert (during["data_age_s"] < 0).all()
    assert during["reason"].str.contains("may go on").all()


@pytest.mark.parametrize(
    ("sources", "is_dated", "is_clock"),
    [
        ({"simulated"}, False, False),
        ({"files"}, False, False),
        ({"ccxt"}, False, True),
        ({"simulated", "yfinance"}, False, True),
        ({"ccxt"}, True, False),
        (set(), False, True),
        (set(), True, False),
    ],
)
def test_what_goes_on_is_asked_by_the_clock(
    sources: set[Source], is_dated: bool, is_clock: bool
) -> None:
    """Live sources and files are as old as they are today; a named night has its own time."""
    assert predict.moment(sources, AS_OF, is_dated=is_dated) == (None if is_clock else AS_OF)


def test_a_refused_frame_is_told_in_the_models_own_words(
    paths: Paths, bars: pd.DataFrame, tmp_path: Path
) -> None:
    """A process that asks for others leaves the reason, not a traceback, where answers would be."""
    asked, out = tmp_path / "asked.parquet", tmp_path / "out.parquet"
    bars.drop(columns="close").to_parquet(asked, index=False)
    words = ["--tracking-uri", paths.tracking_uri, "--model-uri", f"models:/{tracking.MODEL}/1"]
    assert score.main([*words, "--frame", str(asked), "--out", str(out)]) == 2
    assert "column 'close' is missing" in score.refusal(out).read_text()
    assert not out.exists()


def test_a_file_without_rows_is_refused(paths: Paths, bars: pd.DataFrame, tmp_path: Path) -> None:
    """There is nothing to ask about."""
    tracking.swap(paths, "1", None)
    bars.iloc[:0].to_csv(tmp_path / "none.csv", index=False)
    with pytest.raises(DataError, match=r"none.csv: expected a long frame of bars, got no row"):
        predict.predict(paths, CONFIG, str(tmp_path / "none.csv"), as_of=AS_OF)
