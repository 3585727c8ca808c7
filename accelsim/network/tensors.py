"""Named arrays from safetensors and npz files: sizes are checked before anything is allocated, nothing is unpickled."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from accelsim.errors import InputError, did_you_mean

SAFETENSORS_TYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|b1",
}  # fmt: skip


class TensorFile(Mapping[str, NDArray[Any]]):
    """The arrays of one file by name; an array is read when it is asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.shapes: dict[str, tuple[int, ...]] = {}

    def __len__(self) -> int:
        return len(self.shapes)

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def missing(self, name: str) -> str:
        """Say that there is no such array, and which there are."""
        return f"{self.path}: has no tensor '{name}'" + did_you_mean(name, self.shapes)


def open_tensors(path: Path) -> TensorFile:
    """Open a .safetensors or .npz file; raises InputError when it is not one, or is damaged."""
    kinds = {".safetensors": _Safetensors, ".npz": _Npz}
    if path.suffix not in kinds:
        raise InputError(f"{path}: tensors are read from .safetensors or .npz files")
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        return kinds[path.suffix](path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None


def check_fits_memory(size_bytes: int, what: str) -> None:
    """Raise InputError before an allocation that this machine's memory cannot hold."""
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size_bytes > memory_bytes:
        raise InputError(
            f"{what}: needs {size_bytes / 2**30:.1f} GiB, this machine has {memory_bytes / 2**30:.1f} GiB; "
            "use a smaller layer, or a safetensors file, which is mapped and not loaded"
        )


class _Safetensors(TensorFile):
    """Tensors mapped from disk: the only copy in memory is the file's own pages."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        from safetensors import SafetensorError, safe_open

        try:
            # The library checks the header: sizes, bounds, overlaps. It copies what it returns, so the reading is ours.
            with safe_open(path, framework="numpy"):
                pass
        except (SafetensorError, ValueError) as error:
            raise InputError(f"{path}: not a valid safetensors file: {error}; export or copy it again") from None
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        self._tensors = header
        self._data_offset = 8 + length
        self.shapes = {name: tuple(entry["shape"]) for name, entry in header.items()}

    def __getitem__(self, name: str) -> NDArray[Any]:
        entry = self._tensors[name]
        dtype = SAFETENSORS_TYPES.get(entry["dtype"])
        if dtype is None:
            raise InputError(
                f"{self.path}: tensor '{name}' has type {entry['dtype']}, which is not supported; "
                f"convert it to one of {', '.join(SAFETENSORS_TYPES)}"
            )
        shape = tuple(entry["shape"])
        if 0 in shape:
            return np.zeros(shape, dtype)
        start = self._data_offset + entry["data_offsets"][0]
        if start % np.dtype(dtype).itemsize and shape:
            # A header of odd length leaves the data unaligned; those few files are read instead of mapped.
            array = np.fromfile(self.path, dtype, count=int(np.prod(shape)), offset=start).reshape(shape)
        else:
            array = np.memmap(self.path, dtype, "r", offset=start, shape=shape)
        if entry["dtype"] == "BF16":
            # bfloat16 is the upper half of a float32, so this is exact.
            return (array.astype(np.uint32) << 16).view(np.float32)
        return array


class _Npz(TensorFile):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._sizes: dict[str, int] = {}
        try:
            with zipfile.ZipFile(path) as archive:
                for member in archive.infolist():
                    if member.filename.endswith(".npy"):
                        self._read_header(archive, member)
        except (zipfile.BadZipFile, ValueError, EOFError, SyntaxError) as error:
            raise InputError(f"{path}: not a valid npz file: {error}") from None

    def _read_header(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
        name = member.filename.removesuffix(".npy")
        with archive.open(member) as file:
            version = npy_format.read_magic(file)
            reader = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
            shape, _, dtype = reader(file)
            header_bytes = file.tell()
        if dtype.hasobject:
            raise InputError(
                f"{self.path}: array '{name}' holds Python objects, which are never unpickled; save numbers only"
            )
        claimed = header_bytes + int(np.prod(shape, dtype=object)) * dtype.itemsize
        if claimed != member.file_size:
            raise InputError(
                f"{self.path}: array '{name}' claims {claimed} bytes but has {member.file_size}; the file is damaged"
            )
        self.shapes[name] = tuple(shape)
        self._sizes[name] = claimed

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self.shapes:
            raise KeyError(name)
        try:
            check_fits_memory(self._sizes[name], f"{self.path}: array '{name}'")
            with np.load(self.path, allow_pickle=False) as arrays:
                array: NDArray[Any] = arrays[name]
        except (ValueError, zipfile.BadZipFile, EOFError) as error:
            raise InputError(f"{self.path}: array '{name}' cannot be read: {error}") from None
        return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
