"""Is every product of a forward pass seen, whoever multiplies: functions, parts of tensors, packed and made weights?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from accelsim import InputError, Layer, Network

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
nn, F = torch.nn, torch.nn.functional


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


class Model(nn.Module):
    """What a function of its parameters, modules and inputs returns."""

    def __init__(self, function: Callable[..., Any], **held: Any) -> None:
        super().__init__()
        self.function = function
        for name, each in held.items():
            setattr(self, name, nn.Parameter(each) if isinstance(each, torch.Tensor) else each)

    def forward(self, *inputs: Any) -> Any:
        return self.function(self, *inputs)


def products(layer: Layer) -> np.ndarray:
    """Outputs of a layer from its own weights and activations: (batch, vectors, out_features)."""
    samples = np.asarray(layer.activations, np.float64).reshape(-1, *layer.input_shape)
    bias = 0 if layer.bias is None else layer.bias
    vectors = layer.lower(samples)[:] @ layer.matrix.astype(np.float64).T + bias
    return vectors.reshape(len(samples), -1, layer.out_features)


def given(*shape: int) -> Any:
    return torch.randn(*shape)


def heads(values: Any) -> Any:
    """(batch, tokens, 2 x 4) as (batch, heads, tokens, 4)."""
    return values.unflatten(2, (2, 4)).transpose(1, 2)


ALONE: list[tuple[str, Callable[[], Any], tuple[int, ...]]] = [
    ("linear", lambda: Model(lambda m, x: F.linear(x, m.w, m.b), w=given(6, 8), b=given(6)), (6, 8)),
    ("matmul", lambda: Model(lambda m, x: x @ m.w, w=given(8, 6)), (6, 8)),
    ("turned", lambda: Model(lambda m, x: x @ m.w.t(), w=given(6, 8)), (6, 8)),
    ("left", lambda: Model(lambda m, x: (m.w @ x.mT).mT, w=given(6, 8)), (6, 8)),
    ("vector", lambda: Model(lambda m, x: (x @ m.w)[..., None], w=given(8)), (1, 8)),
    ("addmm", lambda: Model(lambda m, x: torch.addmm(m.b, x.view(-1, 8), m.w).view(3, 5, 6), w=given(8, 6), b=given(6)),
     (6, 8)),
    ("scaled", lambda: Model(lambda m, x: torch.addmm(m.b, x.view(-1, 8), m.w, beta=2, alpha=3).view(3, 5, 6),
                             w=given(8, 6), b=given(6)), (6, 8)),
    ("einsum", lambda: Model(lambda m, x: torch.einsum("btd,dhk->bthk", x, m.w).flatten(2), w=given(8, 2, 3)), (6, 8)),
    ("bmm", lambda: Model(lambda m, x: torch.bmm(x, m.w.expand(3, 8, 6)), w=given(8, 6)), (6, 8)),
    ("some rows", lambda: Model(lambda m, x: F.linear(x, m.w[2:8], m.b[2:8]), w=given(9, 8), b=given(9)), (6, 8)),
    ("cast", lambda: Model(lambda m, x: F.linear(x, m.w.to(x.dtype)), w=given(6, 8).double()), (6, 8)),
    ("like", lambda: Model(lambda m, x: F.linear(x, m.w.type_as(x)), w=given(6, 8).double()), (6, 8)),
    ("sparse", lambda: Model(lambda m, x: torch.sparse.mm(m.w.to_sparse(), x.view(-1, 8).t()).t().reshape(3, 5, 6),
                             w=given(6, 8).relu()), (6, 8)),
    ("all heads alike", lambda: Model(lambda m, x: (x[:, None] @ m.w).transpose(1, 2).flatten(2), w=given(2, 8, 3)),
     (6, 8)),
    ("scripted", lambda: torch.jit.script(nn.Linear(8, 6)), (6, 8)),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")
@pytest.mark.parametrize(("model", "shape"), [each[1:] for each in ALONE], ids=[each[0] for each in ALONE])
def test_one_product_however_it_is_written(model: Callable[[], Any], shape: tuple[int, ...]) -> None:
    """Three samples of five tokens: outputs are those of the layer, token by token."""
    whole, example = nn.Sequential(model()), given(3, 5, 8)
    (layer,) = Network.from_torch(whole, example)
    assert (layer.name, layer.weight_shape, layer.products.vectors) == (
        "0" if isinstance(whole[0], torch.jit.ScriptModule) else "0.w", shape, 5
    )  # fmt: skip
    output = whole(example).detach().double().numpy()
    assert np.allclose(products(layer), output, rtol=1e-4, atol=1e-5)


HEADS: dict[str, Callable[[Any, Any], Any]] = {
    "matmul": lambda m, x: heads(x) @ m.w,
    "einsum": lambda m, x: torch.einsum("bhtd,hdk->bhtk", heads(x), m.w),
    "of samples": lambda m, x: torch.bmm(
        heads(x).flatten(0, 1), m.w.expand(3, 2, 4, 3).reshape(6, 4, 3)).unflatten(0, (3, 2)),
    "tokens of all samples": lambda m, x: torch.bmm(
        heads(x).transpose(0, 1).flatten(1, 2), m.w).unflatten(1, (3, 5)).transpose(0, 1),
}  # fmt: skip


@pytest.mark.parametrize("way", HEADS)
def test_a_matrix_for_each_of_several_heads_is_a_layer_each(way: str) -> None:
    model, example = Model(HEADS[way], w=given(2, 4, 3)), given(3, 5, 8)
    network = Network.from_torch(model, example)
    output = model(example).detach().numpy()
    assert [(each.name, each.weight_shape, each.tokens) for each in network] == [("w.0", (3, 4), 5), ("w.1", (3, 4), 5)]
    for head, layer in enumerate(network):
        assert np.allclose(products(layer), output[:, head], atol=1e-5)
    assert not network.left_out


def test_parts_of_a_tensor_are_layers_of_their_own() -> None:
    model = Model(lambda m, x: F.linear(x, m.w[:4]) * F.linear(x, m.w[4:8]) + F.linear(x, m.w[:4]), w=given(12, 8))
    network = Network.from_torch(model, given(3, 5, 8))
    assert [(each.name, each.steps) for each in network] == [("w", 2), ("w.part2", 1)]
    assert np.array_equal(network["w.part2"].weight, model.w[4:8].detach().numpy())
    assert [(str(each), each.weights) for each in network.left_out] == [("w (part not used)", 4 * 8)]


def test_a_square_tensor_used_both_ways_is_two_layers() -> None:
    model, example = Model(lambda m, x: (x @ m.w) @ m.w.t(), w=given(8, 8)), given(3, 8)
    network = Network.from_torch(model, example)
    assert [each.name for each in network] == ["w", "w.part2"]
    assert np.array_equal(network["w"].weight.T, network["w.part2"].weight)
    assert np.allclose(products(network["w.part2"])[:, 0], model(example).detach().numpy(), atol=1e-4)


def test_weights_made_of_others_are_folded() -> None:
    """A LoRA that is added to its weight costs nothing per sample; one beside it is two layers more."""
    held = {"w": given(6, 8), "a": given(2, 8), "b": given(6, 2)}
    merged = Network.from_torch(Model(lambda m, x: F.linear(x, m.w + m.b @ m.a), **held), given(3, 8))
    assert [each.name for each in merged] == ["w"]
    assert np.allclose(merged["w"].weight, (held["w"] + held["b"] @ held["a"]).numpy(), atol=1e-6)
    assert not merged.left_out
    beside = Network.from_torch(Model(lambda m, x: F.linear(x, m.w) + x @ m.a.t() @ m.b.t(), **held), given(3, 8))
    assert {each.name: each.weight_shape for each in beside} == {"w": (6, 8), "a": (2, 8), "b": (6, 2)}


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("norm", ["weight_norm", "spectral_norm"])
@pytest.mark.parametrize("kind", ["parametrizations", ""])
def test_normed_weights_are_the_ones_that_are_used(norm: str, kind: str) -> None:
    model = nn.Sequential(nn.Conv1d(5, 4, 3), nn.Flatten(), nn.Linear(24, 2))
    apply = getattr(getattr(nn.utils, kind) if kind else nn.utils, norm)
    apply(model[0])
    apply(model[2])
    network = Network.from_torch(model, given(3, 5, 8))
    assert [each.name for each in network] == ["0", "2"]
    model.eval()
    model(given(3, 5, 8))
    assert np.allclose(network["2"].weight, model[2].weight.detach().numpy(), atol=1e-6)
    assert np.allclose(network["0"].weight[:, :, 0], model[0].weight.detach().numpy(), atol=1e-6)
    assert not network.left_out


def test_learned_queries_are_multiplied_in_each_pass() -> None:
    """A product of parameters that is no weight is a layer: 4 queries for each sample."""
    model = Model(
        lambda m, x: F.scaled_dot_product_attention(m.q(m.queries.expand(len(x), -1, -1)), m.k(x), x),
        queries=given(4, 8), q=nn.Linear(8, 8), k=nn.Linear(8, 8),
    )  # fmt: skip
    network = Network.from_torch(model, given(3, 5, 8))
    assert [(each.name, each.tokens) for each in network] == [("q", 4), ("k", 5)]
    assert [(str(each), each.weights, each.macs) for each in network.left_out] == [
        ("queries (input)", 32, 0),
        ("scores (attention product)", 0, 4 * 5 * 8),
        ("values (attention product)", 0, 4 * 5 * 8),
    ]


def test_a_head_tied_to_its_embedding_is_a_layer_and_a_look_up_without_further_weights() -> None:
    model = Model(lambda m, x: F.linear(m.emb(x), m.emb.weight), emb=nn.Embedding(11, 8))
    network = Network.from_torch(model, torch.randint(0, 11, (3, 5)))
    assert [(each.name, each.weight_shape) for each in network] == [("emb", (11, 8))]
    assert [(str(each), each.weights) for each in network.left_out] == [("emb (look-up)", 0)]
    tied = nn.Sequential(nn.Embedding(11, 8), nn.Linear(8, 11, bias=False))
    tied[1].weight = tied[0].weight
    assert [each.name for each in Network.from_torch(tied, torch.randint(0, 11, (3, 5)))] == ["1"]


def test_weights_changed_by_the_input_are_activations() -> None:
    model = Model(lambda m, x: m.fc(x) @ (m.w * x.mean()).t(), fc=nn.Linear(8, 8), w=given(6, 8))
    network = Network.from_torch(model, given(3, 8))
    assert [each.name for each in network] == ["fc"]
    assert [(str(each), each.weights, each.macs) for each in network.left_out] == [
        ("w (mul)", 48, 0), ("matmul (matmul of activations)", 0, 48)
    ]  # fmt: skip


def test_a_buffer_that_is_written_is_no_weight_any_more() -> None:
    class Cached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)
            self.register_buffer("cache", torch.zeros(3, 4))

        def forward(self, values: Any) -> Any:
            self.cache[:] = self.fc(values)
            return values @ self.cache.t()

    network = Network.from_torch(Cached(), given(3, 4))
    assert [each.name for each in network] == ["fc"]
    assert [(str(each), each.macs) for each in network.left_out] == [("matmul (matmul of activations)", 3 * 4)]


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("dims", [1, 2])
def test_transposed_convolutions_are_products_of_input_pixels(dims: int, groups: int) -> None:
    """Adding up what overlaps, and the bias, gives the module's output."""
    kind, size = (nn.ConvTranspose1d, (7,)) if dims == 1 else (nn.ConvTranspose2d, (4, 5))
    model, example = kind(4, 6, 3, stride=2, padding=1, groups=groups), given(3, 4, *size)
    network = Network.from_torch(nn.Sequential(model), example)
    (layer,) = network
    assert network.assumptions[0].startswith("transposed convolutions (0) are products of every input pixel")
    assert (layer.kind, layer.macs) == ("conv_transpose2d", 4 * 6 // groups * 3**dims * np.prod(size))
    columns = torch.from_numpy(products(layer)).mT  # (samples, out x kernel, pixels)
    kernel = (1, 3) if dims == 1 else (3, 3)
    whole = (1 if dims == 1 else 2 * size[0] - 1, 2 * size[-1] - 1)
    summed = F.fold(columns, whole, kernel, padding=(0, 1) if dims == 1 else 1, stride=2)
    output = model(example).double()
    expected = output[:, :, None] if dims == 1 else output
    assert torch.allclose(summed + model.bias.double()[:, None, None], expected, atol=1e-5)


def test_products_that_no_layer_has_are_named_with_their_size() -> None:
    model = nn.Sequential(
        nn.Conv3d(2, 3, 3), nn.Flatten(1, 3), nn.ConvTranspose1d(6, 5, 2), Model(lambda m, x: m.two(x, x),
                                                                           two=nn.Bilinear(5, 5, 4))
    )  # fmt: skip
    network = Network.from_torch(model, given(3, 2, 3, 4, 6))
    assert [(str(each), each.weights, each.macs) for each in network.left_out] == [
        ("0 (3-D convolution)", 3 * 2 * 27, 3 * 2 * 27 * 1 * 2 * 4),
        ("3.two (bilinear)", 4 * 5 * 5, 5 * (4 * 5 * 5 + 4 * 5)),
    ]


def test_several_images_of_a_sample_are_its_tokens() -> None:
    model, example = Model(lambda m, x: m.conv(x.flatten(0, 1)), conv=nn.Conv2d(2, 3, 3)), given(3, 2, 2, 5, 5)
    (layer,) = Network.from_torch(model, example)
    assert (layer.tokens, layer.macs) == (2, 2 * 9 * 3 * 2 * 9)
    assert np.array_equal(layer.activations, example.numpy())


def test_what_does_not_divide_among_samples_is_said() -> None:
    network = Network.from_torch(Model(lambda m, x: m.conv(x[:2]), conv=nn.Conv2d(2, 3, 3)), given(3, 2, 5, 5))
    assert len(network["conv"].activations) == 2
    assert network.assumptions == (
        "conv: 2 images do not divide among 3 samples, so each counts as a sample; correct batch_dim, or give an "
        "example of one sample",
    )


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_an_lstm_with_projections_has_a_third_product(bidirectional: bool, bias: bool) -> None:
    model = nn.LSTM(6, 5, 2, bias=bias, bidirectional=bidirectional, proj_size=3)
    example = given(7, 4, 6)
    network = Network.from_torch(model, example, batch_dim=1)
    sides = ["", "_reverse"][: 1 + bidirectional]
    ends = [f"l{number}{side}" for number in (0, 1) for side in sides]
    assert [each.name for each in network] == [f"{kind}_{end}" for end in ends for kind in ("ih", "hh", "hr")]
    output = model(example)[0].transpose(0, 1).detach().numpy()
    for at, side in enumerate(sides):
        states = products(network[f"hr_l1{side}"])
        expected = output[:, ::-1] if side else output
        assert np.allclose(states, expected[:, :, 3 * at : 3 * at + 3], atol=1e-5)
        assert np.allclose(network[f"hh_l1{side}"].activations[:, 1:], states[:, :-1], atol=1e-5)


def test_sequences_of_a_sample_go_step_by_step() -> None:
    """Two sequences a sample: a step of the states takes both."""
    model = Model(lambda m, x: m.rnn(x.flatten(0, 1))[0], rnn=nn.RNN(4, 5, batch_first=True))
    network = Network.from_torch(model, given(3, 2, 6, 4))
    inputs, states = network["rnn.ih_l0"], network["rnn.hh_l0"]
    assert (inputs.tokens, inputs.steps, states.tokens, states.steps) == (12, 1, 2, 6)
    assert not states.activations.reshape(3, 6, 2, 5)[:, 0].any()


def test_tokens_and_samples_are_told_apart_inside_an_attention() -> None:
    """As many tokens as samples: an attention works on (tokens, samples, features) inside."""
    model, example = nn.MultiheadAttention(8, 2, batch_first=True), given(4, 4, 8)
    network = Network.from_torch(model, (example, example, example))
    assert np.array_equal(network["in_proj"].activations, example.numpy())
    output = model(example, example, example)[0].detach().numpy()
    assert np.allclose(products(network["out_proj"]), output, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method")
def test_a_model_inside_a_compiled_one_runs_as_it_was_written() -> None:
    model = nn.Sequential(nn.Linear(8, 4), torch.compile(nn.Linear(4, 4)))
    assert len(Network.from_torch(model, given(3, 8))) == 2


def test_a_list_of_tensors_is_one_sample_each() -> None:
    network = Network.from_torch(Model(lambda m, x: m.fc(torch.stack(x)), fc=nn.Linear(8, 4)), ([given(8), given(8)],))
    assert network["fc"].activations.shape == (2, 8)
    with pytest.raises(InputError, match="example_input: holds no sample"):
        Network.from_torch(nn.Linear(8, 4), given(0, 8))


class Packed(torch.Tensor):
    """Weights of a class of their own, as torchao has them: integers and scales, which it makes weights of inside."""

    @staticmethod
    def __new__(cls, integers: Any, scales: Any) -> Any:
        return torch.Tensor._make_wrapper_subclass(cls, integers.shape, dtype=scales.dtype)

    def __init__(self, integers: Any, scales: Any) -> None:
        self.integers, self.scales = integers, scales

    def dequantize(self) -> Any:
        return self.integers * self.scales

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.linear:
            return cls.linear(*args)
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func is torch.ops.aten.detach.default
        return args[0]

    @staticmethod
    def linear(data: Any, weight: Any, bias: Any) -> Any:
        """As a kernel that nobody sees into."""
        return data.new_zeros(*data.shape[:-1], len(weight.scales))


class Flattened(Packed):
    """The same, saying what is inside, and multiplied as the numbers that it stands for."""

    def __tensor_flatten__(self) -> Any:
        return ["integers", "scales"], None

    @staticmethod
    def linear(data: Any, weight: Any, bias: Any) -> Any:
        return F.linear(data, weight.dequantize(), bias)


def test_weights_of_a_class_of_their_own_are_layers_or_named() -> None:
    def model(kind: type[Packed]) -> Any:
        both = nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 4))
        both[0].weight = nn.Parameter(kind(torch.randint(-5, 5, (6, 8)), torch.rand(6, 1)), requires_grad=False)
        return both

    seen = model(Flattened)
    network = Network.from_torch(seen, given(3, 8))
    assert [each.name for each in network] == ["0", "1"]
    assert np.array_equal(network["0"].weight, seen[0].weight.dequantize().numpy())
    assert not network.left_out
    network = Network.from_torch(model(Packed), given(3, 8))
    assert [each.name for each in network] == ["1"]
    assert [(str(each), each.weights, each.macs) for each in network.left_out] == [
        ("0 (weights of class Packed)", 48, None)
    ]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*deprecated:UserWarning")
class TestQuantised:
    """Weights are integers without their zero point; sums of them times their scales are the outputs."""

    def test_dynamic_linear_layers(self) -> None:
        model = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 4))
        quantised = torch.ao.quantization.quantize_dynamic(model)
        network = Network.from_torch(quantised, given(3, 5, 8))
        assert [(each.name, each.tokens, each.weight.dtype) for each in network] == [("0", 5, "int8"), ("2", 5, "int8")]
        weight = quantised[0].weight()
        assert np.array_equal(network["0"].weight, weight.int_repr().numpy() - weight.q_zero_point())
        assert np.allclose(network["0"].bias * weight.q_scale(), model[0].bias.detach().numpy())

    @pytest.mark.parametrize("kind", ["LSTM", "GRU"])
    def test_dynamic_recurrent_layers(self, kind: str) -> None:
        model = nn.Sequential(getattr(nn, kind)(6, 5, num_layers=2, bidirectional=True, batch_first=True))
        quantised = torch.ao.quantization.quantize_dynamic(model)
        plain, network = (Network.from_torch(each, given(3, 7, 6)) for each in (model, quantised))
        shapes = [[(each.name, each.weight_shape, each.tokens, each.steps) for each in n] for n in (plain, network)]
        assert shapes[0] == shapes[1]
        for layer in network:
            assert layer.weight.dtype == "int8"
            weight = quantised[0].get_weight()[f"weight_{layer.name.removeprefix('0.')}"]
            assert np.array_equal(layer.weight * np.float32(weight.q_scale()), weight.dequantize().numpy())

    def test_static_convolutions_and_linear_layers(self) -> None:
        quantization = torch.ao.quantization
        model = quantization.QuantWrapper(
            nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 9, 5))
        ).eval()
        model.qconfig = quantization.get_default_qconfig("fbgemm")
        quantization.prepare(model, inplace=True)
        example = given(3, 3, 6, 6)
        model(example)
        quantization.convert(model, inplace=True)
        network = Network.from_torch(model, example)
        assert [each.name for each in network] == ["module.0", "module.3"]
        assert network["module.0"].convolution.stride_hw == (2, 2)
        seen: list[Any] = []
        model.module[0].register_forward_hook(lambda module, inputs, output: seen.extend((inputs[0], output)))
        model(example)
        weight, (images, output) = model.module[0].weight(), seen
        scales = weight.q_per_channel_scales().numpy() * images.q_scale()
        expected = output.dequantize().numpy().reshape(3, 4, 9).transpose(0, 2, 1)
        assert np.allclose(products(network["module.0"]) * scales, expected, atol=output.q_scale())

    def test_look_ups(self) -> None:
        quantization = torch.ao.quantization
        model = nn.Sequential(nn.Embedding(11, 8), nn.Linear(8, 4))
        model[0].qconfig = quantization.float_qparams_weight_only_qconfig
        quantization.prepare(model, inplace=True)
        quantization.convert(model, inplace=True)
        network = Network.from_torch(model, torch.randint(0, 11, (3, 5)))
        assert [(each.name, each.tokens) for each in network] == [("1", 5)]
        assert [(str(each), each.weights, each.macs) for each in network.left_out] == [("0 (look-up)", 88, 0)]

    def test_those_that_are_no_layers_or_did_not_run_are_named(self) -> None:
        model = nn.Sequential(nn.Linear(4, 4), nn.LSTMCell(4, 3))
        quantised = torch.ao.quantization.quantize_dynamic(model, {nn.Linear, nn.LSTMCell})
        network = Network.from_torch(quantised, given(3, 4))
        assert [(str(each), each.weights, each.macs) for each in network.left_out] == [
            ("1 (quantised lstm_cell_dynamic)", 12 * 4 + 12 * 3, None)
        ]
        unused = Model(lambda m, x: m.fc(x), fc=nn.Linear(4, 4), other=quantised[0])
        assert [(str(each), each.weights) for each in Network.from_torch(unused, given(3, 4)).left_out] == [
            ("other (not called)", 16)
        ]
