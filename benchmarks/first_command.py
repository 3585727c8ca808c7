"""The first command on a machine: `python -m benchmarks.first_command [--before FOLDER] [--runs N]`.

Each command runs twice with an empty folder for compiled code, and what the first takes longer, in CPU seconds of all
its processes, is what it compiles; before that, into another empty folder, what it compiles is counted. Python has
its bytecode by then, as after an installation. With `--before`, a checkout of another commit, both take turns.
"""

from __future__ import annotations

import argparse
import atexit
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

from benchmarks.figure import Figure

ROOT = Path(__file__).resolve().parents[1]


class Case(NamedTuple):
    """A command, and by how many CPU seconds its first run may take longer than the second."""

    command: tuple[str, ...]
    most: float


CASES = (
    Case(("run", "--quiet"), 5),
    Case(("compare",), 12),
    Case(("report", "-o", "report.html"), 12),
    Case(("sweep", "default", "--quiet", "--store", "results.db", "--jobs", "1"), 12),
)
"""As one types them, but for one worker of the sweep, which has others wait."""

COUNT = """
import runpy, sys
from numba.core import event

class Listener(event.Listener):
    def __init__(self):
        self.kernels = self.functions = self.depth = 0

    def on_start(self, event):
        self.kernels += self.depth == 0
        self.functions += 1
        self.depth += 1

    def on_end(self, event):
        self.depth -= 1

listener = Listener()
event.register("numba:compile", listener)
try:
    runpy.run_module("accelsim", run_name="__main__")
finally:
    print(listener.kernels, listener.functions, file=sys.stderr)
"""


class Taken(NamedTuple):
    """What a command took: CPU seconds of the first run and the second, kernels, and the functions in them."""

    first: float
    second: float
    kernels: int
    functions: int


@cache
def _bytecode() -> str:
    """Return a folder for the bytecode of Python, which checkouts do not have and an installation has."""
    folder = tempfile.mkdtemp(prefix="accelsim-bytecode-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _cpu_seconds(arguments: list[str], folder: Path, compiled: Path) -> tuple[float, str]:
    """Run Python with arguments; return the CPU time of all its processes, and what it wrote beside results."""
    environment = os.environ | {
        "PYTHONPATH": str(folder), "NUMBA_CACHE_DIR": str(compiled),
        "PYTHONPYCACHEPREFIX": _bytecode(), "PYTHONDONTWRITEBYTECODE": "",
    }  # fmt: skip
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as results:
        done = subprocess.run(
            [sys.executable, *arguments], env=environment, cwd=results, capture_output=True, text=True, check=True
        )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, done.stderr


def taken(case: Case, folder: Path) -> Taken:
    """Return what a command takes with the package that lies in a folder."""
    with tempfile.TemporaryDirectory() as compiled:
        told = _cpu_seconds(["-c", COUNT, *case.command], folder, Path(compiled))[1]
    kernels, functions = map(int, told.splitlines()[-1].split())
    with tempfile.TemporaryDirectory() as compiled:
        first, second = (_cpu_seconds(["-m", "accelsim", *case.command], folder, Path(compiled))[0] for _ in range(2))
    return Taken(first, second, kernels, functions)


def first_commands(quick: bool) -> list[Figure]:
    """Return by how much the first of each command takes longer: a minute of compiling, and so not of a quick run."""
    found = []
    for case in () if quick else CASES:
        name, each = f"the first `accelsim {case.command[0]}`", taken(case, ROOT)
        extra = each.first - each.second
        found += [
            Figure(f"{name} takes longer by, CPU", extra, "s", f"at most {case.most:g}", extra <= case.most),
            Figure("  kernels that it compiles", each.kernels, "", "", True),
        ]
    return found


def warm_run(quick: bool) -> list[Figure]:
    """Return what `accelsim run` takes once its kernels are compiled."""
    runs = 3 if quick else 9
    command = ["-m", "accelsim", "run", "--quiet"]
    compiled = Path(os.environ.get("NUMBA_CACHE_DIR", ""))
    with tempfile.TemporaryDirectory() as empty:
        folder = compiled if compiled.name else Path(empty)
        _cpu_seconds(command, ROOT, folder)
        least = min(_cpu_seconds(command, ROOT, folder)[0] for _ in range(runs))
    return [Figure("accelsim run --quiet, kernels compiled, CPU", least, "s", "at most 1", least <= 1)]


BENCHMARKS = (warm_run, first_commands)


def main() -> None:
    """Print every command, beside what it takes in another checkout."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.first_command", description=__doc__)
    parser.add_argument("--before", type=Path, metavar="FOLDER", help="a checkout to measure beside this one")
    parser.add_argument("--runs", type=int, default=1, help="the best of so many")
    parser.add_argument("--only", metavar="WORD", default="", help="commands that have this in their name")
    options = parser.parse_args()
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; CPU seconds")
    folders = [ROOT] if options.before is None else [options.before.resolve(), ROOT]
    for case in CASES:
        if options.only not in case.command[0]:
            continue
        runs = [[taken(case, folder) for folder in folders] for _ in range(options.runs)]
        for place, each in zip(("before", "now")[-len(folders) :], zip(*runs, strict=True), strict=True):
            first, second = min(one.first for one in each), min(one.second for one in each)
            print(
                f"{case.command[0]:8} {place:7} first {first:6.2f}  second {second:5.2f}  longer {first - second:6.2f}"
                f"  kernels {each[0].kernels:3}, of {each[0].functions:3} functions   at most {case.most:g}",
                flush=True,
            )


if __name__ == "__main__":
    main()
