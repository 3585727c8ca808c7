"""Small files as people bring them: each is read right, or refused in one message that says what to type.

`cases/files/expected.csv` says in words what is right for each; here it stands as numbers. The multiply-accumulates of
the ONNX files follow from their shapes, written beside each.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pytest

from accelsim import InputError, Network, load_network
from accelsim.network import load_weights
from accelsim.network.left_out import WITHOUT_WEIGHTS

FILES = Path(__file__).parent / "cases" / "files"
EXPECTED = [row["file"] for row in csv.DictReader((FILES / "expected.csv").read_text(encoding="utf-8").splitlines())]

UP_PROJ = "model.layers.0.mlp.up_proj"
LSTM = {
    f"lstm.{each}_l{layer}{side}": (96, 24 if each == "hh" else 48 if layer else 16)
    for layer in (0, 1)
    for side in ("", "_reverse")
    for each in ("ih", "hh")
}
ATTENTION = {f"att.{each}_proj": (48, 48) for each in ("q", "k", "v", "out")}
PRUNED = {"0": (32, 16), "2": (32, 32), "4": (4, 32)}


class Right(NamedTuple):
    """What is right for a file of tensors."""

    layers: dict[str, tuple[int, ...]]
    left_out: Mapping[str, int] = MappingProxyType({})
    """Weights of what is named and not simulated."""
    density: Mapping[str, float] = MappingProxyType({})
    assumed: tuple[str, ...] = ()
    """What a sentence among the assumptions must hold."""


TENSORS = {
    "prune.safetensors": Right(PRUNED, density={"0": 0.25, "2": 0.25, "4": 1}),
    "prune.npz": Right(PRUNED, density={"0": 0.25, "2": 0.25, "4": 1}),
    "prune.pt": Right(PRUNED, density={"0": 0.25, "2": 0.25, "4": 1}),
    "ct_sparse24_bitmask.safetensors": Right(
        {UP_PROJ: (32, 64), "lm_head": (100, 64)}, {"model.embed_tokens": 6400}, {UP_PROJ: 0.5}
    ),
    "ct_pack_quantized.safetensors": Right({UP_PROJ: (32, 64)}, {"model.embed_tokens": 6400}),
    "gptq.safetensors": Right({UP_PROJ: (32, 64), "lm_head": (100, 64)}, {"model.embed_tokens": 6400}),
    "lstm_mha_embedding.safetensors": Right(LSTM | ATTENTION | {"fc": (5, 48)}, {"emb": 8000, "pos": 1024}),
    "lstm_mha_embedding.pt": Right(LSTM | ATTENTION | {"fc": (5, 48)}, {"emb": 8000, "pos": 1024}),
    "gpt2_conv1d.safetensors": Right(
        {"h.0.attn.c_attn": (72, 24), "h.0.attn.c_proj": (24, 24), "h.0.mlp.c_fc": (96, 24)},
        {"wpe": 768, "wte": 2400},
        assumed=("h.0.attn.c_proj",),
    ),
    "fp8.safetensors": Right({UP_PROJ: (32, 64)}),
    "sharded": Right({"layers.0.fc": (32, 16), "layers.1.fc": (4, 32)}),
    "sharded/model.safetensors.index.json": Right({"layers.0.fc": (32, 16), "layers.1.fc": (4, 32)}),
    "pytorch_model.bin": Right({"0": (4, 16)}),
    "lightning.ckpt": Right({"0": (4, 16)}),
    "dataparallel.pt": Right({"0": (4, 16)}),
    "quantize_dynamic.pt": Right({"0": (32, 16), "2": (4, 32)}),
    "coo.pt": Right({"fc": (16, 16)}),
    "csr.pt": Right({"fc": (16, 16)}),
    "qint8.pt": Right({"fc": (4, 16)}),
    "layernorm2d.pt": Right({"fc": (4, 256)}, {"norm": 256}),
    "keras_names.npz": Right({"dense": (32, 16), "dense_1": (4, 32)}),
    "bf16.safetensors": Right({"fc": (32, 64)}),
    "fortran.npz": Right({"fc": (3, 4), "g": (3, 4)}),
    "odd.npz": Right({"层/ü": (4, 4), "a b": (4, 4), "[bold]x[/]": (4, 4)}),
}

REFUSED = {
    "bnb_nf4.safetensors": (UP_PROJ, "nf4", "bitsandbytes"),
    "sharded/model-00001-of-00002.safetensors": ("1 of 2", "model.safetensors.index.json"),
    "torchscript.pt": ("TorchScript", "state_dict()"),
    "arr.npz": ("arr_0", "arr_1", "np.savez"),
}
"""What the one message must hold."""

MACS = {
    "if_subgraph.onnx": 16 * 3 * 9 * 16 * 16 + 4 * 16,
    "computed_mask.onnx": 8 * 3 * 9 * 256 + 4 * 8 * 256,
    "identity_initializer.onnx": 2 * 64 * 64 + 4 * 64,
    "shape_computed.onnx": 64 * 8,
    "local_function.onnx": 32 * 64 + 64 * 32 + 32 * 4,
    "sparse_initializer.onnx": 64 * 8 + 8 * 4,
    "gemm_const_left.onnx": 32 * 64 + 32 * 4,
    "matmul_3d_weight.onnx": 7 * (64 * 32 + 32 * 4),
    "matmul_vec_weight.onnx": 7 * (64 + 4),
    "qdq.onnx": 64 * 32 + 32 * 4,
    "int4_dq.onnx": 64 * 8,
    "lstm_folded_batch.onnx": 50 * 33 * (32 * 4 + 32 * 8),
    "state_is_first_input.onnx": 10 * 64 * 32,
    "batch_second_open_matmul.onnx": 16 * 64 * 32,
    "minus_one_batch.onnx": 10 * 64 * 32,
    "convtranspose.onnx": 8 * 3 * 9 * 256 + 8 * 4 * 16 * 256,
    "conv_1d_same.onnx": 8 * 4 * 4 * 5,
    "ext/ext.onnx": 32 * 64,
    "odd_names.onnx": 3 * 8 * 8 + 4 * 8,
    "w_bf16.onnx": 64 * 8,
    "w_fp16.onnx": 64 * 8,
}

ASKED = {
    "sequence_first.onnx": (("--batch-dim", "x (16, 1, 64)", "x=1"), {"batch_dims": {"x": 1}}, 16 * 64 * 32),
    "if_subgraph.onnx": (("sr_if", "110,592", "--input-value c=1"), {"input_values": {"c": 1}}, 110656),
}
"""What the message must hold, what answers it, and the multiply-accumulates then."""


def weights_of(network: Network) -> dict[str, tuple[int, ...]]:
    return {layer.name: layer.weight.shape for layer in network}


def test_every_file_of_the_list_is_tried() -> None:
    tried = {*TENSORS, *REFUSED, *MACS, *ASKED}
    assert [name for name in EXPECTED if name not in tried] == []
    files = {path.relative_to(FILES).as_posix() for path in FILES.rglob("*") if path.is_file()}
    parts = {"expected.csv", "sharded/model-00002-of-00002.safetensors", "ext/weights/fc.bin"}
    assert files - parts <= tried


@pytest.mark.parametrize("name", TENSORS)
def test_a_file_of_tensors_is_the_right_network(name: str) -> None:
    right = TENSORS[name]
    network = load_network(FILES / name)
    shapes = weights_of(network)
    assert right.layers.items() <= shapes.items()
    assert len(shapes) == len(right.layers)
    if FILES.joinpath(name).suffix not in (".safetensors", "") and "index" not in name:
        assert list(shapes) == list(right.layers) or name.startswith("lstm")
    *named, last = network.left_out
    assert {each.name.removesuffix(".weight"): each.weights for each in named} == right.left_out
    assert last == WITHOUT_WEIGHTS
    for layer, density in right.density.items():
        assert np.count_nonzero(network[layer].weight) == density * network[layer].weight.size
    for text in right.assumed:
        assert any(text in sentence for sentence in network.assumptions)
    assert weights_of(load_weights(FILES / name)) == shapes


def test_pruned_files_are_in_order_in_every_container() -> None:
    networks = [load_network(FILES / f"prune.{suffix}") for suffix in ("pt", "npz", "safetensors")]
    for network in networks:
        assert [layer.name for layer in network] == ["0", "2", "4"]
        for layer, other in zip(network, networks[0], strict=True):
            np.testing.assert_array_equal(layer.weight, other.weight)


def test_what_is_2_of_4_stays_so() -> None:
    weight = load_network(FILES / "ct_sparse24_bitmask.safetensors")[UP_PROJ].weight
    assert set(np.count_nonzero(weight.reshape(32, 16, 4), axis=2).ravel().tolist()) == {2}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_read_says_so(name: str) -> None:
    with pytest.raises(InputError) as caught:
        load_network(FILES / name)
    (problem,) = caught.value.problems
    for text in REFUSED[name]:
        assert text in problem
    assert "weights_only" not in problem


@pytest.mark.parametrize("name", [name for name in MACS if name not in ASKED])
def test_an_onnx_file_has_the_right_multiply_accumulates(name: str) -> None:
    network = load_network(FILES / name)
    assert network.scope.macs == MACS[name]
    assert network.scope.macs_left_out == 0
    assert not network.scope.unknown


@pytest.mark.parametrize("name", ASKED)
def test_what_an_onnx_file_leaves_open_is_asked_for_once(name: str) -> None:
    texts, answer, macs = ASKED[name]
    with pytest.raises(InputError) as caught:
        load_network(FILES / name)
    (problem,) = caught.value.problems
    for text in texts:
        assert text in problem
    assert load_network(FILES / name, **answer).scope.macs == macs


@pytest.mark.parametrize(("name", "layer"), [("qdq.onnx", "fc1"), ("int4_dq.onnx", "fc1")])
def test_quantised_weights_are_their_integers(name: str, layer: str) -> None:
    assert load_network(FILES / name)[layer].weight.dtype == np.int8
