"""Named arrays from safetensors and npz files: sizes are checked before anything is allocated, nothing is unpickled."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from accelsim.config import existing_file
from accelsim.errors import InputError, needing
from accelsim.network.arrays import is_supported, unsupported
from accelsim.network.sizes import check_fits_memory
from accelsim.network.tensor_file import TensorFile

SAFETENSORS_TYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|b1",
}  # fmt: skip


TENSOR_SUFFIXES = (".safetensors", ".npz", ".pt", ".pth")


def open_tensors(path: Path) -> TensorFile:
    """Open a .safetensors or .npz file, or a state dict in a .pt; raises InputError for any other and damaged ones."""
    existing_file(path)
    try:
        if path.suffix in (".pt", ".pth"):
            with needing("torch"):
                from accelsim.network.torch_file import StateDict
            return StateDict(path)
        return _Safetensors(path) if path.suffix == ".safetensors" else _Npz(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None


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
            reason = str(error).removeprefix("Error while deserializing header: ")
            reason = reason.replace(
                "incomplete metadata, file not fully covered", "its data does not end where it should"
            )
            raise InputError(f"{path}: not a whole safetensors file: {reason}; export or copy it again") from None
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
        self.metadata = header.pop("__metadata__", None) or {}
        self._tensors = header
        self._data_offset = 8 + length
        self.shapes = {name: tuple(entry["shape"]) for name, entry in header.items()}
        known = ", ".join(SAFETENSORS_TYPES)
        self.unusable = {
            name: f"has type {entry['dtype']}, which is not supported; convert it to one of {known}"
            for name, entry in header.items()
            if entry["dtype"] not in SAFETENSORS_TYPES
        }

    def _read(self, name: str) -> NDArray[Any]:
        entry = self._tensors[name]
        dtype = np.dtype(SAFETENSORS_TYPES[entry["dtype"]])
        shape = self.shapes[name]
        if 0 in shape:
            return np.zeros(shape, dtype)
        start = self._data_offset + entry["data_offsets"][0]
        array: NDArray[Any]
        if start % dtype.itemsize and shape:
            # A header of odd length leaves the data unaligned; those few files are read instead of mapped.
            array = np.fromfile(self.path, dtype, count=int(np.prod(shape)), offset=start).reshape(shape)
        else:
            array = np.memmap(self.path, dtype, "r", offset=start, shape=shape)
        if entry["dtype"] == "BF16":
            # bfloat16 is the upper half of a float32, so this is exact.
            return (array.astype(np.uint32) << 16).view(np.float32)
        return array


class _Npz(TensorFile):
    """Arrays of a zip archive, loaded one at a time."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            with zipfile.ZipFile(path) as archive:
                for member in archive.infolist():
                    if member.filename.endswith(".npy"):
                        self._read_header(archive, member)
        except Exception as error:
            # zipfile, zlib and NumPy's parser raise a dozen types on damaged files, and more with each version.
            raise InputError(f"{path}: not a whole npz file: {error}; export or copy it again") from None

    def _read_header(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
        name = member.filename.removesuffix(".npy")
        with archive.open(member) as file:
            version = npy_format.read_magic(file)
            if version not in ((1, 0), (2, 0), (3, 0)):
                raise ValueError(f"'{name}' is an array of unknown version {version}")
            reader = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
            shape, _, dtype = reader(file)
            header_bytes = file.tell()
        self.shapes[name] = shape
        if dtype.hasobject:
            self.unusable[name] = "holds Python objects, which are never unpickled; save it as an array of numbers"
            return
        if not is_supported(dtype):
            self.unusable[name] = unsupported(dtype)
            return
        size = int(np.prod(shape, dtype=object)) * dtype.itemsize
        if any(type(length) is not int or length < 0 for length in shape) or header_bytes + size != member.file_size:
            raise ValueError(
                f"'{name}' claims shape {shape} of {dtype} but holds {member.file_size - header_bytes} bytes"
            )

    def _read(self, name: str) -> NDArray[Any]:
        try:
            with zipfile.ZipFile(self.path) as archive:
                member = archive.getinfo(f"{name}.npy")
                check_fits_memory(member.file_size, f"{self.path}: '{name}'")
                with archive.open(member) as file:
                    array: NDArray[Any] = npy_format.read_array(file, allow_pickle=False)
        except InputError:
            raise
        except Exception as error:
            raise InputError(f"{self.path}: '{name}' cannot be read: {error}") from None
        return array.astype(array.dtype.newbyteorder("="), copy=False)
