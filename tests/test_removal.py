"""Removal: the shrunk network computes what the masked one does; what cannot shrink is named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsim.errors import InputError
from accelsim.network.layer import Layer
from accelsim.network.lowering import Vectors
from accelsim.pruning import prune, remove

Arrays = dict[str, np.ndarray]
RNG = np.random.default_rng(0)


def conv(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None, groups: int = 1) -> np.ndarray:
    layer = Layer.conv2d("c", weight, bias, input_hw=x.shape[2:], padding=1, groups=groups)
    vectors = Vectors(x, layer.convolution)
    assert layer.convolution is not None
    out = vectors.chunk(0, len(vectors)) @ layer.convolution.matrix(weight).T + (0 if bias is None else bias)
    return out.reshape(len(x), *layer.convolution.output_hw, -1).transpose(0, 3, 1, 2)


def norm(x: np.ndarray, arrays: Arrays, name: str) -> np.ndarray:
    weight, bias, mean, var = (
        arrays[f"{name}.{each}"][:, None, None] for each in ("weight", "bias", "running_mean", "running_var")
    )
    return np.maximum((x - mean) / np.sqrt(var + 1e-5) * weight + bias, 0)


def norm_arrays(name: str, size: int) -> Arrays:
    return {
        f"{name}.weight": RNG.random(size), f"{name}.bias": RNG.random(size), f"{name}.running_mean": RNG.random(size),
        f"{name}.running_var": 1 + RNG.random(size), f"{name}.num_batches_tracked": np.array(7),
    }  # fmt: skip


def network() -> Arrays:
    """Convolution, batch norm, depthwise, batch norm, a residual block, flatten, two linear layers."""
    return {
        "c1.weight": RNG.standard_normal((6, 3, 3, 3)), "c1.bias": RNG.random(6), **norm_arrays("n1", 6),
        "dw.weight": RNG.standard_normal((6, 1, 3, 3)), **norm_arrays("n2", 6),
        "c2.weight": RNG.standard_normal((5, 6, 3, 3)), **norm_arrays("n3", 5),
        "c3.weight": RNG.standard_normal((6, 5, 3, 3)), **norm_arrays("n4", 6),
        "f1.weight": RNG.standard_normal((7, 6 * 16)), "f1.bias": RNG.random(7),
        "f2.weight": RNG.standard_normal((3, 7)), "f2.bias": RNG.random(3),
    }  # fmt: skip


EDGES = [("c1", "n1"), ("n1", "dw"), ("dw", "n2"), ("n2", "c2"), ("c2", "n3"), ("n3", "c3"), ("c3", "n4"),
         ("n4", "f1"), ("n2", "f1"), ("f1", "f2")]  # fmt: skip


def forward(arrays: Arrays, x: np.ndarray) -> np.ndarray:
    x = norm(conv(x, arrays["c1.weight"], arrays["c1.bias"]), arrays, "n1")
    x = norm(conv(x, arrays["dw.weight"], groups=len(arrays["dw.weight"])), arrays, "n2")
    y = norm(conv(x, arrays["c2.weight"]), arrays, "n3")
    x = x + norm(conv(y, arrays["c3.weight"]), arrays, "n4")
    x = np.maximum(x.reshape(len(x), -1) @ arrays["f1.weight"].T + arrays["f1.bias"], 0)
    return np.asarray(x @ arrays["f2.weight"].T + arrays["f2.bias"])


def silenced(arrays: Arrays, gone: dict[str, list[int]]) -> Arrays:
    """The network with some outputs of some layers 0: biases and what batch norm adds too."""
    result = {name: array.copy() for name, array in arrays.items()}
    for layer, features in gone.items():
        for parameter in ("weight", "bias"):
            if f"{layer}.{parameter}" in result:
                result[f"{layer}.{parameter}"][features] = 0
    return result


def filters(arrays: Arrays, layer: str, gone: list[int]) -> np.ndarray:
    mask = np.ones(arrays[f"{layer}.weight"].shape, bool)
    mask[gone] = False
    return mask


def some_of(size: int) -> st.SearchStrategy[set[int]]:
    return st.sets(st.integers(0, size - 1), max_size=size - 1)


@given(some_of(6), some_of(5), some_of(7))
def test_the_shrunk_network_computes_what_the_masked_one_does(wide: set[int], inner: set[int], last: set[int]) -> None:
    """The residual addition ties c1, c3 and both sides of the depthwise convolution."""
    arrays, x = network(), RNG.standard_normal((2, 3, 4, 4))
    a, b, c = sorted(wide), sorted(inner), sorted(last)
    masks = {"c1": filters(arrays, "c1", a), "c3": filters(arrays, "c3", a), "c2": filters(arrays, "c2", b),
             "f1": filters(arrays, "f1", c)}  # fmt: skip
    shrunk = remove(arrays, EDGES, masks)
    masked = silenced(arrays, {"c1": a, "n1": a, "dw": a, "n2": a, "c3": a, "n4": a, "c2": b, "n3": b, "f1": c})
    np.testing.assert_allclose(forward(shrunk, x), forward(masked, x), atol=1e-9)
    left = 6 - len(a), 5 - len(b), 7 - len(c)
    assert shrunk["f1.weight"].shape == (left[2], left[0] * 16)
    assert shrunk["c3.weight"].shape == (left[0], left[1], 3, 3)
    assert shrunk["n2.running_var"].shape == (left[0],)
    assert shrunk["n2.num_batches_tracked"] == 7


def test_channels_that_nobody_reads_leave_the_layer_before() -> None:
    """Exact whatever the biases are: the next layer ignored them."""
    arrays, x = network(), RNG.standard_normal((2, 3, 4, 4))
    masks = {"c3": prune(arrays["c3.weight"], "channel", 0.4), "f2": prune(arrays["f2.weight"], "channel", 0.5)}
    masked = arrays | {f"{name}.weight": arrays[f"{name}.weight"] * mask for name, mask in masks.items()}
    shrunk = remove(arrays, EDGES, masks)
    np.testing.assert_allclose(forward(shrunk, x), forward(masked, x), atol=1e-9)
    assert [shrunk[f"{name}.weight"].shape[0] for name in ("c1", "c2", "n3", "f1")] == [6, 3, 3, 3]  # 7 - round(3.5)


def test_ties_keep_what_any_of_them_keeps() -> None:
    arrays = network()
    masks = {"c1": filters(arrays, "c1", [0, 1, 2]), "c3": filters(arrays, "c3", [1, 2, 3])}
    with pytest.raises(InputError, match=r"c1, c3: share a width \(a residual.*tied=True"):
        remove(arrays, EDGES, masks)
    shrunk = remove(arrays, EDGES, masks, tied=True)
    assert np.array_equal(shrunk["n1.bias"], arrays["n1.bias"][[0, 3, 4, 5]])
    with pytest.raises(InputError, match="c1, c3: share a width"):
        remove(arrays, EDGES, {"c1": masks["c1"]})
    assert remove(arrays, EDGES, {"c1": masks["c1"]}, tied=True)["n1.bias"].shape == (6,)


def test_a_layer_may_read_and_write_the_same_width() -> None:
    """An addition x + b(x): the second layer loses inputs and outputs alike."""
    arrays = {"a.weight": np.ones((4, 3)), "b.weight": np.arange(16.0).reshape(4, 4), "c.weight": np.ones((2, 4))}
    masks = {"a": filters(arrays, "a", [1]), "b": filters(arrays, "b", [1])}
    shrunk = remove(arrays, [("a", "b"), ("b", "c"), ("a", "c")], masks)
    assert shrunk["b.weight"].tolist() == [[0, 2, 3], [8, 10, 11], [12, 14, 15]]
    assert (shrunk["a.weight"].shape, shrunk["c.weight"].shape) == ((3, 3), (2, 3))


def test_what_does_not_shrink_may_be_anything() -> None:
    """A concatenation, a grouped convolution and a scalar, under masks that prune no slice whole."""
    arrays = {**CHAIN, "b.weight": np.ones((3, 2)), "t.weight": np.array(2.0)}
    edges = [("a", "g"), ("g", "f"), ("b", "f"), ("f", "t")]
    same = remove(arrays, edges, {"f": np.eye(5, 8) + np.eye(5, 8, 3) > 0, "a": np.ones((4, 2, 3, 3), bool)})
    assert [array.shape for array in same.values()] == [np.shape(array) for array in arrays.values()]


def test_two_readers_must_agree_on_channels() -> None:
    arrays = {"a.weight": np.ones((4, 3)), "b.weight": np.ones((2, 4)), "c.weight": np.ones((2, 4))}
    edges, mask = [("a", "b"), ("a", "c")], np.ones((2, 4), bool)
    mask[:, 1] = False
    with pytest.raises(InputError, match=r"b, c: share a width .*prune other channels"):
        remove(arrays, edges, {"b": mask})
    assert remove(arrays, edges, {"b": mask, "c": mask})["a.weight"].shape == (3, 3)


def test_nothing_pruned_whole_changes_nothing() -> None:
    arrays = network()
    for masks in ({}, {"c2": prune(arrays["c2.weight"], "fine", 0.5)}):
        same = remove(arrays, EDGES, masks)
        assert list(same) == list(arrays)
        assert all(np.array_equal(same[name], array) for name, array in arrays.items())


CHAIN: Arrays = {"a.weight": np.ones((4, 2, 3, 3)), "g.weight": np.ones((8, 2, 3, 3)), "f.weight": np.ones((5, 8))}


@pytest.mark.parametrize(
    ("arrays", "edges", "masks", "message"),
    [
        (CHAIN, [("a", "g"), ("g", "f")], {"a": [0]}, r"g: weight \(8, 2, 3, 3\) does not read the 4 outputs of a"),
        (CHAIN, [("a", "g"), ("g", "f")], {"f": [0]}, "f: its outputs are those of the network"),
        (CHAIN, [("g", "f")], {"g": [0, 1, 2, 3, 4, 5, 6, 7]}, "g: would lose every channel"),
        (CHAIN, [("g", "f")], {"x": [0]}, "masks: 'x' is not a layer with a weight; known: a, f, g"),
        (CHAIN, [("g", "ff")], {"g": [0]}, "edges: 'ff' has no arrays; did you mean|edges: 'ff' has no arrays; known"),
        (CHAIN, [("a", "f"), ("g", "f")], {"a": [0]}, r"is added to layers of another width \(a 4, g 8\)"),
        ({"a.weight": np.ones((4, 3)), "b.weight": np.ones((2, 6))}, [("a", "b")], {"a": [0]}, "does not read the 4"),
        ({"a.weight": np.ones((4, 3)), "b.weight": np.ones((2, 4))}, [("a", "b")], {"a": "in"}, "a: its inputs are"),
        ({"a.weight": np.ones((4, 3)), "b.weight": np.ones((2, 4))}, [("a", "b")], {"a": "shape"}, "does not match"),
    ],
)
def test_errors(arrays: Arrays, edges: list[tuple[str, str]], masks: dict[str, Any], message: str) -> None:
    made = {}
    for name, gone in masks.items():
        mask = np.ones(arrays.get(f"{name}.weight", np.ones((1, 1))).shape, bool)
        if gone == "in":
            mask[:, 0] = False
        elif gone == "shape":
            mask = mask[:1]
        else:
            mask[[each for each in gone if each < len(mask)]] = False
        made[name] = mask
    with pytest.raises(InputError, match=message):
        remove(arrays, edges, made)
