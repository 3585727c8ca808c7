"""Convolutions, batches and many tokens on EIE: `python -m benchmarks.convolutions [--quick] [--before FOLDER]`.

CPU seconds of one command each, in a process of its own, without what Python and the kernels need to begin. With
`--before`, a checkout of another commit, both take turns.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from benchmarks.figure import Figure

ROOT = Path(__file__).resolve().parents[1]
CHIP = "eie-64pe-45nm"


class Case(NamedTuple):
    """What is measured: a Python expression, its target in CPU seconds, and whether it takes long."""

    what: str
    code: str
    most: float
    long: bool = False


KINDS = ["fine", "vector:4x1", "block:4x4", "kernel", "channel", "filter"]
SHARES = [round(0.04 + 0.045 * k, 3) for k in range(20)]

CASES = (
    Case("ResNet-50, dense", f"accelsim.simulate('resnet-50-dense', '{CHIP}')", 1.5),
    Case("VGG-16", f"accelsim.simulate('vgg16', '{CHIP}')", 3),
    Case("MobileNetV2", f"accelsim.simulate('mobilenet-v2', '{CHIP}')", 3),
    Case(
        "ResNet-50, dense, batch 16",
        f"accelsim.simulate(accelsim.load_network('resnet-50-dense').in_batch(16), '{CHIP}')",
        10,
    ),
    Case(
        "ResNet-50, dense, six granularities against itself",
        f"compare('resnet-50-dense', ['{CHIP}'], {KINDS}, 0.5)",
        10,
    ),
    Case(
        "Llama 7B fine 90 %, 2048 tokens, half of the activations",
        f"accelsim.simulate('llama-7b-fine90', '{CHIP}', 0.5)",
        60,
        long=True,
    ),
    Case(
        "ResNet-50, dense, curve of six granularities x 20 points",
        f"curve('resnet-50-dense', ['{CHIP}'], {KINDS}, {SHARES})",
        60,
        long=True,
    ),
)
"""The last two are a network of 7 billion weights, and 120 networks."""

SCRIPT = """
import time, warnings
warnings.simplefilter("ignore")
import accelsim
from accelsim.compare import compare
from accelsim.curves import curve
accelsim.simulate("lenet-5", "eie-64pe-45nm", 0.5)
compare("lenet-5", ["eie-64pe-45nm"], ["fine", "vector:4x1", "block:4x4", "kernel"], 0.5)
start = time.process_time()
{code}
print(time.process_time() - start)
"""


def cpu_seconds(case: Case, folder: Path) -> float:
    """Return the CPU time of a case with the package that lies in a folder, all threads together."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(code=case.code)],
        env=os.environ | {"PYTHONPATH": str(folder)},
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout.split()[-1])


def vectors(quick: bool) -> list[Figure]:
    """Return the CPU time of every case."""
    found = []
    for case in CASES:
        if not (quick and case.long):
            taken = min(cpu_seconds(case, ROOT) for _ in range(1 if case.long or quick else 3))
            found.append(Figure(f"EIE: {case.what}", taken, "s", f"at most {case.most:g}", taken <= case.most))
    return found


BENCHMARKS = (vectors,)


def main() -> None:
    """Print every case, beside what it takes in another checkout."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.convolutions", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="no cases that take long, and each once")
    parser.add_argument("--before", type=Path, metavar="FOLDER", help="a checkout to measure beside this one")
    parser.add_argument("--runs", type=int, default=3, help="the best of so many")
    parser.add_argument("--only", metavar="WORD", default="", help="cases that have this in their name")
    options = parser.parse_args()
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; CPU seconds")
    for case in CASES:
        if (options.quick and case.long) or options.only not in case.what:
            continue
        folders = [ROOT] if options.before is None else [options.before.resolve(), ROOT]
        runs = [[cpu_seconds(case, folder) for folder in folders] for _ in range(1 if options.quick else options.runs)]
        best = [min(each) for each in zip(*runs, strict=True)]
        print(f"{case.what:60} {' '.join(f'{each:9.2f}' for each in best)}   at most {case.most:g}", flush=True)


if __name__ == "__main__":
    main()
