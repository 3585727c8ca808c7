"""A file of named arrays: what any kind of them says and does."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import InputError, did_you_mean


class Written(NamedTuple):
    """An array of a file that is written: one that is stored, under its name or another, with new numbers in places."""

    name: str
    stored: str
    """The array whose type, shape and place in the file it has."""
    numbers: Callable[[], tuple[NDArray[Any], NDArray[Any]]] | None = None
    """Returns values as they are read, and which of them are new; all others, or without this all, stay as they lie."""
    kept: tuple[NDArray[np.bool_], ...] = ()
    """Which indices of each dimension are written; empty: all."""

    def shape(self, stored: Sequence[int]) -> tuple[int, ...]:
        """Return the shape in which it is written, of the one in which it is stored."""
        return tuple(int(np.count_nonzero(flags)) for flags in self.kept) if self.kept else tuple(stored)

    def taken(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return what is written of a whole array."""
        return np.ascontiguousarray(array[np.ix_(*self.kept)]) if self.kept else array


class TensorFile:
    """The arrays of one file by name; an array is read when it is asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.unusable: dict[str, str] = {}
        """What keeps an array from being read. Others in the file can be, and nobody may want this one."""
        self.metadata: dict[str, str] = {}
        self.types: dict[str, str] = {}
        """What the container calls the numbers of an array, such as F8_E4M3 or float32."""
        self.order_is_given = True
        """Whether the order of the arrays is that in which they were written; else their names give it."""
        self.shared: dict[str, str] = {}
        """Arrays that are another one under a second name, by their names: tied weights."""
        self.others: dict[str, str] = {}
        """What is in the file and no array that can be read, by name: what it is."""
        self.assumptions: list[str] = []
        """What was taken for granted to find the arrays, a sentence each with the remedy."""
        self.prefix = ""
        """What stands before the names of the arrays where one of all that the file holds is named."""
        self._version = self._now()

    def problem(self, name: str) -> str | None:
        """Return what keeps an array from being used, or None."""
        if name in self.unusable:
            return f"'{name}' {self.unusable[name]}"
        if name in self.shapes:
            return None
        ending = name.rpartition(".")[2]
        alike = [each for each in self.shapes if each.rpartition(".")[2] == ending] or self.shapes
        return f"no tensor is called '{name}'{did_you_mean(name, alike)}"

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Return an array; raises InputError where it has a problem, or the file is another than was opened."""
        problem = self.problem(name)
        if problem is None and self._now() != self._version:
            problem = f"has changed since it was opened, so '{name}' cannot be read; load the network again"
        if problem is not None:
            raise InputError(f"{self.path}: {problem}")
        try:
            return self._read(name)
        except MemoryError:
            size = " x ".join(map(str, self.shapes[name]))
            raise InputError(
                f"{self.path}: '{name}': {size} numbers are more than this machine's free memory holds; free some, or "
                "save it as safetensors, which is mapped and not loaded"
            ) from None

    def write(self, target: Path, arrays: Sequence[Written]) -> None:
        """Write such a file of these arrays, in this order; what else it holds beside arrays comes along.

        Raises InputError for what cannot be written so, OSError where the place does not take it.
        """
        raise NotImplementedError

    def _now(self) -> tuple[int, ...]:
        """Return what tells this version of the file from another."""
        try:
            found = os.stat(self.path)  # pathlib takes longer, and there are files of 100,000 arrays
        except FileNotFoundError:
            return ()
        return found.st_ino, found.st_size, found.st_mtime_ns

    def _read(self, name: str) -> NDArray[Any]:
        raise NotImplementedError


LEAST_MAPPED_BYTES = 2**14
"""Of an array for which pages are worth mapping: the system takes longer for it than for copying less."""


def mapped(path: Path, dtype: np.dtype[Any], start: int, shape: Sequence[int]) -> NDArray[Any]:
    """Return an array of a file whose elements begin at a byte: the file's own pages, where they are aligned."""
    if 0 in shape:
        return np.zeros(shape, dtype)
    count = math.prod(shape)
    if start % dtype.itemsize or count * dtype.itemsize < LEAST_MAPPED_BYTES:
        # Few files are written unaligned, and compiled loops want aligned numbers.
        array = np.fromfile(path, dtype, count=count, offset=start)
        array.flags.writeable = False
        return array.reshape(shape)
    return np.memmap(str(path), dtype, "r", offset=start, shape=tuple(shape) or (1,)).reshape(shape)


def too_large(shape: Sequence[int], itemsize: int) -> str | None:
    """Return what is wrong with a shape that no array can have, however empty, or None."""
    if math.prod(filter(None, shape)) * itemsize < 2**63:
        return None
    return f"has shape {tuple(shape)}, which no array can have; export it again"
