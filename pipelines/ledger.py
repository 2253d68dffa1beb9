"""The ledger: every model that was ever scored on a test span, with its settings.

Who scores many models on one span and shows the best shows luck. So each scoring leaves a line in
var/ledger.jsonl, which no night and no `make clean` removes, and figures of the best are deflated
by how many there were.

- A line is one model on one span: the same settings that say the same are one line, however often
  they are scored. Code that changes what a model says makes another.
- A model that scored overlapping spans on several nights is one trial, not one a night.
- Lines are only added. Each holds a digest of the line before it, so one that was taken out or
  changed is noticed. The file is replaced as a whole, under a lock: a kill loses no line.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock

from atlas.comparison import loss_difference
from atlas.deflation import deflated_probability, normal_score
from atlas.errors import HomeError
from atlas.metrics import log_losses
from pipelines.files import write_bytes
from pipelines.paths import Paths

__all__ = [
    "COLUMNS",
    "entries",
    "ledger_path",
    "overview",
    "record",
    "record_seeds",
    "record_trial",
    "span_of",
    "trials",
]

Entry = dict[str, Any]
Span = Mapping[str, Sequence[int]]
COLUMNS = ("first seen", "model", "settings", "seed", "test span", "markets", "rows", "log-loss")
_KEYS = ["market", "symbol", "timestamp"]


def ledger_path(paths: Paths) -> Path:
    """Return the file, one JSON document a line."""
    return paths.var / "ledger.jsonl"


def record(
    paths: Paths,
    scored: Mapping[str, pd.DataFrame],
    settings: Mapping[str, Any],
    *,
    seed: int | None = None,
    base: pd.DataFrame | None = None,
    lags: Mapping[str, int] | None = None,
) -> int:
    """Write down the models that were scored; return how many of them were new.

    Args:
        paths: the home.
        scored: for each model its *test* rows: market, symbol, timestamp, session, y, probability.
        settings: what the models were made with, JSON values; the same for all of them.
        seed: of their training.
        base: the base rate's rows, which the models' score is against; without, no score.
        lags: HAC lag in sessions by market.

    Raises:
        HomeError: the ledger was tampered with.
    """
    fresh = []
    with _held(paths):
        known = entries(paths)
        seen = {entry["key"] for entry in known}
        for model, frame in scored.items():
            rows = frame.sort_values(_KEYS, ignore_index=True)
            entry = _entry(model, rows, settings, seed)
            if entry["key"] in seen:
                continue
            seen.add(entry["key"])
            if base is not None:
                own = base[base["market"].isin(rows["market"].unique())]
                found = loss_difference([rows], [own], lags=lags)
                if found.error > 0:  # none is the base rate itself
                    entry["score"] = round(normal_score(found.value, found.p_value), 6)
            fresh.append(entry)
        if fresh:
            _append(paths, fresh)
    return len(fresh)


def record_seeds(
    paths: Paths,
    scored: Mapping[str, Sequence[pd.DataFrame]],
    settings: Mapping[str, Any],
    *,
    base: str = "base_rate",
    lags: Mapping[str, int] | None = None,
) -> int:
    """Write down models of several seeds each, every seed a trial; return how many were new.

    Args:
        paths: the home.
        scored: for each model a frame of test rows for each seed, as `record` takes them.
        settings: as `record`.
        base: the model in `scored` whose first frame is the base rate's.
        lags: as `record`.
    """
    against = scored[base][0] if base in scored else None
    return sum(
        record(paths, {model: frame}, settings, seed=place, base=against, lags=lags)
        for model, frames in scored.items()
        for place, frame in enumerate(frames)
    )


def record_trial(
    paths: Paths,
    model: str,
    settings: Mapping[str, Any],
    *,
    span: Span,
    rows: int,
    loss: float,
    seed: int,
) -> bool:
    """Write down a trial of tuning, scored on validation sessions; return whether it was new.

    Its span is those sessions. It counts for a test span that they overlap, as those of earlier
    nights may: whoever chose by these sessions has looked at them.

    Args:
        paths: the home.
        model: that was tried.
        settings: of the trial, JSON values.
        span: first and last validation session of each market.
        rows: windows it was scored on.
        loss: what the trial was judged by.
        seed: of its training.
    """
    with _held(paths):
        used, said = _digest(_json(settings)), _digest(_json(loss))
        own = {market: list(days) for market, days in span.items()}
        identity = {"span": own, "model": model, "settings": used, "seed": seed, "said": said}
        key = _digest(_json(identity))
        if any(entry["key"] == key for entry in entries(paths)):
            return False
        facts = {"rows": rows, "log_loss": round(loss, 9), "losses": {}, "used": dict(settings)}
        now = datetime.now(UTC).isoformat(timespec="seconds")
        _append(paths, [{**identity, "key": key, **facts, "first_seen": now}])
    return True


def entries(paths: Paths) -> list[Entry]:
    """Return the lines in the order they were written.

    Raises:
        HomeError: a line was changed or taken out, naming it.
    """
    path = ledger_path(paths)
    lines = path.read_bytes().splitlines() if path.is_file() else []
    found, before = [], ""
    for place, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            whole = entry["before"] == before
        except (ValueError, KeyError, TypeError):
            whole = False
        if not whole:
            raise HomeError(
                f"{path}: line {place} does not follow the one before it: expected lines as they "
                "were written; restore the file from a backup, or remove it and begin anew"
            )
        found.append(entry)
        before = _digest(line)
    return found


def span_of(rows: pd.DataFrame) -> dict[str, list[int]]:
    """Return the first and last session (days since 1970-01-01) of each market's rows."""
    days = rows.groupby("market", observed=True)["session"].agg(["min", "max"])
    return {
        str(market): [int(low), int(high)]
        for market, (low, high) in zip(days.index, days.to_numpy(), strict=True)
    }


def trials(known: Sequence[Entry], span: Span) -> int:
    """Count the models that were scored on sessions of `span`: one trial each, at least 1.

    The same settings on several nights are one, but as many as they gave different answers on one
    span: their code had changed in between.
    """
    answers: dict[tuple[Any, ...], dict[bytes, int]] = {}
    for entry in known:
        if _overlaps(entry["span"], span):
            own = answers.setdefault((entry["model"], entry["settings"], entry["seed"]), {})
            name = _json(entry["span"])
            own[name] = own.get(name, 0) + 1
    return max(sum(max(own.values()) for own in answers.values()), 1)


def overview(paths: Paths) -> pd.DataFrame:
    """Return the ledger as a table, newest span last.

    Columns `COLUMNS`, then trials on overlapping spans, the score against the base rate, and how
    sure skill is after so many trials (`atlas.deflation`), NaN where there is no score.
    """
    known, rows = entries(paths), []
    counts: dict[bytes, int] = {}
    for entry in known:
        name, score = _json(entry["span"]), entry.get("score", float("nan"))
        count = counts.setdefault(name, 0) or trials(known, entry["span"])
        counts[name] = count
        first = min(low for low, _ in entry["span"].values())
        last = max(high for _, high in entry["span"].values())
        sure = deflated_probability(score, count) if np.isfinite(score) else float("nan")
        cells = (
            entry["first_seen"][:19].replace("T", " "),
            entry["model"],
            entry["settings"][:8],
            "" if entry["seed"] is None else str(entry["seed"]),
            f"{_date(first)} … {_date(last)}",
            len(entry["span"]),
            entry["rows"],
            entry["log_loss"],
        )
        rows.append((*cells, count, score, sure))
    return pd.DataFrame(rows, columns=[*COLUMNS, "trials", "score", "skill"])


def _entry(model: str, rows: pd.DataFrame, settings: Mapping[str, Any], seed: int | None) -> Entry:
    span = span_of(rows)
    used = _digest(_json(settings))
    said = hashlib.sha256(rows["probability"].to_numpy(np.float64).round(9).tobytes()).hexdigest()
    losses = pd.Series(log_losses(rows["y"].to_numpy(), rows["probability"].to_numpy()))
    by_market = losses.groupby(rows["market"].astype(str).to_numpy()).mean()
    identity = {"span": span, "model": model, "settings": used, "seed": seed, "said": said}
    return {
        **identity,
        "key": _digest(_json(identity)),
        "rows": len(rows),
        "log_loss": round(float(by_market.mean()), 9),
        "losses": {market: round(float(loss), 9) for market, loss in by_market.items()},
        "used": dict(settings),
        "first_seen": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _append(paths: Paths, fresh: Sequence[Entry]) -> None:
    path = ledger_path(paths)
    content = path.read_bytes() if path.is_file() else b""
    before = _digest(content.splitlines()[-1]) if content else ""
    for entry in fresh:
        line = _json({**entry, "before": before})
        content += line + b"\n"
        before = _digest(line)
    write_bytes(path, content)


@contextmanager
def _held(paths: Paths) -> Iterator[None]:
    paths.var.mkdir(parents=True, exist_ok=True)
    with FileLock(paths.var / "ledger.lock"):
        yield


def _overlaps(a: Span, b: Span) -> bool:
    return any(a[m][0] <= b[m][1] and b[m][0] <= a[m][1] for m in set(a) & set(b))


def _date(day: int) -> str:
    return str(np.datetime64(day, "D"))


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, allow_nan=False).encode()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
