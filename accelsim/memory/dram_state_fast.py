"""A DRAM channel and its controller as arrays, for the compiled twin of `dram.py`: what stands in which column.

A request is one row of a table from its acceptance to its command. Transaction queues and bank queues are chains
through that table; so is each bucket in which a block finds its pending requests, and so are the rows that are free.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.memory.dram_bus_fast import COLUMNS, NOTHING, RANK, Bus, new_bus
from accelsim.memory.dram_counts import Offer, Record
from accelsim.parts.timed import AddressMap, DramPart

# Columns of a bank: its open row (-1: closed), hits since the activate, its queue: length, writes in it, both ends; and
# what may go next (see plan): the first hits, which of them is the older, and whether it may close. Then two columns
# each, of reads and of writes: its oldest and newest transaction, and how many there are.
ROW, HITS, QUEUED, QUEUED_WRITES, HEAD, TAIL, FIRST_READ, FIRST_WRITE, READ_IS_OLDER, MAY_CLOSE = range(10)
OLDEST, NEWEST, WAITING = range(10, 16, 2)
# Columns of a request: its block and row, the reads it answers (0: it is a write), the sum of their clocks of
# acceptance, its number, and the next request in its bucket of pending blocks, and both ways in its queue.
BLOCK, BLOCK_ROW, READERS, ACCEPTED, AGE, CHAIN, AFTER, BEFORE = range(8)
# Sizes, two each, of reads and of writes: room for transactions, how many there are, and those of them whose bank queue
# has room. Then the first row of the table that is free, the requests in all bank queues, and the bank whose
# transactions are the movable ones, most of the time.
ROOM, LENGTH, MOVABLE, FREE, IN_BANKS, LIKELY = 0, 2, 4, 6, 7, 8
# What to add to the columns that stand for both.
READS, WRITES = map(np.int64, range(2))

NEVER = 2**62
NONE = -1
BUCKETS = 1024

# Totals of a channel.
CYCLES, MERGED_WRITES, MERGED_READS, FORWARDED_READS, RETURNED_READS, LATENCY_CYCLES = range(6)
# Columns of a rank: refreshes, clocks with an open row and without, those of both in which it was powered down; banks
# with an open row; and the clock from which it has no work, NEVER where it has some.
REFRESHED, OPEN, CLOSED, OPEN_DOWN, CLOSED_DOWN, OPEN_BANKS, IDLE_SINCE = range(7)
# What changes from clock to clock (`now`). Of the refresh: when the next is due, how many are, the rank whose turn it
# is. Of the bank queues: the bank last selected, the one from which the next command comes, a lower bound on when, and
# whether these two are stale. Of the host: the next request and its arrival, the first read that was not answered. Then
# writes still to be moved, reads without a command, when the last read returns, commands that were noted.
REFRESH_DUE, REFRESHES, REFRESH_RANK, SELECTED, NEXT_BANK, SOONEST, STALE = range(7)
REQUEST, ARRIVAL, UNANSWERED, DRAINING, PENDING_READS, LAST_RETURN, NOTED = range(7, 14)


class Queues(NamedTuple):
    """Arrays of the queues of one channel, with the columns above. The free rows of `requests` are a chain, too."""

    rules: np.record
    requests: NDArray[np.int64]
    pending: NDArray[np.int64]
    """(BUCKETS,): the newest request to a block of this bucket whose command was not issued yet."""
    banks: NDArray[np.int64]
    sizes: NDArray[np.int64]


class Controller(NamedTuple):
    """Arrays of one channel, with the columns above; what the twin has for the `self` of the specification."""

    rules: np.record
    """What never changes, see `_rules`."""
    block: NDArray[np.int64]
    write: NDArray[np.bool_]
    arrivals: NDArray[np.int64]
    returned: NDArray[np.int64]
    commands: NDArray[np.int64]
    bus: Bus
    queues: Queues
    now: NDArray[np.int64]
    ready_at: NDArray[np.int64]
    """(banks,): no bank has anything ready before this clock, nor before the one that `waits_on` points to."""
    waits_on: NDArray[np.uint32]
    """(banks,): where in the flattened clocks of the bus the rank of a bank may move it later."""
    limits: NDArray[np.int64]
    """The flattened clocks of the bus."""
    ranks: NDArray[np.int64]
    totals: NDArray[np.int64]
    per_bank: NDArray[np.int64]
    """(5, banks): activates, precharges, reads, writes and row hits."""


def _queues(part: DramPart, rules: np.record) -> Queues:
    """Return the empty queues of a channel."""
    banks, policy = part.geometry.banks, part.controller
    size = policy.read_queue + policy.write_buffer + banks * policy.bank_queue
    queues = Queues(
        rules,
        np.zeros((size, 8), np.int64),
        np.full(BUCKETS, NONE),
        np.zeros((banks, 16), np.int64),
        np.array([policy.read_queue, policy.write_buffer, 0, 0, 0, 0, 0, 0, 0]),
    )
    queues.requests[:, CHAIN] = np.arange(1, size + 1)
    queues.banks[:, ROW] = -1
    queues.banks[:, HEAD] = NONE
    queues.banks[:, OLDEST : OLDEST + 2] = NONE
    return queues


def _rules(part: DramPart, channel: int, fields: AddressMap, offer: Offer) -> np.record:
    """Return the numbers of a channel that never change as one record, which a kernel takes as one argument."""
    geometry, policy = part.geometry, part.controller
    numbers = part.cycles._asdict() | {
        "channel": channel,
        "banks_per_group": geometry.banks_per_group,
        "banks_per_rank": geometry.banks // geometry.ranks,
        "attempts": 2 if part.dual_command_bus else 1,  # row commands may have a bus of their own
        "refresh_interval": max(part.cycles.refi // geometry.ranks, 1),
        "write_low": policy.write_low,
        "bank_room": policy.bank_queue,
        "hits_before_age": policy.hits_before_age,
        "closed_page": policy.page_policy == "closed",
        "power_down_after": policy.power_down_after_cycles,
        "outstanding": offer.outstanding,
        "min_cycles": offer.min_cycles,
        "clock_ns": float(part.timing.clock_ns),
        "bytes_per_ns": float(offer.bytes_per_ns),
    }
    for name, field in fields._asdict().items():
        numbers |= {f"{name}_shift": field.shift, f"{name}_mask": field.mask}
    types = [(name, np.float64 if isinstance(number, float) else np.int64) for name, number in numbers.items()]
    rules: np.record = np.array([tuple(numbers.values())], types).view(np.recarray)[0]
    return rules


def new_controller(part: DramPart, channel: int, fields: AddressMap, offer: Offer, record: Record) -> Controller:
    """Return a channel in which nothing has happened yet."""
    banks = part.geometry.banks
    rules = _rules(part, channel, fields, offer)
    bus = new_bus(part, rules)
    now = np.zeros(14, np.int64)
    now[[REFRESH_DUE, SELECTED, NEXT_BANK, SOONEST]] = rules.refresh_interval, banks - 1, banks - 1, NEVER
    return Controller(
        rules,
        offer.block,
        offer.write,
        offer.arrivals,
        record.returned,
        record.commands,
        bus,
        _queues(part, rules),
        now,
        ready_at=np.full(banks, NEVER),
        waits_on=(bus.places[:, RANK] * COLUMNS + NOTHING).astype(np.uint32),
        limits=bus.clocks.reshape(-1),
        ranks=np.zeros((part.geometry.ranks, 7), np.int64),
        totals=np.zeros(6, np.int64),
        per_bank=np.zeros((5, banks), np.int64),
    )
