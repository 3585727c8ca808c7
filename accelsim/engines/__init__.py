"""Engines: a wing for each machine. Outside a wing, only its line in ENGINES knows its name."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

from accelsim.engines.eie import Eie
from accelsim.engines.engine import BACKENDS, ApartError, Asked, Engine, Operation, Product, Ran, Row, Run, Terms, union
from accelsim.engines.systolic import Systolic
from accelsim.engines.tensor_core import TensorCore
from accelsim.errors import InputError, collecting, raise_if_any

if TYPE_CHECKING:
    from accelsim.chips import Hardware

ENGINES: dict[str, Engine] = {
    Eie.kind: Eie(),
    TensorCore.kind: TensorCore(),
    Systolic.kind: Systolic(),
}
"""By `engine.kind`; a chip that names none has the first."""


def _load(modules: str) -> None:
    """Import wings outside of this package, each of which adds its line; names with commas between them.

    Raises InputError with every one that cannot be found, or that imports what cannot.
    """
    problems: list[str] = []
    for name in filter(None, map(str.strip, modules.split(","))):
        with collecting(problems, f"ACCELSIM_ENGINES: {name}: "):
            _import(name)
    raise_if_any(problems)


def _import(name: str) -> None:
    if not all(map(str.isidentifier, name.split("."))):
        raise InputError("is not the name of a module; write it as after import, its folder on PYTHONPATH")
    try:
        import_module(name)
    except ModuleNotFoundError as error:
        raise InputError(f"no module '{error.name}'; install it, or put its folder on PYTHONPATH") from None


_load(os.environ.get("ACCELSIM_ENGINES", ""))


def engine_of(chip: Hardware) -> Engine:
    """Return the machine of a chip."""
    return ENGINES[chip.engine.kind]


__all__ = [
    "BACKENDS",
    "ENGINES",
    "ApartError",
    "Asked",
    "Engine",
    "Operation",
    "Product",
    "Ran",
    "Row",
    "Run",
    "Terms",
    "engine_of",
    "union",
]
