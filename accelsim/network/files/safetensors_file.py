"""Safetensors: tensors mapped from disk."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import InputError, raise_if_any, reason_of
from accelsim.files import safetensors_header
from accelsim.network.files.tensor_file import TensorFile, Written, mapped, too_large
from accelsim.number_formats import ARRAY_TYPES, SAFETENSORS_TYPES, NumberFormat, unsupported


class Safetensors(TensorFile):
    """Tensors mapped from disk: the only copy in memory is the file's own pages."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        from safetensors import SafetensorError, safe_open

        try:
            # The library checks the header: sizes, bounds, overlaps. It copies what it returns, so the reading is ours.
            with safe_open(path, framework="numpy"):
                pass
        except (SafetensorError, ValueError) as error:
            reason = reason_of(error).removeprefix("Error while deserializing header: ")
            reason = reason.replace(
                "incomplete metadata, file not fully covered", "its data does not end where it should"
            )
            if "unknown variant" in reason:
                raise_if_any(f"{path}: '{name}' {problem}" for name, problem in _unknown_types(path).items())
            raise InputError(f"{path}: not a complete safetensors file: {reason}; export or copy it again") from None
        header, self._data_offset = _header(path)
        self.metadata = header.pop("__metadata__", None) or {}
        self._tensors = header
        self.shapes = {name: tuple(entry["shape"]) for name, entry in header.items()}
        self.types = {name: entry["dtype"] for name, entry in header.items()}
        self.order_is_given = False  # the library sorts by type and name
        self.unusable = _unusable(header)

    def _read(self, name: str) -> NDArray[Any]:
        entry = self._tensors[name]
        form = SAFETENSORS_TYPES[entry["dtype"]]
        start = self._data_offset + entry["data_offsets"][0]
        return form.values(mapped(self.path, form.stored_type, start, self.shapes[name]))

    def write(self, target: Path, arrays: Sequence[Written]) -> None:
        """Write such a file; see `write_safetensors`."""
        write_safetensors(self, target, arrays)

    def bytes_of(self, name: str) -> NDArray[Any]:
        """Return the bytes of a tensor, of whatever type."""
        start, stop = self._tensors[name]["data_offsets"]
        return mapped(self.path, np.dtype(np.uint8), self._data_offset + start, (stop - start,))


def write_safetensors(file: TensorFile, target: Path, arrays: Sequence[Written]) -> None:
    """Write arrays of a file of any kind as safetensors, with its metadata: the widest first, as the library does.

    Memory: one array. Raises InputError for types that safetensors do not have.
    """
    forms = {each.stored: _form_of(file, each.stored) for each in arrays}
    problems = [
        f"{file.path}: '{each.stored}' {unsupported(file.types[each.stored], SAFETENSORS_TYPES)}"
        for each in arrays
        if forms[each.stored] is None and not (isinstance(file, Safetensors) and each.numbers is None and not each.kept)
    ]
    raise_if_any(problems)

    def item_bytes(each: Written) -> int:
        form = forms[each.stored]
        return 1 if form is None else form.stored_type.itemsize

    header: dict[str, Any] = {"__metadata__": file.metadata} if file.metadata else {}
    at = 0
    ordered = sorted(arrays, key=item_bytes, reverse=True)
    for each in ordered:
        form, shape = forms[each.stored], each.shape(file.shapes[each.stored])
        if form is None and isinstance(file, Safetensors):
            kind, size = file.types[each.stored], file.bytes_of(each.stored).size
        else:
            kind, size = getattr(form, "safetensors_type", ""), math.prod(shape) * item_bytes(each)
        header[each.name] = {"dtype": kind, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    with target.open("wb") as out:
        out.write(safetensors_header(header))
        for each in ordered:
            np.ascontiguousarray(_elements(file, each, forms[each.stored])).tofile(out)


def _form_of(file: TensorFile, name: str) -> NumberFormat | None:
    """Return the number format of a stored array, None where safetensors or this package do not have it."""
    kind = file.types[name]
    form = SAFETENSORS_TYPES.get(kind) or ARRAY_TYPES.get(np.dtype(kind).name if kind[:1] in "<>=|" else kind)
    return form if form is not None and form.safetensors_type else None


def _elements(file: TensorFile, each: Written, form: NumberFormat | None) -> NDArray[Any]:
    """Return what is written of an array: its elements as they lie, with new ones in their places."""
    if form is None:
        return file.bytes_of(each.stored) if isinstance(file, Safetensors) else file[each.stored]
    if isinstance(file, Safetensors):
        lying = file.bytes_of(each.stored).view(form.stored_type).reshape(file.shapes[each.stored])
    else:
        lying = form.stored(file[each.stored])
    if each.numbers is None:
        return each.taken(lying)
    values, new = each.numbers()
    changed = np.array(lying)
    changed[new] = form.stored(values[new])
    return each.taken(changed)


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """Return the header of a file whose length the library has checked, and where the data begins."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return json.loads(file.read(length)), 8 + length


def _unusable(header: Mapping[str, Any]) -> dict[str, str]:
    found = {}
    for name, entry in header.items():
        form = SAFETENSORS_TYPES.get(entry["dtype"])
        problem = too_large(entry["shape"], form.stored_type.itemsize) if form else None
        problem = problem if form else unsupported(entry["dtype"], SAFETENSORS_TYPES)
        if problem:
            found[name] = problem
    return found


def _unknown_types(path: Path) -> dict[str, str]:
    """Return what is unusable in a file that the library refuses for a type that it does not know itself."""
    try:
        header, _ = _header(path)
        header.pop("__metadata__", None)
        return _unusable(header)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}  # more than a type is wrong
