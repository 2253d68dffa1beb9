"""A registered version answers with the formulas that it was trained with."""

import json
from hashlib import sha256

import numpy as np
import pandas as pd
import pytest

from pipelines import challenge, register, store, tracking
from pipelines.paths import Paths
from tests.registered import AS_OF, copy_home, tiny_config

CONFIG = tiny_config()


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    """Two versions of the same weights."""
    home = copy_home(tmp_path_factory.mktemp("packed") / "home")
    for resamples in (201, 202):
        promotion = CONFIG.promotion.model_copy(update={"resamples": resamples})
        register.run(home, CONFIG.model_copy(update={"promotion": promotion}), as_of=AS_OF)
    return home


def _change(paths: Paths, version: str, name: str, old: str, new: str) -> None:
    """Change a file of a version's code, its manifest and the registry's digest with it."""
    folder = tracking.files_of(paths, tracking.resolve(paths, version))
    code, manifest = folder / "code" / name, folder / "artifacts" / "manifest.json"
    text = code.read_text()
    assert text.count(old) == 1
    code.write_text(text.replace(old, new))
    digests = json.loads(manifest.read_text()) | {name: sha256(code.read_bytes()).hexdigest()}
    manifest.write_text(json.dumps(digests))
    vouched = sha256(manifest.read_bytes()).hexdigest()
    client = tracking.open_registry(paths)
    client.set_model_version_tag(tracking.MODEL, version, tracking.MANIFEST, vouched)


def _said(paths: Paths, version: str, frame: pd.DataFrame) -> pd.DataFrame:
    answers = challenge.answers(paths, version, frame, threads=1, now=AS_OF)
    return answers.drop(columns=["model_version", "data_age_s"])


def test_a_changed_fingerprint_formula_changes_its_own_version_alone(paths: Paths) -> None:
    """vol30 ten times as large in the second version: the first one's answers stay, to the bit."""
    market = "equity_daily"
    settings = CONFIG.markets[market]
    frame = pd.concat(
        store.read_bars(paths, market, symbol, as_of=AS_OF, config=settings)
        .reset_index()
        .assign(market=market, symbol=symbol)
        for symbol in store.symbols(paths, market)
    )
    before = _said(paths, "1", frame)
    old = "sums = np.where(sessions.is_handed, sessions.handed, sessions.sums)"
    _change(paths, "2", "atlas/session_vol.py", old, old.replace("= np", "= 100 * np"))
    pd.testing.assert_frame_equal(_said(paths, "1", frame), before, check_exact=True)
    changed = _said(paths, "2", frame)
    same = np.isclose(changed["probability"], before["probability"], atol=0)
    assert not (same & (changed["abstain"] == before["abstain"])).any()
