"""The DRAM controller, the specification: a SimPy model, command by command, that reads like the hardware.

One channel: a host that offers requests, a read queue and a write buffer, one queue per bank, first-ready
first-come-first-served with a bound on hits, whole-rank refresh. The rules are those of DRAMsim3 (Li et al., IEEE
CAL 2020); `docs/dram.md` lists them. `dram_fast.py` returns the same integers.

Time runs in half clocks: the controller acts on the rising edge, the host and the refresh timer on the falling edge,
so that what they decide is seen in the next clock and no two processes touch the same state at the same time.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import simpy

from accelsim.memory.dram_bus import Command, CommandBus
from accelsim.memory.dram_counts import UNRECORDED, ChannelCounts, Offer, Record
from accelsim.parts.timed import BLOCK_BYTES, AddressField, AddressMap, DramPart

Process = Generator[simpy.Event, Any, Any]

CLOCK = 2
"""Half clocks of one clock."""


@dataclass
class Request:
    """A pending access to one block, and when the reads that it answers were accepted."""

    number: int
    block: int
    row: int
    bank: int
    is_write: bool
    accepted: list[int]


@dataclass
class Bank:
    """A row buffer, the queue in front of it, and what was issued to it."""

    open_row: int | None = None
    hits: int = 0
    """Reads and writes since the activate."""
    queue: list[Request] = field(default_factory=list)
    issued: dict[Command, int] = field(default_factory=lambda: dict.fromkeys(Command, 0))
    row_hits: int = 0


@dataclass
class Rank:
    """Banks that are refreshed and powered down together, and the clocks that they spent with a row open or without."""

    banks: range
    refreshes: int = 0
    idle: int = 0
    """Clocks since it last had work."""
    powered_down: bool = False
    active_cycles: int = 0
    precharged_cycles: int = 0
    active_power_down_cycles: int = 0
    precharged_power_down_cycles: int = 0


class RefreshTimer:
    """Makes a refresh due at every multiple of tREFI; several ranks take turns within it."""

    def __init__(self, env: simpy.Environment, part: DramPart) -> None:
        self.env = env
        self.interval = max(part.cycles.refi // part.geometry.ranks, 1)
        self.ranks = part.geometry.ranks
        self.pending = 0
        self.rank = 0

    def run(self) -> Process:
        """Count the refreshes that are due."""
        yield self.env.timeout(CLOCK * self.interval - 1)
        while True:
            self.pending += 1
            yield self.env.timeout(CLOCK * self.interval)

    def done(self) -> None:
        """Note that the rank whose turn it is was refreshed."""
        self.pending -= 1
        self.rank = (self.rank + 1) % self.ranks


class Controller:
    """Queues and scheduler of one channel."""

    def __init__(self, env: simpy.Environment, part: DramPart, refresh: RefreshTimer) -> None:
        geometry = part.geometry
        banks_per_rank = geometry.bank_groups * geometry.banks_per_group
        self.env = env
        self.part = part
        self.policy = part.controller
        self.refresh = refresh
        self.bus = CommandBus(part)
        self.banks = [Bank() for _ in range(geometry.banks)]
        self.ranks = [Rank(range(r * banks_per_rank, (r + 1) * banks_per_rank)) for r in range(geometry.ranks)]
        self.read_queue: list[Request] = []
        self.write_buffer: list[Request] = []
        self.pending: dict[tuple[int, bool], Request] = {}
        """Requests whose command was not issued yet, by block and kind."""
        self.draining = 0
        """Writes still to be moved before reads go on."""
        self.last_selected = geometry.banks - 1
        self.last_return = 0
        self.returned: dict[int, int] = {}
        """Clocks in which reads were answered, by their number; of those merged into one the first."""
        self.returned_reads = 0
        self.latency_cycles = 0
        self.merged_writes = self.merged_reads = self.forwarded_reads = 0

    def run(self) -> Process:
        """Work on every rising edge."""
        while True:
            clock = int(self.env.now) // CLOCK
            if self.policy.power_down_after_cycles:
                for rank in self.ranks:
                    self.power(rank, clock)
            self.issue(clock)
            for rank in self.ranks:
                if self.row_is_open(rank):
                    rank.active_cycles += 1
                    rank.active_power_down_cycles += rank.powered_down
                else:
                    rank.precharged_cycles += 1
                    rank.precharged_power_down_cycles += rank.powered_down
            self.schedule()
            yield self.env.timeout(CLOCK)

    def power(self, rank: Rank, clock: int) -> None:
        """Power a rank down that had no work for long enough, and up as soon as it has some."""
        if self.has_work(rank):
            if rank.powered_down:
                self.bus.issue(Command.POWER_UP, rank.banks[0], clock)
            rank.idle = 0
        else:
            rank.idle += 1
        rank.powered_down = rank.idle >= self.policy.power_down_after_cycles

    def has_work(self, rank: Rank) -> bool:
        """Whether a bank queue holds a request, its refresh is due, or a row is still to be closed (closed page)."""
        refreshing = self.refresh.pending > 0 and self.ranks[self.refresh.rank] is rank
        closing = self.policy.page_policy == "closed" and self.row_is_open(rank)
        return refreshing or closing or any(self.banks[bank].queue for bank in rank.banks)

    def row_is_open(self, rank: Rank) -> bool:
        """Whether any bank has a row open."""
        return any(self.banks[bank].open_row is not None for bank in rank.banks)

    def issue(self, clock: int) -> None:
        """Issue a command; a second one beside it where row commands have a bus of their own."""
        first = self.refresh_command(clock) or self.queue_command(clock)
        if first is not None and self.part.dual_command_bus:
            self.queue_command(clock, beside=first)

    def refresh_command(self, clock: int) -> Command | None:
        """Close the banks of a rank whose refresh is due, in order as they are ready; then refresh it."""
        if not self.refresh.pending:
            return None
        rank = self.ranks[self.refresh.rank]
        still_open = [bank for bank in rank.banks if self.banks[bank].open_row is not None]
        for bank in still_open:
            if self.bus.accepts(Command.PRECHARGE, bank, clock):
                self.precharge(bank, clock)
                return Command.PRECHARGE
        if still_open or not self.bus.accepts(Command.REFRESH, rank.banks[0], clock):
            return None
        self.bus.issue(Command.REFRESH, rank.banks[0], clock)
        rank.refreshes += 1
        self.refresh.done()
        return Command.REFRESH

    def queue_command(self, clock: int, beside: Command | None = None) -> Command | None:
        """Issue the first ready command of the bank queues, round robin from the bank after the last selected."""
        blocked = self.ranks[self.refresh.rank].banks if self.refresh.pending else range(0)
        for step in range(1, len(self.banks) + 1):
            number = (self.last_selected + step) % len(self.banks)
            if number in blocked:
                continue
            command, request = self.first_ready(number, clock)
            if command is None:
                continue
            self.last_selected = number
            if beside is not None and beside.is_column == command.is_column:
                return None
            if command is Command.PRECHARGE:
                self.precharge(number, clock)
            elif request is not None and command is Command.ACTIVATE:
                self.activate(number, request.row, clock)
            elif request is not None:
                self.access(number, request, clock)
            return command
        return None

    def first_ready(self, number: int, clock: int) -> tuple[Command | None, Request | None]:
        """Return the first command of a bank queue that is ready: a hit may pass older requests to other rows."""
        bank = self.banks[number]
        hits_wait = any(request.row == bank.open_row for request in bank.queue)
        for position, request in enumerate(bank.queue):
            if bank.open_row is None:
                command = Command.ACTIVATE
            elif request.row == bank.open_row:
                command = Command.WRITE if request.is_write else Command.READ
                older = bank.queue[:position]
                if request.is_write and any(r.block == request.block and not r.is_write for r in older):
                    continue
            elif position == 0 and (not hits_wait or bank.hits >= self.policy.hits_before_age):
                command = Command.PRECHARGE
            else:
                continue
            if self.bus.accepts(command, number, clock):
                return command, request
        idle_row = bank.open_row is not None and not bank.queue
        if idle_row and self.policy.page_policy == "closed" and self.bus.accepts(Command.PRECHARGE, number, clock):
            return Command.PRECHARGE, None
        return None, None

    def activate(self, number: int, row: int, clock: int) -> None:
        """Open a row."""
        self.bus.issue(Command.ACTIVATE, number, clock)
        self.banks[number].issued[Command.ACTIVATE] += 1
        self.banks[number].open_row = row

    def precharge(self, number: int, clock: int) -> None:
        """Close the row."""
        bank = self.banks[number]
        self.bus.issue(Command.PRECHARGE, number, clock)
        bank.issued[Command.PRECHARGE] += 1
        bank.open_row = None
        bank.hits = 0

    def access(self, number: int, request: Request, clock: int) -> None:
        """Read or write a block of the open row; a read answers every request that was merged into it."""
        command = Command.WRITE if request.is_write else Command.READ
        bank = self.banks[number]
        self.bus.issue(command, number, clock)
        bank.issued[command] += 1
        bank.row_hits += bank.hits > 0
        bank.hits += 1
        bank.queue.remove(request)
        del self.pending[request.block, request.is_write]
        if not request.is_write:
            self.returned[request.number] = clock + self.part.cycles.read_latency
            for accepted in request.accepted:
                self.answer(accepted, clock + self.part.cycles.read_latency)

    def answer(self, accepted: int, returned: int) -> None:
        """Return data to the host."""
        self.returned_reads += 1
        self.latency_cycles += returned - accepted
        self.last_return = max(self.last_return, returned)

    def schedule(self) -> None:
        """Move the oldest transaction whose bank queue has room; writes wait until they are drained together."""
        bank_queues_empty = not any(bank.queue for bank in self.banks)
        buffered = len(self.write_buffer)
        drain_due = buffered == self.policy.write_buffer or (buffered > self.policy.write_low and bank_queues_empty)
        if not self.draining and drain_due:
            self.draining = buffered
        queue = self.write_buffer if self.draining else self.read_queue
        request = self.oldest_with_room(queue)
        if request is not None and request.is_write:
            if (request.block, False) in self.pending:
                self.draining = 0
                # The reference starts the same drain again, for ever, where nothing else can happen: let a read go.
                queue = self.read_queue
                request = self.oldest_with_room(queue) if bank_queues_empty and drain_due else None
            else:
                self.draining -= 1
        if request is not None:
            queue.remove(request)
            self.banks[request.bank].queue.append(request)

    def oldest_with_room(self, queue: list[Request]) -> Request | None:
        """Return the oldest transaction whose bank queue has room, if any."""
        return next((r for r in queue if len(self.banks[r.bank].queue) < self.policy.bank_queue), None)

    def accept(self, request: Request, clock: int) -> bool:
        """Take a request if its queue has room; a pending access to the same block may answer it at once."""
        queue, room = (
            (self.write_buffer, self.policy.write_buffer)
            if request.is_write
            else (self.read_queue, self.policy.read_queue)
        )
        if len(queue) == room:
            return False
        if (request.block, True) in self.pending:
            self.merge(request, clock)
        elif (request.block, request.is_write) in self.pending:
            self.pending[request.block, False].accepted.append(clock)
            self.merged_reads += 1
        else:
            request.accepted.append(clock)
            self.pending[request.block, request.is_write] = request
            queue.append(request)
        return True

    def merge(self, request: Request, clock: int) -> None:
        """Merge a write into the pending one of its block, or answer a read from it."""
        if request.is_write:
            self.merged_writes += 1
        else:
            self.forwarded_reads += 1
            self.returned[request.number] = clock + 1
            self.answer(clock, clock + 1)

    def reads_pending(self) -> bool:
        """Whether a read is still to be issued."""
        return any(not is_write for _, is_write in self.pending)


def arrival_clock(i: int, offer: Offer, clock_ns: float) -> int:
    """Return the clock in which request number i arrives: given, or at a rate, of which 0 stands for saturation."""
    if len(offer.arrivals):
        return int(offer.arrivals[i])
    return int(i * BLOCK_BYTES / offer.bytes_per_ns / clock_ns) if offer.bytes_per_ns else 0


def host(env: simpy.Environment, controller: Controller, requests: Iterator[Request], offer: Offer) -> Process:
    """Offer requests in order, at most one a clock, and end when the last read has returned; returns the cycles."""
    edge = 1
    yield env.timeout(edge)
    for request in requests:
        clock = arrival_clock(request.number, offer, controller.part.timing.clock_ns)
        yield env.timeout(max(CLOCK * clock + 1, edge) - int(env.now))
        before = request.number - offer.outstanding
        if offer.outstanding and before >= 0:
            while controller.returned.get(before, math.inf) > int(env.now) // CLOCK:
                yield env.timeout(CLOCK)
        while not controller.accept(request, int(env.now) // CLOCK):
            yield env.timeout(CLOCK)
        edge = int(env.now) + CLOCK
    while controller.reads_pending() or int(env.now) // CLOCK < max(controller.last_return, offer.min_cycles - 1):
        yield env.timeout(CLOCK)
    return int(env.now) // CLOCK + 1


def field_of(block: int, where: AddressField) -> int:
    """Return one field of a block's address."""
    return block >> where.shift & where.mask


def requests_of(part: DramPart, channel: int, fields: AddressMap, offer: Offer) -> Iterator[Request]:
    """Yield the requests of one channel."""
    geometry = part.geometry
    for i, (address, is_write) in enumerate(zip(offer.block.tolist(), offer.write.tolist(), strict=True)):
        if field_of(address, fields.channel) == channel:
            group = field_of(address, fields.rank) * geometry.bank_groups + field_of(address, fields.group)
            bank = group * geometry.banks_per_group + field_of(address, fields.bank)
            yield Request(i, address, field_of(address, fields.row), bank, is_write, [])


def run(
    part: DramPart,
    channel: int,
    fields: AddressMap,
    offer: Offer,
    record: Record = UNRECORDED,
    *,
    environment: type[simpy.Environment] = simpy.Environment,
) -> ChannelCounts:
    """Replay the requests of one channel; fills the record."""
    env = environment()
    refresh = RefreshTimer(env, part)
    controller = Controller(env, part, refresh)
    env.process(refresh.run())
    env.process(controller.run())
    requests = requests_of(part, channel, fields, offer)
    cycles: Any = env.run(env.process(host(env, controller, requests, offer)))
    if len(record.returned):
        for number, clock in controller.returned.items():
            record.returned[number] = clock
    issued_first = controller.bus.commands[: len(record.commands)]
    record.commands[: len(issued_first)] = np.array(issued_first, np.int64).reshape(-1, 3)
    issued = {command: tuple(bank.issued[command] for bank in controller.banks) for command in Command}
    return ChannelCounts(
        cycles=int(cycles),
        merged_writes=controller.merged_writes,
        merged_reads=controller.merged_reads,
        forwarded_reads=controller.forwarded_reads,
        returned_reads=controller.returned_reads,
        latency_cycles=controller.latency_cycles,
        activates=issued[Command.ACTIVATE],
        precharges=issued[Command.PRECHARGE],
        reads=issued[Command.READ],
        writes=issued[Command.WRITE],
        row_hits=tuple(bank.row_hits for bank in controller.banks),
        refreshes=tuple(rank.refreshes for rank in controller.ranks),
        active_cycles=tuple(rank.active_cycles for rank in controller.ranks),
        precharged_cycles=tuple(rank.precharged_cycles for rank in controller.ranks),
        active_power_down_cycles=tuple(rank.active_power_down_cycles for rank in controller.ranks),
        precharged_power_down_cycles=tuple(rank.precharged_power_down_cycles for rank in controller.ranks),
    )
