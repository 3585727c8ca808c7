"""ONNX files made ready to be read as layers: what is constant is computed, and all sizes are fixed."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import inliner

from accelsim.errors import InputError, did_you_mean, placing, raise_if_any, reason_of
from accelsim.network.left_out import LeftOut
from accelsim.network.onnx_graph import constants
from accelsim.network.onnx_graph.account import Account
from accelsim.network.onnx_graph.batch import batch_of
from accelsim.network.onnx_graph.constants import Constant, ModelFile
from accelsim.network.onnx_graph.folding import Folding
from accelsim.network.onnx_graph.open_sizes import Sized, sized
from accelsim.network.onnx_graph.scope import graphs_of, tensor_type
from accelsim.network.onnx_graph.wire import without_data
from accelsim.network.reading import Reading

MAX_BYTES = 2**31 - 1
"""Of one protobuf message; larger models keep their weights beside it."""

MAX_OPERATIONS = 10**6
"""Of a graph with its functions in place; a few functions that call each other can ask for any number."""


OF_A_MACHINE = ("com.microsoft.nchwc", "com.ms.internal.nhwc")
"""Domains of operations whose weights ONNX Runtime put in blocks of channels, as many as the machine likes."""


class Input(NamedTuple):
    """An input of a graph: its shape, samples included, its type, one of `onnx.TensorProto.DataType`."""

    shape: list[int]
    elem_type: int
    batch_axis: int | None
    """Dimension that counts samples; None: all of it belongs to one."""
    is_open: bool
    """Whether the file leaves to whoever runs it how many samples there are."""


class Prepared(NamedTuple):
    """A graph of fixed sizes without what can be known beforehand."""

    path: Path
    name: str
    nodes: list[Any]
    """Operations in order: local functions and the branches that run stand in place, constants are computed."""
    constants: Mapping[str, Constant]
    shapes: Mapping[str, list[int]]
    """Of all values whose sizes are known."""
    batch: int
    """Samples that the inputs hold."""
    left_out: list[LeftOut]
    """Bodies of loops and branches that may run, and tensors that nothing uses."""
    assumptions: list[str]
    opsets: Mapping[str, int]
    """Version of the operations by their domain."""
    open: Mapping[str, str]
    """Why the shape of a value is not known."""
    stored: Mapping[str, Constant]
    """Tensors of the file by the names that `Constant.made_of` has."""
    metadata: Mapping[str, str]
    """What the file says of itself."""
    inputs: Mapping[str, Input]
    """What enters, but for what was given a value."""
    outputs: list[str]
    closed: list[Any]
    """Operations with bodies that depend on the samples, which are none of `nodes`."""


Put = Callable[[str, Constant], Constant]
"""Gives what stands in the place of a tensor of a file, by its name there."""


def prepared(path: Path, reading: Reading, put: Put | None = None) -> Prepared:
    """Return the graph of an ONNX file with all that follows from the file and from what the reader is told.

    Operations on constants are computed by ONNX's own evaluation, as far as memory allows it; DequantizeLinear is not,
    so that quantised weights keep their integers. `put` may put other numbers into tensors of the file. Raises
    InputError: a file that is damaged, sizes that are left open, a condition that depends on an input, samples that
    cannot be counted.
    """
    model, file = _model(path)
    with placing(str(path)):
        return _prepared(file, model, reading, put)


def _prepared(file: ModelFile, model: Any, reading: Reading, put: Put | None) -> Prepared:
    graph = model.graph
    held = {tensor.name for tensor in graph.initializer} | {each.values.name for each in graph.sparse_initializer}
    inputs = [value for value in graph.input if value.name not in held]
    _check_values(reading.input_values, [value.name for value in inputs])
    given = sized(inputs, reading)
    small = [name for name, shape in given.shapes.items() if int(np.prod(shape)) == 1]
    folding = Folding(model, file, small, constants.bytes_stored(file.path, graph.initializer), put)
    for value in inputs:
        tensor = value.type.tensor_type
        if value.name in reading.input_values:
            folding.scope.hold(value.name, _constant(value, reading.input_values[value.name]))
        elif value.name in given.shapes:
            kind = tensor_type(tensor.elem_type, given.shapes[value.name])
            folding.scope.put(value.name, kind, frozenset([value.name]))
        else:
            folding.scope.put(value.name, value.type, frozenset([value.name]), f"'{value.name}' is not a tensor")
    nodes = folding.nodes()
    raise_if_any(dict.fromkeys(folding.problems))
    scope = folding.scope
    used = {name for node in nodes for name in node.input if name in scope.constants}
    account = Account(folding.stored)
    for name in used:
        account.take(scope.constants[name])
    batch = batch_of(nodes, scope.constants, scope.shapes, given, reading)
    left_out = [
        replace(each, weights=sum(map(account.take, held)), macs=each.macs and each.macs // batch)
        for each, held in folding.left_out
    ]
    left_out += [
        LeftOut(name, "tensor that no operation uses", count, 0)
        for name, each in folding.stored.items()
        if (count := account.take(each))
    ]
    return Prepared(
        file.path,
        graph.name,
        nodes,
        {name: scope.constants[name] for name in used},
        scope.shapes,
        batch,
        left_out,
        given.assumptions + folding.assumptions,
        folding.opsets,
        scope.open,
        folding.stored,
        {each.key: each.value for each in model.metadata_props},
        _entering(inputs, given, batch, reading),
        [value.name for value in graph.output if value.name not in scope.constants],
        folding.closed,
    )


def _entering(inputs: Iterable[Any], given: Sized, batch: int, reading: Reading) -> dict[str, Input]:
    """Return the inputs of a graph of fixed sizes, and which of their dimensions count samples."""
    found = {}
    for value in inputs:
        if value.name not in given.shapes:
            continue
        shape, tensor = given.shapes[value.name], value.type.tensor_type
        axis = reading.batch_dims.get(value.name, given.batch_dims.get(value.name))
        if axis is None and value.name not in reading.batch_dims and len(shape) >= 2:
            axis = next((place for place, size in enumerate(shape) if size == batch), None) if batch > 1 else None
            axis = 0 if axis is None and shape[0] == batch == 1 else axis
        axis = None if axis is None else axis % len(shape)
        dims = tensor.shape.dim
        is_open = axis is not None and (axis >= len(dims) or dims[axis].dim_value <= 0)
        found[value.name] = Input(shape, tensor.elem_type, axis, is_open)
    return found


def _model(path: Path) -> tuple[Any, ModelFile]:
    """Return the parsed file, functions of its own inlined and data of large tensors left in it; raises InputError."""
    try:
        file = ModelFile.of(path)
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"is larger than {MAX_BYTES} bytes, which no protobuf message is")
        model = onnx.load_model_from_string(_light(path))
        if not model.opset_import or not model.graph.node:
            raise ValueError("it has no operations")
        if any(node.domain in OF_A_MACHINE for node in model.graph.node):
            raise InputError(
                f"{path}: holds weights in an order made for one machine, as ONNX Runtime saves a model with all its "
                "optimisations; give the model that it was made from, or save it with ORT_ENABLE_EXTENDED"
            )
        if any(isinstance(name, bytes) for graph in (model.graph, *model.functions) for name in _names(graph)):
            raise ValueError("it has names that are no text")
        return inlined(model) if model.functions else model, file
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except Exception as error:
        # protobuf and ONNX raise a dozen types on damaged files, and more with each version.
        raise InputError(f"{path}: not a complete ONNX file: {reason_of(error)}; export or copy it again") from None


def _light(path: Path) -> bytes:
    """Return a model's file without the data of its large tensors, or as it is where that cannot be told."""
    if not path.stat().st_size:
        return b""
    with path.open("rb") as file:
        pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        return without_data(memoryview(pages), path.name)
    except ValueError:
        return path.read_bytes()


def _names(graph: Any) -> Iterator[Any]:
    """Go through all names in a graph; one that is no text is of bytes."""
    if isinstance(graph, onnx.GraphProto):
        yield from (each.name for each in (*graph.input, *graph.output, *graph.initializer))
        yield from (each.values.name for each in graph.sparse_initializer)
        yield from (dim.dim_param for each in graph.input for dim in each.type.tensor_type.shape.dim)
        yield from (entry.value for each in graph.initializer for entry in each.external_data)
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)
        for _, body in graphs_of(node):
            yield from _names(body)


def _operations(graph: Any, functions: Mapping[tuple[str, str], Any], known: dict[tuple[str, str], int]) -> int:
    """Return how many operations a graph or function is with all functions in place.

    Raises ValueError for functions that call themselves, and for more operations than a graph has.
    """
    count = 0
    for node in graph.node:
        count += 1 + sum(_operations(body, functions, known) for _, body in graphs_of(node))
        called = node.domain, node.op_type
        if called in functions:
            if known.setdefault(called, 0) == 0:
                known[called] = -1
                known[called] = max(1, _operations(functions[called], functions, known))
            if known[called] < 0:
                raise ValueError(f"the function {node.op_type} calls itself")
            count += known[called]
    if count > MAX_OPERATIONS:
        raise ValueError(f"its functions make more than {MAX_OPERATIONS:,} operations")
    return count


def inlined(model: Any) -> Any:
    """Return a model without functions of its own; its tensors are not copied."""
    functions = {(function.domain, function.name): function for function in model.functions}
    _operations(model.graph, functions, {})
    tensors = list(model.graph.initializer)
    del model.graph.initializer[:]
    for tensor in tensors:
        empty = model.graph.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
        empty.data_location = onnx.TensorProto.EXTERNAL
    whole = inliner.inline_local_functions(model)
    del whole.graph.initializer[:]
    whole.graph.initializer.extend(tensors)
    return whole


def _check_values(values: Mapping[str, float], inputs: list[str]) -> None:
    """Raise InputError for values of inputs that the graph does not have."""
    raise_if_any(
        f"--input-value {name}={value:g}: the graph has no such input{did_you_mean(name, inputs)}"
        for name, value in values.items()
        if name not in inputs
    )


def _constant(value: Any, number: float) -> Constant:
    """Return an input of the graph that always has one value; raises InputError where it is not small."""
    tensor = value.type.tensor_type
    sizes = [dim.dim_value for dim in tensor.shape.dim]
    said = f"--input-value {value.name}={number:g}"
    if not value.type.HasField("tensor_type") or any(size != 1 for size in sizes):
        raise InputError(f"{said}: only an input of one element can be given so, and it is {tuple(sizes)}")
    dtype = constants.dtype_of(tensor.elem_type, value.name)
    array = np.full(sizes, number).astype(dtype)
    if dtype.kind not in "fbiu" or float(array.reshape(-1)[0]) != number:
        raise InputError(f"{said}: the input is of type {dtype}, which has no such value")
    return constants.of_array(array, value.name, elem_type=tensor.elem_type)
