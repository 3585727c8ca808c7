"""Is a damaged or malicious tensor file refused before anything is allocated or run, with a message that says why?"""

from __future__ import annotations

import json
import os
import pickle
import struct
import tempfile
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save, save_file

from accelsim import InputError, load_network, simulate
from accelsim.config import shipped_dir


def safetensors(path: Path, header: dict[str, Any] | bytes, data: bytes = b"", length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def tensor(shape: list[int], start: int, stop: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


def npy(shape: Any, descr: Any, data: bytes, *, version: bytes = b"\x01\x00") -> bytes:
    return npy_raw(f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape!r}, }}\n", data, version)


def npy_raw(header: str, data: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    return b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header.encode() + data


def npz(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{name.replace('__', '.')}.npy", content)
    return path


def problems_of(path: Path) -> tuple[str, ...]:
    with pytest.raises(InputError) as caught:
        simulate(load_network(path), "eie-64pe-45nm", 1.0)
    assert all(str(path) in problem for problem in caught.value.problems)
    return caught.value.problems


ONES = np.ones((2, 2), "<f4").tobytes()


def test_the_files_that_the_damage_is_done_to_are_read(tmp_path: Path) -> None:
    mapped = load_network(safetensors(tmp_path / "a.safetensors", {"fc.weight": tensor([2, 2], 0, 16)}, ONES))
    loaded = load_network(npz(tmp_path / "a.npz", fc__weight=npy((2, 2), "<f4", ONES)))
    for net in (mapped, loaded):
        np.testing.assert_array_equal(net["fc"].weight, np.ones((2, 2)))


@pytest.mark.parametrize(
    ("header", "data", "length"),
    [
        ({"w.weight": tensor([2, 2], 0, 16)}, ONES[:8], None),
        ({"w.weight": tensor([2, 2], 0, 16)}, ONES + ONES, None),
        ({"w.weight": tensor([2, 2], 1000, 1016)}, ONES, None),
        ({"w.weight": tensor([2, 2], 16, 0)}, ONES, None),
        ({"a.weight": tensor([2, 2], 0, 16), "b.weight": tensor([2, 2], 8, 24)}, ONES + ONES[:8], None),
        ({"w.weight": tensor([2, 2], 0, 15)}, ONES[:15], None),
        ({"w.weight": tensor([2**60, 2**60], 0, 16)}, ONES, None),
        ({"w.weight": tensor([2**32, 2**32], 0, 0)}, b"", None),
        ({"w.weight": tensor([-2, -2], 0, 16)}, ONES, None),
        ({"w.weight": "text"}, ONES, None),
        ({"w.weight": tensor([2, 2], 0, 16)}, ONES, 2**63),
        ({"w.weight": tensor([2, 2], 0, 16)}, ONES, 2**40),
        ({"w.weight": tensor([2, 2], 0, 16)}, ONES, 3),
        (b"{hello", b"", None),
        (b"[]", b"", None),
        (b'{"w.weight": NaN}', b"", None),
        (b"\xff\xfe{}", b"", None),
        (b'{"a":' + b"[" * 20000 + b"]" * 20000 + b"}", b"", None),
    ],
    ids=[
        "truncated", "too long", "outside", "backwards", "overlapping", "wrong size", "absurd", "overflow", "negative",
        "no table", "header 2^63", "header 2^40", "header short", "no json", "list", "nan", "no utf-8",
        "deep",
    ],
)  # fmt: skip
def test_a_lying_safetensors_header_is_refused(tmp_path: Path, header: Any, data: bytes, length: int | None) -> None:
    (problem,) = problems_of(safetensors(tmp_path / "a.safetensors", header, data, length))
    assert problem.startswith(f"{tmp_path}/a.safetensors: not a complete safetensors file: ")
    assert problem.endswith("; export or copy it again")


@pytest.mark.parametrize("keep", [0, 4, 8, 20, -1])
def test_a_truncated_safetensors_file_is_refused(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(save({"fc.weight": np.ones((2, 2), np.float32)})[:keep])
    (problem,) = problems_of(path)
    assert ("not a complete safetensors file" if keep else "is empty") in problem


def test_a_type_that_is_not_supported_is_refused_only_where_it_is_used(tmp_path: Path) -> None:
    header = {"fc.weight": tensor([2, 2], 0, 16), "q.scale": tensor([4], 16, 20, "F8_E8M0")}
    assert load_network(safetensors(tmp_path / "a.safetensors", header, ONES + b"\0" * 4))["fc"].out_features == 2
    header = {"fc.weight": tensor([2, 2], 0, 16), "q.weight": tensor([2, 2], 16, 20, "F8_E8M0")}
    (problem,) = problems_of(safetensors(tmp_path / "a.safetensors", header, ONES + b"\0" * 4))
    assert "layer q: weight: 'q.weight' has type F8_E8M0, which is not supported; convert it to one of" in problem


class _MakesADirectory:
    """An object whose unpickling would leave a trace."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    trace = tmp_path / "unpickled"
    payload = pickle.dumps(_MakesADirectory(trace))
    path = npz(tmp_path / "a.npz", fc__weight=npy((1, 1), "|O", payload))
    (problem,) = problems_of(path)
    assert "layer fc: weight: 'fc.weight' holds Python objects, which are never unpickled" in problem
    assert not trace.exists()
    pickle.loads(payload)  # noqa: S301 - the payload would have worked
    assert trace.exists()


def test_objects_are_not_unpickled_either_where_a_file_changes_after_it_was_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = tmp_path / "unpickled"
    net = load_network(npz(tmp_path / "a.npz", fc__weight=npy((2, 2), "<f4", ONES)))
    npz(tmp_path / "a.npz", fc__weight=npy((1, 1), "|O", pickle.dumps(_MakesADirectory(trace))))
    with pytest.raises(InputError, match=r"a\.npz: has changed since it was opened"):
        _ = net["fc"].weight
    # A change that leaves no trace: same size, same time.
    monkeypatch.setattr("accelsim.network.files.tensor_file.TensorFile._now", lambda file: file._version)
    with pytest.raises(InputError, match=r"a\.npz: 'fc\.weight' cannot be read: Object arrays cannot be loaded"):
        _ = net["fc"].weight
    assert not trace.exists()


def test_a_header_is_data_and_not_code(tmp_path: Path) -> None:
    trace = tmp_path / "executed"
    (problem,) = problems_of(npz(tmp_path / "a.npz", fc__weight=npy_raw(f"__import__('os').mkdir({str(trace)!r})")))
    assert "not a complete npz file" in problem
    assert not trace.exists()


@pytest.mark.parametrize(
    "member",
    [
        npy((10**6, 10**6), "<f4", ONES),
        npy((2**60, 2**60), "<f4", ONES),
        npy((-1, -4), "<f4", ONES),
        npy((-2, 2), "<f4", ONES),
        npy((True, True), "<f4", ONES[:4]),
        npy("ab", "<f4", ONES),
        npy((2, 2), "<f4", ONES[:8]),
        npy((2, 2), "<f4", ONES, version=b"\x09\x00"),
        npy_raw("(" * 3000),
        b"hello",
        b"",
    ],
    ids=["4 TB", "2^120", "negative", "half negative", "bools", "text", "short", "version 9", "deep", "alien", "empty"],
)  # fmt: skip
def test_a_lying_npz_member_is_refused(tmp_path: Path, member: bytes) -> None:
    (problem,) = problems_of(npz(tmp_path / "a.npz", fc__weight=member))
    assert problem.startswith(f"{tmp_path}/a.npz: not a complete npz file: ")


@pytest.mark.parametrize("descr", ["<c8", "<U1", "<M8[s]", "|V4", "<f16", [("a", "<f4")]])
def test_an_npz_of_other_things_than_numbers_is_refused(tmp_path: Path, descr: Any) -> None:
    dtype = np.dtype(descr)
    (problem,) = problems_of(npz(tmp_path / "a.npz", fc__weight=npy((1, 1), descr, b"\0" * dtype.itemsize)))
    assert f"layer fc: weight: 'fc.weight' has type {dtype}, which is not supported; convert it to" in problem


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, **{"fc.weight": np.ones((20, 20))})
    whole = path.read_bytes()
    flags = whole.find(b"PK\x01\x02") + 8
    for damaged in (
        b"",
        b"no zip",
        whole[: len(whole) // 2],
        whole[:300] + b"\x55" + whole[301:],  # a checksum that no longer fits
        whole[:flags] + b"\x01" + whole[flags + 1 :],  # marked as encrypted
        whole[: flags + 2] + b"\x63" + whole[flags + 3 :],  # packed by an unknown method
    ):
        path.write_bytes(damaged)
        (problem,) = problems_of(path)
        assert any(said in problem for said in ("not a complete npz file", "cannot be read", "is empty"))


def test_an_array_larger_than_memory_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, **{"fc.weight": np.zeros((1024, 1024))})
    net = load_network(path)
    sizes = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1024}  # a machine of 4 MiB
    monkeypatch.setattr(os, "sysconf", sizes.__getitem__)
    with pytest.raises(InputError, match=r"a\.npz: 'fc\.weight': needs .* GiB, this machine has"):
        _ = net["fc"].weight


GOOD = {
    ".safetensors": save({"fc.weight": np.eye(3, 5, dtype=np.float32), "fc.bias": np.ones(3, np.float32)}),
    ".npz": b"",
}
with tempfile.TemporaryFile() as _file:
    np.savez_compressed(_file, **{"fc.weight": np.eye(3, 5), "fc.bias": np.ones(3)})
    _file.seek(0)
    GOOD[".npz"] = _file.read()


@given(
    suffix=st.sampled_from(sorted(GOOD)),
    place=st.floats(0, 1, exclude_max=True),
    value=st.integers(0, 255),
    cut=st.booleans(),
)
@pytest.mark.filterwarnings("ignore:layer .* all weights are zero")
def test_any_damaged_byte_gives_numbers_or_a_message(suffix: str, place: float, value: int, cut: bool) -> None:
    content = bytearray(GOOD[suffix])
    position = int(place * len(content))
    content[position:] = b"" if cut else bytes([value]) + content[position + 1 :]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a{suffix}"
        path.write_bytes(content)
        with suppress(InputError):  # any other exception fails the test
            assert len(simulate(load_network(path), "eie-64pe-45nm", 1.0)) == 1


CASES = Path(__file__).parent / "cases" / "files"


def test_zero_points_of_another_type_are_told(tmp_path: Path) -> None:
    arrays = load_file(CASES / "gptq.safetensors")
    (name,) = [each for each in arrays if each.endswith(".qzeros")]
    arrays[name] = arrays[name].view(np.int8)[:, : arrays[name].shape[1]].copy()
    save_file(arrays, tmp_path / "net.safetensors")
    with pytest.raises(InputError, match="'qzeros' has type int8, where words of 32 bits belong"):
        simulate(load_network(tmp_path / "net.safetensors"), "eie-64pe-45nm", 1.0)


@pytest.mark.parametrize(("cell", "place"), [("1e300", 5), ("1e-300", 6), ("inf", 7), ("0", 5), ("9" * 30, 3)])
def test_a_number_of_a_price_table_has_a_largest_value(tmp_path: Path, accelsim: Run, cell: str, place: int) -> None:
    folder = shipped_dir("hwconfigs/technology")
    lines = (folder / "sram_cacti7.csv").read_text(encoding="utf-8").splitlines()
    row = next(number for number, line in enumerate(lines) if line.startswith("45,itrs-hp,ED2,"))
    cells = lines[row].split(",")
    cells[place] = cell
    lines[row] = ",".join(cells)
    (tmp_path / "mine.csv").write_text("\n".join(lines), encoding="utf-8")
    technology = (folder / "cmos-45nm.toml").read_text(encoding="utf-8").replace("sram_cacti7.csv", "mine.csv")
    (tmp_path / "mine.toml").write_text(technology, encoding="utf-8")
    command = ("run", "lenet-300-100-digits", "--against", "none", "--set", f"technology={tmp_path / 'mine.toml'}")
    assert "mine.csv: " in accelsim(*command).errors[0]
