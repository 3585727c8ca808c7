"""Whether a chip holds the weights of a network or has them streamed from DRAM."""

from __future__ import annotations

from typing import Any

import numpy as np

from accelsim.engines import ENGINES, Outcome, Stream
from accelsim.errors import UnsupportedError, raise_if_any
from accelsim.formats.counting import WeightMatrix
from accelsim.hardware import Hardware
from accelsim.memory.service import measure, tile_arrivals
from accelsim.network.lowering import Maps, Vectors
from accelsim.parts.bandwidth import BandwidthPart


class Feeding:
    """How one chip is fed with one network: resident only if all of it fits at once.

    Layers are looked at in order; whether they are streamed is known as soon as they are too many, or after the last.
    """

    def __init__(self, chip: Hardware) -> None:
        self.chip = chip
        self.engine = ENGINES[chip.engine.kind]
        limitless = chip.eie.engine.capacity == "ignore"
        self._asked = "resident" if limitless or chip.memory is None else chip.memory.residency
        self._need: Any = None

    def look_at(self, weights: WeightMatrix) -> None:
        """Add a layer; raises InputError for weights that are not finite."""
        config = self.chip.engine
        need = self.engine.encode(weights, config).footprint
        if self._asked == "resident" and self.engine.weight_problems(need, self.chip.engine):
            return  # it will not run at all
        self._need = need if self._need is None else self._need + need

    @property
    def residency(self) -> str:
        """Resident or stream, of the layers seen so far."""
        overflows = self._asked == "auto" and self.engine.weight_problems(self._need, self.chip.engine)
        return "stream" if overflows else "resident" if self._asked == "auto" else self._asked

    @property
    def known(self) -> bool:
        """Whether further layers cannot change the answer."""
        return self._asked != "auto" or self.residency == "stream"

    def run(
        self, backend: str, image: Any, vectors: Vectors, maps: Maps, weights: WeightMatrix | None = None
    ) -> tuple[Outcome, Stream | None]:
        """Run vectors through a layer; returns the outcome, and how it was fed, None where everything is on the chip.

        `weights`: those of the image where these are the vectors that always meet them and no product is wanted; chips
        that differ only in what does not change cycles then share one run.
        Raises UnsupportedError for what has to be resident and does not fit.
        """
        run = self.engine.fast if backend == "compiled" else self.engine.reference
        stream = self._stream(image, len(vectors), maps)
        memory = self.chip.memory
        if stream is None and weights is not None:
            key = ("run", backend, self.engine.timing(self.chip.engine))
            return weights.lately(key, lambda: run(self.chip.engine, image, vectors)), None
        outcome = run(self.chip.engine, image, vectors, stream)
        if stream is None or memory is None or memory.timing == "service" or isinstance(memory.dram, BandwidthPart):
            return outcome, stream
        # When tiles are asked for depends on when others came: again until that is settled, tile after tile.
        while True:
            asked = outcome.loads[:, 0]
            arrived = tile_arrivals(
                memory.dram, memory.all_channels, self.chip.engine.clock_mhz, asked, stream.tile_blocks
            )
            stream = stream.with_arrivals(asked, arrived)
            outcome = run(self.chip.engine, image, vectors, stream)
            if np.array_equal(outcome.loads[:, 0], asked):
                return outcome, stream

    def _stream(self, image: Any, vectors: int, maps: Maps) -> Stream | None:
        config, memory = self.chip.engine, self.chip.memory
        spilled = self.engine.activation_problems(maps, config)
        if self._asked == "resident":
            problems = self.engine.weight_problems(image.footprint, config) + spilled
            raise_if_any(
                (f"{problem}; enlarge it, use more PEs, {self._remedy}" for problem in problems), UnsupportedError
            )
        streamed = self.residency == "stream"
        if memory is None or not (streamed or spilled):
            return None
        service = measure(memory.dram)
        return self.engine.stream(
            image, config, memory, service, vectors=vectors, weights=streamed, activations=maps if spilled else None
        )

    def check_network(self) -> None:
        """Raise InputError where every layer has to be resident and each fits, but not all at once."""
        if self._asked == "resident" and self._need is not None:
            problems = self.engine.weight_problems(self._need, self.chip.engine)
            raise_if_any(
                f"{problem}; each layer fits, but not all of them at once: enlarge it, use more PEs, {self._remedy}"
                for problem in problems
            )

    @property
    def _remedy(self) -> str:
        fetch = "add a [memory] to fetch it from" if self.chip.memory is None else 'set memory.residency = "auto"'
        return f'{fetch}, or set engine.capacity = "ignore"'
