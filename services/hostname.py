"""What Airflow writes down as the place where a task ran: the worker, not only the machine."""

import os
import socket

__all__ = ["name"]


def name() -> str:
    """Return the worker's name and the machine's, or the machine's alone."""
    worker = os.environ.get("ATLAS_WORKER")
    return f"{worker}@{socket.gethostname()}" if worker else socket.gethostname()
