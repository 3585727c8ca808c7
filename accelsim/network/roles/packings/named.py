"""Packings that are named and not decoded: their layout is a kernel's or needs more than the file holds.

Sources of the names: transformers 5.24.0, integrations (aqlm, bitnet, eetq, fp_quant, higgs, spqr, vptq); GPTQModel
7.7.0, nn_modules/qlinear (marlin, bitblas, qqq, exl3, AWQ for GEMV); compressed-tensors, marlin_24 at commit 179cba93,
which has no way back either.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from accelsim.errors import InputError
from accelsim.network.roles.logical import Logical
from accelsim.network.roles.packings.scaled import UNPACK
from accelsim.network.roles.packings.stored import Found, Packed, leaf

QUANTISE_AGAIN = "no tool unpacks it: save the model before it is packed, or in another format"


class _Named(NamedTuple):
    packing: str
    mark: str
    """What its name ends in, that tells it."""
    beside: tuple[str, ...]
    """What must stand beside it."""
    also: tuple[str, ...] = ()
    """What may."""
    unpack: str = UNPACK


NAMED = (
    _Named("marlin-24", "weight_packed", ("scale_packed", "meta"), ("weight_shape",), QUANTISE_AGAIN),
    _Named("QQQ", "B", ("s_group", "s_channel"), ("workspace",), QUANTISE_AGAIN),
    _Named("Marlin 2:4", "B_24", ("B_meta", "s"), ("workspace",), QUANTISE_AGAIN),
    _Named("Marlin", "B", ("s",), ("workspace",), "convert it with GPTQModel to the format 'gptq'"),
    _Named("AQLM", "codes", ("codebooks",), ("scales",)),
    _Named("VPTQ", "indices", ("centroids",), ("weight_scale", "weight_bias", "perm", "res_centroids")),
    _Named("QuIP#", "Qidxs", ("SU", "SV"), ("codebook_id", "Wscale"), QUANTISE_AGAIN),
    _Named("EXL3", "trellis", ("suh",), ("svh", "mcg", "mul1"), "convert it with exllamav3"),
    _Named("EXL2", "q_weight", ("q_scale",), ("q_scale_max", "q_groups", "q_invperm", "q_perm"), QUANTISE_AGAIN),
    _Named(
        "SpQR", "dense_weights", ("row_offsets",), ("first_order_scales", "first_order_zeros", "col_vals", "in_perm")
    ),
    _Named("HIGGS or FP-Quant", "qweight", ("scales", "tables"), ("tables2", "hadamard_matrix")),
    _Named("FP-Quant", "qweight", ("scales", "forward_hadamard_matrix"), ("weight_global_scale", "act_global_scale")),
    _Named("BitBLAS", "qweight", ("scale",), ("zeros",)),
)
_BY_MARK = {mark: [each for each in NAMED if each.mark == mark] for mark in {each.mark for each in NAMED}}


def find_named(packed: Packed, name: str) -> Found | None:
    """Return a packing that is known by name alone."""
    last = leaf(name)
    for each in _BY_MARK.get(last, ()):
        root = name.removesuffix(last)
        if all(f"{root}{other}" in packed for other in each.beside):
            parts = [name, *packed.beside(root, *each.beside, *each.also)]
            return Found(each.packing, f"{root}weight", parts, _unknown, each.unpack)
    return None


CODES = ("qweight", "weight_packed", "packed_weight", "weight_quantized", "quantized_weight", "qdata", "W_q", "B_q")
"""Names that are only given to codes."""

OF_CODES = re.compile(r"[^.]*(scale|zero|absmax|shape|perm|idx|meta|code|packed|qparam)[^.]*")
"""Names of what stands beside codes."""

CODE_TYPES = ("u8", "uint8", "i8", "int8", "i16", "int16", "i32", "int32", "u32", "uint32", "i64", "int64")


def find_unknown(packed: Packed, name: str) -> Found | None:
    """Return an array whose name or whose siblings say that it holds codes, in a layout that nobody above knows."""
    last = leaf(name)
    if last not in CODES or packed.file.types.get(name, "").lower() not in CODE_TYPES or len(packed.shape(name)) < 2:
        return None
    known = name.removesuffix(last)
    others = (other for other in packed.place if other.startswith(known) and other != name)
    parts = [name, *(other for other in others if OF_CODES.fullmatch(other[len(known) :]))]
    return Found("an unknown format", f"{known}weight", parts, _unknown, UNPACK)


def _unknown() -> list[Logical]:
    raise InputError("its layout is not decoded here")
