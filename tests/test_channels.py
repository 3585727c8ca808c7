"""Whole channels: what goes together, what stays, and that every command means the same by it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run
from hypothesis import given
from hypothesis import strategies as st

from accelsim import Density, InputError, Layer, Network, load_network, simulate
from accelsim.allocation import cost
from accelsim.compare import compare, totals
from accelsim.curves import curve
from accelsim.explore.points import Pruning
from accelsim.explore.work import prune as prune_point
from accelsim.network.execution import NumPyExecutor
from accelsim.network.graph import Graph, Operation
from accelsim.network.removal import Sliced
from accelsim.network.samples import with_known_inputs
from accelsim.network.slices import Slices
from accelsim.pruned import prune_network, removed, shrunk

CHIP = "eie-64pe-45nm"
RNG = np.random.default_rng(0)


def between(name: str, does: str, kind: str, inputs: str, shape: tuple[int, ...], channels: str = "same", **said: Any):  # type: ignore[no-untyped-def]
    return Operation(
        name=name, does=does, kind=kind, inputs=tuple(inputs.split()), shape=shape, channels=channels, attributes=said,  # type: ignore[arg-type]
    )  # fmt: skip


def norm(name: str, source: str, width: int, side: int = 4) -> Operation:
    draw = lambda: RNG.random(width).astype(np.float32)  # noqa: E731
    return between(
        name, "BatchNormalization", "normalisation", source, (width, side, side),
        scale=draw(), shift=draw(), mean=draw(), variance=1 + draw(),
    )  # fmt: skip


def conv(name: str, out: int, taken: int, kernel: int = 3, groups: int = 1) -> Layer:
    weight = RNG.normal(size=(out, taken // groups, kernel, kernel)).astype(np.float32)
    bias = RNG.normal(size=out).astype(np.float32)
    return Layer.conv2d(name, weight, bias, input_hw=4, padding=kernel // 2, groups=groups)


def linear(name: str, out: int, taken: int) -> Layer:
    return Layer.linear(name, RNG.normal(size=(out, taken)).astype(np.float32), RNG.normal(size=out).astype(np.float32))


def zoo() -> Network:
    """A stem with batch norm; a residual block of a depthwise and a grouped convolution; a concatenation; a head."""
    layers = [
        conv("stem", 8, 3), conv("wide", 8, 8, 1), conv("dw", 8, 8, groups=8), conv("back", 8, 8, 1),
        conv("grouped", 12, 8, groups=2), conv("side", 5, 8, 1), linear("head", 7, 17), linear("last", 3, 7),
    ]  # fmt: skip
    operations = (
        norm("stem.norm", "stem", 8), between("stem.relu", "Relu", "activation", "stem.norm", (8, 4, 4)),
        norm("wide.norm", "wide", 8), between("wide.relu", "Relu6", "activation", "wide.norm", (8, 4, 4)),
        norm("dw.norm", "dw", 8), between("dw.act", "HardSwish", "activation", "dw.norm", (8, 4, 4)),
        between("add", "Add", "elementwise", "back stem.relu", (8, 4, 4)),
        between("grouped.relu", "Relu", "activation", "grouped", (12, 4, 4)),
        between("concat", "Concat", "concat", "grouped.relu side", (17, 4, 4), "joined", axis=0),
        between("pool", "GlobalAveragePool", "pooling", "concat", (17, 1, 1)),
        between("flatten", "Flatten", "reshape", "pool", (17,), "flattened"),
        between("head.relu", "Relu", "activation", "head", (7,)),
    )  # fmt: skip
    sources = {
        "stem": ("image",), "wide": ("stem.relu",), "dw": ("wide.relu",), "back": ("dw.act",), "grouped": ("add",),
        "side": ("add",), "head": ("flatten",), "last": ("head.relu",),
    }  # fmt: skip
    graph = Graph({"image": (3, 4, 4)}, sources, operations, ("last",))
    net = Network("zoo", layers, graph=graph)
    return net.with_samples(np.random.default_rng(1).normal(size=(5, 3, 4, 4)).astype(np.float32))


ZOO = zoo()
LENET = load_network("lenet-300-100-digits-dense")
NAMES = [layer.name for layer in ZOO]


def answers(network: Network) -> np.ndarray:
    assert network.samples is not None
    return network.runtime.answers(network, network.samples)


def sparsity(network: Network) -> float:
    zeros = sum(int(np.count_nonzero(layer.weight == 0)) for layer in network)
    return zeros / sum(layer.weight_count for layer in network)


# What goes together.


def test_slices_follow_the_graph() -> None:
    slices = Slices.of(ZOO)
    side = slices.layers
    stem = side["stem"].outputs
    assert len(set(stem)) == 4  # the grouped convolution ties them in pairs
    for name in ("wide", "grouped", "side"):
        assert side[name].inputs.tolist() == stem.tolist()
    # The residual addition is one with the stem.
    assert side["back"].outputs.tolist() == stem.tolist()
    assert side["dw"].inputs.tolist() == side["dw"].outputs.tolist() == side["wide"].outputs.tolist()
    # The grouped convolution: the same place of both groups, of 4 inputs and of 6 outputs each.
    assert side["grouped"].inputs[:4].tolist() == side["grouped"].inputs[4:].tolist()
    assert side["grouped"].outputs[:6].tolist() == side["grouped"].outputs[6:].tolist()
    assert slices.operations["concat"].tolist() == [*side["grouped"].outputs, *side["side"].outputs]
    assert side["head"].inputs.tolist() == slices.operations["concat"].tolist()
    assert slices.fixed[side["stem"].inputs].all()
    assert slices.fixed[side["last"].outputs].all()
    assert not slices.fixed[side["last"].inputs].any()


def holes(weight: np.ndarray, outputs: set[int], inputs: set[int]) -> np.ndarray:
    """A weight with zeros for some outputs and some inputs."""
    result = weight.copy()
    result[sorted(outputs)] = 0
    result[:, sorted(inputs)] = 0
    return result


def some_of(size: int) -> st.SearchStrategy[set[int]]:
    return st.sets(st.integers(0, size - 1), max_size=size)


@given(st.fixed_dictionaries({
    layer.name: st.tuples(some_of(layer.weight_shape[0]), some_of(layer.weight_shape[1]), st.booleans())
    for layer in ZOO
}))  # fmt: skip
def test_what_is_taken_out_of_any_masked_network_changes_nothing(
    gone: Mapping[str, tuple[set[int], set[int], bool]],
) -> None:
    """Whoever masked it: a channel goes only where nobody reads it, or where zero comes of it."""
    layers = []
    for layer in ZOO:
        outputs, inputs, silent = gone[layer.name]
        weight, bias = holes(layer.weight, outputs, inputs), np.array(layer.bias)
        bias[sorted(outputs) if silent else []] = 0
        layers.append(replace(layer, weight_source=lambda weight=weight: weight, bias=bias))
    masked = replace(ZOO, layers=layers)
    small = removed(masked)
    assert small["stem"].weight_shape[1] == 3
    assert small["last"].weight_shape[0] == 3
    np.testing.assert_allclose(answers(small), answers(masked), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["filter", "channel"])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_a_pruned_network_without_its_channels_computes_the_same(kind: str, share: float) -> None:
    pruned = prune_network(ZOO, kind, share)
    small = shrunk(pruned)
    np.testing.assert_allclose(answers(small), answers(pruned), rtol=1e-4, atol=1e-4)
    # All zeros are gone, and nothing else.
    assert sum(layer.weight_count for layer in small) == sum(np.count_nonzero(layer.weight) for layer in pruned)
    assert answers(small).shape == answers(ZOO).shape
    # What stands between has the width of what it takes.
    assert small.graph is not None
    operations = small.graph.by_name
    width = small["stem"].out_features
    assert operations["add"].shape == operations["stem.norm"].shape == (width, 4, 4)
    assert operations["stem.norm"].attributes["scale"].shape == (width,)
    assert operations["concat"].shape[0] == small["grouped"].out_features + small["side"].out_features
    assert operations["flatten"].shape == (small["head"].in_features,)
    assert small["dw"].groups == small["dw"].out_features == small["wide"].out_features
    assert small["grouped"].groups == 2


def test_the_sparsity_is_that_of_the_whole_network() -> None:
    for kind in ("filter", "channel"):
        for share in (0.1, 0.3, 0.5, 0.7):
            pruned = prune_network(LENET, kind, share)
            # fc1 (300, 64), fc2 (100, 300), fc3 (10, 100): a step is one of 300 or, with it, one of 100.
            step = (64 + 100 + 300 + 10) / sum(layer.weight_count for layer in LENET)
            assert abs(sparsity(pruned) - share) <= step / 2
            assert 1 - sum(layer.weight_count for layer in shrunk(pruned)) / sum(
                layer.weight_count for layer in LENET
            ) == pytest.approx(sparsity(pruned))


def test_channel_ranks_by_those_who_read_and_filter_by_those_who_make() -> None:
    made, read = np.ones((4, 3), np.float32), np.ones((2, 4), np.float32)
    made[1] = 0.1
    read[:, 2] = 0.1
    net = Network("n", [Layer.linear("one", made), Layer.linear("two", read)])
    for kind, gone in (("filter", 1), ("channel", 2)):
        pruned = prune_network(net, kind, 0.25)
        for used in (pruned["one"].weight.any(axis=1), pruned["two"].weight.any(axis=0)):
            assert used.tolist() == [number != gone for number in range(4)]


def test_a_share_by_layer_is_that_of_its_channels_and_the_largest_of_those_tied_counts() -> None:
    wide = Slices.of(ZOO).layers["stem"].outputs
    kept = lambda net: net["stem"].weight.any(axis=(1, 2, 3))  # noqa: E731
    for shares in ({"stem": 0.5}, {"back": 0.5}, {"stem": 0.25, "back": 0.5}):
        flags = kept(prune_network(ZOO, "filter", shares))
        assert np.count_nonzero(flags) == 4
        assert all(len(set(flags[wide == number])) == 1 for number in set(wide))
    with pytest.raises(InputError, match="layer stem: granularity 'channel': its inputs are those of the network"):
        prune_network(ZOO, "channel", {"stem": 0.5})
    # One of each width stays.
    assert shrunk(prune_network(ZOO, "filter", dict.fromkeys(NAMES, 0.99)))["head"].out_features == 1


def test_more_than_there_is_to_prune_is_refused() -> None:
    with pytest.raises(InputError, match=r"0\.99 of the weights of network zoo cannot be pruned.*give at most 0\.\d"):
        prune_network(ZOO, "channel", 0.99)


def test_what_has_not_so_many_channels_is_left_out_of_a_comparison() -> None:
    wide = Network("wide", [linear("one", 2, 400), linear("two", 3, 2)])  # of 806 weights 403 can go
    with pytest.warns(UserWarning, match="0.6 of the weights .* give at most 0.5; it is left out"):
        table = compare(wide, [CHIP], ["fine", "channel"], 0.6, activations=1.0)
    assert set(table["pruned_by"]) == {"as given", "fine"}
    with pytest.raises(InputError, match=r"0\.6 of the weights"):
        compare(wide, [CHIP], ["channel"], 0.6, activations=1.0)


# Inputs and outputs of the network.


def test_inputs_and_outputs_stay_unless_asked() -> None:
    ends = prune_network(ZOO, "channel", 0.5, ends=True)
    assert shrunk(ends)["stem"].weight_shape[1] == 3  # zero, and not taken out
    small = shrunk(ends, ends=True)
    assert small["stem"].weight_shape[1] < 3
    assert small.samples is not None
    assert small.samples["image"].shape == (5, small["stem"].weight_shape[1], 4, 4)
    np.testing.assert_allclose(answers(small), answers(ends), rtol=1e-4, atol=1e-4)
    outputs = shrunk(prune_network(ZOO, "filter", 0.5, ends=True), ends=True)
    assert answers(outputs).shape[1] < 3


# What is not known, and what cannot be followed.


def test_channels_that_are_mixed_stay() -> None:
    softmax = between("softmax", "Softmax", "softmax", "one", (4,), "mixed")
    layers = [linear("one", 4, 3), linear("two", 6, 4), linear("three", 2, 6)]
    graph = Graph({"x": (3,)}, {"one": ("x",), "two": ("softmax",), "three": ("two",)}, (softmax,), ("three",))
    small = shrunk(prune_network(Network("n", layers, graph=graph), "filter", {"one": 0.5, "two": 0.5}))
    assert [layer.weight_shape for layer in small] == [(4, 3), (3, 4), (2, 3)]
    with pytest.raises(InputError, match=r"layer one: granularity 'filter': its outputs .* mix channels"):
        prune_network(Network("n", layers, graph=graph), "filter", {"one": 0.5})


def test_where_nothing_says_what_takes_what_each_layer_is_pruned_by_itself() -> None:
    net = Network("n", [linear("a", 8, 4), linear("b", 8, 6), linear("c", 5, 10)])
    with pytest.warns(UserWarning, match="network n: it is not known which layer feeds which.*by itself"):
        pruned = prune_network(net, "channel", {"a": 0.5, "b": 0.5, "c": 0.5})
    assert [layer.weight_shape for layer in shrunk(pruned)] == [(8, 4), (8, 3), (5, 5)]


def test_layers_that_multiply_by_the_same_weights_lose_the_same() -> None:
    shared = RNG.normal(size=(4, 4)).astype(np.float32)
    layers = [linear("one", 4, 3), Layer.linear("two", shared), Layer.linear("three", shared), linear("four", 2, 4)]
    layers[1:3] = [replace(layer, weights_key="shared") for layer in layers[1:3]]
    pruned = prune_network(Network("n", layers), "filter", {"one": 0.5})
    assert np.array_equal(pruned["two"].weight, pruned["three"].weight)
    assert [layer.weight_shape for layer in shrunk(pruned)] == [(2, 3), (2, 2), (2, 2), (2, 2)]


# What layers see.


def test_a_shrunk_network_is_run_by_what_ran_the_whole_one() -> None:
    """What each layer sees is what it saw among zeros, less the channels that went; other weights count, too."""
    whole = replace(ZOO, executor=NumPyExecutor.of(ZOO))
    pruned = prune_network(whole, "channel", 0.5)
    small = shrunk(pruned)
    assert isinstance(small.executor, Sliced)
    assert small.runtime.runtime == "NumPy"
    finer = prune_network(small, "fine", 0.5)
    for variant, alone in ((small, shrunk(prune_network(ZOO, "channel", 0.5))), (finer, None)):
        plain = replace(variant, executor=None) if alone is None else alone
        for seen, expected in zip(variant.seen(outputs=True), plain.seen(outputs=True), strict=True):
            assert seen.layer == expected.layer
            np.testing.assert_allclose(seen.inputs, expected.inputs, rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(seen.outputs, expected.outputs, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(answers(variant), answers(plain), rtol=1e-4, atol=1e-4)


def test_inputs_that_went_are_zeros_to_what_runs_it() -> None:
    whole = replace(ZOO, executor=NumPyExecutor.of(ZOO))
    ends = prune_network(whole, "channel", 0.5, ends=True)
    small = shrunk(ends, ends=True)
    channels = small["stem"].weight_shape[1]
    assert small.runtime.expected["image"].shape == (channels, 4, 4)
    assert small.samples is not None
    assert small.runtime.batched(small.samples) == 5
    np.testing.assert_allclose(answers(small), answers(ends), rtol=1e-4, atol=1e-4)
    with pytest.raises(InputError, match="image"):
        small.with_samples(np.zeros((2, 7, 4, 4), np.float32))


# Every command means the same.


@pytest.mark.parametrize("kind", ["channel", "filter"])
@pytest.mark.parametrize("name", ["lenet-300-100-digits-dense", "convnet-digits-dense"])
def test_compare_curve_and_prune_agree_to_the_cycle(name: str, kind: str, tmp_path: Path, accelsim: Run) -> None:
    """Before, one request on LeNet-300-100 took 6,493, 7,133 and 8,560 cycles."""
    compared = totals(compare(name, [CHIP], [kind], 0.5)).set_index("pruned_by").loc[kind]
    point = curve(name, [CHIP], [kind], [0.5]).set_index("granularity").loc[kind]
    target = tmp_path / "pruned.safetensors"
    typed = ["prune", name, "--granularity", kind, "--sparsity", "0.5", "--remove", "-o", str(target)]
    assert accelsim(*typed).code == 0
    run = simulate(target, CHIP)
    swept = simulate(
        shrunk(prune_point(with_known_inputs(load_network(name)), Pruning((("", kind, 0.5),)), "l1", 0)), CHIP
    )
    for column in ("cycles", "energy_pj", "time_us", "storage_bits"):
        found = [compared[column], point[column], run[column].sum(), swept[column].sum()]
        assert found == pytest.approx([found[0]] * 4, rel=1e-12), column
    assert point["sparsity"] == pytest.approx(0.5, abs=0.01)


def test_as_given_a_masked_network_runs_as_it_is() -> None:
    """Zeros that a file has are in its places wherever it runs as given."""
    masked = prune_network(with_known_inputs(LENET), "channel", 0.5)
    cycles = simulate(masked, CHIP)["cycles"].sum()
    assert totals(compare(masked, [CHIP], ["nm:2:4"], 0.5)).set_index("pruned_by").loc["as given", "cycles"] == cycles
    assert curve(masked, [CHIP], ["nm:2:4"], [0.5]).set_index("granularity").loc["as given", "cycles"] == cycles
    assert cost(masked, CHIP, "cycles") == cycles


def test_with_drawn_activations_they_agree_too(tmp_path: Path) -> None:
    compared = totals(compare(LENET, [CHIP], ["channel"], 0.5, activations=0.4, seed=3)).set_index("pruned_by")
    point = curve(LENET, [CHIP], ["channel"], [0.5], activations=0.4, seed=3).set_index("granularity")
    shrunk(prune_network(LENET, "channel", 0.5)).save(tmp_path / "small.safetensors")
    run = simulate(tmp_path / "small.safetensors", CHIP, 0.4, seed=3)
    assert compared.loc["channel", "cycles"] == point.loc["channel", "cycles"] == run["cycles"].sum()


def test_without_remove_channels_are_zero_and_it_is_said(tmp_path: Path, accelsim: Run) -> None:
    target = tmp_path / "masked.safetensors"
    typed = ["prune", LENET.name, "--granularity", "channel", "--sparsity", "0.5", "-o", str(target)]
    assert "--remove takes it out" in " ".join(accelsim(*typed).err.split())
    masked = load_network(target)
    assert [layer.weight_shape for layer in masked] == [layer.weight_shape for layer in LENET]
    assert [layer.weight_shape for layer in shrunk(masked)] == [
        layer.weight_shape for layer in shrunk(prune_network(LENET, "channel", 0.5))
    ]


def test_what_is_no_channel_cannot_be_taken_out(tmp_path: Path, accelsim: Run) -> None:
    for option in ("--remove", "--ends"):
        said = accelsim("prune", LENET.name, "--sparsity", "0.5", option, "-o", tmp_path / "pruned.safetensors")
        assert said.code == 2
        assert f"{option}: applies to channels, and 'fine' prunes none" in said.errors[0]
    typed = ["prune", LENET.name, "--granularity", "channel", "--sparsity", "0.5", "--remove", "-o"]
    assert "--remove: changes shapes" in accelsim(*typed, tmp_path / "a.onnx").errors[0]


def test_a_layer_alone_has_ends_only() -> None:
    net = Network("n", [Layer.linear("only", np.ones((8, 4), np.float32), activations=Density(0.5))])
    with pytest.raises(InputError, match="'channel' can prune nothing of it: its channels are inputs or outputs"):
        compare(net, [CHIP], ["channel"], 0.5)
    table = compare(net, [CHIP], ["channel"], 0.5, ends=True).set_index("pruned_by")
    assert table.loc["channel", "in_features"] == 2


def test_scales_of_batch_norms_rank_filters_and_channels() -> None:
    """Half of the filters of `stem` and of `wide`, which reads them, go: those with the smallest scales."""
    layers = [conv("stem", 8, 3), conv("wide", 8, 8, 1), conv("last", 4, 8, 1)]
    operations = (
        norm("stem.norm", "stem", 8), between("relu", "Relu", "activation", "stem.norm", (8, 4, 4)),
        norm("wide.norm", "wide", 8),
    )  # fmt: skip
    sources = {"stem": ("image",), "wide": ("relu",), "last": ("wide.norm",)}
    order = ("stem", "stem.norm", "relu", "wide", "wide.norm", "last")
    network = Network("scaled", layers, graph=Graph({"image": (3, 4, 4)}, sources, operations, order=order))
    for kind in ("filter", "channel"):
        pruned = prune_network(network, kind, 0.5, "scale")
        for layer, number in (("stem", 0), ("wide", 2)):
            scales = operations[number].attributes["scale"]
            kept = np.flatnonzero(pruned[layer].weight.reshape(8, -1).any(axis=1))
            assert 0 < len(kept) < 8
            assert set(kept) == set(np.argsort(-scales)[: len(kept)])
    with pytest.raises(InputError, match="none stands behind this layer"):
        prune_network(Network("bare", [linear("a", 4, 4), linear("b", 4, 4)]), "filter", 0.5, "scale")
