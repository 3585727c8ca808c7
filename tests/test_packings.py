"""Packed weights: what real libraries packed comes out as they unpack it, and what contradicts itself is told."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import EVIDENCE
from numpy.typing import NDArray
from safetensors.numpy import save_file

from accelsim import load_network
from accelsim.errors import InputError
from accelsim.network.files import TensorFile, open_tensors
from accelsim.network.roles.packings import Unpacked, unpacked

Array = NDArray[Any]
Arrays = Mapping[str, Array]
GOLDEN = EVIDENCE / "packings"

INEXACT = {"gptq_v1": 2**-10, "gptq_v2": 2**-10, "compressed_tensors.nvfp4": 2**-8, "bitsandbytes.int8": 2**-22}
"""Where a library computes in narrower numbers than float32: bfloat16, float16; LLM.int8 divides in another order."""


def saved(folder: Path, arrays: Arrays, name: str = "model.safetensors") -> TensorFile:
    """Return a file of these arrays, opened."""
    save_file({each: np.ascontiguousarray(array) for each, array in arrays.items()}, folder / name)
    return open_tensors(folder / name)


def read(folder: Path, arrays: Arrays) -> Unpacked:
    return unpacked(saved(folder, arrays))


def only(folder: Path, arrays: Arrays) -> Array:
    """Return the one weight that these arrays are."""
    found = read(folder, arrays)
    assert found.problems == []
    assert found.taken == set(arrays)
    (weight,) = found.tensors
    values = weight.read()
    assert values.dtype == np.float32
    assert values.shape == weight.shape
    return values


def refused(folder: Path, arrays: Arrays) -> str:
    """Return why the one weight that these arrays are cannot be decoded: told at once, or when it is read."""
    found = read(folder, arrays)
    assert found.taken == set(arrays)
    if found.problems:
        assert found.tensors == []
        (problem,) = found.problems
        assert "packed as" in problem
        assert "to unpack: " in problem
        return problem
    (weight,) = found.tensors
    with pytest.raises(InputError) as error:
        weight.read()
    (problem,) = error.value.problems
    assert problem.startswith(f"{folder / 'model.safetensors'}: '")
    return problem


# What real libraries packed


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.safetensors")), ids=lambda path: path.stem)
def test_what_libraries_packed_is_what_they_unpack(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / path.name
    copy.write_bytes(path.read_bytes())
    if path.stem == "gptq_v2":
        said = {"quantization_config": {"quant_method": "gptq", "checkpoint_format": "gptq_v2"}}
        (tmp_path / "config.json").write_text(json.dumps(said))
    file = open_tensors(copy)
    found = unpacked(file)
    right = {name.removeprefix("right."): file[name] for name in file.shapes if name.startswith("right.")}
    assert found.problems == []
    assert {each.name for each in found.tensors} == set(right)
    left = {name for name in file.shapes if name not in found.taken and not name.startswith("right.")}
    assert {name.rpartition(".")[2] for name in left} <= {"bias"}
    for weight in found.tensors:
        values, wanted = weight.read(), right[weight.name]
        assert values.dtype == np.float32
        assert set(weight.parts) <= found.taken
        np.testing.assert_array_equal(values == 0, wanted == 0, err_msg=weight.name)
        slack = INEXACT.get(path.stem, INEXACT.get(f"{path.stem}.{weight.name.split('.')[0]}", 0.0))
        np.testing.assert_allclose(values, wanted, rtol=slack, atol=0, err_msg=weight.name)


def test_the_golden_files_hold_every_kind() -> None:
    kinds = {each.stored_as for path in GOLDEN.glob("*.safetensors") for each in unpacked(open_tensors(path)).tensors}
    assert {kind.partition("(")[2] for kind in kinds} == {
        *("bitmask)", "compressed-tensors)", "scaled)", "NVFP4)", "MXFP4)", "MXFP6)", "GPTQ)", "AWQ)"),
        *("bitsandbytes)", "HQQ)", "quanto)"),
    }


# Encoders written from the definitions


def bitmask(weight: Array, keep: Array | None = None) -> dict[str, Array]:
    """Pack a matrix: of eight places the lowest bit is the first; values row by row."""
    kept = weight != 0 if keep is None else keep
    mask = np.zeros((len(weight), -(-weight.shape[1] // 8)), np.uint8)
    for row, column in np.argwhere(kept):
        mask[row, column // 8] |= 1 << column % 8
    return {"bitmask": mask, "compressed": weight[kept], "shape": np.array(weight.shape)}


def words(codes: Array, bits: int) -> Array:
    """Pack each row of integers from 0 up, bit after bit from the lowest of a word, without gaps."""
    packed = np.zeros((len(codes), -(-codes.shape[1] * bits // 32)), np.uint32)
    for row, column in np.ndindex(codes.shape):
        for bit in range(bits):
            place = column * bits + bit
            packed[row, place // 32] |= np.uint32((int(codes[row, column]) >> bit & 1) << place % 32)
    return packed.view(np.int32)


def two_of_four(rows: int, columns: int, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(rows, columns)).astype(np.float32)
    order = np.abs(weight).reshape(-1, 4).argsort(axis=1)
    weight.reshape(-1, 4)[np.arange(len(order))[:, None], order[:, :2]] = 0
    return weight


NAMINGS = ("fc.weight.", "fc.", "fc.weight_", "model.layers.0.mlp.up_proj.weight.", "weight.", "")


@pytest.mark.parametrize("naming", NAMINGS)
def test_two_of_four_stays_two_of_four(naming: str, tmp_path: Path) -> None:
    weight = two_of_four(24, 64)
    arrays = bitmask(weight)
    arrays["compressed"] = arrays["compressed"].reshape(24, 32)
    values = only(tmp_path, {naming + name: array for name, array in arrays.items()})
    np.testing.assert_array_equal(values, weight)
    assert ((values.reshape(-1, 4) != 0).sum(axis=1) == 2).all()


def test_two_of_four_without_its_shape_is_proved_by_the_arrays(tmp_path: Path) -> None:
    weight = two_of_four(6, 24)
    arrays = bitmask(weight)
    del arrays["shape"]
    arrays["compressed"] = arrays["compressed"].reshape(6, 12)
    np.testing.assert_array_equal(only(tmp_path, {f"fc.{each}": array for each, array in arrays.items()}), weight)


@pytest.mark.parametrize("shape", [(5, 13), (1, 1), (70, 3), (3, 4, 5)])
def test_a_bitmask_of_any_pattern(shape: tuple[int, ...], tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    weight = (rng.normal(size=shape) * (rng.random(shape) < 0.3)).astype(np.float32)
    flat = bitmask(weight.reshape(-1, shape[-1]))
    arrays = {f"conv.weight.{name}": array for name, array in flat.items()}
    arrays["conv.weight.bitmask"] = arrays["conv.weight.bitmask"].reshape(*shape[:-1], -1)
    arrays["conv.weight.shape"] = np.array(shape, np.int32)
    counts = (weight != 0).reshape(-1, shape[-1]).sum(axis=1)
    arrays["conv.weight.row_offsets"] = np.cumsum(counts) - counts
    if not weight.any():
        pytest.fail("the pattern is empty")
    np.testing.assert_array_equal(only(tmp_path, arrays), weight)


def test_a_bitmask_of_codes_is_scaled(tmp_path: Path) -> None:
    codes = np.array([[0, 0, -5, 7], [1, 0, 0, -128]], np.int8)
    scale = np.array([[0.5], [0.25]], np.float32)
    arrays = {f"fc.weight.{name}": array for name, array in bitmask(codes).items()}
    np.testing.assert_array_equal(only(tmp_path, {**arrays, "fc.weight_scale": scale}), codes * scale)


@pytest.mark.parametrize("prefix", ["", "module.", "model.layers.0.mlp.up_proj."])
@pytest.mark.parametrize(("bits", "columns"), [(4, 8), (4, 20), (4, 64), (8, 12), (2, 48), (3, 32)])
def test_integers_in_words(bits: int, columns: int, prefix: str, tmp_path: Path) -> None:
    codes = np.random.default_rng(bits).integers(0, 2**bits, (5, columns))
    scale = np.linspace(0.25, 1.25, 5, dtype=np.float32).reshape(5, 1)
    arrays = {
        f"{prefix}weight_packed": words(codes, bits),
        f"{prefix}weight_scale": scale,
        f"{prefix}weight_shape": np.array([5, columns]),
    }
    if columns * bits % 32:
        said = {"quantization_config": {"config_groups": {"group_0": {"weights": {"num_bits": bits}}}}}
        (tmp_path / "config.json").write_text(json.dumps(said))
    values = only(tmp_path, arrays)
    np.testing.assert_array_equal(values, (codes - 2 ** (bits - 1)).astype(np.float32) * scale)


def test_a_group_for_each_column(tmp_path: Path) -> None:
    """`weight_g_idx` gives the group of each column; all -1 leaves them in their order."""
    codes = np.arange(64).reshape(2, 32) % 16
    scale = np.array([[1, 2, 4, 8], [3, 5, 7, 9]], np.float32)
    group = np.random.default_rng(0).permutation(np.repeat(np.arange(4), 8)).astype(np.int32)
    arrays = {"fc.weight_packed": words(codes, 4), "fc.weight_scale": scale, "fc.weight_shape": np.array([2, 32])}
    values = only(tmp_path, {**arrays, "fc.weight_g_idx": group})
    np.testing.assert_array_equal(values, (codes - 8) * scale[:, group])
    plain = only(tmp_path, {**arrays, "fc.weight_g_idx": np.full(32, -1, np.int32)})
    np.testing.assert_array_equal(plain, (codes - 8) * scale.repeat(8, axis=1))


def gptq(codes: Array, zeros: Array, scales: Array, bits: int = 4, shift: int = 1) -> dict[str, Array]:
    """Pack codes (in, out) with zero points and scales (groups, out)."""
    return {
        "fc.qweight": words(codes.T, bits).T,
        "fc.qzeros": words((zeros - shift) % 2**bits, bits),
        "fc.scales": scales,
        "fc.g_idx": (np.arange(len(codes)) * len(zeros) // len(codes)).astype(np.int32),
    }


def layer_of_gptq(inputs: int = 64, outputs: int = 24, groups: int = 2) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(1)
    return (
        rng.integers(0, 16, (inputs, outputs)),
        rng.integers(0, 16, (groups, outputs)),
        (rng.integers(1, 9, (groups, outputs)) / 16).astype(np.float16),
    )


@pytest.mark.parametrize("with_order", [True, False])
def test_gptq_turns_its_weight_and_zero_points_are_zeros(with_order: bool, tmp_path: Path) -> None:
    codes, zeros, scales = layer_of_gptq()
    codes[0] = zeros[0]
    arrays = gptq(codes, zeros, scales)
    if not with_order:
        del arrays["fc.g_idx"]
    wanted = ((codes - zeros.repeat(32, axis=0)) * scales.repeat(32, axis=0).astype(np.float32)).T
    values = only(tmp_path, arrays)
    np.testing.assert_array_equal(values, wanted)
    assert not values[:, 0].any()


def test_how_gptq_keeps_zero_points_is_read_beside_the_file_or_told(tmp_path: Path) -> None:
    codes, zeros, scales = layer_of_gptq()
    first, second = gptq(codes, zeros, scales), gptq(codes, zeros, scales, shift=0)
    right = only(tmp_path, first)
    assert len(read(tmp_path, first).assumptions) == 1
    for name, said in (
        ("config.json", {"quantization_config": {"checkpoint_format": "gptq_v2"}}),
        ("quantize_config.json", {"checkpoint_format": "gptq_v2"}),
    ):
        (tmp_path / name).write_text(json.dumps(said))
        np.testing.assert_array_equal(only(tmp_path, second), right)
        assert read(tmp_path, second).assumptions == []
        (tmp_path / name).unlink()
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": {"checkpoint_format": "bitblas"}}))
    assert "'bitblas'; known: gptq" in refused(tmp_path, first)


def test_symmetric_zero_points_tell_the_formats_of_gptq_apart(tmp_path: Path) -> None:
    codes, _, scales = layer_of_gptq()
    middle = np.full((2, 24), 8)
    np.testing.assert_array_equal(
        only(tmp_path, gptq(codes, middle, scales, shift=0)), only(tmp_path, gptq(codes, middle, scales))
    )


def awq(codes: Array, zeros: Array, scales: Array) -> dict[str, Array]:
    """Pack codes (in, out) with zero points and scales (groups, out): of eight outputs 0, 2, 4, 6, 1, 3, 5, 7."""

    def packed(whole: Array) -> Array:
        order = whole.reshape(len(whole), -1, 8)[:, :, [0, 2, 4, 6, 1, 3, 5, 7]]
        return words(order.reshape(whole.shape), 4)

    return {"fc.qweight": packed(codes), "fc.qzeros": packed(zeros), "fc.scales": scales}


def test_awq_is_told_from_gptq_by_its_shapes(tmp_path: Path) -> None:
    codes, zeros, scales = layer_of_gptq()
    wanted = ((codes - zeros.repeat(32, axis=0)) * scales.repeat(32, axis=0).astype(np.float32)).T
    np.testing.assert_array_equal(only(tmp_path, awq(codes, zeros, scales)), wanted)
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": {"version": "gemv"}}))
    assert "'gemv'; 'gemm' is known" in refused(tmp_path, awq(codes, zeros, scales))


# Numbers with scales


def spread(scale: Array, shape: tuple[int, ...], block: tuple[int, ...]) -> Array:
    """Return the scale of each weight by its place, one at a time."""
    whole = np.empty(shape, np.float32)
    for place in np.ndindex(shape):
        whole[place] = scale[tuple(at // length for at, length in zip(place, block, strict=True))]
    return whole


@pytest.mark.parametrize(
    ("shape", "scales", "block"),
    [
        ((6, 8), (), (6, 8)),
        ((6, 8), (1,), (6, 8)),
        ((6, 8), (6,), (1, 8)),
        ((6, 8), (6, 1), (1, 8)),
        ((8, 8), (8,), (1, 8)),
        ((6, 8), (1, 8), (6, 1)),
        ((6, 8), (8,), (6, 1)),
        ((6, 8), (6, 2), (1, 4)),
        ((6, 8), (3, 2), (2, 4)),
        ((200, 300), (2, 3), (128, 128)),
        ((129, 3), (2, 1), (128, 128)),
        ((6, 8, 3, 3), (6, 1, 1, 1), (1, 8, 3, 3)),
        ((6, 8, 3, 3), (6,), (1, 8, 3, 3)),
        ((2, 6, 8), (2, 3, 2), (1, 2, 4)),
        ((2, 130, 8), (2, 2, 1), (1, 128, 128)),
    ],
)
def test_shapes_prove_which_weights_share_a_scale(
    shape: tuple[int, ...], scales: tuple[int, ...], block: tuple[int, ...], tmp_path: Path
) -> None:
    rng = np.random.default_rng(4)
    codes = rng.integers(-127, 128, shape).astype(np.int8)
    scale = rng.integers(1, 9, scales).astype(np.float32) / 8
    laid = scale.reshape([-(-length // each) for length, each in zip(shape, block, strict=True)])
    values = only(tmp_path, {"fc.weight": codes, "fc.weight_scale": scale})
    np.testing.assert_array_equal(values, codes * spread(laid, shape, block))


@pytest.mark.parametrize(("shape", "scales"), [((6, 8), (2,)), ((6, 8), (8, 6)), ((6, 8), (6, 3)), ((6, 8), (48,))])
def test_scales_that_prove_nothing_are_refused(shape: tuple[int, int], scales: tuple[int, ...], tmp_path: Path) -> None:
    arrays: dict[str, Array] = {"fc.weight": np.ones(shape, np.int8), "fc.weight_scale": np.ones(scales, np.float32)}
    assert "do not say which of the weights" in refused(tmp_path, arrays)


@pytest.mark.parametrize(
    "name", ["weight_scale", "weight_scale_inv", "scale_weight", "scales", "scale", "weight.scale"]
)
@pytest.mark.parametrize("dtype", ["F8_E4M3", "I8"])
def test_scales_by_all_their_names(name: str, dtype: str, tmp_path: Path) -> None:
    """Bytes 0x38 and 0x40 are 1 and 2 in E4M3, 56 and 64 as int8."""
    header = {
        "fc.weight": {"dtype": dtype, "shape": [2, 2], "data_offsets": [0, 4]},
        f"fc.{name}": {"dtype": "F32", "shape": [], "data_offsets": [4, 8]},
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    data = bytes([0x38, 0x40, 0x00, 0xC0 if dtype == "F8_E4M3" else 0x40]) + np.float32(0.5).tobytes()
    (tmp_path / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    file = open_tensors(tmp_path / "model.safetensors")
    found = unpacked(file)
    (weight,) = found.tensors
    assert found.taken == {"fc.weight", f"fc.{name}"}
    wanted = [[0.5, 1], [0, -1]] if dtype == "F8_E4M3" else [[28, 32], [0, 32]]
    for _ in range(2):  # what is read is not changed
        np.testing.assert_array_equal(weight.read(), wanted)
    np.testing.assert_array_equal(file["fc.weight"], np.array(wanted) * 2)


@pytest.mark.needs("torch")
def test_scales_in_a_state_dict(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    weight = torch.tensor([[1.0, -2.0], [0.0, 448.0]]).to(torch.float8_e4m3fn)
    torch.save({"fc.weight": weight, "fc.weight_scale": torch.tensor([[0.5], [2.0]])}, tmp_path / "model.pt")
    file = open_tensors(tmp_path / "model.pt")
    (found,) = unpacked(file).tensors
    for _ in range(2):
        np.testing.assert_array_equal(found.read(), [[0.5, -1], [0, 896]])
    np.testing.assert_array_equal(file["fc.weight"], [[1, -2], [0, 448]])


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_a_code_equal_to_its_zero_point_is_zero(dtype: type[np.integer[Any]], tmp_path: Path) -> None:
    limits = np.iinfo(dtype)
    codes = np.random.default_rng(5).integers(limits.min, limits.max, (4, 6), endpoint=True).astype(dtype)
    zeros = codes[:, :1].copy()
    scale = np.array([[0.1], [0.2], [0.3], [0.4]], np.float32)
    values = only(tmp_path, {"fc.weight": codes, "fc.weight_scale": scale, "fc.weight_zero_point": zeros})
    np.testing.assert_array_equal(values, (codes.astype(np.float32) - zeros) * scale)
    assert not values[:, 0].any()


def test_a_block_that_the_configuration_gives(tmp_path: Path) -> None:
    """100 rows with 2 scales: blocks of 50, or of 64 with the last cut off, as config.json says."""
    arrays: dict[str, Array] = {
        "fc.weight": np.ones((100, 4), np.int8),
        "fc.weight_scale": np.array([[1], [2]], np.float32),
    }
    np.testing.assert_array_equal(only(tmp_path, arrays)[:, 0], np.repeat([1, 2], 50))
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": {"weight_block_size": [64, 64]}}))
    np.testing.assert_array_equal(only(tmp_path, arrays)[:, 0], np.repeat([1, 2], [64, 36]))


def test_torchao_is_read_where_the_metadata_says_what_it_is(tmp_path: Path) -> None:
    codes = np.array([[1, -2], [3, 0]], np.int8)
    arrays: dict[str, Array] = {"fc._weight_qdata": codes, "fc._weight_scale": np.array([[2], [3]], np.float32)}
    for kind, count in (("Int8Tensor", 1), ("Int4Tensor", 0), (None, 0)):
        metadata = None if kind is None else {"fc.weight": json.dumps({"_type": kind})}
        save_file(arrays, tmp_path / "model.safetensors", metadata)
        found = unpacked(open_tensors(tmp_path / "model.safetensors"))
        assert len(found.tensors) == count
        assert len(found.problems) == 1 - count
        if count:
            np.testing.assert_array_equal(found.tensors[0].read(), codes * np.array([[2], [3]]))


def test_bytes_of_model_optimizer(tmp_path: Path) -> None:
    """NVFP4 as NVIDIA's tool names it: a second scale, which multiplies."""
    codes = np.array([[0x21] * 8, [0xF8] * 8], np.uint8)  # 0.5 and 1; -0 and -6
    header = {
        "fc.weight": {"dtype": "U8", "shape": [2, 8], "data_offsets": [0, 16]},
        "fc.weight_scale": {"dtype": "F8_E4M3", "shape": [2, 1], "data_offsets": [16, 18]},
        "fc.weight_scale_2": {"dtype": "F32", "shape": [], "data_offsets": [20, 24]},
        "pad": {"dtype": "U8", "shape": [2], "data_offsets": [18, 20]},
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    data = codes.tobytes() + bytes([0x38, 0x40, 0, 0]) + np.float32(0.25).tobytes()
    (tmp_path / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    (weight,) = unpacked(open_tensors(tmp_path / "model.safetensors")).tensors
    np.testing.assert_array_equal(weight.read(), [[0.125, 0.25] * 8, [0, -3] * 8])


# What is not packed


@pytest.mark.parametrize(
    "arrays",
    [
        {"fc.weight": np.ones((4, 6), np.int8), "fc.bias": np.ones(4, np.int32)},
        {"fc.weight": np.ones((4, 6), np.uint8)},
        {"fc.weight": np.ones((4, 6), np.uint8), "fc.codebook": np.ones(16, np.float32)},
        {"fc.weight": np.ones((4, 6), np.float32), "fc.weight_scale": np.ones(4, np.float32)},
        {"fc.weight_orig": np.ones((4, 6), np.float32), "fc.weight_mask": np.ones((4, 6), np.uint8)},
        {"norm.weight": np.ones(4, np.int8), "norm.scale": np.ones(1, np.float32)},
    ],
)
def test_plain_arrays_are_left_alone(arrays: Arrays, tmp_path: Path) -> None:
    assert read(tmp_path, arrays) == Unpacked([], set(), [], [])


NAMED: dict[str, dict[str, tuple[int, ...]]] = {
    "marlin-24": {"weight_packed": (8, 64), "scale_packed": (2, 32), "meta": (16, 8)},
    "Marlin": {"B": (4, 64), "s": (1, 32)},
    "AQLM": {"codes": (32, 8, 1), "codebooks": (1, 256, 1, 8), "scales": (32, 1, 1, 1)},
    "VPTQ": {"indices": (1, 32, 8), "centroids": (1, 256, 8)},
    "QuIP#": {"Qidxs": (32, 8), "SU": (64,), "SV": (32,)},
    "EXL2": {"q_weight": (8, 32), "q_scale": (2, 4), "q_groups": (4,)},
    "EXL3": {"trellis": (4, 2, 16), "suh": (64,), "svh": (32,)},
    "GPTQ": {"qweight": (16, 7), "scales": (2, 32)},
    "AWQ": {"qweight": (64, 4), "scales": (3, 32), "qzeros": (3, 4)},
    "an unknown format": {"qweight": (8, 32), "weight_shift": (4,)},
    "numbers with scales": {"weight": (8, 32), "weight_scale": (8, 1)},
}


@pytest.mark.parametrize("packing", NAMED)
def test_what_is_not_decoded_is_named_with_its_arrays_and_a_tool(packing: str, tmp_path: Path) -> None:
    fractions = ("scale", "centroids", "codebooks", "su", "s", "sv", "svh", "suh")
    arrays = {
        f"{layer}.{name}": np.ones(shape, np.float16 if name.lower().endswith((*fractions, "scales")) else np.int32)
        for layer in ("a.q_proj", "a.k_proj")
        for name, shape in NAMED[packing].items()
    }
    found = read(tmp_path, arrays)
    assert found.tensors == []
    (problem,) = found.problems
    assert problem.startswith("'a.k_proj.weight' and 1 more are packed as ")
    assert f" packed as {packing} ({', '.join(NAMED[packing])[:3]}" in problem
    assert "to unpack: " in problem
    assert {name for name in arrays if not name.endswith("weight_shift")} == found.taken
    with pytest.raises(InputError, match=r"a\.k_proj\.weight' and 1 more are packed as"):
        load_network(tmp_path / "model.safetensors")


def test_bytes_alone_that_no_weight_has_are_refused(tmp_path: Path) -> None:
    assert "its 'quant_state' is missing" in refused(tmp_path, {"fc.weight": np.ones((1024, 1), np.uint8)})


def test_what_may_be_the_scale_of_an_output_is_refused(tmp_path: Path) -> None:
    arrays: dict[str, Array] = {
        "conv.weight": np.ones((4, 6), np.int8),
        "conv.scale": np.array(0.5, np.float32),
        "conv.zero_point": np.array(3, np.int64),
    }
    assert "call them weight_scale and weight_zero_point" in refused(tmp_path, arrays)


# What contradicts itself


def bitmask_arrays() -> dict[str, Array]:
    arrays = {f"fc.weight.{name}": array for name, array in bitmask(two_of_four(4, 12)).items()}
    return {**arrays, "fc.weight.row_offsets": np.array([0, 6, 12, 18])}


def pack_arrays() -> dict[str, Array]:
    codes = np.arange(128).reshape(4, 32) % 16
    return {
        "fc.weight_packed": words(codes, 4),
        "fc.weight_scale": np.ones((4, 2), np.float32),
        "fc.weight_shape": np.array([4, 32]),
        "fc.weight_g_idx": np.repeat(np.arange(2, dtype=np.int32), 16),
    }


def nf4_arrays(state: Any = None) -> dict[str, Array]:
    text = json.dumps({"shape": [4, 32], "blocksize": 64, "dtype": "float32"} if state is None else state)
    return {
        "fc.weight": np.zeros((64, 1), np.uint8),
        "fc.weight.absmax": np.ones(2, np.float32),
        "fc.weight.quant_map": np.linspace(-1, 1, 16, dtype=np.float32),
        "fc.weight.quant_state.bitsandbytes__nf4": np.frombuffer(text.encode(), np.uint8),
    }


def gptq_arrays() -> dict[str, Array]:
    return gptq(*layer_of_gptq())


def state(text: bytes) -> Callable[[], dict[str, Array]]:
    return lambda: {**nf4_arrays(), "fc.weight.quant_state.bitsandbytes__nf4": np.frombuffer(text, np.uint8)}


CONTRADICTIONS: dict[str, tuple[Callable[[], dict[str, Array]], Arrays, str]] = {
    "a bit too many": (
        bitmask_arrays,
        {"fc.weight.bitmask": np.full((4, 2), 15, np.uint8)},
        "'bitmask' has 32 bits set, the file 24 values",
    ),
    "a bit behind the edge": (
        bitmask_arrays,
        {"fc.weight.bitmask": np.full((4, 2), 255, np.uint8)},
        "'bitmask' has bits set behind the last of 12 columns",
    ),
    "offsets that fall": (bitmask_arrays, {"fc.weight.row_offsets": np.array([0, 12, 6, 18])}, "'row_offsets' are not"),
    "offsets beyond": (bitmask_arrays, {"fc.weight.row_offsets": np.array([0, 6, 12, 2**60])}, "'row_offsets' are not"),
    "another shape": (bitmask_arrays, {"fc.weight.shape": np.array([4, 32])}, "has no bit for each weight of (4, 32)"),
    "a huge shape": (bitmask_arrays, {"fc.weight.shape": np.array([2**40, 2**40])}, "has no bit for each weight"),
    "a shape of zero": (bitmask_arrays, {"fc.weight.shape": np.array([0, 12])}, "sizes are 1 or above"),
    "a negative shape": (bitmask_arrays, {"fc.weight.shape": np.array([-4, 12])}, "sizes are 1 or above"),
    "a shape of fractions": (bitmask_arrays, {"fc.weight.shape": np.array([4.0, 12.0])}, "whole numbers belong"),
    "a mask of words": (
        bitmask_arrays,
        {"fc.weight.bitmask": np.ones((4, 2), np.int32)},
        "has type int32, where uint8",
    ),
    "a group beyond": (pack_arrays, {"fc.weight_g_idx": np.full(32, 2, np.int32)}, "groups run from 2 to 2"),
    "a group below": (pack_arrays, {"fc.weight_g_idx": np.full(32, -2, np.int32)}, "groups run from -2 to -2"),
    "few groups": (pack_arrays, {"fc.weight_g_idx": np.zeros(31, np.int32)}, "does not give the group of each column"),
    "rows missing": (pack_arrays, {"fc.weight_shape": np.array([5, 32])}, "does not hold the rows of a weight"),
    "no whole bits": (pack_arrays, {"fc.weight_shape": np.array([4, 3])}, "do not say of how many bits"),
    "a huge row": (pack_arrays, {"fc.weight_shape": np.array([4, 2**50])}, "do not say of how many bits"),
    "scales of integers": (pack_arrays, {"fc.weight_scale": np.ones((4, 2), np.int32)}, "floating-point type belongs"),
    "scales not finite": (pack_arrays, {"fc.weight_scale": np.full((4, 2), np.nan, np.float32)}, "is not finite"),
    "packed zeros": (pack_arrays, {"fc.weight_zero_point": np.ones((2, 2), np.int32)}, "where (1, 2) belongs"),
    "an empty array": (pack_arrays, {"fc.weight_scale": np.ones((4, 0), np.float32)}, "and is empty"),
    "an order beyond": (gptq_arrays, {"fc.g_idx": np.full(64, 7, np.int32)}, "groups run from 7 to 7"),
    "an order too long": (gptq_arrays, {"fc.g_idx": np.zeros(65, np.int32)}, "'g_idx' gives 65 inputs"),
    "zeros of another size": (gptq_arrays, {"fc.qzeros": np.zeros((2, 5), np.int32)}, "do not agree on the bits"),
    "infinite scales": (gptq_arrays, {"fc.scales": np.full((2, 24), np.inf, np.float16)}, "is not finite"),
    "bytes too few": (nf4_arrays, {"fc.weight": np.zeros((63, 1), np.uint8)}, "do not fit a weight of shape (4, 32)"),
    "a map too short": (nf4_arrays, {"fc.weight.quant_map": np.zeros(15, np.float32)}, "do not fit a weight"),
    "a state of zeros": (state(bytes(90)), {}, "'quant_state' cannot be read"),
    "a state cut off": (state(b'{"shape": [4, 32], "block'), {}, "'quant_state' cannot be read"),
    "a deep state": (state(b"[" * 60_000), {}, "'quant_state' cannot be read"),
    "a state of a list": (state(b"[1]"), {}, "'quant_state' cannot be read"),
    "a state that is not text": (state(b"\xff\xfe{}"), {}, "'quant_state' cannot be read"),
    "a huge state": (state(b" " * 2**17), {}, "too large for what it describes"),
    "a state of another shape": (lambda: nf4_arrays({"shape": [2**40, 2], "blocksize": 64}), {}, "do not fit a weight"),
    "a state of no shape": (lambda: nf4_arrays({"shape": None, "blocksize": 64}), {}, "'quant_state' cannot be read"),
    "a state of odd sizes": (
        lambda: nf4_arrays({"shape": [4, 0.5], "blocksize": True}),
        {},
        "'quant_state' says shape",
    ),
    "a state with a huge offset": (
        lambda: nf4_arrays({"shape": [4, 32], "blocksize": 64, "nested_offset": 10**400}),
        {},
        "'quant_state' cannot be read",
    ),
}


@pytest.mark.parametrize("what", CONTRADICTIONS)
def test_arrays_that_contradict_each_other_are_an_error(what: str, tmp_path: Path) -> None:
    made, changed, told = CONTRADICTIONS[what]
    assert told in refused(tmp_path, {**made(), **changed})


@pytest.mark.parametrize("made", [bitmask_arrays, pack_arrays, gptq_arrays, nf4_arrays])
def test_without_the_change_they_are_read(made: Callable[[], dict[str, Array]], tmp_path: Path) -> None:
    assert np.isfinite(only(tmp_path, made())).all()


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "[]", '{"quantization_config": 3}', " " * 2**22 + "{}"])
def test_a_damaged_configuration_beside_the_file(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    found = read(tmp_path, gptq_arrays())
    if "config" in text or text == "[]":
        assert len(found.tensors) == 1
    else:
        assert "config.json beside the file" in found.problems[0]


def sources() -> list[dict[str, Array]]:
    """Return layers that are packed as they should be, of all kinds whose numbers NumPy has types for."""
    layers: dict[tuple[str, str], dict[str, Array]] = {}
    for stem in ("awq", "bitsandbytes", "gpt_oss", "gptq_v1", "hqq", "quanto"):
        file = open_tensors(GOLDEN / f"{stem}.safetensors")
        for name in file.shapes:
            if not name.startswith(("right.", "fp8_")):
                layers.setdefault((stem, name.partition(".")[0]), {})[name] = np.array(file[name])
    scaled: dict[str, Array] = {"fc.weight": np.ones((6, 8), np.uint8), "fc.scales": np.ones((6, 2), np.float32)}
    scaled["fc.zeros"] = np.ones((6, 2), np.uint8)
    return [*layers.values(), bitmask_arrays(), pack_arrays(), scaled]


def damaged(arrays: dict[str, Array], rng: np.random.Generator) -> dict[str, Array]:
    """Return the arrays with one of them missing, of another shape, another type or other numbers."""
    name = sorted(arrays)[rng.integers(len(arrays))]
    array = arrays[name]
    what = rng.integers(7)
    sizes = [int(each) for each in rng.choice((0, 1, 2, 3, 8, 16, 33), rng.integers(0, 5))]
    numbers = np.random.default_rng(rng.integers(2**32))
    changed: dict[int, Callable[[], Array]] = {
        0: lambda: np.resize(array, sizes),
        1: lambda: array.reshape(-1),
        2: lambda: array[: len(array) // 2] if array.ndim else array.reshape(1, 1),
        3: lambda: array.astype(numbers.choice(["int8", "uint8", "int32", "int64", "float16", "float32"])),
        4: lambda: np.frombuffer(numbers.bytes(array.nbytes), array.dtype).reshape(array.shape),
        5: lambda: np.full_like(array, -1 if array.dtype.kind != "u" else 255),
    }
    rest = {each: other for each, other in arrays.items() if each != name}
    return rest if what == 6 else {**rest, name: changed[int(what)]()}


def test_whatever_is_damaged_nothing_else_is_raised(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    outcomes = {"read": 0, "told": 0, "told when read": 0}
    whole = sources()
    for _ in range(600):
        found = read(tmp_path, damaged(whole[rng.integers(len(whole))], rng))
        outcomes["told"] += len(found.problems)
        for weight in found.tensors:
            try:
                assert weight.read().shape == weight.shape
                outcomes["read"] += 1
            except InputError:
                outcomes["told when read"] += 1
    assert min(outcomes.values()) > 5, outcomes


# What it costs


def test_decoding_holds_the_result_and_a_part(tmp_path: Path) -> None:
    """1024 x 4096 weights are 16 MiB; beside them a part of a million weights is decoded, in a few steps."""
    rows, columns = 1024, 4096
    codes = np.random.default_rng(0).integers(-(2**31), 2**31, (rows, columns // 8)).astype(np.int32)
    file = saved(
        tmp_path,
        {
            "fc.weight_packed": codes,
            "fc.weight_scale": np.ones((rows, columns // 128), np.float32),
            "fc.weight_shape": np.array([rows, columns]),
        },
    )
    tracemalloc.start()
    (weight,) = unpacked(file).tensors
    assert tracemalloc.get_traced_memory()[1] < 2**20  # nothing large to find it
    values = weight.read()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert values.nbytes == 4 * rows * columns
    assert peak < values.nbytes + 20 * 2**20


# Whole networks


def test_a_network_of_packed_and_plain_layers(tmp_path: Path) -> None:
    sparse = two_of_four(32, 64)
    arrays = {f"model.layers.0.mlp.up_proj.weight.{name}": array for name, array in bitmask(sparse).items()}
    arrays["model.embed_tokens.weight"] = np.ones((100, 64), np.float32)
    arrays["lm_head.weight"] = np.ones((100, 64), np.float32)
    codes, zeros, scales = layer_of_gptq()
    arrays |= {f"model.layers.0.mlp.gate_proj.{name[3:]}": each for name, each in gptq(codes, zeros, scales).items()}
    saved(tmp_path, arrays)
    network = load_network(tmp_path / "model.safetensors")
    layers = {layer.name: layer for layer in network}
    assert {name: layer.weight_shape for name, layer in layers.items()} == {
        "model.layers.0.mlp.up_proj": (32, 64),
        "model.layers.0.mlp.gate_proj": (24, 64),
        "lm_head": (100, 64),
    }
    np.testing.assert_array_equal(layers["model.layers.0.mlp.up_proj"].weight, sparse)
    assert layers["model.layers.0.mlp.gate_proj"].stored_as == "int4 (GPTQ)"
    assert layers["lm_head"].stored_as == ""
    assert [(str(each), getattr(each, "weights", 0)) for each in network.left_out[:-1]] == [
        ("model.embed_tokens (look-up)", 6400)
    ]
    assert any("gptq_v2" in each for each in network.assumptions)


def test_experts_in_one_array_are_a_layer_each() -> None:
    network = load_network(GOLDEN / "gpt_oss.safetensors")
    packed = [layer for layer in network if layer.stored_as]
    assert [(layer.name, layer.weight_shape) for layer in packed] == [
        (f"experts.down_proj.{expert}", (16, 64)) for expert in range(3)
    ]


def test_a_damaged_configuration_beside_scaled_weights_is_told(tmp_path: Path) -> None:
    """It might give another block than the usual one."""
    held = {"fc.weight": np.ones((4, 8), np.int8), "fc.weight_scale": np.ones((4, 1), np.float32)}
    save_file(held, tmp_path / "model.safetensors")
    assert len(load_network(tmp_path / "model.safetensors")) == 1
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config\.json beside the file cannot be read"):
        load_network(tmp_path / "model.safetensors")
