"""Small ONNX files that several tests write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def save_product(path: Path, name: str, shape: list[Any], outputs: int = 4) -> None:
    """Write a graph of one product, of an input of this name and shape and ones (the last of it, outputs)."""
    import onnx

    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("MatMul", [name, "w"], ["y"], name="fc")],
        "g",
        [helper.make_tensor_value_info(name, kind, shape)],
        [helper.make_tensor_value_info("y", kind, None)],
        [onnx.numpy_helper.from_array(np.ones((shape[-1], outputs), np.float32), "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
