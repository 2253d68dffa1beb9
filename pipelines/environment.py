"""What a training's last bits depend on beside code, data and parameters: recorded and compared.

Libraries by their versions, the processor by what the numeric libraries see of it (NumPy's exp and
log differ in the last bit with and without AVX-512), threads by their number. No name of a machine
or a user is in it.
"""

import importlib.metadata
import os
import platform
from collections.abc import Mapping
from typing import Any

__all__ = ["differences", "recorded"]

LIBRARIES = (
    "lightning",
    "numba",
    "numpy",
    "onnxruntime",
    "pandas",
    "pyarrow",
    "scikit-learn",
    "scipy",
    "torch",
)


def recorded(threads: int) -> dict[str, Any]:
    """Return this environment.

    Args:
        threads: of a training.
    """
    import llvmlite.binding  # type: ignore[import-untyped]
    import numpy as np
    import torch

    features: dict[str, bool] = np._core._multiarray_umath.__cpu_features__  # type: ignore[attr-defined]
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": llvmlite.binding.get_host_cpu_name(),
        "processor features": ",".join(sorted(name for name, on in features.items() if on)),
        "torch's kernels": torch.backends.cpu.get_cpu_capability(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "threads": threads,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0,
        **{f"library {name}": importlib.metadata.version(name) for name in LIBRARIES},
    }


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say in what two environments differ, one line each."""
    lines = []
    for name in sorted(set(then) | set(now)):
        was, is_ = then.get(name, "not recorded"), now.get(name, "not recorded")
        if was == is_:
            continue
        if name == "processor features":
            one, other = (set(str(text).split(",")) for text in (was, is_))
            was, is_ = (
                " ".join(sorted(own)) or "nothing more" for own in (one - other, other - one)
            )
        lines.append(f"{name}: {was} when it was trained, {is_} here")
    return lines
