"""Floating-point numbers of 4 and 6 bits in bytes: NVFP4, MXFP4 and MXFP6.

Sources: OCP Microscaling Formats (MX) Specification 1.0 (E2M1, E2M3, E8M0); compressed-tensors 0.20.1,
compressors/nvfp4, mxfp4 and mxfp6; NVIDIA TensorRT Model Optimizer, `weight_scale_2`, as compressed-tensors'
entrypoints/convert/converters/modelopt_nvfp4.py reads it; transformers 5.24.0, integrations/mxfp4.py (gpt-oss).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import InputError
from accelsim.network.integers import unpacked_bits
from accelsim.network.roles.logical import Logical
from accelsim.network.roles.packings.scaled import OF_INPUTS, UNPACK, scaling_of
from accelsim.network.roles.packings.scales import finite, powers_of_two
from accelsim.network.roles.packings.stored import Found, Packed, Rows, leaf, root_of

BLOCK_OF_NVFP4 = 16
"""Weights that share a scale. Source: NVIDIA, Pretraining Large Language Models with NVFP4, arXiv 2509.25149."""

BLOCK_OF_MX = 32


def _signed(magnitudes: list[float]) -> NDArray[np.float32]:
    return np.array(magnitudes + [-each for each in magnitudes], np.float32)


E2M1 = _signed([0, 0.5, 1, 1.5, 2, 3, 4, 6])
E2M3 = _signed([each / 8 for each in range(8)] + [(1 + each / 8) * 2**power for power in range(3) for each in range(8)])
"""Values of the codes, in their order."""


def find_float4(packed: Packed, name: str) -> Found | None:
    """Return a weight of bytes with two numbers of 4 bits each, or of 6 bits each in a row, and scales of blocks."""
    root = root_of(name, "weight_packed")
    root = root_of(name, "weight") if root is None else root
    if root is None or packed.file.types.get(name, "").lower() not in ("u8", "uint8"):
        return None
    scale = f"{root}weight_scale"
    is_plain = leaf(name) == "weight"
    if scale not in packed or len(packed.shape(name)) != 2:
        return None
    if is_plain and f"{root}weight_scale_2" not in packed and not _is_mx(packed, name, scale):
        return None
    whole = ("weight_global_scale", "weight_scale_2", "weight_shape", "weight_zero_point", *OF_INPUTS)
    parts = [name, scale, *packed.beside(root, *whole)]

    def decode() -> list[Logical]:
        if f"{root}weight_zero_point" in packed:
            raise InputError("it has zero points, which formats of 4-bit floating point do not have")
        bits, shape = _bits(packed, name, scale)
        scaling = _scales(packed, root, scale, shape)

        def start() -> Rows:
            held, table = packed.file[name], E2M1 if bits == 4 else E2M3
            return scaling(lambda first, last: table[unpacked_bits(held[first:last], bits, shape[1])])

        return [packed.logical(f"{root}weight", shape, parts, start, _name(packed, scale, bits))]

    return Found("4-bit or 6-bit floating point with scales", f"{root}weight", parts, decode, UNPACK)


def _is_mx(packed: Packed, name: str, scale: str) -> bool:
    """Return whether 16 bytes share an exponent of 8 bits: MXFP4, whatever it is called."""
    stored, scales = packed.shape(name), packed.shape(scale)
    is_exponent = packed.file.types.get(scale, "").lower() in ("u8", "uint8")
    return is_exponent and len(scales) == 2 and stored == (scales[0], scales[1] * BLOCK_OF_MX // 2)


def _bits(packed: Packed, name: str, scale: str) -> tuple[int, tuple[int, int]]:
    """Return the bits of a weight and its shape; raises InputError where bytes and scales do not agree on them."""
    (rows, stored), scales = packed.shape(name), packed.shape(scale)
    block = BLOCK_OF_MX if packed.form(scale).name == "uint8" else BLOCK_OF_NVFP4
    for bits in (4, 6):
        columns = stored * 8 // bits
        if scales == (rows, columns // block) and columns % block == 0 and columns * bits == stored * 8 and columns:
            return bits, (rows, columns)
    raise InputError(f"scales of shape {scales} are not one for {block} weights of the bytes {packed.shape(name)}")


def _scales(packed: Packed, root: str, scale: str, shape: tuple[int, int]) -> Callable[[Rows], Rows]:
    """Return what puts scales to rows; raises InputError where one is missing or of another type."""
    if packed.form(scale).name == "uint8":
        scaling = scaling_of(packed, scale, None, shape)
        return lambda codes: scaling().of(codes)
    packed.check_type(scale, "fp8")
    wholes = packed.beside(root, "weight_global_scale", "weight_scale_2")
    if len(wholes) != 1 or packed.size(wholes[0]) != 1:
        raise InputError("one number has to scale it as a whole, 'weight_global_scale' or 'weight_scale_2'")
    if leaf(wholes[0]) == "weight_global_scale":
        divided = scaling_of(packed, scale, None, shape, divisor=wholes[0])
        return lambda codes: divided().of(codes)
    multiplied = scaling_of(packed, scale, None, shape)

    def scaled(codes: Rows) -> Rows:
        whole = np.float32(finite(packed.small(wholes[0]), "weight_scale_2").reshape(-1)[0])
        rows = multiplied().of(codes)
        return lambda first, last: rows(first, last) * whole

    return scaled


def _name(packed: Packed, scale: str, bits: int) -> str:
    return f"fp{bits} ({'MXFP' if packed.form(scale).name == 'uint8' else 'NVFP'}{bits})"


def find_experts(packed: Packed, name: str) -> Found | None:
    """Return the experts of gpt-oss: `X_blocks` (experts, out, blocks, 16 bytes) and `X_scales`, a weight for each."""
    root = name.removesuffix("_blocks")
    scales = f"{root}_scales"
    if root == name or not root or scales not in packed:
        return None
    parts = [name, scales]

    def decode() -> list[Logical]:
        packed.check_type(name, "uint8")
        packed.check_type(scales, "uint8")
        stored = packed.shape(name)
        if len(stored) not in (3, 4) or stored[:-1] != packed.shape(scales) or stored[-1] * 2 != BLOCK_OF_MX:
            raise InputError(
                f"'{leaf(name)}' {stored} and '{leaf(scales)}' {packed.shape(scales)} are not blocks of 32 weights "
                "with a scale each"
            )
        shape = stored[-3], stored[-2] * BLOCK_OF_MX
        if len(stored) == 3:
            return [packed.logical(f"{root}.weight", shape, parts, lambda: _expert(packed, parts, ()), "fp4 (MXFP4)")]
        return [
            packed.logical(
                f"{root}.{expert}.weight",
                shape,
                parts,
                lambda expert=expert: _expert(packed, parts, (expert,)),  # type: ignore[misc]
                "fp4 (MXFP4)",
            )
            for expert in range(stored[0])
        ]

    return Found("MXFP4", f"{root}.weight", parts, decode, UNPACK)


def _expert(packed: Packed, parts: list[str], expert: tuple[int, ...]) -> Rows:
    """Open one matrix: (out, blocks, 16 bytes), the lower half of a byte first."""
    held = packed.file[parts[0]][expert]
    scales: NDArray[Any] = finite(powers_of_two(packed.file[parts[1]][expert]), leaf(parts[1]))

    def rows(first: int, last: int) -> NDArray[Any]:
        stored = held[first:last].reshape(last - first, -1)
        values = E2M1[unpacked_bits(stored, 4, 2 * math.prod(held.shape[1:]))]
        values *= scales[first:last].repeat(BLOCK_OF_MX, 1)
        return values

    return rows
