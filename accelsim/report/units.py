"""Numbers as people read them, with a fitting unit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

Scale = Sequence[tuple[float, str]]
"""Units of one quantity, each with its size in that of the table, smallest first."""

TIME_US: Scale = ((1e-3, "ns"), (1.0, "µs"), (1e3, "ms"), (1e6, "s"))
ENERGY_PJ: Scale = ((1.0, "pJ"), (1e3, "nJ"), (1e6, "µJ"), (1e9, "mJ"), (1e12, "J"))
POWER_MW: Scale = ((1e-3, "µW"), (1.0, "mW"), (1e3, "W"))
SIZE_BITS: Scale = ((8.0, "bytes"), (8.0 * 2**10, "KiB"), (8.0 * 2**20, "MiB"), (8.0 * 2**30, "GiB"))
COUNT: Scale = ((1.0, ""),)


def unit_for(largest: float, scale: Scale) -> tuple[float, str]:
    """Return the largest unit of a scale that the number fills, with its size."""
    return max((unit for unit in scale if unit[0] <= abs(largest)), default=scale[0])


def say(value: Any, scale: Scale) -> str:
    """Return a number with about four digits in the unit that fits it; - where there is none."""
    if pd.isna(value):
        return "-"
    size, unit = unit_for(float(value), scale)
    return f"{number(value / size)} {unit}".rstrip()


def whole(count: Any) -> str:
    """Format a whole number; - where there is none."""
    return "-" if pd.isna(count) else f"{int(count):,}"


def times(ratio: Any, digits: int = 2) -> str:
    """Format a ratio; - where there is none."""
    return "-" if pd.isna(ratio) else f"{ratio:.{digits}f}x"


def percent(share: Any) -> str:
    """Format a share with one digit after the point; - where there is none."""
    return "-" if pd.isna(share) else f"{100 * share:.1f} %"


def number(value: Any) -> str:
    """Format with about four digits; - where there is none."""
    if pd.isna(value):
        return "-"
    if value == 0:
        return "0"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
