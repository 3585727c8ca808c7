"""The commands of a DRAM channel, part of the compiled twin of `dram.py`: which goes next, when, and what it does."""

from __future__ import annotations

from accelsim.kernels import inlined
from accelsim.memory.dram_bus_fast import (
    ACTIVATE,
    COLUMNS,
    NOTHING,
    NUMBER,
    POWER_UP,
    PRECHARGE,
    RANK,
    READ,
    REFRESH,
    WRITE,
    earliest,
    issue,
)
from accelsim.memory.dram_queues_fast import plan, remove
from accelsim.memory.dram_state_fast import (
    ACCEPTED,
    AGE,
    BLOCK_ROW,
    FIRST_READ,
    FIRST_WRITE,
    HEAD,
    HITS,
    IDLE_SINCE,
    LAST_RETURN,
    LATENCY_CYCLES,
    MAY_CLOSE,
    NEVER,
    NEXT_BANK,
    NOTED,
    OPEN_BANKS,
    PENDING_READS,
    QUEUED,
    READ_IS_OLDER,
    READERS,
    REFRESH_DUE,
    REFRESH_RANK,
    REFRESHED,
    REFRESHES,
    RETURNED_READS,
    ROW,
    SELECTED,
    SOONEST,
    STALE,
)


@inlined
def _issue(controller, bank, command, clock):
    """Issue a command and note it."""
    issue(controller.bus, bank, command, clock)
    now, commands = controller.now, controller.commands
    if now[NOTED] < len(commands):
        noted = now[NOTED]
        commands[noted, 0], commands[noted, 1], commands[noted, 2] = clock, command, bank
        now[NOTED] += 1


@inlined
def precharge(controller, bank, clock):
    """Close the row of a bank."""
    # Specification: Controller.precharge.
    banks = controller.queues.banks
    _issue(controller, bank, PRECHARGE, clock)
    controller.per_bank[PRECHARGE, bank] += 1
    banks[bank, ROW] = -1
    banks[bank, HITS] = 0
    controller.ranks[controller.bus.places[bank, NUMBER], OPEN_BANKS] -= 1


@inlined
def activate(controller, bank, clock):
    """Open the row of the first request of a bank queue."""
    # Specification: Controller.activate.
    banks = controller.queues.banks
    _issue(controller, bank, ACTIVATE, clock)
    controller.per_bank[ACTIVATE, bank] += 1
    banks[bank, ROW] = controller.queues.requests[banks[bank, HEAD], BLOCK_ROW]
    controller.ranks[controller.bus.places[bank, NUMBER], OPEN_BANKS] += 1
    plan(controller.queues, bank)


@inlined
def access(controller, bank, command, clock):
    """Read or write a block of the open row; a read answers every request that was merged into it."""
    # Specification: Controller.access.
    rules, queues, now, totals = controller.rules, controller.queues, controller.now, controller.totals
    banks, requests = queues.banks, queues.requests
    _issue(controller, bank, command, clock)
    r = banks[bank, FIRST_READ] if command == READ else banks[bank, FIRST_WRITE]
    if command == READ:
        returns = clock + rules.read_latency
        if controller.returned.size:
            controller.returned[requests[r, AGE]] = returns
        now[LAST_RETURN] = max(now[LAST_RETURN], returns)
        totals[RETURNED_READS] += requests[r, READERS]
        totals[LATENCY_CYCLES] += requests[r, READERS] * returns - requests[r, ACCEPTED]
        now[PENDING_READS] -= 1
    controller.per_bank[command, bank] += 1
    controller.per_bank[4, bank] += banks[bank, HITS] > 0
    banks[bank, HITS] += 1
    remove(queues, bank, r)
    plan(queues, bank)


@inlined
def wait(controller, bank):
    """Note a clock before which a bank's queue has nothing ready, and where its rank may move it later.

    That is the column of its next command, or of NOTHING where it may go on with one of several.
    """
    # Specification: Controller.first_ready.
    banks, bus = controller.queues.banks, controller.bus
    command = NOTHING
    soonest = NEVER
    if banks[bank, ROW] < 0:
        if banks[bank, QUEUED] > 0:
            command = ACTIVATE
            soonest = earliest(bus, bank, ACTIVATE)
    else:
        options = 0
        if banks[bank, FIRST_WRITE] >= 0:
            command = WRITE
            options += 1
            soonest = earliest(bus, bank, WRITE)
        if banks[bank, FIRST_READ] >= 0:
            command = READ
            options += 1
            soonest = min(soonest, earliest(bus, bank, READ))
        if banks[bank, MAY_CLOSE]:
            command = PRECHARGE
            options += 1
            soonest = min(soonest, earliest(bus, bank, PRECHARGE))
        if options != 1:
            command = NOTHING
    controller.ready_at[bank] = soonest
    controller.waits_on[bank] = bus.places[bank, RANK] * COLUMNS + command


@inlined
def first_ready(controller, bank, clock):
    """Return the command that a bank's queue has ready, or NOTHING."""
    # Specification: Controller.first_ready.
    banks, bus = controller.queues.banks, controller.bus
    command = NOTHING
    if banks[bank, ROW] < 0:
        if banks[bank, QUEUED] > 0 and earliest(bus, bank, ACTIVATE) <= clock:
            command = ACTIVATE
        return command
    if banks[bank, FIRST_WRITE] >= 0 and earliest(bus, bank, WRITE) <= clock:
        command = WRITE
    read_goes = banks[bank, FIRST_READ] >= 0 and (command == NOTHING or banks[bank, READ_IS_OLDER])
    if read_goes and earliest(bus, bank, READ) <= clock:
        command = READ
    if banks[bank, MAY_CLOSE] and earliest(bus, bank, PRECHARGE) <= clock:
        command = PRECHARGE
    return command


@inlined
def tick(controller, clock):
    """Make a refresh due; a rank that is powered down wakes up for it."""
    # Specification: RefreshTimer.run.
    now, ranks = controller.now, controller.ranks
    if clock != now[REFRESH_DUE]:
        return
    rules, rank = controller.rules, now[REFRESH_RANK]
    now[REFRESHES] += 1
    now[REFRESH_DUE] += rules.refresh_interval
    now[STALE] = True
    if rules.power_down_after > 0 and ranks[rank, IDLE_SINCE] < NEVER:
        if ranks[rank, IDLE_SINCE] + rules.power_down_after <= clock:
            issue(controller.bus, rank * rules.banks_per_rank, POWER_UP, clock)
        ranks[rank, IDLE_SINCE] = NEVER


@inlined
def refresh_command(controller, clock):
    """Do what a refresh that is due needs; return the command and a clock before which it has nothing else ready."""
    # Specification: Controller.refresh_command.
    now, bus = controller.now, controller.bus
    if now[REFRESHES] == 0:
        return NOTHING, NEVER
    rank = now[REFRESH_RANK]
    first = rank * controller.rules.banks_per_rank
    if controller.ranks[rank, OPEN_BANKS] == 0:
        ready = earliest(bus, first, REFRESH)
        if ready > clock:
            return NOTHING, ready
        _issue(controller, first, REFRESH, clock)
        controller.ranks[rank, REFRESHED] += 1
        # Specification: RefreshTimer.done.
        now[REFRESHES] -= 1
        now[REFRESH_RANK] = rank + 1 if rank + 1 < controller.ranks.shape[0] else 0
        now[STALE] = True
        return REFRESH, ready
    soonest = NEVER
    for bank in range(first, first + controller.rules.banks_per_rank):
        if controller.queues.banks[bank, ROW] < 0:
            continue
        ready = earliest(bus, bank, PRECHARGE)
        soonest = min(soonest, ready)
        if ready <= clock:
            precharge(controller, bank, clock)
            wait(controller, bank)
            return PRECHARGE, soonest
    return NOTHING, soonest


@inlined
def find_next(controller, clock):
    """Find the bank whose turn is next, round robin after the last selected, and when: not before this clock."""
    now, rules = controller.now, controller.rules
    ready_at, waits_on, limits = controller.ready_at, controller.waits_on, controller.limits
    n_banks = ready_at.size
    blocked = now[REFRESH_RANK] * rules.banks_per_rank if now[REFRESHES] > 0 else n_banks
    blocked_end = blocked + rules.banks_per_rank
    some_blocked = blocked < n_banks
    bank = found = now[SELECTED]
    soonest = NEVER
    for _ in range(n_banks):
        bank = bank + 1 if bank + 1 < n_banks else 0
        if some_blocked and blocked <= bank < blocked_end:
            continue
        ready = max(ready_at[bank], limits[waits_on[bank]], clock)
        if ready < soonest:
            soonest = ready
            found = bank
    now[NEXT_BANK] = found
    now[SOONEST] = soonest
    now[STALE] = False


@inlined
def queue_commands(controller, before, clock):
    """Issue what the bank queues have ready beside the command before, if any."""
    # Specification: Controller.queue_command, twice where row commands have a bus of their own.
    now = controller.now
    attempts = controller.rules.attempts - (before != NOTHING)
    while attempts > 0:
        if now[STALE]:
            find_next(controller, clock)
        if now[SOONEST] > clock:
            break
        bank = now[NEXT_BANK]
        now[STALE] = True
        command = first_ready(controller, bank, clock)
        if command != NOTHING:
            attempts -= 1
            now[SELECTED] = bank
            is_column = command in (READ, WRITE)
            if before != NOTHING and is_column == (before in (READ, WRITE)):
                break
            before = command
            if command == PRECHARGE:
                precharge(controller, bank, clock)
            elif command == ACTIVATE:
                activate(controller, bank, clock)
            else:
                access(controller, bank, command, clock)
        wait(controller, bank)
