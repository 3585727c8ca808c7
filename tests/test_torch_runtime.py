"""Does a PyTorch model run as the network that is meant: other weights and samples, the model left alone?"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from accelsim import InputError, Layer, Network
from accelsim.network.activations import Remade, made_together
from accelsim.network.execution import outputs_of
from accelsim.network.torch_capture.handing import handed_over
from accelsim.simulation import simulate

runtime = pytest.importorskip("accelsim.network.torch_capture.runtime")
recorder = pytest.importorskip("accelsim.network.torch_capture.recorder")
torch = pytest.importorskip("torch", reason="PyTorch is not installed")
nn, F = torch.nn, torch.nn.functional
prune = pytest.importorskip("torch.nn.utils.prune")


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def conv_net() -> Any:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 8, 3, groups=4),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(8 * 3 * 3, 10),
    )


class Block(nn.Module):
    """Turned weights, a joined projection taken apart, an attention, and a product with weights on the left."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Parameter(torch.randn(8, 24))
        self.attn = nn.MultiheadAttention(8, 2, batch_first=True)
        self.mixing = nn.Parameter(torch.randn(5, 5))
        self.head = nn.Linear(8, 3)

    def forward(self, values: Any, scale: Any) -> Any:
        q, k, v = (values @ self.qkv).chunk(3, 2)
        mixed = self.mixing @ self.attn(q, k, v, need_weights=False)[0]
        return {"scores": self.head(F.gelu(mixed * scale)), "mixed": mixed}


class Steps(nn.Module):
    """A cell in a loop, under an LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.cell, self.head = nn.LSTM(4, 6, 2, batch_first=True), nn.GRUCell(6, 5), nn.Linear(5, 2)

    def forward(self, values: Any) -> Any:
        values, _ = self.lstm(values)
        state = torch.zeros(len(values), 5)
        for step in range(values.shape[1]):
            state = self.cell(values[:, step], state)
        return self.head(state)


def masked() -> Any:
    """Weights pruned by PyTorch, and parametrised ones."""
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    prune.l1_unstructured(model[0], "weight", 0.5)
    nn.utils.parametrizations.weight_norm(model[2])
    return model


MODELS: dict[str, tuple[Any, Any, Any]] = {
    "convolutions": (conv_net, torch.randn(2, 3, 8, 8), torch.randn(5, 3, 8, 8)),
    "attention": (
        Block,
        {"values": torch.randn(2, 5, 8), "scale": torch.randn(2, 1, 8)},
        {"values": torch.randn(3, 5, 8), "scale": torch.randn(3, 1, 8)},
    ),
    "steps": (Steps, torch.randn(2, 7, 4), torch.randn(4, 7, 4)),
    "masked": (masked, torch.randn(2, 6), torch.randn(9, 6)),
    "1-D and transposed": (
        lambda: nn.Sequential(
            nn.Conv1d(4, 6, 3, groups=2),
            nn.ReLU(),
            nn.ConvTranspose1d(6, 4, 3, groups=2),
            nn.ReLU(),
            nn.Conv1d(4, 2, 2),
        ),
        torch.randn(2, 4, 9),
        torch.randn(3, 4, 9),
    ),
}


def arrays(example: Any) -> Any:
    return {name: each.numpy() for name, each in example.items()} if isinstance(example, dict) else example.numpy()


def hooked(model: Any, example: Any, names: list[str]) -> dict[str, np.ndarray]:
    """What enters modules, by hooks of PyTorch."""
    seen: dict[str, np.ndarray] = {}
    handles = [
        model.get_submodule(name).register_forward_pre_hook(
            lambda module, inputs, name=name: seen.update({name: inputs[0].detach().clone().numpy()})
        )
        for name in names
    ]
    model.eval()
    with torch.no_grad():
        model(example)
    for handle in handles:
        handle.remove()
    return seen


def halved(network: Network) -> Network:
    """Every other weight pruned, and other biases."""
    rng = np.random.default_rng(0)

    def other(layer: Layer) -> Layer:
        weight = np.where(rng.random(layer.weight.shape) < 0.5, 0, layer.weight)
        bias = None if layer.bias is None else layer.bias + 1
        return replace(layer, weight_source=lambda: weight, bias=bias)

    return replace(network, layers=[other(layer) for layer in network])


@pytest.mark.parametrize("name", MODELS)
def test_it_sees_again_what_was_captured(name: str) -> None:
    make, example, _ = MODELS[name]
    network = Network.from_torch(make(), example)
    seen = list(network.seen())
    assert [each.layer for each in seen] == [layer.name for layer in network]
    for each in seen:
        assert each.outputs is None
        assert np.array_equal(each.inputs, network[each.layer].activations), each.layer


@pytest.mark.parametrize("name", ["convolutions", "masked"])
def test_other_samples_are_seen_as_hooks_see_them(name: str) -> None:
    make, example, others = MODELS[name]
    model = make()
    network = Network.from_torch(model, example)
    names = [layer.name for layer in network]
    expected = hooked(model, others, names)
    for each in network.with_samples(others.numpy()).seen():
        assert np.array_equal(each.inputs, expected[each.layer]), each.layer


@pytest.mark.parametrize("name", MODELS)
def test_a_variant_equals_a_model_with_its_weights(name: str) -> None:
    """What a variant gives follows from its own weights, layer by layer; what the model is stays."""
    make, example, others = MODELS[name]
    model = make()
    state = {key: each.clone() for key, each in model.state_dict().items()}
    network = Network.from_torch(model, example)
    variant = halved(network).with_samples(arrays(others))
    changed = 0
    for each in variant.seen(outputs=True):
        layer = variant[each.layer]
        if each.outputs is not None:
            made = outputs_of(layer, each.inputs)
            assert made.shape == each.outputs.shape
            assert np.allclose(made, each.outputs, rtol=1e-4, atol=1e-4 * np.abs(made).max()), each.layer
            changed += 1
    assert changed >= (1 if name == "steps" else 2)
    assert all(torch.equal(each, state[key]) for key, each in model.state_dict().items())
    assert not np.allclose(variant.runtime.answers(variant, variant.samples or {}), 0)


def test_a_pruned_variant_equals_the_model_pruned() -> None:
    model, samples = conv_net(), torch.randn(4, 3, 8, 8)
    network = Network.from_torch(model, samples)
    variant = halved(network)
    with torch.no_grad():
        for layer in variant:
            module = model.get_submodule(layer.name)
            module.weight.copy_(torch.from_numpy(layer.weight))
            if layer.bias is not None:
                module.bias.copy_(torch.from_numpy(layer.bias))
    expected = hooked(model, samples, [layer.name for layer in network])
    for each in variant.seen():
        assert np.array_equal(each.inputs, expected[each.layer]), each.layer
    model.eval()
    assert np.array_equal(variant.runtime.answers(variant, variant.samples or {}), model(samples).detach().numpy())


def test_states_of_recurrent_layers_follow_the_weights() -> None:
    """The model with the weights of the variant sees what the variant sees."""
    model, example = nn.LSTM(4, 6, 2, bidirectional=True, batch_first=True), torch.randn(2, 7, 4)
    variant = halved(Network.from_torch(model, example))
    with torch.no_grad():
        for layer in variant:
            getattr(model, f"weight_{layer.name}").copy_(torch.from_numpy(layer.weight))
            getattr(model, f"bias_{layer.name}").copy_(torch.from_numpy(layer.bias))
    again = Network.from_torch(model, example)
    for each in variant.seen():
        assert np.array_equal(each.inputs, again[each.layer].activations), each.layer


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_the_fast_path_of_an_attention_equals_hooks(activation: str, norm_first: bool) -> None:
    """Bit for bit, with the padding of some tokens hidden, and with another bias where the model adds it apart."""
    model = nn.TransformerEncoderLayer(16, 4, 32, activation=activation, norm_first=norm_first, batch_first=True).eval()
    nn.init.normal_(model.self_attn.in_proj_bias)
    hidden = torch.zeros(3, 5, dtype=torch.bool)
    hidden[0, 3:] = True
    example = {"src": torch.randn(3, 5, 16), "src_key_padding_mask": hidden}
    network = Network.from_torch(model, example)
    names = ["linear1", "linear2"]
    seen: dict[str, Any] = {}
    hooks = [
        model.get_submodule(name).register_forward_pre_hook(lambda _, given, name=name: seen.update({name: given[0]}))
        for name in names
    ]
    with torch.no_grad():
        answer = model(**example).numpy()
    for hook in hooks:
        hook.remove()
    for each in network.seen(outputs=True):
        assert each.outputs is not None
        assert np.allclose(outputs_of(network[each.layer], each.inputs), each.outputs, atol=1e-5), each.layer
        assert np.array_equal(each.inputs, network[each.layer].activations)
        if each.layer in names:
            assert np.array_equal(each.inputs, seen[each.layer].numpy())
    assert np.array_equal(network.runtime.answers(network, network.samples or {}), answer)
    first = network["self_attn.in_proj"]
    other = replace(network, layers=[replace(first, bias=np.zeros(48, np.float32)), *network.layers[1:]])
    model.self_attn.in_proj_bias.data.zero_()
    with torch.no_grad():
        expected = model.self_attn(*[model.norm1(example["src"]) if norm_first else example["src"]] * 3, hidden)[0]
    inputs = next(each.inputs for each in other.seen() if each.layer == "self_attn.out_proj")
    assert np.allclose(
        inputs @ network["self_attn.out_proj"].weight.T + network["self_attn.out_proj"].bias, expected, atol=1e-5
    )


def test_what_is_too_much_to_keep_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model, samples = conv_net(), torch.randn(2, 3, 8, 8)
    kept = Network.from_torch(model, samples)
    for each in (recorder, runtime):
        monkeypatch.setattr(each, "MOST_KEPT_BYTES", 2000)
    made = Network.from_torch(model, samples)
    for layer in kept:
        known, given = np.asarray(layer.activations), made[layer.name].activations
        assert isinstance(given, Remade)
        assert (given.shape, given.dtype, given.size) == (known.shape, known.dtype, known.size)
        assert np.array_equal(given, known)
        assert np.array_equal(given[1:] + given[:1], known[1:] + known[:1])
    runs = made_together(layer.activations for layer in made if isinstance(layer.activations, Remade))
    together = {layer: np.array(array) for layer, array in runs}
    assert list(together) == [layer.name for layer in made]
    for seen in made.seen():
        assert np.array_equal(seen.inputs, together[seen.layer])


def test_a_bias_that_the_model_lacks_is_added() -> None:
    network = Network.from_torch(conv_net(), torch.randn(2, 3, 8, 8))
    bias = np.arange(8, dtype=np.float32)
    first = replace(network["0"], bias=bias)
    variant = replace(network, layers=[first, *network.layers[1:]])
    before, after = (next(each.seen(outputs=True)) for each in (network, variant))
    assert before.outputs is not None
    assert after.outputs is not None
    assert np.allclose(after.outputs, before.outputs + bias[:, None, None], atol=1e-6)


def test_activations_are_rounded_where_layers_say_so() -> None:
    network = Network.from_torch(conv_net(), torch.randn(2, 3, 8, 8))
    rounded = replace(network, layers=[replace(layer, rounded=np.round) for layer in network])
    for each in rounded.seen(outputs=True):
        assert np.allclose(outputs_of(rounded[each.layer], each.inputs), each.outputs, atol=1e-4), each.layer
        assert not np.array_equal(each.inputs, np.round(each.inputs))


def test_the_model_comes_out_as_it_went_in_wherever_one_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    model = conv_net().train()
    network = Network.from_torch(model, torch.randn(2, 3, 8, 8))
    monkeypatch.setattr(runtime, "MOST_KEPT_BYTES", 0)
    threads = threading.active_count()
    passing = network.seen()
    next(passing)
    assert threading.active_count() == threads + 1
    passing.close()  # type: ignore[attr-defined]
    assert threading.active_count() == threads
    assert model.training
    assert not model[0]._forward_hooks
    assert not model[0]._forward_pre_hooks
    assert [each.layer for each in network.seen()] == ["0", "3", "7"]


def test_one_item_exists_at_a_time_and_errors_come_through() -> None:
    made = []

    def run(put: Any) -> None:
        for number in range(3):
            made.append(number)
            put(number)
        raise KeyError("end")

    def taken(items: Iterator[int]) -> Iterator[tuple[int, int]]:
        for each in items:
            yield each, len(made)

    with pytest.raises(KeyError, match="end"):
        assert list(taken(handed_over(run))) == [(0, 1), (1, 2), (2, 3)]
    assert made == [0, 1, 2]


def test_inputs_that_do_not_fit_are_refused() -> None:
    network = Network.from_torch(Block(), MODELS["attention"][1])
    with pytest.raises(InputError) as raised:
        network.with_samples({
            "value": np.zeros((2, 5, 8), np.float32),
            "values": np.zeros((2, 5, 7), np.float32),
            "scale": np.full((2, 1, 8), np.nan, np.float32),
        })  # fmt: skip
    assert list(raised.value.problems) == [
        "inputs: there is no input 'value'; did you mean 'values'?; expected: values (samples, 5, 8) float32, "
        "scale (samples, 1, 8) float32",
        "inputs: values: must be of shape (samples, 5, 8) (got (2, 5, 7))",
        "inputs: scale: holds NaN or infinite numbers; all must be finite",
    ]
    with pytest.raises(InputError, match="hold different numbers of samples"):
        network.with_samples({"values": np.zeros((2, 5, 8)), "scale": np.zeros((3, 1, 8))})
    words = Network.from_torch(nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 2)), torch.randint(0, 9, (2, 5)))
    with pytest.raises(InputError, match="input: must be whole numbers"):
        words.with_samples(np.zeros((2, 5)))


def test_weights_that_are_made_inside_are_not_replaced() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 3))

        def forward(self, values: Any) -> Any:
            return torch.addmm(torch.zeros(3), values, self.weight, alpha=2.0)

    network = Network.from_torch(Scaled(), torch.randn(2, 4))
    assert next(network.seen()).inputs.shape == (2, 4)
    with pytest.raises(InputError, match="its weights are made inside of the model"):
        list(halved(network).seen())


def test_a_simulation_runs_the_model_on_its_inputs() -> None:
    network = Network.from_torch(conv_net(), torch.randn(2, 3, 8, 8))
    others = torch.randn(3, 3, 8, 8)
    table = simulate(network, "eie-64pe-45nm", inputs=others.numpy(), verify=True)
    layers = table[table["layer"].isin([layer.name for layer in network])]
    assert set(layers["activations"]) == {"real"}
    seen = [np.count_nonzero(each.inputs) / each.inputs.size for each in network.with_samples(others.numpy()).seen()]
    assert list(layers["activation_density"]) == pytest.approx(seen)
    pruned = simulate(halved(network), "eie-64pe-45nm")
    assert set(pruned["activations"]) == set(table["activations"])
