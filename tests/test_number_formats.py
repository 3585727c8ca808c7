"""Is a number format the same in every place, and does every code mean what PyTorch, NumPy and the papers say?"""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import accelsim
from accelsim import InputError, Layer, Network, load_network
from accelsim.number_formats import ARRAY_TYPES, NUMBER_FORMATS, SAFETENSORS_TYPES, NumberFormat, format_of

CHIPS = ["eie-64pe-45nm", "a100-pcie"]
LACKING = [form for form in NUMBER_FORMATS.values() if form.array_type and not form.in_numpy]
CODES = np.arange(256, dtype=np.uint8)


def named(form: Any) -> str | None:
    return form.name if isinstance(form, NumberFormat) else None


def safetensors(path: Path, tensors: dict[str, tuple[str, list[int], bytes]]) -> Path:
    """Write tensors given as (type, shape, data), of any type."""
    header, data = {}, b""
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def test_a_format_has_one_name_in_every_place() -> None:
    assert list(NUMBER_FORMATS) == [form.name for form in NUMBER_FORMATS.values()]
    assert len(ARRAY_TYPES) == sum(form.array_type is not None for form in NUMBER_FORMATS.values())
    assert len(SAFETENSORS_TYPES) == sum(form.safetensors_type is not None for form in NUMBER_FORMATS.values())


@pytest.mark.parametrize("form", NUMBER_FORMATS.values(), ids=named)
def test_sign_exponent_and_fraction_fill_the_bits(form: NumberFormat) -> None:
    if form.family == "fp":
        # The hidden bit of the significand is not stored, the sign is; tf32 leaves 13 of its 32 bits unused.
        unused = {"tf32": 13}.get(form.name, 0)
        assert 1 + form.exponent_bits + form.significand_bits - 1 + unused == form.bits
    else:
        assert (form.exponent_bits, form.significand_bits) == (0, 1 if form.family == "bool" else form.bits)


@pytest.mark.parametrize("form", [form for form in ARRAY_TYPES.values() if form.in_numpy], ids=named)
def test_numpy_agrees(form: NumberFormat) -> None:
    dtype = np.dtype(form.array_type)
    assert format_of(dtype) is form
    assert format_of(dtype.newbyteorder(">")) is form
    assert (8 * dtype.itemsize, form.stored_type, np.dtype(form.unsigned).itemsize) == (
        form.bits,
        dtype,
        dtype.itemsize,
    )
    assert dtype.kind == {"fp": "f", "int": "i", "uint": "u", "bool": "b"}[form.family]
    if form.family == "fp":
        limits = np.finfo(dtype)
        assert (limits.nmant + 1, limits.nexp) == (form.significand_bits, form.exponent_bits)
        largest, infinite, zero = np.array([limits.max, np.inf, -0.0], dtype).view(form.unsigned).tolist()
        assert (largest + 1, infinite) == (form.first_nonfinite, form.first_nonfinite)
        assert zero & form.magnitude_mask == 0
    else:
        assert form.magnitude_mask == 2**form.bits - 1
        assert form.first_nonfinite == math.inf


@pytest.mark.needs("torch")
@pytest.mark.parametrize("form", ARRAY_TYPES.values(), ids=named)
def test_pytorch_agrees(form: NumberFormat) -> None:
    torch = pytest.importorskip("torch")
    dtype = getattr(torch, str(form.array_type))
    assert 8 * dtype.itemsize == form.bits
    if form.family == "fp":
        limits = torch.finfo(dtype)
        assert limits.eps == 2.0 ** (1 - form.significand_bits)
        assert limits.smallest_normal == 2.0 ** (2 - 2 ** (form.exponent_bits - 1))
        # The largest number is the one below the first code that is none.
        largest = torch.tensor([limits.max], dtype=dtype).view(getattr(torch, np.dtype(form.unsigned).name))
        assert int(largest) + 1 == form.first_nonfinite


@pytest.mark.needs("torch")
@pytest.mark.parametrize("form", LACKING, ids=named)
def test_every_code_means_what_pytorch_says(form: NumberFormat) -> None:
    torch = pytest.importorskip("torch")
    codes = np.arange(2**form.bits, dtype=form.stored_type)
    ours = form.values(codes)
    theirs = torch.from_numpy(codes.copy()).view(getattr(torch, str(form.array_type))).float().numpy()
    assert ours.dtype == np.float32
    numbers = ~np.isnan(theirs)
    assert np.array_equal(np.isnan(ours), ~numbers)
    # As bits, which tell minus zero from zero.
    assert np.array_equal(ours[numbers].view(np.uint32), theirs[numbers].view(np.uint32))
    magnitudes = codes & form.magnitude_mask
    assert np.array_equal(magnitudes >= form.first_nonfinite, ~np.isfinite(theirs))
    assert np.array_equal(magnitudes == 0, theirs == 0)


@pytest.mark.parametrize(
    ("name", "code", "value"),
    [
        # E4M3: bias 7, no infinity. Micikevicius et al., arXiv 2209.05433, table 1, and by hand.
        ("fp8", 0b0_0000_000, 0.0),
        ("fp8", 0b1_0000_000, -0.0),
        ("fp8", 0b0_0000_001, 2.0**-9),
        ("fp8", 0b0_0000_111, 0.875 * 2.0**-6),
        ("fp8", 0b0_0001_000, 2.0**-6),
        ("fp8", 0b1_0111_000, -1.0),
        ("fp8", 0b0_0111_101, 1.625),
        ("fp8", 0b0_1111_000, 256.0),
        ("fp8", 0b0_1111_110, 448.0),
        ("fp8", 0b0_1111_111, math.nan),
        ("fp8", 0b1_1111_111, math.nan),
        # E5M2: bias 15, infinities and NaN as in IEEE 754. The same table.
        ("fp8_e5m2", 0b0_00000_01, 2.0**-16),
        ("fp8_e5m2", 0b0_00000_11, 0.75 * 2.0**-14),
        ("fp8_e5m2", 0b0_00001_00, 2.0**-14),
        ("fp8_e5m2", 0b1_01111_10, -1.5),
        ("fp8_e5m2", 0b0_11110_11, 57344.0),
        ("fp8_e5m2", 0b0_11111_00, math.inf),
        ("fp8_e5m2", 0b1_11111_00, -math.inf),
        ("fp8_e5m2", 0b0_11111_01, math.nan),
        ("fp8_e5m2", 0b1_11111_11, math.nan),
        ("bf16", 0b0_01111111_1000000, 1.5),
        ("bf16", 0b1_00000000_0000001, -(2.0**-133)),
        ("bf16", 0b0_11111111_0000000, math.inf),
    ],
)
def test_codes_by_hand(name: str, code: int, value: float) -> None:
    form = NUMBER_FORMATS[name]
    (got,) = form.values(np.array([code], form.stored_type)).tolist()
    assert math.isnan(got) if math.isnan(value) else (got, math.copysign(1, got)) == (value, math.copysign(1, value))


@pytest.mark.parametrize("name", ["fp8", "fp8_e5m2"])
def test_many_codes_of_any_layout_are_those_of_few(name: str) -> None:
    form = NUMBER_FORMATS[name]
    few = form.values(CODES)
    codes = np.random.default_rng(0).integers(0, 256, (300, 701)).astype(np.uint8)  # more than are decoded together
    for stored in (codes, codes.T, codes[::2, ::3], codes[:0], np.array(7, np.uint8)):
        assert np.array_equal(form.values(stored), few[stored], equal_nan=True)


def finite(form: NumberFormat, rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray[Any, Any]:
    """Return codes of numbers, many of them zero or minus zero."""
    magnitudes = rng.integers(0, int(form.first_nonfinite), shape) * (rng.random(shape) < 0.3)
    return (magnitudes | rng.integers(0, 2, shape) << form.bits - 1).astype(form.stored_type)


@pytest.mark.needs("torch")
@pytest.mark.parametrize("form", LACKING, ids=named)
def test_safetensors_and_state_dicts_give_the_counts_of_float32(tmp_path: Path, form: NumberFormat) -> None:
    torch = pytest.importorskip("torch")
    codes = finite(form, np.random.default_rng(3), (70, 90))
    values = form.values(codes)
    tensor = torch.from_numpy(codes.copy()).view(getattr(torch, str(form.array_type)))
    assert form.safetensors_type is not None
    bare = safetensors(tmp_path / "a.safetensors", {"fc.weight": (form.safetensors_type, [70, 90], codes.tobytes())})
    torch.save({"fc.weight": tensor}, tmp_path / "a.pt")
    from safetensors.torch import save_file

    save_file({"fc.weight": tensor}, tmp_path / "torch.safetensors")
    plain = accelsim.simulate(Layer.linear("fc", values), CHIPS, 0.5, verify=True)
    said = ("stored_as", "dense_bits", "compression_ratio")  # which are of the type that the weights come in
    columns = [name for name in plain if not name.startswith(("network", "source", "left_out", *said))]
    for path in (bare, tmp_path / "a.pt", tmp_path / "torch.safetensors"):
        network = load_network(path)
        assert np.array_equal(network["fc"].weight, values)
        assert network["fc"].weight.dtype == np.float32
        ours = accelsim.simulate(network, CHIPS, 0.5, verify=True)
        assert ours[columns].equals(plain[columns])
        assert ours["dense_bits"].tolist() == [form.bits * 70 * 90] * 2
    assert plain["weight_density"].tolist() == [np.count_nonzero(values) / values.size] * 2


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("fp8", 0x7F, "nan"),
        ("fp8", 0xFF, "nan"),
        ("fp8_e5m2", 0x7C, "inf"),
        ("fp8_e5m2", 0xFC, "-inf"),
        ("fp8_e5m2", 0x7E, "nan"),
    ],
)
@pytest.mark.parametrize("suffix", [".safetensors", pytest.param(".pt", marks=pytest.mark.needs("torch"))])
def test_weights_of_8_bits_that_are_not_finite_are_refused(
    tmp_path: Path, name: str, code: int, said: str, suffix: str
) -> None:
    form = NUMBER_FORMATS[name]
    codes, path = np.array([[1, 2], [3, code]], np.uint8), tmp_path / f"a{suffix}"
    if suffix == ".pt":
        torch = pytest.importorskip("torch")
        torch.save({"fc.weight": torch.from_numpy(codes).view(getattr(torch, str(form.array_type)))}, path)
    else:
        safetensors(path, {"fc.weight": (str(form.safetensors_type), [2, 2], codes.tobytes())})
    for chip in CHIPS:
        with pytest.raises(InputError) as caught:
            accelsim.simulate(path, chip, 0.5)
        assert f": weight[1, 1] is {said}; weights must be finite" in str(caught.value)


@pytest.mark.parametrize(
    ("dtype", "size"), [("F8_E8M0", 4), ("F4", 2), ("F6_E2M3", 3), ("C64", 32), ("F8_E4M3FNUZ", 4), ("X9", 4)]
)
def test_other_types_name_tensor_type_and_what_is_read(tmp_path: Path, dtype: str, size: int) -> None:
    """X9 is one that not even the library knows, as an older one does not know those before."""
    path = safetensors(
        tmp_path / "a.safetensors", {"a.weight": ("U8", [1, 4], bytes(4)), "q.weight": (dtype, [2, 2], bytes(size))}
    )
    with pytest.raises(InputError) as caught:
        load_network(path)
    (problem,) = caught.value.problems
    assert problem.startswith(str(path))
    assert f"'q.weight' has type {dtype}, which is not supported; convert it to one of F64, F32, F16, BF16, " in problem
    assert "F8_E4M3, F8_E5M2" in problem


def test_a_file_in_which_more_than_a_type_is_wrong_is_not_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    for text in (b'{"a":{"dtype":"X9","shape":[1]', b'[{"dtype":"X9"}]', b'{"a":{"dtype":"X9"},"b":3}'):
        path.write_bytes(len(text).to_bytes(8, "little") + text)
        with pytest.raises(InputError, match="not a complete safetensors file"):
            load_network(path)


def test_scales_beside_weights_are_applied_or_told(tmp_path: Path) -> None:
    weight = {"fc.weight": ("F8_E4M3", [2, 2], bytes([0, 0x38, 0xB8, 0x7E]))}
    path = safetensors(tmp_path / "a.safetensors", {**weight, "fc.weight_scale": ("F32", [], np.float32(2).tobytes())})
    (layer,) = load_network(path)
    assert (layer.name, layer.weight.tolist()) == ("fc", [[0.0, 2.0], [-2.0, 896.0]])
    path = safetensors(tmp_path / "b.safetensors", {**weight, "fc.weight_scale": ("F8_E8M0", [2, 1], bytes([127] * 2))})
    with pytest.raises(
        InputError, match=r"'fc.weight' is packed .*'weight_scale' has type F8_E8M0, which cannot be read"
    ):
        load_network(path)


@pytest.mark.needs("torch")
def test_masks_fold_into_weights_of_8_bits(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    held = {"fc.weight_orig": [[1.5, -2.0], [3.0, 4.0]], "fc.weight_mask": [[1.0, 0.0], [0.0, 1.0]]}
    torch.save({name: torch.tensor(each).to(torch.float8_e5m2) for name, each in held.items()}, tmp_path / "a.pt")
    assert load_network(tmp_path / "a.pt")["fc"].weight.tolist() == [[1.5, 0.0], [0.0, 4.0]]


@pytest.mark.needs("torch")
@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2"])
def test_a_model_that_keeps_weights_in_8_bits_is_captured(name: str) -> None:
    torch = pytest.importorskip("torch")
    dtype = getattr(torch, name)

    class Narrow(torch.nn.Linear):
        def __init__(self) -> None:
            super().__init__(3, 2)
            self.weight = torch.nn.Parameter(self.weight.detach().to(dtype), requires_grad=False)
            # PyTorch compares no buffers of these types, of which a capture has to leave what it found.
            self.register_buffer("scale", torch.tensor([2.0]).to(torch.float8_e8m0fnu))
            self.register_buffer("seen", torch.tensor([1.0]).to(dtype))

        def forward(self, values: Any) -> Any:
            self.seen.fill_(0.5)
            return torch.nn.functional.linear(values, self.weight.float(), self.bias)

    model = Narrow()
    (layer,) = Network.from_torch(model, torch.randn(4, 3))
    assert layer.weight.dtype == np.float32
    assert np.array_equal(layer.weight, model.weight.float().numpy())
    assert (model.seen.float().item(), model.scale.float().item()) == (1.0, 2.0)


@pytest.mark.needs("ml_dtypes")
@pytest.mark.parametrize("form", LACKING, ids=named)
def test_arrays_of_ml_dtypes_are_layers(tmp_path: Path, form: NumberFormat) -> None:
    types = pytest.importorskip("ml_dtypes")
    codes = finite(form, np.random.default_rng(5), (32, 64))
    weight = codes.view(getattr(types, str(form.array_type)))
    assert format_of(weight.dtype) is form
    network = Network("n", [Layer.linear("fc", weight)])
    wide = Network("n", [Layer.linear("fc", form.values(codes))])
    ours, plain = (accelsim.simulate(each, CHIPS, 0.5, verify=True) for each in (network, wide))
    of_bits = ("layer_hash", "stored_as", "dense_bits", "compression_ratio")
    columns = [name for name in plain if name not in of_bits]
    assert ours["dense_bits"].tolist() == [form.bits * 32 * 64] * 2
    assert ours[columns].equals(plain[columns])
    pruned, expected = (accelsim.pruning.prune(each["fc"].weight, "nm:2:4", 0.5) for each in (network, wide))
    assert np.array_equal(pruned, expected)
    network.save(tmp_path / "n.safetensors")
    assert np.array_equal(load_network(tmp_path / "n.safetensors")["fc"].weight, form.values(codes))
    weight[3, 5] = np.nan
    with pytest.raises(InputError, match=r"layer fc: weight\[3, 5\] is nan"):
        accelsim.simulate(Layer.linear("fc", weight), CHIPS[0], 0.5)


def test_a_type_without_a_format_is_named() -> None:
    with pytest.raises(
        InputError, match=r"weight: has type complex64, which is not supported; convert it to one of float64"
    ):
        format_of(np.dtype(np.complex64))
    with pytest.raises(InputError, match=r"layer fc: weight: has type longdouble|layer fc: weight: has type float128"):
        Layer.linear("fc", np.ones((2, 2), np.longdouble))
    assert {"tf32", "int4"} == set(NUMBER_FORMATS) - {form.name for form in ARRAY_TYPES.values()}


def test_a_chip_may_compute_in_every_number_but_no_flag() -> None:
    rates = {
        f"engine.fma_per_cycle.{name}": 64 for name, form in NUMBER_FORMATS.items() if form.family in ("fp", "int")
    }
    chip = accelsim.load_hardware("a100-pcie", rates)
    for name in rates:
        dtype = name.rpartition(".")[2]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            (row,) = accelsim.gemm(256, 256, 1024, chip, dtype).to_dict("records")
        assert row["storage_bits"] == 256 * 1024 * NUMBER_FORMATS[dtype].bits
    with pytest.raises(
        InputError, match=r"fma_per_cycle\.bool: is not a data type; known: fp64, .*fp8, fp8_e5m2, int64"
    ):
        accelsim.load_hardware("a100-pcie", {"engine.fma_per_cycle.bool": 64})
