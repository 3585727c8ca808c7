"""Engines: a wing for each machine. Nothing outside of a wing knows its name but the line in ENGINES."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

from accelsim.engines.eie import Eie
from accelsim.engines.engine import BACKENDS, Asked, Engine, Operation, Product, Ran, Row, Run, union
from accelsim.engines.tensor_core import TensorCore

if TYPE_CHECKING:
    from accelsim.chips import Hardware

ENGINES: dict[str, Engine] = {
    Eie.kind: Eie(),
    TensorCore.kind: TensorCore(),
}
"""By `engine.kind`; a chip that names none has the first."""

for _module in filter(None, os.environ.get("ACCELSIM_ENGINES", "").split(",")):
    import_module(_module)  # a wing outside of this package, which adds its line


def engine_of(chip: Hardware) -> Engine:
    """Return the machine of a chip."""
    return ENGINES[chip.engine.kind]


__all__ = [
    "BACKENDS",
    "ENGINES",
    "Asked",
    "Engine",
    "Operation",
    "Product",
    "Ran",
    "Row",
    "Run",
    "engine_of",
    "union",
]
