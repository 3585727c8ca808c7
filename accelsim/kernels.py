"""Compiled kernels: `njit`, whose cache notices every change, and a first compilation that is seen."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from numba import njit
from numba.core import caching, event

__all__ = ["inlined", "kernel_sources_hash", "njit", "on_first_compile", "uncounted"]

# Steps become part of the code of their kernel, and take no reference counts of the arrays that they are handed: those
# would make it a quarter slower. They can make no arrays.
_UNCOUNTED: dict[str, Any] = {"cache": True, "nogil": True, "_nrt": False}
inlined = njit(forceinline=True, **_UNCOUNTED)
uncounted = njit(**_UNCOUNTED)

PACKAGE = Path(__file__).parent
KERNEL = re.compile(rb"^ *@(njit|inlined|uncounted)\b", re.MULTILINE)
IMPORT = re.compile(rb"^from (accelsim[.\w]*) import", re.MULTILINE)


@cache
def kernel_sources() -> list[Path]:
    """Return the modules that hold kernels, and those that they import from here: constants become part of a kernel."""
    texts = {path: path.read_bytes() for path in sorted(PACKAGE.rglob("*.py"))}
    kernels = {path for path, text in texts.items() if KERNEL.search(text)}
    imported = {name.decode() for path in kernels for name in IMPORT.findall(texts[path])}
    return [path for path in texts if path in kernels or _name_of(path) in imported]


def _name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


@cache
def kernel_sources_hash() -> str:
    """Return a hash over all of `kernel_sources`."""
    found = hashlib.blake2b(digest_size=16)
    for path in kernel_sources():
        found.update(path.read_bytes())
    return found.hexdigest()


def _notice_all_sources(locator: Any) -> None:
    """Make numba ask for the sources of all kernels when it looks whether a cached one is up to date.

    By itself it asks for the file of a kernel alone, and a kernel that this one calls may lie in another.
    """
    of_file = locator.get_source_stamp

    def get_source_stamp(self: Any) -> Any:
        stamp = of_file(self)
        return (stamp, kernel_sources_hash()) if PACKAGE in Path(self._py_file).parents else stamp

    locator.get_source_stamp = get_source_stamp


_locator = getattr(caching, "_SourceFileBackedLocatorMixin", None)
if _locator is not None:  # a name of numba's own: without it the cache is as it was
    _notice_all_sources(_locator)


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
