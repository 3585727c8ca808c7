"""Narrow numbers with scales and zero points beside them: the stored shape is the weight's own.

Sources, by what they call the scales: compressed-tensors 0.20.1, compressors/naive_quantized and mxfp8 (`weight_scale`,
`weight_zero_point`); DeepSeek-V3, inference/fp8_cast_bf16.py (`weight_scale_inv`, which is multiplied like any other);
ComfyUI, comfy/ops.py (`scale_weight`); bitsandbytes 0.50.2, nn/modules.py (`SCB`); optimum-quanto 0.2.7,
tensor/weights/qbytes.py (`weight._data`, `weight._scale`); torchao, prototype/safetensors (`_weight_qdata`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import InputError
from accelsim.network.roles.logical import Logical
from accelsim.network.roles.packings.scales import blocks, finite, powers_of_two, spread
from accelsim.network.roles.packings.stored import Found, Packed, Rows, Scaling, leaf, root_of, rows_at_once

FLOAT8 = ("fp8", "fp8_e5m2")
NARROW = (*FLOAT8, "int8", "uint8", "int16", "uint16", "int32", "uint32")
"""Types of which an array with scales beside it holds codes."""

BEHIND = ("_scale", "_scale_inv", "_scales", ".scale", ".scales")
BESIDE = ("scale_weight", "scales", "scale")
ZEROS_BEHIND = ("_zero_point", "_zero_points", "_zeros", ".zero_point")
ZEROS_BESIDE = ("zero_point", "zero_points", "zeros", "zero")
OF_INPUTS = ("input_scale", "input_zero_point", "input_global_scale", "activation_scale", "scale_input")
"""What belongs to a packing and says nothing of the weights."""

BLOCK_OF_MX = 32
"""Weights that share a scale in the MX formats. Source: OCP MX Specification 1.0, section 5.1."""

UNPACK = "load the model with transformers, call `model.dequantize()` and save_pretrained, and read what that writes"


def find_scaled(packed: Packed, name: str) -> Found | None:
    """Return a weight of narrow numbers with scales beside it."""
    root = name.removesuffix(leaf(name))
    if len(packed.shape(name)) < 2 or not _is_narrow(packed, name):
        return None
    of_weight = leaf(name) == "weight"
    scales = packed.beside(name, *BEHIND) + (packed.beside(root, *BESIDE) if of_weight else [])
    if not scales:
        return None
    zeros = packed.beside(name, *ZEROS_BEHIND) + (packed.beside(root, *ZEROS_BESIDE) if of_weight else [])
    parts = [name, *scales, *zeros, *(packed.beside(root, *OF_INPUTS) if of_weight else [])]

    def decode() -> list[Logical]:
        if len(scales) > 1 or len(zeros) > 1:
            raise InputError("more than one scale or zero point stands beside it, which are not told apart")
        form, shape = packed.form(name), packed.shape(name)
        zero = zeros[0] if zeros else None
        _check_codes(packed, form.name, scales[0], zero)
        scaling = scaling_of(packed, scales[0], zero, shape)
        return [packed.logical(name, shape, parts, lambda: opened(packed, name, scaling()), f"{form.name} (scaled)")]

    return Found("numbers with scales", name, parts, decode, UNPACK)


def _is_narrow(packed: Packed, name: str) -> bool:
    try:
        return packed.form(name).name in NARROW
    except InputError:
        return False


def _check_codes(packed: Packed, form: str, scale: str, zero: str | None) -> None:
    """Raise InputError unless a stored number is surely the code of one weight."""
    if form not in (*FLOAT8, "int8", "uint8"):
        raise InputError(f"an {form} may hold several codes, and nothing says how many")
    if form == "uint8" and zero is None:
        raise InputError("bytes with scales and no zero point may hold several codes each, and nothing says how many")
    alone = leaf(scale) == "scale" and zero is not None and packed.size(scale) == packed.size(zero) == 1
    if alone and form in ("int8", "uint8"):
        raise InputError(
            "a module's own `scale` and `zero_point` may be those of its output, as PyTorch's quantised modules have "
            "them; call them weight_scale and weight_zero_point if they are the weight's"
        )


def scaling_of(
    packed: Packed, scale: str, zero: str | None, shape: tuple[int, ...], divisor: str | None = None
) -> Callable[[], Scaling]:
    """Return what opens the scales and zero points of a weight; raises InputError where they do not fit it.

    divisor: name of a number by which all scales are divided.
    """
    form = packed.form(scale)
    block = blocks(packed.shape(scale), shape, _given_block(packed))
    exponents = form.name == "uint8" and block == (1,) * (len(shape) - 1) + (BLOCK_OF_MX,)
    if form.family != "fp" and not exponents:
        raise InputError(f"'{leaf(scale)}' has type {form.name}, where a floating-point type belongs")
    zero_block = None
    if zero is not None:
        if packed.form(zero).family == "fp" and "zero_point" not in zero:
            raise InputError(f"'{leaf(zero)}' is not a complete number, and nothing says whether it is scaled")
        zero_block = blocks(packed.shape(zero), shape, None)

    def start() -> Scaling:
        stored: Any = packed.file[scale]
        stored = finite(powers_of_two(stored) if exponents else stored, leaf(scale)).astype(np.float32)
        if divisor is not None:
            stored = finite(stored / np.float32(finite(packed.small(divisor), leaf(divisor)).reshape(-1)[0]), divisor)
        shift = None
        if zero is not None and zero_block is not None:
            shift = spread(finite(packed.file[zero], leaf(zero)), zero_block, shape)
        return Scaling(spread(stored, block, shape), shift)

    return start


def _given_block(packed: Packed) -> list[int] | None:
    """Return the block that the configuration beside the file gives for fp8 weights; raises InputError: damaged."""
    given = packed.quantization.get("weight_block_size")
    if not isinstance(given, list) or len(given) != 2:
        return None
    return given if all(isinstance(each, int) and each > 0 for each in given) else None


def opened(packed: Packed, name: str, scaling: Scaling) -> Rows | NDArray[Any]:
    """Open an array of codes; return what gives its rows in real values, or all of them where no copy is needed."""
    array = packed.file[name]
    values = scaling.of(lambda first, last: array[first:last])
    if packed.form(name).in_numpy or not array.flags.writeable:
        return values
    # What NumPy has no type for is widened when it is read: that array is nobody else's.
    at_once = rows_at_once(array.shape)
    for first in range(0, len(array), at_once):
        array[first : first + at_once] = values(first, min(first + at_once, len(array)))
    return array


def find_bytes_with_row_scales(packed: Packed, name: str) -> Found | None:
    """Return a weight of LLM.int8: `weight` of int8, and `SCB`, the largest magnitude of each row."""
    root = root_of(name, "SCB")
    if root is None or f"{root}weight" not in packed:
        return None
    weight, shape = f"{root}weight", packed.shape(f"{root}weight")
    parts = [weight, name, *packed.beside(root, "weight_format")]

    def decode() -> list[Logical]:
        packed.check_type(weight, "int8")
        if len(parts) == 3 and packed.small_integers(parts[2]) != [0]:
            raise InputError("its 'weight_format' is that of one GPU, not rows")
        if len(shape) != 2 or packed.size(name) != shape[0] or packed.form(name).family != "fp":
            raise InputError(f"'SCB' of shape {packed.shape(name)} is not a scale for each row of {shape}")

        def start() -> Rows | NDArray[Any]:
            scales = finite(packed.file[name], "SCB").astype(np.float32).reshape(-1, 1) / np.float32(127)
            return opened(packed, weight, Scaling(spread(scales, (1, shape[1]), shape)))

        return [packed.logical(weight, shape, parts, start, "int8 (bitsandbytes)")]

    return Found("bitsandbytes LLM.int8", weight, parts, decode, UNPACK)


def find_subclass(packed: Packed, name: str) -> Found | None:
    """Return a weight of torchao: `_weight_qdata` and its scales, of what the metadata calls its kind."""
    root = root_of(name, "_weight_qdata")
    if root is None:
        return None
    weight = f"{root}weight"
    parts = [name, *packed.beside(root, "_weight_scale", "_weight_zero_point", "_weight_scale_and_zero")]

    def decode() -> list[Logical]:
        kind = _kind(packed.file.metadata.get(weight, ""))
        if kind not in ("Float8Tensor", "Int8Tensor") or f"{root}_weight_scale" not in packed:
            raise InputError(f"the metadata calls it {kind or 'nothing'}; Float8Tensor and Int8Tensor are known")
        form = packed.check_type(name, *(FLOAT8 if kind == "Float8Tensor" else ("int8",)))
        zero = f"{root}_weight_zero_point" if f"{root}_weight_zero_point" in packed else None
        scaling = scaling_of(packed, f"{root}_weight_scale", zero, packed.shape(name))
        how = f"{form.name} (torchao)"
        return [packed.logical(weight, packed.shape(name), parts, lambda: opened(packed, name, scaling()), how)]

    return Found("torchao", weight, parts, decode, "call `.dequantize()` on the model's weights and save them again")


def _kind(text: str) -> str | None:
    """Return what torchao's metadata calls the class of a tensor."""
    try:
        held = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return str(held.get("_type")) if isinstance(held, dict) else None


def find_quanto(packed: Packed, name: str) -> Found | None:
    """Return a weight of optimum-quanto: `weight._data` of int8 or fp8 and `weight._scale`."""
    weight = root_of(name, "_data")
    if weight is None or not weight.endswith(".") or f"{weight}_scale" not in packed:
        return None
    parts = [name, f"{weight}_scale", *packed.beside(weight.removesuffix("weight."), "input_scale", "output_scale")]
    weight = weight.removesuffix(".")

    def decode() -> list[Logical]:
        form = packed.check_type(name, *FLOAT8, "int8")
        scaling = scaling_of(packed, parts[1], None, packed.shape(name))
        how = f"{form.name} (quanto)"
        return [packed.logical(weight, packed.shape(name), parts, lambda: opened(packed, name, scaling()), how)]

    return Found("quanto", weight, parts, decode, UNPACK)
