"""Networks from ONNX files: weights and geometry, without activations."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from accelsim.errors import InputError, collecting, did_you_mean, raise_if_any
from accelsim.network.layer import Layer
from accelsim.network.left_out import LeftOut
from accelsim.network.network import Network
from accelsim.network.reading import Reading

Array = NDArray[Any]

MAX_BYTES = 2**31 - 1
"""Of one protobuf message; larger models keep their weights beside it."""


def read(path: Path, reading: Reading) -> Network:
    """Return the layers of an ONNX file in its order: Conv (1-D as of height 1), Gemm, MatMul, LSTM, GRU and RNN.

    Their weights must be constants, and the sizes of their inputs follow from the file (a batch that is left open
    counts as one sample). A layer is called as its weight, if that is called `layer.weight`, else as its node. A vector
    that is added to a MatMul is its bias. Padding that differs between the sides is part of the input. Activations are
    not in the file. All other operations stand in `not_simulated`, those with weights by name. Weights beside the file
    are mapped.
    Raises InputError with every problem: a file that is damaged, sizes that are left open, weights that are not there.
    """
    graph = _Graph(path, _model(path))
    raise_if_any(f"{path}: {problem}" for problem in dict.fromkeys(graph.problems))
    if not graph.layers:
        raise InputError(f"{path}: has no Conv, Gemm, MatMul, LSTM, GRU or RNN with constant weights")
    return Network(graph.name or path.stem, graph.layers, source=path.name, not_simulated=graph.others)


def _model(path: Path) -> Any:
    """Return the parsed file with the shapes of all values; raises InputError."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"is larger than {MAX_BYTES} bytes, which no protobuf message is")
        model = onnx.load_model_from_string(path.read_bytes())
        if not model.opset_import or not model.graph.node:
            raise ValueError("it has no operations")
        for value in model.graph.input:
            dims = value.type.tensor_type.shape.dim
            if dims and not dims[0].dim_value:
                dims[0].dim_value = 1  # a batch of any size: one sample
        return onnx.shape_inference.infer_shapes(model, data_prop=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except Exception as error:
        # protobuf and ONNX raise a dozen types on damaged files, and more with each version.
        raise InputError(f"{path}: not a whole ONNX file: {error}; export or copy it again") from None


class _Graph:
    """The layers of a graph, what is not one, and what is wrong."""

    def __init__(self, path: Path, model: Any) -> None:
        graph = model.graph
        self.name = graph.name
        self.layers: list[Layer] = []
        self.others: list[LeftOut] = []
        self.problems: list[str] = []
        self._path = path
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute and node.attribute[0].HasField("t"):
                self._constants[node.output[0]] = node.attribute[0].t
        self._shapes = {
            value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
            for value in (*graph.input, *graph.value_info, *graph.output)
            if value.type.tensor_type.HasField("shape")
        }
        inputs = [value.name for value in graph.input if value.name not in self._constants]
        self._batch = next((self._shapes[name][0] for name in inputs if self._shapes.get(name)), 1)
        self._users: dict[str, list[Any]] = {}
        for node in graph.node:
            for name in node.input:
                self._users.setdefault(name, []).append(node)
        self._taken: set[str] = set()
        read = {"Conv": self._conv, "Gemm": self._gemm, "MatMul": self._matmul}
        read |= dict.fromkeys(("LSTM", "GRU", "RNN"), self._recurrent)
        for node in graph.node:
            if node.op_type in read and node.domain in ("", "ai.onnx"):
                with collecting(self.problems):
                    self._take(read[node.op_type], node)
            elif node.op_type != "Constant":
                held = sum(
                    math.prod(self._constants[name].dims)
                    for name in node.input
                    if name in self._constants and len(self._constants[name].dims) >= 2
                )
                self.others.append(
                    LeftOut(self._place(node), node.op_type, held, None) if held else LeftOut(node.op_type)
                )

    def _take(self, read: Callable[[Any, dict[str, Any]], None], node: Any) -> None:
        """Read a node; raises InputError for one whose inputs or attributes are not those of its operation."""
        try:
            read(node, {each.name: each for each in node.attribute})
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                f"{self._place(node)}: is no whole {node.op_type}: {error}; export the model again"
            ) from None

    def _place(self, node: Any) -> str:
        """Return what messages call a node."""
        return str(node.name or node.output[0])

    def _name(self, node: Any, *tensors: str) -> str:
        """Return the name of a layer, used by no other: from its weight or bias, else that of its node."""
        ends = [tensor.rpartition(".") for tensor in tensors]
        name = next((stem for stem, _, end in ends if end in ("weight", "bias") and stem), self._place(node))
        unique, number = name, 1
        while unique in self._taken:
            number += 1
            unique = f"{name}.call{number}"
        self._taken.add(unique)
        return unique

    def _shape(self, node: Any, value: str) -> list[int]:
        """Return the shape of a value; raises InputError where the file leaves it open."""
        shape = list(self._constants[value].dims) if value in self._constants else self._shapes.get(value)
        if not shape or 0 in shape:
            raise InputError(
                f"{self._place(node)}: the size of its input '{value}' is left open ({shape}); "
                "export the model with fixed sizes, all but the batch"
            )
        return shape

    def _array(self, value: str) -> Array:
        """Return a constant; raises InputError where it is not as large as it says."""
        tensor = self._constants[value]
        try:
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                return self._mapped(tensor)
            return np.asarray(numpy_helper.to_array(tensor))
        except InputError:
            raise
        except Exception as error:
            raise InputError(f"'{value}': cannot be read: {error}; export the model again") from None

    def _mapped(self, tensor: Any) -> Array:
        """Return a constant that lies in a file beside this one."""
        said = {entry.key: entry.value for entry in tensor.external_data}
        name, dtype = said.get("location", ""), onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        file = self._path.parent / name
        if Path(name).name != name or not file.is_file():
            near = did_you_mean(name, [each.name for each in self._path.parent.iterdir()])
            raise InputError(
                f"'{tensor.name}': its data is said to be in '{name}', which is no file beside the model"
                f"{near if 'mean' in near else ''}; copy that file too, or save the model as one file"
            )
        shape, offset = tuple(tensor.dims), int(said.get("offset", 0))
        size = math.prod(shape) * dtype.itemsize
        if min(shape, default=1) < 1 or offset < 0 or offset + size > file.stat().st_size:
            raise InputError(
                f"'{tensor.name}': of shape {shape} and type {dtype} needs {size} bytes from {offset} on of '{name}', "
                f"which has {file.stat().st_size}; export the model again"
            )
        return np.memmap(file, dtype, "r", offset=offset, shape=shape)

    def _tokens(self, vectors: int) -> int:
        """Return the vectors of one sample."""
        return vectors if vectors % self._batch else vectors // self._batch

    def _without_weights(self, node: Any) -> None:
        self.others.append(LeftOut(self._place(node), f"{node.op_type} of activations", macs=None))

    def _conv(self, node: Any, attributes: dict[str, Any]) -> None:
        data, kernel, *bias = node.input
        if kernel not in self._constants:
            self._without_weights(node)
            return
        weight, shape = self._array(kernel), self._shape(node, data)
        dims = weight.ndim - 2
        if dims not in (1, 2) or len(shape) != dims + 2:
            self.others.append(LeftOut(self._place(node), f"Conv of {dims} dimensions", weight.size, None))
            return

        def numbers(key: str, default: int, count: int = dims) -> list[int]:
            return list(attributes[key].ints) if key in attributes else [default] * count

        stride, dilation, pads = numbers("strides", 1), numbers("dilations", 1), numbers("pads", 0, 2 * dims)
        automatic = attributes["auto_pad"].s.decode() if "auto_pad" in attributes else "NOTSET"
        if automatic.startswith("SAME"):
            # As many outputs as inputs / stride, rounded up.
            extra = [
                max(0, (-(-size // step) - 1) * step + rate * (side - 1) + 1 - size)
                for size, step, rate, side in zip(shape[2:], stride, dilation, weight.shape[2:], strict=True)
            ]
            pads = [each // 2 for each in extra] + [each - each // 2 for each in extra]
        before, after = pads[:dims], pads[dims:]
        size = shape[2:]
        if before != after:
            size, before = [sum(each) for each in zip(size, before, after, strict=True)], [0] * dims
        flat = dims == 1
        self.layers.append(
            Layer.conv2d(
                self._name(node, kernel),
                weight[:, :, None] if flat else weight,
                self._array(bias[0]) if bias and bias[0] in self._constants else None,
                input_hw=[1, *size] if flat else size,
                stride=[1, *stride] if flat else stride,
                padding=[0, *before] if flat else before,
                dilation=[1, *dilation] if flat else dilation,
                groups=attributes["group"].i if "group" in attributes else 1,
            )
        )

    def _gemm(self, node: Any, attributes: dict[str, Any]) -> None:
        data, other, *bias = node.input
        if other not in self._constants or len(self._constants[other].dims) != 2:
            self._without_weights(node)
            return
        values = {key: attributes[key].i for key in ("transA", "transB") if key in attributes}
        scales = {key: attributes[key].f for key in ("alpha", "beta") if key in attributes}
        weight = self._array(other) if values.get("transB") else self._array(other).T
        offset = self._array(bias[0]).reshape(-1) if bias and bias[0] in self._constants else None
        vectors = self._shape(node, data)[1 if values.get("transA") else 0]
        self._linear(
            self._name(node, other),
            weight if scales.get("alpha", 1.0) == 1.0 else weight * scales["alpha"],
            offset if offset is None or scales.get("beta", 1.0) == 1.0 else offset * scales["beta"],
            self._tokens(vectors),
        )

    def _matmul(self, node: Any, attributes: dict[str, Any]) -> None:
        constant = [len(self._constants[name].dims) == 2 if name in self._constants else False for name in node.input]
        if constant == [False, True]:
            weight, shape = self._array(node.input[1]).T, self._shape(node, node.input[0])
            vectors = math.prod(shape[:-1])
        elif constant == [True, False]:
            weight, shape = self._array(node.input[0]), self._shape(node, node.input[1])
            vectors = math.prod(shape) // shape[max(0, len(shape) - 2)]
        else:
            self._without_weights(node)
            return
        added = [
            name
            for user in self._users.get(node.output[0], ())
            if user.op_type == "Add" and constant[1]
            for name in user.input
            if name in self._constants and list(self._constants[name].dims) == [len(weight)]
        ]
        bias = self._array(added[0]) if added else None
        self._linear(self._name(node, *node.input, *added), weight, bias, self._tokens(vectors))

    def _recurrent(self, node: Any, attributes: dict[str, Any]) -> None:
        """Take the weights of inputs (directions, gates x hidden, inputs) and states as a layer each."""
        data, inputs, states, *bias = node.input
        if inputs not in self._constants or states not in self._constants:
            self._without_weights(node)
            return
        shape = self._shape(node, data)
        layout = attributes["layout"].i if "layout" in attributes else 0
        if len(shape) != 3 or any(len(self._constants[name].dims) != 3 for name in (inputs, states)):
            raise InputError(f"{self._place(node)}: needs inputs and weights of 3 dimensions; export the model again")
        length, name = shape[1] if layout else shape[0], self._name(node)
        offsets = self._array(bias[0]) if bias and bias[0] in self._constants else None
        for direction, (w, r) in enumerate(zip(self._array(inputs), self._array(states), strict=True)):
            both: Sequence[Any] = (None, None) if offsets is None else np.split(offsets[direction], 2)
            end = "_reverse" if direction else ""
            self._linear(f"{name}.ih{end}", w, both[0], length)
            self._linear(f"{name}.hh{end}", r, both[1], 1, length)

    def _linear(self, name: str, weight: Array, bias: Array | None, tokens: int, steps: int = 1) -> None:
        self.layers.append(Layer.linear(name, np.ascontiguousarray(weight), bias, tokens=int(tokens), steps=int(steps)))
