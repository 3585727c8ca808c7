"""Does the comparison of two folders of tables see every difference, and only those?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

import accelsim
from benchmarks import tables


def test_what_is_written_is_read_back_to_the_last_bit(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [0.1 + 0.2, float("nan")], "b": pd.array([2**62, None], "Int64"), "c": ["x,y", ""]})
    tables._write_csv(tmp_path / "t.csv", frame)
    written = (tmp_path / "t.csv").read_text()
    assert written.splitlines() == ["a,b,c", '0.30000000000000004,4611686018427387904,"x,y"', ",,"]


@pytest.mark.parametrize(
    ("before", "after", "but", "said"),
    [
        ("a,b\n1,2.5\n", "a,b\n1,2.5\n", [], []),
        (
            "a,b\n1,2.5\n",
            "a,b\n1,2.0\n",
            [],
            ["b: 1 of 1 rows; by up to 0.2 of the value, first '2.5' -> '2.0' in row 0"],
        ),
        ("a,b\n1,0.3\n", "a,b\n1,0.30000000000000004\n", ["a"], ["b: 1 of 1 rows; by up to 1.85e-16"]),
        ("a,b\nx,1\nx,1\n", "a,b\nx,1\ny,1\n", [], ["a: 1 of 2 rows; first 'x' -> 'y' in row 1"]),
        ("a,b\nx,1\n", "a,b\ny,1\n", ["a"], []),
        ("a,b\n1,1\n", "a,c\n1,1\n", [], ["b: gone", "c: new"]),
        ("a,b\n1,1\n", "a,c\n1,1\n", ["c"], ["b: gone"]),
        ("a,b\n1,1\n", "b,a\n1,1\n", [], ["columns stand in another order"]),
        ("a\n1\n", "a\n1\n1\n", [], ["1 rows before, 2 after"]),
        ('a\n""\n', "a\n0\n", [], ["a: 1 of 1 rows; first '' -> '0' in row 0"]),
    ],
)
def test_every_difference_is_said(
    before: str, after: str, but: Sequence[str], said: Sequence[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder, text in (("before", before), ("after", after)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "t.csv").write_text(text)
    old, new = tmp_path / "before", tmp_path / "after"
    found = tables.differences(old, new, but)
    assert len(found) == len(said)
    for line, wanted in zip(found, said, strict=True):
        assert line.startswith(f"t.csv: {wanted}")
    code = tables.main(["--compare", str(old), str(new), *(["--but", *but] if but else [])])
    assert code == (1 if said else 0)
    assert capsys.readouterr().out == ("\n".join(found) or "every number is the same") + "\n"


def test_a_table_that_is_gone_is_a_difference(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "one" / "t.csv").write_text("a\n1\n")
    assert tables.differences(tmp_path / "one", tmp_path / "other") == [f"t.csv: only in {tmp_path / 'one'}"]
    assert tables.differences(tmp_path / "other", tmp_path / "one") == [f"t.csv: only in {tmp_path / 'one'}"]


def test_tables_hold_what_the_package_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tables.main(["--out", str(tmp_path), "--quick", "--only", "lenet-5-dense"]) == 0
    assert "lenet-5-dense-part: " in capsys.readouterr().out
    rows = pd.read_csv(tmp_path / "lenet-5-dense-part.csv")
    direct = accelsim.simulate("lenet-5-dense-part", "a100-pcie")
    mine = rows[(rows["hardware"] == "a100-pcie") & (rows["variant"] == "as shipped")]
    assert mine["cycles"].tolist() == direct["cycles"].tolist()
    assert mine["energy_pj"].tolist() == direct["energy_pj"].tolist()
