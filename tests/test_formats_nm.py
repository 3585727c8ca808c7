"""N:M packing: round trips, sizes against formulas and a table from outside, legal codes, and errors."""

from __future__ import annotations

from itertools import combinations
from math import ceil, comb, log2
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
from conftest import EVIDENCE
from hypothesis import given
from hypothesis import strategies as st
from strategies import NmCase, nm_cases

from accelsim.errors import InputError
from accelsim.formats import nm

METADATA = st.sampled_from(nm.METADATA)


@given(nm_cases(), METADATA)
def test_decode_inverts_encode(case: NmCase, metadata: str) -> None:
    stored = nm.encode(case.weight, case.n, case.m, metadata=metadata, pad=True)
    assert stored.values.dtype == case.weight.dtype
    assert stored.values.shape == (len(case.weight) * ceil(case.weight.shape[1] / case.m), case.n)
    assert np.array_equal(stored.decode(), case.weight)


@given(nm_cases(), METADATA)
def test_slabs_change_nothing(case: NmCase, metadata: str) -> None:
    whole = nm.encode(case.weight, case.n, case.m, metadata=metadata, pad=True)
    with patch.object(nm, "SLAB_GROUPS", 8):
        slabs = nm.encode(case.weight, case.n, case.m, metadata=metadata, pad=True)
        assert np.array_equal(slabs.decode(), case.weight)
    assert np.array_equal(slabs.values, whole.values)
    assert np.array_equal(slabs.stream, whole.stream)


@given(nm_cases())
def test_codes_agree_on_the_places(case: NmCase) -> None:
    stored = [nm.encode(case.weight, case.n, case.m, metadata=code, pad=True) for code in nm.METADATA]
    for other in stored[1:]:
        assert np.array_equal(other.places(), stored[0].places())
        assert np.array_equal(other.values, stored[0].values)
    assert np.all(np.diff(stored[0].places().astype(int), axis=1) > 0)


@given(nm_cases(), METADATA)
def test_the_stream_is_as_long_as_the_size_says(case: NmCase, metadata: str) -> None:
    stored = nm.encode(case.weight, case.n, case.m, metadata=metadata, pad=True)
    assert len(stored.stream) == ceil(stored.bits().metadata / 8)
    assert stored.bits().values == 8 * stored.values.nbytes
    assert stored.bits(4).total == 4 * stored.values.size + stored.bits().metadata


@pytest.mark.parametrize(("n", "m"), [(1, 2), (1, 4), (2, 4), (3, 4), (4, 8), (8, 16), (5, 7), (16, 32), (4, 4)])
def test_metadata_bits_a_group_are_the_fewest_that_tell_its_codes_apart(n: int, m: int) -> None:
    """An index tells M places apart, a bitmask is M flags, a rank tells C(M, N) combinations apart."""
    assert nm.group_bits(n, m, "index") == n * ceil(log2(m))
    assert nm.group_bits(n, m, "bitmask") == m
    patterns = len(list(combinations(range(m), n))) if m <= 16 else comb(m, n)
    assert (
        2 ** nm.group_bits(n, m, "combination") >= patterns > 2 ** (nm.group_bits(n, m, "combination") - 1) - (n == m)
    )


@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 4), (2, 4), (4, 4), (3, 7)])
def test_combinations_are_ranked_without_gaps(n: int, m: int) -> None:
    kept = np.array(sorted(combinations(range(m), n), key=lambda places: places[::-1]))
    weight = np.zeros((1, comb(m, n), m), np.float32)
    np.put_along_axis(weight[0], kept, 1, axis=1)
    stored = nm.encode(weight.reshape(1, -1), n, m, metadata="combination")
    width = nm.group_bits(n, m, "combination")
    bits = np.unpackbits(stored.stream, count=width * len(kept), bitorder="little").reshape(len(kept), width)
    assert (bits @ 2 ** np.arange(width)).tolist() == list(range(comb(m, n)))


def test_codes_of_the_sparse_tensor_core() -> None:
    """PTX ISA: the six legal 4-bit codes of 2:4, the lower index in the lower bits; a byte holds two groups."""
    legal = {(0, 1): 0b0100, (0, 2): 0b1000, (1, 2): 0b1001, (0, 3): 0b1100, (1, 3): 0b1101, (2, 3): 0b1110}
    for places, code in legal.items():
        weight = np.zeros((1, 8), np.float16)
        weight[0, list(places)] = weight[0, [6, 7]] = 1
        assert nm.encode(weight, 2, 4).stream.tolist() == [0b1110 << 4 | code]


def test_padding_zeros_keep_the_code_legal() -> None:
    """A group of four with one non-zero, and one with none: zeros stand at the lowest free places."""
    stored = nm.encode(np.array([[0, 0, 7, 0, 0, 0, 0, 0]]), 2, 4)
    assert stored.places().tolist() == [[0, 2], [0, 1]]
    assert stored.values.tolist() == [[0, 7], [0, 0]]


@pytest.mark.parametrize(
    ("metadata", "code"), [("index", 0b0000), ("index", 0b0101), ("index", 0b1010), ("index", 0b1111),
                           ("index", 0b0001), ("bitmask", 0b0111), ("combination", 6)]
)  # fmt: skip
def test_codes_that_no_encoder_writes_are_refused(metadata: str, code: int) -> None:
    stored = nm.NmMatrix((1, 4), 2, 4, metadata, np.ones((1, 2)), np.array([code], np.uint8))
    with pytest.raises(InputError, match="group 0 is not a legal code"):
        stored.decode()


@pytest.mark.parametrize("slab", [8, 1 << 16])
def test_a_broken_pattern_names_its_first_place(slab: int) -> None:
    weight = np.zeros((5, 16), np.float32)
    weight[3, 8:11] = 1
    weight[4, :4] = 1
    with (
        pytest.raises(InputError, match=r"row 3, group 2 \(columns 8 to 11\) has 3 non-zeros.*'nm:2:4'"),
        patch.object(nm, "SLAB_GROUPS", slab),
    ):
        nm.encode(weight, 2, 4)


def test_columns_that_m_does_not_divide() -> None:
    weight = np.array([[1.0, 0, 0, 2, 3, 4]])
    with pytest.raises(InputError, match=r"6 columns, which 4 does not divide.*pad=True to append 2"):
        nm.encode(weight, 2, 4)
    stored = nm.encode(weight, 2, 4, pad=True)
    assert stored.values.tolist() == [[1, 2], [3, 4]]
    assert np.array_equal(stored.decode(), weight)


def test_every_mistake_is_named_at_once() -> None:
    with pytest.raises(InputError) as error:
        nm.encode(np.ones((1, 4)), 5, 4, metadata="indx")
    assert len(error.value.problems) == 2
    assert "1 <= N <= M <= 32" in str(error.value)
    assert "did you mean 'index'" in str(error.value)
    with pytest.raises(InputError, match=r"\(2, 2, 3, 3\)"):
        nm.encode(np.ones((2, 2, 3, 3)), 2, 4)


def test_sizes_against_the_table_of_patterns() -> None:
    """Each row: a weight of 64 rows of 4096 with exactly N of M kept."""
    table = pd.read_csv(EVIDENCE / "nm" / "nm_metadata_nm.csv")
    columns = {"index": "index_bits_per_kept_fixed_width", "bitmask": "bitmask_bits_per_kept",
               "combination": "packed_combination_bits_per_kept"}  # fmt: skip
    for row in table.to_dict("records"):
        n, m = map(int, row["pattern"].split(":"))
        weight = np.tile(np.arange(m) < n, (64, 4096 // m)).astype(np.float16)
        for metadata, column in columns.items():
            bits = nm.encode(weight, n, m, metadata=metadata).bits()
            assert bits.metadata / np.count_nonzero(weight) == pytest.approx(row[column], abs=5e-5)
        for value_bits, name in ((16, "fp16"), (8, "8bit"), (4, "4bit")):
            ratio = nm.encode(weight, n, m).bits(value_bits).total / (weight.size * value_bits)
            assert ratio == pytest.approx(row[f"storage_ratio_{name}_fixed"], abs=5.1e-5)
            assert 1 / ratio == pytest.approx(row[f"compression_{name}"], abs=5.1e-5)


@given(st.integers(0, 2**16), st.integers(1, 8), st.sampled_from([0.1, 0.4, 0.7, 1.0]))
def test_a_weight_holds_a_pattern_if_it_can_be_packed(seed: int, n: int, density: float) -> None:
    rng = np.random.default_rng(seed)
    weight = (rng.random((6, 16)) < density) * 1.0
    packable = True
    try:
        nm.encode(weight, n, 8)
    except InputError:
        packable = False
    assert nm.holds(weight, n, 8) == packable
    # Of a convolution the groups lie along the channels, whatever the place.
    places = weight.reshape(6, 2, 2, 4).transpose(0, 3, 1, 2)
    grouped = np.count_nonzero(weight.reshape(6, 2, 2, 4), axis=3)
    assert nm.holds(np.ascontiguousarray(places), min(n, 4), 4) == (grouped <= min(n, 4)).all()


@given(st.integers(0, 2**16), st.integers(1, 32), st.integers(1, 5), st.data())
def test_a_pattern_holds_where_no_group_has_more_than_n(seed: int, m: int, side: int, data: st.DataObject) -> None:
    n = data.draw(st.integers(1, m))
    rng = np.random.default_rng(seed)
    shape = rng.integers(1, 4), rng.integers(1, 140), side, side
    weight = (rng.random(shape) < rng.random() * n / m).astype(data.draw(st.sampled_from([np.float32, np.int8])))
    groups = [(weight[:, first : first + m] != 0).sum(axis=1) for first in range(0, shape[1], m)]
    assert nm.holds(weight, n, m) == all((kept <= n).all() for kept in groups)
    assert nm.holds(-weight[:, :, 0, 0], n, m) == all((kept[:, 0, 0] <= n).all() for kept in groups)


def test_one_group_too_full_is_found_wherever_it_is() -> None:
    weight = np.zeros((3, 150), np.float32)
    weight[:, ::2] = 1
    assert nm.holds(weight, 2, 4)
    for row, column in ((0, 1), (1, 63), (1, 65), (2, 147)):
        broken = weight.copy()
        broken[row, column] = 1
        assert not nm.holds(broken, 2, 4)
    weight[2, 149] = 1  # the last two are a group by themselves
    assert nm.holds(weight, 2, 4)
