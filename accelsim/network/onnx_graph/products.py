"""What an operation multiplies: weights with vectors, out of which a layer is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import collecting, raise_if_any
from accelsim.network.arrays import count_problems
from accelsim.network.layer import Layer
from accelsim.network.left_out import LeftOut
from accelsim.network.lowering import Convolution
from accelsim.network.onnx_graph.weights import Weight
from accelsim.number_formats import is_supported, unsupported

Array = NDArray[Any]
Geometry = Mapping[str, Any]


def whole(array: Array) -> Array:
    """Return an array as it is."""
    return array


@dataclass(frozen=True, kw_only=True)
class Product:
    """A weight times vectors, or its filters over images."""

    weight: Weight
    """(out_features, in_features), or (out, in / groups, kh, kw)."""
    data: str
    """The value that is multiplied by it."""
    zero: str = ""
    """The value that is the zero point of its data."""
    states: tuple[str, ...] = ()
    """Values of which the vectors are made instead of `data`: of a recurrent cell all states, and the first one."""
    arranged: Callable[..., Array] = whole
    """Makes vectors in the order in which the layer has them of the data of samples (samples, *shape of one); of
    `states`, where it has some."""
    gives: str = ""
    """The value that it makes with its bias, where that is not the first of its node."""
    restored: Callable[[Array], Array] | None = whole
    """Makes what the layer gives of that value, (samples, *shape of one); None: the product itself is no value."""
    vectors: int = 1
    """Of all samples together; of a convolution, images."""
    together: int = 1
    """Times that they are as many, whatever the samples."""
    steps: int = 1
    """Times that it runs one after another."""
    bias: Weight | None = None
    end: str = ""
    """What its name ends in, where an operation has several."""
    kind: str = "linear"
    geometry: Geometry | None = None
    """What `Convolution.of` takes beside channels and kernel."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What an operation is made of."""

    products: list[Product] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    """Parts of it that are not simulated; multiply-accumulates of all samples together."""
    names: tuple[str, ...] = ()
    """Tensors that it may be called after."""


class Graph(Protocol):
    """What an operation may ask of the graph around it."""

    def shape(self, node: Any, value: str) -> list[int]:
        """Return the shape of a value; raises OpenError where it is not known."""

    def find(self, value: str) -> Weight | None:
        """Return the constant behind a value, None where it depends on inputs."""

    def users(self, value: str) -> list[Any]:
        """Return the nodes that take a value."""


Reader = Callable[[Graph, Any], Found | None]
"""Returns what an operation is made of, None where no constant is its weight; raises ValueError where it is not whole,
OpenError where a size is not known."""


class OpenError(Exception):
    """A size is not known before the graph runs."""


def layer_of(name: str, product: Product, tokens: int) -> Layer:
    """Return the layer of a product, its weights read when they are asked for; raises InputError."""
    weight, geometry = product.weight, product.geometry
    problems = count_problems(name, tokens=tokens, steps=product.steps)
    if weight.dtype.kind in "OUSc" and not is_supported(weight.dtype):
        problems.append(f"layer {name}: weight: {unsupported(weight.dtype)}")
    if 0 in weight.dims:
        problems.append(f"layer {name}: weight: is empty (got shape {weight.dims})")
    raise_if_any(problems)
    convolution = None
    if geometry is not None:
        out, per_group, *kernel = weight.dims
        with collecting(problems, f"layer {name}: "):
            convolution = Convolution.of(per_group * geometry.get("groups", 1), out, kernel, **geometry)
    raise_if_any(problems)
    layer = Layer(
        name=name,
        kind=product.kind,
        out_features=weight.dims[0],
        in_features=weight.dims[1] if convolution is None else convolution.in_features,
        weight_source=lambda: np.ascontiguousarray(weight.read()),
        bias=None if product.bias is None else product.bias.read(),
        stored_as=weight.stored_as,
        tokens=tokens,
        steps=product.steps,
        convolution=convolution,
        weights_key=" ".join(sorted(weight.parts)) + product.end if weight.parts else "",
    )
    raise_if_any(layer.problems)
    return layer


def bias_of(found: Weight | None, rows: int, factor: float = 1.0, *, of_rows: bool = False) -> Weight | None:
    """Return what is added to every output vector as a bias (rows,), None where it is no vector.

    of_rows: vectors are the columns of the output, so that a bias stands in a column.
    """
    if found is None:
        return None
    if found.size == 1:
        return found.shaped(1).repeated(rows).times(factor)
    across = found.dims[-2:] == (rows, 1) if of_rows else found.dims[-1:] == (rows,)
    return found.shaped(rows).times(factor) if across and found.size == rows else None
