"""Break the mixture in 100 random places and count how often its tests notice.

`python -m benchmarks.mutants [--seed 7] [--count 100]` keeps every mutant in
`benchmarks/results/mutants.json` as it is judged, and prints who survived and the share killed. A
mutant is one change of the syntax tree, drawn evenly from all that are possible in `FILES`: a
comparison, an operator, a number, a boolean, a negated condition, a conditional turned round. It
lives in a copy of the project, in a process forked after the heavy imports, so that a hundred of
them take minutes. `--again` judges the survivors anew, after tests were added.
"""

import ast
import contextlib
import copy
import functools
import hashlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.units import PROJECT, Results, resumed

KERNELS = ("tests/test_templates.py", "tests/test_registry.py", "tests/test_bank.py")
ONNX = "tests/test_onnx_export.py::test_onnx_runtime_equals_eager"
NETWORKS = (
    "tests/test_moe.py",
    "tests/test_plain_networks.py",
    f"{ONNX}[mlp-chart]",
    f"{ONNX}[routed-chart]",
)
FILES: dict[str, tuple[str, ...]] = {
    "atlas/gate.py": ("tests/test_gate.py", "tests/test_moe.py"),
    "atlas/moe.py": NETWORKS,
    "atlas/kernels/bank.py": ("tests/test_bank.py", "tests/test_trunk.py", "tests/test_forms.py"),
    "atlas/kernels/registry.py": (*KERNELS, "tests/test_trunk.py", "tests/test_catalogue.py"),
    "atlas/kernels/templates.py": KERNELS[:2],
}
LIMIT_S = 600  # on a busy machine tests that pass may take minutes
_SWAPPED: dict[type, type] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}


def mutations(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the changed forms of one node."""
    changed = copy.deepcopy(node)
    if isinstance(changed, ast.BinOp | ast.BoolOp) and type(changed.op) in _SWAPPED:
        changed.op = _SWAPPED[type(changed.op)]()
        yield changed
    elif isinstance(changed, ast.Compare) and type(changed.ops[0]) in _SWAPPED:
        changed.ops[0] = _SWAPPED[type(changed.ops[0])]()
        yield changed
    elif isinstance(changed, ast.Constant) and isinstance(changed.value, bool):
        changed.value = not changed.value
        yield changed
    elif isinstance(changed, ast.Constant) and isinstance(changed.value, int | float):
        changed.value += 1
        yield changed
    elif isinstance(changed, ast.UnaryOp) and isinstance(changed.op, ast.USub | ast.Not):
        yield changed.operand
    elif isinstance(changed, ast.IfExp):
        changed.body, changed.orelse = changed.orelse, changed.body
        yield changed


def sites(source: str) -> list[tuple[str, str]]:
    """Return what changes and the whole mutated source, for every possible mutant of a module."""
    tree = ast.parse(source)
    found: list[tuple[str, str]] = []
    for parent in ast.walk(tree):
        for name, value in ast.iter_fields(parent):
            if name in {"annotation", "returns", "decorator_list"}:
                continue
            children = value if isinstance(value, list) else [value]
            for index, child in enumerate(children):
                if not isinstance(child, ast.AST):
                    continue
                for changed in mutations(child):
                    line = getattr(child, "lineno", 0)
                    what = f"{line}: {ast.unparse(child)}  ->  {ast.unparse(changed)}"
                    place = value if isinstance(value, list) else None
                    if place is None:
                        setattr(parent, name, changed)
                    else:
                        place[index] = changed
                    found.append((what, ast.unparse(tree)))
                    if place is None:
                        setattr(parent, name, child)
                    else:
                        place[index] = child
    return found


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
    """Draw mutants, run the tests of each one's file, and print who survived."""
    import numba  # noqa: F401 # heavy imports are paid once, before the forks
    import onnxruntime  # noqa: F401
    import pandas as pd  # noqa: F401
    import pytest  # noqa: F401
    import scipy.optimize  # noqa: F401
    import torch

    torch.set_num_threads(1)
    torch.testing.assert_close(torch.ones(1), torch.ones(1))
    sys.dont_write_bytecode = True
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
        units = {key: functools.partial(_judged, home, *drawn[key]) for key in drawn}
        command = f"python -m benchmarks.mutants --seed {seed} --count {count}"
        document = resumed("mutants", command, seed, settings, units, minutes)
    found = document.get("units", {})
    for unit in found.values():
        if unit["verdict"] != "failed":
            typer.echo(f"{unit['verdict']}: {unit['file']}:{unit['change']}")
    killed = sum(unit["verdict"] != "survived" for unit in found.values())
    typer.echo(f"{killed} of {len(found)} killed, seed {seed}, {settings['possible']} possible")


def _drawn(seed: int, count: int) -> tuple[dict[str, tuple[str, str, str]], dict[str, Any]]:
    """Return mutants (file, what changes, source) by key, and what their draw depends on."""
    sources = {file: (PROJECT / file).read_text(encoding="utf-8") for file in FILES}
    everything = [(file, what, new) for file in FILES for what, new in sites(sources[file])]
    drawn = random.Random(seed).sample(everything, count)  # not a secret
    digest = hashlib.sha256("".join(sources.values()).encode()).hexdigest()
    settings = {"count": count, "possible": len(everything), "sources": digest[:16]}
    return {str(number): mutant for number, mutant in enumerate(drawn, 1)}, settings


def _judged(home: Path, file: str, what: str, mutant: str) -> dict[str, Any]:
    with _replaced(home / file, mutant):
        return {"file": file, "change": what, "verdict": verdict(home, FILES[file])}


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
