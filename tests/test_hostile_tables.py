"""Tables of anyone, as CSV, JSON and Parquet: is what is odd in them told, and what is large not unpacked?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Run

from accelsim import InputError
from accelsim.config import read_columns
from accelsim.report import reading
from accelsim.report.parquet_pages import check_pages
from accelsim.report.plots.kinds import figure
from accelsim.report.reading import read_table
from accelsim.scalesim import read_topology


def test_a_line_that_is_none_of_a_table_is_told(tmp_path: Path) -> None:
    (tmp_path / "net.csv").write_text("Layer,M,N,K\na,1,1,1\n" + "n" * 200_000 + ",1,1,1\n")
    with pytest.raises(InputError, match=r"net.csv: line 3: is no line of a table \(field larger than field limit"):
        read_topology(tmp_path / "net.csv")


def test_short_rows_below_a_wide_header_are_not_filled_up_without_end(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a" + "," * 100_000 + "\n" + "1\n" * 100)
    with pytest.raises(InputError, match=r"a.csv: has more than 4,194,304 cells, short rows filled up"):
        read_columns(path)


def test_halves_of_characters_in_a_table_are_escaped(tmp_path: Path, accelsim: Run) -> None:
    path = tmp_path / "a.json"
    path.write_text(r'[{"\ud800": 1, "b": "\udfff", "layer": "fc"}]')
    table = read_table(path)
    assert table.columns.tolist() == [r"\ud800", "b", "layer"]
    assert table["b"].tolist() == [r"\udfff"]
    assert accelsim("plot", path, "storage").code == 2


@pytest.mark.parametrize("name", ["version", "engine", "layer_hash", "layer", "x"])
@pytest.mark.parametrize("cell", [[], [1], {}, {"a": 1}])
def test_a_cell_of_a_table_is_plain(tmp_path: Path, name: str, cell: object) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"layer_hash": "a", "layer": "fc"}, {name: cell}]))
    with pytest.raises(InputError, match=rf"a.json: {name}: holds a list or a table in row 2; a cell is"):
        read_table(path)


def test_a_text_that_a_parquet_file_repeats_counts_as_often_as_it_comes(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    long = arrow.array(["n" * 100_000]).dictionary_encode().take(arrow.array([0] * 1000))
    parquet.write_table(arrow.table({"name": long}), path, compression="zstd")
    assert path.stat().st_size < 10_000  # which are 100 MB
    with pytest.raises(InputError, match=r"a.parquet: name: its texts have more than 64 MiB written out; keep a part"):
        read_table(path)
    short = arrow.array(["fc", "conv", "fc"]).dictionary_encode()
    parquet.write_table(arrow.table({"name": short, "n": [1, 2, 3]}), path)
    assert read_table(path)["name"].tolist() == ["fc", "conv", "fc"]


def test_a_parquet_file_of_other_things_than_numbers_and_texts_is_refused(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    columns = {
        "lists": arrow.array([[1, 2]]),
        "bytes": arrow.array([b"\xff"]),
        "dates": arrow.array([2**31 - 1], arrow.date32()),
        "times": arrow.array([2**53], arrow.timestamp("ms")),
        "tables": arrow.array([{"a": 1}]),
        "fine": arrow.array([1.5]),
    }
    parquet.write_table(arrow.table(columns), path)
    with pytest.raises(InputError) as caught:
        read_table(path)
    assert [problem.split(": ")[1] for problem in caught.value.problems] == list(columns)[:-1]


def test_a_column_that_is_drawn_holds_numbers() -> None:
    table = pd.DataFrame({"layer": ["a", "b"], "dense_bits": [64, 32]} | {key: [8, 16] for key in _formats()})
    assert figure(table, "storage").axes
    with pytest.raises(InputError, match="csr_bits: must be a number"):
        figure(table.assign(csr_bits=["a", "b"]), "storage")
    with pytest.raises(InputError, match="csr_bits: must be 0 to 1e"):
        figure(table.assign(csr_bits=[np.inf, 1.0]), "storage")


def _formats() -> list[str]:
    from accelsim.report.plots.storage import FORMATS

    return list(FORMATS)


def zigzag(number: int, least: int = 1) -> bytes:
    """Return a number as Thrift's compact protocol has it, in so many bytes at least."""
    found = bytearray()
    number *= 2
    while number or len(found) < least:
        found.append(number & 127 | 128)
        number >>= 7
    found[-1] &= 127
    return bytes(found)


@pytest.mark.parametrize("compression", ["zstd", "gzip", "snappy", "none"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_a_parquet_page_that_holds_more_than_its_file_says_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression: str, version: str
) -> None:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    table = arrow.table({"n": [1, 2], "name": ["fc", "n" * 3_000_000]})
    options: dict[str, Any] = {"use_dictionary": False, "write_statistics": False, "data_page_version": version}
    parquet.write_table(table, path, compression=compression, **options)
    assert read_table(path)["name"].tolist() == ["fc", "n" * 3_000_000]
    monkeypatch.setattr(reading, "MAX_FILE_BYTES", 2_000_000 if compression != "none" else 2**26)
    claimed = parquet.ParquetFile(path).metadata.row_group(0)
    content = path.read_bytes()
    body, footer = content[: -8 - int.from_bytes(content[-8:-4], "little")], b""
    footer = content[len(body) :]
    for size in {claimed.total_byte_size, claimed.column(1).total_uncompressed_size}:
        footer = footer.replace(zigzag(size), zigzag(1000, len(zigzag(size))))
    path.write_bytes(body + footer)
    if compression == "none":
        monkeypatch.setattr(reading, "MAX_FILE_BYTES", len(content))
        monkeypatch.setattr(reading, "check_pages", lambda *given: check_pages(*given[:3], 2_000_000))
    with pytest.raises(InputError, match=r"a.parquet: name: its pages have more than 1 MiB unpacked; write it again"):
        read_table(path)


def test_texts_that_begin_as_those_before_them_are_not_written_out(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    encoding = {"name": "DELTA_BYTE_ARRAY"}
    parquet.write_table(arrow.table({"name": ["aa", "ab"]}), path, use_dictionary=False, column_encoding=encoding)
    with pytest.raises(InputError, match="name: its texts are encoded as DELTA_BYTE_ARRAY, which is not read"):
        read_table(path)


@pytest.mark.parametrize("content", [b"\x15", b"\x15" + b"\xff" * 12, b"\x1c" * 20, b"\x19", b"\x18\xff\xff\xff\x7f"])
def test_a_page_that_is_none_is_told(content: bytes) -> None:
    with pytest.raises(ValueError, match="a page of it"):
        check_pages(content, 0, len(content), 1000)


@pytest.mark.parametrize("content", [b"\x22\x12\x21\x00", b"\x51\x00", b"\x2c\x00\x1c\x00\x00", b"\x00" * 50])
def test_a_page_whose_sizes_are_none_is_passed_over(content: bytes) -> None:
    check_pages(content, 0, len(content), 1000)  # what it holds, the reader of Parquet tells
