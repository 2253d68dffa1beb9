"""Break the mixture in 100 random places and count how often its tests notice.

`python -m benchmarks.mutants [--seed 7] [--count 100]` keeps every mutant in
`benchmarks/results/mutants.json` as it is judged, writes docs/mutants.md, and prints who survived.
The mutants are cosmic-ray's (its development extra): it lists every change that its operators can
make in `FILES`, of which `count` are drawn evenly; those of a type annotation and those that are no
Python are left out, as no test has to notice them. A mutant lives in a copy of the project, in a
process forked after the heavy imports, so that a hundred of them take minutes. `--again` judges the
survivors anew, after tests were added.
"""

import ast
import contextlib
import functools
import hashlib
import itertools
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from benchmarks.units import PROJECT, Results, resumed, table, write_page

__all__ = ["Mutant", "mutants_of", "page"]

KERNELS = ("tests/test_templates.py", "tests/test_registry.py")
ONNX = "tests/test_onnx_export.py::test_onnx_runtime_equals_eager"
FILES: dict[str, tuple[str, ...]] = {
    "atlas/gate.py": ("tests/test_gate.py", "tests/test_moe.py"),
    "atlas/moe.py": (
        "tests/test_moe.py",
        "tests/test_plain_networks.py",
        f"{ONNX}[mlp-chart]",
        f"{ONNX}[routed-chart]",
    ),
    "atlas/kernels/bank.py": ("tests/test_bank.py", "tests/test_trunk.py", "tests/test_forms.py"),
    "atlas/kernels/registry.py": (
        *KERNELS,
        "tests/test_bank.py",
        "tests/test_trunk.py",
        "tests/test_catalogue.py",
    ),
    "atlas/kernels/templates.py": KERNELS,
}
TARGET = 85  # of 100 killed
LIMIT_S = 600  # on a busy machine tests that pass may take minutes
_HEAD = """# Mutants of the mixture

Written by `{command}` from
`benchmarks/results/mutants.json` (commit `{commit}`); nobody typed a figure here.

cosmic-ray {tool} lists {possible:,} mutants of `atlas/gate.py`, `atlas/moe.py` and
`atlas/kernels/`, those of type annotations left out. {count} of them that are Python were drawn
evenly with seed {seed}, and the tests of each one's file were run over it in a copy of the project.
A mutant whose tests fail, crash or never end is killed: **{killed} of {judged}**; the bar is
{target} of 100.
"""
_SURVIVORS = """## Survivors

Each was looked at: what a survivor changes is told by no test, either because nothing that is
asked of the mixture depends on it, or because nobody has asked it yet.
"""


class Mutant(NamedTuple):
    """One change that cosmic-ray can make: which, where, and the module with it.

    Attributes:
        file: of the project.
        operator: cosmic-ray's name of the change.
        occurrence: its number among that operator's in the file.
        line: where.
    """

    file: str
    operator: str
    occurrence: int
    line: int

    def source(self, text: str) -> str:
        """Return the file's `text` with this change."""
        import cosmic_ray.mutating  # of the development extra, which page() needs not
        import cosmic_ray.plugins

        operator = cosmic_ray.plugins.get_operator(self.operator)()
        changed = cosmic_ray.mutating.mutate_code(text, operator, self.occurrence)
        assert isinstance(changed, str)
        return changed

    def is_python(self, text: str) -> bool:
        """Say whether the changed module can be compiled: a lone `*` among arguments cannot be."""
        try:
            compile(self.source(text), self.file, "exec")
        except SyntaxError:
            return False
        return True

    def change(self, text: str) -> str:
        """Return the first changed line before and after, for a reader."""
        pairs = zip(text.splitlines(), self.source(text).splitlines(), strict=False)
        before, after = next(pair for pair in pairs if pair[0] != pair[1])
        return f"{before.strip()}  ->  {after.strip()}"


def mutants_of(files: Mapping[str, str]) -> list[Mutant]:
    """Return every mutant that cosmic-ray makes of files (source by name), in a fixed order."""
    from cosmic_ray.commands import init
    from cosmic_ray.work_db import WorkDB, use_db

    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        with use_db(str(Path(folder) / "session.sqlite"), WorkDB.Mode.create) as session:
            init([Path(folder) / name for name in files], session, {})
            found = [change for item in session.work_items for change in item.mutations]
        annotated = {name: _annotations(text) for name, text in files.items()}
        mutants = []
        for change in found:
            name = str(Path(change.module_path).relative_to(folder))
            start = tuple(change.start_pos)
            if not any(low <= start < high for low, high in annotated[name]):
                mutants.append(Mutant(name, change.operator_name, change.occurrence, start[0]))
    return sorted(mutants)


def page() -> str:
    """Return docs/mutants.md as the results file says it."""
    found = Results("mutants").read()
    units, facts, settings = found["units"].values(), found["metadata"], found["settings"]
    survived = [unit for unit in units if unit["verdict"] == "survived"]
    head = _HEAD.format(
        command=facts["command"],
        commit=facts["commit"][:10],
        tool=settings["tool"],
        possible=settings["possible"],
        count=settings["count"],
        seed=facts["seed"],
        killed=len(units) - len(survived),
        judged=len(units),
        target=TARGET,
    )
    drawn, lost = (Counter(unit["file"] for unit in own) for own in (units, survived))
    rows = [[f"`{file}`", f"{drawn[file]}", f"{drawn[file] - lost[file]}"] for file in FILES]
    parts = [head, table("file | mutants | killed", rows), ""]
    if survived:
        told = [
            [f"`{unit['file']}:{unit['line']}`", f"`{unit['change']}`".replace("|", "\\|")]
            for unit in survived
        ]
        parts += [_SURVIVORS, table("where | change", told, left=2), ""]
    return "\n".join(parts)


def _annotations(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Return where a module's type annotations begin and end, as (line, column)."""
    places = []
    for node in ast.walk(ast.parse(source)):
        for field in ("annotation", "returns"):
            own = getattr(node, field, None)
            if isinstance(own, ast.expr):
                end = (own.end_lineno or own.lineno, own.end_col_offset or own.col_offset)
                places.append(((own.lineno, own.col_offset), end))
    return places


def verdict(home: Path, tests: tuple[str, ...]) -> str:
    """Run tests over the copy at `home` in a fork: `survived`, `failed` (or crashed), `hung`."""
    child = os.fork()
    if child == 0:
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        os.chdir(home)
        sys.path.insert(0, str(home))
        for name in [n for n in sys.modules if n.partition(".")[0] in ("atlas", "benchmarks")]:
            del sys.modules[name]  # or the copy's mutant would never be imported
        import pytest

        os._exit(int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests])))
    limit = time.monotonic() + LIMIT_S
    while time.monotonic() < limit:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return "survived" if os.waitstatus_to_exitcode(status) == 0 else "failed"
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "hung"


def main(
    seed: Annotated[int, typer.Option(help="of the draw of mutants")] = 7,
    count: Annotated[int, typer.Option(help="mutants")] = 100,
    minutes: Annotated[float, typer.Option(help="after which no mutant is judged")] = 60.0,
    again: Annotated[bool, typer.Option(help="judge the survivors anew")] = False,
) -> None:
    """Draw mutants, run the tests of each one's file, write the page and print who survived."""
    _import_what_is_heavy()
    drawn, settings = _drawn(seed, count)
    results = Results("mutants")
    kept = results.read()
    if again and kept:
        dead = {k: u for k, u in kept["units"].items() if u["verdict"] != "survived"}
        kept["units"] = dead
        results.write(kept)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        for name in ("atlas", "tests", "benchmarks"):
            shutil.copytree(PROJECT / name, home / name)
        for name in ("pyproject.toml", "params.yaml"):
            shutil.copy(PROJECT / name, home / name)
        sys.path[:] = [p for p in sys.path if p and Path(p).resolve() != PROJECT]
        _refuse_what_fails(home)
        units = {key: functools.partial(_judged, home, drawn[key]) for key in drawn}
        command = f"python -m benchmarks.mutants --seed {seed} --count {count}"
        resumed("mutants", command, seed, settings, units, minutes)
    write_page("mutants", page())
    for unit in Results("mutants").read()["units"].values():
        if unit["verdict"] != "failed":
            typer.echo(f"{unit['verdict']}: {unit['file']}:{unit['line']}: {unit['change']}")


def _import_what_is_heavy() -> None:
    """Pay once, before the forks, what every one of them would import."""
    import exchange_calendars  # noqa: F401
    import onnxruntime  # noqa: F401
    import pandas as pd  # noqa: F401
    import pydantic  # noqa: F401
    import pytest  # noqa: F401
    import scipy.optimize  # noqa: F401
    import torch._dynamo  # optimizers import it at their first step
    import torch.onnx.utils
    from numba.np import ufunc  # noqa: F401

    torch.set_num_threads(1)
    torch.testing.assert_close(torch.ones(1), torch.ones(1))
    sys.dont_write_bytecode = True
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # others' plugins, of no use here


def _drawn(seed: int, count: int) -> tuple[dict[str, Mutant], dict[str, Any]]:
    """Return mutants by key, and what their draw depends on."""
    sources = {file: (PROJECT / file).read_text(encoding="utf-8") for file in FILES}
    everything = mutants_of(sources)
    shuffled = random.Random(seed).sample(everything, len(everything))  # not a secret
    drawn = itertools.islice((m for m in shuffled if m.is_python(sources[m.file])), count)
    digest = hashlib.sha256("".join(sources.values()).encode()).hexdigest()
    settings = {
        "tool": version("cosmic-ray"),
        "count": count,
        "possible": len(everything),
        "sources": digest[:16],
    }
    return {str(number): mutant for number, mutant in enumerate(drawn, 1)}, settings


def _refuse_what_fails(home: Path) -> None:
    """Run every test once over the unbroken copy: a test that fails there would kill all."""
    for file, tests in FILES.items():
        if verdict(home, tests) != "survived":
            raise typer.BadParameter(f"the tests of {file} fail before anything is broken")


def _judged(home: Path, mutant: Mutant) -> dict[str, Any]:
    text = (home / mutant.file).read_text(encoding="utf-8")
    told = {**mutant._asdict(), "change": mutant.change(text)}
    with _replaced(home / mutant.file, mutant.source(text)):
        return {**told, "verdict": verdict(home, FILES[mutant.file])}


@contextlib.contextmanager
def _replaced(path: Path, text: str) -> Iterator[None]:
    kept = path.read_text(encoding="utf-8")
    path.write_text(text, encoding="utf-8")
    try:
        yield
    finally:
        path.write_text(kept, encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
