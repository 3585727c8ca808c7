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
import contextlib, json, os, pathlib, re, resource, sys, time

def peak(process):
    try:
        return 1024 * int(re.search(r'VmHWM:\\s+(\\d+)', pathlib.Path(f'/proc/{process}/status').read_text())[1])
    except (OSError, TypeError):  # it has ended
        return 0

def below(process):
    for tasks in pathlib.Path(f'/proc/{process}/task').glob('*/children'):
        for child in tasks.read_text().split():
            yield child
            yield from below(child)

def cpu():  # of this process, of those below it and of those that have ended
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    ticks = 0
    for child in below('self'):
        with contextlib.suppress(OSError):
            ticks += sum(map(int, pathlib.Path(f'/proc/{child}/stat').read_text().rpartition(')')[2].split()[11:15]))
    return sum(each.ru_utime + each.ru_stime for each in both) + ticks / os.sysconf('SC_CLK_TCK')

def main():  # workers import what is above
    import accelsim
    from accelsim.threads import use_threads
    from benchmarks.figure import fc8
    points, jobs, store, vary = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    layer, activations, _ = fc8()
    network = accelsim.Network('fc8', [accelsim.Layer.linear('fc8', layer.weight, layer.bias, activations=activations)])
    accelsim.simulate(network, 'eie-64pe-45nm')  # its kernels are compiled
    parts = ['lpddr3-1600', 'lpddr4-3200', 'ddr3-1600', 'ddr4-2400']
    keys = {
        'memory.dram': parts, 'engine.spmat_width_bits': [32, 64, 128, 256, 512],
        'engine.clock_mhz': {'from': 400.0, 'to': 800.0, 'count': 5},
        'engine.fifo_depth': {'from': 2, 'to': 1 + points // 100, 'step': 1}}
    if vary == 'prices':
        keys['engine.clock_mhz'] = {'from': 400.0, 'to': 800.0, 'count': points // 100}
        keys['engine.fifo_depth'] = [4, 6, 8, 12, 16]
    if vary in ('anew', 'threads'):
        keys = {'engine.pes': {'from': 64, 'to': 63 + points // 2, 'step': 1}, 'engine.index_bits': [4, 5]}
    if vary == 'anew':
        use_threads(1)  # as in every worker
    space = {'network': network, 'vary': keys, 'set': {'engine.capacity': 'ignore'}}
    cluster = address = None
    if vary == 'dask':
        from distributed import LocalCluster
        space['vary'] = {**keys, 'engine.fifo_depth': {'from': 2, 'to': 1 + points // 100, 'step': 1}}
        cluster = LocalCluster(n_workers=jobs, threads_per_worker=1, dashboard_address=None, host='127.0.0.1')
        address = cluster.scheduler_address
    workers, times, held, used = {}, [], [], []
    def look(done, of):
        times.append(time.perf_counter())
        held.append(peak('self'))
        if done == of:
            used.append(cpu())
        for child in below('self'):
            workers[child] = max(workers.get(child, 0), peak(child))
    before, start = cpu(), time.perf_counter()
    rows = len(accelsim.sweep(space, store, jobs, address, progress=look))
    took, ended = used[-1] - before, time.perf_counter()
    before = cpu()
    accelsim.sweep(space, store, jobs)
    again = cpu() - before
    print(json.dumps({
        'seconds': times[-1] - start, 'until_first': times[0] - start, 'cpu': took, 'read': ended - times[-1],
        'again': time.perf_counter() - ended, 'again_cpu': again, 'main': held[-1], 'main_read': peak('self'),
        'workers': max(workers.values(), default=0), 'rows': rows,
    }))
    if cluster is not None:
        cluster.close()

if __name__ == '__main__':
    main()
"""


def swept(points: int, jobs: int, vary: str = "cheap", tree: Path | None = None) -> dict[str, float]:
    """Sweep points of fc8 in a process of its own; returns seconds and CPU seconds, peak bytes, rows.

    `seconds` and `cpu`, of all processes, to the last point that is stored; `again`, of a second sweep that finds every
    point; peaks of the main process, before and after it read the table, and of a worker.
    vary: "cheap", keys for which the layer is counted once and runs anew for every 20 points; "prices", where hundreds
    share a run; "anew", keys for each of which it is counted anew, in one thread; "threads", the same in as many
    threads as there are cores; "dask", cheap ones on a cluster of so many workers of this machine. tree: that of
    another commit.
    """
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "swept.py"
        script.write_text(SWEPT, encoding="utf-8")
        command = [sys.executable, str(script), str(points), str(jobs), str(Path(folder) / "store.db"), vary]
        root = str(tree or Path(__file__).resolve().parents[1])
        done = subprocess.run(
            command, capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))},
        )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"a sweep with {root}: {done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout)
    if found["rows"] != points:
        raise RuntimeError(f"{points} points were asked for, {found['rows']} rows are stored")
    return found


def split(points: int, jobs: int, vary: str = "cheap", tree: Path | None = None) -> tuple[float, float]:
    """Return the CPU time of a point in microseconds, and in seconds that of all else: by twice as many points."""
    few, many = (swept(count, jobs, vary, tree)["cpu"] for count in (points, 2 * points))
    return 1e6 * (many - few) / points, 2 * few - many


def sweeps(quick: bool) -> list[Figure]:
    """Queue depths, widths, clocks and memory parts on fc8 at 64 PEs, rows stored."""
    if not Path("/proc/self/status").exists():
        return []  # Linux only
    points, rounds = (2_000, 1) if quick else (20_000, 3)

    def goal(what: str, value: float, unit: str, target: float, most: bool = False) -> Figure:
        text = f"at {'most' if most else 'least'} {target:g}"
        met = value <= target if most else value >= target
        return Figure(what, value, unit, "" if quick else text, quick or met)  # so few points only show that it runs

    pairs = [(swept(points, 1), swept(points, 2)) for _ in range(rounds)]
    two = [each for _, each in pairs]
    gain = statistics.median(one["seconds"] / each["seconds"] for one, each in pairs)
    both = statistics.median(each["cpu"] / one["cpu"] for one, each in pairs)
    busy = statistics.median(each["cpu"] / (2 * each["seconds"]) for each in two)
    rate = statistics.median(points / each["seconds"] for each in two)
    shared = swept(points, 2, "prices")
    kinds = {
        "two workers, hundreds of points a run": split(points, 2, "prices"),
        "one worker, 20 points a run": split(points, 1),
        "two workers, 20 points a run": split(points, 2),
        "two workers of a Dask cluster, 20 points a run": split(points, 2, "dask"),
    }
    _, alone, beside, cluster = (each for each, _ in kinds.values())
    found = [
        goal(f"sweep of {points:,} points on fc8, two processes, 20 points a run", rate, "/s", 20_000),
        goal("  the same where hundreds share a run", points / shared["seconds"], "/s", 20_000),
        *(
            goal(f"  CPU time of a point, {what}, start-up apart", each, "us", 100, most=True)
            if "Dask" not in what and "one" not in what
            else Figure(f"  CPU time of a point, {what}, start-up apart", each, "us", "", True)
            for what, (each, _) in kinds.items()
        ),
        *(Figure(f"  CPU time of the start-up, {what}", begin, "s", "", True) for what, (_, begin) in kinds.items()),
        Figure(
            "  time until the first points are back", statistics.median(each["until_first"] for each in two),
            "s", "", True,
        ),
        goal("  two workers against one, 20 points a run", gain, "x", 1.8),
        goal("  CPU time of two workers against one (1.11: 1.8 x faster)", both, "x", 1.11, True),
        goal("  the same, start-up apart", beside / alone, "x", 1.11, True),
        Figure("  share of two cores that was had", 100 * busy, "%", "", True),
        goal("  CPU time of a point on Dask's workers against two processes, start-up apart",
             cluster / beside, "x", 1.5, most=True),
    ]  # fmt: skip
    if not quick:
        anew = swept(1_920, 2, "anew")["seconds"]
        scaled, threaded = (swept(1_920, 1, vary)["seconds"] / anew for vary in ("anew", "threads"))
        found.append(goal("  two workers against one, a layer counted anew for every point", scaled, "x", 1.8))
        found.append(Figure("  the same against one process with two threads", threaded, "x", "", True))
    many, most = (two[0], two[0]) if quick else (swept(100_000, 2), swept(200_000, 2))
    return [
        *found,
        goal(
            f"sweep of {many['rows']:,} points, peak memory of the main process", many["main"] / 2**20, "MiB", 400, True
        ),
        Figure("  with the whole table", many["main_read"] / 2**20, "MiB", "", True),
        goal("  peak memory of a worker", many["workers"] / 2**20, "MiB", 400, most=True),
        goal(f"sweep of {most['rows']:,} points again, nothing missing", most["again"], "s", 3, most=True),
        Figure("  its CPU time", most["again_cpu"], "s", "", True),
    ]


def asking(quick: bool) -> list[Figure]:
    """CPU time of a trial of 800 by each sampler, where the store has every point: what asking and reading take.

    The one for large budgets, NSGA-II, has half of what TPE took.
    """
    trials = 100 if quick else 800
    found = []
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "all.db"
        accelsim.sweep(SEARCHED, store)
        for sampler in ("tpe", "nsga2", "random"):
            begin = time.process_time()
            tried = search(SEARCHED, store, trials, sampler=sampler, jobs=1)  # type: ignore[arg-type]
            each_ms = 1e3 * (time.process_time() - begin) / len(tried)
            what = f"search by {sampler}, CPU time of a trial of {trials}, nothing to run"
            has_target = sampler == "nsga2" and not quick
            found.append(Figure(what, each_ms, "ms", "at most 13" * has_target, each_ms <= 13 or not has_target))
    return found


def side_by_side(other: Path, points: int) -> None:
    """Print what a point and the start-up of a sweep take of a processor in another commit and in this one.

    One after the other in one run: a point by as many and twice as many, and as many again that are all there.
    """
    print(f"\n{points:,} and {2 * points:,} points on fc8, {other} and this tree\n")
    titles = ("us CPU a point", "start-up, s", "again, us CPU", "memory, MiB", "with table")
    print(f"{'':22} {' '.join(f'{title:>18}' for title in titles)}")
    for vary, jobs in (("cheap", 1), ("cheap", 2), ("prices", 1), ("prices", 2), ("dask", 2)):
        rows = []
        for tree in (other, None):
            few, many = (swept(count, jobs, vary, tree) for count in (points, 2 * points))
            rows.append((
                1e6 * (many["cpu"] - few["cpu"]) / points, 2 * few["cpu"] - many["cpu"],
                1e6 * many["again_cpu"] / many["rows"], many["main"] / 2**20, many["main_read"] / 2**20,
            ))  # fmt: skip
        text = " ".join(f"{before:8,.1f} {after:9,.1f}" for before, after in zip(*rows, strict=True))
        print(f"{vary + f', {jobs} worker' + 's' * (jobs > 1):22} {text}", flush=True)


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
                [sys.executable, "-m", "accelsim", "sweep", str(space), "--store", str(store), "--jobs", "2", "-q"],
                stderr=subprocess.PIPE, start_new_session=True,
                # Which a shell has its jobs in the background ignore, as in .ci/run.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
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


BENCHMARKS = (sweeps, interruptions, search_against_sweep, asking)


def main() -> None:
    """Print every search, then the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exploration", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer points and seeds")
    parser.add_argument("--only", choices=("sweeps", "search"), help="one of the two")
    parser.add_argument("--against", type=Path, help="checkout of another commit to measure sweeps beside, and no more")
    parser.add_argument("--points", type=int, default=20_000, help="of --against, a multiple of 100")
    options = parser.parse_args()
    if options.against is not None:
        side_by_side(options.against, options.points)
        return
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    if options.only != "sweeps":
        found = searches(options.quick)
        for column in ("share_percent", "met_percent"):
            print(
                f"\n{column}\n{found.pivot_table(index='sampler', columns='seed', values=column).round(1).to_string()}"
            )
    if options.only != "search":
        for figure in [*sweeps(options.quick), *interruptions(options.quick), *asking(options.quick)]:
            print(f"{figure.what:70} {figure.measured:10,.1f} {figure.unit:4} {figure.target}")


if __name__ == "__main__":
    main()
