"""The dashboard over a home: it reads what the stages wrote and the databases of its neighbors.

It listens on 127.0.0.1 only, where it asks for no login.
"""

import sys
from pathlib import Path

from pipelines.paths import PROJECT, Paths
from services.processes import LOCALHOST, Program

__all__ = ["program"]


def program(paths: Paths, params: Path, port: int) -> Program:
    """Return the dashboard as a program."""
    command = [sys.executable, "-m", "dashboard", "--home", str(paths.home)]
    command += ["--params", str(params), "--host", LOCALHOST, "--port", str(port)]
    variables = {
        "ATLAS_PARAMS": str(params),
        "MALLOC_ARENA_MAX": "2",
        "PYTHONPATH": str(PROJECT),
        "PYTHONUNBUFFERED": "1",
    }
    return Program("dashboard", tuple(command), variables, port)
