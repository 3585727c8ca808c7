"""Operations that NumPy executes: the kind, shape, channels and values of each.

All are said of one sample: axis 0 is the first dimension behind the one that counts samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import InputError
from accelsim.network.graph import Channels, Operation

Array = NDArray[Any]
Shape = tuple[int, ...]


class Operator(NamedTuple):
    """What is known of operations that do the same."""

    kind: str
    run: Callable[[Operation, Sequence[Array]], Array]
    """Of what it takes, each (batch, ...), in float32; its attributes are checked before."""
    shape: Callable[[Operation, Sequence[Shape]], Shape] = lambda _, shapes: shapes[0]
    """Of one sample of its output."""
    channels: Callable[[Operation, Sequence[Shape], Shape], Channels] = lambda *_: "same"
    """Of what it gives, of this shape."""
    needs: tuple[str, ...] = ()
    """Attributes without which it cannot run."""
    takes: int | None = 1
    """How many tensors; None: one or more."""

    def problem(self, does: str, inputs: Sequence[str]) -> str:
        """Say what is wrong with the number of tensors that an operation takes; empty: nothing."""
        if self.takes in (None, len(inputs)):
            return ""
        return f"{does} takes {self.takes} (got {len(inputs)}: {', '.join(inputs)}); correct them"


def operator_of(does: str) -> Operator | None:
    """Return what is known of an operation by the name that ONNX has for it, in capitals or not; None: nothing."""
    return OPERATORS.get(does.replace("_", "").lower())


def channel_axis(shape: Shape) -> int:
    """Return the dimension of one sample that counts channels: that before height and width, else the last."""
    return -3 if len(shape) >= 3 else -1


def axes_of(said: Operation, shape: Shape, default: int | Sequence[int] = -1) -> tuple[int, ...]:
    """Return the axes that an operation names, counted from 0; raises InputError for those that are not there."""
    given = said.attributes.get("axis", default)
    axes = [given] if isinstance(given, int) else list(given)
    for axis in axes:
        if not -len(shape) <= axis < len(shape):
            raise InputError(
                f"operation {said.name}: axis: there is no {axis} in a sample of shape {shape}; the first is 0, the "
                "dimension that counts samples does not count"
            )
    found = tuple(axis % len(shape) for axis in axes)
    if not found or len(set(found)) < len(found):
        raise InputError(f"operation {said.name}: axis: must name one axis or more, each once (got {given})")
    return found


def axis_of(said: Operation, shape: Shape) -> int:
    """Return the one axis that an operation names, counted from 0, by default the last; raises InputError."""
    axes = axes_of(said, shape)
    if len(axes) > 1:
        raise InputError(f"operation {said.name}: axis: must be a single one for {said.does} (got {list(axes)})")
    return axes[0]


def _value(function: Callable[[Array, Operation], Array], kind: str = "activation") -> Operator:
    """Return an operation on single values."""
    return Operator(kind, lambda said, given: function(given[0], said))


def _erf(x: Array) -> Array:
    from scipy.special import erf  # only now: it takes long to import

    found: Array = erf(x)
    return found


def _sigmoid(x: Array) -> Array:
    share: Array = 0.5 * (np.tanh(0.5 * x) + 1)  # never overflows
    return share


def _gelu(x: Array, said: Operation) -> Array:
    if said.attributes.get("approximate", "none") == "tanh":
        share: Array = np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))
    else:
        share = _erf(x * math.sqrt(0.5))
    share += 1
    share *= 0.5 * x
    return share


def _leaky(x: Array, said: Operation) -> Array:
    return np.where(x < 0, x * np.float32(said.attributes.get("alpha", 0.01)), x)


def _clip(x: Array, said: Operation) -> Array:
    return np.clip(x, said.attributes.get("min", -np.inf), said.attributes.get("max", np.inf))


def _together(function: Callable[[Array, Array], Array]) -> Operator:
    """Return an operation on several tensors, or on one and a constant, element by element."""

    def run(said: Operation, given: Sequence[Array]) -> Array:
        constant = [np.asarray(said.attributes["value"], np.float32)] if "value" in said.attributes else []
        rank = max(each.ndim for each in given)
        # Samples stay in front where a tensor of fewer dimensions is stretched.
        made = [each.reshape(len(each), *(rank - each.ndim) * (1,), *each.shape[1:]) for each in given] + constant
        result = made[0]
        for other in made[1:]:
            result = function(result, other)
        return result

    return Operator("elementwise", run, _stretched, _if_alike, takes=None)


def _operands(said: Operation, shapes: Sequence[Shape]) -> list[Shape]:
    return [*shapes, *([np.shape(said.attributes["value"])] if "value" in said.attributes else [])]


def _stretched(said: Operation, shapes: Sequence[Shape]) -> Shape:
    if len(set(shapes)) == 1 and "value" not in said.attributes:
        return shapes[0]
    try:
        return np.broadcast_shapes(*_operands(said, shapes))
    except ValueError:
        texts = " and ".join(map(str, _operands(said, shapes)))
        raise InputError(f"operation {said.name}: inputs: shapes {texts} do not go together") from None


def _if_alike(said: Operation, shapes: Sequence[Shape], whole: Shape) -> Channels:
    """Channels meet their own kind where all tensors have as many; a single number is for all."""
    axis = channel_axis(whole)
    sized = [shape for shape in _operands(said, shapes) if math.prod(shape) > 1]
    alike = all(len(shape) >= -axis and shape[axis] == whole[axis] for shape in sized)
    return "same" if alike else "mixed"


def _softmax(said: Operation, given: Sequence[Array]) -> Array:
    axis = axis_of(said, given[0].shape[1:])
    raised: Array = np.exp(given[0] - given[0].max(axis=axis + 1, keepdims=True))
    raised /= raised.sum(axis=axis + 1, keepdims=True)
    return raised


def _log_softmax(said: Operation, given: Sequence[Array]) -> Array:
    axis = axis_of(said, given[0].shape[1:])
    lowered: Array = given[0] - given[0].max(axis=axis + 1, keepdims=True)
    lowered -= np.log(np.exp(lowered).sum(axis=axis + 1, keepdims=True))
    return lowered


class Windows(NamedTuple):
    """Windows of a pooling: pairs are (height, width); padding (top, left, bottom, right)."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    dilation: tuple[int, int]
    ceil: bool

    @classmethod
    def of(cls, said: Operation) -> Windows:
        """Return those that the attributes of an operation say."""

        def pair(key: str, default: int = 1) -> tuple[int, int]:
            given = said.attributes.get(key, default)
            return (given, given) if isinstance(given, int) else tuple(given)

        padding = said.attributes.get("padding", 0)
        sides = 4 * (padding,) if isinstance(padding, int) else tuple(padding) * (4 // len(padding))
        return cls(pair("kernel"), pair("stride"), sides, pair("dilation"), bool(said.attributes.get("ceil")))

    def output_hw(self, input_hw: Sequence[int]) -> tuple[int, int]:
        """Return height and width of the output; with `ceil` a window may reach over the end, not begin there."""
        found = []
        for axis in (0, 1):
            before, after = self.padding[axis], self.padding[axis + 2]
            step = self.stride[axis]
            room = input_hw[axis] + before + after - self.dilation[axis] * (self.kernel[axis] - 1) - 1
            count = (-(-room // step) if self.ceil else room // step) + 1
            if self.ceil and (count - 1) * step >= input_hw[axis] + before:
                count -= 1
            found.append(count)
        return found[0], found[1]

    def sides(self, input_hw: Sequence[int]) -> list[tuple[int, int]]:
        """Return the padding before and after height and width, and what windows reach beyond it."""
        out = self.output_hw(input_hw)
        reach = [(out[i] - 1) * self.stride[i] + self.dilation[i] * (self.kernel[i] - 1) + 1 for i in (0, 1)]
        return [(self.padding[i], max(self.padding[i + 2], reach[i] - input_hw[i] - self.padding[i])) for i in (0, 1)]

    def padded(self, maps: Array, fill: float) -> Array:
        """Return maps (..., height, width) with the padding, and with what windows reach beyond it."""
        sides = self.sides(maps.shape[-2:])
        return np.pad(maps, [*(maps.ndim - 2) * [(0, 0)], *sides], constant_values=fill)

    def folded(self, maps: Array, out: tuple[int, int], function: Callable[..., Array]) -> Array:
        """Return what the function makes of the values of each window of padded maps."""
        found: Array | None = None
        for row in range(self.kernel[0]):
            for column in range(self.kernel[1]):
                top, left = row * self.dilation[0], column * self.dilation[1]
                part = maps[
                    ...,
                    top : top + (out[0] - 1) * self.stride[0] + 1 : self.stride[0],
                    left : left + (out[1] - 1) * self.stride[1] + 1 : self.stride[1],
                ]
                found = part.copy() if found is None else function(found, part, out=found)
        if found is None:
            raise ValueError("a window has at least one element")
        return found


def _pooled_shape(said: Operation, shapes: Sequence[Shape]) -> Shape:
    _check_maps(said, shapes[0])
    out = Windows.of(said).output_hw(shapes[0][-2:])
    if min(out) < 1:
        raise InputError(f"operation {said.name}: kernel: is larger than its input, {shapes[0]}; correct it or pad")
    return *shapes[0][:-2], *out


def _check_maps(said: Operation, shape: Shape) -> None:
    if len(shape) < 3:
        raise InputError(f"operation {said.name}: inputs: needs maps (channels, height, width), not {shape}")


def _max_pool(said: Operation, given: Sequence[Array]) -> Array:
    windows = Windows.of(said)
    out = windows.output_hw(given[0].shape[-2:])
    return windows.folded(windows.padded(given[0], -np.inf), out, np.maximum)


def _average_pool(said: Operation, given: Sequence[Array]) -> Array:
    windows, input_hw = Windows.of(said), given[0].shape[-2:]
    sums = windows.folded(windows.padded(given[0], 0), windows.output_hw(input_hw), np.add)
    return sums / counts_of(said, input_hw)


def counts_of(said: Operation, input_hw: Sequence[int]) -> Array:
    """Return how many values each window of an average counts (height, width)."""
    windows, (height, width) = Windows.of(said), input_hw
    ones = np.ones((height, width), np.float32)
    if said.attributes.get("count_padding"):
        top, left, bottom, right = windows.padding
        ones = np.pad(ones, ((top, bottom), (left, right)), constant_values=1)
        # What a window reaches beyond the padding counts for nothing.
        beyond = windows.padded(np.zeros((height, width), np.float32), 0).shape
        ones = np.pad(ones, [(0, beyond[i] - ones.shape[i]) for i in (0, 1)])
    else:
        ones = windows.padded(ones, 0)
    return windows.folded(ones, windows.output_hw(input_hw), np.add)


def _whole_maps(function: Callable[..., Array]) -> Operator:
    def shape(said: Operation, shapes: Sequence[Shape]) -> Shape:
        _check_maps(said, shapes[0])
        return *shapes[0][:-2], 1, 1

    return Operator("pooling", lambda _, given: function(given[0], axis=(-2, -1), keepdims=True), shape)


def _mean_shape(said: Operation, shapes: Sequence[Shape]) -> Shape:
    gone = axes_of(said, shapes[0])
    return tuple(size for axis, size in enumerate(shapes[0]) if axis not in gone)


def _mean(said: Operation, given: Sequence[Array]) -> Array:
    mean: Array = given[0].mean(axis=tuple(axis + 1 for axis in axes_of(said, given[0].shape[1:])))
    return mean


def _unless_along_channels(said: Operation, shapes: Sequence[Shape], _: Shape) -> Channels:
    return "mixed" if channel_axis(shapes[0]) % len(shapes[0]) in axes_of(said, shapes[0]) else "same"


def _concat_shape(said: Operation, shapes: Sequence[Shape]) -> Shape:
    axis = axis_of(said, shapes[0])
    rest = {(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}
    if len(rest) > 1:
        texts = " and ".join(map(str, shapes))
        raise InputError(f"operation {said.name}: inputs: shapes {texts} cannot be joined along axis {axis}")
    return *shapes[0][:axis], sum(shape[axis] for shape in shapes), *shapes[0][axis + 1 :]


def _concat_channels(said: Operation, shapes: Sequence[Shape], after: Shape) -> Channels:
    return "joined" if _unless_along_channels(said, shapes, after) == "mixed" else "same"


def _concat(said: Operation, given: Sequence[Array]) -> Array:
    axis = axis_of(said, given[0].shape[1:])
    return np.concatenate(given, axis=axis + 1)


def _sliced(said: Operation, shape: Shape) -> tuple[slice, ...]:
    axis = axis_of(said, shape)
    return (*axis * (slice(None),), slice(said.attributes.get("start", 0), said.attributes.get("stop")))


def _slice_shape(said: Operation, shapes: Sequence[Shape]) -> Shape:
    *before, part = _sliced(said, shapes[0])
    sizes = list(shapes[0])
    sizes[len(before)] = len(range(*part.indices(sizes[len(before)])))
    if 0 in sizes:
        raise InputError(f"operation {said.name}: start, stop: leave nothing of {shapes[0]}; correct them")
    return tuple(sizes)


def _softmax_shape(said: Operation, shapes: Sequence[Shape]) -> Shape:
    axis_of(said, shapes[0])
    return shapes[0]


def _layer_norm_shape(said: Operation, shapes: Sequence[Shape]) -> Shape:
    axes_of(said, shapes[0])
    return shapes[0]


def _group_norm_shape(said: Operation, shapes: Sequence[Shape]) -> Shape:
    groups = said.attributes["groups"]
    if shapes[0][0] % groups:
        raise InputError(
            f"operation {said.name}: groups: {groups} do not divide the {shapes[0][0]} channels; correct it"
        )
    return shapes[0]


def _lrn_shape(said: Operation, shapes: Sequence[Shape]) -> Shape:
    _check_maps(said, shapes[0])
    size, channels = said.attributes["size"], shapes[0][-3]
    if size > 2 * channels:
        raise InputError(f"operation {said.name}: size: {size} channels reach beyond all {channels}; correct it")
    return shapes[0]


def _slice(said: Operation, given: Sequence[Array]) -> Array:
    return given[0][(slice(None), *_sliced(said, given[0].shape[1:]))]


def _flattened(_: Operation, shapes: Sequence[Shape], after: Shape) -> Channels:
    """Values stay in their order: channel by channel, where channels come first and the result is one vector."""
    before = shapes[0]
    if before == after:
        return "same"
    return "flattened" if len(after) == 1 and (len(before) == 3 or len(before) == 1) else "mixed"


def _reshape_shape(said: Operation, shapes: Sequence[Shape]) -> Shape:
    if math.prod(said.shape) != math.prod(shapes[0]):
        raise InputError(f"operation {said.name}: shape: {said.shape} holds other values than its input, {shapes[0]}")
    return said.shape


def _reshape(said: Operation, given: Sequence[Array]) -> Array:
    return given[0].reshape(len(given[0]), *said.shape)


def _order_of(said: Operation, shape: Shape) -> tuple[int, ...]:
    order = tuple(said.attributes.get("order", range(len(shape) - 1, -1, -1)))
    if sorted(order) != list(range(len(shape))):
        raise InputError(f"operation {said.name}: order: must name each axis of {shape} once, from 0 (got {order})")
    return order


def _transpose_shape(said: Operation, shapes: Sequence[Shape]) -> Shape:
    return tuple(shapes[0][axis] for axis in _order_of(said, shapes[0]))


def _transpose(said: Operation, given: Sequence[Array]) -> Array:
    return given[0].transpose(0, *(axis + 1 for axis in _order_of(said, given[0].shape[1:])))


def _steps_of(said: Operation) -> list[tuple[str, tuple[int, ...]]]:
    """Return views one behind another: ("reshape", sizes) or ("transpose", order), of one sample."""
    steps = [(each[0], tuple(each[1:])) for each in said.attributes["steps"]]
    for kind, numbers in steps:
        if kind not in ("reshape", "transpose") or not all(isinstance(each, int) for each in numbers):
            raise InputError(f'operation {said.name}: steps: each is ["reshape", sizes...] or ["transpose", order...]')
    return steps


def _rearranged_shape(said: Operation, shapes: Sequence[Shape]) -> Shape:
    shape = shapes[0]
    for kind, numbers in _steps_of(said):
        if kind == "transpose":
            shape = tuple(shape[axis] for axis in numbers)
        elif math.prod(numbers) == math.prod(shape):
            shape = numbers
        else:
            raise InputError(f"operation {said.name}: steps: {numbers} holds other values than {shape}")
    return shape


def _rearrange(said: Operation, given: Sequence[Array]) -> Array:
    made = given[0]
    for kind, numbers in _steps_of(said):
        turned = (0, *(axis + 1 for axis in numbers))
        made = made.transpose(turned) if kind == "transpose" else made.reshape(len(made), *numbers)
    return made


def _matmul_shape(said: Operation, shapes: Sequence[Shape]) -> Shape:
    left, right = shapes
    if min(len(left), len(right)) < 2 or left[-1] != right[-2]:
        raise InputError(f"operation {said.name}: inputs: matrices {left} and {right} cannot be multiplied")
    return (*np.broadcast_shapes(left[:-2], right[:-2]), left[-2], right[-1])


def _scaled(said: Operation, values: Array, per_channel: bool) -> Array:
    """Return normalised values times `scale` plus `shift`, of each channel of maps or of the last dimensions."""
    for key, function in (("scale", np.multiply), ("shift", np.add)):
        if key in said.attributes:
            array = np.asarray(said.attributes[key], np.float32)
            values = function(values, _beside(array, values) if per_channel else array)
    return values


def _beside(array: Array, values: Array) -> Array:
    """Return an array (channels,) in a shape that goes with values (batch, ...)."""
    return array.reshape(-1, 1, 1) if values.ndim > 3 else array


def _batch_norm(said: Operation, given: Sequence[Array]) -> Array:
    mean, variance = (np.asarray(said.attributes[key], np.float32) for key in ("mean", "variance"))
    inverse = 1 / np.sqrt(variance + np.float32(said.attributes.get("epsilon", 1e-5)))
    return _scaled(said, (given[0] - _beside(mean, given[0])) * _beside(inverse, given[0]), per_channel=True)


def _standard(values: Array, axes: Any, epsilon: float) -> Array:
    lowered: Array = values - values.mean(axis=axes, keepdims=True)
    lowered /= np.sqrt(np.square(lowered).mean(axis=axes, keepdims=True) + np.float32(epsilon))
    return lowered


def _layer_norm(said: Operation, given: Sequence[Array]) -> Array:
    # From its axis to the last, as ONNX has it.
    first = min(axes_of(said, given[0].shape[1:])) + 1
    axes = tuple(range(first, given[0].ndim))
    return _scaled(said, _standard(given[0], axes, said.attributes.get("epsilon", 1e-5)), per_channel=False)


def _group_norm(said: Operation, given: Sequence[Array]) -> Array:
    batch, channels, *rest = given[0].shape
    parted = given[0].reshape(batch, said.attributes["groups"], -1)
    normal = _standard(parted, -1, said.attributes.get("epsilon", 1e-5)).reshape(batch, channels, *rest)
    return _scaled(said, normal, per_channel=True)


def _rms_norm(said: Operation, given: Sequence[Array]) -> Array:
    squares = np.square(given[0]).mean(axis=-1, keepdims=True)
    epsilon = np.float32(said.attributes.get("epsilon", 1e-5))
    return _scaled(said, given[0] / np.sqrt(squares + epsilon), per_channel=False)


def _lrn(said: Operation, given: Sequence[Array]) -> Array:
    """Divide by what the squares of neighbouring channels add up to (Krizhevsky et al., NIPS 2012, section 3.3)."""
    values, size = given[0], said.attributes["size"]
    alpha, beta, bias = (said.attributes.get(key, default) for key, default in _LRN.items())
    before = (size - 1) // 2
    sides = [(0, 0)] * values.ndim
    sides[-3] = (before, size - 1 - before)
    squares = np.pad(np.square(values), sides)
    channels = values.shape[-3]
    total = sum(squares[..., first : first + channels, :, :] for first in range(size))
    divided: Array = values / (np.float32(bias) + np.float32(alpha / size) * total) ** np.float32(beta)
    return divided


_LRN = {"alpha": 1e-4, "beta": 0.75, "bias": 1.0}
"""Defaults of ONNX, which are those of AlexNet but for the bias, 2 there."""


def _gather(said: Operation, given: Sequence[Array]) -> Array:
    table = np.asarray(said.attributes["value"], np.float32)
    rows = given[0].astype(np.int64)
    if rows.size and not (rows.min() >= 0 and rows.max() < len(table)):
        raise InputError(
            f"operation {said.name}: looks up rows {rows.min()} to {rows.max()} of a table with {len(table)}; give "
            "whole numbers below that"
        )
    return table[rows]


def _gather_shape(said: Operation, shapes: Sequence[Shape]) -> Shape:
    if "value" in said.attributes:
        return *shapes[0], *np.shape(said.attributes["value"])[1:]
    if not said.shape:
        raise InputError(f"operation {said.name}: shape: is missing; add that of its output, as in [tokens, features]")
    return said.shape


def _heads(values: Array, groups: int, operand_groups: int, features: int, name: str) -> Array:
    """Return (batch, groups, vectors, features) of (batch, vectors, operand_groups x features)."""
    if values.size != len(values) * values.shape[1] * operand_groups * features:
        raise InputError(
            f"operation {name}: takes {operand_groups} x {features} features of each vector, not {values.shape[2:]}"
        )
    parted = values.reshape(len(values), values.shape[1], operand_groups, features).transpose(0, 2, 1, 3)
    return np.repeat(parted, groups // operand_groups, axis=1)


def _scores_shape(said: Operation, _: Sequence[Shape]) -> Shape:
    if said.product is None:
        raise InputError(f"operation {said.name}: product: is missing; add {{ groups, rows, columns, vectors }}")
    if said.product.causal and said.product.vectors > said.product.rows:
        raise InputError(
            f"operation {said.name}: product.causal: the first of {said.product.vectors} queries meet none of the "
            f"{said.product.rows} keys; correct vectors or rows"
        )
    return said.product.groups, said.product.vectors, said.product.rows


def _scores(said: Operation, given: Sequence[Array]) -> Array:
    product = said.product
    if product is None:
        raise InputError(f"operation {said.name}: product: is missing")
    operands = product.operand_groups or product.groups
    if said.attributes.get("parted"):
        queries, keys = given[0], np.repeat(given[1], product.groups // operands, axis=1)
    else:
        queries = _heads(given[0], product.groups, product.groups, product.columns, said.name)
        keys = _heads(given[1], product.groups, operands, product.columns, said.name)
    if (queries.shape[2], keys.shape[2]) != (product.vectors, product.rows):
        raise InputError(
            f"operation {said.name}: meets {product.rows} keys and {product.vectors} queries, and is given "
            f"{keys.shape[2]} and {queries.shape[2]}: keys of a context before the sample are not known"
        )
    factor = np.float32(said.attributes.get("factor", 1 / math.sqrt(product.columns)))
    result: Array = queries @ keys.swapaxes(2, 3) * factor
    if product.causal:
        own = np.arange(product.vectors)[:, None] + product.rows - product.vectors
        result[:, :, np.arange(product.rows) > own] = -np.inf
    return result


def _values_shape(said: Operation, _: Sequence[Shape]) -> Shape:
    if said.product is None:
        raise InputError(f"operation {said.name}: product: is missing; add {{ groups, rows, columns, vectors }}")
    return said.product.vectors, said.product.groups * said.product.rows


def _values(said: Operation, given: Sequence[Array]) -> Array:
    product = said.product
    if product is None:
        raise InputError(f"operation {said.name}: product: is missing")
    values = _heads(given[1], product.groups, product.operand_groups or product.groups, product.rows, said.name)
    if given[0].shape[-1] != values.shape[2]:
        raise InputError(f"operation {said.name}: meets {given[0].shape[-1]} values, and is given {values.shape[2]}")
    met: Array = given[0] @ values
    return met.transpose(0, 2, 1, 3).reshape(len(values), product.vectors, -1)


def _mixed(*_: Any) -> Channels:
    return "mixed"


OPERATORS: Mapping[str, Operator] = {
    "relu": _value(lambda x, _: np.maximum(x, 0)),
    "relu6": _value(lambda x, _: np.clip(x, 0, 6)),
    "leakyrelu": _value(_leaky),
    "clip": _value(_clip),
    "sigmoid": _value(lambda x, _: _sigmoid(x)),
    "hardsigmoid": _value(lambda x, _: np.clip(x / 6 + 0.5, 0, 1)),
    "hardswish": _value(lambda x, _: x * np.clip(x / 6 + 0.5, 0, 1)),
    "tanh": _value(lambda x, _: np.tanh(x)),
    "gelu": _value(_gelu),
    "neg": _value(lambda x, _: -x, "elementwise"),
    "silu": _value(lambda x, _: x * _sigmoid(x)),
    "swish": _value(lambda x, _: x * _sigmoid(x)),
    "erf": _value(lambda x, _: _erf(x), "elementwise"),
    "sqrt": _value(lambda x, _: np.sqrt(x), "elementwise"),
    "exp": _value(lambda x, _: np.exp(x), "elementwise"),
    "softmax": Operator("softmax", _softmax, _softmax_shape, _mixed),
    "logsoftmax": Operator("softmax", _log_softmax, _softmax_shape, _mixed),
    "maxpool": Operator("pooling", _max_pool, _pooled_shape, needs=("kernel",)),
    "averagepool": Operator("pooling", _average_pool, _pooled_shape, needs=("kernel",)),
    "globalaveragepool": _whole_maps(np.mean),
    "globalmaxpool": _whole_maps(np.max),
    "reducemean": Operator("pooling", _mean, _mean_shape, _unless_along_channels, ("axis",)),
    "add": _together(np.add),
    "sub": _together(np.subtract),
    "mul": _together(np.multiply),
    "div": _together(np.divide),
    "concat": Operator("concat", _concat, _concat_shape, _concat_channels, ("axis",), takes=None),
    "split": Operator("concat", _slice, _slice_shape, _unless_along_channels, ("axis",)),
    "slice": Operator("reshape", _slice, _slice_shape, _unless_along_channels, ("axis",)),
    "flatten": Operator("reshape", _reshape, lambda _, shapes: (math.prod(shapes[0]),), _flattened),
    "reshape": Operator("reshape", _reshape, _reshape_shape, _flattened),
    "transpose": Operator("reshape", _transpose, _transpose_shape, _mixed),
    "rearrange": Operator("reshape", _rearrange, _rearranged_shape, _mixed, ("steps",)),
    "matmul": Operator("attention", lambda _, given: given[0] @ given[1], _matmul_shape, _mixed, takes=2),
    "batchnormalization": Operator("normalisation", _batch_norm, needs=("mean", "variance")),
    "layernormalization": Operator("normalisation", _layer_norm, _layer_norm_shape, _mixed),
    "groupnormalization": Operator("normalisation", _group_norm, _group_norm_shape, _mixed, needs=("groups",)),
    "rmsnormalization": Operator("normalisation", _rms_norm, channels=_mixed),
    "lrn": Operator("normalisation", _lrn, _lrn_shape, _mixed, needs=("size",)),
    "gather": Operator("embedding", _gather, _gather_shape, _mixed, ("value",)),
    "attentionscores": Operator("attention", _scores, _scores_shape, _mixed, takes=2),
    "attentionvalues": Operator("attention", _values, _values_shape, _mixed, takes=2),
}
"""By the name of ONNX's operator in small letters; the last two are the products of an attention."""
