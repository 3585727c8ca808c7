"""One pass over an ONNX graph of fixed sizes: what is constant is computed, the shapes of all else follow."""

from __future__ import annotations

import math
import warnings
from collections import ChainMap, Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import defs, numpy_helper
from onnx.reference import ReferenceEvaluator

from accelsim.errors import InputError, reason_of
from accelsim.network.left_out import LeftOut
from accelsim.network.onnx_graph import bodies, constants
from accelsim.network.onnx_graph.constants import Constant, ModelFile
from accelsim.network.onnx_graph.forms import STANDARD, place_of
from accelsim.network.onnx_graph.macs import macs_of
from accelsim.network.onnx_graph.order import in_order, uses
from accelsim.network.onnx_graph.scope import Scope, graphs_of, number_of, numbers_of, shape_of, tensor_type
from accelsim.network.onnx_graph.stand_ins import result_of, stand_in

Array = NDArray[Any]

LEAST_BYTES = 2**30
"""Bytes of computed constants that any graph may have."""
TIMES = 16
"""Bytes of computed constants that a graph may have, by the bytes of its files."""

MAX_PRODUCTS = 2**35
"""Multiply-accumulates of a product of constants that is computed."""

MAX_RANK = 64
"""Dimensions that a value of unknown shape may have."""

SECOND_RUNS = 64
"""Bodies of loops through which one goes again, since their sizes change; a loop in a loop multiplies them."""

FEW = 4096
"""Elements of the inputs of an operation that is computed although it is slow, or the size of its result not known."""

SEEN = 1024
"""Elements of a constant on which the shape of a result may depend."""

KEPT = {
    *("DequantizeLinear", "Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform"),
    *("RandomUniformLike", "Conv", "ConvInteger", "ConvTranspose", "DeformConv", "GRU", "LSTM", "RNN", "QLinearConv"),
    *("Attention", "SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss", "GatherElements", "TfIdfVectorizer"),
    *("ImageDecoder", "StringNormalizer", "StringConcat", "StringSplit", "RegexFullMatch"),
    *("Optional", "SequenceConstruct", "SequenceEmpty", "SplitToSequence"),
}
"""Operations that are not computed: those of chance, layers, quantised weights, whose integers a layer keeps, what no
weight is made by, and GatherElements, whose evaluation counts a number that is too large down by ones."""

SLOW = {
    *("Resize", "Upsample", "GridSample", "AffineGrid", "RoiAlign", "NonMaxSuppression", "DFT", "STFT", "Col2Im"),
    *("MaxPool", "AveragePool", "LpPool", "MaxUnpool", "MaxRoiPool", "GatherND", "ScatterND", "ScatterElements"),
    *("Scatter", "Unique"),
}
"""Operations that ONNX's own evaluation computes element by element."""

GROWING = {
    *("Expand", "Tile", "ConstantOfShape", "Range", "OneHot", "Pad", "Resize", "Upsample", "EyeLike", "AffineGrid"),
    *("HannWindow", "HammingWindow", "BlackmanWindow", "MelWeightMatrix", "DFT", "STFT", "Col2Im", "MaxUnpool"),
    *("CenterCropPad", "RoiAlign", "MaxRoiPool"),
}
"""Operations whose few inputs may ask for any number of elements."""

AROUND = {"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"}
"""Operations that can be done to the integers instead of to what is made of them."""


class Folding:
    """A graph of fixed sizes in one pass: its constants, shapes and other operations."""

    def __init__(
        self,
        model: Any,
        file: ModelFile,
        small_inputs: Iterable[str],
        stored_bytes: int,
        put: Callable[[str, Constant], Constant] | None = None,
    ) -> None:
        self.opsets = {each.domain if each.domain != "ai.onnx" else "": each.version for each in model.opset_import}
        self.opsets.setdefault("", 1)
        self.scope = Scope()
        self.left_out: list[tuple[LeftOut, list[Constant]]] = []
        """Bodies, each with the constants that it uses."""
        self.problems: list[str] = []
        self.assumptions: list[str] = []
        self.stored: dict[str, Constant] = {}
        """Tensors of the file, those of bodies as well."""
        self.closed: list[Any] = []
        """Operations whose bodies stay closed: what they make depends on the samples."""
        self.small_inputs = set(small_inputs)
        """Inputs of the graph of one element, whose value can be given."""
        self.second_runs = SECOND_RUNS
        """Bodies of loops through which one may still go again."""
        self.examples: dict[str, float] = {}
        """Values with which the graph compares an input."""
        self._put_instead = put
        """Gives what stands in the place of a tensor of the file, by its name."""
        self._file = file
        self._model = model
        self._uses = Counter(uses(model.graph))
        self._computed: set[str] = set()
        self._said = _said_by(model.graph)
        self._dequantized: dict[str, Any] = {}
        self._same: dict[str, str] = {}
        """Constants that an Identity of the graph gives another name, and their own."""
        self._budget = max(LEAST_BYTES, TIMES * stored_bytes)
        self._evaluators: dict[bytes, Any] = {}

    def nodes(self) -> list[Any]:
        """Go through the graph; return the operations that are left."""
        graph = self._model.graph
        self.hold_all(graph, self.scope)
        kept = self.through(graph.node, self.scope)
        wanted = {value.name for value in graph.output}
        left = deque[Any]()
        for node in reversed(kept):
            # Integers that were turned leave the operation behind that dequantised them as they were.
            if next(iter(node.output), "") not in self._dequantized or wanted.intersection(node.output):
                wanted.update(node.input)
                left.appendleft(node)
        return list(left)

    def hold_all(self, graph: Any, scope: Scope, names: dict[str, str] | None = None) -> None:
        """Keep the tensors of a graph."""
        tensors = [(tensor.name, constants.of_tensor(tensor, self._file)) for tensor in graph.initializer]
        tensors += [
            (sparse.values.name, constants.of_sparse(sparse, self._file)) for sparse in graph.sparse_initializer
        ]
        for name, constant in tensors:
            self._hold_stored((names or {}).get(name, name), constant, scope)

    def _hold_stored(self, name: str, constant: Constant, scope: Scope) -> None:
        """Keep a tensor of the file; two bodies may call different ones alike."""
        key, number = constant.name, 1
        while key in self.stored:
            number += 1
            key = f"{constant.name}.{number}"
        constant = replace(constant, made_of=frozenset((key,)))
        self.stored[key] = constant if self._put_instead is None else self._put_instead(key, constant)
        scope.hold(name, self.stored[key])

    def through(self, nodes: Iterable[Any], scope: Scope) -> list[Any]:
        """Go through operations in order; return those that are left."""
        pending: deque[Any] = deque(in_order(nodes, scope.types))
        kept: list[Any] = []
        while pending:
            node = pending.popleft()
            try:
                instead = self._take(node, scope, kept)
            except InputError:
                raise
            except Exception as error:
                # Of many types, from nodes that lack inputs, outputs or attributes of their operation.
                said = f"is not a complete {node.op_type}: {reason_of(error)}; export it again"
                self.problems.append(f"{place_of(node)}: {said}")
            else:
                pending.extendleft(reversed(instead))
        return kept

    def _take(self, node: Any, scope: Scope, kept: list[Any]) -> Sequence[Any]:
        """Go through one operation, which is kept if it is left; return those that stand in its place."""
        standard = node.domain in STANDARD
        if not any(node.output):
            raise ValueError("it has no output")
        for place, name in enumerate(node.input):
            node.input[place] = self._same.get(name, name)
        if standard and node.op_type == "Constant":
            self.hold_constant(node, scope)
            return ()
        missing = [name for name in node.input if name and name not in scope.types]
        if missing:
            self.problems.append(
                f"{place_of(node)}: nothing makes its input '{missing[0]}' before it; export the model again"
            )
            self._put(node, scope, {}, "lacks an input")
            return ()
        if standard and node.op_type in bodies.READ:
            entered = bodies.READ[node.op_type](self, node, scope)
            if scope is self.scope and isinstance(entered, tuple):  # a branch that is entered is a list
                self.closed.append(node)
            return entered
        types, failed = self._inferred(node, scope)
        if standard and self._fold(node, scope, types):
            return ()
        instead = self._integers_first(node, scope) if standard else None
        if instead is not None:
            return (instead,)
        self._put(node, scope, types, failed)
        kept.append(node)
        return ()

    def hold_constant(self, node: Any, scope: Scope) -> None:
        """Keep what a Constant holds."""
        name = node.output[0]
        for attribute in node.attribute:
            kind = attribute.name
            if kind == "value":
                self._hold_stored(name, constants.of_tensor(attribute.t, self._file, name), scope)
            elif kind == "sparse_value":
                self._hold_stored(name, constants.of_sparse(attribute.sparse_tensor, self._file, name), scope)
            elif kind in ("value_float", "value_floats"):
                values = attribute.f if kind == "value_float" else list(attribute.floats)
                self._hold_stored(name, constants.of_array(np.array(values, np.float32), name), scope)
            elif kind in ("value_int", "value_ints"):
                values = attribute.i if kind == "value_int" else list(attribute.ints)
                self._hold_stored(name, constants.of_array(np.array(values, np.int64), name), scope)
            else:
                scope.put(name, tensor_type(onnx.TensorProto.STRING, None), why_open=f"'{name}' is text")

    def _inferred(self, node: Any, scope: Scope) -> tuple[dict[str, Any], str]:
        """Return the types of an operation's outputs, and why they are not known."""
        made = result_of(node, scope)
        node, types = stand_in(node, scope)
        if types is not None:
            return types, ""
        domain = "" if node.domain in STANDARD else node.domain
        if not defs.has(node.op_type, domain):
            said = {name: self._said[name] for name in node.output if name in self._said}
            return said, f"the shapes that {domain or 'ONNX'}'s {node.op_type} makes are not known"
        if not _is_sane(node, scope):
            return {}, "its attributes do not fit its inputs and outputs"
        try:
            schema = defs.get_schema(node.op_type, self.opsets.get(domain, 1), domain)
            inputs = {name: scope.types[name] for name in node.input if name}
            if made is not None:
                inputs = {name: tensor_type(0, scope.shapes.get(name)) for name in inputs}
            data = {
                name: numpy_helper.from_array(scope.constants[name].read(), name)
                for name in inputs
                if made is None and name in scope.constants and scope.constants[name].size <= SEEN
            }
            opsets = [onnx.helper.make_opsetid(*each) for each in self.opsets.items()]
            types = onnx.shape_inference.infer_node_outputs(schema, node, inputs, data, opset_imports=opsets)
            for each in types.values() if made is not None else ():
                each.tensor_type.elem_type = made
            return types, ""
        except Exception as error:
            # Of many types; a node that does not fit its own operation, or sizes that do not fit each other.
            return {}, reason_of(error)

    def _put(self, node: Any, scope: Scope, types: dict[str, Any], failed: str) -> None:
        """Keep the types of an operation's outputs, and from what they follow."""
        follows = frozenset[str]().union(*(scope.follows.get(name, frozenset()) for name in node.input))
        given = next((scope.open[name] for name in node.input if name in scope.open), None)
        why = given or f"{place_of(node)} ({node.op_type}): {failed or self._depends(follows)}"
        for name in node.output:
            if name:
                scope.put(name, types.get(name, tensor_type(0, None)), follows, why)
        if node.op_type == "Equal" and len(follows) == 1:
            known = [scope.constants[name] for name in node.input if name in scope.constants]
            if known and known[0].size == 1 and known[0].dtype.kind in "fiub":
                self.examples.setdefault(next(iter(follows)), float(known[0].read().reshape(-1)[0]))
        if node.op_type == "DequantizeLinear" and all(name in scope.constants for name in node.input if name):
            self._dequantized[node.output[0]] = node

    def _depends(self, follows: frozenset[str]) -> str:
        """Say why a shape is not known that depends on these inputs of the graph."""
        if follows and follows <= self.small_inputs:
            return f"its size depends on the value of an input: give it, such as {self.typed(follows)}"
        return "its size depends on what it computes"

    def typed(self, follows: Iterable[str]) -> str:
        """Return what to type for the values of inputs."""
        return " ".join(f"--input-value {name}={self.examples.get(name, 1):g}" for name in sorted(follows))

    def _fold(self, node: Any, scope: Scope, types: dict[str, Any]) -> bool:
        """Compute an operation of constants, if it is one and no more than is sensible; return whether it is done."""
        if node.op_type in ("Shape", "Size") and node.input and node.input[0] in scope.shapes:
            shape = scope.shapes[node.input[0]]
            if node.op_type == "Shape":
                end = number_of(node, "end", len(shape))
                array = np.array(shape[number_of(node, "start", 0) : end], np.int64)
            else:
                array = np.array(np.prod(shape, dtype=np.int64))
            self._made(node, scope, [array], [])
            return True
        names = [name for name in node.input if name]
        if not names or any(name not in scope.constants for name in names) or next(graphs_of(node), None):
            return False
        inputs = [scope.constants[name] for name in names]
        if node.op_type == "Identity" and scope is self.scope:
            scope.hold(node.output[0], inputs[0])
            self._same[node.output[0]] = names[0]
            self._uses[names[0]] += self._uses[node.output[0]]
            return True
        if node.op_type in KEPT or not self._is_bearable(node, scope, inputs, types):
            return False
        try:
            arrays = [each.read() for each in inputs]
        except InputError as error:
            self.problems += error.problems
            return False
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                results = self._evaluated(node, arrays)
        except Exception as error:
            # Anything that NumPy or ONNX raises on what does not fit.
            self.assumptions.append(
                f"{place_of(node)} ({node.op_type}) of constants was not computed beforehand "
                f"({reason_of(error)}); what it makes counts as computed from the input"
            )
            return False
        if not all(isinstance(each, np.ndarray | np.generic) for each in results if each is not None):
            return False
        self._made(node, scope, results, inputs, types)
        for name in names if scope is self.scope else ():
            self._uses[name] -= 1
            if not self._uses[name] and name in self._computed:
                del scope.constants[name]
        return True

    def _evaluated(self, node: Any, arrays: Sequence[Array]) -> list[Any]:
        """Return what an operation makes of arrays; raises whatever ONNX's evaluation does."""
        alike = onnx.NodeProto(op_type=node.op_type, attribute=node.attribute)
        alike.input[:] = [name and f"x{place}" for place, name in enumerate(node.input)]
        alike.output[:] = [name and f"y{place}" for place, name in enumerate(node.output)]
        key = alike.SerializeToString()
        if key not in self._evaluators:
            opsets = [onnx.helper.make_opsetid("", self.opsets[""])]
            names = [[name for name in each if name] for each in (alike.input, alike.output)]
            function = onnx.helper.make_function("fold", "fold", *names, [alike], opsets)
            self._evaluators[key] = ReferenceEvaluator(function)
        evaluator = self._evaluators[key]
        results = evaluator.run(None, dict(zip(evaluator.input_names, arrays, strict=True)), {})
        made = dict(zip(evaluator.output_names, results, strict=True))
        return [made.get(name) for name in alike.output]

    def _is_bearable(self, node: Any, scope: Scope, inputs: Sequence[Constant], types: dict[str, Any]) -> bool:
        """Return whether an operation of constants takes little time and memory."""
        elements = sum(each.size for each in inputs)
        known = {name: shape for name, kind in types.items() if (shape := shape_of(kind)) is not None}
        if any(name not in known for name in node.output if name):
            return elements <= FEW and node.op_type not in GROWING
        if node.op_type in SLOW and elements + sum(map(math.prod, known.values())) > FEW:
            return False
        shapes: Mapping[str, Sequence[int]] = ChainMap[str, Any](known, scope.shapes)
        products = macs_of(node, shapes, scope.constants)
        if products is None or products > MAX_PRODUCTS:
            return False
        self._budget -= sum(8 * math.prod(shape) for shape in known.values())
        return self._budget >= 0

    def _made(
        self,
        node: Any,
        scope: Scope,
        arrays: Sequence[Array | None],
        inputs: Sequence[Constant],
        types: dict[str, Any] | None = None,
    ) -> None:
        """Keep what was computed."""
        made_of = frozenset[str]().union(*(each.made_of for each in inputs))
        for name, array in zip(node.output, arrays, strict=False):
            if name and array is not None:
                kind = types[name].tensor_type.elem_type if types and name in types else None
                called = constants.name_of_product(inputs, np.size(array), name)
                scope.hold(name, constants.of_array(np.asarray(array), called, made_of, kind or None))
                self._computed.add(name)

    def _integers_first(self, node: Any, scope: Scope) -> Any | None:
        """Return a DequantizeLinear of turned integers in place of an operation that turns what one makes."""
        source = self._dequantized.get(node.input[0]) if node.input and node.op_type in AROUND else None
        if source is None or any(name not in scope.constants for name in node.input[1:] if name):
            return None
        weight, scale, *zero = source.input
        dims = scope.constants[weight].dims
        whole = scope.constants[scale].size == 1
        if not whole and node.op_type not in ("Transpose", "Identity"):
            return None
        order = numbers_of(node, "perm", range(len(dims))[::-1]) if node.op_type == "Transpose" else range(len(dims))
        copy = onnx.NodeProto()
        copy.CopyFrom(source)
        copy.output[0] = node.output[0]
        for place, name in enumerate((weight, scale, *zero)):
            if not name or len(scope.constants[name].dims) != len(dims) or (place and whole):
                continue
            turn = onnx.NodeProto()
            turn.CopyFrom(node)
            turn.input[0], turn.output[0] = name, f"{node.output[0]}.{place}"
            if not self._fold(turn, scope, self._inferred(turn, scope)[0]):
                return None
            copy.input[place] = turn.output[0]
        if not whole and len(dims):
            axis = number_of(source, "axis", 1) % len(dims)
            del copy.attribute[:]
            copy.attribute.extend(each for each in source.attribute if each.name != "axis")
            copy.attribute.append(onnx.helper.make_attribute("axis", list(order).index(axis)))
        return copy


def _said_by(graph: Any) -> dict[str, Any]:
    """Return the types that a file says of its values, if all its inputs are of one size: else others may be given."""
    dims = [dim for value in graph.input for dim in value.type.tensor_type.shape.dim]
    is_fixed = all(dim.dim_value > 0 for dim in dims)
    return {value.name: value.type for value in (*graph.value_info, *graph.output) if is_fixed}


def _is_sane(node: Any, scope: Scope) -> bool:
    """Return whether ONNX's inference bears an operation: it makes room for any number of outputs, takes any axis."""
    rank = len(scope.shapes.get(node.input[0], range(MAX_RANK))) if node.input else MAX_RANK
    axes = [number_of(node, "axis", 0), *numbers_of(node, "axes", ())]
    return number_of(node, "num_outputs", len(node.output)) == len(node.output) and all(
        -rank - 1 <= axis <= rank + 1 for axis in axes
    )
