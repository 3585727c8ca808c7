"""Multiply-accumulates of an ONNX file, counted from what ONNX Runtime ran: another way than the package's own.

The session optimises nothing and writes a profile, in which every kernel that ran stands with the shapes of its inputs
and outputs; loops and branches stand there as often as they ran. Nothing of `accelsim` is used.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

Shapes = list[list[int]]


def macs_that_ran(path: Path, shapes: Mapping[str, tuple[int, ...]] = {}, values: Mapping[str, float] = {}) -> int:
    """Run a file once with zeros of these shapes and return all multiply-accumulates of its kernels.

    Sizes that are open and not given are 1; `values`: of inputs that are not zero.
    """
    import onnx

    model = onnx.load(path, load_external_data=False)
    return sum(macs for _, _, macs in kernels_that_ran(path, model, shapes, values))


def kernels_that_ran(
    path: Path, model: Any, shapes: Mapping[str, tuple[int, ...]], values: Mapping[str, float]
) -> list[tuple[str, str, int]]:
    """Return name, operation and multiply-accumulates of each kernel that multiplies matrices, in the order run."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_profiling = True
    options.add_session_config_entry("session.disable_prepacking", "1")  # packed weights are not in the profile
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    with TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder, "profile"))
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        feeds = {}
        for each in session.get_inputs():
            shape = shapes.get(each.name, tuple(size if isinstance(size, int) else 1 for size in each.shape))
            feeds[each.name] = np.full(shape, values.get(each.name, 0)).astype(TYPES[each.type])
        session.run(None, feeds)
        events = json.loads(Path(session.end_profiling()).read_text())
    equations = dict(_equations(model.graph))
    ran = []
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            name, kind = event["name"].removesuffix("_kernel_time"), event["args"]["op_name"]
            if kind in COUNTS:
                inputs, outputs = (_shapes(event["args"][key]) for key in ("input_type_shape", "output_type_shape"))
                ran.append((name, kind, COUNTS[kind](inputs, outputs)))
            elif kind == "Einsum":
                ran.append((name, kind, _einsum(equations[name], _shapes(event["args"]["input_type_shape"]))))
    return ran


TYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
}


def _shapes(said: list[dict[str, list[int]]]) -> Shapes:
    """Return the shapes in the order of the inputs or outputs that are there."""
    return [next(iter(each.values())) for each in said]


def _equations(graph: Any) -> list[tuple[str, str]]:
    """Return the equation of each Einsum by the name of its node, those in bodies as well."""
    found = []
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Einsum" and attribute.name == "equation":
                found.append((node.name, attribute.s.decode()))
            if attribute.HasField("g"):
                found += _equations(attribute.g)
    return found


def _einsum(equation: str, inputs: Shapes) -> int:
    """Every combination of all letters is one multiply-accumulate."""
    terms = equation.replace(" ", "").split("->")[0].split(",")
    sizes = {
        letter: size
        for term, shape in zip(terms, inputs, strict=True)
        for letter, size in zip(term, shape, strict=True)
    }
    return math.prod(sizes.values()) if len(terms) > 1 else 0


def _convolution(weight: int) -> Any:
    """Every output takes one product with each weight of its channel, (out, in / groups, *kernel)."""
    return lambda inputs, outputs: math.prod(outputs[0]) * math.prod(inputs[weight][1:])


def _product(inputs: Shapes, outputs: Shapes) -> int:
    """Every output sums over the last dimension of the first matrix."""
    return math.prod(outputs[0]) * inputs[0][-1]


def _gemm(inputs: Shapes, outputs: Shapes) -> int:
    """Every output (m, n) sums over the elements of the first matrix, m x k or k x m, that a row has."""
    return math.prod(inputs[0]) // outputs[0][0] * math.prod(outputs[0])


def _recurrent(inputs: Shapes, outputs: Shapes) -> int:
    """Every step of every sequence takes all weights of both kinds once, of both directions."""
    return math.prod(inputs[0][:2]) * (math.prod(inputs[1]) + math.prod(inputs[2]))


COUNTS = {
    "Conv": _convolution(1),
    "FusedConv": _convolution(1),
    "ConvInteger": _convolution(1),
    "QLinearConv": _convolution(3),
    # Every input takes one product with each weight of its channel, (in, out / groups, *kernel).
    "ConvTranspose": lambda inputs, outputs: math.prod(inputs[0]) * math.prod(inputs[1][1:]),
    "Gemm": _gemm,
    "QGemm": _gemm,
    "MatMul": _product,
    "MatMulInteger": _product,
    "QLinearMatMul": _product,
    "MatMulNBits": _product,
    "DynamicQuantizeMatMul": _product,
    "MatMulIntegerToFloat": _product,
    "LSTM": _recurrent,
    "GRU": _recurrent,
    "RNN": _recurrent,
}
