"""How many elements of a file's tensors something takes, each counted once."""

from __future__ import annotations

from collections.abc import Mapping

from accelsim.network.onnx_graph.constants import Constant


class Account:
    """The tensors of a file, and which of them something took."""

    def __init__(self, stored: Mapping[str, Constant]) -> None:
        self._stored = stored
        self._taken: set[str] = set()

    def has(self, constant: Constant) -> bool:
        """Return whether something took all tensors of which a constant is made."""
        return constant.made_of <= self._taken

    def take(self, constant: Constant) -> int:
        """Return the elements of tensors of two or more dimensions in a constant that nothing took before.

        They are as many as the constant has, so that a mask is a part of its weight; but no more than its tensors have,
        which it may repeat, and no fewer than the largest has, of which it may be a part.
        """
        new = constant.made_of - self._taken
        self._taken |= new
        sizes = [self._stored[name].size for name in new if len(self._stored[name].dims) >= 2]
        return max(max(sizes), min(constant.size, sum(sizes))) if sizes else 0
