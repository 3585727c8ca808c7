"""Named arrays from safetensors and npz files: sizes are checked before anything is allocated, nothing is unpickled."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from accelsim.config import existing_file
from accelsim.errors import InputError, needing, raise_if_any
from accelsim.network.sizes import check_fits_memory
from accelsim.network.tensor_file import TensorFile
from accelsim.number_formats import SAFETENSORS_TYPES, is_supported, unsupported

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
            if "unknown variant" in reason:
                raise_if_any(f"{path}: '{name}' {problem}" for name, problem in _unknown_types(path).items())
            raise InputError(f"{path}: not a whole safetensors file: {reason}; export or copy it again") from None
        header, self._data_offset = _header(path)
        self.metadata = header.pop("__metadata__", None) or {}
        self._tensors = header
        self.shapes = {name: tuple(entry["shape"]) for name, entry in header.items()}
        self.unusable = _unusable(header)

    def _read(self, name: str) -> NDArray[Any]:
        entry = self._tensors[name]
        form = SAFETENSORS_TYPES[entry["dtype"]]
        dtype = form.stored_type
        shape = self.shapes[name]
        if 0 in shape:
            return form.values(np.zeros(shape, dtype))
        start = self._data_offset + entry["data_offsets"][0]
        array: NDArray[Any]
        if start % dtype.itemsize and shape:
            # A header of odd length leaves the data unaligned; those few files are read instead of mapped.
            array = np.fromfile(self.path, dtype, count=int(np.prod(shape)), offset=start).reshape(shape)
        else:
            array = np.memmap(self.path, dtype, "r", offset=start, shape=shape)
        return form.values(array)


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """Return the header of a file whose length the library has checked, and where the data begins."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return json.loads(file.read(length)), 8 + length


def _unusable(header: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: unsupported(entry["dtype"], SAFETENSORS_TYPES)
        for name, entry in header.items()
        if entry["dtype"] not in SAFETENSORS_TYPES
    }


def _unknown_types(path: Path) -> dict[str, str]:
    """Return what is unusable in a file that the library refuses for a type that it does not know itself."""
    try:
        header, _ = _header(path)
        header.pop("__metadata__", None)
        return _unusable(header)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}  # more than a type is wrong


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
