"""Where points run: in this process, in processes of this machine, or on a Dask cluster."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, NamedTuple, Protocol

from accelsim.errors import InputError, needing
from accelsim.explore.space import Point
from accelsim.explore.work import Batch, Setup, Worker
from accelsim.threads import use_threads

Points = Sequence[tuple[str, Point]]


class Finished(NamedTuple):
    """Points that were handed out, and what came back: None where their worker died."""

    points: Points
    batch: Batch | None


class Runner(Protocol):
    """Takes batches of points and gives back what became of them, in any order."""

    slots: int
    """Batches that keep it busy."""

    def submit(self, points: Points) -> None:
        """Hand out a batch."""

    def finished(self) -> list[Finished]:
        """Wait for at least one batch."""

    def stop(self) -> list[Finished]:
        """End within a second or two; returns the batches whose points were done by then."""


class Here:
    """One batch after another in this process."""

    slots = 1

    def __init__(self, setup: Setup) -> None:
        self._worker = Worker(setup)
        self._waiting: list[Points] = []

    def submit(self, points: Points) -> None:
        """Keep a batch until it is asked for."""
        self._waiting.append(points)

    def finished(self) -> list[Finished]:
        """Run the next batch."""
        points = self._waiting.pop(0)
        return [Finished(points, self._worker.run(points))]

    def stop(self) -> list[Finished]:
        """Give up what waits; what the batch under way has finished is kept."""
        self._waiting.clear()
        return [Finished((), Batch(self._worker.done, 0.0, []))] if self._worker.done else []


_worker: Worker | None = None
_stopping = threading.Event()


def _begin(setup: Setup, parent: int) -> None:
    """Make a worker process ready: one thread, no Ctrl-C of its own, an end with its parent, a hand for SIGTERM."""
    global _worker
    use_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, lambda *_: _stopping.set())

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)  # the main process was killed: nobody waits for these results

    threading.Thread(target=watch, daemon=True).start()
    _worker = Worker(setup)


def _run(points: Points) -> Batch:
    if _worker is None:
        raise RuntimeError("a worker begins before it runs")
    return _worker.run(points, _stopping.is_set)


class Processes:
    """Processes of this machine. One that dies takes its batch with it and is replaced."""

    STOP_SECONDS = 1.0
    """What is granted to finish the point under way."""

    def __init__(self, setup: Setup, jobs: int) -> None:
        self.slots = 2 * jobs  # one runs, one waits
        self._setup, self._jobs = setup, jobs
        self._pool: Any = None
        self._running: dict[Future[Batch], Points] = {}

    def submit(self, points: Points) -> None:
        """Hand a batch to the pool, which is made again if it broke."""
        from loky.process_executor import BrokenProcessPool, ShutdownExecutorError

        for _ in range(3):
            try:
                if self._pool is None:
                    self._pool = self._new_pool()
                self._running[self._pool.submit(_run, points)] = points
            except (BrokenProcessPool, ShutdownExecutorError):
                self._pool = None
            else:
                return
        raise InputError("workers end as soon as they begin; try --jobs 1, which shows why")

    def finished(self) -> list[Finished]:
        """Wait for batches; those of a pool that broke come back without results."""
        done, _ = wait(self._running, return_when=FIRST_COMPLETED)
        return [self._took(future) for future in done]

    def stop(self) -> list[Finished]:
        """Ask every worker to return after its point, wait a moment, and end them."""
        if self._pool is None:
            return []
        workers = list(self._pool._processes.values())
        for future in self._running:
            future.cancel()
        for worker in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGUSR1)
        done, _ = wait(self._running, timeout=self.STOP_SECONDS)
        found = [self._took(future) for future in done if not future.cancelled()]
        self._pool.shutdown(wait=False, kill_workers=True)
        self._pool = None
        return [each for each in found if each.batch is not None]

    def _took(self, future: Future[Batch]) -> Finished:
        from loky.process_executor import BrokenProcessPool

        points = self._running.pop(future)
        try:
            return Finished(points, future.result())
        except BrokenProcessPool:
            self._pool = None
            return Finished(points, None)

    def _new_pool(self) -> Any:
        from loky import ProcessPoolExecutor

        return ProcessPoolExecutor(self._jobs, timeout=None, initializer=_begin, initargs=(self._setup, os.getpid()))


CONNECT_SECONDS = 5
"""How long a scheduler may take to answer."""


class Dask:
    """A Dask cluster: the setup, with its weights, is sent to every worker once."""

    def __init__(self, setup: Setup, address: str) -> None:
        with needing("explore"):
            from distributed import Client
        try:
            self._client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise InputError(
                f"--scheduler {address}: cannot be reached in {CONNECT_SECONDS} seconds "
                f"({type(error).__name__}); start one with: dask scheduler, and workers with: dask worker {address}"
            ) from None
        self.slots = 2 * max(1, sum(self._client.nthreads().values()))
        self._setup = self._client.scatter(setup, broadcast=True, hash=False)
        self._running: dict[Any, Points] = {}

    def submit(self, points: Points) -> None:
        """Hand a batch to the scheduler."""
        future = self._client.submit(_on_cluster, self._setup, points, pure=False)
        self._running[future] = points

    def finished(self) -> list[Finished]:
        """Wait for batches; those whose worker was lost too often come back without results."""
        from distributed import KilledWorker
        from distributed import wait as wait_for

        done = wait_for(list(self._running), return_when="FIRST_COMPLETED").done
        found = []
        for future in done:
            points = self._running.pop(future)
            try:
                found.append(Finished(points, future.result()))
            except KilledWorker:
                found.append(Finished(points, None))
        return found

    def stop(self) -> list[Finished]:
        """Cancel what waits and leave the cluster."""
        with contextlib.suppress(Exception):
            self._client.cancel(list(self._running), force=True)
        self._client.close(timeout=1)
        return []


_on_this_node = threading.local()


def _on_cluster(setup: Setup, points: Points) -> Batch:
    """Run points in a thread of a cluster's worker, which keeps what they share."""
    kept: Worker | None = getattr(_on_this_node, "worker", None)
    if kept is None or kept.setup is not setup:
        kept = _on_this_node.worker = Worker(setup)
    return kept.run(points)


def open_runner(setup: Setup, jobs: int, scheduler: str | None) -> Runner:
    """Return where points run: on a cluster, in several processes, or here."""
    if scheduler is not None:
        return Dask(setup, scheduler)
    return Processes(setup, jobs) if jobs > 1 else Here(setup)
