"""The DRAM controller, compiled twin: the same integers as `dram.py`, from event to event instead of clock to clock.

A clock is looked at only if something may happen in it: a bank's earliest next command, a refresh, an arrival with
room, a move between queues, the end. Looking too early does no harm. Constraints only ever move later, so a bank's
earliest time stays a lower bound until its own queue changes.
"""

from __future__ import annotations

import numpy as np
from numba import njit

ACTIVATE, PRECHARGE, READ, WRITE, REFRESH, NOTHING = 0, 1, 2, 3, 4, 5
NEVER = 2**62
BUCKETS = 1024
NOT_QUEUED = 2**30


@njit(cache=True)
def new_clocks(banks, groups, ranks):
    """Return the earliest clock of each command (columns) as each bank, then group, then rank has it (rows)."""
    return np.zeros((banks + groups + ranks, 5), np.int64), np.zeros((ranks, 1 + 4 + 32), np.int64)


@njit(cache=True)
def earliest(clocks, bank, group, rank, command):
    """Return the first clock in which the constraints allow this command; group and rank are rows of `clocks`."""
    return max(clocks[bank, command], clocks[group, command], clocks[rank, command])


@njit(cache=True)
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


@njit(cache=True)
def bits(size):
    n = 0
    while size > 1 << n:
        n += 1
    return n


@njit(cache=True)
def _bucket(block):
    return ((block * 0x9E3779B1) >> 16) & (BUCKETS - 1)


@njit(cache=True)
def _find(heads, chain, slot_block, slot_write, block, write):
    """Return the slot of a pending request of this kind to this block, or -1."""
    slot = heads[_bucket(block)]
    while slot >= 0 and not (slot_block[slot] == block and slot_write[slot] == write):
        slot = chain[slot]
    return slot


@njit(cache=True)
def _forget(heads, chain, block, slot):
    bucket = _bucket(block)
    if heads[bucket] == slot:
        heads[bucket] = chain[slot]
        return
    before = heads[bucket]
    while chain[before] != slot:
        before = chain[before]
    chain[before] = chain[slot]


@njit(cache=True)
def _plan(plan, bank, row, hits, hit_bound, queued, queue_slot, queue_row, slot_block, slot_write):
    """Note which entries of an open bank's queue may go next: first read hit, first write hit, precharge for the head.

    plan[bank] holds the position of each or NOT_QUEUED; what is ready among them goes in the order of the positions.
    """
    first_read = NOT_QUEUED
    first_write = NOT_QUEUED
    for k in range(queued):
        if queue_row[bank, k] != row:
            continue
        slot = queue_slot[bank, k]
        if not slot_write[slot]:
            first_read = min(first_read, k)
        elif first_write == NOT_QUEUED:
            depends = False
            for earlier in range(k):
                other = queue_slot[bank, earlier]
                depends |= slot_block[other] == slot_block[slot] and not slot_write[other]
            if not depends:
                first_write = k
        if first_read != NOT_QUEUED and first_write != NOT_QUEUED:
            break
    plan[bank, 0] = first_read
    plan[bank, 1] = first_write
    no_hits = first_read == NOT_QUEUED and first_write == NOT_QUEUED
    plan[bank, 2] = queued > 0 and queue_row[bank, 0] != row and (no_hits or hits >= hit_bound)


@njit(cache=True, nogil=True)
def replay_channel(block, write, channel, offered_bytes_per_ns, clock_ns, c, shape, fields, controller, min_cycles):
    """Replay one channel's part of a trace."""
    banks, groups, ranks, dual = shape
    read_room, write_room, write_low, bank_room, hit_bound, closed_page = controller
    row_field, bank_field, group_field, _, rank_field, channel_field = fields
    banks_per_group = banks // groups
    banks_per_rank = banks // ranks
    groups_per_rank = groups // ranks
    group_shift = bits(banks_per_group)
    rank_shift = bits(banks_per_rank)
    clocks, activates = new_clocks(banks, groups, ranks)
    first_rank = banks + groups

    open_row = np.full(banks, -1, np.int64)
    hits = np.zeros(banks, np.int64)
    queued = np.zeros(banks, np.int64)
    queue_slot = np.zeros((banks, bank_room), np.int64)
    queue_row = np.zeros((banks, bank_room), np.int64)
    plan = np.zeros((banks, 3), np.int64)
    bank_ready = np.full(banks, NEVER, np.int64)
    open_banks = np.zeros(ranks, np.int64)

    slots = read_room + write_room + banks * bank_room
    slot_block = np.zeros(slots, np.int64)
    slot_row = np.zeros(slots, np.int64)
    slot_bank = np.zeros(slots, np.int64)
    slot_write = np.zeros(slots, np.bool_)
    slot_reads = np.zeros(slots, np.int64)
    slot_accepted = np.zeros(slots, np.int64)
    chain = np.full(slots, -1, np.int64)
    heads = np.full(BUCKETS, -1, np.int64)
    free_slots = np.arange(slots)
    free_count = slots

    room = np.array([read_room, write_room])
    waiting = np.zeros((2, max(read_room, write_room)), np.int64)
    length = np.zeros(2, np.int64)
    waiting_for = np.zeros((2, banks), np.int64)
    movable = np.zeros(2, np.int64)

    per_bank = np.zeros((5, banks), np.int64)
    per_rank = np.zeros((3, ranks), np.int64)
    totals = np.zeros(6, np.int64)

    n = block.size
    i = 0
    while i < n and ((block[i] >> channel_field[0]) & channel_field[1]) != channel:
        i += 1
    saturated = offered_bytes_per_ns <= 0
    arrival = np.int64(0)
    if i < n and not saturated:
        arrival = np.int64(i * 64 / offered_bytes_per_ns / clock_ns)

    refresh_interval = max(c.refi // ranks, 1)
    refresh_due = refresh_interval
    refresh_pending = 0
    refresh_rank = 0
    pointer = banks - 1
    drain = 0
    in_bank_queues = 0
    pending_reads = 0
    last_return = np.int64(0)
    clock = np.int64(0)
    while True:
        # Refresh due.
        if clock == refresh_due:
            refresh_pending += 1
            refresh_due += refresh_interval
        # Issue.
        first_blocked = refresh_rank * banks_per_rank if refresh_pending > 0 else banks
        last_blocked = first_blocked + banks_per_rank if refresh_pending > 0 else banks
        command = NOTHING
        next_command = NEVER
        if refresh_pending > 0:
            if open_banks[refresh_rank] == 0:
                ready = clocks[first_rank + refresh_rank, REFRESH]
                if ready <= clock:
                    command = REFRESH
                    issue(clocks, activates, c, first_blocked, banks, first_rank + refresh_rank, ranks, REFRESH, clock)
                    per_rank[0, refresh_rank] += 1
                    refresh_pending -= 1
                    refresh_rank = (refresh_rank + 1) % ranks
                    next_command = clock + 1
                    first_blocked = banks
                    last_blocked = banks
                else:
                    next_command = min(next_command, ready)
            else:
                for bank in range(first_blocked, last_blocked):
                    if open_row[bank] >= 0:
                        ready = earliest(clocks, bank, banks + bank // banks_per_group, first_rank + refresh_rank, PRECHARGE)
                        if ready <= clock:
                            command = PRECHARGE
                            issue(clocks, activates, c, bank, banks + bank // banks_per_group, first_rank + refresh_rank, ranks, PRECHARGE, clock)
                            per_bank[PRECHARGE, bank] += 1
                            open_row[bank] = -1
                            hits[bank] = 0
                            bank_ready[bank] = 0 if queued[bank] > 0 else NEVER
                            open_banks[refresh_rank] -= 1
                            next_command = clock + 1
                            break
                        next_command = min(next_command, ready)
        first_command = command
        for attempt in range(2):
            if attempt == 1 and (not dual or first_command == NOTHING):
                break
            if attempt == 0 and first_command != NOTHING:
                continue
            command = NOTHING
            for step in range(1, banks + 1):
                bank = pointer + step
                if bank >= banks:
                    bank -= banks
                if bank >= first_blocked and bank < last_blocked:
                    continue
                if bank_ready[bank] > clock:
                    next_command = min(next_command, bank_ready[bank])
                    continue
                group = banks + (bank >> group_shift)
                rank = first_rank + (bank >> rank_shift)
                soonest = NEVER
                position = 0
                row = open_row[bank]
                if row < 0:
                    soonest = earliest(clocks, bank, group, rank, ACTIVATE) if queued[bank] > 0 else NEVER
                    if soonest <= clock:
                        command = ACTIVATE
                else:
                    if plan[bank, 2]:
                        soonest = earliest(clocks, bank, group, rank, PRECHARGE)
                        if soonest <= clock:
                            command = PRECHARGE
                    if command == NOTHING:
                        first_read = plan[bank, 0]
                        first_write = plan[bank, 1]
                        position = NOT_QUEUED
                        if first_read != NOT_QUEUED:
                            ready = earliest(clocks, bank, group, rank, READ)
                            soonest = min(soonest, ready)
                            if ready <= clock:
                                command = READ
                                position = first_read
                        if first_write < position:
                            ready = earliest(clocks, bank, group, rank, WRITE)
                            soonest = min(soonest, ready)
                            if ready <= clock:
                                command = WRITE
                                position = first_write
                if command == NOTHING:
                    bank_ready[bank] = soonest
                    next_command = min(next_command, soonest)
                    continue
                pointer = bank
                if attempt == 1 and (command in (READ, WRITE)) == (first_command in (READ, WRITE)):
                    break
                next_command = clock + 1
                issue(clocks, activates, c, bank, group, rank, ranks, command, clock)
                per_bank[command, bank] += 1
                if command == ACTIVATE:
                    open_row[bank] = queue_row[bank, 0]
                    open_banks[rank - first_rank] += 1
                elif command == PRECHARGE:
                    open_row[bank] = -1
                    hits[bank] = 0
                    open_banks[rank - first_rank] -= 1
                else:
                    slot = queue_slot[bank, position]
                    if command == READ:
                        last_return = max(last_return, clock + c.read_latency)
                        totals[3] += slot_reads[slot] * (clock + c.read_latency) - slot_accepted[slot]
                        pending_reads -= 1
                    if hits[bank] > 0:
                        per_bank[4, bank] += 1
                    hits[bank] += 1
                    if queued[bank] == bank_room:
                        movable[0] += waiting_for[0, bank]
                        movable[1] += waiting_for[1, bank]
                    queued[bank] -= 1
                    in_bank_queues -= 1
                    for k in range(position, queued[bank]):
                        queue_slot[bank, k] = queue_slot[bank, k + 1]
                        queue_row[bank, k] = queue_row[bank, k + 1]
                    _forget(heads, chain, slot_block[slot], slot)
                    free_slots[free_count] = slot
                    free_count += 1
                if command != PRECHARGE:
                    _plan(plan, bank, open_row[bank], hits[bank], hit_bound, queued[bank], queue_slot, queue_row, slot_block, slot_write)
                    plan[bank, 2] = plan[bank, 2] or (closed_page and queued[bank] == 0)
                bank_ready[bank] = clock + 1
                break
            if attempt == 0:
                first_command = command

        # Schedule one transaction.
        if drain == 0 and (length[1] == room[1] or (length[1] > write_low and in_bank_queues == 0)):
            drain = length[1]
        active = 1 if drain > 0 else 0
        if movable[active] > 0:
            for k in range(length[active]):
                if queued[slot_bank[waiting[active, k]]] < bank_room:
                    break
            slot = waiting[active, k]
            if active == 1 and _find(heads, chain, slot_block, slot_write, slot_block[slot], False) >= 0:
                drain = 0
                # The reference waits for ever here; let the oldest read go instead.
                if in_bank_queues == 0 and (length[1] == room[1] or length[1] > write_low):
                    active = 0
                    k = 0
                    slot = waiting[0, 0]
                else:
                    slot = -1
            elif active == 1:
                drain -= 1
            if slot >= 0:
                bank = slot_bank[slot]
                length[active] -= 1
                for j in range(k, length[active]):
                    waiting[active, j] = waiting[active, j + 1]
                waiting_for[active, bank] -= 1
                movable[active] -= 1
                queue_slot[bank, queued[bank]] = slot
                queue_row[bank, queued[bank]] = slot_row[slot]
                queued[bank] += 1
                in_bank_queues += 1
                if open_row[bank] >= 0:
                    _plan(plan, bank, open_row[bank], hits[bank], hit_bound, queued[bank], queue_slot, queue_row, slot_block, slot_write)
                bank_ready[bank] = clock + 1
                next_command = clock + 1
                if queued[bank] == bank_room:
                    movable[0] -= waiting_for[0, bank]
                    movable[1] -= waiting_for[1, bank]

        # Accept one request.
        if i < n and arrival <= clock:
            kind = 1 if write[i] else 0
            if length[kind] < room[kind]:
                here = np.int64(block[i])
                pending_write = _find(heads, chain, slot_block, slot_write, here, True)
                pending_read = -1 if kind == 1 else _find(heads, chain, slot_block, slot_write, here, False)
                if pending_write >= 0:
                    totals[0 if kind == 1 else 1] += 1
                    if kind == 0:
                        last_return = max(last_return, clock + 1)
                        totals[3] += 1
                        totals[4] += 1
                elif pending_read >= 0:
                    totals[2] += 1
                    totals[4] += 1
                    slot_reads[pending_read] += 1
                    slot_accepted[pending_read] += clock
                else:
                    free_count -= 1
                    slot = free_slots[free_count]
                    group = ((here >> rank_field[0]) & rank_field[1]) * groups_per_rank + (
                        (here >> group_field[0]) & group_field[1]
                    )
                    bank = group * banks_per_group + ((here >> bank_field[0]) & bank_field[1])
                    slot_block[slot] = here
                    slot_row[slot] = (here >> row_field[0]) & row_field[1]
                    slot_bank[slot] = bank
                    slot_write[slot] = kind == 1
                    slot_reads[slot] = 1
                    slot_accepted[slot] = clock
                    bucket = _bucket(here)
                    chain[slot] = heads[bucket]
                    heads[bucket] = slot
                    waiting[kind, length[kind]] = slot
                    length[kind] += 1
                    waiting_for[kind, bank] += 1
                    if queued[bank] < bank_room:
                        movable[kind] += 1
                    if kind == 0:
                        pending_reads += 1
                        totals[4] += 1
                i += 1
                while i < n and ((block[i] >> channel_field[0]) & channel_field[1]) != channel:
                    i += 1
                if i < n and not saturated:
                    arrival = np.int64(i * 64 / offered_bytes_per_ns / clock_ns)

        # The end, or the next clock in which anything may happen.
        done = i == n and pending_reads == 0
        if done and clock >= last_return and clock + 1 >= min_cycles:
            next_clock = clock + 1
        else:
            next_clock = min(next_command, refresh_due)
            if done:
                next_clock = min(next_clock, max(last_return, min_cycles - 1))
            if i < n and length[1 if write[i] else 0] < room[1 if write[i] else 0]:
                next_clock = min(next_clock, arrival)
            starts = drain == 0 and (length[1] == room[1] or (length[1] > write_low and in_bank_queues == 0))
            if starts or movable[1 if drain > 0 else 0] > 0:
                next_clock = clock + 1
            next_clock = max(next_clock, clock + 1)
        for rank in range(ranks):
            per_rank[1 if open_banks[rank] > 0 else 2, rank] += next_clock - clock
        if done and clock >= last_return and clock + 1 >= min_cycles:
            break
        clock = next_clock
    totals[5] = clock + 1
    return totals, per_bank, per_rank
