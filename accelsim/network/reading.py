"""What a reader is told beside the file, where the file does not say it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a file is to be read where it leaves something open; see `accelsim.load_network`."""

    key: str | None = None
    """Under which a checkpoint keeps the tensors; dots lead further down."""
    transpose: tuple[str, ...] = ()
    """Patterns, as in a shell, of layers whose weights are stored (in, out)."""
    input_shapes: Mapping[str, tuple[int, ...] | int] = field(default_factory=dict)
    """Shape of an input of a graph by its name, or a size by the name of an open dimension."""
    batch_dims: Mapping[str, int | None] = field(default_factory=dict)
    """By the name of an input of a graph: which of its dimensions counts samples; None: none does."""
    input_values: Mapping[str, float] = field(default_factory=dict)
    """By the name of an input of a graph: the value that it always has, such as a flag or a rate."""
