"""Is what is captured from a PyTorch model what the model computes, and is the model left as it was?"""

from __future__ import annotations

import builtins
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import accelsim
from accelsim import InputError, Layer, Network, load_network

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
nn = torch.nn
prune = pytest.importorskip("torch.nn.utils.prune")


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def products(layer: Layer) -> np.ndarray:
    """Outputs of a layer from its own weights and activations: (batch, vectors, out_features)."""
    samples = np.asarray(layer.activations, np.float64).reshape(-1, *layer.input_shape)
    bias = 0 if layer.bias is None else layer.bias
    vectors = layer.lower(samples)[:] @ layer.matrix.astype(np.float64).T + bias
    return vectors.reshape(len(samples), -1, layer.out_features)


def outputs_of(model: Any, example: Any, names: list[str]) -> dict[str, np.ndarray]:
    """What modules return in evaluation mode."""
    seen: dict[str, np.ndarray] = {}
    handles = [
        model.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: seen.update({name: output.detach().double().numpy()})
        )
        for name in names
    ]
    model.eval()
    with torch.no_grad():
        model(*example) if isinstance(example, tuple) else model(example)
    for handle in handles:
        handle.remove()
    return seen


def close(one: np.ndarray, other: Any) -> bool:
    """Equal up to the rounding of float32 sums."""
    other = np.asarray(other.detach() if isinstance(other, torch.Tensor) else other)
    return one.shape == other.shape and np.allclose(one, other, rtol=1e-4, atol=1e-5)


def conv_net() -> Any:
    """Convolutions with batch norm: strided, depthwise, grouped, dilated, 'same', and an in-place ReLU."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 8, (3, 1), padding=(1, 0), groups=8),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 12, 3, dilation=2, padding="same", groups=2),
        nn.Conv2d(12, 6, 2, padding="same"),
        nn.Conv2d(6, 6, 3, padding="valid"),
        nn.Flatten(),
        nn.Linear(6 * 6 * 7, 10),
    )


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_a_convolutional_network_gives_its_own_outputs() -> None:
    model, example = conv_net(), torch.randn(3, 3, 15, 17)
    network = Network.from_torch(model, example, "conv-net")
    assert (network.name, [layer.name for layer in network]) == ("conv-net", ["0", "3", "5", "6", "7", "9"])
    assert [layer.groups for layer in network] == [1, 8, 2, 1, 1, 1]
    for name, output in outputs_of(model, example, [layer.name for layer in network]).items():
        by_vector = output.reshape(*output.shape[:2], -1).transpose(0, 2, 1) if output.ndim == 4 else output[:, None]
        assert close(products(network[name]), by_vector), name
    # 'same' with an even kernel pads one side only, which a layer takes as a larger input.
    assert network["6"].convolution.input_hw == (9, 10)
    assert network["6"].convolution.output_hw == (8, 9)
    assert network["5"].convolution.padding_hw == (2, 2)


@pytest.mark.parametrize(
    ("shape", "batch_dim", "samples"),
    [
        ((5, 4), 0, (5, 4)),
        ((5, 3, 4), 0, (5, 3, 4)),
        ((3, 5, 4), 1, (5, 3, 4)),
        ((5, 2, 3, 4), 0, (5, 6, 4)),
        ((4,), 0, (1, 4)),
    ],
)
def test_leading_dimensions_are_samples_and_tokens(
    shape: tuple[int, ...], batch_dim: int, samples: tuple[int, ...]
) -> None:
    model, example = nn.Linear(4, 2), torch.randn(shape)
    (layer,) = Network.from_torch(model, example, batch_dim=batch_dim)
    assert (layer.name, layer.activations.shape) == ("linear", samples)
    assert np.array_equal(layer.activations, example.movedim(batch_dim, 0).reshape(samples).numpy())
    assert close(np.sort(products(layer).ravel()), np.sort(model(example).detach().ravel()))


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_recurrent_layers_reproduce_the_states(kind: str, batch_first: bool, bidirectional: bool, bias: bool) -> None:
    """The states follow from the captured products by the equations of PyTorch's documentation."""
    options = {"batch_first": batch_first, "bidirectional": bidirectional, "bias": bias, "dropout": 0.5}
    model = getattr(nn, kind)(6, 5, num_layers=2, **options)
    example = torch.randn((3, 7, 6) if batch_first else (7, 3, 6))
    start = torch.randn(2 * (1 + bidirectional), 3, 5)
    given = (start, torch.randn_like(start)) if kind == "LSTM" else start
    network = Network.from_torch(model, (example, given), batch_dim=0 if batch_first else 1)
    sides = ["", "_reverse"][: 1 + bidirectional]
    ends = [f"l{number}{side}" for number in (0, 1) for side in sides]
    assert [layer.name for layer in network] == [f"{each}_{end}" for end in ends for each in ("ih", "hh")]
    model.eval()
    last = model(example, given)[0] if batch_first else model(example, given)[0].transpose(0, 1)
    for at, end in enumerate(ends):
        inputs, recurrent = network[f"ih_{end}"], network[f"hh_{end}"]
        assert (inputs.tokens, inputs.steps, recurrent.tokens, recurrent.steps) == (7, 1, 1, 7)
        x, h = products(inputs), products(recurrent)
        states = new_states(kind, x, h, recurrent.activations, given, at)
        assert np.allclose(states[:, :-1], recurrent.activations[:, 1:], atol=1e-5)
        assert np.allclose(recurrent.activations[:, 0], start[at].numpy())
        if end.startswith("l1"):
            columns = slice(5, 10) if end.endswith("reverse") else slice(0, 5)
            ordered = states[:, ::-1] if end.endswith("reverse") else states
            assert np.allclose(ordered, last.detach().numpy()[:, :, columns], atol=1e-5)


def new_states(kind: str, x: np.ndarray, h: np.ndarray, before: np.ndarray, given: Any, at: int) -> np.ndarray:
    """Hidden states (batch, steps, hidden) from the products of inputs and of the states before."""

    def sigmoid(values: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-values))

    if kind == "RNN":
        return np.tanh(x + h)
    if kind == "GRU":
        reset, update = (sigmoid(x[:, :, p : p + 5] + h[:, :, p : p + 5]) for p in (0, 5))
        return (1 - update) * np.tanh(x[:, :, 10:] + reset * h[:, :, 10:]) + update * before
    gates, cell, states = x + h, given[1][at].double().numpy(), []
    for step in range(gates.shape[1]):
        i, f, g, o = np.split(gates[:, step], 4, axis=1)
        cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
        states.append(sigmoid(o) * np.tanh(cell))
    return np.stack(states, axis=1)


@pytest.mark.parametrize("together", [True, False], ids=["one weight", "three weights"])
@pytest.mark.parametrize("batch_first", [True, False])
def test_attention_gives_its_four_projections(together: bool, batch_first: bool) -> None:
    width, sizes = 12, {} if together else {"kdim": 9, "vdim": 7}
    model = nn.MultiheadAttention(width, 3, batch_first=batch_first, dropout=0.3, **sizes)
    torch.nn.init.normal_(model.in_proj_bias)
    torch.nn.init.normal_(model.out_proj.bias)
    query, key, value = (
        torch.randn(2, n, f) for n, f in ((4, width), (6, sizes.get("kdim", 12)), (6, sizes.get("vdim", 12)))
    )
    ordered = tuple(each if batch_first else each.transpose(0, 1) for each in (query, key, value))
    mask = torch.zeros(4, 6, dtype=torch.bool)
    mask[:, 4:] = True
    network = Network.from_torch(
        model,
        dict(zip(("query", "key", "value"), ordered, strict=True)) | {"attn_mask": mask},
        batch_dim=0 if batch_first else 1,
    )
    assert [layer.name for layer in network] == ["q_proj", "k_proj", "v_proj", "out_proj"]
    assert [layer.tokens for layer in network] == [4, 6, 6, 4]
    q, k, v = (products(network[f"{each}_proj"]).reshape(2, -1, 3, 4).transpose(0, 2, 1, 3) for each in "qkv")
    scores = np.where(mask.numpy(), -np.inf, q @ k.transpose(0, 1, 3, 2) / 2)  # sqrt(4 per head) = 2
    weights = np.exp(scores - scores.max(axis=3, keepdims=True))
    attended = (weights / weights.sum(axis=3, keepdims=True) @ v).transpose(0, 2, 1, 3).reshape(2, 4, width)
    assert np.allclose(network["out_proj"].activations, attended, atol=1e-5)
    output, _ = model.eval()(*ordered, attn_mask=mask)
    assert close(products(network["out_proj"]), output if batch_first else output.transpose(0, 1))


class Encoder(nn.Module):
    """Token numbers in; an embedding, a transformer layer, and two modules that nobody simulates or calls."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 8)
        self.places = nn.Parameter(torch.zeros(1, 5, 8))
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.up = nn.ConvTranspose1d(5, 5, 3)
        self.unused = nn.Linear(3, 3)

    def forward(self, numbers: Any) -> Any:
        return self.up(self.layer(self.embedding(numbers) + self.places))


def test_a_transformer_names_what_is_not_simulated() -> None:
    network = Network.from_torch(Encoder(), torch.randint(0, 11, (3, 5)))
    names = ["in_proj", "out_proj"]
    attention = [f"layer.self_attn.{name}" for name in names]
    assert [layer.name for layer in network] == [*attention, "layer.linear1", "layer.linear2", "up"]
    assert [layer.tokens for layer in network if layer.name != "up"] == [5] * 4
    # Of 5 tokens of 8 features, each is multiplied with each: once for the scores, once for the values.
    assert [(str(each), each.weights, each.macs) for each in network.left_out] == [
        ("places (add)", 40, 0),
        ("embedding (look-up)", 88, 0),
        ("unused (not called)", 9, 0),
        ("layer.self_attn.scores (attention product)", 0, 5 * 5 * 8),
        ("layer.self_attn.values (attention product)", 0, 5 * 5 * 8),
    ]


class Twice(nn.Module):
    """One linear layer and one convolution, called again and again."""

    def __init__(self, *sizes: int) -> None:
        super().__init__()
        self.sizes, self.fc, self.conv = sizes, nn.Linear(4, 4), nn.Conv1d(2, 2, 3, padding=1)

    def forward(self, values: Any) -> Any:
        for size in self.sizes:
            values = torch.cat([self.fc(values[:, :size]), values[:, size:]], 1)
        return self.conv(self.conv(values))


def test_repeated_calls_are_steps_where_they_can_be() -> None:
    model, example = Twice(2, 2, 2), torch.randn(3, 2, 4)
    network = Network.from_torch(model, example)
    assert [layer.name for layer in network] == ["fc", "conv", "conv.call2"]
    assert (network["fc"].tokens, network["fc"].steps) == (2, 3)
    outputs = products(network["fc"]).reshape(3, 3, 2, 4)
    assert np.allclose(network["fc"].activations.reshape(3, 3, 2, 4)[:, 1:], outputs[:, :-1], atol=1e-5)
    first = products(network["conv"]).transpose(0, 2, 1)
    assert np.allclose(network["conv.call2"].activations[:, :, 0], first, atol=1e-5)
    names = [layer.name for layer in Network.from_torch(Twice(1, 2), example)]
    assert names == ["fc", "fc.call2", "conv", "conv.call2"]


def test_cells_in_a_loop_are_steps() -> None:
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.LSTMCell(3, 4)

        def forward(self, sequence: Any) -> Any:
            state = None
            for step in range(sequence.shape[1]):
                state = self.cell(sequence[:, step], state)
            return state[0]

    example = torch.randn(2, 6, 3)
    network = Network.from_torch(Loop(), example)
    assert [(layer.name, layer.steps) for layer in network] == [("cell.ih", 6), ("cell.hh", 6)]
    assert np.array_equal(network["cell.ih"].activations, example.numpy())
    assert not network["cell.hh"].activations[:, 0].any()


def test_masks_and_parametrizations_are_folded_in() -> None:
    model = nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 5), nn.LSTM(5, 4))
    prune.l1_unstructured(model[0], "weight", amount=0.5)
    prune.ln_structured(model[1], "weight", amount=2, n=1, dim=0)
    prune.random_unstructured(model[2], "weight_hh_l0", amount=0.25)
    network = Network.from_torch(model, torch.randn(3, 8))
    masked = (model[0].weight_orig * model[0].weight_mask).detach().numpy()
    assert np.array_equal(network["0"].weight, masked)
    assert np.count_nonzero(masked) == 24
    assert (network["1"].weight == 0).all(axis=1).sum() == 2
    assert np.count_nonzero(network["2.hh_l0"].weight) == 48
    assert not network.not_simulated


def test_a_parametrized_weight_is_the_one_that_is_used() -> None:
    class Double(nn.Module):
        def forward(self, weight: Any) -> Any:
            return 2 * weight

    model = nn.Linear(3, 2)
    before = model.weight.detach().clone()
    torch.nn.utils.parametrize.register_parametrization(model, "weight", Double())
    network = Network.from_torch(model, torch.randn(4, 3))
    (layer,) = network
    assert np.array_equal(layer.weight, 2 * before.numpy())
    assert not network.not_simulated


class Untidy(nn.Module):
    """Changes itself in its forward pass, and draws random numbers; fails if asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.norm, self.calls, self.fails = nn.Linear(4, 4), nn.BatchNorm1d(4), 0, False
        self.register_buffer("seen", torch.zeros(4))

    def forward(self, values: Any) -> Any:
        self.calls += 1
        self.seen += values.sum(0)
        output = self.norm(self.fc(values)) + torch.randn(4)
        if self.fails:
            raise RuntimeError("on purpose")
        return output


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_left_as_it_was(fails: bool) -> None:
    model = Untidy()
    model.fails = fails
    model.norm.eval()
    prune.l1_unstructured(model.fc, "weight", amount=0.5)
    calls: list[str] = []
    model.fc.register_forward_hook(lambda *_: calls.append("mine"))
    model.fc.bias.grad = torch.ones(4)
    weight, seen, fast = model.fc.weight, model.seen, torch.backends.mha.get_fastpath_enabled()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    hooks = {name: dict(module._forward_hooks) for name, module in model.named_modules()}
    random_state = torch.get_rng_state()
    if fails:
        with pytest.raises(InputError, match="forward pass of Untidy failed: on purpose"):
            Network.from_torch(model, torch.ones(2, 4))
    else:
        Network.from_torch(model, torch.ones(2, 4))
    assert calls == ["mine"]
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert (model.training, model.fc.training, model.norm.training) == (True, True, False)
    assert model.fc.weight is weight
    assert model.seen is seen
    assert (model.calls, model.fc.bias.grad.tolist()) == (0, [1.0] * 4)
    assert {name: dict(module._forward_hooks) for name, module in model.named_modules()} == hooks
    assert all(not module._forward_hooks_with_kwargs for module in model.modules())
    assert torch.backends.mha.get_fastpath_enabled() == fast
    assert torch.is_grad_enabled()


def test_a_model_that_changes_behind_its_network_is_told() -> None:
    model, example = nn.Sequential(nn.Linear(3, 3), nn.ReLU(inplace=True), nn.LayerNorm(3)), torch.randn(2, 3)
    network, norm = Network.from_torch(model, example), Network.from_torch(model, example)
    weight, inputs = network["0"].weight.copy(), example.numpy().copy()
    assert np.shares_memory(network["0"].weight, model[0].weight.detach().numpy())
    with torch.no_grad():
        model[2].weight.zero_()
    with pytest.raises(InputError, match=r"parameter 2\.weight: the model was changed in place since it was captured"):
        next(norm.seen())
    with torch.no_grad():
        model[0].weight.zero_()
        example.zero_()
    with pytest.raises(InputError, match=r"layer 0: weight: the model was changed .* copy\.deepcopy\(model\)"):
        _ = network["0"].weight
    assert np.array_equal(network["0"].activations, inputs)
    assert weight.any()


def test_a_class_made_from_linear_may_have_other_arguments() -> None:
    class Scaled(nn.Linear):
        def forward(self, x: Any, scale: float) -> Any:
            return scale * super().forward(x)

    class Calls(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = Scaled(3, 2)

        def forward(self, values: Any) -> Any:
            return self.fc(x=values, scale=2.0)

    example = torch.randn(4, 3)
    (layer,) = Network.from_torch(Calls(), example)
    assert np.array_equal(layer.activations, example.numpy())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_other_types_of_numbers(dtype: str) -> None:
    model = nn.Linear(3, 2).to(getattr(torch, dtype))
    (layer,) = Network.from_torch(model, torch.randn(2, 3).to(getattr(torch, dtype)))
    assert layer.weight.dtype == np.dtype("float32" if dtype == "bfloat16" else dtype)
    assert np.array_equal(layer.weight, model.weight.detach().double().numpy().astype(layer.weight.dtype))


def test_a_captured_network_runs_and_survives_saving(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(16, 12), nn.ReLU(), nn.Unflatten(1, (3, 4)), nn.LSTM(4, 8, batch_first=True))
    network = Network.from_torch(model, torch.randn(2, 16))
    network.save(tmp_path / "n.safetensors")
    chips = ["eie-64pe-45nm", "a100-pcie"]
    before, after = (accelsim.simulate(each, chips) for each in (network, load_network(tmp_path / "n.safetensors")))
    # A file keeps what was seen, not the model that could run anew.
    assert set(before["activations"]) - set(after["activations"]) == {"real"}
    assert before.drop(columns="activations").equals(after.drop(columns="activations"))
    layers = before[before["layer"].isin([layer.name for layer in network])]
    assert layers["vectors"].tolist() == [2, 6, 6] * 2
    assert load_network(tmp_path / "n.safetensors").provenance["torch"] == torch.__version__


class Reflecting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect")
        self.b = nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular")

    def forward(self, values: Any) -> Any:
        return self.b(self.a(values))


def test_other_padding_than_zeros_is_part_of_the_input() -> None:
    model, example = Reflecting(), torch.randn(2, 1, 5, 5)
    network = Network.from_torch(model, example)
    for name, output in outputs_of(model, example, ["a", "b"]).items():
        assert network[name].convolution.input_hw == (7, 7)
        assert close(products(network[name]), output.reshape(2, 1, 25).transpose(0, 2, 1)), name


REFUSED: list[tuple[Callable[[], Any], Any, list[str]]] = [
    (lambda: "model", torch.ones(1), ["model: must be a torch.nn.Module, not scripted (got str)"]),
    (lambda: nn.Linear(2, 2), [1, 2], ["example_input: must be a tensor"]),
    (lambda: nn.Linear(2, 2), torch.ones(3, 5), ["the forward pass of Linear failed"]),
    (lambda: nn.LazyLinear(2), torch.ones(3, 5), ["model: has lazy modules"]),
    (lambda: nn.ReLU(), torch.ones(3, 5), ["called no layer that can be simulated"]),
    (lambda: nn.Linear(2, 2), torch.tensor([[1.0, float("nan")]]), ["layer linear: activations[0, 1] is nan"]),
    (
        lambda: nn.LSTM(2, 3),
        nn.utils.rnn.pack_sequence([torch.ones(2, 2)]),
        ["example_input: must be a tensor"],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("model", "example", "said"), REFUSED)
def test_what_cannot_be_captured_is_said(model: Callable[[], Any], example: Any, said: list[str]) -> None:
    with pytest.raises(InputError) as error:
        Network.from_torch(model(), example)
    assert len(error.value.problems) == len(said)
    assert all(words in problem for words, problem in zip(said, error.value.problems, strict=True))


def test_a_packed_sequence_inside_the_model_is_refused_by_name() -> None:
    class Packing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(2, 3)

        def forward(self, sequence: Any) -> Any:
            return self.lstm(nn.utils.rnn.pack_padded_sequence(sequence, [2, 1]))

    with pytest.raises(InputError, match=r"^layer lstm\.ih_l0: a packed sequence cannot be captured"):
        Network.from_torch(Packing(), torch.ones(2, 2, 2), batch_dim=1)


def test_a_batch_dimension_that_is_not_there() -> None:
    with pytest.raises(InputError, match=r"batch_dim: must be a dimension of the example, 0 to 1 \(got 2\)"):
        Network.from_torch(nn.Linear(2, 2), torch.ones(3, 2), batch_dim=2)


def test_without_the_extra_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_torch(name: str, *rest: Any) -> Any:
        if name == "accelsim.network.torch_capture.capture":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_torch)
    with pytest.raises(
        InputError, match=r"^torch: is not installed; install it with: pip install 'accelsim\[torch\]'$"
    ):
        Network.from_torch(nn.Linear(2, 2), torch.ones(1, 2))


def test_vectors_that_are_not_alike_for_every_sample_are_told() -> None:
    """Three vectors of two samples, as where each goes to another expert."""

    class Routed(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.expert = nn.Linear(4, 4)

        def forward(self, x: Any) -> Any:
            return self.expert(x.reshape(4, 4)[:3])

    network = Network.from_torch(Routed(), torch.ones(2, 2, 4))
    assert network["expert"].tokens == 3
    assert ["3 vectors do not divide among 2 samples" in each for each in network.assumptions] == [True]
