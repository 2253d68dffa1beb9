"""Small drawings of kernels, as SVG text: a line through its bars, or a square of its weights.

They are part of the page, need no script, and take their colors from the theme.
"""

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

__all__ = ["curve", "tiles"]

_WIDTH, _HEIGHT = 100.0, 48.0  # of a curve's view box
_MARGIN = 3.0
_SHADES = 16
Floats = NDArray[np.float64]


def curve(kernel: Floats, beside: Floats) -> Markup:
    """Return the path of a kernel (1, K), oldest bar left, on the scale that `beside` shares."""
    values = kernel[0]
    low, high = _ends(kernel, beside)
    across = np.linspace(_MARGIN, _WIDTH - _MARGIN, values.size)
    up = _HEIGHT - _MARGIN - (values - low) / (high - low) * (_HEIGHT - 2 * _MARGIN)
    points = "L".join(f"{x:.1f} {y:.1f}" for x, y in zip(across, up, strict=True))
    return Markup(f"M{points}")  # noqa: S704 # figures alone


def tiles(kernel: Floats, beside: Floats) -> Markup:
    """Return a kernel (rows, columns) as squares, the first row at the bottom.

    What is above 0 has the color of rising prices, what is below that of falling ones; the
    strongest of it and of `beside` is full.
    """
    most = float(np.abs(np.concatenate([kernel, beside], axis=None)).max()) or 1.0
    rows, parts = len(kernel), []
    for (row, column), value in np.ndenumerate(kernel):
        shade = round(_SHADES * abs(float(value)) / most)
        if shade:
            name = "up" if value > 0 else "down"
            fill = f"color-mix(in srgb,var(--{name}) {shade / _SHADES:.0%},var(--surface))"
            place = f'x="{column}" y="{rows - 1 - row}" width="1" height="1"'
            parts.append(f'<rect {place} style="fill:{fill}"/>')
    return Markup("".join(parts))  # noqa: S704 # figures alone


def _ends(kernel: Floats, beside: Floats) -> tuple[float, float]:
    """Return the least and the most of both and of 0."""
    both = np.concatenate([kernel, beside], axis=None)
    low, high = min(float(both.min()), 0.0), max(float(both.max()), 0.0)
    return (low, high) if high > low else (low - 0.5, high + 0.5)
