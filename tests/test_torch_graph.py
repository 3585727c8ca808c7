"""Is the graph of a PyTorch model what its code says: who takes what from whom, and what each operation does?"""

from __future__ import annotations

from typing import Any

import pytest

from accelsim import Network
from accelsim.network.graph import ActivationProduct, Graph

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
nn, F = torch.nn, torch.nn.functional


def graph_of(model: Any, example: Any, **options: Any) -> Graph:
    graph = Network.from_torch(model, example, **options).graph
    assert graph is not None
    return graph


def edges(graph: Graph) -> dict[str, tuple[str, ...]]:
    return {name: graph.takes(name) for name in graph.order}


class Residual(nn.Module):
    """Modules and functions, one ReLU that is called twice, and a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.relu, self.drop = nn.ReLU(inplace=True), nn.Dropout()
        self.b, self.skip = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(3, 4, 1)
        self.fc = nn.Linear(4, 2)

    def forward(self, images: Any) -> Any:
        values = self.relu(self.norm(self.a(images)))
        values = self.relu(self.b(values) + self.skip(images))
        pooled = F.adaptive_avg_pool2d(values, 1)
        return F.log_softmax(self.fc(self.drop(torch.flatten(pooled, 1))), 1)


def test_a_residual_block() -> None:
    graph = graph_of(Residual(), torch.randn(2, 3, 6, 6))
    assert graph.inputs == {"images": (3, 6, 6)}
    assert edges(graph) == {
        "a": ("images",),
        "norm": ("a",),
        "relu": ("norm",),
        "b": ("relu",),
        "skip": ("images",),
        "add": ("b", "skip"),
        "relu.call2": ("add",),
        "adaptive_avg_pool2d": ("relu.call2",),
        "flatten": ("adaptive_avg_pool2d",),
        "fc": ("flatten",),
        "log_softmax": ("fc",),
    }
    assert graph.outputs == ("log_softmax",)
    said = {name: (each.kind, each.shape, each.reads, each.weights) for name, each in graph.by_name.items()}
    assert said == {
        "norm": ("normalisation", (4, 6, 6), 144, 4 * 4),  # scales, shifts, means, variances
        "relu": ("activation", (4, 6, 6), 144, 0),
        "add": ("elementwise", (4, 6, 6), 288, 0),
        "relu.call2": ("activation", (4, 6, 6), 144, 0),
        "adaptive_avg_pool2d": ("pooling", (4, 1, 1), 144, 0),
        "flatten": ("reshape", (4,), 4, 0),
        "log_softmax": ("softmax", (2,), 2, 0),
    }


def test_channels_are_followed() -> None:
    class Channels(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 6, 1), nn.Conv2d(10, 10, 1)
            self.fc, self.tokens = nn.Linear(10 * 4, 5), nn.Linear(3, 3)

        def forward(self, images: Any) -> Any:
            both = torch.cat([self.a(images), self.b(images).relu()], 1)
            shuffled = both.unflatten(1, (2, 5)).transpose(1, 2).flatten(1, 2)
            gated = self.c(shuffled) * both.mean((2, 3), keepdim=True).sigmoid()
            half = gated[:, :5]
            return self.fc(F.max_pool2d(gated, 2).flatten(1)) + half.mean((2, 3))

    graph = graph_of(Channels(), torch.randn(1, 3, 4, 4))
    assert {name: each.channels for name, each in graph.by_name.items()} == {
        "relu": "same",
        "cat": "joined",
        "reshape": "mixed",
        "mean": "same",
        "sigmoid": "same",
        "mul": "same",
        "slice": "mixed",
        "max_pool2d": "same",
        "flatten": "flattened",
        "mean.call2": "same",
        "add": "same",
    }


@pytest.mark.parametrize("axis", [1, 2])
def test_a_layer_that_mixes_tokens_takes_no_channels(axis: int) -> None:
    """As in an MLP mixer: a linear layer on the turned matrix (features, tokens)."""

    class Mixer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.tokens = nn.Linear(6, 6), nn.Linear(6, 6)

        def forward(self, values: Any) -> Any:
            values = self.first(values).relu()
            return self.tokens(values.transpose(1, 2) if axis == 1 else values)

    graph = graph_of(Mixer(), torch.randn(2, 6, 6))
    last = graph.by_name[graph.takes("tokens")[0]]
    assert (last.does, last.channels) == (("transpose", "mixed") if axis == 1 else ("relu", "same"))


def test_what_is_written_in_place_is_what_others_read() -> None:
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, values: Any) -> Any:
            before = self.a(values)
            view = before.view(-1)
            view.mul_(2)
            whole = torch.zeros(len(values), 8)
            whole[:, :4] = before
            return self.b(before.relu_()), whole

    graph = graph_of(InPlace(), torch.randn(3, 4))
    taken = edges(graph)
    assert taken["mul"] == ("a",)
    assert taken["relu"] == ("mul",)
    assert taken["b"] == ("relu",)
    assert graph.outputs[0] == "b"
    assert taken[graph.outputs[1]] == ("mul",)


@pytest.mark.parametrize("weights", [False, True])
def test_attention_is_three_operations(weights: bool) -> None:
    """Scaled dot products by one operation, and written out where the weights are asked for."""

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attn = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, values: Any) -> Any:
            return self.attn(values, values, values, need_weights=weights)[0]

    network = Network.from_torch(Attention(), torch.randn(3, 5, 8))
    graph = network.graph
    assert graph is not None
    kinds = {name: each.kind for name, each in graph.by_name.items() if each.kind in ("attention", "softmax")}
    assert kinds == {"attn.scores": "attention", "attn.softmax": "softmax", "attn.values": "attention"}
    scores, values = graph.by_name["attn.scores"], graph.by_name["attn.values"]
    assert scores.product == ActivationProduct(groups=2, rows=5, columns=4, vectors=5)
    assert values.product == ActivationProduct(groups=2, rows=4, columns=5, vectors=5)
    assert [(each.name, each.macs) for each in network.left_out] == [("attn.scores", 200), ("attn.values", 200)]
    parted = next(each for each in graph.operations if "attn.in_proj" in each.inputs)
    assert parted.inputs == ("attn.in_proj",)


def test_a_causal_attention_with_fewer_heads_of_keys() -> None:
    class Grouped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.v = nn.Linear(8, 8), nn.Linear(8, 4), nn.Linear(8, 4)

        def forward(self, values: Any) -> Any:
            q, k, v = (each(values).unflatten(2, (-1, 2)).transpose(1, 2) for each in (self.q, self.k, self.v))
            return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)

    graph = graph_of(Grouped(), torch.randn(3, 5, 8))
    expected = ActivationProduct(groups=4, rows=5, columns=2, vectors=5, causal=True, operand_groups=2)
    assert graph.by_name["scores"].product == expected


def test_what_is_written_out_in_one_module_is_one_operation() -> None:
    class RMSNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(4))

        def forward(self, values: Any) -> Any:
            return self.scale * (values * torch.rsqrt(values.pow(2).mean(-1, keepdim=True) + 1e-6))

    graph = graph_of(nn.Sequential(nn.Linear(4, 4), RMSNorm(), nn.SiLU(), nn.Linear(4, 4)), torch.randn(2, 4))
    assert edges(graph) == {"0": ("input",), "1": ("0",), "2": ("1",), "3": ("2",)}
    norm = graph.by_name["1"]
    assert (norm.kind, norm.does, norm.reads, norm.weights) == ("normalisation", "RMSNorm", 4, 4)


def test_layers_of_a_recurrent_module_feed_one_another() -> None:
    graph = graph_of(nn.LSTM(5, 4, 2, bidirectional=True, batch_first=True), torch.randn(2, 6, 5))
    taken = edges(graph)
    assert taken["ih_l0"] == taken["ih_l0_reverse"] == ("input",)
    assert taken["hh_l0"] == ("ih_l0",)
    assert taken["ih_l1"] == ("hh_l0", "hh_l0_reverse")
    assert graph.outputs == ("lstm",)
    assert set(taken["lstm"]) == {each for each in taken if each != "lstm"}


def test_look_ups_are_named_as_what_is_left_out() -> None:
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.places = nn.Embedding(11, 4), nn.Parameter(torch.randn(5, 4))
            self.fc = nn.Linear(4, 3)

        def forward(self, numbers: Any, kept: Any) -> Any:
            return self.fc(self.words(numbers) + self.places) * kept

    network = Network.from_torch(Words(), {"numbers": torch.randint(0, 11, (2, 5)), "kept": torch.ones(2, 5, 1)})
    graph = network.graph
    assert graph is not None
    assert dict(graph.inputs) == {"numbers": (5,), "kept": (5, 1)}
    assert edges(graph) == {"words": ("numbers",), "places": ("words",), "fc": ("places",), "mul": ("fc", "kept")}
    words, places = graph.by_name["words"], graph.by_name["places"]
    assert (words.kind, words.weights, places.kind, places.weights) == ("embedding", 5 * 4, "elementwise", 5 * 4)
    assert {each.name for each in network.left_out} == {"words", "places"}
