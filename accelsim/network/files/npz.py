"""Arrays of a zip archive, as NumPy writes it: nothing is unpickled."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from accelsim.errors import InputError, reason_of
from accelsim.network.files.archives import said_of, say
from accelsim.network.files.tensor_file import TensorFile, Written
from accelsim.network.sizes import check_fits_memory, check_grown
from accelsim.number_formats import is_supported, unsupported


class Npz(TensorFile):
    """Arrays of a zip archive, loaded one at a time."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            with zipfile.ZipFile(path) as archive:
                self.metadata = said_of(archive)
                for member in archive.infolist():
                    if member.filename.endswith(".npy"):
                        self._read_header(archive, member)
        except Exception as error:
            # zipfile, zlib and NumPy's parser raise a dozen types on damaged files, and more with each version.
            raise InputError(f"{path}: not a complete npz file: {reason_of(error)}; export or copy it again") from None

    def _read_header(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
        name = member.filename.removesuffix(".npy")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            # Others turn a few bytes into gigabytes, and NumPy writes none of them.
            raise ValueError(f"'{name}' is compressed by a method that np.savez_compressed does not use")
        with archive.open(member) as file:
            version = npy_format.read_magic(file)
            if version not in ((1, 0), (2, 0), (3, 0)):
                raise ValueError(f"'{name}' is an array of unknown version {version}")
            reader = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
            shape, _, dtype = reader(file)
            header_bytes = file.tell()
        if any(type(length) is not int or length < 0 for length in shape):
            raise ValueError(f"'{name}' claims shape {shape}")
        self.shapes[name], self.types[name] = shape, str(dtype)
        if dtype.hasobject:
            self.unusable[name] = "holds Python objects, which are never unpickled; save it as an array of numbers"
            return
        if not is_supported(dtype):
            self.unusable[name] = unsupported(dtype)
            return
        size = int(np.prod(shape, dtype=object)) * dtype.itemsize
        if header_bytes + size != member.file_size:
            raise ValueError(
                f"'{name}' claims shape {shape} of {dtype} but holds {member.file_size - header_bytes} bytes"
            )

    def _read(self, name: str) -> NDArray[Any]:
        array = self._as_it_lies(name)
        return array.astype(array.dtype.newbyteorder("="), copy=False)

    def _as_it_lies(self, name: str) -> NDArray[Any]:
        """Return an array in its own order of bytes."""
        try:
            with zipfile.ZipFile(self.path) as archive:
                member = archive.getinfo(f"{name}.npy")
                check_fits_memory(member.file_size, f"{self.path}: '{name}'")
                check_grown(member.file_size, member.compress_size, f"{self.path}: '{name}'")
                with archive.open(member) as file:
                    array: NDArray[Any] = npy_format.read_array(file, allow_pickle=False)
        except InputError:
            raise
        except Exception as error:
            raise InputError(f"{self.path}: '{name}' cannot be read: {reason_of(error)}") from None
        return array

    def write(self, target: Path, arrays: Sequence[Written]) -> None:
        """Write such an archive, each array compressed as it was; what is not an array comes along as it is."""
        with zipfile.ZipFile(self.path) as source, zipfile.ZipFile(target, "w", allowZip64=True) as archive:
            for each in arrays:
                member = source.getinfo(f"{each.stored}.npy")
                place = zipfile.ZipInfo(f"{each.name}.npy", member.date_time)
                place.compress_type, place.external_attr = member.compress_type, member.external_attr
                with archive.open(place, "w", force_zip64=True) as out:
                    if each.numbers is None and not each.kept:
                        with source.open(member) as lying:
                            shutil.copyfileobj(lying, out)
                        continue
                    changed = np.array(self._as_it_lies(each.stored))
                    if each.numbers is not None:
                        values, new = each.numbers()
                        changed[new] = values[new]
                    npy_format.write_array(out, each.taken(changed), allow_pickle=False)
            for member in source.infolist():
                if not member.filename.endswith(".npy"):
                    archive.writestr(member, source.read(member))
        say(target, self.metadata)
