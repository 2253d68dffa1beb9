"""ATLAS: fingerprints, charts and a mixture of experts for market bars.

The library is pure: it knows no Airflow, MLflow, DVC, paths or environment.

Dimension letters, everywhere: B batch · T bars in a window · C channels · H price levels (chart
rows) · S strikes · F fingerprint features · E experts · K top-k · N bars; a horizon is h.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atlas.config import ATLASConfig
    from atlas.data_fingerprint import fingerprint, fingerprint_symbols
    from atlas.moe import AtlasMoE, AtlasNet, build_model

__all__ = [
    "ATLASConfig",
    "AtlasMoE",
    "AtlasNet",
    "build_model",
    "fingerprint",
    "fingerprint_symbols",
]

_HOMES = {
    "ATLASConfig": "atlas.config",
    "AtlasMoE": "atlas.moe",
    "AtlasNet": "atlas.moe",
    "build_model": "atlas.moe",
    "fingerprint": "atlas.data_fingerprint",
    "fingerprint_symbols": "atlas.data_fingerprint",
}


def __getattr__(name: str) -> Any:
    # on first use: who asks for a fingerprint should not wait for PyTorch
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'atlas' has no attribute {name!r}")
