"""The command bus of a DRAM channel, the specification: which command may be issued when, constraint by constraint.

`dram_bus_fast.py` is its compiled twin.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from accelsim.parts.timed import DramPart


class Command(Enum):
    """What a controller can tell a bank, or with REFRESH and POWER_UP a whole rank."""

    ACTIVATE = "activate"
    PRECHARGE = "precharge"
    READ = "read"
    WRITE = "write"
    REFRESH = "refresh"
    POWER_UP = "power up"

    @property
    def is_column(self) -> bool:
        """Whether it moves data."""
        return self in (Command.READ, Command.WRITE)


class Scope(Enum):
    """Between commands to which banks a constraint holds."""

    BANK = "the same bank"
    GROUP = "the same bank group"
    RANK = "the same rank"
    OTHER_RANK = "another rank"


class Constraint(NamedTuple):
    """`after` waits so many clocks from the `window`-th last `before` in its scope."""

    scope: Scope
    before: Command
    after: Command
    cycles: int
    window: int = 1


def constraints(part: DramPart) -> list[Constraint]:
    """Return all timing constraints of a part, as its data sheet would list them."""
    c = part.cycles
    act, pre, rd, wr, ref = Command.ACTIVATE, Command.PRECHARGE, Command.READ, Command.WRITE, Command.REFRESH
    powered_up = [Constraint(Scope.RANK, Command.POWER_UP, after, c.xp) for after in (act, pre, rd, wr, ref)]
    table = [
        Constraint(Scope.BANK, act, rd, c.rcd_rd),
        Constraint(Scope.BANK, act, wr, c.rcd_wr),
        Constraint(Scope.BANK, act, pre, c.ras),
        Constraint(Scope.BANK, act, act, c.rc),
        Constraint(Scope.BANK, pre, act, c.rp),
        Constraint(Scope.BANK, rd, pre, c.rtp),
        Constraint(Scope.BANK, wr, pre, c.wr_pre),
        Constraint(Scope.GROUP, act, act, c.rrd_l),
        Constraint(Scope.GROUP, rd, rd, c.rd_rd_l),
        Constraint(Scope.GROUP, wr, wr, c.rd_rd_l),
        Constraint(Scope.GROUP, wr, rd, c.wr_rd_l),
        Constraint(Scope.RANK, act, act, c.rrd_s),
        Constraint(Scope.RANK, act, act, c.faw, window=4),
        Constraint(Scope.RANK, act, act, c.aw32, window=32),
        Constraint(Scope.RANK, rd, rd, c.rd_rd_s),
        Constraint(Scope.RANK, wr, wr, c.rd_rd_s),
        Constraint(Scope.RANK, rd, wr, c.rd_wr),
        Constraint(Scope.RANK, wr, rd, c.wr_rd_s),
        Constraint(Scope.RANK, pre, pre, c.ppd),
        Constraint(Scope.RANK, pre, ref, c.rp),
        Constraint(Scope.RANK, ref, ref, c.rfc),
        Constraint(Scope.RANK, ref, act, c.rfc),
        Constraint(Scope.OTHER_RANK, rd, rd, c.rd_rd_rank),
        Constraint(Scope.OTHER_RANK, rd, wr, c.rd_wr),
        Constraint(Scope.OTHER_RANK, wr, rd, c.wr_rd_rank),
        Constraint(Scope.OTHER_RANK, wr, wr, c.wr_wr_rank),
    ]
    return [constraint for constraint in table + powered_up if constraint.cycles > 0]


class CommandBus:
    """Remembers when commands were issued, and refuses one that a constraint forbids in this clock."""

    def __init__(self, part: DramPart) -> None:
        self._banks_per_group = part.geometry.banks_per_group
        self._banks_per_rank = part.geometry.banks_per_group * part.geometry.bank_groups
        self._ranks = part.geometry.ranks
        self._before = {
            command: [constraint for constraint in constraints(part) if constraint.after is command]
            for command in Command
        }
        self.commands: list[tuple[int, int, int]] = []
        """Clock, number among COMMANDS and bank of every command; of a refresh the first bank of its rank."""
        self._issued: dict[tuple[Scope, int, Command], deque[int]] = {}

    def accepts(self, command: Command, bank: int, clock: int) -> bool:
        """Return whether no constraint forbids the command to this bank (or its rank) in this clock."""
        return all(
            clock >= issued[-constraint.window] + constraint.cycles
            for constraint in self._before[command]
            for issued in self._history(constraint, bank)
            if len(issued) >= constraint.window
        )

    def issue(self, command: Command, bank: int, clock: int) -> None:
        """Note a command of this clock."""
        if command is not Command.POWER_UP:
            self.commands.append((clock, list(Command).index(command), bank))
        rank = bank // self._banks_per_rank
        for key in ((Scope.BANK, bank), (Scope.GROUP, bank // self._banks_per_group), (Scope.RANK, rank)):
            self._issued.setdefault((*key, command), deque(maxlen=32)).append(clock)

    def _history(self, constraint: Constraint, bank: int) -> Iterator[deque[int]]:
        """Yield when the earlier command of a constraint was issued, for each place that counts for this bank."""
        rank = bank // self._banks_per_rank
        if constraint.scope is Scope.OTHER_RANK:
            places = [(Scope.RANK, other) for other in range(self._ranks) if other != rank]
        elif constraint.scope is Scope.RANK:
            places = [(Scope.RANK, rank)]
        elif constraint.scope is Scope.GROUP:
            places = [(Scope.GROUP, bank // self._banks_per_group)]
        else:
            places = [(Scope.BANK, bank)]
        for place in places:
            yield self._issued.get((*place, constraint.before), deque())
