"""Train in several processes: torchrun starts this module once for each of them.

The train stage decides whether there is anything to do, then hands over to torchrun and reads what
rank 0 has written. A process that fails ends the others; each of them dies with torchrun, which
dies with the stage.
"""

import logging
import os
import signal
import sys
from collections import deque
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
import yaml

from atlas.config import ATLASConfig
from atlas.errors import AtlasError
from pipelines.files import write_bytes
from pipelines.launch import bound_to, child_environment, stream
from pipelines.paths import Paths

__all__ = ["is_one_of_several", "main", "train_in_several"]


def is_one_of_several() -> bool:
    """Return whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def train_in_several(
    paths: Paths, config: ATLASConfig, *, as_of: pd.Timestamp, variant: str
) -> None:
    """Train a variant in `training.processes` processes of this machine; rank 0 writes it.

    Raises:
        ModelError: a process failed; the last lines of all are in the message.
    """
    params = paths.var / "params" / f"{variant}.processes.yaml"
    write_bytes(params, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False).encode())
    count = config.training.processes
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(count), "-m", "pipelines.processes", variant]
    command += [str(paths.home), str(params), str(as_of.date())]
    name = f"{variant} in {count} processes"
    deque(stream(command, child_environment(config.training.threads), name), 0)


def main(
    variant: str,
    home: Annotated[Path, typer.Argument()],
    params: Annotated[Path, typer.Argument()],
    as_of: str,
) -> None:
    """Take part in the training of one variant as one of torchrun's processes."""
    from pipelines import train  # it imports this module
    from pipelines.night import read_config

    bind = bound_to(os.getppid(), signal.SIGKILL)
    if bind is not None:
        bind()
    is_first = os.environ["RANK"] == "0"
    logging.basicConfig(level=logging.INFO if is_first else logging.ERROR, format="%(message)s")
    try:
        train.take_part(Paths(home), read_config(params), pd.Timestamp(as_of, tz="UTC"), variant)
    except AtlasError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None


if __name__ == "__main__":
    typer.run(main)
