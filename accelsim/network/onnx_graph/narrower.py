"""An ONNX file without the channels that a network no longer needs: tensors, shapes and group counts follow.

Which channels stay in each value of the graph says `accelsim.network.slices`; here each operation takes them out of its
own constants. What was written is read again: every constant must then be what it was without its channels, and every
value must have the sizes that are left, so that nothing depends on a rule for an operation being right.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from accelsim.errors import InputError, raise_if_any
from accelsim.network.onnx_graph.between import Places, places_of
from accelsim.network.onnx_graph.constants import ModelFile, of_tensor
from accelsim.network.onnx_graph.forms import MATRICES, MICROSOFT, STANDARD, attributes_of, input_of, kind_of, place_of
from accelsim.network.onnx_graph.kinds import KINDS, PASSED
from accelsim.network.onnx_graph.order import uses
from accelsim.network.onnx_graph.prepared import Prepared, prepared
from accelsim.network.onnx_graph.reader import read
from accelsim.network.onnx_graph.rewritten import tensors_of, write_model, written_out
from accelsim.network.onnx_graph.scope import number_of
from accelsim.network.onnx_graph.walk import Walk
from accelsim.network.reading import Reading
from accelsim.network.slices import Flags, Slices

Array = NDArray[Any]
Cuts = dict[int, Flags]
"""Of a tensor, which places along an axis stay; no axis of which all do."""

EACH_BY_ITSELF = ("activation", "elementwise", "pooling")
"""Kinds of operations that treat channels alike where none of their constants has more than one number."""

PRODUCTS = {
    **dict.fromkeys(("MatMul", "Gemm", "FusedMatMul", "FusedGemm", "GemmFastGelu", "MatMulInteger")),
    "QLinearMatMul": 4,
    "QGemm": 4,
    "MatMulIntegerToFloat": 3,
}
"""Products of matrices, each with the position of the scales of its weights, one for all outputs or for each."""

SHAPED_BY = {"Reshape": 1, "Expand": 1, "Resize": 3}
"""Position of the input that says the sizes of what an operation makes."""

CHANNEL_BY_CHANNEL = frozenset((
    "MaxPool", "AveragePool", "LpPool", "GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool", "Transpose", "Squeeze",
    "Unsqueeze", "Flatten", "Gather", "Tile", "Upsample", "Split", "Reshape", "Expand", "Resize", "Slice", "Pad",
    *(name for name in KINDS if name.startswith("Reduce")),
))  # fmt: skip
"""Operations without constants of as many numbers as channels."""


class UnableError(Exception):
    """Why an operation cannot do with fewer channels."""


class _Wanted(NamedTuple):
    """What a constant is to become for one input of one operation of the file."""

    node: Any
    place: int
    change: Callable[[Array], Array]
    mark: tuple[Any, ...]
    """Equal for changes that are equal."""


def narrow(path: Path, target: Path, reading: Reading, *, ends: bool = False) -> list[str]:
    """Write an ONNX file without the channels that nobody reads, or that are zero; see `accelsim.pruned.removed`.

    ends: whether inputs and outputs of the graph may go. All other numbers stay bit for bit. Returns what is to be
    known of it, a sentence each.
    Raises InputError with every operation that cannot do with fewer channels, before anything is written, and where
    what was written would not compute the same.
    """
    network = read(path, reading)
    ready = prepared(path, reading)
    walk = Walk(ready)
    slices = Slices.of(network, ends=ends)
    values = _Values(ready, places_of(ready, walk.made, set(walk.taken)), slices, slices.needed(network))
    model, said = written_out(onnx.load(path, load_external_data=False), set(values.changing()), path, target)
    _Narrowed(model, ModelFile.of(path), values).write(target)
    _check(values, prepared(target, reading))
    return said


@dataclass
class _Values:
    """Which channels stay in each value of a graph."""

    ready: Prepared
    places: Places
    slices: Slices
    stays: Flags

    def cuts(self, value: str) -> Cuts:
        """Return what stays of a value; raises UnableError where nobody knows where its channels are."""
        maker = self.places.makers.get(value)
        if maker is None:
            return {}
        if maker in self.slices.layers:
            numbers = self.slices.layers[maker].outputs
        else:
            numbers = self.slices.operations.get(maker, self.slices.inputs.get(maker, np.zeros(0, np.int64)))
        flags, axis = self.stays[numbers], self.places.axes.get(value)
        if flags.all():
            return {}
        shape = self.ready.shapes.get(value)
        if axis is None or shape is None or shape[axis] != len(flags):
            raise UnableError(f"it is not known where the channels of '{value}' are")
        return {axis % len(shape): flags}

    def changing(self) -> Iterator[str]:
        """Go through the values that operations with fewer channels make."""
        for node in self.ready.nodes:
            try:
                if any(self.cuts(name) for name in (*node.input, *node.output) if name):
                    yield next(filter(None, node.output))
            except UnableError:
                continue  # it is told where it is asked for its constants

    def narrowed(self, value: str) -> list[int]:
        """Return the sizes that a value has then."""
        shape = list(self.ready.shapes[value])
        for axis, flags in self.cuts(value).items():
            shape[axis] = int(np.count_nonzero(flags))
        return shape

    def needs(self, node: Any) -> Iterator[tuple[int, Cuts]]:
        """Go through the inputs of an operation that are constants, and what stays of them; raises UnableError."""
        taken = {name: self.cuts(name) for name in node.input if name}
        made = {name: self.cuts(name) for name in node.output if name}
        if not any((*taken.values(), *made.values())):
            return
        constant = [place for place, name in enumerate(node.input) if name in self.ready.constants or self._fixed(name)]
        if node.domain not in STANDARD and node.op_type not in PRODUCTS:
            is_plain = node.domain == MICROSOFT and KINDS.get(node.op_type) in EACH_BY_ITSELF
            if not is_plain or any(math.prod(self._shape(node.input[place])) > 1 for place in constant):
                raise UnableError("nothing is known of its constants")
            return
        for place, cuts in self._needed(node, [made.get(name, {}) for name in node.output], constant):
            if place in constant:
                kept = {axis: flags for axis, flags in cuts.items() if not flags.all()}
                if kept:
                    yield place, kept

    def _fixed(self, name: str) -> bool:
        """Return whether a value is made of constants alone, such as one that is dequantised."""
        return bool(name) and name not in self.places.makers

    def _needed(self, node: Any, made: Sequence[Cuts], constant: Sequence[int]) -> Iterator[tuple[int, Cuts]]:
        kind, out = node.op_type, made[0]
        match kind:
            case "Conv" | "ConvTranspose" | "QLinearConv":
                yield from self._of_convolution(node, out)
            case _ if kind in PRODUCTS:
                yield from self._of_matrices(node, out, constant)
            case "BatchNormalization" | "InstanceNormalization":
                yield from ((place, {0: flags}) for flags in out.values() for place in range(1, len(node.input)))
            case "Concat":
                yield from self._of_parts(node, out, constant)
            case "QuantizeLinear" | "DequantizeLinear":
                yield from self._of_scales(node, out, constant)
            case _ if kind in PASSED:
                return
            case _ if kind in CHANNEL_BY_CHANNEL:
                self._refuse_otherwise(node, out)
            case _ if KINDS.get(kind) in ("activation", "elementwise"):
                yield from self._of_elements(node, out, constant)
            case _:
                raise UnableError(f"what {kind_of(node)} makes of fewer channels is not known")

    def _of_convolution(self, node: Any, out: Cuts) -> Iterator[tuple[int, Cuts]]:
        data, groups = self.cuts(node.input[0]).get(1), number_of(node, "group", 1)
        rows = out.get(1)
        if node.op_type == "ConvTranspose":
            if rows is not None:
                raise UnableError("outputs of a transposed convolution stay")
            yield from () if data is None else [(1, {0: data})]
            return
        cuts = {} if rows is None else {0: rows}
        if data is not None and groups < len(data):
            per_group = data.reshape(groups, -1)
            if (per_group != per_group[0]).any():
                raise UnableError("its groups would be of unequal widths")
            cuts[1] = per_group[0]
        is_quantised = node.op_type == "QLinearConv"
        yield 3 if is_quantised else 1, cuts
        if rows is not None:
            yield 8 if is_quantised else 2, {0: rows}
            for place in (4, 5) if is_quantised else ():  # scales and zero points, of all outputs or of each
                yield place, {0: rows} if self._shape(node.input[place]) == (len(rows),) else {}

    def _of_matrices(self, node: Any, out: Cuts, constant: Sequence[int]) -> Iterator[tuple[int, Cuts]]:
        form, scale = MATRICES[node.op_type], PRODUCTS[node.op_type]
        weight, data = (form.right, form.left) if form.right in constant else (form.left, form.right)
        if weight not in constant:
            raise UnableError("it multiplies activations")
        is_right = weight == form.right
        if scale is not None and not is_right:
            raise UnableError("its quantised weights stand on the left")
        if any(each.name.startswith("transBatch") and each.i for each in node.attribute):
            raise UnableError("what counts its matrices is turned")
        is_turned = number_of(node, "transB" if is_right else "transA", 0)
        rank = self._rank(node.input[weight])
        rows, columns = (rank - 1, rank - 2) if is_right != bool(is_turned) else (rank - 2, rank - 1)
        cuts = {}
        for side, axis in ((out, rows), (self.cuts(node.input[data]), columns)):
            for flags in side.values():
                cuts[axis] = flags
        yield weight, cuts
        if rows not in cuts:
            return
        if form.bias is not None and form.bias in constant:
            yield form.bias, self._stretched(node.input[form.bias], out, 2)
        for place in (form.right_zero, scale):
            if place is None or place not in constant or not input_of(node, place):
                continue
            shape = self._shape(node.input[place])
            if math.prod(shape) > 1:  # one of each output; one of all stays
                if shape[-1] != len(cuts[rows]):
                    raise UnableError("its scales are of other parts than its outputs")
                yield place, {len(shape) - 1: cuts[rows]}

    def _of_parts(self, node: Any, out: Cuts, constant: Sequence[int]) -> Iterator[tuple[int, Cuts]]:
        """Parts that are constants have the channels of the others, along another axis than theirs."""
        axis = number_of(node, "axis", 0) % len(self.ready.shapes[node.output[0]])
        for place in constant:
            if axis in out:
                raise UnableError("a part of it is constant")
            yield place, out

    def _of_scales(self, node: Any, out: Cuts, constant: Sequence[int]) -> Iterator[tuple[int, Cuts]]:
        rank = len(self.ready.shapes[node.output[0]])
        for flags in (flags for axis, flags in out.items() if axis == number_of(node, "axis", 1) % rank):
            yield from ((place, {0: flags}) for place in constant if self._shape(node.input[place]) == (len(flags),))

    def _of_elements(self, node: Any, out: Cuts, constant: Sequence[int]) -> Iterator[tuple[int, Cuts]]:
        rank = len(self.ready.shapes[node.output[0]])
        yield from ((place, self._stretched(node.input[place], out, rank)) for place in constant)

    def _refuse_otherwise(self, node: Any, out: Cuts) -> None:
        """Raise UnableError for what takes part in what `CHANNEL_BY_CHANNEL` does not mean."""
        constants = self.ready.constants
        if node.op_type == "MaxPool" and len(node.output) > 1 and node.output[1]:
            raise UnableError("it also gives the places of what it takes, which channels are counted in")
        if node.op_type == "Split" and number_of(node, "axis", 0) % len(self.ready.shapes[node.output[0]]) in out:
            raise UnableError("it splits channels")
        if node.op_type == "Slice":
            steps = constants.get(input_of(node, 4))
            if len(node.input) > 4 and node.input[4] and (steps is None or (steps.read() != 1).any()):
                raise UnableError("it goes through channels in steps")

    def _stretched(self, name: str, out: Cuts, rank: int) -> Cuts:
        """Return what stays of a constant that is stretched over what an operation makes."""
        shape = self._shape(name)
        found = {axis + len(shape) - rank: flags for axis, flags in out.items()}
        return {axis: flags for axis, flags in found.items() if axis >= 0 and shape[axis] > 1}

    def _shape(self, name: str) -> tuple[int, ...]:
        if name in self.ready.constants:
            return self.ready.constants[name].dims
        if name not in self.ready.shapes:
            raise UnableError(f"the sizes of '{name}' are not known")
        return tuple(self.ready.shapes[name])

    def _rank(self, name: str) -> int:
        return len(self._shape(name))


@dataclass
class _Narrowed:
    """A model whose operations take other constants."""

    model: Any
    file: ModelFile
    values: _Values
    wanted: dict[str, list[_Wanted]] = field(default_factory=dict)
    """By name of the constant."""

    def write(self, target: Path) -> None:
        """Write the model; raises InputError with all that cannot be narrowed."""
        graph = self.model.graph
        self.tensors = dict(tensors_of(graph))
        self.makers = {name: node for node in graph.node for name in node.output if name}
        own = {name: node for node in graph.node for name in node.output}
        problems = []
        for node in self.values.ready.nodes:
            try:
                changes = list(self.values.needs(node))
                cut = any(self.values.cuts(name) for name in (*node.input, *node.output) if name)
                if not cut:
                    continue
                mine = own.get(next(filter(None, node.output), ""))
                if mine is None or mine.op_type != node.op_type:
                    raise UnableError("it stands in a branch or a body; let onnxsim put it in place first")
                for place, cuts in changes:
                    self._cut(mine, place, cuts)
                self._resize(mine)
            except UnableError as why:
                problems.append(
                    f"{place_of(node)}: channels cannot be taken out of it: {why}; leave them whole, "
                    "or write a .safetensors"
                )
        for value in (*graph.input, *graph.output):
            try:
                self.values.cuts(value.name)
            except UnableError as why:
                problems.append(f"{why}; leave inputs and outputs whole, without --ends")
        raise_if_any(dict.fromkeys(problems))
        stored = self._settle()
        self._say_sizes()
        write_model(self.model, self.file, target, stored)

    def _cut(self, node: Any, place: int, cuts: Cuts) -> None:
        """Ask for less of a constant, through what only turns or dequantises it."""
        name = node.input[place]
        if name in self.tensors:
            mark = tuple((axis, flags.tobytes()) for axis, flags in sorted(cuts.items()))
            self.wanted.setdefault(name, []).append(_Wanted(node, place, lambda array: _taken(array, cuts), mark))
            return
        maker: Any = self.makers.get(name)
        match maker.op_type if maker is not None and maker.domain in STANDARD else "":
            case "Identity" | "Cast":
                self._cut(maker, 0, cuts)
            case "Transpose":
                rank = len(self.values._shape(name))
                order = list(attributes_of(maker).get("perm") or range(rank)[::-1])
                self._cut(maker, 0, {order[axis]: flags for axis, flags in cuts.items()})
            case "DequantizeLinear" if not number_of(maker, "block_size", 0):
                self._cut(maker, 0, cuts)
                axis = number_of(maker, "axis", 1) % len(self.values._shape(name))
                for other in range(1, len(maker.input)):
                    tensor = self.tensors.get(maker.input[other])
                    if axis in cuts and (tensor is None or list(tensor.dims) == [len(cuts[axis])]):
                        self._cut(maker, other, {0: cuts[axis]})
            case _:
                raise UnableError(f"its constant '{name}' is computed")

    def _resize(self, node: Any) -> None:
        """Put the sizes of what an operation makes, and its number of groups, in order."""
        if node.op_type in ("Conv", "ConvTranspose", "QLinearConv"):
            self._regroup(node)
        place = SHAPED_BY.get(node.op_type)
        if place is None or not input_of(node, place) or node.input[place] not in self._constants():
            return  # sizes that the graph computes follow by themselves, or the check says so
        cuts = self.values.cuts(node.output[0])
        rank = len(self.values.ready.shapes[node.output[0]])
        sizes = {axis: int(np.count_nonzero(flags)) for axis, flags in cuts.items()}

        def change(array: Array) -> Array:
            result = np.array(array)
            for axis, size in sizes.items():
                at = axis - rank + len(result)
                if 0 <= at < len(result) and result[at] > 1:
                    result[at] = size
            return result

        mark = ("sizes", *sorted(sizes.items()))
        self.wanted.setdefault(node.input[place], []).append(_Wanted(node, place, change, mark))

    def _regroup(self, node: Any) -> None:
        flags = self.values.cuts(node.input[0]).get(1)
        for attribute in node.attribute:
            if attribute.name == "group" and flags is not None and attribute.i == len(flags) > 1:
                attribute.i = int(np.count_nonzero(flags))

    def _constants(self) -> set[str]:
        return {*self.tensors, *(name for name, node in self.makers.items() if node.op_type == "Constant")}

    def _settle(self) -> dict[str, Array]:
        """Return new values of the tensors of the file; what others still take whole gets a tensor beside it."""
        graph = self.model.graph
        users = list(uses(graph))
        outputs = {value.name for value in graph.output}
        stored = {}
        for name, asked in self.wanted.items():
            whole = self._read(name)
            tensor: Any = self.tensors.get(name)
            places = {(id(each.node), each.place) for each in asked}
            alone = len(places) == users.count(name) and name not in outputs and tensor is not None
            for number, mark in enumerate(dict.fromkeys(each.mark for each in asked)):
                mine = [each for each in asked if each.mark == mark]
                values = np.ascontiguousarray(mine[0].change(whole))
                if alone and not number and len({each.mark for each in asked}) == 1:
                    tensor.dims[:] = values.shape
                    stored[name] = values
                    continue
                new = f"{name}.less{number or ''}"
                made = numpy_helper.from_array(values, new)
                if tensor is not None:
                    made.data_type = tensor.data_type
                graph.initializer.append(made)
                for each in mine:
                    each.node.input[each.place] = new
        self._drop_unused(outputs)
        for value in graph.input:
            if value.name in stored:
                _set_sizes(value, stored[value.name].shape)
        return stored

    def _read(self, name: str) -> Array:
        tensor = self.tensors.get(name)
        if tensor is None:
            return np.asarray(next(iter(attributes_of(self.makers[name]).values())), np.int64)
        if isinstance(tensor, onnx.SparseTensorProto):
            raise InputError(f"'{name}': is sparse, and stays whole; make it dense, or leave it")
        return of_tensor(tensor, self.file).read()

    def _drop_unused(self, outputs: set[str]) -> None:
        """Take out the constants that nothing takes any more."""
        graph = self.model.graph
        used = {*uses(graph), *outputs}
        for tensor in [each for each in graph.initializer if each.name in self.wanted and each.name not in used]:
            graph.initializer.remove(tensor)
        for node in [each for each in graph.node if each.op_type == "Constant" and each.output[0] in self.wanted]:
            if node.output[0] not in used:
                graph.node.remove(node)

    def _say_sizes(self) -> None:
        """Put the sizes of inputs and outputs in order; those of values between are left to whoever reads the file."""
        graph = self.model.graph
        for value in [*graph.input, *graph.output]:
            cuts = self.values.cuts(value.name)
            dims = value.type.tensor_type.shape.dim
            for axis, flags in cuts.items():
                if axis < len(dims) and dims[axis].dim_value:
                    dims[axis].dim_value = int(np.count_nonzero(flags))
        del graph.value_info[:]


def _taken(array: Array, cuts: Cuts) -> Array:
    """Return an array with only what stays of it; raises InputError where it does not fit."""
    for axis, flags in cuts.items():
        if array.shape[axis] != len(flags):
            raise InputError(f"a constant of shape {array.shape} has no {len(flags)} channels along axis {axis}")
        array = np.compress(flags, array, axis)
    return array


def _set_sizes(value: Any, shape: Sequence[int]) -> None:
    for dim, size in zip(value.type.tensor_type.shape.dim, shape, strict=False):
        dim.dim_value = size


def _check(values: _Values, again: Prepared) -> None:
    """Raise InputError where a graph that was written is not the one before without its channels."""
    before = values.ready
    if [(node.op_type, list(node.output)) for node in before.nodes] != [
        (node.op_type, list(node.output)) for node in again.nodes
    ]:
        raise InputError("without its channels it would have other operations; write a .safetensors")
    problems = []
    for node, after in zip(before.nodes, again.nodes, strict=True):
        if not any(name in values.places.makers for name in node.output):
            continue  # a part of a constant, such as what dequantises it: its layer is compared
        wrong = [name for name in node.output if name in before.shapes
                 and list(again.shapes.get(name, ())) != values.narrowed(name)]  # fmt: skip
        cuts = dict(values.needs(node))
        for place, (name, other) in enumerate(zip(node.input, after.input, strict=True)):
            if name in before.constants and place != SHAPED_BY.get(node.op_type):
                expected = _taken(before.constants[name].read(), cuts.get(place, {}))
                if not _same(again.constants[other].read() if other in again.constants else None, expected):
                    wrong.append(name)
        if wrong:
            problems.append(
                f"{place_of(node)}: '{wrong[0]}' would not be what it was without its channels, as sizes that the "
                "graph computes need not be; leave them whole, or write a .safetensors"
            )
    raise_if_any(problems)


def _same(found: Array | None, expected: Array) -> bool:
    """Return whether two constants are the same, bit for bit."""
    if found is None or (found.shape, found.dtype) != (expected.shape, expected.dtype):
        return False
    return found.tobytes() == expected.tobytes()
