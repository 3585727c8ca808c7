"""What the arrays of a file are to a network."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

from accelsim.network.left_out import LeftOut
from accelsim.network.roles.logical import Logical

if TYPE_CHECKING:
    from accelsim.network.files import TensorFile


Kind = Literal["linear", "conv1d", "conv2d", "conv_transpose2d"]


class Role(NamedTuple):
    """A layer, by the arrays that it is made of."""

    name: str
    kind: Kind
    weight: Logical
    """(out, in) or (out, in / groups, kh, kw), that of a 1-D convolution with a height of 1; see `logical.lowered`."""
    bias: Logical | None = None
    """(out,)."""
    activations: Logical | None = None
    codebook: Logical | None = None
    groups: int | None = None
    """Of a convolution, where its weights show it; None: they do not."""
    is_turned: bool = False
    """Whether the file has the weights the other way round, (in, out)."""
    owner: str = ""
    """The first layer whose weights these are, too, where the file stores them once."""

    @property
    def spec_kind(self) -> str:
        """What a network file calls it: a 1-D convolution is a 2-D one of height 1."""
        return "conv2d" if self.kind == "conv1d" else self.kind

    @property
    def arrays(self) -> dict[str, Logical]:
        """What it has, under the keys of a network file."""
        found = {"weight": self.weight, "bias": self.bias, "activations": self.activations, "codebook": self.codebook}
        return {key: each for key, each in found.items() if each is not None}


@dataclass
class Roles:
    """The layers that the arrays of a file make, in order, and what became of every other array."""

    file: TensorFile
    layers: dict[str, Role] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)
    assumptions: list[str] = field(default_factory=list)
    left_open: list[str] = field(default_factory=list)
    """Those assumptions that a network answers into which the weights are put: what is looked up, how often it runs."""
    problems: list[str] = field(default_factory=list)
    accounts: dict[str, str] = field(default_factory=dict)
    """What each stored array is, in words."""
    averages: set[str] = field(default_factory=set)
    """Stored arrays that are moving averages: left out, and read where a network file names them."""
    logical: dict[str, Logical] = field(default_factory=dict)
    """All arrays as a network uses them, by name, in the order in which they stand."""

    def find(self, name: str) -> Logical | None:
        """Return the array that a network file names: as the file calls it, else as `X.weight` of a layer X.

        What is kept in parts or packed is whole; weights lie as they are stored where the file has them by this name.
        """
        layer, _, key = name.rpartition(".")
        own = self.layers[layer].arrays if layer in self.layers else {}
        if name in self.logical and (key == "weight" or key not in own):
            return self.logical[name]
        for each in self.logical.values():
            if name in each.parts and not each.stored_as:
                return each if len(each.parts) == 1 else Logical.stored(self.file, name)
        if name in self.averages:
            return Logical.stored(self.file, name)
        return own.get(key)

    def names_like(self, key: str) -> list[str]:
        """Return the names of arrays that a key of a network file can take: weights for `weight`, and so on."""
        dims = {"weight": range(2, 6), "bias": range(1, 2), "codebook": range(1, 2)}.get(key, range(8))
        own = [f"{layer}.{each}" for layer, role in self.layers.items() for each in role.arrays if each == key]
        return [*dict.fromkeys([name for name, each in self.logical.items() if len(each.shape) in dims] + own)]
