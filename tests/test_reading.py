"""Are results read back as they were written, and is every file that is none refused with its reason?"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

import accelsim
from accelsim.compare import compare
from accelsim.curves import curve
from accelsim.engines import ENGINES
from accelsim.errors import InputError
from accelsim.report import reading
from accelsim.report.files import write
from accelsim.report.reading import read_results, read_table

SUFFIXES = ("csv", "json", "parquet")


@pytest.fixture(scope="module")
def results() -> pd.DataFrame:
    """Two chips, one of which cannot hold a layer: whole numbers with empty cells."""
    small = accelsim.load_hardware("eie-64pe-45nm", {"name": "small", "engine.spmat_bytes": 40, "memory": None})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return accelsim.simulate("lenet-300-100-digits", ["eie-64pe-45nm", small, "edge-nm-16x16"])


def problems_of(path: Path, read: Callable[[Path], pd.DataFrame] = read_results) -> tuple[str, ...]:
    with pytest.raises(accelsim.InputError) as caught:
        read(path)
    assert all(str(path) in problem for problem in caught.value.problems)
    return caught.value.problems


def changed(results: pd.DataFrame, path: Path, **columns: object) -> Path:
    results.assign(**columns).to_csv(path, index=False)
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_results_come_back_as_they_were(results: pd.DataFrame, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"r.{suffix}"
    write(results, suffix, path)
    assert results["cycles"].dtype == "Int64"  # an unsupported layer has empty cells
    assert results["cycles"].isna().any()
    assert results["batch"].dtype == "int64"
    assert_frame_equal(read_results(path), results, check_exact=True)
    whole = accelsim.simulate("lenet-300-100-digits", "eie-64pe-45nm")
    write(whole, suffix, path)
    assert_frame_equal(read_table(path), whole, check_exact=True)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_tables_with_further_columns_come_back(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t.{suffix}"
    chips = ["eie-64pe-45nm", "edge-nm-16x16"]
    compared = compare("lenet-300-100-digits-dense", chips, ["fine", "nm:2:4"], 0.5)
    write(compared, suffix, path)
    assert_frame_equal(read_results(path), compared, check_exact=True)
    drawn = curve("lenet-300-100-digits-dense", chips, ["fine"], [0.5, 0.9])
    assert drawn["score"].isna().all()
    assert drawn["beats_given"].any()
    write(drawn, suffix, path)
    assert_frame_equal(read_table(path), drawn, check_exact=True)


def test_a_table_of_ones_own_is_typed_by_its_cells(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("name,n,x,ok,gap\nnan,1,1.5,True,\nNA,2,3,False,7\n", encoding="utf-8")
    table = read_table(path)
    assert table["name"].tolist() == ["nan", "NA"]
    assert [str(dtype) for dtype in table.dtypes[1:]] == ["int64", "float64", "bool", "Int64"]


def test_names_that_look_like_something_else_stay_names(results: pd.DataFrame, tmp_path: Path) -> None:
    names = ["", "nan", "1e5", "<script>", 'a,"b"', "True", "é", "-", "None"]
    for suffix in SUFFIXES:
        named = results.assign(layer=names)
        write(named, suffix, tmp_path / f"n.{suffix}")
        assert read_results(tmp_path / f"n.{suffix}")["layer"].tolist() == names


def test_results_of_a_machine_that_is_not_loaded_are_refused(results: pd.DataFrame, tmp_path: Path) -> None:
    """Its columns are unknown, so that a figure would leave out what its units wait for."""
    path, units = tmp_path / "rows.csv", tmp_path / "units.csv"
    write(results.assign(engine="gone"), "csv", path)
    write(accelsim.units("lenet-300-100-digits", "eie-64pe-45nm").assign(engine="gone"), "csv", units)
    for table in (path, units):
        with pytest.raises(InputError) as error:
            read_table(table)
        known = ", ".join(sorted(ENGINES))
        (problem,) = error.value.problems
        assert problem == (
            f"{table}: engine: 'gone' is not a machine that is loaded; known: {known}; name its "
            "module in ACCELSIM_ENGINES"
        )


def test_another_version_and_all_missing_columns_are_told_at_once(results: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "old.csv"
    old = results.assign(version="0.0.7").drop(columns=["cycles", "energy_pj"])
    old.assign(cycels=1).to_csv(path, index=False)
    version, missing = problems_of(path)
    assert "0.0.7" in version
    assert accelsim.__version__ in version
    assert "accelsim run" in version
    assert "cycles, energy_pj" in missing
    assert "did you mean 'cycels'" in missing


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("cycles", "12.5", "must be a whole number of 64 bits (got '12.5' in row 1)"),
        ("cycles", str(2**63), "whole number of 64 bits"),
        ("energy_pj", "a lot", "must be a number (got 'a lot' in row 1)"),
        ("energy_pj", "", "is empty in row 1"),
        ("macs", "", "is empty in row 1"),
    ],
)
def test_cells_of_a_wrong_type_are_named(
    results: pd.DataFrame, tmp_path: Path, column: str, value: str, said: str
) -> None:
    (problem,) = problems_of(changed(results, tmp_path / "w.csv", **{column: value}))
    assert f"{column}: " in problem
    assert said in problem


def test_json_types_are_checked_too(results: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "w.json"
    write(results, "json", path)
    rows = json.loads(path.read_text())
    rows[0] |= {"layer": 3, "cycles": True, "energy_pj": "much"}
    path.write_text(json.dumps(rows))
    assert [problem.split(": ")[1] for problem in problems_of(path)] == ["layer", "cycles", "energy_pj"]
    rows[0] |= {"energy_pj": [1], "time_us": {}}
    path.write_text(json.dumps(rows))
    assert {problem.split(": ")[1] for problem in problems_of(path)} == {"energy_pj", "time_us"}


def test_whole_numbers_that_another_program_wrote_with_a_point_are_whole(results: pd.DataFrame, tmp_path: Path) -> None:
    ran = results[results["executed_as"] != "unsupported"].reset_index(drop=True)
    read = read_results(changed(ran, tmp_path / "f.csv", cycles=ran["cycles"].astype(float)))
    assert read["cycles"].dtype == "int64"
    assert read["cycles"].tolist() == ran["cycles"].tolist()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", b"", "not a table of results"),
        ("a.csv", b"layer,cycles\n", "without rows"),
        ("a.csv", b"layer,layer\na,b\n", "stands 2 times"),
        ("a.csv", b"layer,cycles\na\n", "line 2: has 1 cells, the first line has 2"),
        ("a.csv", b"layer\n\xff\n", "UTF-8"),
        ("a.csv", b'layer\n"a\n', "is not CSV"),
        ("a.csv", b"," * 5000 + b"\n", "5001 columns"),
        ("a.csv", b"x\n" + b"y" * 200000 + b"\n", "is not CSV"),
        ("a.json", b"", "is not JSON"),
        ("a.json", b"[" * 100000, "is not JSON"),
        ("a.json", b'{"traceEvents": []}', "list of rows"),
        ("a.json", b"[]", "not a table of results"),
        ("a.json", b"[1, 2]", "list of rows"),
        ("a.parquet", b"PAR1 this is none PAR1", "is not a Parquet"),
        ("a.parquet", b"", "is not a Parquet"),
        ("a.toml", b"a = 1", ".csv, .json, .parquet"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert said in problems_of(path, read_table)[0]


def test_a_file_that_is_not_there_has_a_neighbour(tmp_path: Path) -> None:
    (tmp_path / "results.csv").write_text("layer\nfc1\n")
    assert "did you mean 'results.csv'" in problems_of(tmp_path / "result.csv")[0]


def test_size_is_asked_for_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "large.csv"
    with path.open("wb") as file:
        file.truncate(reading.MAX_FILE_BYTES + 1)  # sparse: takes no room on the disk
    monkeypatch.setattr(Path, "open", None)
    assert "more than the 64 that are read" in problems_of(path)[0]


@pytest.mark.thorough
def test_a_small_parquet_file_that_unpacks_to_much_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.parquet"
    pd.DataFrame({"a": [0] * (reading.MAX_CELLS + 1)}).to_parquet(path)
    assert path.stat().st_size < 1_000_000
    assert "keep a part" in problems_of(path)[0]
