"""What commands take on whole networks: `python -m benchmarks.commands [--before FOLDER] [--long] [--write]`.

CPU seconds and the largest memory of a process of its own, kernels compiled before; with `--before`, a checkout of
another commit, both take turns. `--long`: Llama 7B, too, a quarter of an hour. `--write` puts the table into
docs/speed.md. Then how time grows with weights, vectors, processing elements and points: the exponent between a case
and one of eight times its size.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from benchmarks.documents import fill
from benchmarks.exploration import swept
from benchmarks.figure import Figure

ROOT = Path(__file__).resolve().parents[1]
EIE, CORES = "eie-64pe-45nm", "a100-pcie"


class Case(NamedTuple):
    """A command on a network; `parts` of a command line, in which CHIP stands for the chip."""

    command: str
    parts: list[str]


COMMANDS = (
    Case("run", ["--hardware", "CHIP"]),
    Case("inspect", []),
    Case("prune to 2:4", ["--granularity", "nm:2:4", "-o", "pruned.safetensors"]),
    Case("compare, fine and 2:4", ["--hardware", "CHIP", "--granularity", "fine,nm:2:4"]),
    Case(
        "curve, block:4x4 at 3 sparsities",
        ["--hardware", "CHIP", "--granularity", "block:4x4", "--sparsity", "0.5:0.9:0.2"],
    ),
    Case("divisions", ["--hardware", "CHIP"]),
    Case("report", ["--hardware", "CHIP", "-o", "report.html"]),
)
NETWORKS = ("resnet-50", "bert-base", "llama-7b-2to4")


class Taken(NamedTuple):
    """What a process took."""

    cpu_s: float
    peak_mb: float


SCRIPT = """
import json, resource, sys
from accelsim.cli import main
try:
    code = main()
except SystemExit as end:
    code = end.code
used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print(json.dumps([sum(u.ru_utime + u.ru_stime for u in used), max(u.ru_maxrss for u in used) / 1024]), file=sys.stderr)
sys.exit(code)
"""


def take(arguments: list[str], folder: Path) -> Taken:
    """Return what a command takes with the package that lies in a folder."""
    with tempfile.TemporaryDirectory() as place:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, *arguments], cwd=place, env=os.environ | {"PYTHONPATH": str(folder)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"accelsim {' '.join(arguments)}: {done.stderr[-2000:]}")
    return Taken(*json.loads(done.stderr.splitlines()[-1]))


def cases_of(network: str) -> list[Case]:
    """Return what is measured on a network: divisions need one that is pruned."""
    return [case for case in COMMANDS if not (case.command == "divisions" and network == "bert-base")]


def command_line(case: Case, network: str, chip: str) -> list[str]:
    """Return a case on a network and a chip, as it is typed."""
    name = network.replace("-2to4", "") if case.command.startswith(("prune", "compare", "curve")) else network
    activations = ["--density", "0.5"] if "CHIP" in case.parts else []
    return [
        case.command.split()[0].strip(","),
        name,
        *(part.replace("CHIP", chip) for part in case.parts),
        *activations,
    ]


def table(networks: tuple[str, ...], folders: list[Path]) -> str:
    """Return what every command takes on every network, a row each, as Markdown; prints rows as they come."""
    lines = []
    for network in networks:
        chips = (CORES,) if network.startswith("llama") else (EIE, CORES)
        for case in cases_of(network):
            for chip in chips if "CHIP" in case.parts else ("",):
                arguments = command_line(case, network, chip)
                if case.command.startswith(("run", "compare")):
                    take(["run", "lenet-5", *(["--hardware", chip] if chip else [])], folders[-1])
                cells = [take(arguments, folder) for folder in folders]
                said = [f"{each.cpu_s:.1f} s | {each.peak_mb:,.0f} MB" for each in cells]
                lines.append(f"| `{' '.join(arguments[:2])}` | {case.command} | {chip or '-'} | {' | '.join(said)} |")
                print(lines[-1], flush=True)
    return "\n".join(lines)


GROWTH = """
import time, warnings, numpy as np, accelsim
warnings.simplefilter("ignore")
from accelsim.network.synthetic import draw_weights
def taken(rows, columns, vectors, pes):
    room = {"engine.capacity": "ignore", "engine.pointer_bits": 32}
    chip = accelsim.load_hardware("eie-64pe-45nm", {"engine.pes": pes, **room})
    layer = accelsim.Layer.linear("fc", draw_weights(rows, columns, 0.1, 0), tokens=vectors)
    best = 1e9
    for _ in range(3):
        start = time.process_time(); accelsim.simulate(layer, chip, 0.3); best = min(best, time.process_time() - start)
    return best
taken(64, 64, 1, 64)
for what, small, large in (
    ("weights", (2048, 2048, 1, 64), (8192, 4096, 1, 64)),
    ("vectors", (1024, 1024, 256, 64), (1024, 1024, 2048, 64)),
    ("PEs", (4096, 1024, 128, 32), (4096, 1024, 128, 256)),
):
    print(what, taken(*small), taken(*large))
"""


def growth() -> list[tuple[str, float]]:
    """Return the exponents with which a run on EIE, or a sweep, grows, by what is made eight times as large."""
    done = subprocess.run(
        [sys.executable, "-c", GROWTH], env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    found = []
    for line in done.stdout.splitlines():
        what, small, large = line.rsplit(maxsplit=2)
        found.append((what, math.log(float(large) / float(small), 8)))
    few, many = (swept(points, 1)["cpu"] for points in (2_000, 16_000))
    return [*found, ("points of a sweep", math.log(many / few, 8))]


def exponents(quick: bool) -> list[Figure]:
    """Return how runs and sweeps grow; nothing may grow faster than what is made larger."""
    return (
        []
        if quick
        else [
            Figure(f"on EIE, time grows with {what} to the", power, "", "at most 1.1", power <= 1.1)
            for what, power in growth()
        ]
    )


def large_networks(quick: bool) -> list[Figure]:
    """Return CPU and memory of every command on the two smaller networks; a command may take 1.5 GB."""
    if quick:
        return []
    found = []
    for network in NETWORKS[:2]:
        for case in cases_of(network):
            taken = take(command_line(case, network, CORES), ROOT)
            found += [
                Figure(f"{case.command} {network}", taken.cpu_s, "s", "", True),
                Figure("  its largest memory", taken.peak_mb / 1e3, "GB", "at most 1.5", taken.peak_mb <= 1500),
            ]
    return found


BENCHMARKS = (large_networks, exponents)


def main() -> None:
    """Measure, print, and write the table if asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.commands", description=__doc__)
    parser.add_argument("--before", type=Path, metavar="FOLDER", help="a checkout to measure beside this one")
    parser.add_argument("--long", action="store_true", help="Llama 7B, too")
    parser.add_argument("--write", action="store_true", help="put the table into docs/speed.md")
    options = parser.parse_args()
    folders = [ROOT] if options.before is None else [options.before.resolve(), ROOT]
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    text = table(NETWORKS if options.long else NETWORKS[:2], folders)
    for what, power in growth():
        print(f"time grows with {what} to the power of {power:.2f}")
    if options.write:
        heads = ["before: CPU | memory"] if options.before else []
        head = (
            f"| | command | chip | {' | '.join([*heads, 'CPU | memory'])} |\n|---|---|---|{'---:|' * 2 * len(folders)}"
        )
        fill({"commands": f"{head}\n{text}"}, write=True)


if __name__ == "__main__":
    main()
