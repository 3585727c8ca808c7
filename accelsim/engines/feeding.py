"""Whether a chip holds the weights of a network or has them streamed from DRAM: for any machine that can do both."""

from __future__ import annotations

from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from accelsim.chips import EngineConfig, Hardware, MemoryConfig
from accelsim.engines.counts import Outcome
from accelsim.engines.streaming import Stream, VectorSource
from accelsim.errors import UnsupportedError, raise_if_any
from accelsim.formats.counting import WeightMatrix
from accelsim.memory.service import DramService, measure, tile_arrivals
from accelsim.network.lowering import Maps, Vectors
from accelsim.parts.bandwidth import BandwidthPart

Config = TypeVar("Config", bound=EngineConfig)
OfConfig = TypeVar("OfConfig", bound=EngineConfig, contravariant=True)
Image = TypeVar("Image")
"""A layer as a machine holds it. Its `footprint` is what it needs of the memories; footprints add up."""


class Fed(Protocol[OfConfig, Image]):
    """What a machine has to say to be fed: what fits, what comes when, and how it runs meanwhile."""

    @property
    def remedy(self) -> str:
        """What else there is to do where a memory is too small, as in "use more PEs"."""

    @property
    def limitless(self) -> str:
        """What to set so that nothing has to fit."""

    def image(self, weights: WeightMatrix, config: OfConfig) -> Image:
        """Return a layer as the machine holds it, counted and not encoded; raises InputError for weights not finite."""

    def footprint(self, image: Image) -> Any:
        """Return what a layer needs of the memories; footprints are added to that of a network."""

    def weight_problems(self, need: Any, config: OfConfig) -> list[str]:
        """Say which weights do not fit on the chip at once."""

    def activation_problems(self, maps: Maps, config: OfConfig) -> list[str]:
        """Say which activations of a sample do not fit."""

    def stream(
        self,
        image: Image,
        config: OfConfig,
        memory: MemoryConfig,
        service: DramService,
        *,
        vectors: int,
        weights: bool,
        activations: Maps | None,
    ) -> Stream:
        """Return how so many vectors are fed: their weights, their activations (None: on the chip), or both."""

    def run(
        self, backend: str, config: OfConfig, image: Image, vectors: VectorSource, stream: Stream | None = None
    ) -> Outcome:
        """Run integer vectors (vectors, columns) through a layer; without a stream everything is on the chip."""


class Feeding(Generic[Config, Image]):
    """How one chip is fed with one network: resident only if all of it fits at once.

    Layers are looked at in order; whether they are streamed is known as soon as they are too many, or after the last.
    `limitless`: nothing has to fit.
    """

    def __init__(self, chip: Hardware, config: Config, fed: Fed[Config, Image], *, limitless: bool = False) -> None:
        self.memory = chip.memory
        self.config = config
        self.fed = fed
        self._asked = "resident" if limitless or chip.memory is None else chip.memory.residency
        self._need: Any = None

    def look_at(self, weights: WeightMatrix) -> None:
        """Add a layer; raises InputError for weights that are not finite."""
        need = self.fed.footprint(self.fed.image(weights, self.config))
        if self._asked == "resident" and self.fed.weight_problems(need, self.config):
            return  # it will not run at all
        self._need = need if self._need is None else self._need + need

    @property
    def residency(self) -> str:
        """Resident or stream, of the layers seen so far."""
        overflows = (
            self._asked == "auto" and self._need is not None and self.fed.weight_problems(self._need, self.config)
        )
        return "stream" if overflows else "resident" if self._asked == "auto" else self._asked

    def fetches(self, maps: Maps) -> bool:
        """Return whether something of a layer comes from DRAM, whose time is not that of the chip alone."""
        spilled = self._asked != "resident" and self.fed.activation_problems(maps, self.config)
        return self.memory is not None and bool(spilled or self.residency == "stream")

    @property
    def known(self) -> bool:
        """Whether further layers cannot change the answer."""
        return self._asked != "auto" or self.residency == "stream"

    def run(
        self, backend: str, image: Image, vectors: Vectors, maps: Maps, weights: WeightMatrix | None = None
    ) -> tuple[Outcome, Stream | None]:
        """Run vectors through a layer; returns the outcome, and how it was fed, None where everything is on the chip.

        `weights`: those of the image where these are the vectors that always meet them and no product is wanted; chips
        that differ only in what does not change cycles then share one run.
        Raises UnsupportedError for what has to be resident and does not fit.
        """
        stream = self._stream(image, len(vectors), maps)
        memory = self.memory
        if stream is None and weights is not None:
            key = ("run", backend, self.config.run_key)
            return weights.lately(key, lambda: self.fed.run(backend, self.config, image, vectors)), None
        outcome = self.fed.run(backend, self.config, image, vectors, stream)
        if stream is None or memory is None or memory.timing == "service" or isinstance(memory.dram, BandwidthPart):
            return outcome, stream
        # When tiles are asked for depends on when others came: again until that is settled, tile after tile.
        while True:
            asked = outcome.loads[:, 0]
            arrived = tile_arrivals(memory.dram, memory.all_channels, self.config.clock_mhz, asked, stream.tile_blocks)
            stream = stream.with_arrivals(asked, arrived)
            outcome = self.fed.run(backend, self.config, image, vectors, stream)
            if np.array_equal(outcome.loads[:, 0], asked):
                return outcome, stream

    def _stream(self, image: Image, vectors: int, maps: Maps) -> Stream | None:
        config, memory = self.config, self.memory
        spilled = self.fed.activation_problems(maps, config)
        if self._asked == "resident":
            problems = self.fed.weight_problems(self.fed.footprint(image), config) + spilled
            raise_if_any((f"{problem}; enlarge it, {self._remedy}" for problem in problems), UnsupportedError)
        streamed = self.residency == "stream"
        if memory is None or not (streamed or spilled):
            return None
        service = measure(memory.dram)
        return self.fed.stream(
            image, config, memory, service, vectors=vectors, weights=streamed, activations=maps if spilled else None
        )

    def check_network(self) -> None:
        """Raise InputError where every layer has to be resident and each fits, but not all at once."""
        if self._asked == "resident" and self._need is not None:
            problems = self.fed.weight_problems(self._need, self.config)
            raise_if_any(
                f"{problem}; each layer fits, but not all of them at once: enlarge it, {self._remedy}"
                for problem in problems
            )

    @property
    def _remedy(self) -> str:
        fetch = "add a [memory] to fetch it from" if self.memory is None else 'set memory.residency = "auto"'
        return f"{self.fed.remedy}, {fetch}, or {self.fed.limitless}"
