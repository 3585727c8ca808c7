"""Engines: each a specification, a compiled twin, and the configuration that selects it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from accelsim.engines import eie, eie_fast, eie_image, eie_memory
from accelsim.engines.counts import Counts, Outcome
from accelsim.engines.streaming import Stream
from accelsim.hardware import EieConfig


class Engine(NamedTuple):
    """An entry of ENGINES; a new engine is a specification, a twin, a configuration and one of these."""

    config: type
    timing: Callable[..., Any]
    """(config) -> what of it can change the counts of a run with everything on the chip, as something hashable."""
    encode: Callable[..., Any]
    """(weights, config, codes, codebook) -> the layer as this engine holds it.

    Its `footprint` says what it needs of the on-chip memories; footprints add up to that of a network.
    """
    weight_problems: Callable[..., list[str]]
    """(footprint, config) -> which weights do not fit on the chip."""
    activation_problems: Callable[..., list[str]]
    """(maps, config) -> which activations of a sample do not."""
    stream: Callable[..., Stream]
    """(image, config, memory, service, vectors, weights, activations) -> how a layer is fed from DRAM."""
    storage: Callable[..., Any]
    reference: Callable[..., Outcome]
    """(config, image, vectors, stream) -> Outcome, in SimPy; without a stream everything is on the chip."""
    fast: Callable[..., Outcome]
    """The same signature and the same integers, compiled."""


ENGINES: dict[str, Engine] = {
    "eie": Engine(
        config=EieConfig,
        timing=eie_image.timing,
        encode=eie_image.encode_layer,
        weight_problems=eie_memory.weight_problems,
        activation_problems=eie_memory.activation_problems,
        stream=eie_memory.stream,
        storage=eie_image.storage,
        reference=eie.run,
        fast=eie_fast.run,
    )
}

__all__ = ["ENGINES", "Counts", "Engine", "Outcome", "Stream"]
