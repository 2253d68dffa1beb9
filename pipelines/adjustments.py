"""Report the splits and dividends that restated stored rows: artifacts/adjustments/<market>.json.

Each is written once, before the rows change, so that a kill between the two loses no report.
"""

import logging

from pipelines.files import read_json, write_json
from pipelines.merge import Adjustment
from pipelines.paths import Paths

__all__ = ["record"]

log = logging.getLogger(__name__)


def record(paths: Paths, market: str, symbol: str, found: Adjustment) -> None:
    """Add an adjustment to its market's list, unless it stands there."""
    path = paths.adjustments(market)
    entry = {
        "symbol": symbol,
        "kind": found.kind,
        "factor": float(f"{found.factor:.6g}"),
        "rows": found.rows,
        "first": found.first.isoformat(),
        "until": found.until.isoformat(),
    }
    known = read_json(path) if path.is_file() else []
    same = ("symbol", "factor", "until")
    if not any(all(one[name] == entry[name] for name in same) for one in known):
        write_json(path, [*known, entry])
    log.warning(
        "%s/%s: a %s restated %d stored rows up to %s by the factor %s",
        market,
        symbol,
        found.kind,
        found.rows,
        entry["until"],
        entry["factor"],
    )
