"""An ONNX file with pruned weights: the same graph, each tensor where it was, in the file or beside it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from accelsim.errors import InputError, listed, placing, raise_if_any
from accelsim.network.network import Network
from accelsim.network.onnx_graph.constants import ModelFile, dtype_of, of_tensor
from accelsim.network.onnx_graph.order import uses
from accelsim.network.onnx_graph.prepared import Prepared, Put, inlined, prepared
from accelsim.network.onnx_graph.products import Product
from accelsim.network.onnx_graph.scope import graphs_of
from accelsim.network.onnx_graph.tracing import Change, Key, Origin, Tensors, is_mask, is_real
from accelsim.network.onnx_graph.walk import products_of
from accelsim.network.reading import Reading
from accelsim.network.writer import GRANULARITY_KEY, PARENT_KEY, claims_of

Array = NDArray[Any]
Reader = Callable[[], Array]

ALIGNED, ALIGNED_LARGE, LARGE = 64, 4096, 2**20
"""Bytes to which tensors in a file of data are aligned, and those of LARGE bytes or more, which may be mapped."""


def rewrite(pruned: Network, path: Path, target: Path, reading: Reading, parent: str = "") -> list[str]:
    """Write an ONNX file with the weights and biases of a pruned network; return what is to be known of it.

    Weights go into the tensors from which they come. What the graph computes of tensors otherwise than by moving,
    scaling and shifting numbers becomes a tensor, and the operations that made it go; that is returned, a sentence.
    parent: what the file says that it was pruned from.
    Raises InputError with every layer whose weights are packed.
    """
    ready = prepared(path, reading)
    layers, products = products_of(ready)
    changes = {
        (layer.name, kind): Change(given, wanted)
        for layer in pruned
        for kind in ("weight", "bias")
        if layer.name in layers
        and (given := getattr(layers[layer.name], kind)) is not None
        and (wanted := getattr(layer, kind)) is not None
    }
    changed = [key for key, change in changes.items() if change.differs.any()]
    with placing(str(path)):
        stored, computed = _new_tensors(path, reading, (ready, products), changes, changed)
    model, said = written_out(onnx.load(path, load_external_data=False), {*stored, *computed}, path, target)
    _compute_no_more(model.graph, {name: (each, ready.constants[name].elem_type) for name, each in computed.items()})
    _say(model, GRANULARITY_KEY, claims_of(pruned))
    _say(model, PARENT_KEY, parent)
    write_model(model, ModelFile.of(path), target, stored)
    if computed:
        said.append(f"{listed(sorted(computed))}: computed in {path.name}, and tensors in {target.name}")
    return said


def written_out(model: Any, names: Collection[str], path: Path, target: Path) -> tuple[Any, list[str]]:
    """Return a model in whose graph all these tensors and values stand, and what is to be known of it.

    Those of functions are not in it: the functions are put in their places then, each call by itself.
    """
    held = {name for name, _ in tensors_of(model.graph)} | {name for node in model.graph.node for name in node.output}
    if not model.functions or held.issuperset(names):
        return model, []
    called = listed(sorted({each.name for each in model.functions}))
    return inlined(model), [f"{called}: functions in {path.name}, and written out in {target.name}"]


def _new_tensors(
    path: Path,
    reading: Reading,
    graph: tuple[Prepared, Mapping[str, Product]],
    changes: Mapping[Key, Change],
    changed: Sequence[Key],
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return new values of tensors of the file, and of values that the graph computes of them; raises InputError."""
    ready, products = graph
    parts = {key: _parts(products[key[0]], key[1], ready) for key in changes}
    origins = {name for key in changed for part in parts[key] for name in _origins(ready, part)}
    in_file = Tensors({name: each for name, each in ready.stored.items() if name in origins})

    def of_file(put: Put) -> Mapping[Key, Reader]:
        return _readers(prepared(path, reading, put))

    def of_graph(put: Put) -> Mapping[Key, Reader]:
        return _readers(ready._replace(constants={name: put(name, each) for name, each in ready.constants.items()}))

    found: dict[Key, Origin] = {**in_file.seen(of_file)}
    # Others of the same tensors too, which may share a number.
    touching = {
        key for key in changes if key not in found and any(origins & set(_origins(ready, part)) for part in parts[key])
    }
    found |= in_file.traced(of_file, touching)
    found = {key: each for key, each in found.items() if key in changes and in_file.explains(each, changes[key])}
    left = [key for key in changed if key not in found]
    made = {part for key in left for part in parts[key] if ready.constants[part].made_of - {part}}
    in_graph = Tensors({part: ready.constants[part] for part in sorted(made)})
    again = in_graph.traced(of_graph, left)
    again = {key: each for key, each in again.items() if in_graph.explains(each, changes[key])}
    raise_if_any(
        f"layer {name}: its {kind} is packed in {listed(parts[name, kind]) or 'its operation'}, into which pruned "
        "weights are not written; prune the model that it was made from, or leave this layer as it is"
        for name, kind in left
        if (name, kind) not in again
    )
    return in_file.settled(found, changes), in_graph.settled(again, changes)


def _parts(product: Product, kind: str, ready: Prepared) -> list[str]:
    """Return the constants that a weight or a bias is made of, without what only scales or shifts one."""
    weight = product.weight if kind == "weight" else product.bias
    found = sorted(() if weight is None else weight.parts, key=lambda name: -ready.constants[name].size)
    return found[:1] if kind == "weight" else found


def _origins(ready: Prepared, part: str) -> list[str]:
    """Return the tensors of the file whose numbers a constant has, without sizes, scales of rows and masks."""
    constant = ready.constants[part]
    alike = [
        name
        for name in constant.made_of
        if ready.stored[name].dtype == constant.dtype or (is_real(ready.stored[name].dtype) and is_real(constant.dtype))
    ]
    found = [name for name in alike if len(ready.stored[name].dims) > 1] or alike
    return found if len(found) < 2 else [name for name in found if not is_mask(ready.stored[name])]


def _readers(ready: Prepared) -> dict[Key, Reader]:
    """Return what reads weights and biases of all layers of a graph."""
    found = {}
    for name, product in products_of(ready)[1].items():
        found[name, "weight"] = product.weight.read
        if product.bias is not None:
            found[name, "bias"] = product.bias.read
    return found


def write_model(model: Any, file: ModelFile, target: Path, stored: Mapping[str, Array]) -> None:
    """Write a model with other tensors, its data beside it where it was there."""
    beside = {id(each): each for _, each in tensors_of(model.graph) if is_external(each)}
    with (target.parent / f"{target.name}.data").open("wb") as data:
        for name, each in tensors_of(model.graph):
            values = stored.get(name)
            if isinstance(each, onnx.SparseTensorProto):
                if values is not None:
                    _fill_sparse(each, values)
                continue
            if id(each) in beside:
                constant = of_tensor(each, file)
                _append(each, constant.read() if values is None else values, data, target.name)
            elif values is not None:
                _fill(each, values)
    if not beside:
        Path(data.name).unlink()
    try:
        target.write_bytes(model.SerializeToString())
    except ValueError as error:
        raise InputError(f"{target}: cannot be written as one file: {error}; keep its data beside it") from None


def _say(model: Any, key: str, text: str) -> None:
    """Put a text into the metadata of a model, in place of what it said."""
    kept = [each for each in model.metadata_props if each.key != key]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    if text:
        model.metadata_props.add(key=key, value=text)


def tensors_of(graph: Any) -> Iterator[tuple[str, Any]]:
    """Go through the tensors of a graph and of bodies in it by the names that they have when it is read."""
    counts: dict[str, int] = {}

    def named(name: str) -> str:
        counts[name] = counts.get(name, 0) + 1
        return name if counts[name] == 1 else f"{name}.{counts[name]}"

    def of(one: Any) -> Iterator[tuple[str, Any]]:
        yield from ((named(each.name), each) for each in one.initializer)
        yield from ((named(each.values.name), each) for each in one.sparse_initializer)
        for node in one.node:
            for attribute in node.attribute:
                if node.op_type == "Constant" and attribute.name == "value":
                    yield named(node.output[0]), attribute.t
                elif node.op_type == "Constant" and attribute.name == "sparse_value":
                    yield named(node.output[0]), attribute.sparse_tensor
            for _, inner in graphs_of(node):
                yield from of(inner)

    yield from of(graph)


def is_external(tensor: Any) -> bool:
    """Return whether the data of a tensor lie beside its file."""
    return isinstance(tensor, onnx.TensorProto) and tensor.data_location == onnx.TensorProto.EXTERNAL


def _bytes(values: Array, elem_type: int, name: str) -> bytes:
    """Return an array as a tensor of a type has it, least byte first."""
    raw: bytes = numpy_helper.from_array(values.astype(dtype_of(elem_type, name), copy=False)).raw_data
    return raw


def _fill(tensor: Any, values: Array) -> None:
    """Put other values into a tensor of the file."""
    raw = _bytes(values, tensor.data_type, tensor.name)
    for kept in ("float_data", "int32_data", "int64_data", "double_data", "uint64_data"):
        tensor.ClearField(kept)
    tensor.raw_data = raw


def _fill_sparse(sparse: Any, values: Array) -> None:
    """Put other values into a sparse tensor, of which only those are kept that are not zero."""
    flat = values.reshape(-1)
    at = np.flatnonzero(flat)
    _fill(sparse.values, flat[at])
    sparse.values.dims[:] = [len(at)]
    sparse.indices.CopyFrom(numpy_helper.from_array(at.astype(np.int64), sparse.indices.name))


def _append(tensor: Any, values: Array, data: Any, model: str) -> None:
    """Add the values of a tensor to the file beside a model."""
    raw = _bytes(values, tensor.data_type, tensor.name)
    aligned = ALIGNED_LARGE if len(raw) >= LARGE else ALIGNED
    data.write(b"\0" * (-data.tell() % aligned))
    place = {"location": f"{model}.data", "offset": str(data.tell()), "length": str(len(raw))}
    data.write(raw)
    del tensor.external_data[:]
    for key, value in place.items():
        tensor.external_data.add(key=key, value=value)


def _compute_no_more(graph: Any, computed: Mapping[str, tuple[Array, int]]) -> None:
    """Put tensors in the place of values that a graph computes; operations and tensors go that made only those."""
    if not computed:
        return
    for node in graph.node:
        for place, name in enumerate(node.output):
            if name in computed:
                node.output[place] = f"{name}.before"
    for name, (values, elem_type) in computed.items():
        tensor = graph.initializer.add(name=name, data_type=elem_type, dims=values.shape)
        tensor.raw_data = _bytes(values, elem_type, name)
    before = set(uses(graph))
    gone = {f"{name}.before" for name in computed}
    while True:
        needed = set(uses(graph)) | {value.name for value in graph.output}
        idle = [node for node in graph.node if gone & set(node.output) and needed.isdisjoint(node.output)]
        if not idle:
            break
        for node in idle:
            gone.update(node.input)
            graph.node.remove(node)
    unused = before - needed
    for held in (graph.initializer, graph.sparse_initializer):
        for tensor in [each for each in held if getattr(each, "name", "") in unused]:
            held.remove(tensor)
