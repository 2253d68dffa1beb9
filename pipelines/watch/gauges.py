"""The checks as gauges, for those who keep their graphs elsewhere.

Each judged check is `atlas.monitor.<kind>.<market>.<name>`, and the number of alarms is
`atlas.monitor.alarms`. With `ATLAS_STATSD=host:port` in the environment they are sent as StatsD
gauges over UDP, which never waits for an answer; without it nothing is sent. Airflow's own metrics
(StatsD or OpenTelemetry) get the same gauges from the DAG.
"""

import logging
import os
import socket
from collections.abc import Iterator
from typing import Any

from atlas.errors import ConfigError

__all__ = ["address", "address_of_environment", "gauges", "send"]

log = logging.getLogger(__name__)
VARIABLE = "ATLAS_STATSD"
_WHOLE = "home"  # stands for the market in checks of the whole home


def gauges(document: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Give the name and value of each judged check of a day's document, and of the alarms."""
    yield "atlas.monitor.alarms", float(len(document["alarms"]))
    for row in document["checks"]:
        if row["judged"] and row["value"] is not None:
            place = row["market"] or _WHOLE
            yield f"atlas.monitor.{row['kind']}.{place}.{row['name']}", float(row["value"])


def send(document: dict[str, Any]) -> int:
    """Send a day's gauges to the StatsD of the environment; return how many were sent."""
    target = address_of_environment()
    if target is None:
        return 0
    sent = 0
    try:
        family = socket.getaddrinfo(*target, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family[0], socket.SOCK_DGRAM) as udp:
            for name, value in gauges(document):
                sent += bool(udp.sendto(f"{name}:{value:.6g}|g".encode(), family[4]))
    except OSError as error:
        log.warning("%s: %s:%d cannot be sent to: %s", VARIABLE, *target, error)
    return sent


def address_of_environment() -> tuple[str, int] | None:
    """Return what `ATLAS_STATSD` says; see `address`."""
    return address(os.environ.get(VARIABLE, ""))


def address(text: str) -> tuple[str, int] | None:
    """Return host and port of `host:port`, None for an empty text.

    Raises:
        ConfigError: it is no such address.
    """
    if not text:
        return None
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise ConfigError(f"{VARIABLE} {text!r}: expected host:port, such as 127.0.0.1:8125")
    return host.strip("[]"), int(port)
