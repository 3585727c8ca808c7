"""The graph of a network as its file describes it, or as a chain of its layers."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from accelsim.errors import InputError, collecting, did_you_mean, raise_if_any
from accelsim.network.graph import ActivationProduct, Graph, Operation, in_order, twice
from accelsim.network.layer import Layer
from accelsim.network.left_out import LeftOut
from accelsim.network.operations import OPERATORS, operator_of
from accelsim.network.specs import ARRAY_KEYS, ATTRIBUTE_KEYS, NetworkSpec, OperationSpec

INPUT = "input"
"""What the input of a network is called that gives it no name."""

CHAIN = (
    "what comes between the layers is not known: taken to be one ReLU between each two, and nothing else; if it is "
    "something else, describe it in [[operation]] tables of a network file"
)
"""What is taken for granted where a chain is executed that nobody described."""

MOST = 2**53
"""The largest count of elements or multiply-accumulates of one sample: every whole number up to it is a float, too."""

Read = Callable[[str, str, str], Any]
"""Reads the array that a key of an operation names, given operation, key and what it says; raises InputError."""


def output_shape(layer: Layer) -> tuple[int, ...]:
    """Return the shape of what a layer makes of one sample, as `accelsim.network.execution.outputs_of` does."""
    if layer.convolution is not None:
        images = (layer.tokens,) if layer.tokens > 1 else ()
        return (*images, layer.out_features, *layer.convolution.output_hw)
    vectors = layer.products.vectors
    return (*((vectors,) if vectors > 1 else ()), layer.out_features)


def chain(layers: Sequence[Layer]) -> Graph:
    """Return a chain of layers with a ReLU between each two; maps are flattened, channel first, before vectors.

    The ReLU behind a layer is called `LAYER.relu`, what brings its values into another shape `LAYER.reshape`.
    Raises InputError naming the first layer that does not take as many values as the one before it gives.
    """
    names = {layer.name for layer in layers}
    name = (
        INPUT if INPUT not in names else next(f"{INPUT}{n}" for n in itertools.count(2) if f"{INPUT}{n}" not in names)
    )
    inputs = {name: layers[0].input_shape}
    sources: dict[str, tuple[str, ...]] = {layers[0].name: (name,)}
    operations: list[Operation] = []
    for before, layer in itertools.pairwise(layers):
        given, taken = output_shape(before), layer.input_shape
        if math.prod(given) != math.prod(taken):
            raise InputError(
                f"layer {layer.name}: takes {taken}, what comes before it gives {given}: the layers are no chain with "
                "a ReLU between them; describe what stands between them in a network file ([[operation]]), or score it "
                "by a function of yours (evaluate=, --evaluate FILE.py:FUNCTION)"
            )
        wanted = [OperationSpec(name=f"{before.name}.relu", does="Relu", inputs=(before.name,))]
        if given != taken:
            flat = "Flatten" if len(taken) == 1 else "Reshape"
            wanted.append(
                OperationSpec(name=f"{before.name}.reshape", does=flat, inputs=(wanted[0].name,), shape=list(taken))
            )
        for spec in wanted:
            operations.append(_operation(spec, [given], {}))
        sources[layer.name] = (wanted[-1].name,)
    return Graph(inputs, sources, tuple(operations), (layers[-1].name,))


def described_graph(spec: NetworkSpec, layers: Sequence[Layer], read: Read, *, whole: bool = False) -> Graph | None:
    """Return the graph that a network file describes; None where it says nothing of one.

    whole: everything is written out, as `Network.save` does, whatever runtime the operations are of: sizes are taken as
    they are, and nothing is derived. Raises InputError with every problem of names, attributes and shapes.
    """
    if not (spec.operation or spec.inputs or spec.outputs or any(each.inputs for each in spec.layer)):
        return None
    inputs = {name: tuple(shape) for name, shape in spec.inputs.items()} or {INPUT: layers[0].input_shape}
    before = itertools.chain([next(iter(inputs))], (each.name for each in spec.layer))
    sources = {each.name: each.inputs or (name,) for each, name in zip(spec.layer, before, strict=False)}
    specs = {each.name: each for each in spec.operation}
    takes = sources | {name: each.inputs for name, each in specs.items()}
    order = spec.order or in_order(takes, sources)
    if sorted(order) != sorted(takes):
        raise InputError("order: must name each layer and each operation once; correct it, or leave it out")
    problems = _problems(spec, takes, order, whole)
    shapes, by_name = dict(inputs), {layer.name: layer for layer in layers}
    operations: dict[str, Operation] = {}
    for name in order if not problems else ():
        taken = [shapes[each] for each in takes[name] if each in shapes]
        if name in by_name:
            layer = by_name[name]
            if taken and not whole and math.prod(taken[0]) != math.prod(layer.input_shape):
                problems.append(
                    f"layer {name}: inputs: {takes[name][0]} gives {taken[0]}, and the layer takes "
                    f"{layer.input_shape}; correct its sizes, or describe what stands between them"
                )
            shapes[name] = output_shape(layer)
        elif len(taken) == len(takes[name]):
            with collecting(problems):
                arrays = {
                    key: read(name, key, said) if isinstance(said, str) else said
                    for key in ARRAY_KEYS
                    if (said := getattr(specs[name], key)) is not None
                }
                operations[name] = _operation(specs[name], taken, arrays, whole=whole)
                shapes[name] = operations[name].shape
    raise_if_any(problems)
    used = {each for source in takes.values() for each in source}
    outputs = spec.outputs or tuple(name for name in order if name not in used)
    return Graph(inputs, sources, tuple(operations[each] for each in specs), outputs, order, spec.runtime)


def _problems(spec: NetworkSpec, takes: Mapping[str, Any], order: Sequence[str], whole: bool) -> list[str]:
    """Say what is wrong with the names of a description, and with the order of its layers; `whole`: of a saved one."""
    layers = dict.fromkeys(each.name for each in spec.layer)
    known = {*spec.inputs, *takes} | (set() if spec.inputs else {INPUT})
    problems = [
        f"{_what(name, layers)}: inputs: nothing is called '{source}'{did_you_mean(source, known)}"
        for name, sources in takes.items()
        for source in sources
        if source not in known
    ]
    problems += [
        f"outputs: nothing is called '{each}'{did_you_mean(each, known)}" for each in spec.outputs if each not in known
    ]
    problems += _ends(spec, set(takes) if not whole else known)
    used = twice([*layers, *(spec.inputs or (INPUT,)), *(each.name for each in spec.operation)])
    if used:
        return problems + used  # what takes what is not to be told then
    made = known - set(takes)
    for name in order:
        late = [source for source in takes[name] if source not in made and source in takes]
        problems += [
            f"{_what(name, layers)}: inputs: '{source}' needs its own output; break the circle" for source in late
        ]
        made.add(name)
    ran = [name for name in order if name in layers]
    problems += [
        f"layer {early}: takes what layer {late} leads to, and stands before it; put the layers in the order in which "
        "they run"
        for early, late in zip(layers, ran, strict=False)
        if early != late
    ][:1]
    return problems


def _ends(spec: NetworkSpec, makers: Collection[str]) -> list[str]:
    """Say what is wrong with the names of what a network takes and gives, beside those that nothing has."""
    problems = [] if "" not in spec.inputs else ["inputs: a name is empty; give it a name of its own"]
    for name, times in Counter(spec.outputs).items():
        if times > 1:
            problems.append(f"outputs: '{name}' stands there {times} times; name each output once")
        if name in (spec.inputs or (INPUT,)) and name not in makers:
            problems.append(
                f"outputs: '{name}' is an input of the network, which it gives back as it is; name the layers or "
                "operations whose outputs are wanted, or leave the key out for those that nothing takes"
            )
    return problems


def _what(name: str, layers: Iterable[str]) -> str:
    return f"layer {name}" if name in layers else f"operation {name}"


def _operation(
    spec: OperationSpec, shapes: Sequence[tuple[int, ...]], arrays: Mapping[str, Any], *, whole: bool = False
) -> Operation:
    """Return an operation that takes tensors of these shapes; raises InputError for what cannot be derived."""
    operator = operator_of(spec.does)
    if operator is None and spec.kind is None:
        near = did_you_mean(spec.does, OPERATORS) if spec.does else ""
        raise InputError(f"operation {spec.name}: kind: is missing, and '{spec.does}' does not tell it; add it{near}")
    if operator is not None and not whole and (problem := operator.problem(spec.does, spec.inputs)):
        raise InputError(f"operation {spec.name}: inputs: {problem}")
    own = [key for key in (*ATTRIBUTE_KEYS, *ARRAY_KEYS) if key in spec.attributes] if spec.attributes else []
    if own and not whole:
        raise InputError(f"operation {spec.name}: attributes.{own[0]}: is a key of its own; write it as {own[0]} = ...")
    said = vars(spec)
    given = {key: value for key in ATTRIBUTE_KEYS if (value := said[key]) is not None}
    product = None if spec.product is None else ActivationProduct(**vars(spec.product))
    made = Operation(
        name=spec.name,
        kind=spec.kind or (operator.kind if operator else ""),
        inputs=spec.inputs,
        shape=tuple(spec.shape or ()),
        does=spec.does,
        attributes={**spec.attributes, **given, **arrays},
        reads=sum(map(math.prod, shapes)) if spec.reads is None else spec.reads,
        weights=_weights(spec, arrays),
        macs=None if spec.macs_unknown else spec.macs or (product.macs if product else 0),
        product=product,
        channels=spec.channels or "mixed",
    )
    if whole:
        return _counted(made)
    if operator is None:
        return _counted(made if spec.shape else replace(made, shape=shapes[0] if shapes else ()))
    missing = [key for key in ("kernel", "axis") if key in operator.needs and key not in made.attributes]
    if missing and not spec.shape:
        raise InputError(f"operation {spec.name}: {missing[0]}: is missing; add it")
    if not missing:
        shape = operator.shape(made, shapes)
        if spec.shape and shape != tuple(spec.shape):
            raise InputError(
                f"operation {spec.name}: shape: is {tuple(spec.shape)}, but {spec.does} of "
                f"{' and '.join(map(str, shapes))} gives {shape}; correct it or leave it out"
            )
        made = replace(made, shape=shape, channels=spec.channels or operator.channels(made, shapes, shape))
    return _counted(made)


def _counted(said: Operation) -> Operation:
    """Return an operation; raises InputError for one whose numbers no table can hold."""
    product = said.product is not None and said.macs == said.product.macs
    counts = {
        "reads": said.reads,
        "weights": said.weights,
        "product" if product else "macs": said.macs or 0,
        "shape": math.prod(said.shape),
    }
    for key, count in counts.items():
        if count > MOST:
            raise InputError(f"operation {said.name}: {key}: makes {count:.3g}, and at most {MOST:.3g} can be counted")
    return said


def _weights(spec: OperationSpec, arrays: Mapping[str, Any]) -> int:
    """Return the elements of its own tensors that an operation reads: all that it has, unless it says otherwise."""
    return sum(np.size(each) for each in arrays.values()) if spec.weights is None else spec.weights


def left_out_of(graph: Graph, named: Iterable[LeftOut | str]) -> list[LeftOut]:
    """Return what of a graph multiplies activations and is not among what is named as not simulated already."""
    names = {each if isinstance(each, str) else each.name for each in named}
    return [
        LeftOut(each.name, each.kind, 0, each.macs)
        for each in graph.operations
        if each.macs != 0 and each.name not in names
    ]
