"""Sweeps and search: points a second, memory, workers, and how near search comes to the true front.

`python -m benchmarks.exploration [--quick]` prints every search, too; `python -m benchmarks` the figures alone.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import accelsim
from accelsim.explore import Space, Store, hypervolume, search, totals
from accelsim.explore.answers import costs, is_front
from benchmarks.figure import Figure

OBJECTIVES = ("minimize energy_pj", "minimize time_us")

SEARCHED: dict[str, Any] = {
    "network": "lenet-300-100-digits",
    "hardware": "eie-64pe-45nm",
    "set": {"engine.capacity": "ignore"},
    "objectives": list(OBJECTIVES),
    "vary": {
        "engine.pes": [4, 8, 16, 24, 32, 48, 64, 96],
        "engine.fifo_depth": [2, 3, 4, 5, 6, 8, 12, 16, 32, 64],
        "engine.spmat_width_bits": [32, 64, 128, 256, 512],
        "engine.clock_mhz": [200.0, 400.0, 600.0, 700.0, 800.0],
    },
}
"""2,000 points of the embedded network, few enough to try all of them."""

SLOW_POINTS = """
network = "eie-benchmarks"
set.engine.capacity = "ignore"
vary.engine.pes = { from = 1, to = 1024, step = 1 }
"""

SHARE, SEEDS = 0.1, range(5)

SWEPT = """
import json, pathlib, re, sys, time

def peak(process):
    try:
        return 1024 * int(re.search(r'VmHWM:\\s+(\\d+)', pathlib.Path(f'/proc/{process}/status').read_text())[1])
    except (OSError, TypeError):  # it has ended
        return 0

def main():  # workers import what is above
    import accelsim
    from accelsim.explore import Space, Store
    from accelsim.explore.sweeping import Crew, Plan, read, run_missing, setup_of
    from accelsim.explore.totals import NEEDED
    from accelsim.threads import use_threads
    from benchmarks.figure import fc8
    points, jobs = int(sys.argv[1]), int(sys.argv[2])
    layer, activations, _ = fc8()
    network = accelsim.Network('fc8', [accelsim.Layer.linear('fc8', layer.weight, layer.bias, activations=activations)])
    accelsim.simulate(network, 'eie-64pe-45nm')  # its kernels are compiled
    parts = ['lpddr3-1600', 'lpddr4-3200', 'ddr3-1600', 'ddr4-2400']
    vary = {
        'memory.dram': parts, 'engine.spmat_width_bits': [32, 64, 128, 256, 512],
        'engine.clock_mhz': {'from': 400.0, 'to': 800.0, 'count': 5},
        'engine.fifo_depth': {'from': 2, 'to': 1 + points // 100, 'step': 1}}
    if sys.argv[4] != 'cheap':
        vary = {'engine.pes': {'from': 64, 'to': 63 + points // 2, 'step': 1}, 'engine.index_bits': [4, 5]}
    if sys.argv[4] == 'anew':
        use_threads(1)  # as in every worker
    space = {'network': network, 'vary': vary, 'set': {'engine.capacity': 'ignore'}}
    workers, times = {}, []
    def look(done, of):
        times.append(time.perf_counter())
        for tasks in pathlib.Path('/proc/self/task').glob('*/children'):
            for child in tasks.read_text().split():
                workers[child] = max(workers.get(child, 0), peak(child))
    start = time.perf_counter()
    asked = Space(space)
    with Store(sys.argv[3]) as store:
        setup = setup_of(asked)
        with Crew(setup, store, jobs, None) as crew:
            plan = Plan.begin(asked, setup, store)
            run_missing(plan, store, crew, look)
        taken = time.perf_counter() - start
        held = peak('self')
        rows = len(read(plan, store, NEEDED))
    print(json.dumps({
        'seconds': taken, 'until_first': times[0] - start, 'main': held,
        'workers': max(workers.values(), default=0), 'rows': rows,
    }))

if __name__ == '__main__':
    main()
"""


def swept(points: int, jobs: int, vary: str = "cheap") -> dict[str, float]:
    """Sweep points of fc8 in a process of its own; returns seconds, peak bytes of the main process and a worker, rows.

    vary: "cheap", keys for which the layer is counted once, "anew", keys for each of which it is counted anew, in one
    thread, or "threads", the same in as many threads as there are cores.
    """
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "swept.py"
        script.write_text(SWEPT, encoding="utf-8")
        command = [sys.executable, str(script), str(points), str(jobs), str(Path(folder) / "store.db"), vary]
        root = str(Path(__file__).resolve().parents[1])
        done = subprocess.run(
            command, capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))},
        )  # fmt: skip
    found: dict[str, float] = json.loads(done.stdout)
    if found["rows"] != points:
        raise RuntimeError(f"{points} points were asked for, {found['rows']} rows are stored")
    return found


def sweeps(quick: bool) -> list[Figure]:
    """Queue depths, widths, clocks and memory parts on fc8 at 64 PEs, rows stored."""
    if not Path("/proc/self/status").exists():
        return []  # Linux only
    points, rounds = (2_000, 1) if quick else (20_000, 3)

    def least(target: float) -> str:
        return "" if quick else f"at least {target:g}"  # so few points only show that it runs

    pairs = [(swept(points, 1), swept(points, 2)) for _ in range(rounds)]
    rate = statistics.median(points / two["seconds"] for _, two in pairs)
    gain = statistics.median(one["seconds"] / two["seconds"] for one, two in pairs)
    waited = statistics.median(two["until_first"] for _, two in pairs)
    found = [
        Figure(f"sweep of {points:,} points on fc8, two processes", rate, "/s", least(3000), quick or rate >= 3000),
        Figure("  of its time until the first points are back", waited, "s", "", True),
        Figure("  two workers against one, the layer counted once", gain, "x", least(1.8), quick or gain >= 1.8),
    ]
    if not quick:
        two = swept(1_920, 2, "anew")["seconds"]
        scaled, threaded = (swept(1_920, 1, vary)["seconds"] / two for vary in ("anew", "threads"))
        anew = "  two workers against one, a layer counted anew for every point"
        found.append(Figure(anew, scaled, "x", "at least 1.8", scaled >= 1.8))
        found.append(Figure("  the same against one process with two threads", threaded, "x", "", True))
    few = pairs[0][1]
    many = few if quick else swept(100_000, 2)
    size = "2,000" if quick else "100,000"
    if not quick:
        rate = 100_000 / many["seconds"]
        found.append(Figure("sweep of 100,000 points on fc8, two processes", rate, "/s", "at least 3000", rate >= 3000))
    return [
        *found,
        Figure(f"  peak memory of the main process, {points:,} points", few["main"] / 2**20, "MiB", "", True),
        Figure(f"  peak memory of the main process, {size} points", many["main"] / 2**20, "MiB", "", True),
        Figure(f"  peak memory of a worker, {points:,} points", few["workers"] / 2**20, "MiB", "", True),
        Figure(f"  peak memory of a worker, {size} points", many["workers"] / 2**20, "MiB", "", True),
    ]


def _stored(path: Path) -> int:
    with Store(path) as store:
        return len(store.known())


def interruptions(quick: bool) -> list[Figure]:
    """Ctrl-C, as a terminal sends it, to a sweep whose points take about half a second, until the last process ends."""
    if os.name != "posix":
        return []
    root = str(Path(__file__).resolve().parents[1])
    worst = 0.0
    for seed in range(2 if quick else 10):
        with tempfile.TemporaryDirectory() as folder:
            space, store = Path(folder) / "space.toml", Path(folder) / "store.db"
            space.write_text(SLOW_POINTS, encoding="utf-8")
            sweep = subprocess.Popen(
                [sys.executable, "-m", "accelsim", "sweep", str(space), "-o", str(store), "--jobs", "2", "-q"],
                stderr=subprocess.PIPE, start_new_session=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))},
            )  # fmt: skip
            while not store.exists() or _stored(store) < 4:
                if sweep.poll() is not None:
                    raise RuntimeError(f"the sweep ended by itself: {sweep.communicate()[1]!r}")
                time.sleep(0.05)
            time.sleep(np.random.default_rng(seed).random())
            begin = time.perf_counter()
            os.killpg(sweep.pid, signal.SIGINT)
            sweep.communicate()  # until nobody holds the pipe of its errors, its workers neither
            worst = max(worst, time.perf_counter() - begin)
    return [Figure("Ctrl-C to the end of a sweep, the worst", worst, "s", "at most 2", worst <= 2)]


def searches(quick: bool) -> pd.DataFrame:
    """Return the share of the true front's hypervolume, and of its points, that each sampler finds with each seed.

    The reference point lies a tenth of the front's extent beyond its worst values.
    """
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "all.db"
        space = Space(SEARCHED)
        every = costs(totals(accelsim.sweep(space, store)), space.objectives)
        front = every[is_front(every)]
        reference = front.max(axis=0) + 0.1 * np.ptp(front, axis=0)
        best = hypervolume(front, reference)
        trials = int(SHARE * len(every))
        for sampler in ("nsga2",) if quick else ("nsga2", "tpe", "random"):
            for seed in SEEDS[:1] if quick else SEEDS:
                tried = search(space, store, trials, sampler=sampler, seed=seed, jobs=1)  # type: ignore[arg-type]
                mine = costs(tried, space.objectives)
                share = 100 * hypervolume(mine, reference) / best
                met = len({*map(tuple, front)} & {*map(tuple, mine)}) / len({*map(tuple, front)})
                rows.append({"sampler": sampler, "seed": seed, "share_percent": share, "met_percent": 100 * met})
    return pd.DataFrame(rows)


def search_against_sweep(quick: bool) -> list[Figure]:
    """Hypervolume found with a tenth of 2,000 points, against the front of all."""
    found = []
    for sampler, mine in searches(quick).groupby("sampler", sort=False)["share_percent"]:
        target = "" if sampler == "random" else "at least 95"
        met = bool(mine.median() >= 95) or not target
        found += [
            Figure(f"search by {sampler}, 200 of 2,000 points: hypervolume", mine.median(), "%", target, met),
            Figure(f"  the worst of {len(mine)} seeds", mine.min(), "%", "", True),
        ]
    return found


BENCHMARKS = (sweeps, interruptions, search_against_sweep)


def main() -> None:
    """Print every search, then the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exploration", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer points and seeds")
    parser.add_argument("--only", choices=("sweeps", "search"), help="one of the two")
    options = parser.parse_args()
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    if options.only != "sweeps":
        found = searches(options.quick)
        for column in ("share_percent", "met_percent"):
            print(
                f"\n{column}\n{found.pivot_table(index='sampler', columns='seed', values=column).round(1).to_string()}"
            )
    if options.only != "search":
        for figure in [*sweeps(options.quick), *interruptions(options.quick)]:
            print(f"{figure.what:70} {figure.measured:10,.1f} {figure.unit:4} {figure.target}")


if __name__ == "__main__":
    main()
