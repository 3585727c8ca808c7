"""Dense, bitmask, CSR and BSR storage: round trips, sizes by formula and against a table from outside, errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import EVIDENCE
from hypothesis import given
from hypothesis import strategies as st
from strategies import sparse_matrices

from accelsim.errors import InputError
from accelsim.formats import bitmask, block_bitmask, bsr, csr, dense, nm
from accelsim.formats.storage import StoredMatrix

ENCODERS: dict[str, Callable[[np.ndarray], StoredMatrix]] = {
    "dense": dense.encode,
    "bitmask": bitmask.encode,
    "csr": csr.encode,
    "block bitmask": lambda weight: block_bitmask.encode(weight, (3, 5)),
    "bsr": lambda weight: bsr.encode(weight, (3, 5), pad=True),
}


@pytest.mark.parametrize("name", ENCODERS)
@given(weight=sparse_matrices())
def test_decode_inverts_encode(name: str, weight: np.ndarray) -> None:
    stored = ENCODERS[name](weight)
    decoded = stored.decode()
    assert stored.shape == weight.shape
    assert decoded.dtype == weight.dtype
    assert np.array_equal(decoded, weight)


@given(sparse_matrices(), st.integers(1, 32))
def test_sizes_follow_from_the_non_zeros(weight: np.ndarray, value_bits: int) -> None:
    rows, columns = weight.shape
    nonzeros = int(np.count_nonzero(weight))
    assert dense.encode(weight).bits(value_bits) == (rows * columns * value_bits, 0, 0)
    assert bitmask.encode(weight).bits(value_bits) == (nonzeros * value_bits, rows * columns, 0)
    stored = csr.encode(weight, index_bits=12, pointer_bits=25).bits(value_bits)
    assert stored == (nonzeros * value_bits, nonzeros * 12, (rows + 1) * 25)
    assert stored.total == nonzeros * (value_bits + 12) + stored.pointers
    assert stored.metadata == stored.indices + stored.pointers
    assert csr.encode(weight).bits() == (nonzeros * 8 * weight.itemsize, nonzeros * 16, (rows + 1) * 32)


@given(sparse_matrices(), st.integers(1, 5), st.integers(1, 5))
def test_a_block_bitmask_stores_no_more_of_a_block_than_there_is(weight: np.ndarray, r: int, c: int) -> None:
    rows, columns = weight.shape
    kept = {(i // r, j // c) for i, j in np.argwhere(weight)}
    elements = sum(min(r, rows - i * r) * min(c, columns - j * c) for i, j in kept)
    assert block_bitmask.encode(weight, (r, c)).bits(7) == (elements * 7, -(-rows // r) * -(-columns // c), 0)
    with pytest.raises(InputError, match=r"block: sides must be at least 1 \(got 0 x"):
        block_bitmask.encode(weight, (0, c))


@given(sparse_matrices(), st.integers(1, 5), st.integers(1, 5))
def test_blocks_are_stored_where_any_weight_is(weight: np.ndarray, r: int, c: int) -> None:
    stored = bsr.encode(weight, (r, c), pad=True)
    kept = {(i // r, j // c) for i, j in np.argwhere(weight)}
    assert set(zip(*(axis.tolist() for axis in stored.places.places()), strict=True)) == kept
    bits = stored.bits(7)
    assert bits == (len(kept) * r * c * 7, len(kept) * 16, (-(-len(weight) // r) + 1) * 32)


@given(sparse_matrices())
def test_blocks_of_one_are_compressed_rows(weight: np.ndarray) -> None:
    assert bsr.encode(weight, (1, 1)).bits() == csr.encode(weight).bits()


def test_a_matrix_by_hand() -> None:
    weight = np.array([[0, 5, 0], [0, 0, 0], [7, 0, 8]], np.int8)
    mask = bitmask.encode(weight)
    assert mask.values.tolist() == [5, 7, 8]
    assert mask.mask.tolist() == [0b01000010, 0b1]
    rows = csr.encode(weight)
    assert rows.places.columns.tolist() == [1, 0, 2]
    assert rows.places.pointers.tolist() == [0, 1, 1, 3]


@pytest.mark.parametrize(
    ("encode", "message"),
    [
        (lambda w: csr.encode(w, index_bits=2), "index_bits: 2 bits reach 4 columns, here are 6"),
        (lambda w: csr.encode(w, pointer_bits=5), "pointer_bits: 5 bits count to 31, here are 36"),
        (lambda w: bsr.encode(w, (4, 3)), "6 rows, which 4 does not divide"),
        (lambda w: bsr.encode(w, (3, 4)), "6 columns, which 4 does not divide"),
        (lambda w: bsr.encode(w, (0, 4)), "sides must be at least 1"),
        (lambda w: bsr.encode(w, (1, 1), index_bits=2), "index_bits"),
        (lambda w: dense.encode(w[0]), "matrices"),
        (lambda w: bitmask.encode(w[0]), "matrices"),
    ],
)
def test_errors(encode: Callable[[np.ndarray], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        encode(np.ones((6, 6)))


def test_both_widths_are_named_at_once() -> None:
    with pytest.raises(InputError) as error:
        csr.encode(np.ones((6, 6)), index_bits=2, pointer_bits=5)
    assert len(error.value.problems) == 2


def test_sizes_against_the_table_of_densities() -> None:
    """A matrix of 4096 x 4096; sizes depend on the number of non-zeros alone, so they may all lie in front."""
    table = pd.read_csv(EVIDENCE / "nm" / "nm_metadata_unstructured.csv")
    for row in table.to_dict("records"):
        weight = np.zeros((4096, 4096), np.int8)
        nonzeros = round(row["density_iid"] * weight.size)
        weight.ravel()[:nonzeros] = 1
        # 0.3333 is a third in the table.
        assert bitmask.encode(weight).bits().metadata / nonzeros == pytest.approx(row["bitmask"], rel=1.1e-4)
        for index_bits, pointer_bits in ((16, 32), (12, 25)):
            bits = csr.encode(weight, index_bits=index_bits, pointer_bits=pointer_bits).bits()
            expected = row[f"csr_{index_bits}b_col_{pointer_bits}b_ptr"]
            assert bits.metadata / nonzeros == pytest.approx(expected, abs=5.1e-4)


@given(sparse_matrices(), st.sampled_from([(1, 1), (2, 3), (4, 4)]))
def test_sizes_follow_from_zeros_alone(weight: np.ndarray, block: tuple[int, int]) -> None:
    kept, value_bits = weight != 0, 8 * weight.itemsize
    assert bitmask.size(kept, value_bits) == bitmask.encode(weight).bits()
    assert csr.size(kept, value_bits, index_bits=20) == csr.encode(weight, index_bits=20).bits()
    assert bsr.size(kept, value_bits, block) == bsr.encode(weight, block, pad=True).bits()
    rows, columns = weight.shape
    assert nm.size((rows, columns), value_bits, 4, 4) == nm.encode(weight, 4, 4, pad=True).bits()
