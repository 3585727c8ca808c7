"""What a reader is told in addition to the file, if the file does not say it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from accelsim.errors import raise_if_any

Kind = Literal["a file of tensors", "an ONNX graph", "a network file", "a language model"]
"""What a network is read from."""


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

    @classmethod
    def of(
        cls,
        *,
        key: str | None = None,
        transpose: str | Sequence[str] = (),
        input_shapes: Mapping[str, Sequence[int] | int] | None = None,
        batch_dims: Mapping[str, int | None] | None = None,
        input_values: Mapping[str, float] | None = None,
    ) -> Reading:
        """Return what the keywords of `accelsim.load_network` say."""
        shapes = {name: size if isinstance(size, int) else tuple(size) for name, size in (input_shapes or {}).items()}
        return cls(
            key=key,
            transpose=(transpose,) if isinstance(transpose, str) else tuple(transpose),
            input_shapes=shapes,
            batch_dims=batch_dims or {},
            input_values=input_values or {},
        )

    def check_belongs(self, place: str, kind: Kind) -> None:
        """Raise InputError for what is told of a file that it says itself, or that its kind has no place for."""
        raise_if_any(
            f"{place}: {option} ({keyword}=): belongs to {_OWNERS[keyword]}, and this is {kind}; leave it out"
            for keyword, option in OPTIONS.items()
            if getattr(self, keyword) and kind != _OWNERS[keyword]
        )


OPTIONS = {
    "key": "--key",
    "transpose": "--transpose",
    "input_shapes": "--input-shape",
    "batch_dims": "--batch-dim",
    "input_values": "--input-value",
}
"""What each is called on the command line."""

_OWNERS: dict[str, Kind] = {
    keyword: "a file of tensors" if keyword in ("key", "transpose") else "an ONNX graph" for keyword in OPTIONS
}
