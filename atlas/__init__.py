"""ATLAS: fingerprints, charts and a mixture of experts for market bars.

The library is pure: it knows no Airflow, MLflow, DVC, paths or environment.

Dimension letters, everywhere: B batch · T bars in a window · C channels · H price levels (chart
rows) · S strikes · F fingerprint features · E experts · K top-k · N bars; a horizon is h.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atlas.data_fingerprint import fingerprint

__all__ = ["fingerprint"]


def __getattr__(name: str) -> Any:
    # on first use: no part of the library should wait for Numba who does not need it
    if name == "fingerprint":
        from atlas.data_fingerprint import fingerprint

        return fingerprint
    raise AttributeError(f"module 'atlas' has no attribute {name!r}")
