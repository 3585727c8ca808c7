"""Where points run: in this process, in processes of this machine, or on a Dask cluster."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import pickle
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple, Protocol

from threadpoolctl import threadpool_info

from accelsim.errors import InputError, needing
from accelsim.explore.points import NO_POINTS, Points
from accelsim.explore.work import Batch, Setup, Worker
from accelsim.threads import LOCKLESS, use_threads


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
    """One batch after another in a thread of this process: compiled code would keep Ctrl-C from the main thread."""

    slots = 1

    def __init__(self, setup: Setup) -> None:
        self._worker = Worker(setup)
        self._stopping = threading.Event()
        self._waiting: list[Points] = []

    def submit(self, points: Points) -> None:
        """Keep a batch until it is asked for."""
        self._waiting.append(points)

    def finished(self) -> list[Finished]:
        """Run the next batch."""
        points = self._waiting.pop(0)
        ended: SimpleQueue[Batch | BaseException] = SimpleQueue()

        def run() -> None:
            try:
                ended.put(self._worker.run(points, self._stopping.is_set))
            except BaseException as error:  # raised again where it is waited for
                ended.put(error)

        threading.Thread(target=run, daemon=True).start()
        batch = ended.get()
        if isinstance(batch, BaseException):
            raise batch
        return [Finished(points, batch)]

    def stop(self) -> list[Finished]:
        """Give up what waits; what the batch under way has finished is kept."""
        self._stopping.set()
        self._waiting.clear()
        return [Finished(NO_POINTS, so_far)] if (so_far := self._worker.so_far()).done else []


_setup: Setup | None = None
_worker: Worker | None = None
_stopping = threading.Event()


def _begin(given: Setup | str, parent: int) -> None:
    """Make a worker process ready: one thread, no Ctrl-C of its own, an end with its parent, a sign to stop.

    given: the setup in a process that was forked, or the file that it lies in.
    """
    global _setup, _worker
    use_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, lambda *_: _stopping.set())

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)  # the main process was killed: nobody waits for these results

    threading.Thread(target=watch, daemon=True).start()
    if isinstance(given, str):
        if not os.path.exists(given):
            os._exit(1)  # the main process has ended since
        with open(given, "rb") as file:
            _setup = pickle.load(file)  # noqa: S301 - written by the main process, for its user alone
    else:
        _setup = given
    setup: Any = _setup
    with contextlib.suppress(InputError):  # raised again where it is waited for
        _worker = Worker(setup)
        _worker.warm_up()
    gc.freeze()  # what is loaded by now stays, and need not be searched for garbage


def _run(packed: bytes) -> bytes:
    """Run points in a worker process, which keeps what they share.

    Both they and their batch are pickled: loky would look at every object in Python, to see if it is a function.
    """
    global _worker
    if _setup is None:
        raise RuntimeError("a worker begins before it runs")
    if _worker is None:
        _worker = Worker(_setup)
    return pickle.dumps(_worker.run(pickle.loads(packed), _stopping.is_set))  # noqa: S301 - from the main process


@contextlib.contextmanager
def _without_interrupt() -> Iterator[None]:
    """Let processes that begin in the block never see Ctrl-C, which a terminal sends to all of them."""
    from multiprocessing import resource_tracker

    from loky.backend import resource_tracker as of_loky

    for tracker in (resource_tracker, of_loky):  # which let Ctrl-C through again when they begin
        tracker.ensure_running()
    old = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)


def can_fork() -> bool:
    """Return whether this process may be forked: it has no thread that would be missing in its copy, and hold a lock.

    Those of OpenBLAS and jemalloc, which begin when NumPy and pyarrow are imported, are seen to by these libraries.
    """
    lockless = sum(each in LOCKLESS for each in threading.enumerate())
    if sys.platform != "linux" or threading.active_count() > 1 + lockless:
        return False
    names = [task.joinpath("comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    own = sum(each["num_threads"] - 1 for each in threadpool_info() if each["internal_api"] == "openblas")
    return bool(len(names) - names.count("jemalloc_bg_thd") <= 1 + lockless + own)


def _written(setup: Setup) -> str:
    """Return the file of a setup: through a pipe, processes would begin one after another, each with all weights.

    The process that looks after semaphores removes the file where this one is killed.
    """
    import cloudpickle
    from loky.backend import resource_tracker

    path = tempfile.gettempdir()
    try:
        handle, path = tempfile.mkstemp(prefix="accelsim-", suffix=".setup")
        resource_tracker.register(path, "file")
        with os.fdopen(handle, "wb") as file:
            cloudpickle.dump(setup, file)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); set TMPDIR to another place") from None
    return path


class Processes:
    """Processes of this machine. One that dies takes its batch with it and is replaced."""

    STOP_SECONDS = 0.7
    """What is granted to finish the point under way."""

    def __init__(self, setup: Setup, jobs: int) -> None:
        self.slots = 2 * jobs  # one runs, one waits
        self._jobs = jobs
        self._setup = setup
        self._pool: Any = None
        self._running: dict[Future[bytes], Points] = {}
        self._file = ""
        try:
            self._hand(NO_POINTS)  # processes take a while to begin
        except BaseException:
            self.stop()
            raise

    def submit(self, points: Points) -> None:
        """Hand a batch to the pool, which is made again if it broke."""
        self._running[self._hand(points)] = points

    def _hand(self, points: Points) -> Future[bytes]:
        from loky import ProcessPoolExecutor
        from loky.process_executor import BrokenProcessPool, ShutdownExecutorError

        packed = pickle.dumps(points)
        for _ in range(3):
            with contextlib.suppress(BrokenProcessPool, ShutdownExecutorError), _without_interrupt():
                if self._pool is None:
                    self._pool = ProcessPoolExecutor(self._jobs, timeout=None, initializer=_begin, **self._how())
                handed: Future[bytes] = self._pool.submit(_run, packed)
                return handed
            self._pool = None
        raise InputError("workers end as soon as they begin; try --jobs 1, which shows why")

    def _how(self) -> dict[str, Any]:
        """Return how processes begin: as copies of this one where that is safe, with all that is imported and known."""
        if can_fork():
            return {"context": multiprocessing.get_context("fork"), "initargs": (self._setup, os.getpid())}
        self._file = self._file or _written(self._setup)
        return {"initargs": (self._file, os.getpid())}

    def finished(self) -> list[Finished]:
        """Wait for batches; those of a pool that broke come back without results."""
        done, _ = wait(self._running, return_when=FIRST_COMPLETED)
        return [self._took(future) for future in done]

    def stop(self) -> list[Finished]:
        """Ask every worker to return after its point, wait a moment, and end them."""
        from loky.backend import resource_tracker

        if self._file:
            resource_tracker.maybe_unlink(self._file, "file")
        pool, self._pool = self._pool, None
        if pool is None:
            return []
        for worker in list(pool._processes.values()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGUSR1)
        done, _ = wait([each for each in self._running if not each.cancel()], timeout=self.STOP_SECONDS)
        found = [self._took(future) for future in done]
        pool.shutdown(wait=True, kill_workers=True)
        return [each for each in found if each.batch is not None]

    def _took(self, future: Future[bytes]) -> Finished:
        from loky.process_executor import BrokenProcessPool

        points = self._running.pop(future)
        try:
            return Finished(points, pickle.loads(future.result()))  # noqa: S301 - what `_run` made
        except BrokenProcessPool:
            self._pool = None
            return Finished(points, None)


CONNECT_SECONDS = 5
"""How long a scheduler may take to answer."""


class Dask:
    """A Dask cluster: the setup, with its weights, is sent to every worker once."""

    def __init__(self, setup: Setup, address: str) -> None:
        with needing("explore"):
            from distributed import Client
        self._address = address
        start = f"start one with: dask scheduler, and workers with: dask worker {address}"
        try:
            self._client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise InputError(
                f"--scheduler {address}: cannot be reached in {CONNECT_SECONDS} seconds "
                f"({type(error).__name__}); {start}"
            ) from None
        try:
            self._client.wait_for_workers(1, timeout=CONNECT_SECONDS)
        except TimeoutError:
            self._client.close()
            raise InputError(f"--scheduler {address}: has no workers; {start}") from None
        self._setup = setup
        self._running: dict[Any, Points] = {}
        self._ended: SimpleQueue[Any] = SimpleQueue()
        self._send()

    def _send(self) -> None:
        """Send the setup to every worker; what one had is lost with it."""
        self.slots = 2 * max(1, sum(self._client.nthreads().values()))
        self._sent = self._client.scatter(self._setup, broadcast=True, hash=False)

    def submit(self, points: Points) -> None:
        """Hand a batch to the scheduler."""
        packed = pickle.dumps(points)  # or Dask would look for futures in every one
        future = self._client.submit(_on_cluster, self._sent, packed, pure=False)
        self._running[future] = points
        future.add_done_callback(self._ended.put)

    def finished(self) -> list[Finished]:
        """Wait for batches; those whose worker was lost too often, or the setup with it, come back without results."""
        from distributed import KilledWorker

        done = [self._ended.get()]
        while not self._ended.empty():
            done.append(self._ended.get())
        found = []
        lost = False
        for future in done:
            points = self._running.pop(future)
            try:
                found.append(Finished(points, pickle.loads(future.result())))  # noqa: S301 - what `_on_cluster` made
            except KilledWorker:
                found.append(Finished(points, None))
            except CancelledError:
                lost = True
                found.append(Finished(points, None))
        if lost:
            self._recover()
        return found

    def _recover(self) -> None:
        """Send the setup again; raises InputError where the scheduler is gone."""
        try:
            self._client.wait_for_workers(1, timeout=CONNECT_SECONDS)
            self._send()
        except (OSError, TimeoutError, ValueError, RuntimeError):
            raise InputError(
                f"--scheduler {self._address}: the scheduler or its last worker was lost; what was finished is "
                "stored: run the same command again"
            ) from None

    def stop(self) -> list[Finished]:
        """Take what is finished, cancel the rest and leave the cluster."""
        found = []
        with contextlib.suppress(Exception):  # whatever it is, what matters was told before
            ended = [(future, points) for future, points in self._running.items() if future.status == "finished"]
            found = [
                Finished(points, pickle.loads(future.result(timeout=1)))  # noqa: S301 - what `_on_cluster` made
                for future, points in ended
            ]
            self._client.cancel(list(self._running), force=True)
        self._client.close(timeout=1)
        return found


_on_this_node = threading.local()


def _on_cluster(setup: Setup, packed: bytes) -> bytes:
    """Run points in a thread of a cluster's worker, which keeps what they share; both they and their batch pickled."""
    kept: Worker | None = getattr(_on_this_node, "worker", None)
    if kept is None or kept.setup is not setup:
        kept = _on_this_node.worker = Worker(setup)
    return pickle.dumps(kept.run(pickle.loads(packed)))  # noqa: S301 - from the main process of this sweep


def open_runner(setup: Setup, jobs: int, scheduler: str | None) -> Runner:
    """Return where points run: on a cluster, in several processes, or here."""
    if scheduler is not None:
        return Dask(setup, scheduler)
    return Processes(setup, jobs) if jobs > 1 else Here(setup)
