"""What one channel of a DRAM reports: integers only, so that specification and twin agree with `==`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

NONE_GIVEN = np.zeros(0, np.int64)
"""For arrays of a replay that nobody asked for."""

NO_COMMANDS = np.zeros((0, 3), np.int64)
"""For the commands of a replay that nobody asked for."""

COMMANDS = ("ACT", "PRE", "RD", "WR", "REF")
"""What a command is called on the bus, in the order of their numbers."""


class ChannelCounts(NamedTuple):
    """Cycles, what became of the requests, and commands per bank, refreshes and standby clocks per rank."""

    cycles: int
    merged_writes: int
    """Writes to a block whose write was still pending."""
    merged_reads: int
    """Reads of a block whose read was still pending: one command answers both."""
    forwarded_reads: int
    """Reads answered from the write buffer."""
    returned_reads: int
    latency_cycles: int
    """Sum over the returned reads, from acceptance to the last beat."""
    activates: tuple[int, ...]
    precharges: tuple[int, ...]
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    row_hits: tuple[int, ...]
    refreshes: tuple[int, ...]
    active_cycles: tuple[int, ...]
    """Clocks with a row open in the rank; in all others the rank is precharged."""
    precharged_cycles: tuple[int, ...]
    active_power_down_cycles: tuple[int, ...]
    """Those of the active clocks in which the rank was powered down."""
    precharged_power_down_cycles: tuple[int, ...]
