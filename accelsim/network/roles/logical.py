"""Arrays as a network uses them, made of one stored array or several."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from numpy.typing import NDArray


class Logical(NamedTuple):
    """An array as a network uses it, such as `fc.weight` of `fc.weight_orig` and `fc.weight_mask`."""

    name: str
    shape: tuple[int, ...]
    parts: tuple[str, ...]
    """Stored arrays that it is made of, the first of them where it stands in the file."""
    read: Callable[[], NDArray[Any]]
    """Makes it; keeps nothing."""
    stored_as: str = ""
    """How its numbers are packed, where they are, such as "int4 (GPTQ)"."""
