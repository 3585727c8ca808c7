"""Operations with weights, as products: convolutions, products of matrices, recurrent cells, attentions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.network.integers import smallest, unpacked_bits
from accelsim.network.left_out import LeftOut
from accelsim.network.onnx_graph.attention import attended, heads_of_projected
from accelsim.network.onnx_graph.einsum import equation_of
from accelsim.network.onnx_graph.forms import (
    CONVOLUTIONS,
    LINEAR,
    MATRICES,
    MICROSOFT,
    RECURRENT,
    TRANSPOSED,
    Form,
    attributes_of,
    input_of,
    place_of,
)
from accelsim.network.onnx_graph.products import Found, Graph, Product, Reader, bias_of, whole
from accelsim.network.onnx_graph.weights import Weight
from accelsim.network.onnx_graph.windows import channels_first, window_of

Array = NDArray[Any]


def reader_of(node: Any) -> Reader | None:
    """Return what reads a node that may have weights, None for other operations."""
    if node.domain == "ai.onnx.ml":
        return _linear if node.op_type in LINEAR else None
    if node.domain not in ("", "ai.onnx", MICROSOFT):
        return None
    if node.op_type in ("Attention", "QAttention"):
        return _attention if node.domain == MICROSOFT else None
    return READERS.get(node.op_type)


def needed_by(node: Any) -> tuple[int, ...]:
    """Return the positions of the inputs that a node which `reader_of` knows cannot do without."""
    form = (CONVOLUTIONS | TRANSPOSED | MATRICES).get(node.op_type)
    if form is not None:
        return form.left, form.right
    return (0, 1, 2) if node.op_type in RECURRENT else (0,)


def _convolution(graph: Graph, node: Any) -> Found | None:
    form, attributes = CONVOLUTIONS[node.op_type], attributes_of(node)
    kernel = _without_zero(graph, node, form.right, form.right_zero, 0)
    if kernel is None:
        return None
    images, channels, *sizes = channels_first(node, graph.shape(node, node.input[form.left]))
    groups, dims = attributes.get("group", 1), len(kernel.dims) - 2
    if len(sizes) != dims or kernel.dims[1] * groups != channels:
        raise ValueError(f"filters of shape {list(kernel.dims)} in {groups} groups do not fit {channels} channels")
    window = window_of(attributes, sizes, kernel.dims[2:])
    if dims not in (1, 2):
        return _of_other_dimensions(graph, node, kernel, images * math.prod(window.outputs))
    padding, extra = window.before, [(0, 0)] * dims
    if window.before != window.after:
        extra = list(zip(window.before, window.after, strict=True))
        sizes = [sum(each) for each in zip(sizes, window.before, window.after, strict=True)]
        padding = [0] * dims
    geometry = {"input_hw": sizes, "stride": window.stride, "padding": padding, "dilation": window.dilation}
    if dims == 1:  # as of height 1
        kernel = kernel.shaped(*kernel.dims[:2], 1, kernel.dims[2])
        geometry = {key: [0 if key == "padding" else 1, *value] for key, value in geometry.items()}
    bias = graph.find(input_of(node, form.bias))
    is_last = channels_first(node, range(dims + 2)) != list(range(dims + 2))

    def arranged(data: Array) -> Array:
        data = np.moveaxis(data, -1, 2) if is_last else data  # (samples, images, channels, sizes...)
        return np.pad(data, [(0, 0)] * 3 + extra) if any(map(any, extra)) else data

    product = Product(
        weight=kernel,
        data=node.input[form.left],
        vectors=images,
        bias=bias_of(bias, kernel.dims[0]),
        kind="conv2d",
        geometry=geometry | {"groups": groups},
        zero=input_of(node, form.left_zero),
        arranged=arranged,
    )
    is_plain = node.op_type in ("Conv", "ConvInteger") and _is_added(product, node, form)
    return Found(products=[product if is_plain else replace(product, restored=None)], names=_names(kernel, bias))


def _is_added(product: Product, node: Any, form: Form) -> bool:
    """Return whether what a node adds to its product, if anything, is the bias."""
    return product.bias is not None or not input_of(node, form.bias)


def _transposed(graph: Graph, node: Any) -> Found | None:
    """Take a transposed convolution as it is computed: every input pixel times all filters (out x kh x kw)."""
    form, groups = TRANSPOSED[node.op_type], attributes_of(node).get("group", 1)
    kernel = graph.find(input_of(node, form.right))
    if kernel is None:
        return None
    images, channels, *sizes = graph.shape(node, node.input[form.left])
    if kernel.dims[0] != channels or channels % groups or len(kernel.dims) != len(sizes) + 2:
        raise ValueError(f"filters of shape {list(kernel.dims)} in {groups} groups do not fit {channels} channels")
    if len(sizes) not in (1, 2):
        return _of_other_dimensions(graph, node, kernel, images * math.prod(sizes))
    per_group, filters = channels // groups, math.prod(kernel.dims[1:])
    weight = kernel.shaped(groups, per_group, filters).turned(0, 2, 1).shaped(groups * filters, per_group, 1, 1)
    product = Product(
        weight=weight,
        data=node.input[form.left],
        vectors=images,
        kind="conv_transpose2d",
        geometry={"input_hw": [1, *sizes][-2:], "groups": groups},
        restored=None,
    )
    return Found(products=[product], names=_names(kernel, graph.find(input_of(node, form.bias))))


def _of_other_dimensions(graph: Graph, node: Any, kernel: Weight, vectors: int) -> Found:
    """Name a convolution that no chip here runs, whose weights are all multiplied so often."""
    kind = f"{node.op_type} of {len(kernel.dims) - 2} dimensions"
    return Found(left_out=[LeftOut(place_of(node), kind, kernel.size, vectors * kernel.size)])


def _matrices(graph: Graph, node: Any) -> Found | None:
    form, attributes = MATRICES[node.op_type], attributes_of(node)
    if attributes.get("transBatchA") or attributes.get("transBatchB"):
        return None
    swaps = [attributes.get(key, 0) for key in ("transA", "transB")]
    # Zero points are of the columns of the right matrix, or of the rows of the left one.
    weight, on_right = _without_zero(graph, node, form.right, form.right_zero, -2 if swaps[1] else -1), True
    if weight is None:
        weight, on_right = _without_zero(graph, node, form.left, form.left_zero, -1 if swaps[0] else -2), False
    if weight is None:
        return None
    data = node.input[form.left if on_right else form.right]
    zero = input_of(node, form.left_zero if on_right else form.right_zero)
    shape = graph.shape(node, data)
    if swaps[on_right]:
        weight = _swapped(weight)
    shape = [*shape[:-2], shape[-1], shape[-2]] if swaps[not on_right] else shape
    # From here on vectors are the rows of the data and the weight is (..., rows, columns).
    if on_right:
        weight = _swapped(weight.shaped(*weight.dims, 1) if len(weight.dims) == 1 else weight)
        shape = [1, *shape] if len(shape) == 1 else shape
    else:
        weight = weight.shaped(1, *weight.dims) if len(weight.dims) == 1 else weight
        shape = [*shape[:-2], shape[-1], shape[-2]] if len(shape) > 1 else [1, *shape]
    if shape[-1] != weight.dims[-1]:
        raise ValueError(f"a weight of {weight.dims[-1]} inputs does not fit vectors of {shape[-1]}")
    is_turned = len(shape) > 1 and bool(swaps[0] if on_right else not swaps[1])
    products = _batched(weight.times(attributes.get("alpha", 1.0)), shape, data, is_turned)
    products = [replace(each, zero=zero) for each in products]
    added, gives = _added(graph, node, form, products, on_right)
    bias = bias_of(added, products[0].weight.dims[0], attributes.get("beta", 1.0), of_rows=not on_right)
    left_out = []
    if bias is not None:
        products = [replace(each, bias=bias, gives=gives) for each in products]
    elif added is not None and len(added.dims) >= 2:
        left_out = [LeftOut(f"{place_of(node)}.add", "Add", added.size)]
    is_plain = node.op_type in PLAIN and _is_added(products[0], node, form) and len(products) == 1
    restored = None if not is_plain or math.prod(weight.dims[:-2]) > 1 else whole if on_right else _columns_last
    products = [replace(each, restored=restored) for each in products]
    return Found(products=products, left_out=left_out, names=_names(weight, bias and added))


def _added(
    graph: Graph, node: Any, form: Form, products: Sequence[Product], on_right: bool
) -> tuple[Weight | None, str]:
    """Return what is added to a product: an input of its own, or a vector that an Add behind it has and its result."""
    if form.bias is not None:
        return graph.find(input_of(node, form.bias)), ""
    if not on_right or len(products) > 1:
        return None, ""
    rows = products[0].weight.dims[0]
    for user in graph.users(node.output[0]):
        for value in user.input if user.op_type == "Add" else ():
            found = graph.find(value)
            if found is not None and found.dims[-1:] == (rows,) and found.size == rows:
                return found, user.output[0]
    return None, ""


PLAIN = ("MatMul", "FusedMatMul", "TransposeMatMul", "Gemm", "MatMulInteger", "MatMulInteger16")
"""Operations whose result is the product, and no function of it."""


def _columns_last(array: Array) -> Array:
    """Swap the last two dimensions, of (samples, ...); a vector of each sample is as it was."""
    return array.swapaxes(-1, -2) if array.ndim > 2 else array


def _batched(weight: Weight, shape: Sequence[int], data: str, is_turned: bool) -> list[Product]:
    """Return the products of weights (..., rows, columns) and data (..., vectors, columns) as matmul pairs them.

    is_turned: the data has its last two dimensions swapped.

    Weights that all meet the same vectors are one matrix, one below the other; others have vectors of their own.
    """
    *_, rows, columns = weight.dims
    depth = max(len(weight.dims), len(shape)) - 2
    mine = (1,) * (depth - len(weight.dims) + 2) + weight.dims[:-2]
    theirs = (1,) * (depth - len(shape) + 2) + tuple(shape[:-2])
    paired = [axis for axis in range(depth) if mine[axis] > 1 and theirs[axis] > 1]
    below = [axis for axis in range(depth) if mine[axis] > 1 and theirs[axis] == 1]
    if any(mine[axis] != theirs[axis] for axis in paired):
        raise ValueError(f"weights of shape {list(weight.dims)} do not fit data of shape {list(shape)}")
    single = [axis for axis in range(depth) if mine[axis] == 1]
    groups = math.prod(mine[axis] for axis in paired)
    ordered = weight.shaped(*mine, rows, columns).turned(*single, *paired, *below, depth, depth + 1)
    ordered = ordered.shaped(groups, math.prod(mine[axis] for axis in below) * rows, columns)
    vectors = shape[-2] * math.prod(theirs[axis] for axis in single)
    lacking = depth - len(shape) + 2

    def arranged(array: Array) -> Array:
        """Return (groups, samples, vectors, columns) where there are several groups, else (samples, ...)."""
        array = _columns_last(array) if is_turned else array
        if groups == 1:
            return array
        array = array.reshape(len(array), *[1] * lacking, *array.shape[1:])
        order = [*(axis + 1 for axis in paired), 0, *(axis + 1 for axis in single), depth + 1, depth + 2]
        array = array.transpose(*order, *(axis + 1 for axis in below))
        return array.reshape(groups, array.shape[len(paired)], -1, array.shape[depth + 2 - len(below)])

    return _parts(ordered, vectors, data, arranged)


def _parts(weight: Weight, vectors: int, data: str, arranged: Callable[[Array], Array]) -> list[Product]:
    """Return a product for each of some weights (groups, rows, columns), all with as many vectors.

    arranged: makes vectors of each group, (groups, samples, ...), of the data; of one group, (samples, ...).
    """
    groups = weight.dims[0]

    def of(number: int) -> Callable[[Array], Array]:
        return arranged if groups == 1 else lambda data: arranged(data)[number]

    return [
        Product(
            weight=weight.part(number),
            data=data,
            vectors=vectors,
            end=f".{number}" if groups > 1 else "",
            arranged=of(number),
            restored=whole if groups == 1 else None,
        )
        for number in range(groups)
    ]


def _einsum(graph: Graph, node: Any) -> Found | None:
    if len(node.input) != 2:
        return None
    constant = 0 if graph.find(node.input[1]) is None else 1
    weight = graph.find(node.input[constant])
    if weight is None:
        return None
    shapes = [
        list(weight.dims) if each == constant else graph.shape(node, value) for each, value in enumerate(node.input)
    ]
    equation = equation_of(attributes_of(node)["equation"].decode(), shapes)
    letters = equation.product(constant)
    spelled = equation.operands[constant]
    if letters is None or any(
        equation.sizes[letter] != size
        for operand, shape in zip(equation.operands, shapes, strict=True)
        for letter, size in zip(operand, shape, strict=True)
    ):
        return None  # no product of matrices, or one whose operands are repeated
    ordered = weight.turned(*(spelled.index(letter) for letter in letters.groups + letters.rows + letters.columns))
    sizes = [equation.size(each) for each in (letters.groups, letters.rows, letters.columns)]
    data, result = equation.operands[1 - constant], equation.output
    wanted, made = letters.groups + letters.vectors + letters.columns, letters.vectors + letters.rows

    def arranged(array: Array) -> Array:
        order = [data.index(letter) + 1 for letter in wanted]
        split = len(letters.groups)
        array = array.transpose(*order[:split], 0, *order[split:])
        return array.reshape(-1, *array.shape[split:]) if split else array

    products = _parts(ordered.shaped(*sizes), equation.size(letters.vectors), node.input[1 - constant], arranged)
    if not letters.groups:
        turn = [0, *(result.index(letter) + 1 for letter in made)]
        products = [replace(each, restored=lambda array: array.transpose(turn)) for each in products]
    return Found(products=products, names=_names(weight))


def _packed(graph: Graph, node: Any) -> Found | None:
    """Take the integers of a MatMulNBits: (N, blocks, bytes of a block), less a zero point of each block."""
    attributes = attributes_of(node)
    codes, zeros, order = (graph.find(input_of(node, number)) for number in (1, 3, 4))
    open_ended = any(input_of(node, number) and each is None for number, each in ((3, zeros), (4, order)))
    if codes is None or open_ended or attributes.get("weight_prepacked"):
        return None
    rows, columns, bits = attributes["N"], attributes["K"], attributes.get("bits", 4)
    block = attributes["block_size"]
    blocks = -(-columns // block)
    stored = codes.shaped(rows * blocks, codes.size // (rows * blocks))
    *before, _ = graph.shape(node, node.input[0])

    def read() -> Array:
        of_blocks = unpacked_bits(stored.read(), bits, block)
        integers = of_blocks.reshape(rows, blocks * block)[:, :columns].astype(np.int32)
        if zeros is None:
            return smallest(integers - 2 ** (bits - 1))
        zero = zeros.read()
        if zero.dtype == np.uint8:
            zero = unpacked_bits(zero.reshape(rows, -1), bits, blocks).astype(np.int32)
        of_column = np.arange(columns) // block if order is None else order.read()[:columns]
        difference = integers - zero.reshape(rows, blocks)[:, of_column]
        return smallest(difference) if difference.dtype == np.int32 else difference.astype(np.float32)

    stored_as = f"int{bits} in blocks of {block}"
    weight = replace(
        codes, dims=(rows, columns), dtype=np.dtype(np.int8), source=read, stored_as=stored_as, change=whole, back=None
    )
    bias = graph.find(input_of(node, 5))
    product = Product(
        weight=weight, data=node.input[0], vectors=math.prod(before), bias=bias_of(bias, rows), restored=None
    )
    return Found(products=[product], names=_names(codes, bias))


def _recurrent(graph: Graph, node: Any) -> Found | None:
    """Take the weights of inputs and of states, (directions, gates x hidden, in), as a product each."""
    quantised = node.op_type == "DynamicQuantizeLSTM"
    inputs, states = (
        _of_directions(graph, node, number, zero if quantised else None) for number, zero in ((1, 9), (2, 11))
    )
    if inputs is None or states is None:
        return None
    attributes, shape = attributes_of(node), graph.shape(node, node.input[0])
    if len(shape) != 3:
        raise ValueError(f"its inputs need 3 dimensions (got {shape})")
    gates = RECURRENT[node.op_type]
    if inputs.dims[:2] != states.dims[:2] or inputs.dims[2] != shape[2] or states.dims[1] != gates * states.dims[2]:
        raise ValueError(f"weights of shapes {list(inputs.dims)} and {list(states.dims)} do not fit {shape}")
    length, batch = (shape[1], shape[0]) if attributes.get("layout", 0) else shape[:2]
    offsets = graph.find(input_of(node, 3))
    products = []
    ends = ("_reverse",) if attributes.get("direction") == b"reverse" else ("", "_reverse")
    if not node.output[0]:
        node.output[0] = f"{place_of(node)}.states"  # so that they can be seen
    states_of = tuple(filter(None, (node.output[0], input_of(node, 5))))
    for direction, end in zip(range(inputs.dims[0]), ends, strict=False):
        both: Sequence[Weight | None] = (None, None)
        if offsets is not None:
            halves = offsets.shaped(inputs.dims[0], 2, inputs.dims[1]).part(direction)
            both = halves.part(0), halves.part(1)
        given: dict[str, Any] = {"data": node.input[0], "vectors": batch, "restored": None}
        # Vectors of all steps at once, and of one step after another.
        products.append(Product(weight=inputs.part(direction), bias=both[0], end=f".ih{end}", together=length, **given))
        seen = _states_before(direction, bool(end), attributes.get("layout", 0))
        weight = states.part(direction)
        products.append(
            Product(
                weight=weight, bias=both[1], end=f".hh{end}", steps=length, states=states_of, arranged=seen, **given
            )
        )
    peepholes = graph.find(input_of(node, 7))
    left_out = [] if peepholes is None else [LeftOut(place_of(node), "peepholes", peepholes.size)]
    return Found(products=products, left_out=left_out)


def _states_before(direction: int, is_reverse: bool, layout: int) -> Callable[..., Array]:
    """Return what makes the states before each step, (samples, steps, batch, hidden), of those after it."""

    def arranged(states: Array, *first: Array) -> Array:
        """Take (samples, steps, directions, batch, hidden), or (samples, batch, steps, directions, hidden)."""
        after = states.transpose(0, 2, 3, 1, 4) if layout else states
        after = after[:, ::-1, direction] if is_reverse else after[:, :, direction]
        start = np.zeros_like(after[:, :1])
        if first:
            given = first[0].swapaxes(1, 2) if layout else first[0]
            start = np.broadcast_to(given[:, direction, None], start.shape)
        return np.concatenate([start, after[:, :-1]], axis=1)

    return arranged


def _of_directions(graph: Graph, node: Any, position: int, zero_position: int | None) -> Weight | None:
    """Return constant weights (directions, gates x hidden, in) of a recurrent node, None where there are none.

    Those with a zero point, one for each direction or each output, are stored (directions, in, gates x hidden).
    """
    weight = graph.find(input_of(node, position))
    if weight is None:
        return None
    if len(weight.dims) != 3:
        raise ValueError(f"its weights need 3 dimensions (got {list(weight.dims)})")
    if zero_position is None:
        return weight
    zero = graph.find(input_of(node, zero_position))
    directions = weight.dims[0]
    spread = None if zero is None else zero.shaped(directions, 1, zero.size // directions)
    return weight.less(spread, 0).turned(0, 2, 1)


def _attention(graph: Graph, node: Any) -> Found | None:
    """Take the projection of an attention of ONNX Runtime, (in, queries + keys + values)."""
    quantised = node.op_type == "QAttention"
    weight = _without_zero(graph, node, 1, 7 if quantised else None, -1)
    if weight is None:
        return None
    batch, tokens, width = shape = graph.shape(node, node.input[0])
    if weight.dims[0] != width:
        raise ValueError(f"a weight of shape {list(weight.dims)} does not fit vectors of {width}")
    past = input_of(node, 8 if quantised else 4)
    seen = graph.shape(node, past)[3] if past else 0
    bias = graph.find(input_of(node, 2))
    product = Product(
        weight=_swapped(weight),
        data=node.input[0],
        vectors=batch * tokens,
        bias=bias_of(bias, weight.dims[1]),
        zero=input_of(node, 6 if quantised else None),
        restored=None,
    )
    return Found(
        products=[product],
        left_out=attended(place_of(node), heads_of_projected(node, shape, weight.dims[1], seen)),
        names=_names(weight, bias),
    )


def _linear(graph: Graph, node: Any) -> Found | None:
    """Take the coefficients (outputs, inputs) of a linear model."""
    attributes = attributes_of(node)
    held = np.array(attributes["coefficients"], np.float32)
    *before, width = graph.shape(node, node.input[0])

    def vector(array: Any) -> Weight:
        return Weight(place_of(node), array.shape, array.dtype, lambda: array, frozenset())

    weight = vector(held).shaped(held.size // width, width)
    bias = vector(np.array(attributes.get("intercepts", ()), np.float32))
    rows = weight.dims[0]
    return Found(
        products=[
            Product(
                weight=weight,
                data=node.input[0],
                vectors=math.prod(before),
                bias=bias if bias.size == rows else None,
            )
        ]
    )


def _without_zero(graph: Graph, node: Any, position: int, zero_position: int | None, axis: int) -> Weight | None:
    """Return a constant input without its zero point, None where either depends on inputs."""
    found = graph.find(input_of(node, position))
    zero_name = input_of(node, zero_position)
    zero = graph.find(zero_name)
    if found is None or (zero_name and zero is None):
        return None
    return found.less(zero, axis)


def _swapped(weight: Weight) -> Weight:
    """Return a weight with its last two axes swapped."""
    last = len(weight.dims) - 1
    return weight.turned(*range(last - 1), last, last - 1)


def _names(*weights: Weight | None) -> tuple[str, ...]:
    """Return the names of the tensors that are there."""
    return tuple(each.name for each in weights if each is not None)


READERS: Mapping[str, Reader] = {
    **dict.fromkeys(CONVOLUTIONS, _convolution),
    **dict.fromkeys(TRANSPOSED, _transposed),
    **dict.fromkeys(MATRICES, _matrices),
    **dict.fromkeys(RECURRENT, _recurrent),
    "MatMulNBits": _packed,
    "Einsum": _einsum,
}
"""Operations that may have weights, by type."""
