"""Does NumPy compute what ONNX Runtime computes, operation by operation and whole, and does it say what it cannot?"""

from __future__ import annotations

import gc
import math
import subprocess
import sys
import tracemalloc
import weakref
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from accelsim import InputError, Layer, Network, load_network
from accelsim.network import execution
from accelsim.network.execution import NumPyExecutor, outputs_of
from accelsim.network.graph import ActivationProduct, Graph, Operation
from accelsim.network.operations import OPERATORS, operator_of
from accelsim.network.topology import CHAIN, chain, output_shape

MAPS, VECTORS = (6, 9, 7), (5, 8)
BATCH = 3


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


def run_onnx(op: str, inputs: list[np.ndarray], constants: list[np.ndarray], **attributes: Any) -> np.ndarray:
    """What ONNX Runtime makes of one node."""
    import onnx
    import onnxruntime

    names = [f"x{number}" for number in range(len(inputs))]
    held = {f"c{number}": array for number, array in enumerate(constants)}
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(op, [*names, *held], ["y"], **attributes)],
        "one",
        [
            onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in zip(names, inputs, strict=True)
        ],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(array, name) for name, array in held.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(["y"], dict(zip(names, inputs, strict=True)))[0]
    return found


def run_here(does: str, inputs: list[np.ndarray], **said: Any) -> np.ndarray:
    """What NumPy makes of one operation, of the shape that is derived for it."""
    operator = OPERATORS[does.lower()]
    product = said.pop("product", None)
    made = Operation(
        name="x", kind=operator.kind, inputs=("a",), shape=said.pop("shape", ()), does=does, attributes=said,
        product=product,
    )  # fmt: skip
    made = replace(made, shape=operator.shape(made, [each.shape[1:] for each in inputs]))
    found = execution._run(made, inputs)
    assert found.shape == (len(inputs[0]), *made.shape)
    return found


C = MAPS[0]
SIZES = np.array([0.5, 1.5, 1, 2, 0.1, 3], np.float32)

CASES: Mapping[str, tuple[str, dict[str, Any], list[tuple[int, ...]], str, dict[str, Any], list[np.ndarray]]] = {
    "relu": ("Relu", {}, [MAPS], "Relu", {}, []),
    "neg": ("Neg", {}, [MAPS], "Neg", {}, []),
    "products": ("MatMul", {}, [(2, 3, 5), (2, 5, 4)], "MatMul", {}, []),
    "relu6": ("Relu6", {}, [MAPS], "Clip", {}, [np.float32(0), np.float32(6)]),
    "leaky": ("LeakyRelu", {"alpha": 0.2}, [MAPS], "LeakyRelu", {"alpha": 0.2}, []),
    "clip": ("Clip", {"min": -0.5, "max": 0.25}, [MAPS], "Clip", {}, [np.float32(-0.5), np.float32(0.25)]),
    "sigmoid": ("Sigmoid", {}, [VECTORS], "Sigmoid", {}, []),
    "hard sigmoid": ("HardSigmoid", {}, [VECTORS], "HardSigmoid", {"alpha": 1 / 6}, []),
    "hard swish": ("HardSwish", {}, [VECTORS], "HardSwish", {}, []),
    "tanh": ("Tanh", {}, [VECTORS], "Tanh", {}, []),
    "gelu": ("Gelu", {}, [VECTORS], "Gelu", {}, []),
    "gelu tanh": ("Gelu", {"approximate": "tanh"}, [VECTORS], "Gelu", {"approximate": "tanh"}, []),
    "erf": ("Erf", {}, [VECTORS], "Erf", {}, []),
    "exp": ("Exp", {}, [VECTORS], "Exp", {}, []),
    "softmax": ("Softmax", {}, [VECTORS], "Softmax", {}, []),
    "softmax of channels": ("Softmax", {"axis": 0}, [MAPS], "Softmax", {"axis": 1}, []),
    "log softmax": ("LogSoftmax", {"axis": 0}, [VECTORS], "LogSoftmax", {"axis": 1}, []),
    "max": ("MaxPool", {"kernel": 2, "stride": 2}, [MAPS], "MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2]}, []),
    "max padded": (
        *("MaxPool", {"kernel": [3, 2], "stride": [2, 1], "padding": [1, 0]}, [MAPS], "MaxPool"),
        *({"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 0]}, []),
    ),
    "max ceil": (
        *("MaxPool", {"kernel": 3, "stride": 2, "ceil": True}, [(6, 8, 8)], "MaxPool"),
        *({"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}, []),
    ),
    "max dilated": (
        *("MaxPool", {"kernel": 2, "dilation": 3, "padding": [0, 1, 1, 0]}, [MAPS], "MaxPool"),
        *({"kernel_shape": [2, 2], "dilations": [3, 3], "pads": [0, 1, 1, 0]}, []),
    ),
    "mean": (
        *("AveragePool", {"kernel": 3, "stride": 2, "padding": 1}, [MAPS], "AveragePool"),
        *({"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}, []),
    ),
    "mean with padding": (
        *("AveragePool", {"kernel": 3, "stride": 2, "padding": 1, "count_padding": True}, [MAPS], "AveragePool"),
        *({"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "count_include_pad": 1}, []),
    ),
    "global mean": ("GlobalAveragePool", {}, [MAPS], "GlobalAveragePool", {}, []),
    "global max": ("GlobalMaxPool", {}, [MAPS], "GlobalMaxPool", {}, []),
    "mean of tokens": ("ReduceMean", {"axis": 0}, [VECTORS], "ReduceMean", {"keepdims": 0}, [np.array([1])]),
    "add": ("Add", {}, [MAPS, MAPS], "Add", {}, []),
    "subtract": ("Sub", {}, [VECTORS, VECTORS], "Sub", {}, []),
    "divide by a number": ("Div", {"value": 8.0}, [VECTORS], "Div", {}, [np.float32(8)]),
    "times a channel's": ("Mul", {}, [MAPS, (C, 1, 1)], "Mul", {}, []),
    "plus a constant": ("Add", {"value": drawn(*VECTORS)}, [VECTORS], "Add", {}, [drawn(*VECTORS)]),
    "concat": ("Concat", {"axis": 0}, [MAPS, (2, 9, 7)], "Concat", {"axis": 1}, []),
    "slice": (
        *("Slice", {"axis": 0, "start": 1, "stop": -1}, [MAPS], "Slice"),
        *({}, [np.array([1]), np.array([-1]), np.array([1])]),
    ),
    "flatten": ("Flatten", {}, [MAPS], "Flatten", {}, []),
    "reshape": ("Reshape", {"shape": (6, 63)}, [MAPS], "Reshape", {}, [np.array([BATCH, 6, 63])]),
    "transpose": ("Transpose", {"order": [1, 2, 0]}, [MAPS], "Transpose", {"perm": [0, 2, 3, 1]}, []),
    "batch norm": (
        "BatchNormalization",
        {"scale": SIZES, "shift": -SIZES, "mean": SIZES / 3, "variance": SIZES, "epsilon": 1e-3},
        *([MAPS], "BatchNormalization", {"epsilon": 1e-3}, [SIZES, -SIZES, SIZES / 3, SIZES]),
    ),
    "layer norm": (
        *("LayerNormalization", {"scale": drawn(8), "shift": drawn(8, seed=1), "epsilon": 1e-6}, [VECTORS]),
        *("LayerNormalization", {"epsilon": 1e-6}, [drawn(8), drawn(8, seed=1)]),
    ),
    "group norm": (
        *("GroupNormalization", {"groups": 2, "scale": SIZES, "shift": -SIZES}, [MAPS]),
        *("GroupNormalization", {"num_groups": 2}, [SIZES, -SIZES]),
    ),
    "lrn": (
        *("LRN", {"size": 5, "alpha": 0.3, "beta": 0.6, "bias": 2.0}, [MAPS]),
        *("LRN", {"size": 5, "alpha": 0.3, "beta": 0.6, "bias": 2.0}, []),
    ),
}
"""What is said here, the shapes of its inputs, and the node of ONNX that means the same of a batch."""


@pytest.mark.needs("onnx", "onnxruntime")
@pytest.mark.parametrize("case", CASES)
def test_an_operation_gives_what_onnx_runtime_gives(case: str) -> None:
    does, said, shapes, op, attributes, constants = CASES[case]
    inputs = [drawn(BATCH, *shape, seed=number) for number, shape in enumerate(shapes)]
    wanted = run_onnx(op, inputs, constants, **attributes)
    np.testing.assert_allclose(run_here(does, inputs, **said), wanted, rtol=1e-5, atol=1e-6)


def test_the_operations_that_are_listed_are_tested() -> None:
    tested = {case[0].lower() for case in CASES.values()}
    alone = {"silu", "swish", "sqrt", "split", "rmsnormalization", "gather", "attentionscores", "attentionvalues"}
    alone |= {"rearrange"}
    assert tested | alone == set(OPERATORS)


def test_a_rearrangement_is_its_steps_one_after_another() -> None:
    given = drawn(BATCH, 4, 6)
    found = run_here("Rearrange", [given], steps=[["reshape", 4, 2, 3], ["transpose", 1, 0, 2]])
    for sample, made in zip(given, found, strict=True):
        assert np.array_equal(made, sample.reshape(4, 2, 3).transpose(1, 0, 2))


def test_what_has_no_node_of_its_own_is_what_its_formula_says() -> None:
    x = drawn(BATCH, *VECTORS)
    wide = x.astype(float)
    np.testing.assert_allclose(run_here("Silu", [x]), wide / (1 + np.exp(-wide)), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(run_here("Swish", [x]), run_here("Silu", [x]))
    np.testing.assert_array_equal(run_here("Sqrt", [x * x]), np.abs(x))
    norm = wide / np.sqrt((wide**2).mean(-1, keepdims=True) + 1e-6) * 2
    scale = np.full(8, 2, np.float32)
    np.testing.assert_allclose(run_here("RMSNormalization", [x], scale=scale, epsilon=1e-6), norm, rtol=1e-5)
    halves = [run_here("Split", [x], axis=-1, start=start, stop=start + 4) for start in (0, 4)]
    np.testing.assert_array_equal(np.concatenate(halves, -1), x)
    ids = np.array([[0, 2], [1, 1]])
    table = drawn(3, 4)
    np.testing.assert_array_equal(run_here("Gather", [ids], value=table), table[ids])
    with pytest.raises(InputError, match=r"operation x: looks up rows 0 to 3 of a table with 3"):
        run_here("Gather", [np.array([[0, 3]])], value=table)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("operand_groups", [0, 2])
def test_an_attention_by_hand(causal: bool, operand_groups: int) -> None:
    """Each head for itself, each query a sum over the keys that it may meet; heads of keys stand for several."""
    heads, tokens, features = 4, 5, 3
    kept = operand_groups or heads
    q = drawn(BATCH, tokens, heads * features)
    k, v = (drawn(BATCH, tokens, kept * features, seed=seed) for seed in (1, 2))
    product = ActivationProduct(heads, tokens, features, tokens, causal, operand_groups)
    scores = run_here("AttentionScores", [q, k], product=product)
    shares = run_here("Softmax", [scores])
    product = ActivationProduct(heads, features, tokens, tokens, operand_groups=operand_groups)
    found = run_here("AttentionValues", [shares, v], product=product)
    for sample in range(BATCH):
        for head in range(heads):
            mine, its = head * features, head // (heads // kept) * features
            for query in range(tokens):
                met = range(query + 1 if causal else tokens)
                raised = [
                    math.exp(
                        sum(float(q[sample, query, mine + f] * k[sample, key, its + f]) for f in range(features))
                        / math.sqrt(features)
                    )
                    for key in met
                ]
                wanted = sum(
                    share / sum(raised) * v[sample, key, its : its + features].astype(float)
                    for share, key in zip(raised, met, strict=True)
                )
                np.testing.assert_allclose(found[sample, query, mine : mine + features], wanted, rtol=1e-4, atol=1e-5)


def residual() -> Network:
    """Two branches that are added and then joined with one of them, and a classifier."""
    layers = [
        Layer.conv2d("stem", drawn(4, 3, 3, 3), drawn(4), input_hw=8, padding=1),
        Layer.conv2d("branch", drawn(4, 4, 3, 3, seed=1), input_hw=4, padding=1),
        Layer.linear("fc", drawn(5, 8, seed=2), drawn(5, seed=3)),
    ]
    said = [
        ("relu", "Relu", ("stem",), (4, 8, 8), {}),
        ("pool", "MaxPool", ("relu",), (4, 4, 4), {"kernel": 2, "stride": 2}),
        ("add", "Add", ("branch", "pool"), (4, 4, 4), {}),
        ("cat", "Concat", ("add", "pool"), (8, 4, 4), {"axis": 0}),
        ("mean", "GlobalAveragePool", ("cat",), (8, 1, 1), {}),
        ("softmax", "Softmax", ("fc",), (5,), {}),
    ]
    operations = [
        Operation(name=name, kind=OPERATORS[does.lower()].kind, inputs=inputs, shape=shape, does=does, attributes=more)
        for name, does, inputs, shape, more in said
    ]
    sources = {"stem": ("image",), "branch": ("pool",), "fc": ("mean",)}
    graph = Graph({"image": (3, 8, 8)}, sources, tuple(operations), ("softmax",))
    return Network("residual", layers, graph=graph)


def by_hand(network: Network, image: np.ndarray) -> dict[str, np.ndarray]:
    """What each layer of `residual` sees, and the answer, written out."""
    stem = outputs_of(network["stem"], image)
    pool = np.maximum(stem, 0).reshape(len(image), 4, 4, 2, 4, 2).max(axis=(3, 5))
    added = outputs_of(network["branch"], pool) + pool
    mean = np.concatenate([added, pool], 1).mean(axis=(2, 3))
    scores = mean.astype(float) @ network["fc"].weight.T + network["fc"].bias
    raised = np.exp(scores - scores.max(-1, keepdims=True))
    return {"stem": image, "branch": pool, "fc": mean, "answer": raised / raised.sum(-1, keepdims=True)}


def test_branches_flow_and_what_is_pruned_changes_what_comes_behind() -> None:
    network, image = residual(), 0.1 * drawn(BATCH, 3, 8, 8, seed=9)
    pruned = replace(
        network, layers=[replace(each, weight_source=lambda w=each.weight: w * (w > 0)) for each in network]
    )
    for variant in (network, pruned):
        wanted = by_hand(variant, image)
        given = variant.with_samples(image, [0, 1, 2])
        seen = list(given.seen(outputs=True))
        assert [each.layer for each in seen] == ["stem", "branch", "fc"]
        for each in seen:
            layer = variant[each.layer]
            np.testing.assert_allclose(each.inputs, wanted[each.layer], rtol=1e-4, atol=1e-5)
            np.testing.assert_array_equal(each.outputs, outputs_of(layer, each.inputs))
            assert each.outputs.shape[1:] == output_shape(layer)
        np.testing.assert_allclose(given.runtime.answers(given, given.samples), wanted["answer"], rtol=1e-4, atol=1e-7)
    assert not np.allclose(by_hand(network, image)["fc"], by_hand(pruned, image)["fc"])


def test_a_tensor_is_let_go_of_after_its_last_use() -> None:
    """A chain of twenty layers of 1 MB keeps no more than the few that one step needs."""
    features = 256
    layers = [Layer.linear(f"fc{number}", np.eye(features, dtype=np.float32)) for number in range(20)]
    network = Network("long", layers).with_samples(np.ones((1024, features), np.float32))
    tracemalloc.start()
    gone = []
    for each in network.seen():
        gone.append(weakref.ref(each.inputs if each.inputs.base is None else each.inputs.base))
        del each
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    gc.collect()
    assert sum(each() is not None for each in gone) <= 1  # the samples themselves
    assert peak < 8 * features * 1024 * 4


def test_a_chain_that_nobody_described_is_said_to_be_one() -> None:
    layers = [
        Layer.conv2d("conv", drawn(2, 1, 3, 3), input_hw=4),
        Layer.linear("fc", drawn(3, 8), drawn(3, seed=1)),
    ]
    network, samples = Network("chain", layers), drawn(BATCH, 1, 4, 4)
    given = network.with_samples(samples)
    assert given.assumptions == (CHAIN,)
    assert network.assumptions == ()
    seen = {each.layer: each.inputs for each in given.seen()}
    wanted = np.maximum(outputs_of(layers[0], samples), 0).reshape(BATCH, 8)
    np.testing.assert_array_equal(seen["fc"], wanted)
    # Who knows that it is one says so, and nothing is assumed.
    told = replace(network, graph=chain(layers)).with_samples(samples)
    assert told.assumptions == ()
    assert [each.name for each in told.graph.operations] == ["conv.relu", "conv.reshape"]
    assert [each.channels for each in told.graph.operations] == ["same", "flattened"]


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"picture": drawn(2, 3, 8, 8)}, [r"no input 'picture'.*expected: image", "'image' is missing, of shape"]),
        ({"image": drawn(2, 8, 8)}, [r"image: must be of shape \(samples, 3, 8, 8\) \(got \(2, 8, 8\)\)"]),
        ({"image": np.full((1, 3, 8, 8), np.nan)}, ["image: holds NaN"]),
        ({"image": np.full((1, 3, 8, 8), "a")}, ["image: must be numbers"]),
        ({"image": np.zeros((0, 3, 8, 8))}, [r"must be of shape"]),
    ],
)
def test_inputs_that_do_not_fit_are_refused(inputs: dict[str, np.ndarray], said: list[str]) -> None:
    with pytest.raises(InputError) as refused:
        residual().with_samples(inputs)
    for each in said:
        assert refused.match(each)


def test_inputs_of_several_names_have_as_many_samples() -> None:
    layers = [Layer.linear(name, drawn(4, 3)) for name in ("left", "right")]
    add = Operation(name="add", kind="elementwise", inputs=("left", "right"), shape=(4,), does="Add")
    graph = Graph({"a": (3,), "b": (3,)}, {"left": ("a",), "right": ("b",)}, (add,), ("add",))
    network = Network("two", layers, graph=graph)
    given = {"a": drawn(2, 3), "b": drawn(2, 3, seed=1)}
    wanted = given["a"] @ layers[0].weight.T + given["b"] @ layers[1].weight.T
    np.testing.assert_allclose(network.runtime.answers(network, given), wanted, rtol=1e-5)
    with pytest.raises(InputError, match=r"different numbers of samples \(a 2, b 1\)"):
        network.with_samples({**given, "b": drawn(1, 3)})


def broken(change: Callable[[Operation], Operation]) -> Network:
    network = residual()
    graph = network.graph
    return replace(network, graph=replace(graph, operations=[change(each) for each in graph.operations]))


def test_what_numpy_does_not_know_is_named() -> None:
    unknown = broken(lambda each: replace(each, does="Einsum") if each.name == "add" else each)
    with pytest.raises(InputError, match=r"operation add: NumPy does not know 'Einsum' \(elementwise\)"):
        _ = unknown.runtime
    many = broken(lambda each: replace(each, does="Einsum", kind="other"))
    with pytest.raises(InputError, match=r"operation \w+ and \d+ more: NumPy does not know 'Einsum' \(other\)"):
        _ = many.runtime
    without = broken(lambda each: replace(each, attributes={}))
    with pytest.raises(InputError) as refused:
        NumPyExecutor.of(without)
    assert [problem.split(": ")[1:3] for problem in refused.value.problems] == [
        ["operation pool", "kernel"],
        ["operation cat", "axis"],
    ]
    alone = broken(lambda each: replace(each, inputs=("branch",)) if each.name == "add" else each)
    with pytest.raises(InputError, match=r"operation add: value: must be known to run it"):
        _ = alone.runtime
    two = broken(lambda each: replace(each, inputs=("branch", "pool")) if each.name == "mean" else each)
    with pytest.raises(InputError, match=r"operation mean: inputs: GlobalAveragePool takes 1 \(got 2: branch, pool"):
        _ = two.runtime
    lacking = replace(residual(), layers=residual().layers[:2])
    with pytest.raises(InputError, match=r"layer fc: is not in the network any more"):
        _ = lacking.runtime
    otherwise = broken(lambda each: replace(each, shape=(9, 9)) if each.name == "pool" else each)
    with pytest.raises(InputError, match=r"layer branch: takes \(4, 4, 4\), and pool gives \(9, 9\)"):
        otherwise.with_samples(drawn(1, 3, 8, 8))
    otherwise = broken(lambda each: replace(each, shape=(9, 9)) if each.name == "add" else each)
    given = otherwise.with_samples(drawn(1, 3, 8, 8))
    with pytest.raises(InputError, match=r"operation add: Add gives \(4, 4, 4\) of each sample, and \(9, 9\)"):
        list(given.seen())


@pytest.mark.parametrize("kernel", ["x", [[1]], {"a": 1}, 0, -2])
def test_attributes_of_a_damaged_file_are_told(kernel: Any) -> None:
    network = broken(lambda each: replace(each, attributes={**each.attributes, "kernel": kernel}))
    with pytest.raises(InputError, match=r"operation pool: MaxPool cannot be run .* correct its attributes \(kernel "):
        list(network.with_samples({"image": drawn(1, 3, 8, 8)}).seen())


def test_an_operation_is_known_however_it_is_spelt() -> None:
    assert operator_of("max_pool") is operator_of("MaxPool") is OPERATORS["maxpool"]
    assert operator_of("NonMaxSuppression") is None


@pytest.mark.parametrize("name", ["lenet-300-100-digits", "convnet-digits", "convnet-digits-dense"])
def test_the_digits_see_what_pytorch_saw(name: str) -> None:
    """Their files hold what make_digits.py captured of PyTorch: the same zeros, and sums within rounding."""
    network = load_network(name)
    given = network.with_samples(np.asarray(network.layers[0].activations))
    for each in given.seen():
        captured = np.asarray(network[each.layer].activations)
        np.testing.assert_array_equal(each.inputs == 0, captured == 0)
        np.testing.assert_allclose(each.inputs, captured, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("criterion", ["obs", "regression"])
def test_how_many_threads_share_a_product_changes_nothing(criterion: str) -> None:
    """Scores and weights that are refitted are the same to the last digit, whatever threads NumPy's libraries have."""
    code = (
        "import sys, hashlib, threadpoolctl, numpy as np\n"
        "threadpoolctl.threadpool_limits(int(sys.argv[1]), 'blas')\n"
        "import accelsim\n"
        "from accelsim.evaluation import EVALUATIONS\n"
        "from accelsim.pruned import prune_network\n"
        "net = accelsim.load_network('convnet-digits')\n"
        "granularity = 'channel' if sys.argv[2] == 'regression' else 'fine'\n"
        "pruned = prune_network(net, granularity, 0.5, sys.argv[2])\n"
        "print(*[hashlib.sha256(np.ascontiguousarray(layer.weight)).hexdigest() for layer in pruned])\n"
        "print(repr(EVALUATIONS['digits-train'](net)(pruned)))\n"
    )
    one, three = (
        subprocess.run(
            [sys.executable, "-c", code, threads, criterion], capture_output=True, text=True, check=True
        ).stdout
        for threads in ("1", "3")
    )
    assert one == three
