"""Passes over large arrays in threads: kernels release Python's lock, so each takes a part."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar
from weakref import WeakSet

T = TypeVar("T")

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
