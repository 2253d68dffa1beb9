"""The command line: `python -m dashboard [--home DIR] [--host ADDRESS] [--port N]`.

On 127.0.0.1, which is the default, it asks for no login. Bound elsewhere it needs a token: from
`ATLAS_DASHBOARD_TOKEN`, from `--token-file`, or made at the first start under var/, mode 0600.
"""

import contextlib
import ctypes
import logging
import sys
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import typer
import uvicorn

from atlas.errors import AtlasError, ConfigError
from dashboard.access import LOOPBACK, Check, local_only, read_token, token_needed
from dashboard.app import create_app
from dashboard.view import View
from pipelines.paths import PROJECT, Paths

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # of glibc
ARRAY = 2**19  # bytes; from there on memory is the system's again as soon as it is free

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def serve(
    home: Annotated[Path | None, typer.Option(help="Folder of data/, artifacts/, var/.")] = None,
    params: Annotated[Path | None, typer.Option(help="Configuration.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8050,
    token_file: Annotated[Path | None, typer.Option(help="File that holds the token.")] = None,
) -> None:
    """Show what the last night found; reads the home and writes nothing in it."""
    _stay_small()
    view = View(_home(home), (params or PROJECT / "params.yaml").expanduser().resolve())
    check: Check = local_only
    where = f"http://{host}:{port}"
    if host not in LOOPBACK or token_file is not None:
        token, place = read_token(token_file, view.paths.var / "dashboard" / "token")
        check = token_needed(token)
        where += f"; the token is in {place}" if place else "; the token is that of the environment"
    typer.echo(f"ATLAS dashboard of {view.paths.home}: {where}")
    uvicorn.run(
        create_app(view, check), host=host, port=port, log_level="warning", server_header=False
    )


def _home(home: Path | None) -> Paths:
    found = (home or PROJECT).expanduser().resolve()
    if not found.is_dir():
        raise ConfigError(f"--home {found}: there is no such folder; a night makes one")
    return Paths(found)


def _stay_small() -> None:
    """Give memory back after a large file: one allocator, and not an arena for every thread."""
    pa.set_memory_pool(pa.system_memory_pool())
    with contextlib.suppress(AttributeError, OSError):  # another C library than glibc
        libc = ctypes.CDLL(None)
        libc.mallopt(M_ARENA_MAX, 1)
        libc.mallopt(M_MMAP_THRESHOLD, ARRAY)  # set once, it does not grow with what was freed
        libc.mallopt(M_TRIM_THRESHOLD, ARRAY)


def main() -> int:
    """Run the command line; return its exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        app()
    except AtlasError as error:
        typer.echo(f"error: {error}", err=True)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
