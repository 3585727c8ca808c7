"""Prices, and the components that pay them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from operator import add
from typing import NamedTuple


class Price(NamedTuple):
    """What one action costs, and which component of the chip pays."""

    component: str
    pj: float
    """Of a stack of chips an array, (chips,)."""
    source: str
    known: bool = True
    """False: nobody says what it costs, so that it is in no sum."""


Entry = tuple[str, int, Price]
"""One line of an account: an action, how many times, and the price of one."""


def left_to_right(values: Iterable[float]) -> float:
    """Return a sum whose last bit is the same everywhere: `sum` carries along what it rounds since Python 3.12.

    The values may be arrays (chips,).
    """
    return reduce(add, values, 0.0)


class Account(NamedTuple):
    """Energy of a run by component in pJ; `total_pj` is their sum from left to right."""

    components_pj: dict[str, float]

    @classmethod
    def of(cls, entries: Iterable[Entry], components: Iterable[str]) -> Account:
        """Return the account with these lines, and the components that a machine has in the order of its words.

        Raises KeyError for a component that the machine does not name.
        """
        paid = dict.fromkeys(components, 0.0)
        for _action, times, price in entries:
            paid[price.component] = paid[price.component] + times * price.pj
        return cls(paid)

    @property
    def total_pj(self) -> float:
        """The sum of the components."""
        return left_to_right(self.components_pj.values())

    def columns(self, time_us: float) -> dict[str, float]:
        """Return the columns of the table that tell of energy, of a run that took so long."""
        total_pj = self.total_pj
        return {
            **{f"energy_{component}_pj": pj for component, pj in self.components_pj.items()},
            "energy_pj": total_pj,
            "power_mw": total_pj / time_us / 1e3,  # pJ / us = uW
            "edp_pj_s": total_pj * time_us * 1e-6,
        }


PER_CYCLE = "_per_cycle"
"""How the names of prices end that are paid by time and not by action."""
