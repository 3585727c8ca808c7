"""Compare retrained networks with the shipped ones: `python -m benchmarks.digits_accuracy FOLDER`.

The script gives the same files on every processor; the shipped ones were made before it did, so their accuracy must be
met within half a point.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from safetensors import safe_open

from accelsim.config import shipped_dir

NETWORKS = {
    f"{name}{state}": key
    for name in ("lenet-300-100-digits", "convnet-digits")
    for state, key in (("", "accuracy_pruned"), ("-dense", "accuracy_dense"))
}


def accuracy(path: Path, key: str) -> float:
    """Return the accuracy that a file's metadata states, in percent."""
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata() or {}
    stated = metadata if key in metadata else json.loads(metadata["accelsim"])["provenance"]
    value = float(stated[key])
    return 100 * value if value <= 1 else value


def main() -> int:
    """Print both accuracies of each network; 1 if they differ by more than half a point."""
    worst = 0.0
    for name, key in NETWORKS.items():
        shipped, made = (
            accuracy(folder / f"{name}.safetensors", key) for folder in (shipped_dir("workloads"), Path(sys.argv[1]))
        )
        print(f"{name}: shipped {shipped:.2f} %, made now {made:.2f} %")
        worst = max(worst, abs(shipped - made))
    return int(worst > 0.5)


if __name__ == "__main__":
    sys.exit(main())
