"""What an engine reports: integers only, so that two implementations agree with `==`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import InputError, VerificationError


@dataclass(frozen=True)
class Counts:
    """Cycles, actions per component, and for each unit (a PE) its busy cycles and its stalls by cause.

    For every unit, busy + all stalls = cycles; `columns`, and so every row, holds an engine to their sums.
    """

    cycles: int
    macs: int
    padding_macs: int
    busy_cycles: tuple[int, ...]
    stall_cycles: Mapping[str, tuple[int, ...]]
    actions: Mapping[str, int]

    @cached_property
    def columns(self) -> dict[str, int]:
        """The columns of the table that any engine counts, summed over units; once, for all chips that share a run.

        Raises VerificationError where busy cycles and stalls of all units are not units x cycles, and InputError for a
        count that a table cannot hold.
        """
        busy = sum(self.busy_cycles)
        stalls = {f"stall_{cause}_cycles": sum(each) for cause, each in self.stall_cycles.items()}
        spent, units = busy + sum(stalls.values()), len(self.busy_cycles)
        if spent != units * self.cycles:
            raise VerificationError(
                f"{units} units are busy or stalled for {spent} cycles, and not {units} x {self.cycles}"
            )
        counted = {
            "cycles": self.cycles,
            "macs": self.macs,
            "padding_macs": self.padding_macs,
            "busy_cycles": busy,
            **stalls,
            **{f"count_{action}": count for action, count in self.actions.items()},
        }
        if max(counted.values()) >= 2**63:
            most = max(counted, key=lambda name: counted[name])
            raise InputError(
                f"{most}: is {counted[most]:.3g}, and 63 bits hold no more than {2**63:.3g}; run less at once"
            )
        return counted

    def __add__(self, other: Counts) -> Counts:
        """Return the counts of two runs back to back."""
        return Counts(
            self.cycles + other.cycles,
            self.macs + other.macs,
            self.padding_macs + other.padding_macs,
            _add(self.busy_cycles, other.busy_cycles),
            {cause: _add(self.stall_cycles[cause], other.stall_cycles[cause]) for cause in self.stall_cycles},
            {action: self.actions[action] + other.actions[action] for action in self.actions},
        )

    def times(self, runs: int) -> Counts:
        """Return the counts of so many equal runs back to back."""
        if runs == 1:
            return self
        return Counts(
            runs * self.cycles,
            runs * self.macs,
            runs * self.padding_macs,
            tuple(runs * cycles for cycles in self.busy_cycles),
            {cause: tuple(runs * each for each in cycles) for cause, cycles in self.stall_cycles.items()},
            {action: runs * count for action, count in self.actions.items()},
        )


def per_unit(counts: Counts, work: Sequence[int]) -> dict[str, Sequence[int]]:
    """Return what each unit does with its cycles, by column of the table; `work`: those that went into real weights."""
    return {
        "busy_cycles": counts.busy_cycles,
        "work_cycles": work,
        "padding_cycles": [busy - mine for busy, mine in zip(counts.busy_cycles, work, strict=True)],
        **{f"stall_{cause}_cycles": cycles for cause, cycles in counts.stall_cycles.items()},
    }


def _add(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(x + y for x, y in zip(a, b, strict=True))


class Outcome(NamedTuple):
    """What a run gives: the counts, and the product it computed (vectors, outputs) in int64, or None if not asked for.

    `loads` (tiles, 2): of each tile that was fetched, the cycle in which it was asked for and that of its arrival.
    """

    counts: Counts
    output: NDArray[np.int64] | None
    loads: NDArray[np.int64]
