"""How much is pruned where: thresholds, sensitivity, budgets met on simulated chips, and the scores behind them."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from accelsim import Density, InputError, Layer, Network, load_hardware, load_network, simulate
from accelsim.allocation import allocate, cost, global_sparsities, sensitivity, uniform
from accelsim.evaluation import accuracy, digits, fidelity, load_evaluation, log_likelihood
from accelsim.network.forward import forward, with_activations
from accelsim.pruned import prune_network, removed
from accelsim.pruning import prune, threshold

RNG = np.random.default_rng(0)
CHIP = "eie-64pe-45nm"
DIGITS = "lenet-300-100-digits-dense"


def chain(seed: int = 0) -> Network:
    """A convolution, a convolution and a linear layer, each of which takes what comes before it."""
    rng = np.random.default_rng(seed)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    first = Layer.conv2d("c1", draw(6, 2, 3, 3), draw(6), input_hw=5, padding=1)
    second = Layer.conv2d("c2", draw(4, 6, 3, 3), draw(4), input_hw=5, stride=2, padding=1)
    last = Layer.linear("fc", draw(3, 4 * 9), draw(3))
    return with_activations(Network("chain", [first, second, last]), draw(7, 2, 5, 5))


def test_forward_is_the_layers_one_after_another() -> None:
    net = chain()
    samples = net["c1"].activations
    # The definition of a convolution, in loops.
    c1 = net["c1"]
    padded = np.pad(samples, ((0, 0), (0, 0), (1, 1), (1, 1))).astype(np.float64)
    maps = np.zeros((7, 6, 5, 5))
    for y, x in product(range(5), range(5)):
        maps[:, :, y, x] = np.tensordot(padded[:, :, y : y + 3, x : x + 3], c1.weight, ([1, 2, 3], [1, 2, 3])) + c1.bias
    np.testing.assert_allclose(net["c2"].activations, np.maximum(maps, 0), rtol=1e-4, atol=1e-5)
    seen = net["fc"].activations
    assert seen.shape == (7, 36)
    np.testing.assert_allclose(forward(net, samples), seen @ net["fc"].weight.T + net["fc"].bias, rtol=1e-4, atol=1e-4)


def test_a_network_that_is_no_chain_is_refused_by_name() -> None:
    layers = [Layer.linear(name, np.ones((2, 3))) for name in ("a", "b")]
    with pytest.raises(InputError, match=r"layer b: takes \(3,\), what comes before it gives \(2,\)"):
        forward(Network("two heads", layers), np.zeros((1, 3), np.float32))


def test_removal_leaves_what_the_network_computes() -> None:
    net = chain()
    samples = net["c1"].activations
    pruned = prune_network(net, "filter", {"c1": 0.5, "c2": 0.25})
    small = removed(pruned)
    # 3 of 6 and 1 of 4 filters go, with the channels, and of a map of 3 x 3 the nine inputs, that read them.
    assert [layer.weight.shape for layer in small] == [(3, 2, 3, 3), (3, 3, 3, 3), (3, 27)]
    np.testing.assert_allclose(forward(small, samples), forward(pruned, samples), rtol=1e-4, atol=1e-4)
    kept = pruned["c1"].weight.any(axis=(1, 2, 3))
    np.testing.assert_array_equal(small["c2"].activations, net["c2"].activations[:, kept])
    by_channel = prune_network(net, "channel", {"c2": 0.5})
    assert [layer.weight.shape for layer in removed(by_channel)] == [(3, 2, 3, 3), (4, 3, 3, 3), (3, 36)]
    np.testing.assert_allclose(
        forward(removed(by_channel), samples), forward(by_channel, samples), rtol=1e-4, atol=1e-4
    )


def test_inputs_and_outputs_of_the_network_stay() -> None:
    by_filter, by_channel = (prune_network(chain(), granularity, 0.5) for granularity in ("filter", "channel"))
    assert by_filter["fc"].weight.any(axis=1).all()
    assert by_channel["c1"].weight.any(axis=(0, 2, 3)).all()
    weight = np.zeros((4, 3), np.float32)
    weight[1, 2] = 1
    assert removed(Network("n", [Layer.linear("only", weight)]))["only"].weight.shape == (4, 3)


@pytest.mark.parametrize("criterion", ["l1", "l2", "obd", "obs", "wanda", "random"])
def test_a_network_is_pruned_by_what_its_layers_see(criterion: str) -> None:
    net = chain()
    pruned = prune_network(net, "fine", 0.5, criterion, seed=3)
    for layer in pruned:
        assert np.count_nonzero(layer.weight) == round(0.5 * layer.weight.size)
        assert layer.granularity == "fine"
    vectors = net["fc"].lower(net["fc"].activations)
    expected = prune(net["fc"].weight, "fine", 0.5, criterion, activations=vectors, seed=3 + 2)
    np.testing.assert_array_equal(pruned["fc"].weight != 0, expected)


def test_apoz_of_a_channel_looks_at_what_comes_in() -> None:
    net = chain()
    pruned = prune_network(net, "channel", {"c2": 0.5}, "apoz")
    used = np.count_nonzero(net["c2"].activations, axis=(0, 2, 3))
    kept = pruned["c2"].weight.any(axis=(0, 2, 3))
    assert kept.sum() == len(kept) / 2
    assert used[kept].min() >= used[~kept].max()


@pytest.mark.thorough(keep=1)
@pytest.mark.parametrize(("granularity", "sparsity"), [("fine", 0.5), ("nm:2:4", None), ("channel", 0.5)])
@pytest.mark.parametrize("criterion", ["l1", "obs"])
def test_updated_weights_keep_the_outputs_better(granularity: str, sparsity: float | None, criterion: str) -> None:
    net = load_network(DIGITS)  # the 16 images that come along are what its layers were calibrated on
    plain, updated = (prune_network(net, granularity, sparsity, criterion, update=update) for update in (False, True))
    score = fidelity(net)
    assert score(updated) > score(plain)
    for name in ("fc2", "fc3"):
        assert not updated[name].weight[plain[name].weight == 0].any() or criterion == "obs"


def test_criteria_without_their_data_name_the_layer_and_the_remedy() -> None:
    net = Network("n", [Layer.linear("fc", RNG.normal(size=(4, 8)), activations=Density(0.5))])
    with pytest.raises(
        InputError, match="layer fc: criterion 'wanda': needs real activations, the layer has a density"
    ):
        prune_network(net, "fine", 0.5, "wanda")
    two = Network("n", [Layer.linear("first", RNG.normal(size=(8, 3))), *net])
    with pytest.raises(
        InputError, match="layer fc: criterion 'scale': ranks filters and channels by the scales of a batch norm"
    ):
        prune_network(two, "channel", 0.5, "scale")
    with pytest.raises(InputError, match="no layer 'f'; did you mean 'fc'"):
        prune_network(net, "fine", {"f": 0.5})


def test_one_threshold_takes_more_from_layers_whose_weights_are_small() -> None:
    small, large = RNG.uniform(1, 2, (10, 10)), RNG.uniform(3, 4, (10, 30))
    net = Network("n", [Layer.linear("small", small), Layer.linear("large", large)])
    # 100 of 400 weights are below 3: at 24 % they all are `small`'s, at 50 % 99 of 100, since one stays.
    assert global_sparsities(net, 0.24) == {"small": 0.96, "large": 0.0}
    shares = global_sparsities(net, 0.5)
    assert shares["small"] == 0.99
    assert shares["large"] * 300 + 99 == 200
    pruned = prune_network(net, "fine", shares)
    assert sum(np.count_nonzero(layer.weight) for layer in pruned) == 200


@pytest.mark.parametrize("granularity", ["fine", "vector:1x4", "filter"])
@pytest.mark.parametrize("most_sorted", [0, 5, 1 << 18])
def test_one_threshold_is_that_of_all_groups_sorted(
    granularity: str, most_sorted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threshold, "MOST_SORTED", most_sorted)
    monkeypatch.setattr(threshold, "CHUNK", 7)
    rng = np.random.default_rng(most_sorted)
    weights = {name: np.round(rng.normal(size=(12, 16)), 1) for name in ("one", "two")}
    weights["two"][:, 8:] = 0  # many equal scores, and one below all of `one`
    size = {"fine": 1, "vector:1x4": 4, "filter": 16}[granularity]
    scores = [
        (score, name, place)
        for name, weight in weights.items()
        for place, score in enumerate(np.abs(weight).reshape(-1, size).sum(axis=1))
    ]
    best = {(*max((score, -place) for score, of, place in scores if of == name), name) for name in weights}
    able = sorted(
        (score, list(weights).index(name), place) for score, name, place in scores if (score, -place, name) not in best
    )
    for share in (0.1, 0.5, 0.8):
        gone = [name for _, name, _ in able[: round(share * 2 * 192 / size)]]
        wanted = {name: gone.count(number) * size / 192 for number, name in enumerate(weights)}
        assert threshold.global_sparsities(weights, share, granularity) == wanted


def test_a_threshold_compares_groups_per_weight() -> None:
    # The same weights in kernels of 1 and of 9: sums differ by 9, means do not.
    one, nine = np.full((4, 4, 1, 1), 2.0), np.full((4, 4, 3, 3), 1.0)
    net = Network("n", [Layer.conv2d("one", one, input_hw=3), Layer.conv2d("nine", nine, input_hw=3)])
    assert global_sparsities(net, 0.5, "kernel")["one"] == 0.0
    with pytest.raises(InputError, match=r"'nm:2:4': chooses within each layer"):
        global_sparsities(net, 0.5, "nm:2:4")


def test_sensitivity_prunes_one_layer_at_a_time() -> None:
    net = chain()
    calls: list[list[int]] = []

    def zeros(network: Network) -> float:
        calls.append([int(np.count_nonzero(layer.weight == 0)) for layer in network])
        return -float(sum(calls[-1]))

    table = sensitivity(net, "fine", (0.5, 0.25), evaluate=zeros)
    assert len(table) == 6
    assert calls[0] == [0, 0, 0]
    assert all(sum(count > 0 for count in counts) == 1 for counts in calls[1:])
    row = table[(table["layer"] == "fc") & (table["sparsity"] == 0.5)].iloc[0]
    assert (row["score"], row["score_loss"]) == (-54, 54)
    kernels = sensitivity(net, "kernel", (0.5,), evaluate=zeros)
    assert kernels["layer"].tolist() == ["c1", "c2"]  # a linear layer has no kernels
    assert sensitivity(net, "channel", (0.5,), evaluate=zeros)["layer"].tolist() == ["c2", "fc"]  # inputs stay


def test_a_budget_is_met_by_the_layer_that_loses_least() -> None:
    # Both layers cost the same; the score only minds the first.
    rng = np.random.default_rng(1)
    layers = [Layer.linear(name, rng.normal(size=(64, 64)), activations=np.ones((1, 64))) for name in ("dear", "cheap")]
    net = Network("n", layers)
    chip = load_hardware(CHIP, {"engine.pes": 4})  # of 64 each would have one weight a column, pruned or not
    full = cost(net, chip, "cycles")
    found = allocate(
        net, chip, 0.8 * full, "cycles", evaluate=lambda network: -float(np.count_nonzero(network["dear"].weight == 0))
    )
    assert found.sparsities.keys() == {"cheap"}
    assert found.score == 0
    assert found.cost <= 0.8 * full < full
    assert found.cost == simulate(found.network, chip)["cycles"].sum()
    assert found.steps["cycles"].is_monotonic_decreasing
    assert found.steps["cycles"].iloc[[0, -1]].tolist() == [full, found.cost]


@pytest.mark.thorough
def test_chosen_sparsities_beat_the_same_for_all_at_equal_simulated_time() -> None:
    net = load_network(DIGITS)
    budget = 0.6 * cost(net, CHIP, "time_us")
    same = uniform(net, CHIP, budget, evaluate="digits-train")
    chosen = allocate(net, CHIP, budget, evaluate="digits-train")
    assert max(same.cost, chosen.cost) <= budget
    assert len(set(same.sparsities.values())) == 1
    assert chosen.score > same.score
    # One per cent less would not have met it.
    less = {name: share - 0.01 for name, share in same.sparsities.items()}
    assert simulate(prune_network(net, "fine", less), CHIP)["time_us"].sum() > budget


def test_channels_are_taken_out_of_the_matrix_that_is_simulated() -> None:
    chip = load_hardware("edge-nm-16x16-dense")
    net = chain()
    budget = 0.8 * cost(net, chip, "energy_pj")
    found = allocate(net, chip, budget, "energy_pj", "channel")
    assert found.cost <= budget


def test_scores_are_kept_and_a_run_goes_on(tmp_path: Path) -> None:
    store, calls = tmp_path / "scores.json", 0

    def score(network: Network) -> float:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return 1.0

    with pytest.raises(KeyboardInterrupt):
        sensitivity(chain(), "fine", (0.5, 0.25), evaluate=score, store=store)
    assert len(json.loads(store.read_text())) == 3
    table = sensitivity(chain(), "fine", (0.5, 0.25), evaluate=score, store=store)
    assert (len(table), calls) == (6, 3 + 1 + 4)  # three before, one that was broken off, and four that were missing
    sensitivity(chain(1), "fine", (0.5,), evaluate=score, store=store)  # another network
    assert calls == 8 + 4
    store.write_text("[1]")
    with pytest.raises(InputError, match=r"scores\.json: is not a file of scores"):
        sensitivity(chain(), "fine", (0.5,), evaluate=score, store=store)
    assert store.read_text() == "[1]"


def test_a_score_that_fails_is_told_and_not_taken_for_a_layer_that_cannot_be_pruned(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("def score(network):\n    return network.nothing\n")
    with pytest.raises(InputError, match="score failed"):
        sensitivity(chain(), "fine", (0.5,), evaluate=f"{tmp_path / 'bad.py'}:score")


def test_scores_with_a_name() -> None:
    net = load_network(DIGITS)
    images, labels = digits("test")
    assert len(labels) == 450
    assert accuracy(net, images, labels) == pytest.approx(float(_stated(net)), abs=0.0001)
    assert log_likelihood(net, images, np.full(len(labels), 3)) < log_likelihood(net, images, labels) < 0
    assert fidelity(net)(net) == 1.0
    assert fidelity(net)(prune_network(net, "fine", 0.9)) < fidelity(net)(prune_network(net, "fine", 0.5)) < 1.0
    with pytest.raises(InputError, match="'digit' is not known; did you mean 'digits'"):
        load_evaluation("digit", net)
    with pytest.raises(InputError, match="no real activations for a"):
        fidelity(Network("n", [Layer.linear("a", np.ones((2, 2)))]))


def _stated(net: Network) -> str:
    """Return the accuracy that the network's notes state."""
    return str(float(net.notes.split("dense ")[1].split(" %")[0]) / 100)


def test_a_function_of_a_file_is_a_score(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def layers(network):\n    return len(network)\n")
    net = chain()
    assert load_evaluation(f"{tmp_path / 'mine.py'}:layers", net)(net) == 3
    with pytest.raises(InputError, match=r"has no function 'layer'; did you mean 'layers'"):
        load_evaluation(f"{tmp_path / 'mine.py'}:layer", net)
    (tmp_path / "bad.py").write_text("def score(network):\n    return network.nothing\n")
    with pytest.raises(InputError, match=r"bad\.py:score failed: AttributeError: .*nothing"):
        load_evaluation(f"{tmp_path / 'bad.py'}:score", net)(net)
    (tmp_path / "worse.py").write_text("import nothing_of_this_name\n")
    with pytest.raises(InputError, match=r"worse\.py cannot be run: ModuleNotFoundError"):
        load_evaluation(f"{tmp_path / 'worse.py'}:score", net)
    with pytest.raises(InputError, match=r"other\.py does not exist"):
        load_evaluation(f"{tmp_path / 'other.py'}:layers", net)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"budget": 0.0}, r"budget: must be above 0 \(got 0.0\)"),
        ({"budget": 1.0}, "budget: 1 time_us cannot be reached by 'fine'"),
        ({"budget": 9.0, "metric": "time"}, "metric: 'time' is not known; did you mean 'time_us'"),
        ({"budget": 9.0, "steps": 0}, r"steps: must be a whole number, at least 1 \(got 0\)"),
        ({"budget": 9.0, "sparsities": (0.5, 1.0)}, r"sparsities: must be above 0 and below 1 \(got 1.0\)"),
        ({"budget": 9.0, "granularity": "fein"}, "granularity 'fein' is not known"),
    ],
)
def test_budgets_that_make_no_sense(arguments: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        allocate(load_network(DIGITS), CHIP, **arguments)  # type: ignore[arg-type]
