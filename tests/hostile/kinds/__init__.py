"""What is generated: a module for each kind, found by its name.

A module has `make(draw, folder)`: it writes the files of one case into an empty folder, which the command then runs in,
and returns the arguments of `accelsim`, with names of files as they are in the folder. All that it draws comes from
`draw`, so that kind and number are a case for ever.
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from random import Random
from types import ModuleType


def names() -> list[str]:
    """Return the kinds, sorted."""
    return sorted(found.name for found in pkgutil.iter_modules(__path__))


def module(kind: str) -> ModuleType:
    """Return the module of a kind."""
    return importlib.import_module(f"{__name__}.{kind}")


def make(kind: str, number: int, folder: Path) -> list[str]:
    """Write the files of a case into a folder and return the arguments that run it."""
    arguments: list[str] = module(kind).make(Random(f"{kind}:{number}"), folder)
    return arguments
