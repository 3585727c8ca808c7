"""Formats: round trips, the paper's worked examples, and sizes derived by hand."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from accelsim import threads
from accelsim.engines.eie.config import EieConfig
from accelsim.errors import InputError
from accelsim.formats.codebook import assign, quantise, share
from accelsim.formats.counting import Content, WeightMatrix, content, count, memory_rows
from accelsim.formats.fixed import fixed_point
from accelsim.formats.relative_csc import decode, encode, storage_bits

shapes = st.tuples(st.integers(1, 80), st.integers(1, 70))
matrices = shapes.flatmap(
    lambda shape: arrays(np.int64, shape, elements=st.integers(0, 9), fill=st.just(0))
)  # fmt: skip


def test_first_example_of_the_paper() -> None:
    """Section III-B: [0,0,1,2, eighteen zeros, 3]."""
    column = np.array([0, 0, 1, 2] + [0] * 18 + [3])[:, None]
    stored = encode(column, pes=1, index_bits=4)
    assert stored.codes.tolist() == [1, 2, 0, 3]
    assert stored.zero_runs.tolist() == [2, 0, 15, 2]


def test_second_example_of_the_paper() -> None:
    """Figures 2 and 3: a 16 x 8 matrix over 4 PEs; PE 0 holds rows 0, 4, 8, 12."""
    places = [
        (0, 0),
        (8, 0),
        (12, 0),
        (4, 1),
        (0, 2),
        (12, 2),
        (0, 4),
        (4, 4),
        (0, 5),
        (12, 5),
        (0, 6),
        (8, 7),
        (12, 7),
    ]
    codes = np.zeros((16, 8), int)
    for number, place in enumerate(places):
        codes[place] = number + 1
    stored = encode(codes, pes=4, index_bits=4)
    assert stored.codes.tolist() == list(range(1, 14))
    assert stored.zero_runs.tolist() == [0, 1, 0, 1, 0, 2, 0, 0, 0, 2, 0, 2, 0]
    assert stored.pointers[0].tolist() == [0, 3, 4, 6, 6, 8, 10, 11, 13]


@pytest.mark.parametrize(("zeros", "padding"), [(0, 0), (15, 0), (16, 1), (31, 1), (32, 2)])
def test_a_run_of_more_than_15_zeros_pads(zeros: int, padding: int) -> None:
    column = np.array([0] * zeros + [1])[:, None]
    stored = encode(column, pes=1, index_bits=4)
    assert len(stored.codes) == 1 + padding
    assert count(column, None, 1, 4).stored_entries == 1 + padding


def test_trailing_zeros_cost_nothing() -> None:
    assert len(encode(np.array([1] + [0] * 100)[:, None], pes=1, index_bits=4).codes) == 1


@given(matrices, st.integers(1, 20), st.integers(1, 8))
def test_decode_inverts_encode(codes: np.ndarray, pes: int, index_bits: int) -> None:
    assert np.array_equal(decode(encode(codes, pes, index_bits)), codes)


@given(matrices, st.integers(1, 20), st.integers(1, 8), st.integers(1, 50))
def test_counting_agrees_with_encoding(codes: np.ndarray, pes: int, index_bits: int, slice_rows: int) -> None:
    counted = count(codes.astype(np.float32), None, pes, index_bits, slice_rows=slice_rows)
    first = 0
    for part in counted.slices:
        rows = codes[first : first + part.rows]
        stored = encode(rows, pes, index_bits)
        assert np.array_equal(part.entries, stored.entries)
        assert np.array_equal(part.nonzeros, np.count_nonzero(rows, axis=0))
        first += part.rows
    assert first == len(codes)


@given(st.integers(0, 2**16), st.integers(1, 20), st.integers(1, 8), st.sampled_from([np.float32, np.float64, np.int8]))
def test_crowded_and_empty_rows_count_alike(seed: int, pes: int, index_bits: int, dtype: type) -> None:
    """Where a row is followed by a much fuller one, or by a much emptier one, the way of counting changes."""
    rng = np.random.default_rng(seed)
    mask = rng.random((120, 70)) < rng.choice([0.02, 0.3, 0.6, 1.0], (120, 1))
    counted = count(-mask.astype(dtype), None, pes, index_bits)
    assert np.array_equal(counted.slices[0].entries, encode(mask.astype(int), pes, index_bits).entries)
    assert np.array_equal(counted.slices[0].nonzeros, np.count_nonzero(mask, axis=0))
    assert counted.digest == content(-mask.astype(dtype), None).digest


@given(matrices, st.integers(1, 9), st.integers(1, 12))
def test_memory_rows_are_floors(codes: np.ndarray, pes: int, entries_per_row: int) -> None:
    stored = encode(codes, pes, 4)
    first_row, last_row = memory_rows(stored.entries, entries_per_row)
    for j, k in zip(*np.nonzero(stored.entries), strict=True):
        assert first_row[j, k] == stored.pointers[k, j] // entries_per_row
        assert last_row[j, k] == (stored.pointers[k, j + 1] - 1) // entries_per_row


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8, np.int32, np.uint8, np.int64, bool])
def test_every_type_counts_alike(dtype: type) -> None:
    mask = np.random.default_rng(0).random((70, 130)) < 0.2
    counted = count(mask.astype(dtype), None, 8, 3)
    assert np.array_equal(counted.slices[0].entries, encode(mask.astype(int), 8, 3).entries)


def test_negative_zero_is_zero() -> None:
    assert count(np.array([[-0.0, 1.0]], np.float32), None, 1, 4).nonzeros == 1


def test_hash_depends_on_content_alone() -> None:
    rng = np.random.default_rng(3)
    weight = (rng.standard_normal((90, 140)) * (rng.random((90, 140)) < 0.3)).astype(np.float32)
    bias = rng.standard_normal(90).astype(np.float32)
    digest = count(weight, bias, 4, 4).digest
    assert len(digest) == 32
    assert digest == count(weight, bias, 7, 2, slice_rows=11).digest
    assert digest == count(np.asfortranarray(weight), bias, 4, 4).digest
    signed_zero = np.where(weight == 0, np.float32(-0.0), weight)
    assert digest == count(signed_zero, bias, 4, 4).digest

    others = [count(weight, None, 4, 4).digest, count(weight[:, :-1], bias, 4, 4).digest]
    others.append(count(np.pad(weight, ((0, 0), (0, 1))), bias, 4, 4).digest)
    places = np.argwhere(weight)
    for i, j in places[:: len(places) // 20]:
        changed = weight.copy()
        changed[i, j] *= 2
        others.append(count(changed, bias, 4, 4).digest)
        moved = weight.copy()
        moved[i, j], moved[i, (j + 1) % 140] = moved[i, (j + 1) % 140], moved[i, j]
        if not np.array_equal(moved, weight):
            others.append(count(moved, bias, 4, 4).digest)
        swapped = weight.copy()
        swapped[[i, (i + 1) % 90], j] = swapped[[(i + 1) % 90, i], j]
        if not np.array_equal(swapped, weight):
            others.append(count(swapped, bias, 4, 4).digest)
    assert len({digest, *others}) == 1 + len(others)


@given(matrices, st.sampled_from([np.float16, np.float32, np.float64, np.int8, np.int64]), st.booleans())
def test_content_is_what_counting_finds(codes: np.ndarray, dtype: type, has_bias: bool) -> None:
    weight = -codes.astype(dtype)  # negative zeros among them
    bias = codes[:, 0].astype(dtype) if has_bias else None
    counted = count(weight, bias, 4, 4)
    assert content(weight, bias) == Content(counted.nonzeros, counted.digest)


@pytest.mark.parametrize("cores", [1, 3])
def test_content_does_not_depend_on_threads(cores: int) -> None:
    weight = np.random.default_rng(2).integers(-1, 2, (37, 41))
    alone = content(weight, None)
    with patch.object(threads, "THREADED_ELEMENTS", 0), patch("os.cpu_count", lambda: cores):
        assert content(weight, None) == alone


def test_large_layers_use_threads_and_agree() -> None:
    rng = np.random.default_rng(5)
    weight = (rng.random((700, 2100)) < 0.1).astype(np.float32)  # above the size at which a second thread starts
    whole = count(weight, None, 16, 4)
    parts = [count(weight[:, :1050], None, 16, 4), count(weight[:, 1050:], None, 16, 4)]
    assert np.array_equal(whole.slices[0].entries, np.concatenate([part.slices[0].entries for part in parts]))
    assert np.array_equal(whole.slices[0].nonzeros, np.count_nonzero(weight, axis=0))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_what_is_not_finite_is_named(value: float, dtype: type) -> None:
    weight = np.ones((5, 6), dtype)
    weight[3, 2] = value
    with pytest.raises(InputError, match=r"weight\[3, 2\] is"):
        count(weight, None, 2, 4)
    with pytest.raises(InputError, match=r"bias\[1\] is"):
        count(np.ones((3, 6), dtype), np.array([1, value, 0], dtype), 2, 4)
    with pytest.raises(InputError, match=r"weight\[3, 2\] is"):
        content(weight, None)
    with pytest.raises(InputError, match=r"bias\[1\] is"):
        content(np.ones((3, 6), dtype), np.array([1, value, 0], dtype))


def test_complex_weights_are_refused() -> None:
    with pytest.raises(InputError, match="complex64"):
        count(np.ones((2, 2), np.complex64), None, 1, 4)


def test_counts_are_made_once_per_key() -> None:
    weights = WeightMatrix(np.ones((4, 4), np.float32))
    assert weights.count(2, 4, None) is weights.count(2, 4, None)
    assert weights.count(2, 4, None) is not weights.count(4, 4, None)


def test_size_by_hand() -> None:
    """10 weights and 2 padding entries, 3 PEs with 6 pointers each."""
    size = storage_bits(10, 12, 18, code_bits=4, index_bits=5, pointer_bits=16, codebook_bits=16 * 16)
    assert size == (40, 50, 18, 288, 256)
    assert size.total == 652


@given(st.integers(1, 6), st.integers(0, 2**16))
def test_a_codebook_keeps_zeros_and_only_zeros(code_bits: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((30, 20)) * (rng.random((30, 20)) < 0.4)
    table = share(weight, code_bits)
    codes = assign(weight, table)
    assert table[0] == 0
    assert len(table) <= 2**code_bits
    assert np.array_equal(codes == 0, weight == 0)


def test_a_shared_layer_keeps_its_weights() -> None:
    table = np.array([0.0, -1.5, 0.25, 3.0])
    codes = np.random.default_rng(0).integers(0, 4, (20, 30))
    found = share(table[codes], code_bits=4)
    assert np.array_equal(found[assign(table[codes], found)], table[codes])


def test_a_given_codebook_takes_the_nearest() -> None:
    assert assign([0.0, 0.9, -5.0, 0.1], [0.0, 1.0, -1.0]).tolist() == [0, 1, 2, 1]
    with pytest.raises(InputError, match="entry 0 equal to zero"):
        assign([1.0], [1.0, 2.0])


def test_k_means_is_better_than_uniform_steps() -> None:
    weight = np.random.default_rng(1).standard_normal(5000) ** 3
    table = share(weight, 4)
    steps = np.concatenate([[0.0], np.linspace(weight.min(), weight.max(), 15)])
    errors = [np.square(weight - t[assign(weight, t)]).mean() for t in (table, steps)]
    assert errors[0] < errors[1]


@pytest.mark.parametrize("code_bits", [2, 3, 5, 8])
def test_entries_are_the_means_of_their_weights_and_as_good_as_those_of_scikit_learn(code_bits: int) -> None:
    from sklearn.cluster import KMeans

    weight = np.random.default_rng(3).standard_normal(3000) ** 3
    table = share(weight, code_bits)
    codes = assign(weight, table)
    assert table[1:] == pytest.approx([weight[codes == code].mean() for code in range(1, len(table))], rel=1e-9)
    start = np.linspace(weight.min(), weight.max(), 2**code_bits - 1)[:, None]
    theirs = KMeans(len(start), init=start, n_init=1, random_state=0).fit(weight[:, None])
    assert len(table) == 2**code_bits
    assert np.square(weight - table[codes]).sum() <= 1.3 * theirs.inertia_


@pytest.mark.parametrize("sharing", [True, False])
def test_quantised_codes_stand_for_their_weights(sharing: bool) -> None:
    rng = np.random.default_rng(2)
    weight = rng.standard_normal((20, 30)) * (rng.random((20, 30)) < 0.5)
    engine = EieConfig(weight_sharing=sharing, code_bits=4 if sharing else 16, spmat_width_bits=64)
    codes, table = quantise(weight, engine.code_bits, engine.weight_bits if sharing else None)
    assert table.integers[0] == 0
    assert np.array_equal(codes == 0, weight == 0)
    step = 2.0**-table.fraction_bits
    if not sharing:
        assert np.abs(table.real[codes] - weight).max() <= step / 2


@given(st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=1, max_size=20), st.integers(2, 32))
def test_fixed_point_rounds_to_half_a_unit(values: list[float], bits: int) -> None:
    fixed = fixed_point(np.array(values), bits)
    top = 2 ** (bits - 1) - 1
    assert np.abs(fixed.integers).max() <= top
    unit = 2.0**-fixed.fraction_bits
    for value, integer in zip(values, fixed.integers, strict=True):
        assert (integer == 0) == (value == 0)
        assert abs(integer * unit - value) <= max(unit / 2, unit - abs(value) if abs(value) < unit else 0) * (1 + 1e-12)
