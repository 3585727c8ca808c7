"""The systolic array, the compiled twin: when each pass begins, as a recurrence; as `specification.py` has it.

A pass begins when the one before it is over, its operands are there, and the half of the output memory that it fills
has left. The bus goes through its transfers in order: operands of the pass after next, then what a pass leaves, then
of that what the next one adds to.
"""

from __future__ import annotations

import numpy as np

from accelsim.engines.systolic.plan import Bus, Passes
from accelsim.kernels import njit, read_only


@njit(cache=True, nogil=True)
def run_passes(lengths, transfers, latency, arrived, stored, begins):
    """Fill `begins` (passes,) with the cycle in which each pass begins; returns the cycle in which all is over.

    transfers (3, passes): cycles of the bus for operands, for sums that come back, and for what leaves. arrived, stored
    (1 or 2,): zeros, one for each half of a memory.
    """
    reads, backs, writes = transfers[0], transfers[1], transfers[2]
    bus, over, end = 0, 0, 0
    passes, ahead = len(lengths), len(arrived)
    for number in range(min(ahead, passes)):
        bus += reads[number]
        arrived[number] = bus + latency if reads[number] > 0 else 0
    for number in range(passes):
        half, following = number % ahead, (number + 1) % ahead
        begin = max(end, arrived[half], stored[half])
        begins[number] = begin
        end = begin + lengths[number]
        arrived[half] = 0
        if number + ahead < passes and reads[number + ahead] > 0:
            bus = max(bus, end) + reads[number + ahead]
            arrived[half] = bus + latency
        stored[half] = end
        if writes[number] > 0:
            bus = max(bus, end) + writes[number]
            stored[half] = bus
        if number + 1 < passes and backs[number + 1] > 0:
            bus = max(bus, end) + backs[number + 1]
            arrived[following] = max(arrived[following], bus + latency)
        over = max(over, stored[half])
    return over


def run(passes: Passes, bus: Bus) -> tuple[int, np.ndarray]:
    """Return the cycles of all passes, and when each begins."""
    begins = np.empty(len(passes.steps), np.int64)
    lengths = read_only(passes.steps + passes.skew)
    transfers = read_only(np.stack([bus.reads, bus.backs, bus.writes]))
    return int(run_passes(lengths, transfers, bus.latency, *np.zeros((2, bus.ahead), np.int64), begins)), begins


def cycles_of(passes: Passes, bus: Bus) -> int:
    """Return the cycles of all passes."""
    return run(passes, bus)[0]
