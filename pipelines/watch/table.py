"""Print what the watch found: a line a market, then the alarms, then what could not be judged."""

from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

__all__ = ["show"]

_NOTHING = "-"
_HEADINGS = ("market", "behind", "farthest", "drift", "gate", "live", "log-loss", "promised")


def show(document: dict[str, Any], console: Console) -> None:
    """Print a day's document; see docs/monitoring.md."""
    held = document["champion"]
    who = f"champion: version {held['version']} of {held['as_of']}" if held else "no champion"
    console.print(f"The watch of {document['as_of']}, {who}", highlight=False)
    text = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for place, name in enumerate(_HEADINGS):
        text.add_column(name, justify="left" if place in (0, 2) else "right", no_wrap=True)
    for market, detail in document["markets"].items():
        own = [row for row in document["checks"] if row["market"] == market]
        text.add_row(market, *_cells(own, detail))
    console.print(text)
    console.print(
        "behind: sessions without a bar; farthest: the column nearest to its alarm; drift, gate: "
        "how far on the way to it; live: rows with an outcome, and their log-loss",
        highlight=False,
    )
    _say(console, document)


def _cells(checks: list[dict[str, Any]], detail: dict[str, Any]) -> list[str]:
    behind = next((row["value"] for row in checks if row["kind"] == "freshness"), None)
    judged = [row for row in checks if row["kind"] == "drift" and row["judged"]]
    worst = max(judged, key=_share, default=None)
    gate = next((row for row in checks if row["kind"] == "gate" and row["judged"]), None)
    live = detail.get("live", {})
    loss, promised = live.get("log_loss", [None])[0], live.get("promised", {}).get("log_loss")
    return [
        _NOTHING if behind is None else f"{behind:.0f}",
        worst["name"] if worst else _NOTHING,
        f"{_share(worst):.0%}" if worst else _NOTHING,
        f"{_share(gate):.0%}" if gate else _NOTHING,
        str(live.get("rows", _NOTHING)),
        f"{loss:.4f}" if loss else _NOTHING,
        f"{promised:.4f}" if promised else _NOTHING,
    ]


def _share(row: dict[str, Any]) -> float:
    """Return how much of the way to its alarm a check has gone."""
    return float(row["value"] / row["limit"]) if row["limit"] else 0.0


def _say(console: Console, document: dict[str, Any]) -> None:
    alarms = document["alarms"]
    for row in alarms:
        console.print(f"ALARM  {row['line']}", markup=False, highlight=False, soft_wrap=True)
    if not alarms:
        console.print("No alarm.", highlight=False)
    open_ = [row for row in document["checks"] if not row["judged"]]
    reasons: dict[str, list[str]] = {}
    for row in open_:
        name = " ".join(part for part in (row["market"], row["name"]) if part)
        reasons.setdefault(f"{row['kind']}: {row['line']}", []).append(name)
    for why, names in reasons.items():
        listed = ", ".join(names)
        console.print(
            f"not judged  {why} ({listed})", markup=False, highlight=False, soft_wrap=True
        )
