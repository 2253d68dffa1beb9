"""A user's own classifier enters the table by its name, and bad names say what to do."""

import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import SGDClassifier

from atlas.benchmark import MODELS
from atlas.errors import ConfigError, DataError, ModelError
from atlas.metrics import directional_accuracy
from atlas.own_model import (
    SklearnYardstick,
    load_yardstick,
    load_yardsticks,
    sources_digest,
)
from atlas.windows import MarketData
from pipelines.benchmark import score_yardstick
from tests.toys import toy_data

PAGE = Path(__file__).parent.parent / "docs" / "own-model.md"


@pytest.fixture(scope="module")
def data() -> dict[str, MarketData]:
    return toy_data()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_model", raising=False)
    return tmp_path


def test_the_example_of_the_page_works(folder: Path, data: dict[str, MarketData]) -> None:
    """The module as docs/own-model.md prints it learns the toy's law and scores like the rest."""
    module = re.search(r"```python\n# my_model\.py\n(.*?)```", PAGE.read_text(), re.S)
    assert module is not None
    (folder / "my_model.py").write_text(module[1])
    name, model = load_yardstick("my_model:build")
    assert name == "build"
    frame = score_yardstick(model, data)
    assert set(frame["market"]) == set(data)
    tested = frame[frame["split"] == "test"]
    assert directional_accuracy(tested["y"].to_numpy(), tested["probability"].to_numpy()) > 0.7


def test_a_yardstick_of_ones_own_gets_the_markets(
    folder: Path, data: dict[str, MarketData]
) -> None:
    """Two methods are the whole interface."""
    (folder / "my_model.py").write_text(
        "import numpy as np\n"
        "class Half:\n"
        "    def fit(self, data):\n"
        "        self.markets = set(data)\n"
        "        return self\n"
        "    def predict(self, market, ends):\n"
        "        assert market in self.markets\n"
        "        return np.full(len(ends), 0.5)\n"
    )
    frame = score_yardstick(load_yardstick("my_model:Half").model, data)
    assert (frame["probability"] == 0.5).all()


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("my_model", "expected module:factory"),
        ("my_model:", "expected module:factory"),
        ("no_such_module:build", "No module named 'no_such_module'"),
        ("my_model:other", "my_model has no other"),
        ("my_model:nothing", "got int"),
        ("sklearn.svm:LinearSVC", "expected something with fit and predict_proba"),
    ],
)
def test_a_name_that_leads_nowhere_is_refused(folder: Path, spec: str, said: str) -> None:
    """With what was expected, before any data is read."""
    (folder / "my_model.py").write_text("def nothing():\n    return 3\n")
    with pytest.raises(ConfigError, match=said):
        load_yardstick(spec)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (
            "def build():\n    return 1 / 0\n",
            r"build\(\) raised ZeroDivisionError: .* in line 2 of",
        ),
        ("raise OSError('no disk')\n", "importing my_model raised OSError: no disk in line 1 of"),
        ("def build(:\n", "importing my_model raised SyntaxError"),
        ("import no_such_library\n", "No module named 'no_such_library'"),
    ],
)
def test_code_that_raises_is_told_with_its_line(folder: Path, code: str, said: str) -> None:
    """Whatever a user's module or factory raises is one error, which says where."""
    (folder / "my_model.py").write_text(code)
    with pytest.raises(ConfigError, match=said):
        load_yardstick("my_model:build")


RAISES = """
class Odd:
    def __init__(self, where):
        self.where = where
    def fit(self, *given):
        self._maybe("fit")
        return self
    def _maybe(self, now):
        if now == self.where:
            import no_such_library
    def {asked}(self, *given):
        self._maybe("{asked}")

def build():
    return Odd("{where}")
"""


@pytest.mark.parametrize("asked", ["predict_proba", "predict"])
@pytest.mark.parametrize("is_late", [False, True])
def test_a_model_that_raises_is_told_with_its_line(
    folder: Path, data: dict[str, MarketData], asked: str, is_late: bool
) -> None:
    """In fitting as in answering, of either kind: one error, and no traceback."""
    where = asked if is_late else "fit"
    (folder / "my_model.py").write_text(RAISES.format(asked=asked, where=where))
    said = rf"Odd\.{where} raised ModuleNotFoundError: .*no_such_library.* in line 10 of"
    with pytest.raises(ModelError, match=said):
        score_yardstick(load_yardstick("my_model:build").model, data)


def test_what_a_library_raises_is_told_with_the_user_s_line(
    folder: Path, data: dict[str, MarketData]
) -> None:
    """Line 6 can be mended, scikit-learn's cannot."""
    (folder / "my_model.py").write_text(
        "from sklearn.linear_model import LogisticRegression\n"
        "class Mine:\n"
        "    def predict_proba(self, x):\n"
        "        return None\n"
        "    def fit(self, x, y):\n"
        "        LogisticRegression().fit(x, 0 * y)\n"
    )
    with pytest.raises(ModelError, match=r"Mine\.fit raised ValueError: .* in line 6 of .*my_"):
        score_yardstick(load_yardstick("my_model:Mine").model, data)


@pytest.mark.parametrize(
    "said", ["np.full(len(ends), 1.7)", "np.full(len(ends), np.nan)", "[0.5]", "[[1], [1, 2]]"]
)
def test_a_yardstick_that_says_no_probability_is_refused(
    folder: Path, data: dict[str, MarketData], said: str
) -> None:
    """Such answers would be clipped or lost on their way to the table."""
    (folder / "my_model.py").write_text(
        "import numpy as np\n"
        "class Odd:\n"
        "    def fit(self, data):\n"
        "        return self\n"
        "    def predict(self, market, ends):\n"
        f"        return {said}\n"
    )
    with pytest.raises(ModelError, match=r"expected predict to return .* of Odd"):
        score_yardstick(load_yardstick("my_model:Odd").model, data)


def test_a_name_that_is_taken_is_refused(folder: Path) -> None:
    """Two models of one name, or one named as a rival, would hide each other in the table."""
    build = "from sklearn.naive_bayes import GaussianNB\n\ndef {}():\n    return GaussianNB()\n"
    (folder / "my_model.py").write_text(build.format("build") + build.format("cnn"))
    assert list(load_yardsticks(["my_model:build"], taken=MODELS)) == ["build"]
    with pytest.raises(ConfigError, match=r"'my_model:cnn'.*'cnn' is another model's: rename"):
        load_yardsticks(["my_model:build", "my_model:cnn"], taken=MODELS)
    with pytest.raises(ConfigError, match="'build' is another model's"):
        load_yardsticks(["my_model:build", "my_model:build"], taken=MODELS)


def test_another_text_of_the_module_is_another_model(folder: Path) -> None:
    """The digest follows the file, so that a stage does not skip a model that was edited."""
    file = folder / "my_model.py"
    file.write_text("from sklearn.naive_bayes import GaussianNB as build\n")
    first = sources_digest(["my_model:build"])
    assert sources_digest(["my_model:build"]) == first
    file.write_text("from sklearn.naive_bayes import BernoulliNB as build\n")
    assert sources_digest(["my_model:build"]) != first


def test_what_is_no_probability_is_refused(data: dict[str, MarketData]) -> None:
    """Three classes, or numbers above one, never reach the table."""

    class Odd:
        def fit(self, x: np.ndarray, y: np.ndarray) -> None:
            assert np.isfinite(x).all()
            assert set(np.unique(y)) == {0, 1}

        def predict_proba(self, x: np.ndarray) -> np.ndarray:
            return np.full((len(x), 3), 1 / 3)

    model = SklearnYardstick(Odd()).fit(data)
    with pytest.raises(ModelError, match=r"toy_charts: expected predict_proba .* got \(60, 3\)"):
        model.predict("toy_charts", data["toy_charts"].split.test[:60])


def test_each_modality_has_a_copy_of_its_own(data: dict[str, MarketData]) -> None:
    """The estimator handed in stays unfitted, and a modality without rows is an error."""
    estimator = SGDClassifier(loss="log_loss", random_state=1)
    SklearnYardstick(estimator).fit(data)
    assert not hasattr(estimator, "coef_")
    own = data["toy_charts"]
    empty = replace(own, split=replace(own.split, train=np.zeros(0, np.int64)))
    with pytest.raises(DataError, match="expected at least one train row"):
        SklearnYardstick(estimator).fit({"m": empty})
