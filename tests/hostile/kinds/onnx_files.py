"""ONNX: graphs with other nodes, attributes, shapes, initializers and places of weights; and changed bytes."""

from __future__ import annotations

import functools
from pathlib import Path
from random import Random
from typing import Any

from hostile import mutations
from hostile.reading import arguments

NEEDS = ("onnx",)
OPERATORS = (
    "Conv", "Gemm", "MatMul", "Relu", "Add", "Reshape", "Transpose", "Flatten", "LSTM", "GRU", "QLinearConv", "If",
    "Loop", "Scan", "Identity", "Constant", "Shape", "Gather", "Concat", "Split", "Pad", "MaxPool", "Softmax", "Slice",
    "BatchNormalization", "DequantizeLinear", "QuantizeLinear", "Einsum", "ConstantOfShape", "Expand", "Tile", "Range",
    "ConvTranspose", "Where", "Cast", "Unsqueeze", "Squeeze", "LayerNormalization", "Mod", "Resize", "NonZero",
    "Nope", "",
)  # fmt: skip
SIZES = (0, 1, -1, 2, 3, 5, 1000, 10**6, 2**31, 2**40, 2**62, 2**63 - 1, -(2**63))


@functools.cache
def _bases() -> list[bytes]:
    paths = [*mutations.CASES.glob("*.onnx"), *mutations.CASES.glob("ext/*.onnx")]
    return [path.read_bytes() for path in sorted(paths)]


def make(draw: Random, folder: Path) -> list[str]:
    """Make a graph of one of the whole ones."""
    import onnx

    whole = draw.choice(_bases())
    if draw.random() < 0.88:
        model = onnx.load_model_from_string(whole)
        for _ in range(draw.choice((1, 1, 2, 3, 5))):
            _change(draw, model)
        whole = model.SerializeToString()
    else:
        whole = mutations.content(draw, whole)
    (folder / "net.onnx").write_bytes(whole)
    (folder / "weights").mkdir()
    (folder / "weights" / "fc.bin").write_bytes((mutations.CASES / "ext" / "weights" / "fc.bin").read_bytes())
    found = arguments(draw, "net.onnx")
    if draw.random() < 0.1:
        found += [
            "--input-shape",
            draw.choice(("x=1,3,8,8", "x=0", "batch=1", "seq_len=100000000")),
        ]
    return found


def _change(draw: Random, model: Any) -> None:
    graph = model.graph
    pick = draw.random()
    if pick < 0.45 and graph.node:
        _node(draw, graph, draw.choice(graph.node))
    elif pick < 0.75 and graph.initializer:
        _tensor(draw, draw.choice(graph.initializer))
    elif pick < 0.93:
        values = [*graph.input, *graph.output, *graph.value_info]
        if values:
            _value(draw, draw.choice(values))
    elif pick < 0.95 and graph.node:
        graph.node.extend([draw.choice(graph.node)])
    elif pick < 0.97 and model.opset_import:
        model.opset_import[0].version = draw.choice((0, 1, 7, 11, 13, 17, 99, -1, 2**62))
    elif pick < 0.98:
        model.metadata_props.add(key=draw.choice(("accelsim.of", "a")), value=_text(draw))
    elif graph.node:
        del graph.node[draw.randrange(len(graph.node))]


def _text(draw: Random) -> str:
    return str(draw.choice(mutations.TEXTS)).replace("\ud800", "?")


def _node(draw: Random, graph: Any, node: Any) -> None:
    pick = draw.random()
    if pick < 0.2:
        node.op_type = draw.choice(OPERATORS)
    elif pick < 0.4 and node.input:
        made = (name for each in graph.node for name in each.output)
        node.input[draw.randrange(len(node.input))] = draw.choice(
            [*(each.name for each in graph.initializer), *made, ""]
        )
    elif pick < 0.5 and node.output:
        del node.output[draw.randrange(len(node.output))]
    elif pick < 0.55 and node.input:
        del node.input[draw.randrange(len(node.input))]
    elif pick < 0.6:
        (node.output if draw.random() < 0.5 else node.input).append(_text(draw))
    elif pick < 0.65:
        node.domain = draw.choice(("com.microsoft", "ai.onnx.ml", "", "x"))
    elif pick < 0.7:
        node.name = _text(draw)
    elif pick < 0.75 or not node.attribute:
        made = node.attribute.add(name=draw.choice(("axis", "kernel_shape", "strides", "pads", "group", "perm", "to")))
        made.type = 7
        made.ints.extend(draw.choice(SIZES) for _ in range(draw.randrange(5)))
    else:
        attribute = draw.choice(node.attribute)
        if attribute.ints and draw.random() < 0.7:
            attribute.ints[draw.randrange(len(attribute.ints))] = draw.choice(SIZES)
        elif attribute.type == 2:
            attribute.i = draw.choice(SIZES)
        elif attribute.type == 4:
            _tensor(draw, attribute.t)
        elif draw.random() < 0.3:
            attribute.type = draw.randrange(15)
        else:
            node.attribute.remove(attribute)


def _tensor(draw: Random, tensor: Any) -> None:
    pick = draw.random()
    if pick < 0.35 and tensor.dims:
        tensor.dims[draw.randrange(len(tensor.dims))] = draw.choice(SIZES)
    elif pick < 0.45:
        del tensor.dims[:]
        tensor.dims.extend(draw.choice(((0,), (0, 3), (3, 0), (), (1,) * 20, (2, 2), (2**32, 2**32))))
        if draw.random() < 0.7:
            tensor.ClearField("raw_data")
    elif pick < 0.6:
        tensor.data_type = draw.choice((0, 1, 2, 3, 6, 7, 8, 9, 10, 11, 14, 16, 17, 21, 22, 23, 99))
    elif pick < 0.75 and tensor.raw_data:
        tensor.raw_data = mutations.content(draw, tensor.raw_data)
    elif pick < 0.8:
        tensor.name = _text(draw)
    elif pick < 0.9:
        tensor.data_location = 1
        tensor.ClearField("raw_data")
        place = draw.choice(("weights/fc.bin", "/dev/zero", "/etc/passwd", "..", "", "nope.bin", "a" * 300, "\x1b"))
        del tensor.external_data[:]
        tensor.external_data.add(key="location", value=place)
        for key in ("offset", "length"):
            if draw.random() < 0.6:
                tensor.external_data.add(key=key, value=str(draw.choice((*SIZES, "x", "", 10**400))))
    else:
        tensor.float_data.extend([float("nan")] * draw.choice((1, 6, 100)))


def _value(draw: Random, held: Any) -> None:
    pick = draw.random()
    shape = held.type.tensor_type.shape
    if pick < 0.6 and shape.dim:
        dim = draw.choice(shape.dim)
        if draw.random() < 0.7:
            dim.dim_value = draw.choice(SIZES)
        else:
            dim.dim_param = draw.choice(("N", "", "\x1b[1m", "batch", "n" * 3000))
    elif pick < 0.75:
        shape.dim.add().dim_value = draw.choice(SIZES)
    elif pick < 0.85 and shape.dim:
        del shape.dim[draw.randrange(len(shape.dim))]
    elif pick < 0.95:
        held.type.tensor_type.elem_type = draw.randrange(30)
    else:
        held.name = _text(draw)
