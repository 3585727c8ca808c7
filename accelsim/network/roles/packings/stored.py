"""What the decoders of packed weights ask of a file: types, shapes, siblings, and what is written beside it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import InputError
from accelsim.network.files.tensor_file import TensorFile
from accelsim.network.roles.logical import Logical
from accelsim.network.sizes import check_fits_memory
from accelsim.number_formats import ARRAY_TYPES, SAFETENSORS_TYPES, NumberFormat

CHUNK = 2**20
"""Weights decoded at a time: beside the result only so many are held."""

MOST_BYTES_OF_STATE = 2**16
"""Of an array that describes another, such as a shape or a few lines of JSON."""

MOST_BYTES_OF_CONFIG = 2**22

Rows = Callable[[int, int], NDArray[Any]]
"""Gives rows of the weights, from the first to before the last."""


class Found(NamedTuple):
    """Stored arrays that are one packed weight, or several."""

    packing: str
    """What the packing is called."""
    weight: str
    """Name of the weight, or of the first of them."""
    parts: list[str]
    decode: Callable[[], list[Logical]]
    """Returns the weights; raises InputError, without a place, where the packing does not prove what they are."""
    unpack: str
    """What to do where it does not."""


class Packed:
    """A file, asked for packed weights; nothing large is read before a weight is."""

    def __init__(self, file: TensorFile) -> None:
        self.file = file
        self.place = {name: at for at, name in enumerate(file.shapes)}
        self.assumed: dict[str, list[str]] = {}
        """What is taken for granted, with the remedy, and of which weights."""

    def assume(self, weight: str, what: str) -> None:
        """Note what is taken for granted of a weight."""
        self.assumed.setdefault(what, []).append(weight)

    def __contains__(self, name: str) -> bool:
        return name in self.place

    def beside(self, root: str, *leaves: str) -> list[str]:
        """Return those of the arrays `root` + leaf that the file has."""
        return [f"{root}{each}" for each in leaves if f"{root}{each}" in self.place]

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the stored shape."""
        return tuple(self.file.shapes[name])

    def size(self, name: str) -> int:
        """Return the number of stored elements."""
        return math.prod(self.file.shapes[name])

    def form(self, name: str) -> NumberFormat:
        """Return what the stored numbers are; raises InputError for a type that is not known."""
        called = self.file.types.get(name, "")
        form = SAFETENSORS_TYPES.get(called) or ARRAY_TYPES.get(called)
        if form is None or name in self.file.unusable:
            raise InputError(f"'{leaf(name)}' has type {called or 'unknown'}, which cannot be read")
        return form

    def check_type(self, name: str, *names: str) -> NumberFormat:
        """Return the format of an array; raises InputError unless it is one of those named."""
        form = self.form(name)
        if form.name not in names:
            raise InputError(f"'{leaf(name)}' has type {form.name}, where {' or '.join(names)} belongs")
        return form

    def small(self, name: str) -> NDArray[Any]:
        """Read an array that describes another one; raises InputError where it is too large for that."""
        if self.size(name) * self.form(name).bits // 8 > MOST_BYTES_OF_STATE:
            raise InputError(f"'{leaf(name)}' has shape {self.shape(name)}, too large for what it describes")
        return self.file[name]

    def small_integers(self, name: str) -> list[int]:
        """Read a few whole numbers, such as a shape; raises InputError for anything else."""
        if self.form(name).family not in ("int", "uint"):
            raise InputError(f"'{leaf(name)}' has type {self.form(name).name}, where whole numbers belong")
        return [int(each) for each in self.small(name).reshape(-1)]

    def shape_in(self, name: str) -> tuple[int, ...]:
        """Read the shape of a weight; raises InputError unless it has one or more dimensions of positive size."""
        shape = tuple(self.small_integers(name))
        if not 1 <= len(shape) <= 5 or min(shape) < 1:
            raise InputError(f"'{leaf(name)}' says shape {shape}; a weight's sizes are 1 or above")
        return shape

    def logical(
        self, name: str, shape: tuple[int, ...], parts: list[str], start: Callable[[], Rows | NDArray[Any]], how: str
    ) -> Logical:
        """Return a weight that is decoded when it is read, in real values as float32.

        shape: its own. start: opens the stored arrays and returns what gives its rows along the first dimension, or the
        whole of it.
        """
        parts = sorted(parts, key=self.place.__getitem__)

        def read() -> NDArray[Any]:
            check_fits_memory(4 * math.prod(shape), f"{self.file.path}: '{name}' of shape {shape}")
            try:
                # What is no finite number is told of the weights, as of any others.
                with np.errstate(all="ignore"):
                    rows = start()
                    return rows if isinstance(rows, np.ndarray) else filled(shape, rows)
            except InputError as error:
                here = f"{self.file.path}: "
                raise InputError(
                    *(each if each.startswith(here) else f"{here}'{name}': {each}" for each in error.problems)
                ) from None

        return Logical(name, shape, tuple(parts), read, how)

    @cached_property
    def quantization(self) -> dict[str, Any]:
        """What `config.json` or `quantize_config.json` beside the file says about packing; {} without.

        Raises InputError for one that is damaged.
        """
        folder = self.file.path if self.file.path.is_dir() else self.file.path.parent
        held = _json(folder / "config.json").get("quantization_config")
        if isinstance(held, dict):
            return held
        return _json(folder / "quantize_config.json")


def filled(shape: tuple[int, ...], rows: Rows) -> NDArray[np.float32]:
    """Return an array filled a part at a time, so that beside it only a part is held."""
    array = np.empty(shape, np.float32)
    at_once = rows_at_once(shape)
    for first in range(0, shape[0], at_once):
        last = min(first + at_once, shape[0])
        array[first:last] = rows(first, last)
    return array


def rows_at_once(shape: tuple[int, ...]) -> int:
    """Return how many rows are decoded at a time: a multiple of 32, so that no word is cut where rows are packed."""
    return max(CHUNK // max(math.prod(shape[1:]), 1) // 32, 1) * 32


class Scaling(NamedTuple):
    """A weight's scales and zero points, opened, for some rows of it."""

    scales: Rows
    zeros: Rows | None = None

    def of(self, codes: Rows) -> Rows:
        """Return rows of real values of rows of codes."""

        def rows(first: int, last: int) -> NDArray[Any]:
            values = codes(first, last).astype(np.float32)
            if self.zeros is not None:
                values -= self.zeros(first, last)
            values *= self.scales(first, last)
            return values

        return rows


def root_of(name: str, last: str) -> str | None:
    """Return what stands before the last part of a name, its dot included; None where it is another."""
    if name == last:
        return ""
    return name.removesuffix(last) if name.endswith(f".{last}") else None


def leaf(name: str) -> str:
    """Return the last part of an array's name."""
    return name.rpartition(".")[2]


def _json(path: Path) -> dict[str, Any]:
    """Return the object that a JSON file holds, {} where there is no file; raises InputError for a damaged one."""
    try:
        if not path.is_file():
            return {}
        if path.stat().st_size > MOST_BYTES_OF_CONFIG:
            raise InputError(f"{path.name} beside the file is larger than {MOST_BYTES_OF_CONFIG} bytes; move it away")
        held = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path.name} beside the file cannot be read ({error}); fix it or move it away") from None
    return held if isinstance(held, dict) else {}
