"""Train in a process of its own, which an Airflow task can start and which dies with it.

Inside a task `spawn` does not work, and a training must not survive its task. So the child is a
plain `python -m pipelines train` in its own process group; the kernel kills it when its parent
dies. Its environment is an allow-list: what Airflow and MLflow hold, secrets included, stays out.
This module is light: a task that imports it loads no torch.
"""

import contextlib
import ctypes
import logging
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from atlas.config import ATLASConfig
from atlas.errors import ModelError
from pipelines.files import read_json, write_bytes
from pipelines.paths import PROJECT, Paths

__all__ = ["bound_to", "child_environment", "launch", "stream", "summary_path"]

log = logging.getLogger(__name__)

ALLOWED = (
    *("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "CUDA_VISIBLE_DEVICES"),
    *("NUMBA_CACHE_DIR", "XDG_CACHE_HOME"),  # compiled loops are kept once for all
)
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
PR_SET_PDEATHSIG = 1
GRACE_S = 10.0


def launch(
    paths: Paths, config: ATLASConfig, *, as_of: pd.Timestamp, variant: str
) -> dict[str, Any]:
    """Run the train stage of one variant as a process of its own; return its summary.

    The child gets exactly this configuration, written to the home's var/params/.

    Raises:
        ModelError: the training failed or was killed; its last lines are in the message.
    """
    params = paths.var / "params" / f"{variant}.yaml"
    write_bytes(params, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False).encode())
    command = [sys.executable, "-m", "pipelines", "train"]
    command += ["--variant", variant, "--home", str(paths.home), "--params", str(params)]
    command += ["--as-of", str(as_of.date())]
    left = summary_path(paths, variant)
    left.unlink(missing_ok=True)
    deque(stream(command, child_environment(config.training.threads), f"training {variant}"), 0)
    if not left.is_file():
        raise ModelError(
            f"training {variant}: expected its summary in {left}, got none; "
            f"run {' '.join(command[1:])} to see why"
        )
    summary: dict[str, Any] = read_json(left)
    return summary


def summary_path(paths: Paths, variant: str) -> Path:
    """Return where a training leaves its summary for the process that launched it."""
    return paths.var / "summaries" / f"train-{variant}.json"


def child_environment(threads: int) -> dict[str, str]:
    """Return the environment of a training: the allow-list, thread counts and this source."""
    kept = {name: os.environ[name] for name in ALLOWED if name in os.environ}
    counts = dict.fromkeys(THREADS, str(threads))
    fixed = {
        "PYTHONPATH": str(PROJECT),
        "PYTHONUNBUFFERED": "1",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    }
    return {**kept, **counts, **fixed}


def stream(
    command: list[str], environment: dict[str, str], name: str, *, folder: Path = PROJECT
) -> Iterator[str]:
    """Run a command that dies with this process; log and yield its lines.

    Args:
        command: the program and its arguments.
        environment: all that the program sees of the environment.
        name: for the log and for errors.
        folder: where it runs.

    Raises:
        ModelError: the command did not exit with 0; its last lines are in the message.
    """
    process = subprocess.Popen(
        command,
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
        preexec_fn=bound_to(os.getpid(), signal.SIGKILL),
    )
    last: deque[str] = deque(maxlen=20)
    try:
        assert process.stdout is not None
        for raw in process.stdout:
            line = raw.rstrip()
            log.info("%s: %s", name, line)
            last.append(line)
            yield line
        code = process.wait()
    finally:
        _end(process)
    if code != 0:
        raise ModelError(f"{name} {_ending(code)}; its last lines:\n" + "\n".join(last))


def bound_to(parent: int, end: signal.Signals) -> Callable[[], None] | None:
    """Return what a child runs first: be sent `end` when the parent dies (Linux only)."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl  # loaded here: nothing may lock after a fork

    def bind() -> None:
        prctl(PR_SET_PDEATHSIG, end)
        if os.getppid() != parent:  # it died between fork and prctl
            os._exit(1)

    return bind


def _end(process: subprocess.Popen[str]) -> None:
    # The whole group, whether this is the normal end or an exception in the parent.
    for sign in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            break
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
    if process.stdout is not None:
        process.stdout.close()


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name
    hint = " (out of memory?)" if name == "SIGKILL" else ""
    return f"was ended by {name}{hint}"
