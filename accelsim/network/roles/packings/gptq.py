"""Integers of few bits in words of 32: GPTQ, along the inputs, and AWQ, along the outputs.

Source: GPTQModel 7.7.0, nn_modules/qlinear/__init__.py (GPTQ, with both kinds of zero points) and
quantization/awq/utils/packing_utils.py (AWQ).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import InputError
from accelsim.network.integers import bits_of, unpacked_bits
from accelsim.network.roles.logical import Logical
from accelsim.network.roles.packings.scales import finite, groups_of_columns
from accelsim.network.roles.packings.stored import Found, Packed, Rows, root_of

WORDS = ("int32", "uint32")
BITS = (2, 3, 4, 8)
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
"""Which of eight columns each four bits of a word hold, from the lowest up."""

ZERO_SHIFTS = {"gptq": 1, "auto_gptq": 1, "auto_round:auto_gptq": 1, "gptq_v2": 0}
"""What is added to a stored zero point, by what the model's configuration calls the format."""


class _Linear(NamedTuple):
    """A layer of GPTQ or AWQ: integers (in, out), a scale and a zero point for each output of a group of inputs."""

    outputs: int
    inputs: int
    groups: int
    bits: int


def find_gptq(packed: Packed, name: str) -> Found | None:
    """Return a weight of GPTQ or AWQ: `qweight`, `scales`, and as a rule `qzeros` and `g_idx`."""
    root = root_of(name, "qweight")
    if root is None or f"{root}scales" not in packed:
        return None
    parts = [name, *packed.beside(root, "scales", "qzeros", "g_idx", "zeros", "perm", "invperm", "workspace")]
    stored, scales = packed.shape(name), packed.shape(f"{root}scales")
    flat = len(stored) == len(scales) == 2
    is_awq = flat and scales[1] == 8 * stored[1] and f"{root}g_idx" not in packed

    def decode() -> list[Logical]:
        if not flat or packed.form(name).name not in WORDS or packed.form(f"{root}scales").family != "fp":
            raise InputError(f"'qweight' {stored} and 'scales' {scales} are laid out for one kernel")
        weight, shape = f"{root}weight", _linear(packed, root, is_awq)
        start = _awq(packed, root, shape) if is_awq else _gptq(packed, root, shape)
        how = f"int{shape.bits} ({'AWQ' if is_awq else 'GPTQ'})"
        return [packed.logical(weight, (shape.outputs, shape.inputs), parts, start, how)]

    name_of = "AWQ" if is_awq else "GPTQ"
    unpack = f"load the model with {'AutoAWQ' if is_awq else 'GPTQModel'}, dequantise it and save its state dict"
    return Found(name_of, f"{root}weight", parts, decode, unpack)


def _linear(packed: Packed, root: str, is_awq: bool) -> _Linear:
    """Return the sizes of a layer; raises InputError where the arrays do not agree on them."""
    if f"{root}qzeros" not in packed:
        raise InputError("its 'qzeros' is missing")
    if packed.form(f"{root}qzeros").name not in WORDS:
        raise InputError(f"'qzeros' has type {packed.form(f'{root}qzeros').name}, where words of 32 bits belong")
    stored, zeros, (groups, outputs) = (packed.shape(f"{root}{each}") for each in ("qweight", "qzeros", "scales"))
    held = f"'qweight' {stored}, 'qzeros' {zeros} and 'scales' {(groups, outputs)}"
    if is_awq:
        if zeros != (groups, stored[1]) or stored[0] % groups:
            raise InputError(f"{held} do not fit one another")
        return _Linear(outputs, stored[0], groups, 4)
    if stored[1] != outputs or min(*stored, groups, outputs) < 1:
        raise InputError(f"{held} are laid out for one kernel")
    given = packed.size(f"{root}g_idx") if f"{root}g_idx" in packed else None
    fitting = bits_of(outputs, zeros[-1], BITS) if len(zeros) == 2 and zeros[0] == groups else []
    fitting = [bits for bits in fitting if given in (None, stored[0] * 32 // bits)]
    if len(fitting) > 1:
        fitting = [bits for bits in fitting if bits == packed.quantization.get("bits")]
    if len(fitting) != 1:
        raise InputError(
            f"{held} do not agree on the bits of a weight ('g_idx' gives {given} inputs); keep the model's config.json "
            "beside the file"
        )
    inputs = stored[0] * 32 // fitting[0]
    if given is None and inputs % groups:
        raise InputError(f"{groups} groups do not divide {inputs} inputs, and no 'g_idx' says which is whose")
    return _Linear(outputs, inputs, groups, fitting[0])


def _gptq(packed: Packed, root: str, layer: _Linear) -> Callable[[], Rows]:
    """Return what opens a layer of GPTQ: words down the inputs, zero points along the outputs."""
    said = _format_said(packed)
    if said is None:
        packed.assume(
            f"{root}weight",
            "GPTQ's zero points are taken to be stored less 1, as its first format has them; "
            "put the model's config.json beside the file if it says gptq_v2",
        )
    elif said not in ZERO_SHIFTS:
        raise InputError(f"the configuration beside it calls the format {said!r}; known: {', '.join(ZERO_SHIFTS)}")

    def start() -> Rows:
        words, scales = packed.file[f"{root}qweight"], finite(packed.file[f"{root}scales"], "scales")
        group: NDArray[np.intp] | None = None
        if f"{root}g_idx" in packed:
            group = groups_of_columns(packed, f"{root}g_idx", layer.groups)
        if group is None:
            group = np.arange(layer.inputs, dtype=np.intp) * layer.groups // layer.inputs
        stored = unpacked_bits(packed.file[f"{root}qzeros"], layer.bits, layer.outputs).astype(np.int16)
        shift = ZERO_SHIFTS[said or "gptq"]
        if said is None and (stored == 2 ** (layer.bits - 1)).all():
            shift = 0  # the middle of all codes, which the first format would hold less 1
        zeros = (stored + shift) % 2**layer.bits

        def rows(first: int, last: int) -> NDArray[Any]:
            codes = unpacked_bits(words[:, first:last].T, layer.bits, layer.inputs).astype(np.float32)
            codes -= zeros[:, first:last].T[:, group]
            codes *= scales[:, first:last].T[:, group].astype(np.float32)
            return codes

        return rows

    return start


def _format_said(packed: Packed) -> str | None:
    """Return what the configuration beside the file calls the format, None without one."""
    held = packed.quantization
    said = held.get("checkpoint_format") or held.get("format") or held.get("packing_format")
    # Before there was a second format, nothing was said.
    return str(said or "gptq").lower() if held else None


def _awq(packed: Packed, root: str, layer: _Linear) -> Callable[[], Rows]:
    """Return what opens a layer of AWQ: words along the outputs, eight of them in an order of its own."""
    version = str(packed.quantization.get("version", "gemm")).lower()
    if version != "gemm":
        raise InputError(f"the configuration beside it calls the version {version!r}; 'gemm' is known")

    def start() -> Rows:
        words, scales = packed.file[f"{root}qweight"], finite(packed.file[f"{root}scales"], "scales")
        zeros, size = _in_order(packed.file[f"{root}qzeros"]), layer.inputs // layer.groups

        def rows(first: int, last: int) -> NDArray[Any]:
            codes = _in_order(words[:, first // 8 : -(-last // 8)])[:, : last - first].astype(np.float32)
            codes -= zeros[:, first:last].repeat(size, 0)
            codes *= scales[:, first:last].astype(np.float32).repeat(size, 0)
            return codes.T

        return rows

    return start


def _in_order(words: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the integers of four bits of AWQ's words in the order of the columns."""
    held = unpacked_bits(words, 4, 8 * words.shape[1]).reshape(len(words), -1, 8)
    columns = np.empty_like(held)
    columns[..., list(AWQ_ORDER)] = held
    return columns.reshape(len(words), -1)
