"""The DRAM controller, compiled twin: the same integers as `dram.py`, from event to event instead of clock to clock.

A clock is looked at only if something may happen in it: a bank's earliest next command, a refresh, an arrival with
room, a move between queues, the end. Looking too early does no harm. Constraints only ever move later, so a bank's
earliest time stays a lower bound until its own queue changes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from accelsim.kernels import njit
from accelsim.memory.dram_bus_fast import (
    ACTIVATE,
    COLUMNS,
    NOTHING,
    POWER_UP,
    PRECHARGE,
    READ,
    REFRESH,
    WRITE,
    earliest,
    inlined,
    issue,
    new_clocks,
)
from accelsim.memory.dram_counts import NO_COMMANDS, NONE_GIVEN, ChannelCounts
from accelsim.parts.timed import AddressMap, DramPart

# Columns of a bank: its open row (-1: closed), hits since the activate, its queue: length, writes in it, both ends; and
# what may go next (see _plan): the first hits, which of them is the older, and whether it may close.
ROW, HITS, QUEUED, QUEUED_WRITES, HEAD, TAIL, FIRST_READ, FIRST_WRITE, READ_IS_OLDER, MAY_CLOSE = range(10)
# Columns of a request: its block and row, the reads it answers (0: it is a write), the sum of their clocks of
# acceptance, its number, and the next request in its bucket of pending blocks, and both ways in its queue.
BLOCK, BLOCK_ROW, READERS, ACCEPTED, AGE, CHAIN, AFTER, BEFORE = range(8)
# Totals of a channel.
CYCLES, MERGED_WRITES, MERGED_READS, FORWARDED_READS, RETURNED_READS, LATENCY_CYCLES = range(6)

NEVER = 2**62
NONE = -1
BUCKETS = 1024


@inlined
def _bucket(block):
    return ((block * 0x9E3779B1) >> 16) & (BUCKETS - 1)


@inlined
def _pending(heads, requests, block, is_write):
    """Return the pending request of this kind to this block, or -1."""
    r = heads[_bucket(block)]
    while r >= 0 and not (requests[r, BLOCK] == block and (requests[r, READERS] == 0) == is_write):
        r = requests[r, CHAIN]
    return r


@inlined
def _forget(heads, requests, request):
    """Take a request out of the table of pending blocks."""
    bucket = _bucket(requests[request, BLOCK])
    if heads[bucket] == request:
        heads[bucket] = requests[request, CHAIN]
        return
    before = heads[bucket]
    while requests[before, CHAIN] != request:
        before = requests[before, CHAIN]
    requests[before, CHAIN] = requests[request, CHAIN]


@inlined
def _plan(banks, requests, bank, hit_bound, closed_page):
    """Note what an open bank may do next: its first read hit and first write hit, whether it may close."""
    row = banks[bank, ROW]
    head = banks[bank, HEAD]
    writes = banks[bank, QUEUED_WRITES]
    first_read = NONE
    first_write = NONE
    read_is_older = False
    r = head
    while r >= 0 and (first_read < 0 or (first_write < 0 and writes > 0)):
        if requests[r, BLOCK_ROW] == row:
            if requests[r, READERS] > 0:
                if first_read < 0:
                    first_read = r
                    read_is_older = first_write < 0
            elif first_write < 0:
                # A write waits for an earlier read of its block.
                other = head
                while other != r and not (
                    requests[other, BLOCK] == requests[r, BLOCK] and requests[other, READERS] > 0
                ):
                    other = requests[other, AFTER]
                if other == r:
                    first_write = r
        r = requests[r, AFTER]
    banks[bank, FIRST_READ] = first_read
    banks[bank, FIRST_WRITE] = first_write
    banks[bank, READ_IS_OLDER] = read_is_older
    if head < 0:
        banks[bank, MAY_CLOSE] = closed_page
    else:
        hits_wait = first_read >= 0 or first_write >= 0
        old_enough = not hits_wait or banks[bank, HITS] >= hit_bound
        banks[bank, MAY_CLOSE] = old_enough and requests[head, BLOCK_ROW] != row


@inlined
def _waits_for(banks, clocks, bank, group, rank):
    """Return a clock before which a bank's queue has nothing ready, and where in `clocks` its rank may move it later.

    That is the column of its next command, or of NOTHING where it may go on with one of several.
    """
    if banks[bank, ROW] < 0:
        if banks[bank, QUEUED] == 0:
            return NEVER, rank * COLUMNS + NOTHING
        return earliest(clocks, bank, group, rank, ACTIVATE), rank * COLUMNS + ACTIVATE
    command = NOTHING
    soonest = NEVER
    options = 0
    if banks[bank, FIRST_WRITE] >= 0:
        command = WRITE
        options += 1
        soonest = earliest(clocks, bank, group, rank, WRITE)
    if banks[bank, FIRST_READ] >= 0:
        command = READ
        options += 1
        soonest = min(soonest, earliest(clocks, bank, group, rank, READ))
    if banks[bank, MAY_CLOSE]:
        command = PRECHARGE
        options += 1
        soonest = min(soonest, earliest(clocks, bank, group, rank, PRECHARGE))
    return soonest, rank * COLUMNS + (command if options == 1 else NOTHING)


@inlined
def _first_ready(banks, clocks, bank, group, rank, clock):
    """Return the command that a bank's queue has ready, or NOTHING."""
    command = NOTHING
    if banks[bank, ROW] < 0:
        if banks[bank, QUEUED] > 0 and earliest(clocks, bank, group, rank, ACTIVATE) <= clock:
            command = ACTIVATE
        return command
    if banks[bank, FIRST_WRITE] >= 0 and earliest(clocks, bank, group, rank, WRITE) <= clock:
        command = WRITE
    read_goes = banks[bank, FIRST_READ] >= 0 and (command == NOTHING or banks[bank, READ_IS_OLDER])
    if read_goes and earliest(clocks, bank, group, rank, READ) <= clock:
        command = READ
    if banks[bank, MAY_CLOSE] and earliest(clocks, bank, group, rank, PRECHARGE) <= clock:
        command = PRECHARGE
    return command


@inlined
def _next_bank(pointer, ready_at, waits_on, limits, blocked, blocked_end, clock):
    """Return the bank whose turn is next, round robin after the last selected, and when: not before this clock."""
    found = pointer
    soonest = NEVER
    n_banks = ready_at.size
    bank = pointer
    some_blocked = blocked < blocked_end
    for _ in range(n_banks):
        bank = bank + 1 if bank + 1 < n_banks else 0
        if some_blocked and blocked <= bank < blocked_end:
            continue
        ready = max(ready_at[bank], limits[waits_on[bank]], clock)
        if ready < soonest:
            soonest = ready
            found = bank
    return found, soonest


@inlined
def _oldest_movable(likely, movable, kind, banks, oldest, waiting, requests, bank_room):
    """Return the bank of the oldest transaction of a kind whose bank queue has room; there is one."""
    if waiting[likely, kind] == movable and banks[likely, QUEUED] < bank_room:
        return likely
    found = likely
    age = NEVER
    for bank in range(banks.shape[0]):
        r = oldest[bank, kind]
        if r >= 0 and banks[bank, QUEUED] < bank_room and requests[r, AGE] < age:
            age = requests[r, AGE]
            found = bank
    return found


@inlined
def _has_work(rank, banks, open_banks, refreshing, closed_page):
    """Return whether a rank has a request in a bank queue, a refresh to do or a row to close."""
    banks_per_rank = banks.shape[0] // open_banks.size
    for bank in range(rank * banks_per_rank, (rank + 1) * banks_per_rank):
        if banks[bank, QUEUED] > 0:
            return True
    return rank == refreshing or (closed_page and open_banks[rank] > 0)


@inlined
def _arrival(i, offered_bytes_per_ns, clock_ns, arrivals):
    """Return the clock in which request number i is offered."""
    if i < arrivals.size:
        return arrivals[i]
    return np.int64(i * 64 / offered_bytes_per_ns / clock_ns) if offered_bytes_per_ns > 0 else np.int64(0)


@inlined
def _of_channel(block, i, field, channel):
    """Return the first request from number i on that goes to this channel."""
    while i < block.size and ((block[i] >> field[0]) & field[1]) != channel:
        i += 1
    return i


@njit(cache=True, nogil=True)
def replay_channel(
    block, write, channel, offered_bytes_per_ns, arrivals, outstanding, clock_ns, c, shape, fields, controller,
    min_cycles, returned, commands,
):  # fmt: skip
    """Replay the requests of one channel.

    block (n,) int64, write (n,) bool: the trace of all channels; offered_bytes_per_ns: 0 where saturated; arrivals
    (n,): the clocks in which requests are offered instead, or empty; outstanding: no read is offered before the one so
    many before it was answered, 0: no bound; c: Cycles; shape: banks, groups, ranks, dual
    command bus; fields: AddressMap; controller: its depths and policies; min_cycles: the channel is kept running so
    long; returned (n,): filled with the clock in which each read was answered, one merged with another left out, or
    empty; commands (m, 3): filled with clock, command and bank of each command, up to so many. Returns totals (6,), per
    bank (5, banks): activates, precharges, reads, writes, row hits, and per rank (5, ranks): refreshes, clocks with an
    open row, clocks without, and those of both in which it was powered down.
    """
    n_banks, n_groups, n_ranks, dual = shape
    read_room, write_room, write_low, bank_room, hit_bound, closed_page, power_down_after = controller
    row_field, bank_field, group_field, _, rank_field, channel_field = fields
    banks_per_group = n_banks // n_groups
    banks_per_rank = n_banks // n_ranks
    first_rank = n_banks + n_groups
    clocks, activates = new_clocks(n_banks, n_groups, n_ranks)
    group_of = np.zeros(n_banks, np.int64)
    rank_of = np.zeros(n_banks, np.int64)

    banks = np.zeros((n_banks, 16), np.int64)
    # A bank has nothing ready before `ready_at`, nor before the earliest clock in its rank that `waits_on` points to.
    ready_at = np.full(n_banks, NEVER)
    waits_on = np.zeros(n_banks, np.uint32)
    limits = clocks.reshape(-1)
    for bank in range(n_banks):
        group_of[bank] = n_banks + bank // banks_per_group
        rank_of[bank] = first_rank + bank // banks_per_rank
        banks[bank, ROW] = -1
        banks[bank, HEAD] = NONE
        waits_on[bank] = rank_of[bank] * COLUMNS + NOTHING
    open_banks = np.zeros(n_ranks, np.int64)

    size = read_room + write_room + n_banks * bank_room
    requests = np.zeros((size, 8), np.int64)
    heads = np.full(BUCKETS, -1, np.int64)
    free = np.arange(size)
    n_free = size

    # Transaction queues, 0: reads, 1: writes: of each bank the oldest and newest, and how many. Movable: those of them
    # whose bank queue has room.
    room = (read_room, write_room)
    oldest = np.full((n_banks, 2), NONE)
    newest = np.full((n_banks, 2), NONE)
    waiting = np.zeros((n_banks, 2), np.int64)
    length = np.zeros(2, np.int64)
    movable = np.zeros(2, np.int64)
    likely = 0  # the bank whose transactions are the movable ones, most of the time

    totals = np.zeros(6, np.int64)
    per_bank = np.zeros((5, n_banks), np.int64)
    per_rank = np.zeros((5, n_ranks), np.int64)
    idle_since = np.zeros(n_ranks, np.int64)

    n = block.size
    i = _of_channel(block, 0, channel_field, channel)
    arrival = _arrival(i, offered_bytes_per_ns, clock_ns, arrivals)

    refresh_interval = max(c.refi // n_ranks, 1)
    refresh_due = refresh_interval
    refreshes_pending = 0
    refresh_rank = 0
    pointer = n_banks - 1
    drain = 0
    in_bank_queues = 0
    pending_reads = 0
    unanswered = 0  # the first read that was not
    last_return = 0
    # The bank from whose queue the next command comes, and a lower bound on when; stale where something changed since.
    bank_next = pointer
    soonest = NEVER
    stale = False
    clock = 0
    n_commands = 0
    while True:
        # Specification: Refresh.tick.
        if clock == refresh_due:
            refreshes_pending += 1
            refresh_due += refresh_interval
            stale = True
            if power_down_after > 0 and idle_since[refresh_rank] < NEVER:
                if idle_since[refresh_rank] + power_down_after <= clock:
                    issue(clocks, activates, c, 0, n_banks, first_rank + refresh_rank, n_ranks, POWER_UP, clock)
                idle_since[refresh_rank] = NEVER
        # Specification: Controller.refresh_command.
        command = NOTHING
        refresh_ready = NEVER
        blocked = blocked_end = n_banks
        if refreshes_pending > 0:
            rank = first_rank + refresh_rank
            blocked = refresh_rank * banks_per_rank
            blocked_end = blocked + banks_per_rank
            if open_banks[refresh_rank] == 0:
                refresh_ready = clocks[rank, REFRESH]
                if refresh_ready <= clock:
                    command = REFRESH
                    issue(clocks, activates, c, blocked, n_banks, rank, n_ranks, REFRESH, clock)
                    if n_commands < len(commands):
                        commands[n_commands] = (clock, REFRESH, blocked)
                        n_commands += 1
                    per_rank[0, refresh_rank] += 1
                    refreshes_pending -= 1
                    refresh_rank = (refresh_rank + 1) % n_ranks
                    blocked = refresh_rank * banks_per_rank if refreshes_pending > 0 else n_banks
                    blocked_end = blocked + banks_per_rank
                    stale = True
            else:
                for bank in range(blocked, blocked + banks_per_rank):
                    if banks[bank, ROW] < 0:
                        continue
                    ready = earliest(clocks, bank, group_of[bank], rank, PRECHARGE)
                    refresh_ready = min(refresh_ready, ready)
                    if ready <= clock:
                        command = PRECHARGE
                        issue(clocks, activates, c, bank, group_of[bank], rank, n_ranks, PRECHARGE, clock)
                        if n_commands < len(commands):
                            commands[n_commands] = (clock, PRECHARGE, bank)
                            n_commands += 1
                        per_bank[PRECHARGE, bank] += 1
                        banks[bank, ROW] = -1
                        banks[bank, HITS] = 0
                        ready_at[bank], waits_on[bank] = _waits_for(banks, clocks, bank, group_of[bank], rank)
                        open_banks[refresh_rank] -= 1
                        break

        # Specification: Controller.queue_command, twice where row commands have a bus of their own.
        attempts = 0
        if command == NOTHING:
            attempts = 2 if dual else 1
        elif dual:
            attempts = 1
        before = command
        while attempts > 0:
            if stale:
                bank_next, soonest = _next_bank(pointer, ready_at, waits_on, limits, blocked, blocked_end, clock)
                stale = False
            if soonest > clock:
                break
            bank = bank_next
            group = group_of[bank]
            rank = rank_of[bank]
            stale = True
            kind = _first_ready(banks, clocks, bank, group, rank, clock)
            if kind != NOTHING:
                attempts -= 1
                pointer = bank
                is_column = kind in (READ, WRITE)
                if before != NOTHING and is_column == (before in (READ, WRITE)):
                    break
                before = kind
                issue(clocks, activates, c, bank, group, rank, n_ranks, kind, clock)
                if n_commands < len(commands):
                    commands[n_commands] = (clock, kind, bank)
                    n_commands += 1
                per_bank[kind, bank] += 1
                if kind == PRECHARGE:
                    banks[bank, ROW] = -1
                    banks[bank, HITS] = 0
                    open_banks[rank - first_rank] -= 1
                else:
                    if kind == ACTIVATE:
                        banks[bank, ROW] = requests[banks[bank, HEAD], BLOCK_ROW]
                        open_banks[rank - first_rank] += 1
                    else:
                        r = banks[bank, FIRST_READ] if kind == READ else banks[bank, FIRST_WRITE]
                        if kind == READ:
                            if returned.size:
                                returned[requests[r, AGE]] = clock + c.read_latency
                            last_return = max(last_return, clock + c.read_latency)
                            totals[RETURNED_READS] += requests[r, READERS]
                            totals[LATENCY_CYCLES] += (
                                requests[r, READERS] * (clock + c.read_latency) - requests[r, ACCEPTED]
                            )
                            pending_reads -= 1
                        else:
                            banks[bank, QUEUED_WRITES] -= 1
                        per_bank[4, bank] += banks[bank, HITS] > 0
                        banks[bank, HITS] += 1
                        if banks[bank, QUEUED] == bank_room:
                            movable[0] += waiting[bank, 0]
                            movable[1] += waiting[bank, 1]
                            likely = bank
                        banks[bank, QUEUED] -= 1
                        in_bank_queues -= 1
                        r_before, r_after = requests[r, BEFORE], requests[r, AFTER]
                        if r_before >= 0:
                            requests[r_before, AFTER] = r_after
                        else:
                            banks[bank, HEAD] = r_after
                        if r_after >= 0:
                            requests[r_after, BEFORE] = r_before
                        else:
                            banks[bank, TAIL] = r_before
                        _forget(heads, requests, r)
                        free[n_free] = r
                        n_free += 1
                    _plan(banks, requests, bank, hit_bound, closed_page)
            ready_at[bank], waits_on[bank] = _waits_for(banks, clocks, bank, group, rank)

        # Specification: Controller.schedule.
        if drain == 0 and (length[1] == room[1] or (length[1] > write_low and in_bank_queues == 0)):
            drain = length[1]
        active = 1 if drain > 0 else 0
        if movable[active] > 0:
            bank = _oldest_movable(likely, movable[active], active, banks, oldest, waiting, requests, bank_room)
            moves = True
            if active == 1:
                if _pending(heads, requests, requests[oldest[bank, 1], BLOCK], 0) >= 0:
                    drain = 0
                    active = 0
                    moves = in_bank_queues == 0 and (length[1] == room[1] or length[1] > write_low)
                    if moves:
                        bank = _oldest_movable(likely, movable[0], 0, banks, oldest, waiting, requests, bank_room)
                else:
                    drain -= 1
            if moves:
                r = oldest[bank, active]
                oldest[bank, active] = requests[r, AFTER]
                length[active] -= 1
                waiting[bank, active] -= 1
                movable[active] -= 1
                tail = banks[bank, TAIL]
                changes = banks[bank, QUEUED] == 0
                if changes:
                    banks[bank, HEAD] = r
                else:
                    requests[tail, AFTER] = r
                requests[r, BEFORE] = NONE if changes else tail
                requests[r, AFTER] = NONE
                banks[bank, TAIL] = r
                banks[bank, QUEUED] += 1
                banks[bank, QUEUED_WRITES] += active
                in_bank_queues += 1
                if banks[bank, QUEUED] == bank_room:
                    movable[0] -= waiting[bank, 0]
                    movable[1] -= waiting[bank, 1]
                # Only the first entry, or the first hit of its kind, changes what the bank may do next.
                if banks[bank, ROW] >= 0:
                    if requests[r, BLOCK_ROW] == banks[bank, ROW]:
                        changes |= banks[bank, FIRST_WRITE if active else FIRST_READ] < 0
                    if changes:
                        _plan(banks, requests, bank, hit_bound, closed_page)
                if changes:
                    rank = rank_of[bank]
                    ready_at[bank], waits_on[bank] = _waits_for(banks, clocks, bank, group_of[bank], rank)
                    stale = True

        # Specification: Controller.accept.
        while outstanding > 0 and unanswered < i and 0 < returned[unanswered] <= clock:
            unanswered += 1
        if i < n and arrival <= clock and (outstanding == 0 or i < unanswered + outstanding):
            kind = 1 if write[i] else 0
            if length[kind] < room[kind]:
                here = block[i]
                pending_write = _pending(heads, requests, here, 1)
                if pending_write >= 0:
                    if kind == 1:
                        totals[MERGED_WRITES] += 1
                    else:
                        totals[FORWARDED_READS] += 1
                        totals[RETURNED_READS] += 1
                        totals[LATENCY_CYCLES] += 1
                        last_return = max(last_return, clock + 1)
                        if returned.size:
                            returned[i] = clock + 1
                else:
                    pending_read = -1 if kind == 1 else _pending(heads, requests, here, 0)
                    if pending_read >= 0:
                        totals[MERGED_READS] += 1
                        requests[pending_read, READERS] += 1
                        requests[pending_read, ACCEPTED] += clock
                    else:
                        n_free -= 1
                        r = free[n_free]
                        group = ((here >> rank_field[0]) & rank_field[1]) * (group_field[1] + 1) + (
                            (here >> group_field[0]) & group_field[1]
                        )
                        bank = group * banks_per_group + ((here >> bank_field[0]) & bank_field[1])
                        bucket = _bucket(here)
                        requests[r, BLOCK] = here
                        requests[r, BLOCK_ROW] = (here >> row_field[0]) & row_field[1]
                        requests[r, READERS] = 1 - kind
                        requests[r, ACCEPTED] = clock
                        requests[r, AGE] = i
                        requests[r, AFTER] = NONE
                        requests[r, CHAIN] = heads[bucket]
                        heads[bucket] = r
                        if waiting[bank, kind] == 0:
                            oldest[bank, kind] = r
                        else:
                            requests[newest[bank, kind], AFTER] = r
                        newest[bank, kind] = r
                        waiting[bank, kind] += 1
                        length[kind] += 1
                        if banks[bank, QUEUED] < bank_room:
                            movable[kind] += 1
                            likely = bank
                        pending_reads += 1 - kind
                i = _of_channel(block, i + 1, channel_field, channel)
                arrival = _arrival(i, offered_bytes_per_ns, clock_ns, arrivals)

        # Specification: Controller.power, for the next clock.
        if power_down_after > 0:
            for rank in range(n_ranks):
                if idle_since[rank] + power_down_after - 1 <= clock:
                    per_rank[3 if open_banks[rank] > 0 else 4, rank] += 1
                refreshing = refresh_rank if refreshes_pending > 0 else n_ranks
                if not _has_work(rank, banks, open_banks, refreshing, closed_page):
                    idle_since[rank] = min(idle_since[rank], clock + 1)
                else:
                    if idle_since[rank] + power_down_after <= clock + 1:
                        issue(clocks, activates, c, 0, n_banks, first_rank + rank, n_ranks, POWER_UP, clock + 1)
                    idle_since[rank] = NEVER

        # The end, or the next clock in which anything may happen.
        if stale or soonest <= clock:
            bank_next, soonest = _next_bank(pointer, ready_at, waits_on, limits, blocked, blocked_end, clock + 1)
            stale = False
        next_clock = min(refresh_due, refresh_ready, soonest)
        ended = False
        if i < n:
            kind = 1 if write[i] else 0
            if outstanding > 0 and i >= unanswered + outstanding:
                if returned[unanswered] > 0:
                    next_clock = min(next_clock, returned[unanswered])
            elif length[kind] < room[kind]:
                next_clock = min(next_clock, arrival)
        elif pending_reads == 0:
            end = max(last_return, min_cycles - 1)
            ended = clock >= end
            next_clock = min(next_clock, end)
        if drain > 0:
            moves_next = movable[1] > 0
        else:
            moves_next = movable[0] > 0 or length[1] == room[1] or (length[1] > write_low and in_bank_queues == 0)
        if moves_next or ended:
            next_clock = clock + 1
        next_clock = max(next_clock, clock + 1)
        for rank in range(n_ranks):
            per_rank[1 if open_banks[rank] > 0 else 2, rank] += next_clock - clock
            if power_down_after > 0:
                powered_down = max(clock + 1, idle_since[rank] + power_down_after - 1)
                per_rank[3 if open_banks[rank] > 0 else 4, rank] += max(next_clock - powered_down, 0)
        if ended:
            break
        clock = next_clock
    totals[CYCLES] = clock + 1
    return totals, per_bank, per_rank


def run(
    part: DramPart,
    block: NDArray[np.int64],
    write: NDArray[np.bool_],
    channel: int,
    fields: AddressMap,
    offered_bytes_per_ns: float,
    min_cycles: int = 0,
    arrivals: NDArray[np.int64] = NONE_GIVEN,
    outstanding: int = 0,
    returned: NDArray[np.int64] = NONE_GIVEN,
    commands: NDArray[np.int64] = NO_COMMANDS,
) -> ChannelCounts:
    """Replay the requests of one channel; the signature and answer of `dram.run`."""
    geometry, policy = part.geometry, part.controller
    totals, per_bank, per_rank = replay_channel(
        block,
        write,
        channel,
        offered_bytes_per_ns,
        arrivals,
        outstanding,
        part.timing.clock_ns,
        part.cycles,
        (geometry.banks, geometry.groups, geometry.ranks, part.dual_command_bus),
        fields,
        (
            policy.read_queue,
            policy.write_buffer,
            policy.write_low,
            policy.bank_queue,
            policy.hits_before_age,
            policy.page_policy == "closed",
            policy.power_down_after_cycles,
        ),
        min_cycles,
        returned,
        commands,
    )
    rows = [tuple(row) for row in (*per_bank.tolist(), *per_rank.tolist())]
    return ChannelCounts(*totals.tolist(), *rows)
