"""What a chip does with the operations of a network that are no layers: computes, moves, fuses them, or leaves them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from typing import Literal

from pydantic.dataclasses import dataclass

from accelsim.config import CHECKED, Hashed, NonNegative, Positive
from accelsim.errors import raise_if_any

COMPUTED, MOVED, FUSED, ELSEWHERE = "computed", "moved", "fused", "elsewhere"

Moved = Literal["moved", "fused", "elsewhere"]
"""moved: a kernel of its own, which reads and writes; fused: at no cost, whatever stands before; elsewhere: a host."""


@dataclass(frozen=True, kw_only=True, eq=False, config=CHECKED)
class OperationsConfig(Hashed):
    """What becomes of each kind of operation (`accelsim.network.graph.KINDS`), and how fast and dear the rest is.

    computed: products, by what computes layers. moved: a kernel that takes as long as its bytes need from and to DRAM,
    or its elements in the vector units, and is launched. fused: part of what stands before or behind; of operands
    beside the one that is there anyway, the bytes are read. elsewhere: done by something that is not simulated.
    """

    attention: Literal["computed", "elsewhere"] = "elsewhere"
    """Products of activations, of queries by keys and of probabilities by values."""
    activation: Moved = "elsewhere"
    """Functions of one value, where `behind_layers` does not fuse them."""
    concat: Moved = "elsewhere"
    """Tensors put one behind the other, or taken apart."""
    elementwise: Moved = "elsewhere"
    """Sums, products and the like of tensors, where `behind_layers` does not fuse them."""
    embedding: Moved = "elsewhere"
    """Rows looked up in a table: what is read is the rows, not the table."""
    normalisation: Moved = "elsewhere"
    """Batch, layer, group or RMS normalisation."""
    pooling: Moved = "elsewhere"
    """Windows, or whole maps."""
    reshape: Moved = "elsewhere"
    """Other shapes and orders; fused: consumers read them with other strides."""
    softmax: Moved = "elsewhere"
    """Softmax that is not part of attention whose `scores` are kept."""
    other: Moved = "elsewhere"
    """Anything else."""
    behind_layers: list[str] = field(default_factory=list)
    """Kinds and names of operations, as in "activation" and "Add", that are fused right behind a layer.

    They are, too, behind what is fused so; and only where nobody else takes what they take. Case and underscores of
    names do not matter."""
    scores: Literal["stored", "kept"] = "stored"
    """kept: scores and probabilities of attention stay on the chip, in one kernel (FlashAttention, Dao et al. 2022)."""
    dtype: str = ""
    """Type of activations there; empty: that of networks, or where that is narrower one of 16 bits."""
    elements_per_cycle: Positive | None = None
    """Elements that the vector units of the whole chip take in a cycle; None: what its machine says."""
    element_pj: NonNegative | None = None
    """An element in the vector units, beside its bytes; None: unknown, and in no energy."""
    launch_us: NonNegative | None = None
    """Of each kernel that moves; None: as that of a dense layer."""
    source: str = ""
    """Where these numbers are from."""

    def __post_init__(self) -> None:
        raise_if_any(self._problems())

    def _problems(self) -> Iterator[str]:
        if self.scores == "kept" and self.attention != COMPUTED:
            yield 'scores: "kept" is of attention that is computed; leave it out, or set attention = "computed"'
        if not all(map(_plain, self.behind_layers)):
            yield 'behind_layers: holds an empty name; name kinds or operations, as in ["activation", "Add"]'

    def way_of(self, kind: str) -> str:
        """Return what becomes of a kind of operation where it stands alone."""
        return str(getattr(self, kind))

    def fuses(self, kind: str, does: str) -> bool:
        """Return whether an operation is fused behind a layer."""
        fused = {_plain(name) for name in self.behind_layers}
        return kind in fused or (bool(does) and _plain(does) in fused)


def _plain(name: str) -> str:
    return name.replace("_", "").lower()
