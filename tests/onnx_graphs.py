"""Graphs of ONNX that tests make of nodes and arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

FLOAT, MICROSOFT = 1, "com.microsoft"


def model_of(
    nodes: list[Any], inputs: dict[str, np.ndarray], constants: dict[str, np.ndarray], outputs: tuple[str, ...] = ("y",)
) -> Any:
    """A graph of these nodes for inputs of the shapes and types of these arrays."""
    from onnx import helper, numpy_helper

    values = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(each.dtype), each.shape)
        for name, each in inputs.items()
    ]
    tensors = [numpy_helper.from_array(np.asarray(each), name) for name, each in constants.items()]
    given = [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs]
    graph = helper.make_graph(nodes, "net", values, given, tensors)
    domains = {"": 21, MICROSOFT: 1, "ai.onnx.ml": 3, "of.others": 1}
    opsets = [helper.make_opsetid(domain, version) for domain, version in domains.items()]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def reals(seed: int, *shape: int) -> np.ndarray:
    """Drawn numbers in float32."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def integers(seed: int, *shape: int, dtype: Any = np.float32, least: int = -5, most: int = 6) -> np.ndarray:
    """Drawn whole numbers from `least` up to, not including, `most`."""
    return np.random.default_rng(seed).integers(least, most, shape).astype(dtype)
