"""Safetensors: tensors mapped from disk."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from accelsim.errors import InputError, raise_if_any, reason_of
from accelsim.network.files.tensor_file import TensorFile, mapped, too_large
from accelsim.number_formats import SAFETENSORS_TYPES, unsupported


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
            raise InputError(f"{path}: not a whole safetensors file: {reason}; export or copy it again") from None
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
