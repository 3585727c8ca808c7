"""Are operations that exporters write out in pieces counted as one, and only those that are, whatever else runs?"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_graphs
import pytest

from accelsim import Network, load_network
from accelsim.network.graph import ActivationProduct, Operation
from accelsim.network.handed_back import hand_back
from accelsim.pruned import prune_network

onnx = pytest.importorskip("onnx", reason="ONNX is not installed")

FEATURES = 8
VECTORS = {"g": np.linspace(0.5, 2, FEATURES).astype(np.float32), "b": np.linspace(-1, 1, FEATURES).astype(np.float32)}


def model_of(pieces: str, outputs: tuple[str, ...] = ("y",), **constants: np.ndarray) -> Any:
    """A layer that turns its features round, h, and behind it pieces such as `y = Clip(h, 0.0, [6]) axis=1; ...`."""
    constants |= VECTORS | {"w": np.eye(FEATURES, dtype=np.float32)[::-1].copy()}
    nodes = [onnx.helper.make_node("MatMul", ["x", "w"], ["h"], name="h")]
    for piece in filter(None, map(str.strip, pieces.replace("\n", ";").split(";"))):
        made, called, given, said = re.fullmatch(r"([\w, ]+) = (\w+)\((.*)\)(.*)", piece).groups()  # type: ignore[union-attr]
        names = re.findall(r"\[\[.*?\]\]|\[.*?\]|[^, ]+", given)
        for name in names:
            if not name[0].isalpha():
                value = ast.literal_eval(name)
                constants[name] = np.array(value, np.float32 if isinstance(value, float) else np.int64)
        attributes = {name: ast.literal_eval(value) for name, value in re.findall(r"(\w+)=(\S+)", said)}
        results = made.split(", ")
        nodes.append(onnx.helper.make_node(called, names, results, name=results[0], **attributes))
    return onnx_graphs.model_of(nodes, {"x": onnx_graphs.reals(0, 1, 6, FEATURES)}, constants, outputs)


def read(model: Any, folder: Path) -> Network:
    onnx.save(model, folder / "net.onnx")
    return load_network(folder / "net.onnx")


def operations(network: Network) -> dict[str, Operation]:
    assert network.graph is not None
    return network.graph.by_name


def gelu(x: np.ndarray) -> np.ndarray:
    from scipy.special import ndtr

    return x * ndtr(x)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def gelu_of_tanh(x: np.ndarray) -> np.ndarray:
    return x * sigmoid(2 * np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))


def normed(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)


def rms(x: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)


WRITTEN_OUT: dict[str, tuple[str, str, Callable[[np.ndarray], np.ndarray]]] = {
    "gelu by division": (
        "Gelu",
        "a = Div(h, 1.4142135); e = Erf(a); f = Add(e, 1.0); m = Mul(h, f); y = Mul(m, 0.5)",
        gelu,
    ),
    "gelu by halves first": (
        "Gelu",
        "n = Mul(0.5, h); a = Mul(h, 0.70710677); e = Erf(a); f = Add(1.0, e); y = Mul(n, f)",
        gelu,
    ),
    "gelu by halves of the function": (
        "Gelu",
        "a = Mul(h, 0.70710677); e = Erf(a); f = Add(1.0, e); m = Mul(0.5, f); y = Mul(m, h)",
        gelu,
    ),
    "gelu by tanh": (
        "Gelu",
        "n = Mul(h, 0.5); p = Pow(h, 3.0); q = Mul(p, 0.044715); r = Add(h, q); s = Mul(r, 0.7978846); "
        "t = Tanh(s); u = Add(t, 1.0); y = Mul(n, u)",
        gelu_of_tanh,
    ),
    "gelu by tanh of products": (
        "Gelu",
        "k = Mul(h, h); p = Mul(k, h); q = Mul(0.044715, p); r = Add(q, h); s = Mul(0.7978846, r); "
        "t = Tanh(s); u = Add(1.0, t); v = Mul(u, 0.5); y = Mul(h, v)",
        gelu_of_tanh,
    ),
    "silu": ("Swish", "s = Sigmoid(h); y = Mul(h, s)", lambda x: x * sigmoid(x)),
    "silu by exp": (
        "Swish", "n = Neg(h); e = Exp(n); f = Add(e, 1.0); y = Div(h, f)", lambda x: x * sigmoid(x)
    ),
    "quick gelu": (
        "QuickGelu", "a = Mul(h, 1.702); s = Sigmoid(a); y = Mul(s, h)", lambda x: x * sigmoid(1.702 * x)
    ),
    "mish": ("Mish", "s = Softplus(h); t = Tanh(s); y = Mul(h, t)", lambda x: x * np.tanh(np.log1p(np.exp(x)))),
    "hard swish": (
        "HardSwish",
        "a = Add(h, 3.0); r = Clip(a, 0.0, 6.0); m = Mul(h, r); y = Div(m, 6.0)",
        lambda x: x * np.clip(x + 3, 0, 6) / 6,
    ),
    "hard swish by its gate": (
        "HardSwish",
        "s = HardSigmoid(h) alpha=0.16666667 beta=0.5; y = Mul(h, s)",
        lambda x: x * np.clip(x + 3, 0, 6) / 6,
    ),
    "layer norm": (
        "LayerNormalization",
        "m = ReduceMean(h, [-1]); d = Sub(h, m); q = Pow(d, 2.0); v = ReduceMean(q, [-1]); "
        "e = Add(v, 0.00001); r = Sqrt(e); n = Div(d, r); s = Mul(n, g); y = Add(s, b)",
        lambda x: normed(x) * VECTORS["g"] + VECTORS["b"],
    ),
    "layer norm by reciprocal, no scales": (
        "LayerNormalization",
        "m = ReduceMean(h, [-1]); d = Sub(h, m); q = Mul(d, d); v = ReduceMean(q, [-1]); "
        "e = Add(v, 0.00001); r = Sqrt(e); i = Reciprocal(r); y = Mul(d, i)",
        normed,
    ),
    "rms norm": (
        "RMSNormalization",
        "q = Pow(h, 2.0); v = ReduceMean(q, [-1]); e = Add(v, 0.000001); r = Sqrt(e); i = Reciprocal(r); "
        "n = Mul(h, i); y = Mul(g, n)",
        lambda x: rms(x) * VECTORS["g"],
    ),
    "rms norm through another type": (
        "RMSNormalization",
        "f = Cast(h) to=11; k = Cast(f) to=1; q = Mul(k, k); v = ReduceMean(q, [-1]); "
        "e = Add(v, 0.000001); r = Pow(e, -0.5); n = Mul(k, r); j = Cast(n) to=1; y = Mul(j, g)",
        lambda x: rms(x) * VECTORS["g"],
    ),
    "softmax": (
        "Softmax",
        "m = ReduceMax(h, [-1]); d = Sub(h, m); e = Exp(d); s = ReduceSum(e, [-1]); y = Div(e, s)",
        lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True),
    ),
    "roll": (
        "Roll",
        "i = Slice(h, [0], [2], [1]); j = Slice(h, [2], [9223372036854775807], [1]); y = Concat(j, i) axis=1",
        lambda x: np.roll(x, -2, axis=1),
    ),
}  # fmt: skip
"""What each is, how it is written out, and what it computes, by NumPy or SciPy."""

KIND = {
    **dict.fromkeys(("Gelu", "Swish", "QuickGelu", "Mish", "HardSwish"), "activation"),
    "LayerNormalization": "normalisation", "RMSNormalization": "normalisation", "Softmax": "softmax", "Roll": "reshape",
}  # fmt: skip


@pytest.mark.parametrize("case", WRITTEN_OUT)
def test_what_is_written_out_is_one_operation(case: str, tmp_path: Path) -> None:
    does, pieces, function = WRITTEN_OUT[case]
    model = model_of(pieces)
    network = read(model, tmp_path)
    ((name, found),) = operations(network).items()
    assert (name, found.does, found.kind, found.inputs) == ("y", does, KIND[does], ("h",))
    assert found.shape == (6, FEATURES)
    assert found.reads == found.writes == 6 * FEATURES
    vectors = len(re.findall(r"[(, ][gb][,)]", pieces))
    assert (found.weights, found.macs, found.product) == (vectors * FEATURES, 0, None)
    assert network.scope.macs == 6 * FEATURES * FEATURES
    # The pieces are what they are taken for: ONNX's own evaluation of them is that function of what the layer gives.
    x = onnx_graphs.reals(1, 1, 6, FEATURES)
    (made,) = onnx.reference.ReferenceEvaluator(model).run(None, {"x": x})
    assert np.allclose(made, function(x[..., ::-1].astype(np.float64)), atol=2e-4)


GELU = "a = Div(h, 1.4142135); e = Erf(a); f = Add(e, 1.0); m = Mul(h, f); y = Mul(m, 0.5)"
NORM = "q = Pow(h, 2.0); v = ReduceMean(q, [-1]); e = Add(v, 1e-6); r = Sqrt(e); n = Div(h, r); y = Mul(n, g)"


@pytest.mark.parametrize(
    ("pieces", "outputs", "count"),
    [
        (GELU.replace("1.4142135", "1.42"), ("y",), 5),
        (GELU.replace("0.5", "0.51"), ("y",), 5),
        (GELU.replace("Add(e, 1.0)", "Sub(e, 1.0)"), ("y",), 5),
        (GELU, ("y", "e"), 5),
        (f"{GELU}; z = Relu(f)", ("y", "z"), 6),
        (GELU.replace("m = Mul(h, f)", "k = Relu(h); m = Mul(k, f)"), ("y",), 6),
        (NORM.replace("[-1]", "[1]"), ("y",), 6),
        (NORM.replace("1e-6", "0.5"), ("y",), 6),
        (NORM.replace("Pow(h, 2.0)", "Pow(h, 3.0)"), ("y",), 6),
        ("i = Slice(h, [0], [2], [1]); j = Slice(h, [3], [9], [1]); y = Concat(j, i) axis=1", ("y",), 3),
        ("i = Slice(h, [0], [2], [1]); j = Slice(h, [2], [9], [1]); y = Concat(i, j) axis=1", ("y",), 3),
    ],
    ids=[
        "another number", "another factor", "another sign", "a value inside is given", "one is taken by another",
        "of two values", "over tokens", "no epsilon", "another power", "a part is lost", "in its order",
    ],
)  # fmt: skip
def test_what_only_looks_like_it_stays_in_pieces(
    pieces: str, outputs: tuple[str, ...], count: int, tmp_path: Path
) -> None:
    found = operations(read(model_of(pieces, outputs), tmp_path))
    assert len(found) == count
    assert not {each.does for each in found.values()} & {*KIND}


def test_the_longest_formula_is_taken_and_what_stands_before_stays(tmp_path: Path) -> None:
    """Two norms behind each other, and an activation of what the second gives twice: once inside, once outside."""
    twice = NORM.replace("y =", "o =") + ";" + re.sub(r"\b([qvern])\b", r"\1\1", NORM).replace("h", "o")
    found = operations(read(model_of(twice), tmp_path))
    assert [(each.does, each.inputs) for each in found.values()] == [
        ("RMSNormalization", ("h",)), ("RMSNormalization", ("o",))
    ]  # fmt: skip


HEADS, TOKENS, WIDTH = 2, 6, 4
SCALE = WIDTH**-0.25
"""Queries and keys are scaled by the root of 1 / sqrt(width)."""


def attention(mask: str, keys: str = "k = Transpose(t) perm=[0,2,3,1]", values: str = "v") -> str:
    return f"""
        t = Reshape(h, [1, {TOKENS}, {HEADS}, {WIDTH}])
        q = Transpose(t) perm=[0,2,1,3]; {keys}; v = Transpose(t) perm=[0,2,1,3]
        a = Mul(q, {SCALE}); c = Mul(k, {SCALE}); s = MatMul(a, c); {mask}
        p = Softmax(m); i = IsNaN(p); z = Where(i, 0.0, p); y = MatMul(z, {values})
    """


LATER = np.triu(np.ones((TOKENS, TOKENS), bool), 1)
"""Keys behind the place of a query."""


@pytest.mark.parametrize(
    ("mask", "held", "causal"),
    [
        ("m = Add(s, mask)", np.where(LATER, -np.inf, 0), True),
        ("m = Add(s, mask)", np.where(LATER, -65504, 0)[None, None], True),
        ("m = Add(mask, s)", np.where(LATER.T, -np.inf, 0), False),
        ("m = Add(s, mask)", np.where(LATER, -2.0, 0), False),
        ("m = Add(s, mask)", np.zeros((TOKENS, TOKENS)), False),
        ("m = Where(mask, s, -3.4e38)", ~LATER, True),
        ("m = Where(mask, -3.4e38, s)", LATER, True),
        ("m = Where(mask, -3.4e38, s)", ~LATER, False),
        ("u = ReduceSum(x, [-1]); l = Less(u, -9.0); o = And(mask, l); w2 = Where(o, 0.0, -1e9); m = Add(s, w2)",
         ~LATER, True),
        ("u = ReduceSum(x, [-1]); l = Less(u, -9.0); o = Or(mask, l); w2 = Where(o, 0.0, -1e9); m = Add(s, w2)",
         ~LATER, False),
    ],
)  # fmt: skip
def test_a_mask_that_the_file_holds_says_whether_an_attention_is_causal(
    mask: str, held: np.ndarray, causal: bool, tmp_path: Path
) -> None:
    held = held if held.dtype == bool else held.astype(np.float32)
    network = read(model_of(attention(mask), mask=held), tmp_path)
    found = operations(network)
    assert {name: each.product for name, each in found.items() if each.product} == {
        "s": ActivationProduct(HEADS, TOKENS, WIDTH, TOKENS, causal),
        "y": ActivationProduct(HEADS, WIDTH, TOKENS, TOKENS, causal),
    }
    assert found["s"].macs == found["y"].macs == HEADS * TOKENS * TOKENS * WIDTH  # those that a mask spares included
    assert {"a", "c", "p", "i"}.isdisjoint(found)  # scales and zeros are parts of the product and of the softmax
    assert (found["z"].does, found["z"].kind, found["y"].inputs[0]) == ("Softmax", "softmax", "z")


@pytest.mark.parametrize(
    ("mask", "causal"),
    [
        (np.where(LATER, -np.inf, 0).astype(np.float32), True),
        (~LATER, True),
        (LATER, False),
        (LATER.T, True),
        (LATER | LATER.T, False),
    ],
)
def test_a_mask_of_an_attention_that_is_one_operation(mask: np.ndarray, causal: bool, tmp_path: Path) -> None:
    model = model_of(f"y = Attention(h, h, h, mask) q_num_heads={HEADS} kv_num_heads={HEADS}", mask=mask)
    model.opset_import[0].version = 23
    found = operations(read(model, tmp_path))
    scores, values = ActivationProduct(HEADS, TOKENS, WIDTH, TOKENS), ActivationProduct(HEADS, WIDTH, TOKENS, TOKENS)
    for name, product in (("y.scores", scores), ("y.values", values)):
        assert found[name].product == product._replace(causal=causal, operand_groups=HEADS)


def test_a_scale_of_queries_alone_stays_an_operation(tmp_path: Path) -> None:
    """As a model has it that scales them itself: PyTorch counts it too."""
    pieces = attention("m = Add(s, mask)").replace(f"c = Mul(k, {SCALE}); s = MatMul(a, c)", "s = MatMul(a, k)")
    found = operations(read(model_of(pieces, mask=np.where(LATER, -np.inf, 0).astype(np.float32)), tmp_path))
    assert found["s"].inputs[0] == "a"
    assert found["m"].kind == "elementwise"
    product = found["s"].product
    assert product is not None
    assert product.causal


def test_heads_that_the_file_stretches_over_others_are_read_once(tmp_path: Path) -> None:
    """Two heads of queries share one of keys and one of values."""
    keys = f"""one = Slice(t, [0], [1], [2]); u = Transpose(one) perm=[0,2,1,3]
        g2 = Unsqueeze(u, [2]); ex = Expand(g2, [1, 1, {HEADS}, {TOKENS}, {WIDTH}])
        f = Reshape(ex, [1, {HEADS}, {TOKENS}, {WIDTH}]); k = Transpose(f) perm=[0,1,3,2]"""
    found = operations(read(model_of(attention("m = Identity(s)", keys, "f")), tmp_path))
    scores, values = (found[name].product for name in "sy")
    assert scores == ActivationProduct(HEADS, TOKENS, WIDTH, TOKENS, operand_groups=1)
    assert values == ActivationProduct(HEADS, WIDTH, TOKENS, TOKENS, operand_groups=1)


def test_what_is_made_of_constants_alone_is_read_by_what_takes_it(tmp_path: Path) -> None:
    """Places of tokens looked up in a table: the same for every sample."""
    pieces = "i = GatherElements(places, [[5,4,3,2,1,0]]) axis=1; e = Gather(table, i); y = Add(h, e)"
    constants = {"places": np.arange(6)[None], "table": onnx_graphs.reals(2, 6, FEATURES)}
    network = read(model_of(pieces, **constants), tmp_path)
    assert {name: (each.kind, each.inputs, each.weights) for name, each in operations(network).items()} == {
        "y": ("elementwise", ("h",), 6 * FEATURES)
    }
    assert ("e", 6 * FEATURES) in {(each.name, each.weights) for each in network.left_out}


def test_views_behind_views_are_one_and_those_that_move_nothing_none(tmp_path: Path) -> None:
    pieces = """
        a = Reshape(h, [6, 8]); r = Relu(a); s = Reshape(r, [1, 6, 2, 4]); c = Transpose(s) perm=[0,2,1,3]
        d = Reshape(c, [2, 24]); z = Sigmoid(d); e = Reshape(z, [48]); y = Tanh(e)
    """
    found = operations(read(model_of(pieces), tmp_path))
    assert {name: (each.kind, each.inputs) for name, each in found.items()} == {
        "r": ("activation", ("h",)), "d": ("reshape", ("r",)), "z": ("activation", ("d",)),
        "e": ("reshape", ("z",)), "y": ("activation", ("e",)),
    }  # fmt: skip


def test_what_runs_and_what_is_removed_is_the_file_itself(tmp_path: Path) -> None:
    """Half of the features go out of a file through a GELU that is written out; what is left gives what it gave."""
    ort = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    pieces = GELU.replace("y =", "o =") + "; y = MatMul(o, w2)"
    model = model_of(pieces, w2=onnx_graphs.reals(3, FEATURES, 5))
    network = read(model, tmp_path)
    assert [(each.does, each.channels) for each in operations(network).values()] == [("Gelu", "same")]
    x = onnx_graphs.reals(4, 1, 6, FEATURES)
    (expected,) = onnx.reference.ReferenceEvaluator(model).run(None, {"x": x})
    assert network.runtime is not None
    assert np.allclose(network.runtime.answers(network, {"x": x}).reshape(expected.shape), expected, atol=1e-5)
    pruned = prune_network(network, "filter", 0.5)
    answers = []
    for name, remove in (("masked.onnx", False), ("small.onnx", True)):
        hand_back(pruned, tmp_path / "net.onnx", tmp_path / name, remove=remove)
        answers.append(ort.InferenceSession(tmp_path / name, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0])
    assert np.allclose(*answers, atol=1e-5)
    assert [layer.weight_shape[0] for layer in load_network(tmp_path / "small.onnx")] == [FEATURES // 2, 5]
