"""How much memory ONNX sessions take, in a process that holds nothing else.

`python -m benchmarks.peak FOLDER` opens every `*.onnx` of the folder, runs each once on the arrays
of the `.npz` beside it, and prints the MiB by which the process grew at its highest.
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime

__all__ = ["main"]


def main(folder: Path) -> None:
    """Print the growth in MiB."""
    feeds = {path: dict(np.load(path)) for path in sorted(folder.glob("*.npz"))}
    before = _kib("VmRSS")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    sessions = {
        path: onnxruntime.InferenceSession(
            path.with_suffix(".onnx"), options, providers=["CPUExecutionProvider"]
        )
        for path in feeds
    }
    for path, session in sessions.items():
        session.run(None, feeds[path])
    sys.stdout.write(f"{(_kib('VmHWM') - before) / 1024:.2f}\n")


def _kib(name: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    raise OSError(f"/proc/self/status: expected a line {name}, got none: this needs Linux")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
