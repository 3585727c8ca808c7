"""What a chip does with the operations of a network that are not layers: computes, moves, fuses or leaves them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from typing import Literal

from pydantic.dataclasses import dataclass

from accelsim.config import CHECKED, Hashed, NonNegative, Positive
from accelsim.errors import raise_if_any
from accelsim.kinds import COMPUTED

Moved = Literal["moved", "fused", "elsewhere"]
"""moved: a kernel of its own, which reads and writes; fused: at no cost, whatever stands before; elsewhere: a host."""


@dataclass(frozen=True, kw_only=True, eq=False, config=CHECKED)
class OperationsConfig(Hashed):
    """What the chip does with each kind of operation (`accelsim.kinds.KINDS`), and what those cost that it moves.

    computed: products, by what computes layers. moved: a kernel that takes as long as its bytes need from and to DRAM,
    or its elements in the vector units, and is launched. fused: part of what stands before or behind; of operands
    beside the one that is there anyway, the bytes are read. elsewhere: done by something that is not simulated.
    """

    attention: Literal["computed", "elsewhere"] = "elsewhere"
    """Products of activations, of queries by keys and of probabilities by values."""
    activation: Moved = "elsewhere"
    """Functions of one value, unless `behind_layers` fuses them."""
    concat: Moved = "elsewhere"
    """Tensors joined or split."""
    elementwise: Moved = "elsewhere"
    """Sums, products and the like of tensors, unless `behind_layers` fuses them."""
    embedding: Moved = "elsewhere"
    """Rows looked up in a table; only the rows are read."""
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
    """Kinds and names of operations, such as "activation" and "Add", that are fused right after a layer.

    Also after another one that is fused this way, but only if nothing else uses their input. Case and underscores of
    names do not matter."""
    scores: Literal["stored", "kept"] = "stored"
    """kept: scores and probabilities of attention stay on the chip, in one kernel (FlashAttention, Dao et al. 2022)."""
    dtype: str = ""
    """Type of activations in operations; empty: the network's, or one of 16 bits if that is narrower."""
    elements_per_cycle: Positive | None = None
    """Elements that the vector units of the whole chip process in a cycle; None: the machine's default."""
    element_pj: NonNegative | None = None
    """Energy of an element in the vector units, without moving its bytes; None: unknown, and in no energy."""
    launch_us: NonNegative | None = None
    """Launch of each moved operation; None: that of a dense layer."""
    source: str = ""
    """Where these numbers are from."""

    def __post_init__(self) -> None:
        raise_if_any(self._problems())

    def _problems(self) -> Iterator[str]:
        if self.scores == "kept" and self.attention != COMPUTED:
            yield 'scores: "kept" applies to attention that is computed; leave it out, or set attention = "computed"'
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
