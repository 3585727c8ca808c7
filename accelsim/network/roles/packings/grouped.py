"""Weights that are cut into groups before their codes are packed: bitsandbytes in 4 bits, HQQ, optimum-quanto.

Sources: bitsandbytes 0.50.2, functional.py (QuantState) and backends/default/ops.py; HQQ 0.2.8, core/quantize.py and
core/bitpack.py; optimum-quanto 0.2.7, tensor/packed.py, tensor/grouped.py and tensor/qbits.py.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import InputError
from accelsim.network.roles.logical import Logical
from accelsim.network.roles.packings.scaled import UNPACK
from accelsim.network.roles.packings.scales import finite
from accelsim.network.roles.packings.stored import Found, Packed, Rows, leaf, root_of

STATE = re.compile(r"(.+)\.quant_state\.bitsandbytes__(nf4|fp4)")
BNB = ("absmax", "quant_map", "nested_absmax", "nested_quant_map")


class _State(NamedTuple):
    """How bitsandbytes says a weight is packed."""

    shape: tuple[int, ...]
    block: int
    nested_block: int
    nested_offset: float


def find_bytes_of_two(packed: Packed, name: str) -> Found | None:
    """Return a weight of bitsandbytes in 4 bits: bytes of two codes, and what its state says."""
    match = STATE.fullmatch(name)
    if match is None or match[1] not in packed:
        return None
    weight, kind = match[1], match[2]
    parts = [weight, name, *packed.beside(f"{weight}.", *BNB)]
    unpack = (
        "dequantise it with bitsandbytes.functional.dequantize_4bit (`model.dequantize()` of transformers) and save it"
    )

    def decode() -> list[Logical]:
        state = _state(packed, name)
        _check_bnb(packed, weight, state)
        return [
            packed.logical(weight, state.shape, parts, lambda: _bnb(packed, weight, state), f"{kind} (bitsandbytes)")
        ]

    return Found(f"bitsandbytes {kind}", weight, parts, decode, unpack)


def find_bytes_without_state(packed: Packed, name: str) -> Found | None:
    """Return a column of bytes, which only bitsandbytes writes, without the state that says what they are."""
    stored = packed.shape(name)
    is_column = (
        len(stored) == 2
        and min(stored) == 1 < max(stored)
        and packed.file.types.get(name, "").lower()
        in (
            "u8",
            "uint8",
        )
    )
    if not is_column or leaf(name) != "weight" or not (packed.beside(f"{name}.", *BNB) or stored[1] == 1):
        return None

    def decode() -> list[Logical]:
        raise InputError(f"bytes of shape {stored} are no weight's shape, and its 'quant_state' is missing")

    return Found("bitsandbytes", name, [name, *packed.beside(f"{name}.", *BNB)], decode, UNPACK)


def _state(packed: Packed, name: str) -> _State:
    """Read the state of bitsandbytes; raises InputError for one that is damaged."""
    packed.check_type(name, "uint8")
    try:
        held = json.loads(packed.small(name).tobytes().decode())
        shape, block = tuple(held["shape"]), held["blocksize"]
        nested = held.get("nested_blocksize", 1), float(held.get("nested_offset", 0.0))
    except (ValueError, RecursionError, KeyError, TypeError, OverflowError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"its 'quant_state' cannot be read ({type(error).__name__}: {error})") from None
    whole = all(type(each) is int and each > 0 for each in (*shape, block, nested[0]))
    if not whole or not 1 <= len(shape) <= 5 or not math.isfinite(nested[1]):
        raise InputError(f"its 'quant_state' says shape {shape}, blocks of {block} and {nested}")
    return _State(shape, block, *nested)


def _check_bnb(packed: Packed, weight: str, state: _State) -> None:
    """Raise InputError where the arrays of a weight do not fit its state."""
    packed.check_type(weight, "uint8")
    number = math.prod(state.shape)
    blocks = -(-number // state.block)
    nested = f"{weight}.nested_absmax" in packed
    wanted = {"absmax": blocks, "quant_map": 16}
    if nested:
        wanted |= {"nested_absmax": -(-blocks // state.nested_block), "nested_quant_map": 256}
    held = {each: packed.size(f"{weight}.{each}") if f"{weight}.{each}" in packed else None for each in wanted}
    if held != wanted or packed.size(weight) != -(-number // 2):
        raise InputError(
            f"{packed.size(weight)} bytes and {held} do not fit a weight of shape {state.shape} in blocks of "
            f"{state.block}"
        )
    if nested:
        packed.check_type(f"{weight}.absmax", "uint8")
    for each in ("nested_absmax", "nested_quant_map", "quant_map") if nested else ("absmax", "quant_map"):
        packed.check_type(f"{weight}.{each}", "fp32", "fp16", "bf16")


def _bnb(packed: Packed, weight: str, state: _State) -> Rows:
    """Open a weight: of a byte the upper half first; a scale for each block of the flattened weight."""
    held = packed.file[weight].reshape(-1)
    table = finite(packed.file[f"{weight}.quant_map"], "quant_map").astype(np.float32)
    largest = packed.file[f"{weight}.absmax"].reshape(-1)
    if f"{weight}.nested_absmax" in packed:
        inner = finite(packed.file[f"{weight}.nested_absmax"], "nested_absmax").astype(np.float32).reshape(-1)
        codes = packed.file[f"{weight}.nested_quant_map"].astype(np.float32)[largest]
        largest = codes * inner[np.arange(len(codes)) // state.nested_block] + np.float32(state.nested_offset)
    scales = finite(largest, "absmax").astype(np.float32)
    each = math.prod(state.shape[1:])

    def rows(first: int, last: int) -> NDArray[Any]:
        start, stop = first * each, last * each
        part = held[start // 2 : -(-stop // 2)]
        codes = np.stack([part >> 4, part & 15], 1).reshape(-1)[start % 2 :][: stop - start]
        # Blocks begin anywhere in a row.
        return (table[codes] * scales[np.arange(start, stop) // state.block]).reshape(last - first, *state.shape[1:])

    return rows


HQQ = ("scale", "zero", "shape", "nbits", "group_size", "axis", "packing", "unpack_view_dtype", "view_as_float")
HQQ_ALSO = (
    *("quant_scale", "quant_zero", "compute_dtype", "offload_meta", "encoded_state_dict", "stores_quant_config"),
    *("channel_wise", "optimize", "round_zero", "zero_scale", "meta"),
)
HQQ_PACKINGS = {"8bit_u8": 8, "4bit_u8": 4, "2bit_u8": 2, "1bit_u8": 1, "3bit_32": 3}
"""Bits of a code by what HQQ calls the packing."""


class _Grid(NamedTuple):
    """Codes of a weight cut into groups, as they were packed: the parts of a word hold rows that lie far apart."""

    rows: int
    columns: int
    bits: int
    shifts: tuple[int, ...]
    """By how much the code of each part of a word is moved up, the first rows first."""

    @property
    def step(self) -> int:
        """Rows that each part of a word holds."""
        return -(-self.rows // len(self.shifts))

    def codes(self, held: NDArray[Any], first: int, last: int) -> NDArray[np.float32]:
        """Return rows of codes of the stored words."""
        row = np.arange(first, last)
        shift = np.array(self.shifts)[row // self.step].astype(held.dtype)
        codes: NDArray[np.float32] = ((held[row % self.step] >> shift[:, None]) & (2**self.bits - 1)).astype(np.float32)
        return codes

    def rows_of(self, shape: tuple[int, ...], values: Rows) -> Rows:
        """Return what gives rows of a weight of this shape, from what gives rows of the grid."""
        each = math.prod(shape[1:])

        def rows(first: int, last: int) -> NDArray[Any]:
            start, stop = first * each, last * each
            top = start // self.columns
            flat = values(top, -(-stop // self.columns)).reshape(-1)
            return flat[start - top * self.columns :][: stop - start].reshape(last - first, *shape[1:])

        return rows


def find_hqq(packed: Packed, name: str) -> Found | None:
    """Return a weight of HQQ: `W_q`, its scales and zero points, and what describes it."""
    root = root_of(name, "W_q")
    if root is None:
        return None
    parts = [name, *packed.beside(root, *HQQ, *HQQ_ALSO)]

    def decode() -> list[Logical]:
        missing = [each for each in ("scale", "zero", "shape", "packing", "axis") if f"{root}{each}" not in packed]
        if missing:
            raise InputError(f"its {', '.join(missing)} are missing")
        shape = packed.shape_in(f"{root}shape")
        grid = _hqq_grid(packed, root, shape)
        _check_hqq_scales(packed, root, grid)
        how = f"int{grid.bits} (HQQ)"
        return [packed.logical(f"{root}weight", shape, parts, lambda: _hqq(packed, root, grid, shape), how)]

    unpack = "load the model with hqq, call `dequantize()` on its layers and save what that returns"
    return Found("HQQ", f"{root}weight", parts, decode, unpack)


def _hqq_grid(packed: Packed, root: str, shape: tuple[int, ...]) -> _Grid:
    """Return how the codes lie; raises InputError where the arrays do not agree on it."""
    packing = packed.small(f"{root}packing").tobytes().decode("ascii", "replace")
    axis = packed.small_integers(f"{root}axis")
    size = packed.small_integers(f"{root}group_size") if f"{root}group_size" in packed else [shape[-1]]
    number = math.prod(shape)
    if packing not in HQQ_PACKINGS or axis not in ([0], [1]) or len(size) != 1 or size[0] < 1 or number % size[0]:
        raise InputError(f"packing {packing!r}, axis {axis} and groups of {size} are not known")
    bits = HQQ_PACKINGS[packing]
    packed.check_type(f"{root}W_q", "int32" if packing.endswith("_32") else "uint8")
    in_word = 10 if packing.endswith("_32") else 8 // bits
    rows, columns = (number // size[0], size[0]) if axis == [1] else (size[0], number // size[0])
    grid = _Grid(rows, columns, bits, tuple(bits * (in_word - 1 - part) for part in range(in_word)))
    if packed.shape(f"{root}W_q") != (grid.step, columns):
        raise InputError(f"'W_q' of shape {packed.shape(f'{root}W_q')} does not hold a weight of shape {shape}")
    return grid


def _check_hqq_scales(packed: Packed, root: str, grid: _Grid) -> None:
    for each in ("scale", "zero"):
        packed.check_type(f"{root}{each}", "fp32", "fp16", "bf16")
        held = packed.shape(f"{root}{each}")
        if held not in ((grid.rows, 1), (1, grid.columns)) and packed.size(f"{root}{each}") != 1:
            raise InputError(f"'{each}' of shape {held} does not fit groups of {grid.rows} x {grid.columns}")


def _hqq(packed: Packed, root: str, grid: _Grid, shape: tuple[int, ...]) -> Rows:
    held = packed.file[f"{root}W_q"]
    scale, zero = (finite(packed.file[f"{root}{each}"], each).astype(np.float32) for each in ("scale", "zero"))

    def values(first: int, last: int) -> NDArray[Any]:
        some = slice(first, last)
        codes = grid.codes(held, first, last)
        codes -= zero[some] if len(zero.reshape(-1)) == grid.rows > 1 else zero
        codes *= scale[some] if len(scale.reshape(-1)) == grid.rows > 1 else scale
        return codes

    return grid.rows_of(shape, values)


def find_quanto_bits(packed: Packed, name: str) -> Found | None:
    """Return a weight of optimum-quanto in 2 or 4 bits: `weight._data._data`, `weight._scale` and `weight._shift`."""
    root = root_of(name, "weight._data._data")
    if root is None:
        return None
    weight, scale, shift = f"{root}weight", f"{root}weight._scale", f"{root}weight._shift"
    parts = [name, *packed.beside(root, "weight._scale", "weight._shift", "input_scale", "output_scale")]

    def decode() -> list[Logical]:
        packed.check_type(name, "uint8")
        if scale not in packed or shift not in packed or len(packed.shape(name)) != 2:
            raise InputError("its '_scale' or '_shift' is missing")
        outputs = packed.size(f"{root}bias") if f"{root}bias" in packed else 0
        groups, (step, columns) = packed.size(scale), packed.shape(name)
        fitting = [bits for bits in (2, 4) if -(-groups * bits // 8) == step]
        if packed.shape(scale) != (groups, 1) or packed.shape(shift) != (groups, 1) or len(fitting) != 1:
            raise InputError(f"'_data' {(step, columns)} and '_scale' {packed.shape(scale)} do not fit one another")
        if not outputs or groups * columns % outputs or groups % outputs:
            raise InputError("nothing gives the weight's own shape, since it has no bias that does")
        bits, shape = fitting[0], (outputs, groups * columns // outputs)
        grid = _Grid(groups, columns, bits, tuple(bits * part for part in range(8 // bits)))
        start = _quanto_bits(packed, name, scale, shift)
        return [packed.logical(weight, shape, parts, lambda: start(grid, shape), f"int{bits} (quanto)")]

    return Found("quanto", weight, parts, decode, UNPACK)


def _quanto_bits(packed: Packed, name: str, scale: str, shift: str) -> Callable[[_Grid, tuple[int, ...]], Rows]:
    """Return what opens a weight: a whole shift is taken off before it is scaled, any other after."""
    is_whole = packed.form(shift).family != "fp"

    def start(grid: _Grid, shape: tuple[int, ...]) -> Rows:
        held = packed.file[name]
        scales, shifts = (finite(packed.file[each], leaf(each)).astype(np.float32) for each in (scale, shift))

        def values(first: int, last: int) -> NDArray[Any]:
            codes, some = grid.codes(held, first, last), slice(first, last)
            if is_whole:
                return (codes - shifts[some]) * scales[some]
            return codes * scales[some] - shifts[some]

        return grid.rows_of(shape, values)

    return start
