"""Does what enters each layer follow from what enters the network, whatever was pruned, and does every table say so?"""

from __future__ import annotations

import gc
import itertools
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

import accelsim
from accelsim.allocation import allocate, sensitivity
from accelsim.compare import compare, totals
from accelsim.curves import curve
from accelsim.divisions import divisions
from accelsim.evaluation import as_computed, labelled
from accelsim.explore import sweep
from accelsim.formats.precision import Precision
from accelsim.inputs import LayerInputs
from accelsim.network import shuffled
from accelsim.network.executor import Expected, Seen
from accelsim.network.samples import with_inputs, with_known_inputs
from accelsim.number_formats import integer
from accelsim.pruned import prune_network, shrunk
from accelsim.simulation import Prepared
from accelsim.verification import check_outputs

CHIP = "eie-64pe-45nm"
RNG = np.random.default_rng(16)
SIZES = (12, 20, 16, 4)
LABELS = np.arange(9) % 4
SAMPLES = RNG.standard_normal((9, 12)).astype(np.float32)


def chain() -> accelsim.Network:
    """Three layers that are a chain, with nothing that says what enters them."""
    layers = [
        accelsim.Layer.linear(
            f"fc{number}",
            RNG.standard_normal((rows, columns)).astype(np.float32),
            RNG.standard_normal(rows).astype(np.float32),
        )
        for number, (columns, rows) in enumerate(itertools.pairwise(SIZES), 1)
    ]
    return accelsim.Network("chain", layers)


def by_hand(network: accelsim.Network, samples: np.ndarray = SAMPLES) -> dict[str, np.ndarray]:
    """What enters each layer of a chain, and at the end what it gives, in double precision."""
    found, signal = {}, samples.astype(np.float64)
    for layer in network:
        found[layer.name] = signal
        signal = signal @ layer.weight.astype(np.float64).T + layer.bias
        found["given"] = signal
        signal = np.maximum(signal, 0)
    return found


def densities(network: accelsim.Network, samples: np.ndarray = SAMPLES) -> list[float]:
    entering = by_hand(network, samples)
    return [float(np.mean(entering[layer.name] != 0)) for layer in network]


@pytest.fixture
def net() -> accelsim.Network:
    return chain()


def test_a_layer_runs_on_what_the_network_makes_of_its_inputs(net: accelsim.Network) -> None:
    table = accelsim.simulate(net, CHIP, inputs=SAMPLES, operations=False)
    assert table["activation_density"].tolist() == pytest.approx(densities(net))
    assert set(table["activations"]) == {"real"}
    assert set(table["batch"]) == {9}
    same = accelsim.simulate(net, CHIP, {name: each for name, each in by_hand(net).items() if name != "given"})
    assert set(same["activations"]) == {"as given"}
    assert table["cycles"].tolist() == same["cycles"].tolist()


@pytest.mark.parametrize("granularity", ["fine", "filter", "channel", "nm:2:4"])
def test_a_pruned_network_is_run_anew(net: accelsim.Network, granularity: str) -> None:
    known = net.with_samples(SAMPLES)
    pruned = prune_network(known, granularity, None if granularity == "nm:2:4" else 0.5)
    table = accelsim.simulate(pruned, CHIP, operations=False)
    assert table["activation_density"].tolist() == pytest.approx(densities(pruned))
    assert table["activation_density"].tolist()[1:] != pytest.approx(densities(net)[1:])
    assert set(table["activations"]) == {"real"}
    # Shrunk, its layers see the same without the channels that are gone.
    small = shrunk(pruned)
    nonzeros = [int(np.count_nonzero(each.samples.batch)) for each in LayerInputs(small).each()]
    entering = by_hand(pruned)
    gone = {layer.name: ~np.any(layer.weight, axis=0) for layer in pruned}
    is_channel = granularity in ("filter", "channel")
    assert nonzeros == [
        int(
            np.count_nonzero(
                entering[layer.name][:, ~gone[layer.name]] if is_channel and number else entering[layer.name]
            )
        )
        for number, layer in enumerate(pruned)
    ]


def test_stored_activations_that_a_run_makes_again_are_inputs(net: accelsim.Network) -> None:
    entering = by_hand(net)
    stored = replace(net, layers=[replace(layer, activations=entering[layer.name]) for layer in net])
    known = with_known_inputs(stored)
    assert known.samples is not None
    assert known.samples["input"].shape == SAMPLES.shape
    assert known.graph is None
    pruned = prune_network(stored, "fine", 0.6)
    assert set(accelsim.simulate(pruned, CHIP)["activations"]) == {"real"}
    assert accelsim.simulate(pruned, CHIP)["activation_density"].tolist() == pytest.approx(densities(pruned))
    other = entering["fc2"].copy()
    other.flat[np.flatnonzero(other)[0]] = 0
    broken = replace(stored, layers=[stored["fc1"], replace(stored["fc2"], activations=other), stored["fc3"]])
    assert with_known_inputs(broken) is broken
    assert set(accelsim.simulate(broken, CHIP)["activations"]) == {"as given"}
    assert set(accelsim.simulate(prune_network(broken, "fine", 0.6), CHIP)["activations"]) == {"as given"}


@pytest.mark.parametrize("name", ["lenet-300-100-digits", "convnet-digits-dense"])
def test_shipped_networks_of_digits_are_run_anew(name: str) -> None:
    assert with_known_inputs(accelsim.load_network(name)).samples is not None


def test_every_row_says_whose_its_activations_are(net: accelsim.Network) -> None:
    with pytest.warns(UserWarning, match="no activations for fc1, fc2, fc3: .* pass inputs= "):
        dense = accelsim.simulate(net, CHIP)
    assert set(dense["activations"]) == {"assumed dense"}
    assert set(accelsim.simulate(net, CHIP, 0.5)["activations"]) == {"drawn"}
    known = net.with_samples(SAMPLES)
    assert set(accelsim.simulate(known, CHIP, 0.5)["activations"]) - {"-"} == {"drawn"}
    some = accelsim.simulate(known, CHIP, {"fc2": 0.25}, operations=False)
    assert some["activations"].tolist() == ["real", "drawn", "real"]
    assert some["activation_density"].tolist()[::2] == pytest.approx(densities(net)[::2])


def test_accuracy_is_that_of_the_network_as_each_chip_computes_it(net: accelsim.Network) -> None:
    chips = [CHIP, "edge-nm-16x16"]
    table = accelsim.simulate(net, chips, inputs=SAMPLES, labels=LABELS, operations=False)
    as_given = np.mean(by_hand(net)["given"].argmax(axis=1) == LABELS)
    assert labelled(net.with_samples(SAMPLES, LABELS))(net) == as_given
    for chip, mine in table.groupby("hardware"):
        from accelsim.engines import engine_of

        loaded = accelsim.load_hardware(str(chip))
        computed = as_computed(net, engine_of(loaded).precision(loaded))
        signal = SAMPLES
        for number, layer in enumerate(computed):
            assert layer.rounded is not None
            signal = layer.rounded(np.maximum(signal, 0) if number else signal) @ layer.weight.T + layer.bias
        assert set(mine["accuracy"]) == {np.mean(signal.argmax(axis=1) == LABELS)}
    assert accelsim.simulate(net, CHIP, inputs=SAMPLES)["accuracy"].isna().all()


def test_only_one_layer_is_kept_at_a_time(net: accelsim.Network) -> None:
    seen: list[weakref.ref[np.ndarray]] = []
    alive: list[int] = []

    @dataclass(frozen=True)
    class Watched:
        runtime = "test"
        expected = {"input": Expected((12,), "float32")}  # noqa: RUF012

        def batched(self, inputs: Mapping[str, Any]) -> int:
            return len(inputs["input"])

        def seen(
            self, network: accelsim.Network, inputs: Mapping[str, Any], *, outputs: bool = False
        ) -> Iterator[Seen]:
            for layer in network:
                gc.collect()
                alive.append(sum(each() is not None for each in seen))
                given = np.ones((9, layer.in_features), np.float32)
                seen.append(weakref.ref(given))
                yield Seen(layer.name, given)

        def answers(self, network: accelsim.Network, inputs: Mapping[str, Any]) -> np.ndarray:
            raise NotImplementedError

    long = replace(net, layers=[replace(net["fc2"], name=f"a{number}", in_features=20) for number in range(6)])
    run = replace(long, executor=Watched(), samples={"input": SAMPLES})
    accelsim.simulate(run, CHIP)
    assert max(alive) <= 1  # the one before, until the next is asked for


@pytest.mark.parametrize(
    ("file", "write"),
    [
        ("x.npz", lambda path: np.savez(path, input=SAMPLES, labels=LABELS)),
        ("any.npz", lambda path: np.savez(path, SAMPLES, labels=LABELS)),
        ("x.safetensors", lambda path: save_file({"input": SAMPLES, "labels": LABELS}, path)),
    ],
)
def test_inputs_and_labels_come_from_a_file(
    net: accelsim.Network, tmp_path: Path, file: str, write: Callable[[Path], None]
) -> None:
    write(tmp_path / file)
    found = with_inputs(net, tmp_path / file)
    assert found.samples is not None
    assert found.labels is not None
    np.testing.assert_array_equal(found.samples["input"], SAMPLES)
    np.testing.assert_array_equal(found.labels, LABELS)


def test_labels_may_lie_in_a_file_of_their_own(net: accelsim.Network, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", SAMPLES)
    np.save(tmp_path / "y.npy", LABELS)
    found = with_inputs(net, tmp_path / "x.npy", tmp_path / "y.npy")
    np.testing.assert_array_equal(found.labels, LABELS)
    again = with_inputs(net.with_samples(SAMPLES), None, tmp_path / "y.npy")
    np.testing.assert_array_equal(again.labels, LABELS)
    np.save(tmp_path / "y.npy", LABELS[:5])
    with pytest.raises(accelsim.InputError, match=r"y.npy: labels: there are 5 for 9 samples"):
        with_inputs(net, tmp_path / "x.npy", tmp_path / "y.npy")


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": SAMPLES, "y": SAMPLES}, "there is no input 'x'"),
        ({"input": SAMPLES[:, :5]}, r"input: must be of shape \(samples, 12\) \(got \(9, 5\)\)"),
        ({"input": SAMPLES[0]}, r"input: must be of shape \(samples, 12\) \(got \(12,\)\)"),
        ({"input": np.where(SAMPLES > 1, np.nan, SAMPLES)}, "NaN"),
        ({"input": SAMPLES.astype(np.float64) * 1e300}, "infinite numbers; all must be finite, as float32, too"),
        ({"input": SAMPLES.astype(str)}, "'input' has type <U"),
        ({"input": SAMPLES, "labels": LABELS[:5]}, "labels: there are 5 for 9 samples; give one of each"),
        ({"input": SAMPLES, "labels": LABELS + 0.5}, "labels: must be whole numbers"),
        ({}, "holds no array"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_by_name(
    net: accelsim.Network, tmp_path: Path, arrays: dict[str, np.ndarray], said: str
) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    with pytest.raises(accelsim.InputError, match=said) as caught:
        with_inputs(net, path)
    assert all(str(path) in problem for problem in caught.value.problems)


def test_what_is_no_file_of_samples_is_refused(net: accelsim.Network, tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_text("no array")
    np.savez(tmp_path / "two.npz", a=LABELS, b=LABELS)
    (tmp_path / "empty.npy").touch()
    (tmp_path / "folder.npy").mkdir()
    np.save(tmp_path / "objects.npy", np.array([1, None], object), allow_pickle=True)
    for inputs, labels, said in (
        (tmp_path / "x.csv", None, "samples are a .npz, .npy, .safetensors file"),
        (tmp_path / "none.npz", None, "no such file"),
        (tmp_path / "x.npy", None, "is not an array"),
        (tmp_path / "empty.npy", None, "empty.npy: is not an array"),
        (tmp_path / "objects.npy", None, "objects.npy: is not an array .*Python objects"),
        (tmp_path / "folder.npy", None, r"^\S*folder.npy: is a directory; name a file in it"),
        (SAMPLES, tmp_path / "two.npz", "call the one with the class of each sample labels"),
        (None, LABELS, "labels are of no use without its inputs"),
    ):
        with pytest.raises(accelsim.InputError, match=said):
            with_inputs(net, inputs, labels)
    with pytest.raises(accelsim.InputError, match=r"labels: must be from 0 to 3 \(got 0 to 8\)"):
        accelsim.simulate(net, CHIP, inputs=SAMPLES, labels=np.arange(9))


def test_a_run_and_the_product_agree_within_rounding(net: accelsim.Network) -> None:
    known = net.with_samples(SAMPLES)
    table = accelsim.simulate(known, [CHIP, "edge-nm-16x16"], verify=True, operations=False)
    assert set(table["verified"]) == {"exact"}
    entering = next(each for each in LayerInputs(known).each(outputs=True) if each.layer == "fc2")
    assert entering.outputs is not None
    eight = Precision(integer(8), integer(8))
    check_outputs(net["fc2"], entering, [eight])
    # The largest sum is of some tens: single precision adds 20 products to within 1e-5, so that 1e-3 is no rounding.
    wrong = entering._replace(outputs=entering.outputs + np.float32(1e-3))
    with pytest.raises(accelsim.VerificationError, match=r"layer fc2: running the network gives .* in unrounded"):
        check_outputs(net["fc2"], wrong, [eight])
    with pytest.raises(accelsim.VerificationError, match="which is not what it gives"):
        check_outputs(net["fc2"], entering._replace(outputs=entering.outputs[:4]), [])


def test_a_capture_that_is_not_the_layer_is_found(net: accelsim.Network) -> None:
    known = net.with_samples(SAMPLES)
    numpy = known.runtime

    @dataclass(frozen=True)
    class Other:
        runtime = "test"
        expected = numpy.expected

        def batched(self, inputs: Mapping[str, Any]) -> int:
            return numpy.batched(inputs)

        def seen(
            self, network: accelsim.Network, inputs: Mapping[str, Any], *, outputs: bool = False
        ) -> Iterator[Seen]:
            for each in numpy.seen(network, inputs, outputs=outputs):
                yield each._replace(inputs=np.roll(each.inputs, 1, axis=1)) if each.layer == "fc3" else each

        def answers(self, network: accelsim.Network, inputs: Mapping[str, Any]) -> np.ndarray:
            return numpy.answers(network, inputs)

    turned = replace(known, executor=Other())
    accelsim.simulate(turned, CHIP)
    with pytest.raises(accelsim.VerificationError, match="layer fc3: running the network gives"):
        accelsim.simulate(turned, CHIP, verify=True)


def test_tables_of_variants_run_them_anew_and_score_them_by_labels(net: accelsim.Network) -> None:
    known = net.with_samples(SAMPLES, LABELS)
    known = replace(known, provenance={"accuracy_dense": 0.25})
    half = prune_network(known, "fine", 0.5)
    alone = accelsim.simulate(half, CHIP)
    points = curve(known, [CHIP], ["fine"], [0.5])
    assert points["cycles"].tolist()[1] == alone["cycles"].sum()
    assert points["score"].tolist()[1] == alone["accuracy"].iloc[0]
    assert set(points["activations"]) == {"real"}
    held = totals(compare(known, [CHIP], ["fine"], 0.5)).set_index("pruned_by")
    assert held.loc["fine", "cycles"] == alone["cycles"].sum()
    assert held.loc["fine", "accuracy"] == alone["accuracy"].iloc[0]
    assert set(held["activations"]) == {"real"}
    opened = divisions(half, [CHIP]).set_index("division")
    assert opened.loc["open", "accuracy"] == alone["accuracy"].iloc[0]
    assert opened.loc["open", "activations"] == "real"
    one = sensitivity(known, "fine", [0.5])
    first = prune_network(known, "fine", {"fc1": 0.5})
    assert one["score"].iloc[0] == labelled(known)(first)
    budget = 0.97 * float(accelsim.simulate(known, CHIP)["energy_pj"].sum())
    found = allocate(known, CHIP, budget, "energy_pj", sparsities=[0.5, 0.9])
    assert found.activations == "real"
    assert found.cost == pytest.approx(accelsim.simulate(found.network, CHIP)["energy_pj"].sum())
    assert found.score == accelsim.simulate(found.network, CHIP)["accuracy"].iloc[0]


def test_criteria_look_at_what_layers_see(net: accelsim.Network) -> None:
    entering = by_hand(net)
    stored = replace(net, layers=[replace(layer, activations=entering[layer.name]) for layer in net])
    wanted = prune_network(stored, "fine", 0.5, "wanda")
    found = prune_network(net.with_samples(SAMPLES), "fine", 0.5, "wanda")
    for before, after in zip(wanted, found, strict=True):
        np.testing.assert_array_equal(before.weight, after.weight)
        assert after.activations is None


def test_a_space_has_inputs_and_its_layers_see_the_whole_network(net: accelsim.Network, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", input=SAMPLES, labels=LABELS)
    space = {
        "network": net, "inputs": str(tmp_path / "x.npz"), "layers": ["fc2"],
        "vary": {"sparsity": [0.0, 0.5], "engine.pes": [4, 16]},
    }  # fmt: skip
    table = sweep(space, tmp_path / "results.db", jobs=1)
    assert table["error"].tolist() == [""] * 4
    assert set(table["activations"]) == {"real"}
    half = prune_network(net, "fine", {"fc2": 0.5})
    chips = [accelsim.load_hardware(CHIP, {"engine.pes": pes}) for pes in (4, 16)]
    wanted = [accelsim.simulate(each, chips, inputs=SAMPLES) for each in (net, half)]
    assert table["cycles"].tolist() == [
        cycles for each in wanted for cycles in each.loc[each["layer"] == "fc2", "cycles"].tolist()
    ]
    assert table["score"].notna().all()


def test_what_is_kept_between_runs_is_what_a_run_makes(net: accelsim.Network) -> None:
    known = net.with_samples(SAMPLES)
    chips = [accelsim.load_hardware(CHIP, {"engine.pes": pes}) for pes in (4, 16)]
    ready = Prepared(known, keep=True)
    rows = [row for chip in chips for row in ready.rows([chip])[0]]
    wanted = [row for chip in chips for row in Prepared(known).rows([chip])[0]]
    assert rows == wanted


@pytest.mark.parametrize("density", [1e-9, 0.3, 1.0])
def test_which_drawn_values_are_not_zero_is_known_without_them(density: float) -> None:
    drawn = accelsim.Density(density, seed=7, batch=3)
    assert np.array_equal(drawn.draw_nonzero(1000), drawn.draw(1000) != 0)


@given(
    length=st.one_of(st.integers(1, 300), st.sampled_from([1023, 1024, 1025, 4096, 70_001, 2**17, 300_000])),
    share=st.floats(0, 1),
    seed=st.one_of(st.integers(0, 2**32), st.tuples(st.integers(0, 99), st.integers(1, 99))),
    at_once=st.sampled_from([1, 3, shuffled.DRAWN_AT_ONCE]),
)
def test_what_a_shuffle_puts_first_is_what_numpy_puts_there(
    length: int, share: float, seed: int | tuple[int, int], at_once: int
) -> None:
    count = round(share * length)
    wanted = np.zeros(length, bool)
    wanted[np.random.default_rng(seed).permutation(length)[:count]] = True
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shuffled, "SHUFFLED_BELOW", 0)
        patch.setattr(shuffled, "DRAWN_AT_ONCE", at_once if length < 5000 else shuffled.DRAWN_AT_ONCE)
        found = shuffled.first_of_shuffled(np.random.default_rng(seed), length, count)
    assert np.array_equal(found, wanted)


def test_layers_with_many_activations_draw_what_few_do() -> None:
    drawn = accelsim.Density(0.37, seed=7, batch=2)
    length = shuffled.SHUFFLED_BELOW + 5
    assert np.array_equal(drawn.draw_nonzero(length), drawn.draw(length) != 0)
