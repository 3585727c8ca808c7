"""What this machine can hold: asked before anything is allocated."""

from __future__ import annotations

import os

from accelsim.errors import InputError


def check_fits_memory(size_bytes: int, what: str) -> None:
    """Raise InputError before an allocation that this machine's memory cannot hold."""
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size_bytes > memory_bytes:
        raise InputError(
            f"{what}: needs {size_bytes / 2**30:.1f} GiB, this machine has {memory_bytes / 2**30:.1f} GiB; "
            "use a smaller layer, or a safetensors file, which is mapped and not loaded"
        )
