"""Is every timing constraint refused at n - 1 and accepted at n, in the specification and in its twin?"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from conftest import TIMED_PARTS

from accelsim.memory import DramPart, dram_bus_fast, load_part
from accelsim.memory.dram_bus import Command, CommandBus, Constraint, Scope, constraints

PARTS = [load_part(name) for name in TIMED_PARTS]
RANKS = load_part("ddr4-2400", {"geometry.ranks": 2, "address_map": "RoRaBaCoBg"})
KIND = {
    Command.ACTIVATE: dram_bus_fast.ACTIVATE,
    Command.PRECHARGE: dram_bus_fast.PRECHARGE,
    Command.READ: dram_bus_fast.READ,
    Command.WRITE: dram_bus_fast.WRITE,
    Command.REFRESH: dram_bus_fast.REFRESH,
    Command.POWER_UP: dram_bus_fast.POWER_UP,
}
START = 10**6
Issued = list[tuple[Command, int, int]]


def specification(part: DramPart, issued: Issued) -> Callable[[Command, int, int], bool]:
    bus = CommandBus(part)
    for command, bank, clock in issued:
        bus.issue(command, bank, clock)
    return bus.accepts


def twin(part: DramPart, issued: Issued) -> Callable[[Command, int, int], bool]:
    bus = dram_bus_fast.new_bus(part, np.rec.array([tuple(part.cycles)], names=part.cycles._fields)[0])
    for command, bank, clock in issued:
        dram_bus_fast.issue(bus, bank, KIND[command], clock)
    return lambda command, bank, clock: bool(dram_bus_fast.earliest(bus, bank, KIND[command]) <= clock)


def other_bank(part: DramPart, scope: Scope) -> int:
    """A bank to which a command of bank 0 is at this distance and no nearer."""
    geometry = part.geometry
    in_rank = geometry.bank_groups * geometry.banks_per_group
    return {
        Scope.BANK: 0,
        Scope.GROUP: 1,
        Scope.RANK: geometry.banks_per_group % in_rank or 1,
        Scope.OTHER_RANK: in_rank,
    }[scope]


CASES = [
    pytest.param(part, constraint, id=f"{part.name}-{part.geometry.ranks}ranks-{c}")
    for part in [*PARTS, RANKS]
    for constraint in constraints(part)
    if constraint.scope is not Scope.OTHER_RANK or part.geometry.ranks > 1
    for c in [f"{constraint.before.value}-{constraint.after.value}-{constraint.scope.name.lower()}-{constraint.window}"]
]


@pytest.mark.parametrize("model", [specification, twin])
@pytest.mark.parametrize(("part", "constraint"), CASES)
def test_refused_a_clock_early_and_accepted_in_time(
    part: DramPart, constraint: Constraint, model: Callable[[DramPart, Issued], Callable[[Command, int, int], bool]]
) -> None:
    target = other_bank(part, constraint.scope)
    # A window fills in one clock here, which the bus itself would not allow: so nothing else binds later.
    accepts = model(part, [(constraint.before, 0, START)] * constraint.window)
    assert not accepts(constraint.after, target, START + constraint.cycles - 1)
    assert accepts(constraint.after, target, START + constraint.cycles)


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_the_table_says_what_the_part_file_says(part: DramPart) -> None:
    """The constraints of rules 7 and 8, from the nanoseconds by hand."""
    t = part.timing

    def clocks(ns: float) -> int:
        return int(np.rint(ns / t.clock_ns))

    bc, cl, cwl = clocks(t.burst_ns), clocks(t.cl_ns), clocks(t.cwl_ns)
    grouped = part.geometry.bank_groups > 1
    act, pre, rd, wr, ref = Command.ACTIVATE, Command.PRECHARGE, Command.READ, Command.WRITE, Command.REFRESH
    expected = {
        (Scope.BANK, act, rd, 1): clocks(t.t_rcd_rd_ns),
        (Scope.BANK, act, wr, 1): clocks(t.t_rcd_wr_ns),
        (Scope.BANK, act, pre, 1): clocks(t.t_ras_ns),
        (Scope.BANK, act, act, 1): clocks(t.t_rc_ns),
        (Scope.BANK, pre, act, 1): clocks(t.t_rp_ns),
        (Scope.BANK, rd, pre, 1): clocks(t.t_rtp_ns),
        (Scope.BANK, wr, pre, 1): cwl + bc + clocks(t.t_wr_ns),
        (Scope.GROUP, rd, rd, 1): max(bc, clocks(t.t_ccd_l_ns if grouped else t.t_ccd_s_ns)),
        (Scope.GROUP, act, act, 1): clocks(t.t_rrd_l_ns if grouped else t.t_rrd_s_ns),
        (Scope.GROUP, wr, rd, 1): cwl + bc + clocks(t.t_wtr_l_ns if grouped else t.t_wtr_s_ns),
        (Scope.RANK, rd, rd, 1): max(bc, clocks(t.t_ccd_s_ns)),
        (Scope.RANK, wr, wr, 1): max(bc, clocks(t.t_ccd_s_ns)),
        (Scope.RANK, rd, wr, 1): cl + bc - cwl + clocks(t.t_rtrs_ns),
        (Scope.RANK, wr, rd, 1): cwl + bc + clocks(t.t_wtr_s_ns),
        (Scope.RANK, act, act, 1): clocks(t.t_rrd_s_ns),
        (Scope.RANK, act, act, 4): clocks(t.t_faw_ns),
        (Scope.RANK, act, act, 32): clocks(t.t_32aw_ns),
        (Scope.RANK, pre, pre, 1): clocks(t.t_ppd_ns),
        (Scope.RANK, pre, ref, 1): clocks(t.t_rp_ns),
        (Scope.RANK, ref, act, 1): clocks(t.t_rfc_ns),
        (Scope.RANK, ref, ref, 1): clocks(t.t_rfc_ns),
    }
    table = {(c.scope, c.before, c.after, c.window): c.cycles for c in constraints(part)}
    for key, cycles in expected.items():
        assert table.get(key, 0) == cycles, key
