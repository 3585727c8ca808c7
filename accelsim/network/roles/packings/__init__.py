"""Packed weights: compressed checkpoints, decoded into the weights' own shape and real values, or named.

Each module here knows a kind of layout and has functions `find_...(packed, name)`: given the name of a stored array
they return what it begins, or None. What they find is either decoded surely, from types and shapes that agree, or told.
"""

from __future__ import annotations

from typing import NamedTuple

from accelsim.errors import InputError, raise_if_any
from accelsim.network.files.tensor_file import TensorFile
from accelsim.network.roles.logical import Logical
from accelsim.network.roles.packings.bitmask import find_bitmask
from accelsim.network.roles.packings.float4 import find_experts, find_float4
from accelsim.network.roles.packings.gptq import find_gptq
from accelsim.network.roles.packings.grouped import (
    find_bytes_of_two,
    find_bytes_without_state,
    find_hqq,
    find_quanto_bits,
)
from accelsim.network.roles.packings.named import find_named, find_unknown
from accelsim.network.roles.packings.pack_quantized import find_pack_quantized
from accelsim.network.roles.packings.scaled import (
    find_bytes_with_row_scales,
    find_quanto,
    find_scaled,
    find_subclass,
)
from accelsim.network.roles.packings.stored import Packed, leaf

__all__ = ["Unpacked", "unpacked"]

BY_NAME = (
    find_bitmask,
    find_named,
    find_pack_quantized,
    find_float4,
    find_experts,
    find_gptq,
    find_bytes_of_two,
    find_bytes_with_row_scales,
    find_hqq,
    find_quanto_bits,
    find_quanto,
    find_subclass,
    find_unknown,
)
BY_TYPE = (find_bytes_without_state, find_scaled)
"""Last, of what no name tells."""


WIDE = {"F32", "F16", "BF16", "F64", "float32", "float16", "bfloat16", "float64"}
"""Types of numbers that are no codes, as containers call them."""


class Unpacked(NamedTuple):
    """What of a file is packed weights."""

    tensors: list[Logical]
    """The weights, in the order of the file, each decoded when it is read."""
    taken: set[str]
    """Names of all stored arrays that belong to packed weights, those in `problems` included."""
    problems: list[str]
    """What cannot be decoded: which weights, how they are packed, what stands against it, and how to unpack them."""
    assumptions: list[str]
    """What was taken for granted, with the remedy."""


def unpacked(file: TensorFile) -> Unpacked:
    """Return the packed weights of a file; reads of them only what describes them.

    The weights have their own shape (out, in) and real values, float32: scales and zero points are applied, so that a
    zero is one. Reading one raises InputError for arrays that contradict each other.
    """
    packed = Packed(file)
    found, taken = [], set[str]()
    names = [name for name in file.shapes if not _is_plain(file, name)]
    for finders in (BY_NAME, BY_TYPE):
        for name in names:
            one = next((one for find in finders if name not in taken and (one := find(packed, name))), None)
            if one is not None:
                found.append(one)
                taken.update(one.parts)
    tensors: list[Logical] = []
    refused: dict[tuple[str, str, str], list[str]] = {}
    for one in sorted(found, key=lambda one: min(map(packed.place.__getitem__, one.parts))):
        try:
            raise_if_any(
                f"'{leaf(part)}' has shape {packed.shape(part)} and is empty"
                for part in one.parts
                if 0 in packed.shape(part)
            )
            tensors += one.decode()
        except InputError as error:
            arrays = ", ".join(dict.fromkeys(leaf(part) for part in one.parts))
            refused.setdefault((f"{one.packing} ({arrays})", "; ".join(error.problems), one.unpack), []).append(
                one.weight
            )
    problems = [
        f"{_told(weights)} packed as {packing}: {reason}; to unpack: {unpack}"
        for (packing, reason, unpack), weights in refused.items()
    ]
    return Unpacked(
        tensors, taken, problems, [f"{_told(weights)} packed: {what}" for what, weights in packed.assumed.items()]
    )


def _is_plain(file: TensorFile, name: str) -> bool:
    """Whether an array begins no packing, by a look that costs little: most arrays of most files do not."""
    return file.types.get(name) in WIDE and leaf(name) in ("weight", "bias")


def _told(weights: list[str]) -> str:
    """Return the subject of a sentence for all weights that it is true of."""
    return f"'{weights[0]}' and {len(weights) - 1} more are" if len(weights) > 1 else f"'{weights[0]}' is"
