"""Numba's first compilation, made visible: it takes seconds once, and a silent program looks hung."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba.core import event


class _FirstCompile(event.Listener):
    def __init__(self, tell: Callable[[], None]) -> None:
        self._tell: Callable[[], None] | None = tell

    def on_start(self, _: Any) -> None:
        tell, self._tell = self._tell, None
        if tell is not None:
            tell()

    def on_end(self, _: Any) -> None:
        pass


def on_first_compile(tell: Callable[[], None]) -> None:
    """Call `tell` once, when a kernel is about to be compiled; never when it comes from the cache on disk."""
    event.register("numba:compile", _FirstCompile(tell))  # type: ignore[no-untyped-call]
