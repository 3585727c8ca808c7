"""Memories: what an access costs and how long it takes.

>>> import accelsim, numpy as np
>>> r = accelsim.memory.replay("ddr4-2400", np.arange(10_000), np.zeros(10_000, bool))
>>> 0.9 < r.bandwidth_fraction < 1
True
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from accelsim.memory.dram_replay import DramReplay, replay
    from accelsim.memory.trace_files import Trace, read_trace
    from accelsim.memory.traces import trace
    from accelsim.parts import load_memory, load_part
    from accelsim.parts.bandwidth import BandwidthPart
    from accelsim.parts.timed import DramPart

_HOME = {
    "BandwidthPart": "accelsim.parts.bandwidth",
    "DramPart": "accelsim.parts.timed",
    "DramReplay": "accelsim.memory.dram_replay",
    "Trace": "accelsim.memory.trace_files",
    "load_memory": "accelsim.parts",
    "load_part": "accelsim.parts",
    "read_trace": "accelsim.memory.trace_files",
    "replay": "accelsim.memory.dram_replay",
    "trace": "accelsim.memory.traces",
}

__all__ = [
    "BandwidthPart",
    "DramPart",
    "DramReplay",
    "Trace",
    "load_memory",
    "load_part",
    "read_trace",
    "replay",
    "trace",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'accelsim.memory' has no attribute '{name}'")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
