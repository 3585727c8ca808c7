"""Which of the plans of a product is taken: the fastest."""

from __future__ import annotations

from functools import lru_cache

from accelsim.engines.systolic.config import SystolicChip
from accelsim.engines.systolic.plan import Bus, Gemm, Plan, bus_of, plans
from accelsim.engines.systolic.twin import cycles_of


@lru_cache(maxsize=256)
def best(gemm: Gemm, chip: SystolicChip) -> tuple[Plan, Bus, int]:
    """Return the fastest plan, of equal ones that which moves least; how it uses the bus, and its cycles."""
    found = []
    for number, plan in enumerate(plans(gemm, chip.engine)):
        bus = bus_of(plan.passes, chip)
        moved = int(plan.passes.reads.sum() + plan.passes.backs.sum() + plan.passes.writes.sum())
        found.append((cycles_of(plan.passes, bus), moved, number, plan, bus))
    cycles, _, _, plan, bus = min(found, key=lambda each: each[:3])
    return plan, bus, cycles
