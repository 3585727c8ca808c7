"""Does each mistake in layers and activations given from Python name the layer, the shape and the remedy?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from accelsim import Density, InputError, Layer, Network, load_hardware, load_network, simulate

W = np.ones((3, 4), np.float32)
CHIP = "eie-64pe-45nm"


def problems_of(error: pytest.ExceptionInfo[InputError]) -> list[str]:
    return list(error.value.problems)


@pytest.mark.parametrize(
    ("weight", "others", "said"),
    [
        ([1, 2], {}, "layer fc: weight: must have 2 dimensions, (out_features, in_features) (got shape (2,))"),
        (np.ones((1, 2, 3)), {}, "layer fc: weight: must have 2 dimensions"),
        (np.ones((0, 3)), {}, "layer fc: weight: is empty (got shape (0, 3))"),
        ([[1, 2], [3]], {}, "layer fc: weight: cannot be read as one array of numbers"),
        (W.astype(complex), {}, "layer fc: weight: has type complex128, which is not supported; convert it to"),
        (W.astype(object), {}, "layer fc: weight: has type object"),
        (W.astype(np.longdouble), {}, "layer fc: weight: has type "),
        ([["a"]], {}, "layer fc: weight: has type <U1"),
        (W, {"bias": np.ones(4)}, "layer fc: bias: must have shape (3,) as the weight has (got"),
        (W, {"bias": np.ones((3, 1))}, "layer fc: bias: must have 1 dimension, (out_features,) (got shape (3, 1))"),
        (W, {"activations": np.ones(3)}, "layer fc: activations: must be (4,) or (batch, 4) (got (3,))"),
        (W, {"activations": np.ones((1, 1, 4))}, "layer fc: activations: must be (4,) or (batch, 4)"),
        (W, {"activations": np.ones((0, 4))}, "layer fc: activations: is empty (got shape (0, 4))"),
        (W, {"activations": [[1, 2, np.inf, np.nan]]}, "layer fc: activations[0, 2] is inf; activations must be"),
        (W, {"activations": W[0].astype(complex)}, "layer fc: activations: has type complex128"),
    ],
)  # fmt: skip
def test_a_layer_of_the_wrong_shape_or_type(weight: Any, others: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        Layer.linear("fc", weight, **others)
    (problem,) = problems_of(caught)
    assert said in problem


K = np.ones((4, 2, 3, 3), np.float32)


@pytest.mark.parametrize(
    ("weight", "others", "said"),
    [
        (W, {}, "weight: must have 4 dimensions, (out_channels, in_channels / groups, kh, kw) (got shape (3, 4))"),
        (K[:, :, :0], {}, "weight: is empty (got shape (4, 2, 0, 3))"),
        (K, {"stride": 0}, "stride: must be a whole number, at least 1, or two of them for height and width (got 0)"),
        (K, {"stride": (1, 0)}, "stride: must be a whole number, at least 1, or two of them"),
        (K, {"padding": -1}, "padding: must be a whole number, at least 0, or two of them"),
        (K, {"dilation": 1.5}, "dilation: must be a whole number, at least 1, or two of them"),
        (K, {"input_hw": (8, 8, 8)}, "input_hw: must be a whole number, at least 1, or two of them"),
        (K, {"groups": 0}, "groups: must be a whole number, at least 1 (got 0)"),
        (K, {"groups": "2"}, "groups: must be a whole number, at least 1 (got '2')"),
        (K, {"groups": 3}, "groups: 3 does not divide out_channels = 4; use a divisor of both numbers of channels"),
        (K, {"input_hw": 2}, "kernel: reaches over 3 x 3 pixels, dilation included, but the padded"),
        (K, {"dilation": (1, 4)}, "kernel: reaches over 3 x 9 pixels, dilation included, but the padded"),
        (K, {"input_hw": 10**9}, "input_hw: the input (2, 1000000000, 1000000000) of one sample: needs"),
        (K, {"bias": np.ones(2)}, "bias: must have shape (4,) as the weight has (got"),
        (K, {"activations": np.ones((3, 8, 8))}, "activations: must be (2, 8, 8) or (batch, 2, 8, 8) (got (3, 8, 8))"),
        (K, {"activations": np.ones(128)}, "activations: must be (2, 8, 8) or (batch, 2, 8, 8) (got (128,))"),
        (K, {"activations": np.full((1, 2, 8, 8), np.inf)}, "activations[0, 0, 0, 0] is inf; activations must be"),
        (K, {"codebook": [1, 2]}, "codebook: entry 0 must be 0"),
    ],
)  # fmt: skip
def test_a_convolution_of_the_wrong_shape(weight: Any, others: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        Layer.conv2d("conv", weight, **{"input_hw": 8} | others)
    (problem,) = problems_of(caught)
    assert problem.startswith(f"layer conv: {said}")


def test_all_mistakes_of_a_convolution_are_told_together() -> None:
    with pytest.raises(InputError) as caught:
        Layer.conv2d("conv", K, np.ones(5), input_hw=0, stride=0, padding=-1, dilation=0, groups=3)
    keys = [problem.split(": ")[1] for problem in problems_of(caught)]
    assert keys == ["input_hw", "stride", "padding", "dilation", "groups", "bias"]


@pytest.mark.parametrize(
    ("tokens", "others", "said"),
    [
        (0, {}, "tokens: must be a whole number, at least 1 (got 0)"),
        (2.0, {}, "tokens: must be a whole number, at least 1 (got 2.0)"),
        (5, {"activations": W}, "activations: must be (5, 4) or (batch, 5, 4) (got (3, 4))"),
        (5, {"activations": W[0]}, "activations: must be (5, 4) or (batch, 5, 4) (got (4,))"),
    ],
)
def test_tokens_and_activations_must_not_contradict(tokens: Any, others: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        Layer.linear("fc", W, tokens=tokens, **others)
    assert problems_of(caught) == [f"layer fc: {said}"]


def test_more_tokens_than_memory_holds_are_told_before_they_are_drawn() -> None:
    # 4 x 10^12 activations of 8 bytes: 29802.3 GiB.
    with pytest.raises(InputError, match=r"layer fc: activations: a sample of shape .*: needs 29802\.3 GiB"):
        simulate(Layer.linear("fc", W, tokens=10**12), CHIP, 0.5)


def test_bias_and_activations_are_told_together() -> None:
    with pytest.raises(InputError) as caught:
        Layer.linear("fc", W, np.ones(5), activations=np.ones(6))
    assert [problem.split(": ")[1] for problem in problems_of(caught)] == ["bias", "activations"]


@pytest.mark.parametrize("density", [0, -0.5, 1.01, float("nan"), float("inf"), "half"])
def test_a_density_out_of_range(density: Any) -> None:
    with pytest.raises(InputError, match="density must be above 0 and at most 1"):
        Density(density)


@pytest.mark.parametrize("seed", [-1, 0.5])
def test_a_seed_out_of_range(seed: Any) -> None:
    with pytest.raises(InputError, match="seed must be a whole number, at least 0"):
        Density(0.5, seed)


def test_a_network_has_layers_of_different_names() -> None:
    fc = Layer.linear("fc", W)
    with pytest.raises(InputError, match="network n: has no layers"):
        Network("n", [])
    with pytest.raises(InputError, match="network n: layer fc: name: is used 3 times; give each layer a name"):
        Network("n", [fc, Layer.linear("other", W), fc, fc])


@pytest.mark.parametrize(
    ("activations", "said"),
    [
        ({"fc1": 0.5}, "activations: network fc has no layer 'fc1'; did you mean 'fc'?"),
        (0, "layer fc: activations: density must be above 0 and at most 1 (got 0)"),
        (1.5, "layer fc: activations: density must be above 0 and at most 1 (got 1.5)"),
        ({"fc": np.ones(3)}, "layer fc: activations: must be (4,) or (batch, 4) (got (3,))"),
        ({"fc": [1, 2, 3, np.nan]}, "layer fc: activations[3] is nan; activations must be finite"),
        ({"fc": np.ones((0, 4))}, "layer fc: activations: is empty (got shape (0, 4))"),
        ({"fc": [[1, 2], [3]]}, "layer fc: activations: "),
    ],
)
def test_activations_that_do_not_fit(activations: Any, said: str) -> None:
    with pytest.raises(InputError) as caught:
        simulate(Layer.linear("fc", W), CHIP, activations)
    assert said in str(caught.value)


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(InputError, match=r"backend: must be 'compiled' or 'simpy' \(got 'fast'\)"):
        simulate(Layer.linear("fc", W), CHIP, 0.5, backend="fast")  # type: ignore[arg-type]


@pytest.mark.parametrize("verify", [False, True])
@pytest.mark.parametrize("backend", ["compiled", "simpy"])
@pytest.mark.parametrize(
    ("weight", "bias", "said"),
    [
        ([[1, 1], [1, np.nan]], None, "weight[1, 1] is nan; weights must be finite"),
        ([[1, np.inf], [np.nan, 1]], None, "weight[0, 1] is inf"),
        ([[1, 1], [-np.inf, 1]], None, "weight[1, 0] is -inf"),
        ([[1, 1], [1, 1]], [0, np.nan], "bias[1] is nan"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
def test_weights_that_are_not_finite_name_the_first(
    weight: Any, bias: Any, said: str, dtype: Any, backend: Any, verify: bool
) -> None:
    layer = Layer.linear("fc", np.array(weight, dtype), None if bias is None else np.array(bias, dtype))
    with pytest.raises(InputError) as caught:
        simulate(Network("n", [Layer.linear("good", W), layer]), CHIP, 0.5, backend, verify=verify)
    (problem,) = problems_of(caught)
    assert problem.startswith("layer fc")
    assert said in problem


@pytest.mark.parametrize("verify", [False, True])
@pytest.mark.parametrize("backend", ["compiled", "simpy"])
def test_weights_that_are_all_zero_are_legal_and_told(backend: Any, verify: bool) -> None:
    with pytest.warns(UserWarning, match="layer fc: all weights are zero"):
        (row,) = simulate(Layer.linear("fc", 0 * W), CHIP, 1.0, backend, verify=verify).to_dict("records")
    assert (row["macs"], row["stored_entries"], row["weight_density"]) == (0, 0, 0.0)
    assert row["cycles"] > 0


def test_what_does_not_fit_names_memory_need_size_and_remedy() -> None:
    # 64 x 64 registers hold 4096 inputs, so 25088 take 7 passes: a pointer per column, and one more per pass.
    pointers = 25088 + 7
    wide = Layer.linear("wide", np.eye(1, 25088, dtype=np.float32), activations=np.ones(25088))
    resident = {"memory.residency": "resident"}
    with pytest.raises(InputError) as caught:
        simulate(wide, load_hardware(CHIP, resident))
    (problem,) = problems_of(caught)
    assert problem.startswith("layer wide on eie-64pe-45nm: engine.pointer_bytes: ")
    assert f"needs {pointers * 2} bytes per PE, has 32768 ({pointers} pointers of 16 bits)" in problem
    assert problem.endswith(
        'enlarge it, use more PEs, set memory.residency = "auto", or set engine.capacity = "ignore"'
    )
    assert simulate(wide, CHIP)["residency"].tolist() == ["stream"]
    ample = load_hardware(CHIP, resident | {"engine.pointer_bytes": pointers * 2})
    assert len(simulate(wide, ample)) == 1
    limitless = load_hardware(CHIP, {"engine.capacity": "ignore", "memory.residency": "stream"})
    row = simulate(wide, limitless).iloc[0]
    assert (row["capacity"], row["residency"]) == ("ignore", "resident")


def test_a_benchmark_of_the_paper_does_not_fit_its_own_chip() -> None:
    vgg6 = load_network("eie-benchmarks")["VGG-6"]
    with pytest.raises(InputError) as caught:
        simulate(vgg6, load_hardware(CHIP, {"memory.residency": "resident"}))
    memories = [problem.split(": ")[1] for problem in problems_of(caught)]
    assert memories == ["engine.pointer_bytes"]


def test_layers_that_fit_one_by_one_and_not_together_are_told() -> None:
    # Two layers of 3 columns: 4 pointers of 2 bytes each.
    net = Network("pair", [Layer.linear(name, W[:, :3]) for name in ("one", "two")])
    chip = load_hardware(CHIP, {"memory.residency": "resident", "engine.pointer_bytes": 12})
    with pytest.raises(InputError) as caught:
        simulate(net, chip, 1.0)
    (problem,) = problems_of(caught)
    assert problem.startswith("network pair on eie-64pe-45nm: engine.pointer_bytes: needs 16 bytes per PE, has 12")
    assert "each layer fits, but not all of them at once" in problem
    assert len(simulate(net, load_hardware(chip, {"engine.pointer_bytes": 16}), 1.0)) == 2


def test_every_layer_and_chip_that_does_not_fit_is_told() -> None:
    small = load_hardware(CHIP, {"name": "small", "engine.pointer_bytes": 8, "memory.residency": "resident"})
    net = Network("n", [Layer.linear("one", W), Layer.linear("two", W)])
    with pytest.raises(InputError) as caught:
        simulate(net, [CHIP, small], 0.5)
    assert [problem.split(": ")[0] for problem in problems_of(caught)] == ["layer one on small", "layer two on small"]
