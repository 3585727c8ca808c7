"""The DRAM controller, compiled twin: the same integers as `dram.py`, from event to event instead of clock to clock.

A clock is looked at only if something may happen in it: a bank's earliest next command, a refresh, an arrival with
room, a move between queues, the end. Looking too early does no harm. Constraints only ever move later, so a bank's
earliest time stays a lower bound until its own queue changes.
"""

from __future__ import annotations

import numpy as np

from accelsim.kernels import inlined, uncounted
from accelsim.memory.dram_bus_fast import COLUMNS, POWER_UP, issue
from accelsim.memory.dram_commands_fast import find_next, queue_commands, refresh_command, tick, wait
from accelsim.memory.dram_counts import UNRECORDED, ChannelCounts, Offer, Record
from accelsim.memory.dram_queues_fast import add, move, oldest_with_room, pending, plan
from accelsim.memory.dram_state_fast import (
    ACCEPTED,
    ARRIVAL,
    BLOCK,
    CLOSED,
    CLOSED_DOWN,
    CYCLES,
    DRAINING,
    FORWARDED_READS,
    IDLE_SINCE,
    IN_BANKS,
    LAST_RETURN,
    LATENCY_CYCLES,
    LENGTH,
    MERGED_READS,
    MERGED_WRITES,
    MOVABLE,
    NEVER,
    NONE,
    OLDEST,
    OPEN,
    OPEN_BANKS,
    OPEN_DOWN,
    PENDING_READS,
    QUEUED,
    READERS,
    READS,
    REFRESH_DUE,
    REFRESH_RANK,
    REFRESHES,
    REQUEST,
    RETURNED_READS,
    ROOM,
    ROW,
    SOONEST,
    STALE,
    UNANSWERED,
    WRITES,
    new_controller,
)
from accelsim.parts.timed import BLOCK_BYTES, AddressMap, DramPart


@inlined
def _drain_is_due(controller):
    """Whether the write buffer is full, or full enough with nothing else to do."""
    queues, rules = controller.queues, controller.rules
    buffered = queues.sizes[LENGTH + WRITES]
    return buffered == queues.sizes[ROOM + WRITES] or (buffered > rules.write_low and queues.sizes[IN_BANKS] == 0)


@inlined
def _schedule(controller):
    """Move the oldest transaction whose bank queue has room; writes wait until they are drained together."""
    # Specification: Controller.schedule.
    now, queues = controller.now, controller.queues
    if now[DRAINING] == 0 and _drain_is_due(controller):
        now[DRAINING] = queues.sizes[LENGTH + WRITES]
    is_write = WRITES if now[DRAINING] > 0 else READS
    if queues.sizes[MOVABLE + is_write] == 0:
        return
    bank = oldest_with_room(queues, is_write)
    if is_write:
        if pending(queues, queues.requests[queues.banks[bank, OLDEST + WRITES], BLOCK], READS) >= 0:
            now[DRAINING] = 0
            if queues.sizes[IN_BANKS] > 0 or not _drain_is_due(controller):
                return
            is_write = READS
            bank = oldest_with_room(queues, is_write)
        else:
            now[DRAINING] -= 1
    if move(queues, bank, is_write):
        if queues.banks[bank, ROW] >= 0:
            plan(queues, bank)
        wait(controller, bank)
        now[STALE] = True


@inlined
def _next_request(controller, i):
    """Turn to the first request from number i on that goes to this channel."""
    # Specification: requests_of.
    rules = controller.rules
    while (
        i < controller.block.size
        and ((controller.block[i] >> rules.channel_shift) & rules.channel_mask) != rules.channel
    ):
        i += 1
    controller.now[REQUEST] = i
    # Specification: arrival_clock.
    if i < controller.arrivals.size:
        controller.now[ARRIVAL] = controller.arrivals[i]
    elif rules.bytes_per_ns > 0:
        controller.now[ARRIVAL] = np.int64(i * BLOCK_BYTES / rules.bytes_per_ns / rules.clock_ns)


@inlined
def _enqueue(controller, i, clock):
    """Put a request into the queue of its bank and kind."""
    # Specification: requests_of.
    block, rules = controller.block[i], controller.rules
    rank = (block >> rules.rank_shift) & rules.rank_mask
    group = rank * (rules.group_mask + 1) + ((block >> rules.group_shift) & rules.group_mask)
    bank = group * rules.banks_per_group + ((block >> rules.bank_shift) & rules.bank_mask)
    row = (block >> rules.row_shift) & rules.row_mask
    is_write = np.int64(controller.write[i])
    add(controller.queues, i, block, row, bank, is_write, clock)
    controller.now[PENDING_READS] += 1 - is_write


@inlined
def _accept(controller, clock):
    """Take the next request if it has come and its queue has room; a pending access to its block may answer it."""
    # Specification: host.
    now, rules, returned = controller.now, controller.rules, controller.returned
    while rules.outstanding > 0 and now[UNANSWERED] < now[REQUEST] and 0 < returned[now[UNANSWERED]] <= clock:
        now[UNANSWERED] += 1
    i = now[REQUEST]
    if i == controller.block.size or now[ARRIVAL] > clock:
        return
    if rules.outstanding > 0 and i >= now[UNANSWERED] + rules.outstanding:
        return
    # Specification: Controller.accept.
    queues, totals = controller.queues, controller.totals
    is_write = np.int64(controller.write[i])
    if queues.sizes[LENGTH + is_write] == queues.sizes[ROOM + is_write]:
        return
    pending_read = NONE
    if pending(queues, controller.block[i], WRITES) >= 0:
        _merge(controller, i, clock)
    else:
        if not is_write:
            pending_read = pending(queues, controller.block[i], READS)
        if pending_read >= 0:
            totals[MERGED_READS] += 1
            queues.requests[pending_read, READERS] += 1
            queues.requests[pending_read, ACCEPTED] += clock
        else:
            _enqueue(controller, i, clock)
    _next_request(controller, i + 1)


@inlined
def _merge(controller, i, clock):
    """Merge a write into the pending one of its block, or answer a read from it."""
    # Specification: Controller.merge.
    now, totals = controller.now, controller.totals
    if controller.write[i]:
        totals[MERGED_WRITES] += 1
        return
    totals[FORWARDED_READS] += 1
    totals[RETURNED_READS] += 1
    totals[LATENCY_CYCLES] += 1
    now[LAST_RETURN] = max(now[LAST_RETURN], clock + 1)
    if controller.returned.size:
        controller.returned[i] = clock + 1


@inlined
def _has_work(controller, rank):
    """Whether a rank has a request in a bank queue, a refresh to do or a row to close."""
    # Specification: Controller.has_work.
    rules, now = controller.rules, controller.now
    for bank in range(rank * rules.banks_per_rank, (rank + 1) * rules.banks_per_rank):
        if controller.queues.banks[bank, QUEUED] > 0:
            return True
    refreshing = now[REFRESHES] > 0 and rank == now[REFRESH_RANK]
    return refreshing or (rules.closed_page and controller.ranks[rank, OPEN_BANKS] > 0)


@inlined
def _power(controller, clock):
    """Power ranks down that had no work for long enough, and up as soon as they have some."""
    # Specification: Controller.power.
    ranks, after = controller.ranks, controller.rules.power_down_after
    for rank in range(ranks.shape[0]):
        if not _has_work(controller, rank):
            ranks[rank, IDLE_SINCE] = min(ranks[rank, IDLE_SINCE], clock)
        else:
            if ranks[rank, IDLE_SINCE] + after <= clock:
                issue(controller.bus, rank * controller.rules.banks_per_rank, POWER_UP, clock)
            ranks[rank, IDLE_SINCE] = NEVER


@inlined
def _next_clock(controller, refresh_ready, clock):
    """Return the next clock in which anything may happen, and whether the end comes before it."""
    now, rules, queues = controller.now, controller.rules, controller.queues
    found = min(now[REFRESH_DUE], refresh_ready, now[SOONEST])
    ended = False
    i = now[REQUEST]
    if i < controller.block.size:
        is_write = np.int64(controller.write[i])
        if rules.outstanding > 0 and i >= now[UNANSWERED] + rules.outstanding:
            if controller.returned[now[UNANSWERED]] > 0:
                found = min(found, controller.returned[now[UNANSWERED]])
        elif queues.sizes[LENGTH + is_write] < queues.sizes[ROOM + is_write]:
            found = min(found, now[ARRIVAL])
    elif now[PENDING_READS] == 0:
        # Specification: host, its end.
        end = max(now[LAST_RETURN], rules.min_cycles - 1)
        ended = clock >= end
        found = min(found, end)
    moves = (
        queues.sizes[MOVABLE + WRITES] > 0
        if now[DRAINING] > 0
        else queues.sizes[MOVABLE + READS] > 0 or _drain_is_due(controller)
    )
    if moves or ended:
        found = clock + 1
    return max(found, clock + 1), ended


@inlined
def _stand_by(controller, clock, until):
    """Count the clocks up to the next one looked at: with a row open in the rank or without, powered down or not."""
    # Specification: Controller.run.
    ranks, after = controller.ranks, controller.rules.power_down_after
    for rank in range(ranks.shape[0]):
        is_open = controller.ranks[rank, OPEN_BANKS] > 0
        ranks[rank, OPEN if is_open else CLOSED] += until - clock
        if after > 0:
            powered_down = max(clock + 1, ranks[rank, IDLE_SINCE] + after - 1)
            ranks[rank, OPEN_DOWN if is_open else CLOSED_DOWN] += max(until - powered_down, 0)


@uncounted
def _replay(controller):
    """Replay the requests of one channel; fills the totals and the record."""
    now, after = controller.now, controller.rules.power_down_after
    queues, clocks = controller.queues, controller.bus.clocks
    # Never so: from here on the compiler knows how long the rows are, and finds an element by a shift.
    if queues.banks.shape[1] != 16 or queues.requests.shape[1] != 8 or clocks.shape[1] != COLUMNS:
        raise ValueError("not the arrays of new_controller")
    _next_request(controller, now[REQUEST])
    clock = np.int64(0)  # not a literal, see dram_bus_fast.py
    ended = False
    while not ended:
        tick(controller, clock)
        command, refresh_ready = refresh_command(controller, clock)
        queue_commands(controller, command, clock)
        _schedule(controller)
        _accept(controller, clock)
        if after > 0:
            for rank in range(controller.ranks.shape[0]):
                if controller.ranks[rank, IDLE_SINCE] + after - 1 <= clock:
                    controller.ranks[rank, OPEN_DOWN if controller.ranks[rank, OPEN_BANKS] > 0 else CLOSED_DOWN] += 1
            _power(controller, clock + 1)
        if now[STALE] or now[SOONEST] <= clock:
            find_next(controller, clock + 1)
        until, ended = _next_clock(controller, refresh_ready, clock)
        _stand_by(controller, clock, until)
        clock = until
    controller.totals[CYCLES] = clock


def run(part: DramPart, channel: int, fields: AddressMap, offer: Offer, record: Record = UNRECORDED) -> ChannelCounts:
    """Replay the requests of one channel; the signature and answer of `dram.run`."""
    controller = new_controller(part, channel, fields, offer, record)
    _replay(controller)
    per_bank_and_rank = (*controller.per_bank.tolist(), *controller.ranks.T[:OPEN_BANKS].tolist())
    return ChannelCounts(*controller.totals.tolist(), *map(tuple, per_bank_and_rank))
