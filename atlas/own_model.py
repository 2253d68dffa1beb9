"""A model of your own in the benchmark table: two methods, the same cuts, the same inputs.

`load_yardstick("my_module:factory")` imports a module and calls a factory that returns either

- a classifier in scikit-learn's manner, `fit(X, y)` and `predict_proba(X)`: it gets the inputs of
  the mixture of experts laid flat, finite and standardized (`SklearnYardstick`); or
- a `Yardstick`, `fit(data)` and `predict(market, ends)`: it gets the markets themselves.

Either sees train rows, and validation rows if it likes; test rows are only ever asked about. What
it answers is checked: a number that is no probability never reaches the table.
"""

import copy
import hashlib
import importlib
import sys
import sysconfig
import traceback
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.abc import InspectLoader
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from atlas.baselines import Yardstick
from atlas.errors import AtlasError, ConfigError, ModelError
from atlas.flat import Preparation, by_modality, flat, flat_rows
from atlas.windows import MarketData

__all__ = [
    "OwnModel",
    "SklearnYardstick",
    "load_yardstick",
    "load_yardsticks",
    "sources_digest",
]

Floats = NDArray[np.float64]
Positions = NDArray[np.int64]


class OwnModel(NamedTuple):
    """A user's model and the name that it has in the table."""

    name: str
    model: Yardstick


class SklearnYardstick:
    """Puts a classifier with `fit(X, y)` and `predict_proba(X)` into the table.

    Args:
        estimator: copied for each modality, so that charts and surfaces have a model each. X is
            (N, P) float32, finite; y is 0 or 1. Column 1 of `predict_proba` is P(up).
        rows: the most train rows of a modality, shared evenly by its markets.
    """

    def __init__(self, estimator: Any, *, rows: int = 24_000) -> None:
        self._estimator, self._rows = estimator, rows
        self._data: dict[str, MarketData] = {}
        self._fitted: dict[str, tuple[Preparation, Any]] = {}

    def fit(self, data: Mapping[str, MarketData]) -> Self:
        """Fit a copy of the estimator on the train rows of each modality.

        Raises:
            DataError: a market has no train row.
            ModelError: the classifier raised.
        """
        self._data = dict(data)
        for modality, markets in by_modality(data).items():
            train = flat_rows(data, markets, "train", self._rows)
            prepare = Preparation(train.x)
            with _own_code(f"{type(self._estimator).__name__}.fit"):
                model = copy.deepcopy(self._estimator)
                model.fit(prepare(train.x), train.direction.astype(np.int64))
            self._fitted[modality] = prepare, model
        return self

    def predict(self, market: str, ends: Positions) -> Floats:
        """Return the probability of up, (B,).

        Raises:
            ModelError: the classifier raised, or its answer is no probability of two classes.
        """
        own = self._data[market]
        prepare, model = self._fitted[own.panel.modality]
        if not len(ends):
            return np.zeros(0)
        rows = prepare(flat(own, ends, list(self._data).index(market)))
        with _own_code(f"{type(model).__name__}.predict_proba"):
            answer = model.predict_proba(rows)
        found = _numbers(answer)
        whole = found.shape == (len(ends), 2) and np.isfinite(found).all()
        if not whole or found.min() < 0 or found.max() > 1:
            raise ModelError(
                f"{market}: expected predict_proba to return ({len(ends)}, 2) probabilities of "
                f"down and up; got {found.shape} of {type(model).__name__}: fit a classifier of "
                "two classes"
            )
        return found[:, 1]


class _Checked:
    """A user's yardstick, whose answers are looked at before they are scored."""

    def __init__(self, model: Yardstick) -> None:
        self._model = model

    def fit(self, data: Mapping[str, MarketData]) -> Self:
        with _own_code(f"{type(self._model).__name__}.fit"):
            self._model.fit(data)
        return self

    def predict(self, market: str, ends: Positions) -> Floats:
        with _own_code(f"{type(self._model).__name__}.predict"):
            answer = self._model.predict(market, ends)
        found = _numbers(answer)
        if found.shape != (len(ends),) or not ((found >= 0) & (found <= 1)).all():
            raise ModelError(
                f"{market}: expected predict to return ({len(ends)},) probabilities of up; got "
                f"{found.shape} of {type(self._model).__name__}, from {found.min(initial=1):.3g} "
                f"to {found.max(initial=0):.3g}"
            )
        return found


def load_yardsticks(specs: Sequence[str], taken: Collection[str]) -> dict[str, Yardstick]:
    """Import all that a user names; return them by the names that they have in the table.

    Args:
        specs: as `load_yardstick` takes them.
        taken: names of the table's other models.

    Raises:
        ConfigError: as `load_yardstick`, or a name is taken: one model would hide the other.
    """
    found: dict[str, Yardstick] = {}
    for spec in specs:
        name, model = load_yardstick(spec)
        if name in taken or name in found:
            raise ConfigError(
                f"benchmark.models {spec!r}: expected a factory whose name is free in the table; "
                f"{name!r} is another model's: rename the function"
            )
        found[name] = model
    return found


def sources_digest(specs: Sequence[str]) -> str:
    """Return a digest over the sources of the modules that a user names.

    What a module imports itself is not looked at.

    Raises:
        ConfigError: as `load_yardstick`.
    """
    total = hashlib.sha256()
    for spec in specs:
        load_yardstick(spec)
        module = spec.partition(":")[0]
        loader = getattr(sys.modules[module].__spec__, "loader", None)
        source = loader.get_source(module) if isinstance(loader, InspectLoader) else None
        total.update(spec.encode() + (source or "").encode())
    return total.hexdigest()


def load_yardstick(spec: str) -> OwnModel:
    """Import what a user names and make it a yardstick.

    Args:
        spec: `module:factory`, the module importable (it may lie in the working directory), the
            factory callable without arguments.

    Returns:
        The yardstick, named by the factory.

    Raises:
        ConfigError: the name cannot be followed, importing or calling raises, or what comes back
            is no model.

    Example:
        `load_yardstick("sklearn.naive_bayes:GaussianNB")`.
    """
    module, _, name = spec.partition(":")
    if not module or not name.isidentifier():
        raise ConfigError(
            f"benchmark.models {spec!r}: expected module:factory, such as my_model:build"
        )
    try:
        doing = f"benchmark.models {spec!r}: importing {module}"
        with _own_code(doing, ConfigError, but=ModuleNotFoundError):
            imported = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"benchmark.models {spec!r}: expected a module that can be imported; {error}: run "
            "in its folder, or put the folder on PYTHONPATH"
        ) from None
    factory = getattr(imported, name, None)
    if factory is None:
        raise ConfigError(f"benchmark.models {spec!r}: {module} has no {name}")
    with _own_code(f"benchmark.models {spec!r}: {name}()", ConfigError):
        made = factory() if callable(factory) else factory
    if callable(getattr(made, "fit", None)) and callable(getattr(made, "predict_proba", None)):
        return OwnModel(name, SklearnYardstick(made))
    of_sklearn = hasattr(made, "get_params")  # its predict takes rows, a Yardstick's a market
    is_yardstick = callable(getattr(made, "fit", None)) and callable(getattr(made, "predict", None))
    if is_yardstick and not of_sklearn:
        return OwnModel(name, _Checked(made))
    raise ConfigError(
        f"benchmark.models {spec!r}: expected something with fit and predict_proba (or fit "
        f"and predict of a Yardstick); got {type(made).__name__}"
    )


def _numbers(answer: Any) -> Floats:
    """Return an answer as numbers, NaN () where it is none."""
    try:
        return np.asarray(answer, np.float64)
    except (TypeError, ValueError):  # rows of different lengths, words
        return np.asarray(np.nan)


@contextmanager
def _own_code(
    doing: str, kind: type[AtlasError] = ModelError, *, but: type[Exception] = AtlasError
) -> Iterator[None]:
    """Turn whatever a user's code raises into one error that says in which of its lines.

    Args:
        doing: what is raised in.
        kind: of the error.
        but: what the caller looks after; ATLAS's own errors pass as they are too.
    """
    try:
        yield
    except (AtlasError, but):
        raise
    except Exception as error:  # code of anyone's may raise anything
        last = _line(error)
        said = f"{type(error).__name__}: {error}".rstrip(": ")
        raise kind(
            f"{doing} raised {said} in line {last.lineno} of {last.filename}: mend it, or take it "
            "out of benchmark.models"
        ) from error


def _line(error: Exception) -> traceback.FrameSummary:
    """Return the last line of a user's own that led to an error; of a library if there is none."""
    frames = traceback.extract_tb(error.__traceback__)
    paths = sysconfig.get_paths()
    foreign = (paths["stdlib"], paths["purelib"], paths["platlib"], __file__.rpartition("/")[0])
    own = [one for one in frames if not one.filename.startswith((*foreign, "<frozen"))]
    return (own or frames)[-1]
