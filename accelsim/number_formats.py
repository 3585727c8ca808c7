"""What a number is made of: the one table of number formats, and what their bits mean."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import InputError

DECODED_TOGETHER = 2**16
"""Numbers: NumPy makes an index of 64 bits from each of 8, and so few of those stay in a cache."""


class NumberFormat(NamedTuple):
    """How a number is kept in bits: of a floating-point one sign, exponent and fraction, from the top down."""

    name: str
    """What chips, prices and tables call it."""
    family: Literal["fp", "int", "uint", "bool"]
    bits: int
    """Of an element in memory; tf32 fills 32, of which arithmetic uses 19."""
    exponent_bits: int
    significand_bits: int
    """Hidden bit included; all bits of an integer."""
    array_type: str | None = None
    """What PyTorch and, where it has it, NumPy call it; None: arrays of it are not read."""
    safetensors_type: str | None = None
    in_numpy: bool = True
    has_infinity: bool = True
    """Of floating point; without, NaN has all bits set. With, both have the largest exponent (IEEE 754)."""

    @property
    def unsigned(self) -> type[np.unsignedinteger[Any]]:
        """NumPy's type for the bits."""
        return np.dtype(f"u{self.bits // 8}").type

    @property
    def magnitude_mask(self) -> int:
        """The bits without the sign, by which minus zero is zero; all bits of an integer."""
        return int(2 ** (self.bits - (self.family == "fp")) - 1)

    @property
    def first_nonfinite(self) -> float:
        """The least magnitude, as an integer, that is no finite number; infinite for an integer, which always is."""
        if self.family != "fp":
            return float("inf")
        fraction_bits = self.significand_bits - 1
        return (2**self.exponent_bits - 1) << fraction_bits if self.has_infinity else self.magnitude_mask

    @property
    def largest(self) -> float:
        """The largest finite number."""
        if self.family != "fp":
            return float(2 ** (self.bits - (self.family == "int")) - 1)
        fraction_bits, code = self.significand_bits - 1, int(self.first_nonfinite) - 1
        fraction = 1 + (code % 2**fraction_bits) / 2**fraction_bits
        return float(np.ldexp(fraction, (code >> fraction_bits) - self.bias))

    @property
    def bias(self) -> int:
        """What is taken from a stored exponent."""
        return int(2 ** (self.exponent_bits - 1) - 1)

    def nearest(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Return the nearest numbers of a floating-point format, of two the even one (IEEE 754).

        What lies beyond the largest finite number becomes that: conversions saturate.
        """
        real = np.asarray(values, np.float64)
        _, exponent = np.frexp(real)  # of a fraction from 1/2
        # Below the smallest normal number all share its exponent.
        unit = np.maximum(exponent, 2 - self.bias) - self.significand_bits
        rounded: NDArray[np.float64] = np.clip(
            np.ldexp(np.rint(np.ldexp(real, -unit)), unit), -self.largest, self.largest
        )
        return rounded

    @property
    def stored_type(self) -> np.dtype[Any]:
        """NumPy's type for elements in a file, least byte first: their bits where NumPy lacks the format."""
        return np.dtype(self.array_type if self.in_numpy else self.unsigned).newbyteorder("<")

    def values(self, stored: NDArray[Any]) -> NDArray[Any]:
        """Return what elements of `stored_type` stand for, exactly: as float32 where NumPy lacks the format."""
        if self.in_numpy:
            return stored
        if self.bits == 16:
            # bfloat16 is the upper half of a float32.
            return (stored.astype(np.uint32) << 16).view(np.float32)
        table, codes = _values_of_codes(self), np.ascontiguousarray(stored).reshape(-1)
        values = np.empty(codes.shape, np.float32)
        for first in range(0, len(codes), DECODED_TOGETHER):
            part = slice(first, first + DECODED_TOGETHER)
            table.take(codes[part], out=values[part], mode="clip")
        return values.reshape(stored.shape)

    def stored(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return elements of `stored_type` that stand for these numbers, or for the nearest that it has.

        What `values` returns of elements gives the same elements again.
        """
        if self.in_numpy:
            return values.astype(self.stored_type)
        nearest = self.nearest(values).astype(np.float32)
        signs = np.signbit(values).astype(self.unsigned) << (self.bits - 1)
        if self.bits == 16:
            magnitudes = np.abs(nearest).view(np.uint32) >> 16
        else:
            magnitudes = np.searchsorted(_values_of_codes(self)[: int(self.first_nonfinite)], np.abs(nearest))
        codes: NDArray[Any] = magnitudes.astype(self.stored_type) | signs
        return codes


@lru_cache(maxsize=4)
def _values_of_codes(form: NumberFormat) -> NDArray[np.float32]:
    """Return the values of all codes of a narrow floating-point format, in their order."""
    codes = np.arange(2**form.bits)
    fraction_bits = form.significand_bits - 1
    fraction = codes % 2**fraction_bits
    exponent = codes >> fraction_bits & 2**form.exponent_bits - 1
    # Without the hidden bit, numbers below the smallest normal one share its exponent.
    significand = np.where(exponent > 0, fraction + 2**fraction_bits, fraction)
    values = np.ldexp(significand.astype(np.float32), np.maximum(exponent, 1) - form.bias - fraction_bits)
    magnitude = codes & form.magnitude_mask
    values[magnitude >= form.first_nonfinite] = np.nan
    if form.has_infinity:
        values[magnitude == form.first_nonfinite] = np.inf
    signed: NDArray[np.float32] = np.where(codes > form.magnitude_mask, -values, values)
    return signed


NUMBER_FORMATS = {
    form.name: form
    for form in (
        NumberFormat("fp64", "fp", 64, 11, 53, "float64", "F64"),
        NumberFormat("fp32", "fp", 32, 8, 24, "float32", "F32"),
        NumberFormat("tf32", "fp", 32, 8, 11),
        NumberFormat("fp16", "fp", 16, 5, 11, "float16", "F16"),
        NumberFormat("bf16", "fp", 16, 8, 8, "bfloat16", "BF16", in_numpy=False),
        NumberFormat("fp8", "fp", 8, 4, 4, "float8_e4m3fn", "F8_E4M3", in_numpy=False, has_infinity=False),
        NumberFormat("fp8_e5m2", "fp", 8, 5, 3, "float8_e5m2", "F8_E5M2", in_numpy=False),
        NumberFormat("int64", "int", 64, 0, 64, "int64", "I64"),
        NumberFormat("int32", "int", 32, 0, 32, "int32", "I32"),
        NumberFormat("int16", "int", 16, 0, 16, "int16", "I16"),
        NumberFormat("int8", "int", 8, 0, 8, "int8", "I8"),
        NumberFormat("int4", "int", 4, 0, 4),
        NumberFormat("uint64", "uint", 64, 0, 64, "uint64", "U64"),
        NumberFormat("uint32", "uint", 32, 0, 32, "uint32", "U32"),
        NumberFormat("uint16", "uint", 16, 0, 16, "uint16", "U16"),
        NumberFormat("uint8", "uint", 8, 0, 8, "uint8", "U8"),
        NumberFormat("bool", "bool", 8, 0, 1, "bool", "BOOL"),
    )
}
"""By name. Sources: IEEE 754-2019; Micikevicius et al., arXiv 2209.05433, as OCP's 8-bit floating point has it (fp8 is
E4M3, fp8_e5m2 E5M2); NVIDIA A100 white paper (tf32)."""

ARRAY_TYPES = {form.array_type: form for form in NUMBER_FORMATS.values() if form.array_type is not None}
"""By what arrays and tensors call it, those of `ml_dtypes` included."""

SAFETENSORS_TYPES = {
    form.safetensors_type: form for form in NUMBER_FORMATS.values() if form.safetensors_type is not None
}


def integer(bits: int) -> NumberFormat:
    """Return signed integers of so many bits, such as those of a fixed-point datapath."""
    return NUMBER_FORMATS.get(f"int{bits}") or NumberFormat(f"int{bits}", "int", bits, 0, bits)


def format_of(dtype: np.dtype[Any]) -> NumberFormat:
    """Return the format of an array's numbers; raises InputError for one that cannot be simulated."""
    if dtype.name not in ARRAY_TYPES:
        raise InputError(f"weight: {unsupported(dtype)}")
    return ARRAY_TYPES[dtype.name]


def bits_of(name: str) -> int:
    """Return the width of a number by the name of its format, as in bfloat16, BF16, int4 (GPTQ) or Q4_K.

    Of what no table has it is the number in the name, without scales that blocks share; 32 where there is none.
    """
    first = name.split()[0] if name else ""
    form = ARRAY_TYPES.get(first) or SAFETENSORS_TYPES.get(first) or NUMBER_FORMATS.get(first)
    if form is not None:
        return form.bits
    said = re.search(r"[0-9]+", name)
    return int(said[0]) if said else 32


def is_supported(dtype: np.dtype[Any]) -> bool:
    """Return whether arrays of this type can be simulated."""
    return dtype.name in ARRAY_TYPES


def unsupported(dtype: Any, known: Iterable[str] = ARRAY_TYPES) -> str:
    """Say that numbers of this type cannot be read, and which can."""
    return f"has type {dtype}, which is not supported; convert it to one of {', '.join(known)}"


def is_pattern(text: str) -> bool:
    """Return whether a text is a pattern N:M of at most 32, of whose weights some are zero."""
    found = re.fullmatch(r"([0-9]{1,2}):([0-9]{1,2})", text)
    return found is not None and 0 < int(found[1]) < int(found[2]) <= 32
