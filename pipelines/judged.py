"""Which rows the suite has judged in a night before, so that it does not judge them again.

Kept in var/judged/<market>.json: of each file its digest and how many of its rows the night knew.
Rows of a file with both as they were are known. The record counts for the code and the settings it
was made by; to lose it costs one whole validation and nothing else.
"""

import hashlib
import json
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from atlas.config import MarketConfig
from pipelines.files import read_json, write_json
from pipelines.paths import Paths
from pipelines.stamps import code_digest

__all__ = ["Judged"]


class Judged:
    """The files of one market as the suite judged them last.

    Args:
        digests: of the market's files as they are now, by their path in the home.
    """

    def __init__(
        self, paths: Paths, market: str, settings: MarketConfig, digests: Mapping[str, str]
    ) -> None:
        self.path = paths.var / "judged" / f"{market}.json"
        made = json.dumps([code_digest(), settings.model_dump(mode="json")], sort_keys=True)
        self.made = hashlib.sha256(made.encode()).hexdigest()
        self.digests = digests

    def rows(self, files: Mapping[str, int]) -> NDArray[np.bool_]:
        """Return which rows are known, (N,), of files that hold so many each, in their order."""
        found = read_json(self.path) if self.path.is_file() else {}
        before = found["files"] if found.get("made") == self.made else {}
        known = [before.get(name) == self._entry(name, rows) for name, rows in files.items()]
        return np.repeat(np.array(known, np.bool_), list(files.values()))

    def record(self, files: Mapping[str, int]) -> None:
        """Remember that the suite has judged all rows of the files."""
        entries = {name: self._entry(name, rows) for name, rows in files.items()}
        write_json(self.path, {"made": self.made, "files": entries})

    def _entry(self, name: str, rows: int) -> list[object]:
        return [self.digests[name], rows]
