"""What this machine can hold and what can be counted: asked before anything is allocated or run."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping

from accelsim.errors import InputError

MOST_MACS = 2**53
"""Multiply-accumulates of one layer, padding included: all that is counted with them, such as the bytes of their
operands or the waiting of a thousand units, then fits into 63 bits, and a float64 holds their number exactly."""


LEAST_CHECKED_BYTES = 2**28
MOST_GROWTH = 1000
"""Times the bytes that an array has in its file, which one above LEAST_CHECKED_BYTES may have in memory."""


def check_countable(sizes: Mapping[str, int], of: str = "") -> None:
    """Raise InputError for a product whose multiply-accumulates, its sizes multiplied, are more than can be counted."""
    macs = math.prod(sizes.values())
    if macs > MOST_MACS:
        text = " x ".join(f"{name} {size:,}" for name, size in sizes.items() if size > 1)
        raise InputError(
            f"{text}: makes {macs:.3g} multiply-accumulates{of}; at most 2^53 = {MOST_MACS:.3g} can be counted, so "
            "split it into smaller ones"
        )


def check_fits_memory(size_bytes: int, what: str) -> None:
    """Raise InputError before an allocation that this machine's memory cannot hold."""
    if size_bytes > (there_bytes := memory_bytes()):
        raise InputError(
            f"{what}: needs {size_bytes / 2**30:.1f} GiB, this machine has {there_bytes / 2**30:.1f} GiB; "
            "use a smaller layer, or a safetensors file, which is mapped and not loaded"
        )


def check_grown(size_bytes: int, stored_bytes: int, what: str) -> None:
    """Raise InputError for an array that is very large in memory and next to nothing in its file.

    What people store so, such as a sparse tensor with one number in a thousand or zeros packed by deflate, stays below.
    """
    if size_bytes > LEAST_CHECKED_BYTES and size_bytes > MOST_GROWTH * stored_bytes:
        raise InputError(
            f"{what}: would take {size_bytes / 2**30:.2f} GiB of memory, of {stored_bytes:,} bytes in its file; "
            "store it in full if it is meant to be so large"
        )


def memory_bytes() -> int:
    """Return the memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
