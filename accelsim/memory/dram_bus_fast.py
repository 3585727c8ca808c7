"""The command bus of a DRAM channel, compiled twin of `dram_bus.py`: the earliest clock of each command."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.kernels import inlined
from accelsim.parts.timed import DramPart

# Not `int`: every number that numba takes for a literal would make another version of each step to compile.
ACTIVATE, PRECHARGE, READ, WRITE, REFRESH, NOTHING, POWER_UP = map(np.int64, range(7))
# Columns of the places of a bank: the rows of its group and rank in the clocks, and the number of its rank.
GROUP, RANK, NUMBER = range(3)

COLUMNS = 8
"""Earliest clocks that are kept of a bank, a group or a rank: one per command."""


class Bus(NamedTuple):
    """The earliest clock of each command (columns) as each bank, then group, then rank has it (rows)."""

    rules: np.record
    """Numbers of the channel that never change, among them the Cycles of its part."""
    clocks: NDArray[np.int64]
    activates: NDArray[np.int64]
    """(ranks, 37): the number of activates, and when the last 4 and 32 of them leave their windows: two rings."""
    places: NDArray[np.int64]
    """(banks, 3)."""


def new_bus(part: DramPart, rules: np.record) -> Bus:
    """Return the bus of a channel on which nothing was issued yet."""
    banks, groups, ranks = part.geometry.banks, part.geometry.groups, part.geometry.ranks
    group, rank = np.arange(banks) // (banks // groups), np.arange(banks) // (banks // ranks)
    return Bus(
        rules,
        np.zeros((banks + groups + ranks, COLUMNS), np.int64),
        np.zeros((ranks, 1 + 4 + 32), np.int64),
        np.column_stack([banks + group, banks + groups + rank, rank]),
    )


@inlined
def earliest(bus, bank, command):
    """Return the first clock in which the constraints allow this command."""
    # Specification: CommandBus.accepts.
    clocks, places = bus.clocks, bus.places
    return max(clocks[bank, command], clocks[places[bank, GROUP], command], clocks[places[bank, RANK], command])


@inlined
def issue(bus, bank, command, clock):
    """Note what a command of this clock does to the earliest clocks of later ones; of a rank any bank will do."""
    # Specification: constraints, one line for each of them.
    c, clocks = bus.rules, bus.clocks
    group, rank = bus.places[bank, GROUP], bus.places[bank, RANK]
    first_rank = clocks.shape[0] - bus.activates.shape[0]
    if command == READ:
        clocks[bank, PRECHARGE] = max(clocks[bank, PRECHARGE], clock + c.rtp)
        clocks[group, READ] = max(clocks[group, READ], clock + c.rd_rd_l)
        for other in range(first_rank, clocks.shape[0]):
            to_read = c.rd_rd_s if other == rank else c.rd_rd_rank
            clocks[other, READ] = max(clocks[other, READ], clock + to_read)
            clocks[other, WRITE] = max(clocks[other, WRITE], clock + c.rd_wr)
    elif command == WRITE:
        clocks[bank, PRECHARGE] = max(clocks[bank, PRECHARGE], clock + c.wr_pre)
        clocks[group, WRITE] = max(clocks[group, WRITE], clock + c.rd_rd_l)
        clocks[group, READ] = max(clocks[group, READ], clock + c.wr_rd_l)
        for other in range(first_rank, clocks.shape[0]):
            to_read = c.wr_rd_s if other == rank else c.wr_rd_rank
            to_write = c.rd_rd_s if other == rank else c.wr_wr_rank
            clocks[other, READ] = max(clocks[other, READ], clock + to_read)
            clocks[other, WRITE] = max(clocks[other, WRITE], clock + to_write)
    elif command == ACTIVATE:
        clocks[bank, ACTIVATE] = clock + c.rc
        clocks[bank, PRECHARGE] = clock + c.ras
        clocks[bank, READ] = clock + c.rcd_rd
        clocks[bank, WRITE] = clock + c.rcd_wr
        clocks[group, ACTIVATE] = clock + c.rrd_l
        # The windows: rings of when an activate leaves them, so that the next entry is the fourth or 32nd last.
        window = bus.activates[bus.places[bank, NUMBER]]
        window[1 + (window[0] & 3)] = clock + c.faw
        window[5 + (window[0] & 31)] = clock + c.aw32
        window[0] += 1
        four, many = window[1 + (window[0] & 3)], window[5 + (window[0] & 31)]
        clocks[rank, ACTIVATE] = max(clock + c.rrd_s, four, many)
    elif command == PRECHARGE:
        clocks[bank, ACTIVATE] = max(clocks[bank, ACTIVATE], clock + c.rp)
        clocks[rank, PRECHARGE] = clock + c.ppd
        clocks[rank, REFRESH] = max(clocks[rank, REFRESH], clock + c.rp)
    elif command == REFRESH:
        clocks[rank, ACTIVATE] = max(clocks[rank, ACTIVATE], clock + c.rfc)
        clocks[rank, REFRESH] = clock + c.rfc
    else:  # power up
        for later in range(NOTHING):
            clocks[rank, later] = max(clocks[rank, later], clock + c.xp)
