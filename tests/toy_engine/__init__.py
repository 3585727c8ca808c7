"""A third machine, as small as one can be: a row of multipliers that has no use for zeros.

Everything that accelsim needs of it is this folder and the last line of this file.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np

from accelsim.energy import PER_CYCLE, Entry, Price
from accelsim.engines import ENGINES, Asked, Engine, Operation, Ran, Row, Run, Terms
from accelsim.engines.counts import per_unit
from accelsim.engines.events import Timeline, Window, open_log
from accelsim.engines.measures import Crossing, Pace, measures, world
from accelsim.errors import VerificationError
from accelsim.formats.counting import WeightMatrix
from accelsim.formats.fixed import fixed_point
from accelsim.network import Layer, Network
from accelsim.network.activations import Samples
from toy_engine import specification, twin
from toy_engine.config import WORDS, ToyChip

RUN = {"compiled": twin.run, "simpy": specification.run}
BITS = 16


class ToyRun(Run):
    """One chip on one network: every layer by itself, everything on the chip."""

    chip: Any = None

    def __init__(self, chip: ToyChip) -> None:
        self.chip = chip

    def row(self, layer: Layer, weights: WeightMatrix, samples: Samples, asked: Asked) -> Row:
        """Run one layer: its matrix, with the bias as one more column, times every vector."""
        content, config, matrix = weights.content, self.chip.engine, weights.with_bias
        times = len(samples) * layer.products.vectors
        vectors: Any = np.zeros((1, matrix.shape[1]), np.int64)  # for the cycles they are all alike
        if asked.verify:
            matrix = fixed_point(matrix, BITS).integers
            one = None if weights.bias is None else 1
            vectors = layer.lower(fixed_point(samples.batch, BITS).integers, one)[0:times]
        counts, output = RUN[asked.backend](config, matrix, vectors)
        if asked.verify and not np.array_equal(output, vectors @ matrix.T):
            raise VerificationError(f"layer {layer.name}: the product differs from the dense one")
        counts = counts.times(times // len(vectors))
        nonzeros = int(np.count_nonzero(weights.weight))
        account = TOY.entries(self.chip, Ran(counts.actions, counts.cycles, config.clock_mhz)), WORDS
        bits, work = BITS * matrix.size, np.count_nonzero(matrix, axis=0)
        maps = [BITS * len(samples) * count for count in (layer.maps.inputs, layer.maps.outputs)]
        return {
            **measures(
                self.chip, counts, Pace(config.lanes, 4.0 * config.lanes), account,
                work_cycles=counts.macs, time_us=counts.cycles / config.clock_mhz, clock_mhz=config.clock_mhz,
            ),
            "units": per_unit(counts, [times * int(work[lane :: config.lanes].sum()) for lane in range(config.lanes)]),
            **world(*(Crossing(each, each) for each in (*maps, bits))),  # nothing leaves the chip while it runs
            "compute_cycles": max(counts.busy_cycles), "rows_done": len(matrix) * times,
            "weight_density": nonzeros / layer.weight_count, "granularity": layer.pruned_as(nonzeros),
            "sram_gb_per_s": 4e-3 * counts.actions["multiplies"] * config.clock_mhz / counts.cycles,
            "executed_as": "dense", "residency": "resident", "layer_hash": content.digest,
            "stored_entries": matrix.size, "storage_bits": bits, "storage_values_bits": bits,
            "area_mm2": TOY.area_mm2(self.chip), "extrapolated": "no",
        }  # fmt: skip


class Toy(Engine):
    """The row of multipliers; what its methods promise stands in `Engine`."""

    kind: ClassVar[Literal["toy"]] = "toy"
    chip = ToyChip
    words = WORDS

    def on(self, chip: Any) -> ToyRun:
        return ToyRun(chip)

    def timeline(
        self, chip: Any, network: Network, layer: Layer, samples: Samples, backend: str, window: Window
    ) -> Timeline:
        matrix = WeightMatrix(layer.matrix, layer.bias).with_bias
        note = twin.note if backend == "compiled" else specification.note
        times, once = len(samples) * layer.products.vectors, specification.cycles(chip.engine, matrix.shape)
        log = open_log(times * once, window)
        for number in range(times):
            log.origin = number * once
            if log.reaches(once):
                note(log, chip.engine, matrix)
        cut = log.first_cycle, log.last_cycle, log.frame(WORDS.kinds)
        return Timeline(network.name, layer.name, chip.name, chip.engine.clock_mhz, times * once, *cut)

    def prices(self, chip: Any, *, streamed: bool = False) -> dict[str, Price]:
        multiply = Price("multipliers", chip.engine.multiply_pj, chip.source)
        return {"multiplies": multiply, f"idle{PER_CYCLE}": Price("idle", chip.engine.idle_pj, chip.source)}

    def entries(self, chip: Any, ran: Ran) -> list[Entry]:
        times = {**ran.actions, f"idle{PER_CYCLE}": ran.cycles}
        return [(action, times[action], price) for action, price in self.prices(chip).items()]

    def area_mm2(self, chip: Any) -> float:
        return float(1e-6 * chip.engine.lanes * chip.engine.lane_um2)

    def operations(self, chip: Any) -> list[Operation]:
        return [Operation("multiply", chip.engine.multiply_pj, chip.source)]

    def terms(self, chip: Any) -> Terms:
        return Terms("int64", multipliers=chip.engine.lanes, sram_bytes=0, basis="made up")

    def describe(self, chip: Any) -> tuple[str, str]:
        return f"{chip.engine.lanes} lanes", f"{self.area_mm2(chip):.3f} mm²"


TOY = ENGINES[Toy.kind] = Toy()
