"""Signed fixed point, as the datapath computes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class FixedPoint(NamedTuple):
    """Integers that stand for real numbers: value = integer x 2^-fraction_bits."""

    integers: NDArray[np.int64]
    fraction_bits: int

    @property
    def real(self) -> NDArray[np.float64]:
        """The numbers meant."""
        return np.ldexp(self.integers.astype(np.float64), -self.fraction_bits)


def fixed_point(values: NDArray[Any], bits: int, largest: float | None = None) -> FixedPoint:
    """Round to signed fixed point of `bits` bits with the binary point as far left as the largest value allows.

    A value that is not zero stays non-zero: it rounds away from zero to at least one unit. `largest`: of all values,
    of which these are some.
    """
    real = np.asarray(values, np.float64)
    if largest is None:
        largest = float(np.abs(real).max(initial=0.0))
    top = 2 ** (bits - 1) - 1
    if largest == 0.0:
        return FixedPoint(np.zeros(real.shape, np.int64), 0)
    fraction_bits = bits - 1 - int(np.frexp(largest)[1])
    if np.rint(np.ldexp(largest, fraction_bits)) > top:
        fraction_bits -= 1
    integers = np.rint(np.ldexp(real, fraction_bits))
    integers = np.where((integers == 0) & (real != 0), np.sign(real), integers)
    return FixedPoint(np.clip(integers, -top, top).astype(np.int64), fraction_bits)
