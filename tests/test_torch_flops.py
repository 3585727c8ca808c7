"""Do layers and what is left out add up to what PyTorch's own counter sees, and to all weights of the model?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from accelsim import Network

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
nn, F = torch.nn, torch.nn.functional


def call(model: Any, example: Any) -> Any:
    if isinstance(example, dict):
        return model(**example)
    return model(*example) if isinstance(example, tuple) else model(example)


@contextmanager
def module_by_module() -> Iterator[None]:
    """Attention as plain products and no fused encoders: FlopCounterMode knows neither kernel of a CPU."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def counted(model: Any, example: Any) -> int:
    """Multiply-accumulates of one call by FlopCounterMode, which counts two operations for each."""
    from torch.utils.flop_counter import FlopCounterMode

    model.eval().requires_grad_(False)
    with module_by_module(), FlopCounterMode(display=False) as counter:
        call(model, example)
    operations = counter.get_total_flops()
    assert operations % 2 == 0
    return operations // 2


def holds(model: Any, example: Any, batch: int, uncounted: int = 0) -> Network:
    """Check a model: `uncounted` are the multiply-accumulates that FlopCounterMode does not know, by hand."""
    network = Network.from_torch(model, example)
    scope = network.scope
    assert not scope.unknown
    assert batch * (scope.macs + scope.macs_left_out) == counted(model, example) + uncounted
    weights = sum(layer.weight_count for layer in network if ".call" not in layer.name)
    assert weights + scope.weights_left_out == sum(each.numel() for each in model.parameters() if each.ndim >= 2)
    is_whole(network)
    return network


def is_whole(network: Network) -> None:
    """Check that the graph has all layers and products, and leads from the inputs to the outputs through each."""
    graph = network.graph
    assert graph is not None
    sized = {each.name: each.macs for each in graph.operations if each.macs}
    left = {each.name: each.macs for each in network.left_out if each.macs}
    assert sum(sized.values()) == sum(left.values())
    assert sized == left
    needed, fed = set(graph.outputs), set(graph.inputs)
    for name in reversed(graph.order):
        if name in needed:
            needed.update(graph.takes(name))
    for name in graph.order:
        fed |= {name} if fed.intersection(graph.takes(name)) else set()
    assert {layer.name for layer in network} <= set(graph.order) <= needed & fed


class Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.a = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.b = nn.Conv2d(outputs, outputs, 3, 1, 1, groups=2, bias=False)
        self.skip = nn.Conv2d(inputs, outputs, 1, stride)
        self.norms = nn.ModuleList([nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)])

    def forward(self, images: Any) -> Any:
        values = F.relu(self.norms[0](self.a(images)), inplace=True)
        return F.relu(self.norms[1](self.b(values)) + self.skip(images))


class Window(nn.Module):
    """Attention within windows as in Swin: projections by F.linear in a function, and a table of relative positions."""

    def __init__(self, width: int, heads: int, side: int) -> None:
        super().__init__()
        self.heads, self.side = heads, side
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.table = nn.Parameter(torch.randn((2 * side - 1) ** 2, heads))
        places = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")).flatten(1)
        apart = (places[:, :, None] - places[:, None, :]) + side - 1
        self.register_buffer("index", apart[0] * (2 * side - 1) + apart[1])

    def forward(self, maps: Any) -> Any:
        batch, height, width, features = maps.shape
        windows = maps.unflatten(1, (-1, self.side)).unflatten(3, (-1, self.side)).transpose(2, 3)
        tokens = torch.roll(windows.flatten(3, 4).flatten(0, 2), 1, 1)
        q, k, v = F.linear(tokens, self.qkv.weight, self.qkv.bias).unflatten(2, (3, self.heads, -1)).unbind(2)
        bias = self.table[self.index].permute(2, 0, 1)
        scores = torch.einsum("bqhd,bkhd->bhqk", q, k) + bias
        attended = (scores.softmax(3) @ v.transpose(1, 2)).transpose(1, 2).flatten(2)
        return F.linear(attended, self.proj.weight, self.proj.bias).reshape(batch, height, width, features)


class Conv1D(nn.Module):
    """The linear layer of GPT-2 in the library transformers: weights (in, out)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(inputs, outputs)), nn.Parameter(torch.randn(outputs))

    def forward(self, values: Any) -> Any:
        made = torch.addmm(self.bias, values.view(-1, values.size(-1)), self.weight)
        return made.view(*values.shape[:-1], -1)


class Decoder(nn.Module):
    """A block as GPT-2 has it, under embeddings whose weights are its head."""

    def __init__(self, words: int, width: int, heads: int, tokens: int) -> None:
        super().__init__()
        self.heads = heads
        self.words, self.places = nn.Embedding(words, width), nn.Embedding(tokens, width)
        self.c_attn, self.c_proj = Conv1D(width, 3 * width), Conv1D(width, width)
        self.up, self.down, self.norm = Conv1D(width, 4 * width), Conv1D(4 * width, width), nn.LayerNorm(width)

    def forward(self, numbers: Any) -> Any:
        values = self.words(numbers) + self.places(torch.arange(numbers.shape[1]))
        q, k, v = (each.unflatten(2, (self.heads, -1)).transpose(1, 2) for each in self.c_attn(values).chunk(3, 2))
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        values = values + self.c_proj(attended.transpose(1, 2).flatten(2))
        values = values + self.down(F.gelu(self.up(self.norm(values))))
        return F.linear(values, self.words.weight)


def images(*shape: int) -> Any:
    return torch.randn(2, *shape)


def test_convolutions() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 7, 2, 3), nn.MaxPool2d(2), Residual(8, 16, 2), Residual(16, 16, 1), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(16, 10),
    )  # fmt: skip
    assert len(holds(model, images(3, 32, 32), 2)) == 8


@pytest.mark.parametrize("masked", [False, True])
def test_an_encoder_of_patches(masked: bool) -> None:
    """As a vision transformer: nn.MultiheadAttention under a convolution; the mask changes the kernel, no product."""

    class Patches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, 16, 4, 4)
            self.token, self.places = nn.Parameter(torch.randn(1, 1, 16)), nn.Parameter(torch.randn(1, 17, 16))
            self.layers = nn.ModuleList([nn.TransformerEncoderLayer(16, 4, 32, batch_first=True) for _ in range(2)])

        def forward(self, values: Any) -> Any:
            tokens = self.patches(values).flatten(2).mT
            tokens = torch.cat([self.token.expand(len(tokens), -1, -1), tokens], 1) + self.places
            for layer in self.layers:
                tokens = layer(tokens, torch.zeros(17, 17) if masked else None)
            return tokens[:, 0]

    network = holds(Patches(), images(3, 16, 16), 2)
    assert len(network) == 1 + 2 * 4  # in_proj, out_proj, linear1, linear2
    attention = {each.name: each.macs for each in network.left_out if each.kind == "attention product"}
    products = [f"layers.{at}.self_attn.{product}" for at in (0, 1) for product in ("scores", "values")]
    assert attention == dict.fromkeys(products, 17 * 17 * 16)


def test_attention_within_windows() -> None:
    network = holds(nn.Sequential(nn.Conv2d(3, 8, 2, 2), Permuted(), Window(8, 2, 4)), images(3, 16, 16), 2)
    assert [(each.name, each.tokens) for each in network] == [("0", 1), ("2.qkv", 64), ("2.proj", 64)]


class Permuted(nn.Module):
    def forward(self, maps: Any) -> Any:
        return maps.permute(0, 2, 3, 1)


def test_a_decoder_with_turned_weights_and_a_tied_head() -> None:
    network = holds(Decoder(29, 16, 4, 12), torch.randint(0, 29, (2, 12)), 2)
    assert [(each.name, each.weight_shape) for each in network] == [
        ("c_attn", (48, 16)), ("c_proj", (16, 16)), ("up", (64, 16)), ("down", (16, 64)), ("words", (29, 16))
    ]  # fmt: skip


def test_an_encoder_and_a_decoder() -> None:
    model = nn.Transformer(16, 4, 1, 2, 32, batch_first=True)
    network = holds(model, (torch.randn(2, 7, 16), torch.randn(2, 5, 16)), 2)
    # Keys and values of a decoder come from the encoder, by one product of their own: in_proj is q_proj and kv_proj.
    assert len(network) == 4 + 2 * 7


def test_what_the_counter_does_not_know() -> None:
    """Recurrent kernels and bilinear forms, by hand."""
    steps, samples = 6, 2
    recurrent = nn.LSTM(5, 4, 2, bidirectional=True, batch_first=True)
    by_hand = steps * samples * sum(each.numel() for name, each in recurrent.named_parameters() if "weight" in name)
    holds(recurrent, torch.randn(samples, steps, 5), samples, by_hand)

    class Scores(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.two, self.fc = nn.Bilinear(4, 4, 3), nn.Linear(3, 2)

        def forward(self, values: Any) -> Any:
            return self.fc(self.two(values, values))

    # For each of 3 outputs a vector on the right is 4 x 4 products, and one on the left 4 more.
    holds(Scores(), torch.randn(samples, steps, 4), samples, steps * samples * 3 * (4 * 4 + 4))


CLASSIFIERS = {
    "alexnet": 96, "vgg11": 64, "resnet18": 64, "resnext50_32x4d": 64, "mobilenet_v2": 64, "mobilenet_v3_small": 64,
    "squeezenet1_1": 64, "densenet121": 64, "efficientnet_b0": 64, "shufflenet_v2_x0_5": 64, "inception_v3": 107,
    "googlenet": 64, "mnasnet0_5": 64, "regnet_y_400mf": 64, "convnext_tiny": 64, "swin_t": 64, "vit_b_16": 64,
    "maxvit_t": 224,
}  # fmt: skip
OPTIONS: dict[str, dict[str, Any]] = {
    "inception_v3": {"init_weights": False},
    "googlenet": {"init_weights": False},
    "vit_b_16": {"image_size": 64},
}


def torchvision() -> Any:
    """torchvision, which fits one version of PyTorch only."""
    try:
        import torchvision
    except Exception as error:
        pytest.skip(f"torchvision cannot be imported: {error}")
    return torchvision.models


@pytest.mark.needs("torchvision")
@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers_of_torchvision(name: str) -> None:
    model = torchvision().get_model(name, weights=None, **OPTIONS.get(name, {}))
    holds(model, images(3, CLASSIFIERS[name], CLASSIFIERS[name]), 2)


@pytest.mark.needs("torchvision")
@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "batch"),
    [("fasterrcnn_mobilenet_v3_large_320_fpn", 1), ("ssdlite320_mobilenet_v3_large", 2), ("retinanet_resnet50_fpn", 2)],
)
def test_detection_of_torchvision(name: str, batch: int) -> None:
    size = {} if name.startswith("ssd") else {"min_size": 96, "max_size": 128}
    model = torchvision().get_model(name, weights=None, weights_backbone=None, **size)
    holds(model, torch.rand(batch, 3, 96, 96), batch)


@pytest.mark.needs("torchvision")
@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["fcn_resnet50", "deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large"])
def test_segmentation_of_torchvision(name: str) -> None:
    holds(torchvision().get_model(name, weights=None, weights_backbone=None), images(3, 64, 64), 2)


SMALL = {"vocab_size": 99, "num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 32, "intermediate_size": 64}
WORDS = {"input_ids": torch.randint(0, 90, (2, 12))}
BOTH_WORDS = WORDS | {"decoder_input_ids": torch.randint(0, 90, (2, 5))}
TRANSFORMERS: dict[str, tuple[str, dict[str, Any], Callable[[], dict[str, Any]]]] = {
    "BertModel": ("BertConfig", SMALL, lambda: WORDS),
    "GPT2LMHeadModel": ("GPT2Config", {"vocab_size": 99, "n_embd": 32, "n_layer": 2, "n_head": 4}, lambda: WORDS),
    "LlamaForCausalLM": ("LlamaConfig", SMALL | {"num_key_value_heads": 2}, lambda: WORDS),
    "T5ForConditionalGeneration": (
        "T5Config",
        {"vocab_size": 99, "d_model": 32, "num_layers": 2, "num_heads": 4, "d_kv": 8, "d_ff": 64},
        lambda: BOTH_WORDS,
    ),
    "SwinModel": (
        "SwinConfig",
        {"image_size": 32, "patch_size": 2, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4},
        lambda: {"pixel_values": images(3, 32, 32)},
    ),
    "WhisperModel": (
        "WhisperConfig",
        {"vocab_size": 99, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
         "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "num_mel_bins": 8,
         "max_source_positions": 20, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
        lambda: {"input_features": images(8, 40), "decoder_input_ids": BOTH_WORDS["decoder_input_ids"]},
    ),
}  # fmt: skip


@pytest.mark.needs("transformers")
@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TRANSFORMERS)
def test_models_of_transformers(name: str) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    config, options, example = TRANSFORMERS[name]
    model = getattr(transformers, name)(getattr(transformers, config)(**options))
    network = holds(model, example(), 2)
    if name == "GPT2LMHeadModel":
        each = ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]
        names = [f"transformer.h.{block}.{layer}" for block in (0, 1) for layer in each]
        assert [layer.name for layer in network] == [*names, "lm_head"]
        assert network["transformer.h.0.mlp.c_fc"].weight_shape == (4 * 32, 32)
