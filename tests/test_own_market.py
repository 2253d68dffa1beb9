"""docs/add-your-own-market.md, followed to the letter with a CSV folder."""

import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from pipelines.__main__ import app
from pipelines.paths import PROJECT, Paths

PAGE = (PROJECT / "docs" / "add-your-own-market.md").read_text(encoding="utf-8")
WANTED = ("check", "ingest", "validate", "fingerprint")


def block(kind: str) -> str:
    """Return the page's first block of a kind."""
    found = re.search(rf"```{kind}\n(.*?)```", PAGE, flags=re.DOTALL)
    assert found
    return found[1]


def commands() -> list[str]:
    """Return the page's commands, in order."""
    return re.findall(r"^python -m pipelines .*$", PAGE, flags=re.MULTILINE)


def test_the_page_works_as_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its CSV header, its params and its commands, in a folder like the one it shows."""
    folder = tmp_path / "bars" / "my_market"
    folder.mkdir(parents=True)
    header, first, second = block("csv").splitlines()
    days = pd.bdate_range("2026-01-07", periods=90)
    for seed, name in enumerate(("AAA.csv", "BBB.csv")):
        assert name in PAGE
        close = (100 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, 0.01, 90)))).round(2)
        lines = [f"{d:%Y-%m-%d},{c},{c + 1},{c - 1},{c}," for d, c in zip(days, close, strict=True)]
        (folder / name).write_text("\n".join([header, first, second, *lines]) + "\n")
    params = yaml.safe_load((PROJECT / "params.yaml").read_text())
    params |= yaml.safe_load(block("yaml"))
    params["simulated"]["markets"] = {}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    monkeypatch.chdir(tmp_path)
    ran = []
    for command in commands():
        stage = shlex.split(command)[3]
        if stage not in WANTED:
            continue
        app(shlex.split(command)[3:], standalone_mode=False)
        home = Paths(tmp_path / "var" / "my-home")
        ran.append((stage, home.data.exists()))
    assert ran == [
        ("check", False),
        ("ingest", False),
        ("ingest", True),
        ("validate", True),
        ("fingerprint", True),
    ]
    rows = pd.read_parquet(home.fingerprints("my_market"))
    assert rows["symbol"].value_counts().to_dict() == {"AAA": 92, "BBB": 92}
