"""GGUF, as llama.cpp reads: tensors mapped from disk, their blocks dequantised one tensor at a time."""

from __future__ import annotations

import math
import shutil
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize
from numpy.typing import NDArray

from accelsim.errors import InputError, raise_if_any, reason_of
from accelsim.network.files.tensor_file import TensorFile, Written, mapped, too_large
from accelsim.network.sizes import check_fits_memory
from accelsim.number_formats import SAFETENSORS_TYPES, unsupported

VALUE_FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""Of values in the header, by the number of their type; 8 is text, 9 an array."""

TEXT, ARRAY = 8, 9
MOST_TENSORS = 2**20
DEFAULT_ALIGNMENT = 32


class Blocks(NamedTuple):
    """Where the blocks of a tensor lie, and of which type they are."""

    start: int
    type: GGMLQuantizationType


class Gguf(TensorFile):
    """Tensors of a GGUF file by the names of llama.cpp, in the shapes (out, in) of PyTorch."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._blocks: dict[str, Blocks] = {}
        try:
            with path.open("rb") as file:
                self._read_header(file, path.stat().st_size)
        except (ValueError, struct.error, UnicodeDecodeError) as error:
            raise InputError(f"{path}: not a complete GGUF file: {reason_of(error)}; export or copy it again") from None

    def _read_header(self, file: IO[bytes], size: int) -> None:
        header = _Header(file, size)
        _, version, tensors, pairs = header.unpack("<4sIQQ")
        if version not in (2, 3):
            raise ValueError(f"is of version {version}, and read are 2 and 3, least byte first")
        alignment = DEFAULT_ALIGNMENT
        for _ in range(pairs):
            key = header.text()
            value = header.value(*header.unpack("<I"))
            if isinstance(value, str):
                self.metadata[key] = value
            if key == "general.alignment" and isinstance(value, int):
                alignment = value
        if tensors > MOST_TENSORS or alignment < 1:
            raise ValueError(f"claims {tensors} tensors, aligned to {alignment} bytes")
        found = []
        for _ in range(tensors):
            name, (dimensions,) = header.text(), header.unpack("<I")
            if dimensions > 8:
                raise ValueError(f"'{name[:80]}' claims {dimensions} dimensions")
            sizes = header.unpack(f"<{dimensions}Q")
            found.append((name, sizes[::-1], *header.unpack("<IQ")))
        start = -(-file.tell() // alignment) * alignment
        for name, shape, type_number, offset in found:
            if name in self.shapes:
                raise ValueError(f"'{name[:80]}' is in it twice")
            self._add(name, shape, type_number, start + offset, size)

    def _add(self, name: str, shape: tuple[int, ...], type_number: int, start: int, size: int) -> None:
        self.shapes[name] = shape
        try:
            kind = GGMLQuantizationType(type_number)
        except ValueError:
            self.types[name] = f"type {type_number}"
            self.unusable[name] = f"has a type of blocks, {type_number}, that the package gguf does not know; update it"
            return
        self.types[name], self._blocks[name] = kind.name, Blocks(start, kind)
        numbers, block_bytes = GGML_QUANT_SIZES[kind]
        problem = too_large(shape, 4)
        if problem is None and shape and shape[-1] % numbers:
            problem = f"has rows of {shape[-1]}, which are no whole blocks of {numbers}"
        length = math.prod(shape) // numbers * block_bytes
        if problem is None and start + length > size:
            raise ValueError(f"'{name[:80]}' ends at byte {start + length}, the file has {size}")
        if problem is None and kind.name not in SAFETENSORS_TYPES and not _is_known(kind):
            problem = unsupported(kind.name, [*SAFETENSORS_TYPES, "Q8_0", "Q4_K", "Q6_K"])
        if problem is not None:
            self.unusable[name] = problem

    def _read(self, name: str) -> NDArray[Any]:
        start, kind = self._blocks[name]
        shape = self.shapes[name]
        if kind.name in SAFETENSORS_TYPES:
            form = SAFETENSORS_TYPES[kind.name]
            return form.values(mapped(self.path, form.stored_type, start, shape))
        check_fits_memory(4 * math.prod(shape), f"{self.path}: '{name}'")
        numbers, block_bytes = GGML_QUANT_SIZES[kind]
        rows = (*shape[:-1], shape[-1] // numbers * block_bytes)
        array: NDArray[Any] = dequantize(mapped(self.path, np.dtype(np.uint8), start, rows), kind)
        return array.reshape(shape)

    def write(self, target: Path, arrays: Sequence[Written]) -> None:
        """Write the same file with new numbers in their places; raises InputError for blocks and for other names."""
        raise_if_any(
            f"{self.path}: '{each.stored}' is stored in blocks of type {self.types[each.stored]}, in which single "
            "weights are not pruned; prune the model that it was made from"
            for each in arrays
            if each.numbers is not None and self.types[each.stored] not in SAFETENSORS_TYPES
        )
        raise_if_any(
            f"{self.path}: a GGUF file has no place for '{each.name}', as its readers know no masks; fold them"
            for each in arrays
            if each.name != each.stored
        )
        raise_if_any(
            f"{self.path}: '{each.stored}' loses channels, and a GGUF file says sizes in other places, too; write a "
            ".safetensors"
            for each in arrays
            if each.kept
        )
        shutil.copyfile(self.path, target)
        for each in arrays:
            if each.numbers is not None:
                form, shape = SAFETENSORS_TYPES[self.types[each.stored]], self.shapes[each.stored]
                values, new = each.numbers()
                lying = np.memmap(target, form.stored_type, "r+", offset=self._blocks[each.stored].start, shape=shape)
                lying[new] = form.stored(values[new])
                lying.flush()


class _Header:
    """The header of a GGUF file, of which nothing is read that it is too short for."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._size = size

    def unpack(self, layout: str) -> tuple[Any, ...]:
        return struct.unpack(layout, self.bytes(struct.calcsize(layout)))

    def bytes(self, length: int) -> bytes:
        if length > self._size - self._file.tell():
            raise ValueError(f"claims {length} bytes at {self._file.tell()}, and has {self._size}")
        return self._file.read(length)

    def text(self) -> str:
        return self.bytes(*self.unpack("<Q")).decode()

    def value(self, kind: int) -> Any:
        """Return a value, None for an array, whose items are passed over."""
        if kind == TEXT:
            return self.text()
        if kind != ARRAY:
            if kind not in VALUE_FORMATS:
                raise ValueError(f"has a value of the unknown type {kind}")
            return self.unpack(f"<{VALUE_FORMATS[kind]}")[0]
        of, count = self.unpack("<IQ")
        if of in VALUE_FORMATS:
            length = count * struct.calcsize(f"<{VALUE_FORMATS[of]}")
            if length > self._size - self._file.tell():
                raise ValueError(f"claims an array of {count} values, and has {self._size} bytes")
            self._file.seek(length, 1)
            return None
        if of != TEXT:
            raise ValueError(f"has an array of the unknown type {of}")
        for _ in range(count):
            self.bytes(*self.unpack("<Q"))
        return None


def _is_known(kind: GGMLQuantizationType) -> bool:
    """Return whether the package dequantises blocks of this type."""
    try:
        dequantize(np.zeros((1, GGML_QUANT_SIZES[kind][1]), np.uint8), kind)
    except NotImplementedError:
        return False
    return True
