"""The shapes and attributes of one operation of an ONNX graph, and what of a shape is one sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from accelsim.network.onnx_graph.constants import Constant
from accelsim.network.onnx_graph.forms import attributes_of, input_of


class NodeShapes:
    """The shapes and attributes of a node; raises LookupError where a shape is not known."""

    def __init__(self, node: Any, shapes: Mapping[str, Sequence[int]], constants: Mapping[str, Constant]) -> None:
        self.node = node
        self.attributes = attributes_of(node)
        self._shapes, self._constants = shapes, constants

    def shape(self, position: int) -> list[int]:
        """Return the shape of an input."""
        return self._of(input_of(self.node, position))

    def output(self, position: int) -> list[int] | None:
        """Return the shape of an output, None where it is not known."""
        name = self.node.output[position] if position < len(self.node.output) else ""
        return self._of(name) if name in self._shapes else None

    def has(self, position: int) -> bool:
        """Return whether an input is there."""
        return bool(input_of(self.node, position))

    def _of(self, name: str) -> list[int]:
        found = list(self._constants[name].dims if name in self._constants else self._shapes[name])
        if any(not isinstance(size, int | np.integer) or size < 0 for size in found):
            raise LookupError(name)
        return [int(size) for size in found]


def one_sample(shape: Sequence[int], batch: int) -> tuple[int, ...]:
    """Return the shape of one sample of so many, which stand in the first dimension that they divide."""
    if len(shape) > 1 and shape[0] == batch:
        return tuple(shape[1:])
    for place, size in enumerate(shape if batch > 1 else ()):
        if size and size % batch == 0:
            return (*shape[:place], *((size // batch,) if size > batch else ()), *shape[place + 1 :])
    return tuple(shape)
