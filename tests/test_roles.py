"""Is every array of a file what its name, its siblings and its shape say: a layer, a part of one, or named?"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from accelsim import InputError, Network, load_network, simulate
from accelsim.network.bare import to_fill_in
from accelsim.network.files import TensorFile, open_tensors
from accelsim.network.left_out import WITHOUT_WEIGHTS, LeftOut
from accelsim.network.reading import Reading
from accelsim.network.roles import Roles, read_roles

Array = NDArray[Any]
rng = np.random.default_rng(0)


def of(*shape: int) -> Array:
    """An array without zeros."""
    return (rng.random(shape) + 1).astype(np.float32)


def mask(*shape: int) -> Array:
    return (rng.random(shape) < 0.5).astype(np.float32)


def saved(folder: Path, tensors: dict[str, Array], suffix: str = ".npz") -> Path:
    path = folder / f"net{suffix}"
    if suffix == ".npz":
        np.savez(path, **tensors)  # type: ignore[arg-type]
    else:
        save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, path)
    return path


def roles_of(folder: Path, tensors: dict[str, Array], *transpose: str) -> Roles:
    return read_roles(open_tensors(saved(folder, tensors)), Reading(transpose=transpose))


def layers_of(roles: Roles) -> dict[str, tuple[int, ...]]:
    return {name: role.weight.shape for name, role in roles.layers.items()}


def left_of(roles: Roles) -> dict[str, str]:
    return {each.name: each.kind for each in roles.left_out}


LOOKED_UP = [
    "iou_token", "mask_tokens", "queries_embedder", "query_feat", "row_embedder", "reference_points", "token_embd",
    "token_types", "x.rel_attn_bias", "position_encoding", "user_bias", "item_factors", "codebook", "out_embed",
    "position_embd", "per_layer_token_embd", "prompt_ctx",
]  # fmt: skip
"""Look-ups of SAM, Mask2Former, Pix2Struct, DETR, llama.cpp, recommenders and word2vec."""

MULTIPLIED = [
    "embed_out", "token_proj", "patch_embedding", "inputs_embeds_projector", "to_embedding", "query", "x_embedder",
    "token_mixer", "single_to_token", "shared_expert_gate", "lm_head", "token_router",
]  # fmt: skip
"""Linear layers without a bias whose names have words of look-ups."""

KINDS: dict[str, tuple[dict[str, Array], dict[str, tuple[int, ...]], dict[str, str]]] = {
    "plain": ({"a.weight": of(3, 4), "a.bias": of(3), "n.weight": of(4)}, {"a": (3, 4)}, {}),
    "wrappers of the model": (
        {"module._orig_mod.a.weight": of(3, 4), "module._orig_mod.b.weight": of(2, 3)},
        {"a": (3, 4), "b": (2, 3)},
        {},
    ),
    "a moving average": (
        {"model.a.weight": of(3, 4), "model.a.bias": of(3), "model_ema.a.weight": of(3, 4), "model_ema.a.bias": of(3)},
        {"model.a": (3, 4)},
        {"model_ema": "moving average of model"},
    ),
    "an averaged model": ({"module.a.weight": of(3, 4), "n_averaged": np.zeros((), np.int64)}, {"a": (3, 4)}, {}),
    "masks": (
        {"a.weight_orig": of(3, 4), "a.weight_mask": mask(3, 4), "a.bias_orig": of(3), "a.bias_mask": mask(3)},
        {"a": (3, 4)},
        {},
    ),
    "masks by hand": (
        {"a.weight": of(3, 4), "a.weight_mask": mask(3, 4), "b.weight": of(2, 3), "b.mask": mask(2, 3)}
        | {"c.weight": of(2, 2), "c.weight.mask": mask(2, 2), "att.mask": mask(8, 8)}
        | {"masks.d.weight": mask(5, 4), "d.weight": of(5, 4), "masks.e": mask(3, 3)},
        {"a": (3, 4), "b": (2, 3), "c": (2, 2), "d": (5, 4)},
        {"att.mask": "mask", "masks.e": "mask"},
    ),
    "originals alone": (
        {"a.weight_orig": of(3, 4), "b.weight": of(2, 3)},
        {"b": (2, 3)},
        {"a.weight": "weights that something unknown is done to"},
    ),
    "unknown parametrization": (
        {"a.parametrizations.weight.original": of(4, 4), "a.parametrizations.weight.0.base": of(4, 4)}
        | {"a.parametrizations.weight.1.more": of(2), "b.weight": of(2, 3)}
        | {"c.parametrizations.weight.original": of(4, 4)},
        {"b": (2, 3)},
        dict.fromkeys(("a.weight", "c.weight"), "weights that an unknown parametrization makes"),
    ),
    "LSTM with a projection": (
        {"r.weight_ih_l0": of(32, 6), "r.weight_hh_l0": of(32, 4), "r.weight_hr_l0": of(4, 8), "r.bias_ih_l0": of(32)},
        {"r.ih_l0": (32, 6), "r.hh_l0": (32, 4), "r.hr_l0": (4, 8)},
        {},
    ),
    "attention": (
        {"a.in_proj_weight": of(12, 4), "a.in_proj_bias": of(12), "a.bias_k": of(1, 1, 4)}
        | {"a.out_proj.weight": of(4, 4)},
        {"a.q_proj": (4, 4), "a.k_proj": (4, 4), "a.v_proj": (4, 4), "a.out_proj": (4, 4)},
        {"a.bias_k": "bias"},
    ),
    "attention of other widths": (
        {f"{each}_proj_weight": of(4, inputs) for each, inputs in zip("qkv", (4, 5, 6), strict=True)},
        {"q_proj": (4, 4), "k_proj": (4, 5), "v_proj": (4, 6)},
        {},
    ),
    "look-ups": (
        {"model.embed_tokens.weight": of(9, 4), "wpe.weight": of(8, 4), "emb_l.0.weight": of(9, 4)}
        | {"x.relative_attention_bias.weight": of(8, 2), "embeddings.word_embeddings.weight": of(9, 4)}
        | {"embed_out.weight": of(9, 4), "class_embed.weight": of(9, 4), "class_embed.bias": of(9)}
        | {"patch_embed.proj.weight": of(4, 6), "shared_gate.weight": of(1, 4)},
        {"embed_out": (9, 4), "class_embed": (9, 4), "patch_embed.proj": (4, 6), "shared_gate": (1, 4)},
        dict.fromkeys(["model.embed_tokens", "wpe", "emb_l.0", "x.relative_attention_bias"], "look-up")
        | {"embeddings.word_embeddings": "look-up"},
    ),
    "norms": (
        {"norm.weight": of(4, 4), "x.weight": of(3, 5), "x.bias": of(3, 5), "norm1.linear.weight": of(3, 4)},
        {"norm1.linear": (3, 4)},
        {"norm": "normalisation", "x": "normalisation"},
    ),
    "dimensions": (
        {"one.weight": of(8, 3, 5), "two.weight": of(8, 3, 5, 5), "three.weight": of(8, 3, 2, 2, 2)},
        {"one": (8, 3, 1, 5), "two": (8, 3, 5, 5)},
        {"three": "convolution of 3 dimensions"},
    ),
    "transposed convolutions": (
        {"up.weight": of(8, 4, 2, 2), "up.bias": of(4), "deconv.weight": of(8, 8, 3)}
        | {"grouped.weight": of(8, 2, 3), "grouped.bias": of(4), "a.weight": of(3, 4)},
        {"up": (16, 8, 1, 1), "deconv": (24, 8, 1, 1), "grouped": (12, 4, 1, 1), "a": (3, 4)},
        {},
    ),
    "raw parameters": (
        {"cls_token": of(1, 1, 8), "pos_embed": of(1, 5, 8), "h.attn.bias": mask(1, 1, 6, 6), "ls": of(8, 1, 1)}
        | {"mlp.experts.gate_up_proj": of(4, 8, 6), "ids": np.zeros((1, 9), np.int64), "head.weight": of(3, 8)},
        {"head": (3, 8)},
        {"cls_token": "learned token", "pos_embed": "position embedding", "h.attn.bias": "mask"}
        | {"ls": "parameter of unknown use", "mlp.experts.gate_up_proj": "weights of experts", "ids": "index or mask"},
    ),
    "GPT-2": (
        {"h.0.attn.c_attn.weight": of(4, 12), "h.0.attn.c_attn.bias": of(12), "h.0.attn.c_proj.weight": of(4, 4)}
        | {"h.0.attn.c_proj.bias": of(4), "wte.weight": of(9, 4), "lm_head.weight": of(9, 4)},
        {"h.0.attn.c_attn": (12, 4), "h.0.attn.c_proj": (4, 4), "lm_head": (9, 4)},
        {"wte": "look-up"},
    ),
    "NumPy by number": (
        {"W1": of(5, 6), "b1": of(6), "W2": of(6, 6), "b2": of(6), "W3": of(6, 2), "b3": of(1, 2)},
        {"W1": (6, 5), "W2": (6, 6), "W3": (2, 6)},
        {},
    ),
    "NumPy with columns": ({"W1": of(6, 6), "b1": of(6, 1)}, {"W1": (6, 6)}, {}),
    "NumPy without biases": ({"W1": of(5, 6), "W2": of(6, 2)}, {"W1": (6, 5), "W2": (2, 6)}, {}),
    "separators": (
        {"fc1_weight": of(3, 4), "fc1_bias": of(3), "fc2/W": of(3, 4), "fc2/b": of(4), "fc3.W": of(3, 4)},
        {"fc1": (3, 4), "fc2": (4, 3), "fc3": (3, 4)},
        {},
    ),
    "Keras": (
        {"d/kernel:0": of(4, 6), "d/bias:0": of(6), "c/kernel:0": of(3, 3, 4, 8), "c/bias:0": of(8)}
        | {"dw/depthwise_kernel:0": of(3, 3, 4, 2), "dw/bias:0": of(8), "e/embeddings:0": of(9, 4), "bn/gamma:0": of(8)}
        | {"up/kernel:0": of(2, 2, 4, 8), "up/bias:0": of(4), "dw2/kernel:0": of(3, 3, 4, 1), "dw2/bias:0": of(4)},
        {"d": (6, 4), "c": (8, 4, 3, 3), "dw": (8, 1, 3, 3), "up": (16, 8, 1, 1), "dw2": (4, 1, 3, 3)},
        {"e": "look-up"},
    ),
    "Keras, recurrent": (
        {"l/cell/kernel:0": of(4, 24), "l/cell/recurrent_kernel:0": of(6, 24), "l/cell/bias:0": of(24)}
        | {"g/cell/kernel": of(4, 18), "g/cell/recurrent_kernel": of(6, 18), "g/cell/bias": of(2, 18)},
        {"l/cell.ih": (24, 4), "l/cell.hh": (24, 6), "g/cell.ih": (18, 4), "g/cell.hh": (18, 6)},
        {},
    ),
    "Keras 3": (
        {"layers/dense/vars/0": of(4, 6), "layers/dense/vars/1": of(6), "layers/embedding/vars/0": of(9, 4)}
        | {"layers/lstm/cell/vars/0": of(4, 8), "layers/lstm/cell/vars/1": of(2, 8), "layers/lstm/cell/vars/2": of(8)}
        | {"optimizer/vars/2": of(4, 6)},
        {"layers/dense": (6, 4), "layers/lstm/cell.ih": (8, 4), "layers/lstm/cell.hh": (8, 2)},
        {"layers/embedding": "look-up", "optimizer/vars/2": "state of an optimiser"},
    ),
    "Flax": (
        {"p.att.query.kernel": of(6, 2, 4), "p.att.query.bias": of(2, 4), "p.att.key.kernel": of(6, 2, 4)}
        | {"p.att.out.kernel": of(2, 4, 6), "p.Conv_0.kernel": of(3, 4, 5), "p.Embed_0.embedding": of(9, 6)},
        {"p.att.query": (8, 6), "p.att.key": (8, 6), "p.att.out": (6, 8), "p.Conv_0": (5, 4, 1, 3)},
        {"p.Embed_0": "look-up"},
    ),
    "look-ups by other names": (
        {f"{each}.weight": of(9, 4) for each in LOOKED_UP}
        | {f"{each}.weight": of(9, 4) for each in MULTIPLIED}
        | {"base.embed_tokens.base_layer.weight": of(8, 4), "e.modules_to_save.default.weight": of(3, 4)}
        | {"emb.modules_to_save.default.weight": of(8, 4), "decoder.weight": of(7, 4), "encoder.weight": of(7, 4)},
        dict.fromkeys(MULTIPLIED, (9, 4)) | {"e.modules_to_save.default": (3, 4), "decoder": (7, 4)},
        dict.fromkeys(LOOKED_UP, "look-up") | {"base.embed_tokens.base_layer": "look-up", "encoder": "look-up"}
        | {"emb.modules_to_save.default": "look-up"},
    ),
    "an autoencoder": (
        {"encoder.weight": of(3, 8), "decoder.weight": of(8, 3)}, {"encoder": (3, 8), "decoder": (8, 3)}, {},
    ),
    "masks by other names": (
        {"a.weight": of(3, 4), "a.pruning_mask": mask(3, 4), "b.weight": of(6, 2, 3, 3), "b.mask": mask(6, 1, 1, 1)}
        | {"c/kernel:0": of(3, 4), "c/prune_low_magnitude_c/mask:0": mask(3, 4), "mask_d.weight": mask(3, 3) > 0}
        | {"d.weight": of(3, 3), "mask_e.weight": mask(5, 5) > 0, "f.weight": of(3, 4), "f.mask": mask(4)}
        | {"g.weight": of(3, 4), "g.mask_scores": of(3, 4), "mask_head.weight": of(2, 4), "mask_token": of(1, 1, 4)},
        {"a": (3, 4), "b": (6, 2, 3, 3), "c": (4, 3), "d": (3, 3), "f": (3, 4), "g": (3, 4), "mask_head": (2, 4)},
        {"mask_e": "mask", "g.mask_scores": "mask", "mask_token": "learned token"},
    ),
    "what an optimiser keeps": (
        {"p/a/kernel": of(4, 6), "opt_state/0/mu/a/kernel": of(4, 6), "optimizer.x.weight": of(4, 6)},
        {"p/a": (6, 4)},
        dict.fromkeys(("opt_state/0/mu/a/kernel", "optimizer.x.weight"), "state of an optimiser"),
    ),
    "experts side by side": (
        {"moe.input_linear.weight": of(2, 6, 4), "b.ffn_exps.weight": of(2, 6, 4), "linear.weight": of(2, 6, 4)}
        | {"x.experts.0.w1.weight": of(6, 4)},
        {"x.experts.0.w1": (6, 4)},
        dict.fromkeys(("moe.input_linear", "b.ffn_exps"), "weights of experts") | {"linear": "matrices side by side"},
    ),
    "a transposed convolution as wide as it is long": (
        # (in, out, k) of PyTorch; (k, in, out) of another library has no such name.
        {"up.weight": of(8, 4, 4), "up.bias": of(4), "W/W": of(8, 4, 4), "W/b": of(4)},
        {"up": (16, 8, 1, 1), "W": (4, 4, 1, 8)},
        {},
    ),
    "scikit-learn": (
        {"coefs_0": of(4, 6), "intercepts_0": of(6), "coefs_1": of(6, 2), "intercepts_1": of(2), "x_w": of(4, 6)}
        | {"x_b": of(6)},
        {"coefs_0": (6, 4), "coefs_1": (2, 6), "x": (6, 4)},
        {},
    ),
    "the whole network": ({"weight": of(3, 4), "bias": of(3)}, {"linear": (3, 4)}, {}),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_arrays_are_what_their_names_siblings_and_shapes_say(tmp_path: Path, kind: str) -> None:
    tensors, layers, left = KINDS[kind]
    roles = roles_of(tmp_path, tensors)
    assert roles.problems == []
    assert layers_of(roles) == layers
    assert left_of(roles) == left
    for role in roles.layers.values():
        assert role.weight.read().shape == role.weight.shape
        if role.bias is not None:
            assert role.bias.read().shape == (role.weight.shape[0],)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_vanishes(tmp_path: Path, kind: str) -> None:
    tensors, _, _ = KINDS[kind]
    roles = roles_of(tmp_path, tensors)
    assert roles.accounts.keys() == tensors.keys()
    # Of each layer its weights, of what is left out all that has dimensions and is neither an index nor a mask.
    counted = sum(role.weight.size for role in roles.layers.values()) + sum(each.weights for each in roles.left_out)
    without = {each.name for each in roles.left_out if each.kind in ("mask", "state of an optimiser")}
    aside = ("bias_k", ".0.base")
    biases = {part for role in roles.layers.values() if role.bias for part in role.bias.parts}
    # What holds weights is above 1 here, masks and indices are not.
    held = sum(
        array.size
        for name, array in tensors.items()
        if array.ndim > 1
        and array.max() > 1
        and name not in biases
        and not {name, name.removesuffix(".weight")} & without
        if not any(word in name for word in aside)
    )
    assert counted == held + sum(each.weights for each in roles.left_out if each.name.endswith("bias_k"))


def test_reading_roles_reads_no_array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: TensorFile, name: str) -> None:
        raise AssertionError(f"{name} was read")

    monkeypatch.setattr(TensorFile, "__getitem__", refuse)
    tensors = {name: array for held, _, _ in KINDS.values() for name, array in held.items()}
    assert len(read_roles(open_tensors(saved(tmp_path, tensors))).layers) > 30


def test_values_are_those_of_the_layer(tmp_path: Path) -> None:
    """Each against its own formula: turned, of heads, of channels alone."""
    dense, depthwise, query, out = of(4, 6), of(3, 3, 4, 2), of(6, 2, 4), of(2, 4, 6)
    tensors = {"d/kernel:0": dense, "w/depthwise_kernel:0": depthwise, "a/query/kernel": query, "a/out/kernel": out}
    layers = roles_of(tmp_path, tensors).layers
    x, channels = of(4), of(5, 5, 4)
    np.testing.assert_allclose(layers["d"].weight.read() @ x, x @ dense, rtol=1e-6)
    # Output channel 2 c + m of a depthwise convolution sees channel c alone; here its first window.
    expected = np.einsum("hwc,hwcm->cm", channels[:3, :3], depthwise).reshape(8)
    window = np.repeat(channels[:3, :3].transpose(2, 0, 1), 2, axis=0)
    np.testing.assert_allclose((layers["w"].weight.read()[:, 0] * window).sum((1, 2)), expected, rtol=1e-6)
    assert layers["w"].groups == 4
    token, heads = of(6), of(2, 4)
    np.testing.assert_allclose(
        layers["a/query"].weight.read() @ token, np.einsum("d,dhf->hf", token, query).reshape(8), rtol=1e-6
    )
    np.testing.assert_allclose(
        layers["a/out"].weight.read() @ heads.reshape(8), np.einsum("hf,hfd->d", heads, out), rtol=1e-6
    )


def test_safetensors_are_sorted_as_they_run(tmp_path: Path) -> None:
    names = ["embed.weight", "layers.0.self_attn.q_proj.weight", "layers.0.self_attn.k_proj.weight"]
    names += ["layers.0.self_attn.o_proj.weight", "layers.0.mlp.up.weight", "layers.2.mlp.up.weight"]
    names += ["layers.10.mlp.up.weight", "rnn.weight_ih_l0", "rnn.weight_hh_l0", "rnn.weight_ih_l0_reverse"]
    names += ["rnn.weight_hh_l0_reverse", "rnn.weight_ih_l1", "fc.weight"]
    path = saved(tmp_path, {name: of(4, 4) for name in names}, ".safetensors")
    assert [role.weight.name for role in read_roles(open_tensors(path)).layers.values()] == names[1:]


# Which way round


def test_what_is_taken_for_granted_is_said_once(tmp_path: Path) -> None:
    tensors = {"m.h.0.c_attn.weight": of(4, 12), "m.h.0.c_attn.bias": of(12)}
    tensors |= {f"m.h.{at}.c_proj.weight": of(4, 4) for at in range(9)} | {"m.h.1.c_attn.weight": of(4, 12)}
    # A head that stands beside the blocks, not in one, tells nothing by them.
    roles = roles_of(tmp_path, tensors | {"m.score.weight": of(3, 4), "m.qa.weight": of(2, 4)})
    (turned, straight) = roles.assumptions
    assert turned.startswith("m.h.0.c_proj (4, 4), m.h.1.c_proj (4, 4), ")
    assert "and 4 more: taken as stored (in, out), as the weights beside are by their biases" in turned
    assert straight.startswith("m.score (3, 4), m.qa (2, 4): taken as stored (out, in), which nothing proves")
    assert "--transpose NAME" in straight
    plain = {"a.weight": of(3, 4), "a.bias": of(3), "b.weight": of(4, 4)}
    assert roles_of(tmp_path, plain).assumptions == []


def test_patterns_turn_what_the_user_says(tmp_path: Path) -> None:
    tensors = {"a.x.weight": of(4, 4), "a.y.weight": of(4, 6), "b.weight": of(4, 6), "b.bias": of(4)}
    roles = roles_of(tmp_path, tensors, "a.*")
    np.testing.assert_array_equal(roles.layers["a.x"].weight.read(), tensors["a.x.weight"].T)
    assert layers_of(roles) == {"a.x": (4, 4), "a.y": (6, 4), "b": (4, 6)}
    (wrong, unknown) = roles_of(tmp_path, tensors, "b", "a.z").problems
    assert "layer b: 'b.weight' (4, 6) is stored (out, in): its bias of 4 shows it" in wrong
    assert unknown.startswith("transpose: no layer is called 'a.z'; did you mean 'a.")
    with pytest.raises(InputError, match="transpose: no layer is called 'c'"):
        load_network(saved(tmp_path, tensors), transpose=["c"])


def test_turned_weights_run(tmp_path: Path) -> None:
    """The same network both ways round has the same counts."""
    weight = of(32, 48) * mask(32, 48)
    straight = saved(tmp_path, {"d.weight": weight, "d.bias": of(32)})
    one = simulate(load_network(straight), "eie-64pe-45nm", 0.5, verify=True)
    other = saved(tmp_path, {"d/kernel:0": weight.T, "d/bias:0": of(32)}, ".safetensors")
    two = simulate(load_network(other), "eie-64pe-45nm", 0.5, verify=True)
    assert one["cycles"].tolist() == two["cycles"].tolist()
    assert two["verified"].tolist() == ["exact"]


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        (
            {"a.weight": of(3, 4), "a.bias": of(5)},
            "layer a: 'a.bias' has shape (5,) and 'a.weight' (3, 4), so one of them is of another layer",
        ),
        (
            {"a.in_proj_weight": of(12, 4), "a.in_proj_bias": np.float32(1)},
            "layer a.in_proj: 'a.in_proj_bias' has shape () and 'a.in_proj_weight' (12, 4)",
        ),
        (
            {"g.kernel": of(4, 12), "g.recurrent_kernel": of(4, 12), "g.bias": of(1, 7)},
            "layer g.ih: bias: must have 1 dimension, (out_features,) (got shape (1, 7))",
        ),
        ({"a.weight": of(8, 3, 3, 3), "a.bias": of(5)}, "layer a: 'a.bias' has shape (5,) and 'a.weight' (8, 3, 3, 3)"),
        ({"a/kernel:0": of(3, 4), "a/bias:0": of(5)}, "layer a: 'a/bias:0' has shape (5,) and 'a/kernel:0' (3, 4)"),
        (
            {"a.weight_orig": of(3, 4), "a.weight_mask": mask(3, 2)},
            "'a.weight_mask' has shape (3, 2) and 'a.weight_orig' (3, 4); save them from one model",
        ),
        ({"arr_0": of(3, 4), "arr_1": of(3)}, "its arrays have the names that np.savez makes up"),
        ({"up.weight": of(8, 4, 2, 2, 2)}, "holds no layer that can be simulated: up (convolution of 3 dimensions); "),
    ],
)
def test_what_cannot_be_read_right_is_told(tmp_path: Path, tensors: dict[str, Array], said: str) -> None:
    with pytest.raises(InputError) as caught:
        load_network(saved(tmp_path, tensors))
    (problem,) = caught.value.problems
    assert said in problem


def test_what_stands_for_a_mask_holds_zeros_and_ones(tmp_path: Path) -> None:
    network = load_network(saved(tmp_path, {"a.weight": of(3, 4), "a.mask": of(3, 4)}))
    with pytest.raises(InputError, match=r"'a\.mask': stands where a mask of 'a\.weight' would"):
        simulate(network, "eie-64pe-45nm", 0.5)


def test_tied_weights_are_counted_once(tmp_path: Path) -> None:
    tensors = {"wte.weight": of(9, 4), "lm_head.weight": of(9, 4), "shared.weight": of(9, 4)}
    file = open_tensors(saved(tmp_path, tensors))
    file.shared = {"lm_head.weight": "wte.weight"}
    roles = read_roles(file)
    assert list(roles.layers) == ["lm_head"]
    assert roles.left_out == [LeftOut("wte", "look-up that shares its weights", 0), LeftOut("shared", "look-up", 36)]


def test_a_module_under_two_names_is_one_layer(tmp_path: Path) -> None:
    names = [f"{layer}.{key}" for layer in ("a", "blocks.0") for key in ("weight", "bias")]
    file = open_tensors(saved(tmp_path, {name: of(4, 4) if name.endswith("weight") else of(4) for name in names}))
    file.shared = {"blocks.0.weight": "a.weight", "blocks.0.bias": "a.bias"}
    roles = read_roles(file)
    assert list(roles.layers) == ["a"]
    # It may run at each of its places, so that its work is not known.
    assert roles.left_out == [LeftOut("blocks.0", "a under another name", 0, None)]
    file.shared = {"blocks.0.weight": "a.weight"}
    assert list(read_roles(file).layers) == ["a", "blocks.0"]


def test_an_output_layer_that_is_only_tied_is_told(tmp_path: Path) -> None:
    tensors = {"wte.weight": of(9, 4), "fc.weight": of(4, 4)}
    said = roles_of(tmp_path, tensors).assumptions
    assert any(each.startswith("wte: no layer has its 9 outputs; if the network ends in a layer") for each in said)
    said = roles_of(tmp_path, tensors | {"head.weight": of(9, 4)}).assumptions
    assert not any("outputs" in each for each in said)


# Network files


def test_the_network_file_that_is_proposed_runs_once_it_is_filled_in(tmp_path: Path) -> None:
    tensors = {"one.weight": of(8, 3, 5), "two.weight_orig": of(6, 3, 3, 3), "two.weight_mask": mask(6, 3, 3, 3)}
    tensors |= {"depth.weight": of(6, 1, 3, 3), "c_fc.weight": of(4, 8), "c_fc.bias": of(8), "emb.weight": of(9, 4)}
    tensors |= {
        "resize.weight": of(4, 4, 2, 2),
        "up.weight": of(8, 2, 2, 2),
        "up.bias": of(4),
        "k/kernel:0": of(3, 3, 2, 5),
        "lstm.weight_ih_l0": of(8, 4),
        "norm.weight": of(3, 3),
    }
    path = saved(tmp_path, tensors)
    with pytest.raises(InputError, match="neither stride nor padding nor input size"):
        load_network(path)
    text = to_fill_in(path, Reading(), tmp_path / "net.toml")  # the error has it where it is short, else says how
    assert "groups = 1  # 6 if it is depthwise" in text
    assert text.count('kind = "conv2d"  # "conv_transpose2d" if it is transposed') == 1
    filled = text.replace("[0, 0]  # height, width", "[7, 7]").replace("[1, 0]  # 1, length", "[1, 20]")
    (tmp_path / "net.toml").write_text(filled.replace("groups = 1  # 6", "groups = 6  # 6"), encoding="utf-8")
    network, roles = load_network(tmp_path / "net.toml"), read_roles(open_tensors(path))
    assert {layer.name: layer.weight_shape for layer in network} == layers_of(roles)
    for layer in network:
        np.testing.assert_array_equal(layer.weight, roles.layers[layer.name].weight.read())
    assert network["one"].convolution.output_hw == (1, 16)
    assert (network["depth"].groups, network["up"].groups) == (6, 2)
    assert list(network.left_out) == [*roles.left_out, WITHOUT_WEIGHTS]
    assert list(network.assumptions) == roles.assumptions
    assert {each["name"] for each in tomllib.loads(text)["not_simulated"]} == {"emb", "norm", WITHOUT_WEIGHTS.name}


def test_a_network_file_names_arrays_as_they_are_used(tmp_path: Path) -> None:
    tensors = {"a.weight_orig": of(3, 4), "a.weight_mask": mask(3, 4), "att.in_proj_weight": of(12, 4), "v": of(4)}
    saved(tmp_path, tensors)

    def read(name: str) -> Network:
        (tmp_path / "n.toml").write_text(f'name = "n"\n[[layer]]\nname = "x"\nweight = "net.npz:{name}"\n')
        return load_network(tmp_path / "n.toml")

    np.testing.assert_array_equal(read("a.weight")["x"].weight, tensors["a.weight_orig"] * tensors["a.weight_mask"])
    np.testing.assert_array_equal(read("a.weight_orig")["x"].weight, tensors["a.weight_orig"])
    np.testing.assert_array_equal(read("att.k_proj.weight")["x"].weight, tensors["att.in_proj_weight"][4:8])
    with pytest.raises(InputError, match=r"no tensor is called 'a\.wieght'; did you mean 'a\.weight'"):
        read("a.wieght")
    with pytest.raises(InputError) as caught:
        read("w")
    assert "'v'" not in str(caught.value)  # of one dimension: no weight


def test_names_at_random_are_all_told() -> None:
    """Every stored array is something, whatever it is called, and weights have the shape that they claim."""
    tails = ["weight", "bias", "kernel:0", "W1", "b1", "weight_orig", "weight_mask", "weight_g", "weight_v", "mask"]
    tails += ["in_proj_weight", "in_proj_bias", "weight_ih_l0", "bias_ih_l0", "recurrent_kernel", "depthwise_kernel"]
    tails += ["vars/0", "vars/1", "parametrizations.weight.original", "parametrizations.weight.0.mask", "codebook", ""]
    modules = ["", "a", "emb", "norm", "deconv", "ConvTranspose_0", "model_ema", "model", "experts", "h.0.c", "query"]
    draw = np.random.default_rng(1)
    file = TensorFile(Path("net.npz"))
    for _ in range(500):
        held = draw.choice(modules, 2)
        file.shapes = {
            f"{draw.choice(held)}{draw.choice(['.', '/', '_'])}{draw.choice(tails)}": tuple(
                int(size) for size in draw.choice([0, 2, 3, 4, 6, 12], draw.integers(0, 6), p=[0.02, *5 * [0.196]])
            )
            for _ in range(draw.integers(1, 9))
        }
        file._read = lambda name: np.ones(file.shapes[name], np.float32)  # type: ignore[method-assign]
        roles = read_roles(file)
        assert roles.accounts.keys() == file.shapes.keys()
        for role in roles.layers.values():
            assert role.weight.read().shape == role.weight.shape
