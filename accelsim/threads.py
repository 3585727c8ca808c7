"""Passes over large arrays in threads: kernels release Python's lock, so each takes a part.

Products of matrices are not shared out: how many threads of a library share one changes its last digits.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, wraps
from typing import Any, ParamSpec, TypeVar
from weakref import WeakSet

from threadpoolctl import ThreadpoolController

T = TypeVar("T")
P = ParamSpec("P")

THREADED_ELEMENTS = 1 << 20
"""Below this size a second thread costs more than it saves."""

LOCKLESS: WeakSet[threading.Thread] = WeakSet()
"""Threads that never hold a lock as another one runs, so that a process may be forked beside them."""

_most = os.cpu_count() or 1


def use_threads(most: int) -> None:
    """Let every pass use so many threads at most: one where other processes have the other cores."""
    global _most
    _most = most


def worker_count(count: int, elements: int) -> int:
    """Return how many threads share a pass over so many elements in `count` pieces."""
    return min(_most, count) if elements >= THREADED_ELEMENTS else 1


def in_threads(work: Callable[[int, int], T], count: int, elements: int) -> list[T]:
    """Return what work(first, last) returns for consecutive parts of 0..count, one for each thread."""
    workers = worker_count(count, elements)
    if workers == 1:
        return [work(0, count)]
    edges = [count * k // workers for k in range(workers + 1)]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(work, edges[:-1], edges[1:]))


def in_one_thread(work: Callable[P, T]) -> Callable[P, T]:
    """Return a function whose products of matrices are the same on any number of cores: each is made in one thread."""

    @wraps(work)
    def alone(*arguments: P.args, **named: P.kwargs) -> T:
        with _libraries("scipy.linalg" in sys.modules).limit(limits=1, user_api="blas"):
            return work(*arguments, **named)

    return alone


@cache
def _libraries(with_scipy: bool) -> Any:
    """Return the libraries that multiply matrices, of which SciPy brings one of its own."""
    return ThreadpoolController()
