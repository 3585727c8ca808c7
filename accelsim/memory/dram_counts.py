"""What one channel of a DRAM is offered and what it reports, to specification and twin alike.

Counts are integers only, so that the two agree with `==`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Offer(NamedTuple):
    """Requests to all channels of a DRAM and when they are offered, each as soon as its queue has room."""

    block: NDArray[np.int64]
    """(n,): indices of blocks."""
    write: NDArray[np.bool_]
    bytes_per_ns: float = 0.0
    """Rate of all channels together, 0 where saturated."""
    min_cycles: int = 0
    """A channel is kept running so long."""
    arrivals: NDArray[np.int64] = np.zeros(0, np.int64)
    """(n,): clocks in which requests are offered instead of at a rate, or empty."""
    outstanding: int = 0
    """No read is offered before the one so many before it was answered, 0: no bound. For different blocks that are all
    read, with `Record.returned`."""


class Record(NamedTuple):
    """Arrays that a replay fills; empty ones are left alone."""

    returned: NDArray[np.int64] = np.zeros(0, np.int64)
    """(n,): clocks in which reads were answered, one merged with another left out."""
    commands: NDArray[np.int64] = np.zeros((0, 3), np.int64)
    """(m, 3): clock, number among COMMANDS and bank of each command, up to so many; of a refresh the first bank."""


UNRECORDED = Record()

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
