"""EIE, the specification: a SimPy model that reads like the datapath.

Source: Han et al., "EIE: Efficient Inference Engine on Compressed Deep Neural Network", ISCA 2016, Section IV.
Latencies that the paper does not give are those of its authors' register-transfer-level simulator (docs/eie.md).
`eie_fast.py` returns the same integers in microseconds.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import simpy
from numpy.typing import NDArray

from accelsim.engines.channel import BroadcastChannel, run_until
from accelsim.engines.counts import Counts, Outcome
from accelsim.engines.eie_image import EieImage, EieSlice, actions, scan_inputs
from accelsim.errors import VerificationError
from accelsim.formats.relative_csc import RelativeCsc
from accelsim.hardware import EieConfig

PIPELINE_CYCLES = 6
"""From the cycle of an entry to the write of its result: decode, multiply, shift, add, write back, done."""

PE_COUNTERS: tuple[str, ...] = (
    "ptr_reads",
    "spmat_reads",
    "macs",
    "padding_macs",
    "scan",
    "backpressure",
    "empty_column",
    "free",
)

Process = Generator[simpy.Event, Any, Any]


class Activation(NamedTuple):
    """What the broadcast carries: the input's index and value, and how long a full queue held it back."""

    column: int
    value: int
    held_back_cycles: int


@dataclass
class ProcessingElement:
    """One PE: pops activations, reads the pointer pair, fetches rows of entries, accumulates into its registers."""

    env: simpy.Environment
    number: int
    queue: BroadcastChannel
    matrix: RelativeCsc
    entries_per_row: int
    codebook: NDArray[np.int64] | None
    accumulators: NDArray[np.int64]
    counters: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PE_COUNTERS, 0))
    done_cycle: int = 0

    def run(self, columns: int) -> Process:
        """Work off `columns` activations."""
        count = self.counters
        latched_row = None
        free_cycle = 0
        for _ in range(columns):
            activation = yield self.queue.pop(self.number)
            starved = int(self.env.now) + 1 - free_cycle
            held_back = min(starved, activation.held_back_cycles)
            count["backpressure"] += held_back
            count["scan"] += starved - held_back

            count["ptr_reads"] += 1
            address = int(self.matrix.pointers[self.number, activation.column])
            codes, zero_runs = self.matrix.column(self.number, activation.column)
            register = -1
            for code, zero_run in zip(codes.tolist(), zero_runs.tolist(), strict=True):
                row = address // self.entries_per_row
                if row != latched_row:
                    count["spmat_reads"] += 1
                    latched_row = row
                address += 1
                register += zero_run + 1
                if code:
                    count["macs"] += 1
                    if self.codebook is not None:
                        self.accumulators[register] += self.codebook[code] * activation.value
                else:
                    count["padding_macs"] += 1
                yield self.env.timeout(1)
            if len(codes):
                self.done_cycle = max(self.done_cycle, int(self.env.now) + PIPELINE_CYCLES)
            else:
                count["empty_column"] += 1
                yield self.env.timeout(1)
                self.done_cycle = max(self.done_cycle, int(self.env.now) + 1)
            free_cycle = int(self.env.now) + 1
        count["free"] = free_cycle


def non_zero_scan(
    env: simpy.Environment, inputs: NDArray[np.int64], bias_column: int, pes: int, queue: BroadcastChannel
) -> Process:
    """Find the non-zero inputs a row of `pes` at a time and broadcast them in order; returns the cycle it ends in."""
    yield env.timeout(1)  # the first row is latched
    for first in range(0, len(inputs), pes):
        slot = -1
        for slot in np.flatnonzero(inputs[first : first + pes]).tolist():
            ready = int(env.now)
            yield queue.room()
            held_back = int(env.now) - ready
            column = min(first + slot, bias_column)
            queue.push(Activation(column, int(inputs[first + slot]), held_back))
            yield env.timeout(1)
        # A row with nothing further costs a cycle; after its last slot the next row was loaded in the same one.
        if slot != pes - 1:
            yield env.timeout(1)
    return int(env.now)


def simulate_slice(
    config: EieConfig,
    part: EieSlice,
    vector: NDArray[np.int64],
    codebook: NDArray[np.int64] | None,
    environment: type[simpy.Environment] = simpy.Environment,
) -> tuple[Counts, NDArray[np.int64]]:
    """Run one vector (columns of the slice,) through it; returns counts and accumulators (outputs of the slice,)."""
    if part.matrix is None:
        raise VerificationError("the specification needs the encoded entries, not only their counts")
    env = environment()
    inputs = scan_inputs(part, vector, config.pes)
    queue = BroadcastChannel(env, config.pes, slots=config.fifo_depth - 1)
    registers = -(-part.outputs // config.pes)
    accumulators = np.zeros((registers, config.pes), np.int64)
    elements = [
        ProcessingElement(env, k, queue, part.matrix, config.entries_per_row, codebook, accumulators[:, k])
        for k in range(config.pes)
    ]
    columns = int(np.count_nonzero(inputs))
    scan = env.process(non_zero_scan(env, inputs, part.inputs, config.pes, queue))
    done = env.all_of([scan, *(env.process(element.run(columns)) for element in elements)])
    run_until(env, done, queue.describe_waiters)

    scan_end: Any = scan.value
    cycles = max(int(scan_end), *(element.done_cycle for element in elements))
    per_pe = {name: tuple(element.counters[name] for element in elements) for name in PE_COUNTERS}
    macs, padding = sum(per_pe["macs"]), sum(per_pe["padding_macs"])
    counts = Counts(
        cycles=cycles,
        macs=macs,
        padding_macs=padding,
        busy_cycles=tuple(map(sum, zip(per_pe["macs"], per_pe["padding_macs"], strict=True))),
        stall_cycles={
            "scan": per_pe["scan"],
            "backpressure": per_pe["backpressure"],
            "empty_column": per_pe["empty_column"],
            "drain": tuple(cycles - free for free in per_pe["free"]),
        },
        actions=actions(
            config,
            part,
            macs=macs,
            padding_macs=padding,
            ptr_reads=sum(per_pe["ptr_reads"]),
            spmat_reads=sum(per_pe["spmat_reads"]),
        ),
    )
    return counts, accumulators.reshape(-1)[: part.outputs]


def run(
    config: EieConfig,
    image: EieImage,
    activations: NDArray[np.int64],
    *,
    environment: type[simpy.Environment] = simpy.Environment,
) -> Outcome:
    """Run a batch (vectors, columns) of integer activations through a layer, vector by vector, slice by slice."""
    return image.run_all(
        activations, lambda part, vector: simulate_slice(config, part, vector, image.codebook, environment)
    )
