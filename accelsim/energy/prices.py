"""Prices, and the components that pay them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Price(NamedTuple):
    """What one action costs, and which component of the chip pays."""

    component: str
    pj: float
    source: str


class Entry(NamedTuple):
    """One line of an account."""

    action: str
    times: int
    price: Price

    @property
    def pj(self) -> float:
        """Times x price."""
        return self.times * self.price.pj


class Account(NamedTuple):
    """Energy of a run by component in pJ; `total_pj` is their sum from left to right."""

    components_pj: dict[str, float]

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Account:
        """Return the account with these lines."""
        components = dict.fromkeys(COMPONENTS, 0.0)
        for _, times, (component, pj, _) in entries:
            components[component] += times * pj
        return cls(components)

    @property
    def total_pj(self) -> float:
        """The sum of the components."""
        return sum(self.components_pj.values())


PER_CYCLE = "_per_cycle"
"""How the names of prices end that are paid by time and not by action."""

COMPONENTS = (
    "spmat_sram", "pointer_sram", "activation_sram", "arithmetic", "activation_registers", "activation_queue",
    "codebook", "lnzd", "clock", "pipeline", "leakage", "shared_memory", "l2", "static", "dram", "dram_io",
)  # fmt: skip
"""In the order of the table."""
