"""Are the multiply-accumulates of an ONNX file those that ONNX Runtime ran, counted by other means?"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accelsim import InputError, Network, load_network

onnx = pytest.importorskip("onnx", reason="ONNX is not installed")
pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
from independent_macs import kernels_that_ran, macs_that_ran  # noqa: E402

CASES = Path(__file__).parent / "cases" / "files"
ASKED = ("if_subgraph.onnx", "sequence_first.onnx")
NOT_RUN = "w_bf16.onnx"
"""ONNX Runtime has no product of bfloat16 on a CPU."""

KINDS = re.compile(
    r"test_(basic_conv|conv_|convtranspose|convinteger|gemm|matmul|matmulinteger|qlinearconv|qlinearmatmul|lstm|gru|rnn|"
    r"simple_rnn|einsum)"
)
"""Tests of ONNX's backends whose operation multiplies matrices."""

NO_LAYER = ("test_convtranspose_3d",)
"""Of these, the tests whose operation no chip of this package can run."""


def whole(network: Network) -> int:
    """All multiply-accumulates of one sample; a test that meets an unknown number has nothing to compare."""
    assert not network.scope.unknown
    return network.scope.macs + network.scope.macs_left_out


@cache
def node_tests() -> dict[str, Any]:
    """ONNX's own tests of single operations by name: model and data."""
    from onnx.backend.test.loader import load_model_tests

    with np.errstate(all="ignore"):
        return {each.name: each for each in load_model_tests(kind="node") if KINDS.match(each.name)}


def with_weights(case: Any) -> tuple[Any, dict[str, tuple[int, ...]]]:
    """Return the model of a test with all its inputs but the first as constants, and the shape of the first."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    first, *others = zip(model.graph.input, case.data_sets[0][0], strict=False)
    for value, array in others:
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, value.name))
    return model, {first[0].name: first[1].shape}


def samples_of(node: Any, shape: tuple[int, ...]) -> int | None:
    """Samples that the first input of an operation holds by ONNX's definition of it; None: it has none."""
    if len(shape) < 2 or shape[0] == 1:
        return 1
    if "Conv" in node.op_type:
        return shape[0]
    if node.op_type in ("LSTM", "GRU", "RNN"):
        return shape[0 if any(each.name == "layout" and each.i for each in node.attribute) else 1]
    return None


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of ONNX's own test data
def test_every_operation_that_multiplies_matrices(tmp_path: Path) -> None:
    wrong, refused, asked, compared = [], [], [], []
    for name, case in node_tests().items():
        model, shapes = with_weights(case)
        path = tmp_path / f"{name}.onnx"
        onnx.save(model, path)
        try:
            ran = macs_that_ran(path, shapes)
        except Exception as error:
            # Of types that ONNX Runtime does not name; what it cannot run has no count to compare with.
            refused.append(f"{name}: {error}")
            continue
        ((first, shape),) = shapes.items()
        for told, samples in (({first: None}, 1), ({}, samples_of(case.model.graph.node[-1], shape))):
            try:
                network = load_network(path, batch_dims=told)
            except InputError as error:
                if samples is None and "which dimension of its inputs counts samples" in str(error):
                    asked.append(name)
                elif "has no Conv, Gemm" not in str(error) or (ran and name not in NO_LAYER):
                    wrong.append(str(error))
                continue
            compared.append(name)
            if whole(network) * (samples or 1) != ran:
                wrong.append(f"{name}: {whole(network)} of {samples} samples instead of {ran}, inputs {shapes}")
    assert not wrong
    assert len(refused) < 10, refused
    assert len(asked) > 20
    assert len(compared) > 100


@pytest.mark.parametrize(
    ("file", "said"),
    [
        *((path.name, {}) for path in sorted(CASES.glob("*.onnx")) if path.name not in (*ASKED, NOT_RUN)),
        ("ext/ext.onnx", {}),
        ("if_subgraph.onnx", {"input_values": {"c": 0}}),
        ("if_subgraph.onnx", {"input_values": {"c": 1}}),
        ("sequence_first.onnx", {"batch_dims": {"x": None}}),
    ],
)  # fmt: skip
def test_the_files_that_people_bring(tmp_path: Path, file: str, said: Mapping[str, Any]) -> None:
    path = CASES / file
    if file.startswith("w_"):
        # Their output says float32, which ONNX Runtime refuses to take from a product of half floats.
        model = onnx.load(path)
        model.graph.output[0].type.tensor_type.elem_type = model.graph.input[0].type.tensor_type.elem_type
        path = tmp_path / path.name
        onnx.save(model, path)
    assert whole(load_network(path, **said)) == macs_that_ran(path, values=said.get("input_values", {}))


REAL: dict[str, Any] = {
    "silero_vad/data/silero_vad.onnx": {
        "input_shapes": {"input": (1, 576), "state": (2, 1, 128)}, "input_values": {"sr": 16000}
    },
    "magika/models/standard_v3_3/model.onnx": {},
    "rapidocr/models/PP-OCRv6_det_small.onnx": {"input_shapes": {"x": (1, 3, 224, 224)}},
    "rapidocr/models/PP-OCRv6_rec_small.onnx": {"input_shapes": {"x": (1, 3, 48, 320)}},
    "rapidocr/models/ch_ppocr_mobile_v2.0_cls_mobile.onnx": {"input_shapes": {"x": (1, 3, 48, 192)}},
    "nudenet/320n.onnx": {"input_shapes": {"images": (1, 3, 320, 320)}},
    "basic_pitch/saved_models/icassp_2022/nmp.onnx": {},
}  # fmt: skip
"""Models that Python packages ship, and what their files leave open."""


def path_of(name: str) -> Path:
    """Return where a package keeps a file."""
    package, _, file = name.partition("/")
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0], file)


def models(names: Iterable[str]) -> list[Any]:
    """Return a case for each model, which needs the package that ships it."""
    return [pytest.param(name, marks=pytest.mark.needs(name.partition("/")[0])) for name in names]


@pytest.mark.parametrize("name", models(REAL))
def test_models_that_packages_ship(name: str) -> None:
    path, said = path_of(name), REAL[name]
    network = load_network(path, **said)
    assert whole(network) == macs_that_ran(path, said.get("input_shapes", {}), said.get("input_values", {}))


@pytest.mark.parametrize("name", models(name for name, said in REAL.items() if said))
def test_two_samples_are_twice_one(name: str) -> None:
    path, said = path_of(name), REAL[name]
    shapes = {
        key: (shape[0], 2, *shape[2:]) if key == "state" else (2, *shape[1:])
        for key, shape in said["input_shapes"].items()
    }
    two = load_network(path, **(said | {"input_shapes": shapes}))
    assert whole(two) == whole(load_network(path, **said))
    assert 2 * whole(two) == macs_that_ran(path, shapes, said.get("input_values", {}))


def test_the_count_itself(tmp_path: Path) -> None:
    """By hand: a convolution 3 -> 4 of 3 x 3 on 5 x 6 with padding, a product 120 -> 7, a loop of 3 products."""
    helper, FLOAT = onnx.helper, onnx.TensorProto.FLOAT
    weights = {"c": (4, 3, 3, 3), "w": (120, 7), "r": (7, 7)}
    body = helper.make_graph(
        [helper.make_node("MatMul", ["h", "r"], ["g"]), helper.make_node("Identity", ["on"], ["still"])],
        "body",
        [helper.make_tensor_value_info("i", onnx.TensorProto.INT64, []),
         helper.make_tensor_value_info("on", onnx.TensorProto.BOOL, []),
         helper.make_tensor_value_info("h", FLOAT, [1, 7])],
        [helper.make_tensor_value_info("still", onnx.TensorProto.BOOL, []),
         helper.make_tensor_value_info("g", FLOAT, [1, 7])],
    )  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "c"], ["a"], pads=[1, 1, 1, 1], name="conv"),
        helper.make_node("Flatten", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "w"], ["d"], name="fc"),
        helper.make_node("Loop", ["times", "", "d"], ["y"], body=body, name="loop"),
    ]
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("x", FLOAT, [1, 3, 5, 6])],
        [helper.make_tensor_value_info("y", FLOAT, [1, 7])],
        [onnx.numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in weights.items()]
        + [onnx.numpy_helper.from_array(np.array(3), "times")],
    )  # fmt: skip
    path = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    by_hand = [4 * 3 * 9 * 30, 120 * 7, 49, 49, 49]
    assert [macs for _, _, macs in kernels_that_ran(path, onnx.load(path), {}, {})] == by_hand
    network = load_network(path)
    assert [layer.macs for layer in network] == by_hand[:2]
    (loop,) = [each for each in network.left_out if each.name == "loop"]
    assert (loop.kind, loop.weights, loop.macs) == ("Loop body, 3 times", 49, 3 * 49)
