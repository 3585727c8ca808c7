"""Does a sweep lose nothing, whatever is killed?"""

from __future__ import annotations

import itertools
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Run
from hypothesis import given
from hypothesis import strategies as st
from tiny_sweeps import SPACE, rows_in, tiny

import accelsim
from accelsim.cli.stopping import STOPPED
from accelsim.errors import InputError
from accelsim.explore import Space, Store, load, sweep
from accelsim.explore.points import Defaults, Points
from accelsim.explore.runners import Finished
from accelsim.explore.store import Done
from accelsim.explore.sweeping import Crew, Handed, Plan, run_missing, setup_of
from accelsim.explore.work import Batch
from accelsim.network.writer import save

linux = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="processes are looked up in /proc")

ROOT = Path(accelsim.__file__).parents[1]

POINTS = 500
KILLS = 20
MAIN_KILLS = 7
"""Each costs the start of a process, of a pool and of its workers."""
HANG_SECONDS = 900
"""After which a test gives up, however busy the machine is: what should have happened never will."""

SCORE = """
import os, signal, time

def score(network):
    share = network.layers[0].activations.density
    time.sleep(float(os.environ.get("SECONDS_A_SCORE", "0")))
    while share > float(os.environ.get("STUCK_ABOVE", "1")):
        time.sleep(0.01)
    if share == 0.99 and os.environ.get("DEADLY"):
        os.kill(os.getpid(), signal.SIGKILL)
    return share
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a network and a space of 500 points, of which every tenth is scored anew, slowly if told."""
    made = tmp_path_factory.mktemp("faults")
    save(tiny(), made / "tiny.safetensors")
    (made / "score.py").write_text(SCORE)
    (made / "temporary").mkdir()
    (made / "space.toml").write_text(
        'network = "tiny.safetensors"\nevaluate = "score.py:score"\nset.engine.pes = 4\n[vary]\n'
        "density = { from = 0.01, to = 0.99, step = 0.02 }\nengine.fifo_depth = { from = 2, to = 11, step = 1 }\n"
    )
    return made


@pytest.fixture(scope="module")
def undisturbed(folder: Path) -> pd.DataFrame:
    sweep(folder / "space.toml", store=folder / "undisturbed.db", jobs=1, trust=True)
    return load(folder / "undisturbed.db")


def begin(folder: Path, store: Path, jobs: str = "2", *more: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "accelsim",
            "sweep",
            "space.toml",
            "--trust",
            "--store",
            str(store),
            "--jobs",
            jobs,
            *more,
        ],
        cwd=folder,
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ["PYTHONPATH"]]), "TMPDIR": str(folder / "temporary")}
        | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests in the background of a shell ignore it
    )


def points_in(store: Path) -> int:
    if not store.exists():
        return 0
    base = sqlite3.connect(f"file:{store}?mode=ro", uri=True, timeout=10)
    try:
        return int(base.execute("SELECT count(*) FROM points").fetchone()[0])
    except sqlite3.OperationalError:  # no table yet
        return 0
    finally:
        base.close()


def processes_below(pid: int) -> list[int]:
    """Return the processes that a process began, and those that they began."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    found = [int(each) for each in children.read_text().split()] if children.exists() else []
    return [*found, *(below for each in found for below in processes_below(each))]


def runs(pid: int) -> bool:
    """Return whether a process does anything: one that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    """Return the processes that run points, not those that look after semaphores."""
    found = []
    for pid in processes_below(process.pid):
        with suppress(FileNotFoundError, ProcessLookupError):
            if b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


def wait_for(what: Callable[[], Any]) -> Any:
    """Wait until something is the case; returns it."""
    end = time.monotonic() + HANG_SECONDS
    while not (found := what()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
    return found


def reached(process: subprocess.Popen[str], store: Path, goal: int) -> bool:
    return process.poll() is not None or (points_in(store) >= goal and bool(workers_of(process)))


def ended(pids: list[int]) -> bool:
    return not any(runs(pid) for pid in pids)


def assert_equal_to(undisturbed: pd.DataFrame, store: Path) -> None:
    assert rows_in(store) == (POINTS, 2 * POINTS)
    pd.testing.assert_frame_equal(load(store), undisturbed, check_exact=True)


@pytest.mark.thorough
@linux
def test_killing_at_random_moments_loses_nothing(folder: Path, undisturbed: pd.DataFrame, tmp_path: Path) -> None:
    """The main process or a worker dies 20 times; a sweep that ends in spite of it is checked, and another begun."""
    rng = random.Random(11)
    stores = (tmp_path / f"{number}.db" for number in itertools.count())
    store, process = next(stores), None
    begin_slow = partial(begin, SECONDS_A_SCORE="0.2")
    for victim in rng.sample(["main"] * MAIN_KILLS + ["worker"] * (KILLS - MAIN_KILLS), KILLS):
        if process is None:
            process = begin_slow(folder, store)
        if victim == "worker" or rng.random() < 0.8:  # some die as they begin
            goal = points_in(store) + rng.randint(1, 15)
            wait_for(partial(reached, process, store, goal))
        time.sleep(0.2 * rng.random())
        if process.poll() is not None:
            assert process.returncode == 0, process.communicate()[1]
            assert_equal_to(undisturbed, store)
            store = next(stores)
            process = begin_slow(folder, store)
            wait_for(partial(reached, process, store, 0))
        if victim == "worker" and (workers := workers_of(process)):
            with suppress(ProcessLookupError):
                os.kill(rng.choice(workers), signal.SIGKILL)
            continue
        begun = processes_below(process.pid)
        process.kill()
        process.communicate()
        wait_for(partial(ended, begun))
        process = None
    process = process or begin_slow(folder, store)
    _, said = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == 0, said
    assert_equal_to(undisturbed, store)
    wait_for(lambda: not list((folder / "temporary").glob("accelsim-*")))


@pytest.mark.thorough
@linux
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c_ends_at_once_and_keeps_what_is_finished(
    folder: Path, undisturbed: pd.DataFrame, tmp_path: Path, jobs: str
) -> None:
    """It is sent to a sweep whose later points never end: to wait for one would be to wait for ever.

    A quiet one, which does not say before how long it will take: for that it would try the last point, too.
    """
    store = tmp_path / "r.db"
    process = begin(folder, store, jobs, "--quiet", STUCK_ABOVE="0.5")
    wait_for(lambda: points_in(store) > 20 or process.poll() is not None)
    begun = processes_below(process.pid)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, said = process.communicate(timeout=HANG_SECONDS)
    assert not store.with_name("r.db-wal").exists()
    assert process.returncode == STOPPED
    wait_for(lambda: not list((folder / "temporary").glob("accelsim-*")))
    stored = points_in(store)
    assert said.splitlines() == [
        f"note: {store}: {stored} points were stored in this run, {POINTS - stored} are left: run the same command "
        "again",
        "stopped",
    ]
    wait_for(partial(ended, begun))
    sweep(folder / "space.toml", store, jobs=1, trust=True)
    assert_equal_to(undisturbed, store)


@pytest.mark.thorough
@linux
def test_two_sweeps_fill_a_store_while_a_third_process_reads_it(
    folder: Path, undisturbed: pd.DataFrame, tmp_path: Path
) -> None:
    """What is read on the way is a part of the whole, which only grows; nobody is refused."""
    store = tmp_path / "r.db"
    sweeps = [begin(folder, store, "1", "-q", SECONDS_A_SCORE="0.05") for _ in range(2)]
    knobs = ["density", "engine.fifo_depth"]
    wanted, seen = undisturbed.drop(columns="point").set_index([*knobs, "layer"]), [0]
    while any(each.poll() is None for each in sweeps):
        if points_in(store):
            read = load(store).drop(columns="point").set_index([*knobs, "layer"])
            pd.testing.assert_frame_equal(read, wanted.loc[read.index], check_exact=True)
            seen.append(len(read))
    assert [(each.communicate()[1], each.returncode) for each in sweeps] == [("", 0)] * 2
    assert seen == sorted(seen)
    assert len({*seen}) > 5
    assert_equal_to(undisturbed, store)


def test_a_sweep_reads_while_others_write(tmp_path: Path) -> None:
    """Of the same the quick part: two that take turns, and one that reads in between."""
    asked, store = {**SPACE, "network": tiny()}, tmp_path / "r.db"
    read: list[int] = []

    def between(done: int, _: int) -> None:
        if done == 2:
            sweep({**asked, "vary": {"engine.pes": [4, 8], "engine.fifo_depth": [8, 16]}}, store, jobs=1)
        read.append(len(load(store)))

    found = sweep(asked, store, jobs=1, progress=between)
    assert read == sorted(read)
    assert found.equals(sweep(asked, tmp_path / "whole.db", jobs=1))


def test_a_clock_that_runs_backwards_changes_nothing(
    folder: Path, tmp_path: Path, accelsim: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after the clock of the machine was set; that nobody looks at it is a rule of tests/test_source_rules.py."""
    asked = {**SPACE, "network": tiny()}
    wanted = sweep(asked, tmp_path / "before.db", jobs=1)
    now = itertools.count(time.time(), -3600.0)
    monkeypatch.setattr(time, "time", lambda: next(now))
    monkeypatch.setattr(time, "time_ns", lambda: int(next(now) * 1e9))
    assert sweep(asked, tmp_path / "r.db", jobs=1).equals(wanted)
    assert sweep(asked, tmp_path / "r.db", jobs=1).equals(wanted)  # what was stored in the future is there
    said = accelsim("run", folder / "tiny.safetensors")
    assert (said.code, said.err) == (0, "")


def test_ctrl_c_in_python_keeps_what_is_finished(tmp_path: Path) -> None:
    def interrupted(done: int, _: int) -> None:
        if done > 3:
            raise KeyboardInterrupt

    asked = {**SPACE, "network": tiny()}
    with pytest.raises(KeyboardInterrupt):
        sweep(asked, tmp_path / "r.db", jobs=1, progress=interrupted)
    assert 3 < points_in(tmp_path / "r.db") < 7
    assert sweep(asked, tmp_path / "r.db", jobs=1).equals(sweep(asked, tmp_path / "whole.db", jobs=1))


@pytest.mark.thorough
def test_a_point_whose_worker_always_dies_has_failed_and_no_other(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEADLY", "1")
    asked = {"network": tiny(), "vary": {"density": [0.5, 0.99, 0.7]}, "evaluate": str(folder / "score.py:score")}
    found = sweep(asked, tmp_path / "r.db", jobs=2)
    assert found[found["error"] != ""][["density", "error"]].to_numpy().tolist() == [
        [0.99, "its worker was killed, twice with nothing beside it: out of memory?"]
    ]
    assert (found["error"] == "").sum() == 4
    monkeypatch.delenv("DEADLY")
    mended = sweep(asked, tmp_path / "r.db", jobs=1, retry_failed=True)
    assert mended.equals(sweep(asked, tmp_path / "whole.db", jobs=1))


class Deadly:
    """Workers that die of some points, and take what runs beside them along."""

    slots = 4

    def __init__(self, deadly: set[str], rng: random.Random) -> None:
        self.deadly, self.rng = deadly, rng
        self.running: list[Points] = []
        self.deaths = 0

    def submit(self, points: Points) -> None:
        self.running.append(points)

    def finished(self) -> list[Finished]:
        handed, self.running = self.running, []
        self.rng.shuffle(handed)
        if any(key in self.deadly for points in handed for key in points.keys):
            self.deaths += 1
            return [Finished(points, None) for points in handed]
        return [Finished(points, Batch([Done(key, "{}") for key in points.keys], 1e-3, [])) for points in handed]

    def stop(self) -> list[Finished]:
        return []


@given(st.sets(st.integers(0, 99), max_size=3), st.integers(0, 2**16))
def test_only_deadly_points_fail_and_every_point_comes_back_once(deadly: set[int], seed: int) -> None:
    missing = Points(Defaults("", "", None), np.arange(100), {}, list(map(str, range(100))))
    runner = Deadly({str(each) for each in deadly}, random.Random(seed))
    done = [each for batch in Handed(missing, runner).results() for each in batch.done]
    assert sorted(int(each.key) for each in done) == list(range(100))
    assert {int(each.key) for each in done if each.error} == deadly
    assert runner.deaths <= 8 * len(deadly)


def test_batches_get_smaller_towards_the_end_but_stay_worth_handing_out() -> None:
    """Points of a millisecond: the last batches take 25 ms, and only the very last what is left."""
    sizes: list[int] = []

    class Steady(Deadly):
        def finished(self) -> list[Finished]:
            handed, self.running = self.running, []
            sizes.extend(map(len, handed))
            return [
                Finished(points, Batch([Done(key, "{}") for key in points.keys], 1e-3 * len(points), []))
                for points in handed
            ]

    missing = Points(Defaults("", "", None), np.arange(5_000), {}, list(map(str, range(5_000))))
    assert sum(len(batch.done) for batch in Handed(missing, Steady(set(), random.Random(0))).results()) == 5_000
    largest = sizes.index(max(sizes))
    assert 400 < max(sizes) <= 500
    assert sizes[largest:-1] == sorted(sizes[largest:-1], reverse=True)
    assert min(sizes[largest:-1]) == 25 >= sizes[-1]


def test_workers_that_cannot_begin_are_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that finds other sources than the main process, which were changed in the meantime, refuses to work."""
    monkeypatch.setattr("accelsim.explore.sweeping.engine_version", lambda: "of before")
    for jobs in (1, 2):
        with pytest.raises(InputError, match=r"the worker has another accelsim .* than the main process \(of befor"):
            sweep({**SPACE, "network": tiny()}, tmp_path / "r.db", jobs=jobs)


def test_a_network_that_changes_during_a_sweep_is_told_of(tmp_path: Path) -> None:
    save(tiny(), tmp_path / "net.safetensors")
    (tmp_path / "space.toml").write_text('network = "net.safetensors"\nvary.engine.pes = [4, 8]\n')
    space = Space(tmp_path / "space.toml")
    setup = setup_of(space)
    save(tiny(seed=1), tmp_path / "net.safetensors")
    with Store(tmp_path / "r.db") as store:
        plan = Plan.begin(space, setup, store).whole()
        with Crew(setup, store, 1, None) as crew:
            run_missing(plan, store, crew)
        assert store.read(plan.keys)["error"].str.contains("has changed since the sweep began; run it again").all()
