"""The first frame of a figure: a plain SVG, drawn here from the same JSON that Plotly is given.

Plotly's script is 4.8 MB; a browser that meets it first is busy with it for a second or more. The
SVG comes with the figure's data and stands in the box until the script has been read. It knows what
these figures use and no more: lines, markers, stacks, heat maps, candlesticks, levels, ticks.

- Nothing here depends on the width: data lie in a view box that is stretched, with strokes that are
  not; texts lie at percentages.
- Colors are the theme's own properties, so that a change of theme reaches the sketch too.
"""

import html
import math
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

__all__ = ["sketch"]

Figure = dict[str, Any]
SIDE = 1000.0  # of the view box
_LEVELS = 16  # shades of a heat map
_SHADES = {"role:heat": ("heat-0", "heat-1"), "role:gray": ("surface", "ink")}
_TURNED = "transform-box:fill-box;transform-origin:top right;transform:rotate(-30deg)"
_STEPS = (3600, 3 * 3600, 6 * 3600, 12 * 3600, *(86_400 * k for k in (1, 2, 7, 14, 30, 91, 182)))


class _Axis(NamedTuple):
    """Where values lie: `place` maps a value to 0 … 1000 of its own part of the figure."""

    place: Callable[[Any], float]
    ticks: list[tuple[float, str]]
    domain: tuple[float, float]
    visible: bool
    slanted: bool


def sketch(figure: Figure) -> str:
    """Return a figure as SVG text that fills its box.

    Args:
        figure: `data` and `layout` as `dashboard.figures` makes them.
    """
    layout = figure["layout"]
    names = {(_axis_of(t, "x"), _axis_of(t, "y")) for t in figure["data"]}
    axes = {name: _axis(name, figure) for pair in names for name in pair}
    margin = {"l": 56, "r": 12, "t": 10, "b": 40} | layout.get("margin", {})
    inset = " ".join(f"{margin[side]}px" for side in ("t", "r", "b", "l"))
    parts = [_panel(x, y, axes, figure) for x, y in sorted(names)]
    inside = f'<svg width="100%" height="100%">{"".join(parts)}</svg>'
    return f'<div class="sketch" aria-hidden="true" style="inset:{inset}">{inside}</div>'


def _panel(x: str, y: str, axes: dict[str, _Axis], figure: Figure) -> str:
    """Draw the traces that share two axes, with the grid and the ticks of these."""
    across, up = axes[x], axes[y]
    own = [t for t in figure["data"] if (_axis_of(t, "x"), _axis_of(t, "y")) == (x, y)]
    left, right = across.domain
    low, high = up.domain
    frame = (
        f'x="{left:.2%}" y="{1 - high:.2%}" width="{right - left:.2%}" height="{high - low:.2%}"'
    )
    parts: list[str] = []
    grid = [f"M0 {v:.1f}H{SIDE:.0f}" for v, _ in up.ticks] if up.visible else []
    below: dict[Any, float] = {}
    parts.append(_path("".join(grid), "role:line", 1))
    parts += [_trace(trace, across, up, below) for trace in own]
    parts += [
        _path(f"M0 {up.place(s['y0']):.1f}H{SIDE:.0f}", s["line"]["color"], 1, dash="4 4")
        for s in figure["layout"].get("shapes", [])
        if s.get("yref", "y") in (y, "paper")
    ]
    box = f'viewBox="0 0 {SIDE:.0f} {SIDE:.0f}" preserveAspectRatio="none"'
    ticks = _ticks(across, up, is_lowest=low < 0.3) + _cells(own, across, up)
    return f'<svg {frame} {box}>{"".join(parts)}</svg><svg {frame} overflow="visible">{ticks}</svg>'


def _trace(trace: Figure, across: _Axis, up: _Axis, below: dict[Any, float]) -> str:
    kind = trace["type"]
    if kind == "heatmap":
        return _heat(trace, up)
    if kind == "candlestick":
        return _candles(trace, across, up)
    if "stackgroup" in trace:
        return _stack(trace, across, up, below)
    points = [
        (across.place(x), up.place(y)) if y is not None and x is not None else None
        for x, y in zip(trace["x"], trace["y"], strict=True)
    ]
    line = trace.get("line", {})
    parts: list[str] = []
    if "lines" in trace.get("mode", "lines"):
        dash = {"dash": "6 4", "dot": "2 3", "dashdot": "6 3 2 3"}.get(line.get("dash", ""), "")
        parts.append(_path(_line(points), line.get("color", ""), line.get("width", 2), dash=dash))
    if "error_x" in trace:
        ends = (trace["error_x"][name] for name in ("array", "arrayminus"))
        bars = zip(trace["x"], trace["y"], *ends, strict=True)
        lines = (
            f"M{across.place(x - low):.1f} {up.place(y):.1f}H{across.place(x + high):.1f}"
            for x, y, high, low in bars
        )
        parts.append(_path("".join(lines), "role:muted", 2))
    if "markers" in trace.get("mode", "lines"):
        marker = trace.get("marker", {})
        shades = marker.get("color", line.get("color", ""))
        every = shades if isinstance(shades, list) else [shades] * len(points)
        for shade in dict.fromkeys(every):
            chosen = [p for p, own in zip(points, every, strict=True) if own == shade and p]
            dots = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in chosen)
            parts.append(_path(dots, shade, marker.get("size", 6), round_ends=True))
    return "".join(parts)


def _stack(trace: Figure, across: _Axis, up: _Axis, below: dict[Any, float]) -> str:
    floor = [below.get(x, 0.0) for x in trace["x"]]
    top = [low + (y or 0.0) for low, y in zip(floor, trace["y"], strict=True)]
    below |= dict(zip(trace["x"], top, strict=True))
    there = [(across.place(x), up.place(y)) for x, y in zip(trace["x"], top, strict=True)]
    back = [(across.place(x), up.place(y)) for x, y in zip(trace["x"], floor, strict=True)]
    outline = _line([*there, *reversed(back)])
    return f'<path d="{outline}Z" style="fill:{_color(trace["fillcolor"])}"/>' if outline else ""


def _heat(trace: Figure, up: _Axis) -> str:
    """Draw cells row by row; neighbors of one shade are one rectangle."""
    rows = trace["z"]
    width, height = SIDE / max(len(rows[0]), 1), SIDE / len(rows)
    gap = 3.0 if trace.get("xgap") else 0.0
    low, high = trace["zmin"], trace["zmax"]
    found: list[str] = []
    for k, row in enumerate(rows):
        shades = [_level(value, low, high) for value in row]
        top = up.place(trace["y"][k]) - height / 2 if "y" in trace else SIDE - (k + 1) * height
        begin = 0
        for j in range(1, len(shades) + 1):
            if j < len(shades) and shades[j] == shades[begin] and not gap:
                continue
            fill = _shade(trace["colorscale"], shades[begin])
            if fill:
                x, w = begin * width + gap, (j - begin) * width - 2 * gap
                y, h = top + gap, height - 2 * gap
                place = f'x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}"'
                found.append(f'<rect {place} style="fill:{fill}"/>')
            begin = j
    return "".join(found)


def _candles(trace: Figure, across: _Axis, up: _Axis) -> str:
    rows = zip(*(trace[k] for k in ("x", "open", "high", "low", "close")), strict=True)
    wicks: dict[str, list[str]] = {"increasing": [], "decreasing": []}
    bodies: dict[str, list[str]] = {"increasing": [], "decreasing": []}
    for x, opened, high, low, close in rows:
        if None in (opened, high, low, close):
            continue
        kind = "increasing" if close >= opened else "decreasing"
        at = across.place(x)
        wicks[kind].append(f"M{at:.1f} {up.place(high):.1f}V{up.place(low):.1f}")
        bodies[kind].append(f"M{at:.1f} {up.place(opened):.1f}V{up.place(close):.1f}")
    shades = {kind: trace[kind]["fillcolor"] for kind in wicks}
    parts = [_path("".join(wicks[kind]), shades[kind], 1) for kind in wicks]
    return "".join([*parts, *(_path("".join(bodies[kind]), shades[kind], 4) for kind in bodies)])


def _cells(traces: Sequence[Figure], across: _Axis, up: _Axis) -> str:
    """Write the numbers of a heat map that has them."""
    return "".join(
        _text(across.place(x) / 10, up.place(y) / 10, "middle", str(text), dy="0.35em")
        for trace in traces
        if trace.get("texttemplate")
        for y, row in zip(trace["y"], trace["text"], strict=True)
        for x, text in zip(trace["x"], row, strict=True)
    )


def _ticks(across: _Axis, up: _Axis, *, is_lowest: bool) -> str:
    parts = [
        _text(0, place / 10, "end", text, dx="-6", dy="0.35em")
        for place, text in up.ticks
        if up.visible
    ]
    if is_lowest and across.visible:
        anchor, turn = ("end", _TURNED) if across.slanted else ("middle", "")
        parts += [
            _text(at / 10, 100, anchor, text, dy="1.5em", style=turn) for at, text in across.ticks
        ]
    return "".join(parts)


def _axis_of(trace: Figure, letter: str) -> str:
    return str(trace.get(f"{letter}axis", letter))


def _axis(name: str, figure: Figure) -> _Axis:
    """Return the axis called x, x2, y, …: its kind, range and ticks."""
    letter = name[0]
    own = figure["layout"].get(f"{letter}axis{name[1:]}", {})
    values = list(_values(figure["data"], name))
    domain = own.get("domain", (0, 1))
    flip = (letter == "y") != (own.get("autorange") == "reversed")
    texts = [value for value in values if isinstance(value, str)]
    looks = (bool(own.get("visible", True)), "tickangle" in own)
    is_named = own.get("type") == "category" or (bool(texts) and not _is_time(texts[0]))
    if is_named and own.get("type") != "date":
        order = list(dict.fromkeys(texts))
        order = sorted(order) if own.get("categoryorder") == "category ascending" else order
        places = {v: SIDE * ((k + 0.5) / len(order)) for k, v in enumerate(order)}
        if flip:
            places = {v: SIDE - place for v, place in places.items()}
        step = 1 if letter == "y" else -(-len(order) // 8)
        ticks = [(places[v], v) for v in order[::step]]
        return _Axis(lambda v: places.get(v, 0.0), ticks, domain, *looks)
    number = _scale(own, bool(texts))
    ends = [number(value) for value in values if value is not None]
    low, high = own["range"] if "range" in own else _ends(ends, padded=letter == "y")
    if own.get("rangemode") == "tozero":
        low, high = min(low, 0.0), max(high, 0.0)
    span = (high - low) or 1.0

    def place(value: Any) -> float:
        share = (number(value) - low) / span
        return SIDE * (1 - share if flip else share)

    ticks = _marks(own, low, high, is_time=bool(texts))
    at = [(SIDE * ((1 - s) if flip else s), t) for v, t in ticks for s in [(v - low) / span]]
    return _Axis(place, [one for one in at if -1 <= one[0] <= SIDE + 1], domain, *looks)


def _values(traces: Iterable[Figure], name: str) -> Iterable[Any]:
    letter = name[0]
    for trace in traces:
        if _axis_of(trace, letter) != name:
            continue
        if letter == "y" and trace["type"] == "candlestick":
            yield from (*trace["high"], *trace["low"])
        elif letter in trace:
            yield from trace[letter]
        if letter == "x" and "error_x" in trace:
            bars = trace["error_x"]
            yield from (x - e for x, e in zip(trace["x"], bars["arrayminus"], strict=True))
            yield from (x + e for x, e in zip(trace["x"], bars["array"], strict=True))


def _scale(own: Figure, is_time: bool) -> Callable[[Any], float]:
    if is_time:
        return lambda value: value if isinstance(value, float) else _seconds(value)
    if own.get("type") == "log":
        return lambda value: math.log10(max(float(value), 1e-12))
    return float


def _marks(own: Figure, low: float, high: float, *, is_time: bool) -> list[tuple[float, str]]:
    if "tickvals" in own:
        return list(zip(map(float, own["tickvals"]), own["ticktext"], strict=True))
    if is_time:
        step = next((s for s in _STEPS if (high - low) / s <= 6), 365 * 86_400)
        form = "%m-%d %H:%M" if step < 86_400 else "%Y-%m-%d" if step > 20 * 86_400 else "%m-%d"
        first = math.ceil(low / step)
        times = [step * k for k in range(first, int(high // step) + 1)]
        return [(t, datetime.fromtimestamp(t, UTC).strftime(form)) for t in times]
    size = _round((high - low) / own.get("nticks", 5))
    places = [size * k for k in range(math.ceil(low / size), math.floor(high / size) + 1)]
    if own.get("type") == "log":
        return [(p, f"{10**p:.4g}") for p in places if p == int(p)]
    as_percent = str(own.get("tickformat", "")).endswith("%")
    digits = 0 if size >= 0.01 else 1
    return [(p, f"{p:.{digits}%}" if as_percent else f"{p:.6g}") for p in places]


def _ends(values: Sequence[float], *, padded: bool) -> tuple[float, float]:
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    margin = (high - low or abs(high) or 1.0) * 0.05 if padded or low == high else 0.0
    return low - margin, high + margin


def _round(step: float) -> float:
    """Return the next of 1, 2, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step)) if step > 0 else 1.0
    return next(k * power for k in (1, 2, 5, 10) if k * power >= step * 0.999)


def _is_time(text: str) -> bool:
    return len(text) >= 10 and text[4:5] == "-" and text[7:8] == "-"


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def _level(value: float | None, low: float, high: float) -> int | None:
    if value is None or high <= low:
        return None
    return round(_LEVELS * min(max((value - low) / (high - low), 0.0), 1.0))


def _shade(scale: str, level: int | None) -> str:
    """Return a cell's color; nothing for the color of the ground."""
    if level is None:
        return ""
    share = level / _LEVELS
    if scale == "role:signed":
        share, end = abs(2 * share - 1), "up" if share > 0.5 else "down"
        start = "surface"
    else:
        start, end = _SHADES.get(scale, _SHADES["role:gray"])
    if share == 0 and start == "surface":
        return ""
    return f"color-mix(in srgb,var(--{end}) {share:.0%},var(--{start}))"


def _color(name: str) -> str:
    return f"var(--{name[5:]})" if name.startswith("role:") else html.escape(name)


def _line(points: Iterable[tuple[float, float] | None]) -> str:
    """Return a path through the points; None is a gap."""
    parts, pen = [], "M"
    for point in points:
        if point is None:
            pen = "M"
            continue
        parts.append(f"{pen}{point[0]:.1f} {point[1]:.1f}")
        pen = "L"
    return "".join(parts)


def _path(d: str, shade: str, width: float, *, dash: str = "", round_ends: bool = False) -> str:
    if not d:
        return ""
    style = f"stroke:{_color(shade or 'role:accent')};stroke-width:{width}"
    style += f";stroke-dasharray:{dash}" if dash else ""
    style += ";stroke-linecap:round" if round_ends else ""
    return f'<path d="{d}" style="{style}" vector-effect="non-scaling-stroke"/>'


def _text(
    x: float, y: float, anchor: str, text: str, *, dx: str = "0", dy: str = "0", style: str = ""
) -> str:
    place = f'x="{x:.2f}%" y="{y:.2f}%" dx="{dx}" dy="{dy}" text-anchor="{anchor}"'
    turned = f' style="{style}"' if style else ""
    return f"<text {place}{turned}>{html.escape(text)}</text>"
