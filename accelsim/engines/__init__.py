"""Engines: each a specification, a compiled twin, and the configuration that selects it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from accelsim.engines import eie, eie_fast, eie_image
from accelsim.engines.counts import Counts, Outcome
from accelsim.hardware import EieConfig


class Engine(NamedTuple):
    """An entry of ENGINES; a new engine is a specification, a twin, a configuration and one of these."""

    config: type
    encode: Callable[..., Any]
    """(weights, config, codes, codebook) -> the layer as this engine holds it."""
    capacity_problems: Callable[..., list[str]]
    storage: Callable[..., Any]
    reference: Callable[..., Outcome]
    """(config, image, activations) -> Outcome, in SimPy."""
    fast: Callable[..., Outcome]
    """The same signature and the same integers, compiled."""


ENGINES: dict[str, Engine] = {
    "eie": Engine(
        config=EieConfig,
        encode=eie_image.encode_layer,
        capacity_problems=eie_image.capacity_problems,
        storage=eie_image.storage,
        reference=eie.run,
        fast=eie_fast.run,
    )
}

__all__ = ["ENGINES", "Counts", "Engine", "Outcome"]
