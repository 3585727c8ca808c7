"""The command bus of a DRAM channel, compiled twin of `dram_bus.py`: the earliest clock of each command."""

from __future__ import annotations

from typing import Any

import numpy as np

from accelsim.kernels import njit

ACTIVATE, PRECHARGE, READ, WRITE, REFRESH, NOTHING, POWER_UP = range(7)

COLUMNS = 8
"""Earliest clocks that are kept of a bank, a group or a rank: one per command."""

# Steps of the kernel become part of its code, and take no reference counts of the arrays that they are handed: those
# would make it a quarter slower.
_INLINED: dict[str, Any] = {"cache": True, "forceinline": True, "_nrt": False}
inlined = njit(**_INLINED)


@njit(cache=True)
def new_clocks(banks, groups, ranks):
    """Return the earliest clock of each command (columns) as each bank, then group, then rank has it (rows)."""
    return np.zeros((banks + groups + ranks, COLUMNS), np.int64), np.zeros((ranks, 1 + 4 + 32), np.int64)


@inlined
def earliest(clocks, bank, group, rank, command):
    """Return the first clock in which the constraints allow this command; group and rank are rows of `clocks`."""
    return max(clocks[bank, command], clocks[group, command], clocks[rank, command])


@inlined
def issue(clocks, activates, c, bank, group, rank, ranks, command, clock):
    """Note what a command of this clock does to the earliest clocks of later ones."""
    first_rank = clocks.shape[0] - ranks
    if command == ACTIVATE:
        clocks[bank, ACTIVATE] = clock + c.rc
        clocks[bank, PRECHARGE] = clock + c.ras
        clocks[bank, READ] = clock + c.rcd_rd
        clocks[bank, WRITE] = clock + c.rcd_wr
        clocks[group, ACTIVATE] = clock + c.rrd_l
        # The windows: rings of when an activate leaves them, so that the next entry is the fourth or 32nd last.
        window = activates[rank - first_rank]
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
    elif command == POWER_UP:
        for later in range(NOTHING):
            clocks[rank, later] = max(clocks[rank, later], clock + c.xp)
    elif command == READ:
        clocks[bank, PRECHARGE] = max(clocks[bank, PRECHARGE], clock + c.rtp)
        clocks[group, READ] = max(clocks[group, READ], clock + c.rd_rd_l)
        for other in range(first_rank, clocks.shape[0]):
            to_read = c.rd_rd_s if other == rank else c.rd_rd_rank
            clocks[other, READ] = max(clocks[other, READ], clock + to_read)
            clocks[other, WRITE] = max(clocks[other, WRITE], clock + c.rd_wr)
    else:
        clocks[bank, PRECHARGE] = max(clocks[bank, PRECHARGE], clock + c.wr_pre)
        clocks[group, WRITE] = max(clocks[group, WRITE], clock + c.rd_rd_l)
        clocks[group, READ] = max(clocks[group, READ], clock + c.wr_rd_l)
        for other in range(first_rank, clocks.shape[0]):
            to_read = c.wr_rd_s if other == rank else c.wr_rd_rank
            to_write = c.rd_rd_s if other == rank else c.wr_wr_rank
            clocks[other, READ] = max(clocks[other, READ], clock + to_read)
            clocks[other, WRITE] = max(clocks[other, WRITE], clock + to_write)
