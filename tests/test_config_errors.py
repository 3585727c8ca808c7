"""Does each mistake in a chip file name its file, key, value and remedy, all mistakes at once?"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TOY_CHIP

from accelsim import InputError, load_hardware
from accelsim.config import shipped_dir
from accelsim.engines import ENGINES

SHIPPED = (shipped_dir("hwconfigs") / "eie-64pe-45nm.toml").read_text(encoding="utf-8")


def problems_of(path: Path | str, overrides: dict[str, Any] | None = None) -> list[str]:
    with pytest.raises(InputError) as caught:
        load_hardware(path, overrides)
    return list(caught.value.problems)


def edited(folder: Path, *edits: tuple[str, str]) -> Path:
    """A copy of the shipped chip in which each first text, which must be there, is replaced by the second."""
    text = SHIPPED
    for old, new in edits:
        assert old in text
        text = text.replace(old, new, 1)
    path = folder / "chip.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_chip_that_the_mistakes_are_made_in_is_valid(tmp_path: Path) -> None:
    assert load_hardware(edited(tmp_path)) == load_hardware("eie-64pe-45nm")


MACHINES = ", ".join(f"'{kind}'" for kind in ENGINES)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("fifo_depth", "fifo_dept", "engine.fifo_dept: unknown key (got 8); did you mean 'fifo_depth'?"),
        ("[engine]", "[engin]", "engine: is missing; add it"),
        ("pes = 64 ", 'pes = "64" ', 'engine.pes: must be a whole number, without quotes or a point (got "64")'),
        ("pes = 64 ", "pes = 64.0 ", "engine.pes: must be a whole number, without quotes or a point (got 64.0)"),
        ("pes = 64 ", "pes = true ", "engine.pes: must be a whole number, without quotes or a point (got true)"),
        ("pes = 64 ", "pes = -4 ", "engine.pes: must be at least 1 (got -4); the default is 64"),
        ("pes = 64 ", "pes = 0 ", "engine.pes: must be at least 1 (got 0)"),
        ("pes = 64 ", "pes = 4096 ", "engine.pes: must be at most 1024 (got 4096)"),
        ("pes = 64 ", "pes = 2020-01-01 ", 'engine.pes: must be a whole number, without quotes or a point (got "2020'),
        ("fifo_depth = 8", "fifo_depth = 1", "engine.fifo_depth: must be at least 2 (got 1); the default is 8"),
        ("clock_mhz = 800.0", "clock_mhz = 0", "engine.clock_mhz: must be at least 1 (got 0); the default is 800.0"),
        ("clock_mhz = 800.0", "clock_mhz = nan", "engine.clock_mhz: must be a finite number (got nan)"),
        ("clock_mhz = 800.0", "clock_mhz = inf", "engine.clock_mhz: must be a finite number (got inf)"),
        ("clock_mhz = 800.0", 'clock_mhz = "fast"', 'engine.clock_mhz: must be a number, without quotes (got "fast")'),
        ("weight_sharing = true", "weight_sharing = 1", "engine.weight_sharing: must be true or false (got 1)"),
        ('capacity = "error"', 'capacity = "eror"', "engine.capacity: must be 'error' or 'ignore' (got \"eror\")"),
        ('kind = "eie"', 'kind = "eyeriss"', f"engine.kind: must be one of {MACHINES} (got \"eyeriss\")"),
        ('name = "eie-64pe-45nm"', "name = 3", "name: must be text in quotes (got 3)"),
        ('name = "eie-64pe-45nm"', "", "name: is missing; add it"),
        ("[engine]", "[[engine]]", "engine: must be one table, [engine]"),
        ("spmat_width_bits = 64", "spmat_width_bits = 4", "engine.spmat_width_bits: a row of 4 bits cannot"),
        ("cmos-45nm", "cmos-46nm", "technology: 'cmos-46nm': no technology of this name is shipped; did you"),
        ("cmos-45nm", "mine.toml", "mine.toml: no such file"),
    ],
)  # fmt: skip
def test_a_mistake_names_file_key_value_and_remedy(tmp_path: Path, old: str, new: str, said: str) -> None:
    problems = problems_of(edited(tmp_path, (old, new)))
    assert any(said in problem for problem in problems), problems
    assert all("chip.toml: " in problem for problem in problems)
    # None of the checking library's own words.
    assert not any(
        word in problem.lower() for problem in problems for word in ("input should", "pydantic", "dictionary")
    )


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    path = edited(
        tmp_path,
        ("pes = 64 ", 'pes = "64" '),
        ("fifo_depth = 8", "fifo_dept = 8"),
        ("clock_mhz = 800.0", "clock_mhz = -1.0"),
        ("lnzd_pj_per_node_cycle = 0.02875", "lnzd_pj_per_node_cycle = -2.0"),
        ('name = "eie-64pe-45nm"', ""),
    )
    wrong = ["name", "engine.pes", "engine.fifo_dept", "engine.clock_mhz", "constants.lnzd_pj_per_node_cycle"]
    keys = [problem.partition("chip.toml: ")[2].partition(":")[0] for problem in problems_of(path)]
    assert sorted(keys) == sorted(wrong)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (SHIPPED.replace("pes = 64 ", "pes = 64\npes = 32 ").encode(), "a key is given twice (at line "),
        (b"[engine\n", "not valid TOML"),
        (b"a = \n", "not valid TOML"),
        (b'name = "\xff"', "not UTF-8 text (invalid start byte at byte 8); save it as UTF-8"),
        (b"\x00\x01", "not valid TOML"),
        (b"a = " + b"[" * 5000 + b"]" * 5000, "not valid TOML"),
        (b"a = " + b"9" * 5000, "not valid TOML"),
        (b"", "engine: is missing"),
        (b"#" * (16 * 2**20 + 1), "is this a TOML file?"),
    ],
    ids=["twice", "bracket", "no value", "latin-1", "binary", "deep", "huge number", "empty", "huge"],
)  # fmt: skip
def test_what_is_no_toml_is_told_with_its_file(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "chip.toml"
    path.write_bytes(content)
    problems = problems_of(path)
    assert any(said in problem for problem in problems)
    assert all("chip.toml: " in problem for problem in problems)


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "chip.toml"
    path.write_text(SHIPPED, encoding="utf-8-sig")
    assert load_hardware(path) == load_hardware("eie-64pe-45nm")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("eie-64pe-45n", "'eie-64pe-45n': no chip of this name is shipped; did you mean 'eie-64pe-45nm'?"),
        ("xyz", "'xyz': no chip of this name is shipped; known: "),
        ("tpu", "'tpu': no chip of this name is shipped; did you mean 'tpu-v1-like' or 'tpu-v1-like-dense'?"),
        ("", "'': no chip of this name is shipped; known: "),
        ("~no-such-user/chip.toml", "~no-such-user/chip.toml: no such file"),
        ("a" * 500 + ".toml", "no such file"),
        ("/nowhere/chip.toml", "/nowhere/chip.toml: no such file; nor is there /nowhere"),
        ("zero\0byte.toml", "no such file"),
    ],
)
def test_a_chip_that_is_not_there(name: str, said: str) -> None:
    (problem,) = problems_of(name)
    assert said in problem


def test_a_path_suggests_its_neighbour_and_refuses_a_directory(tmp_path: Path) -> None:
    edited(tmp_path)
    assert problems_of(tmp_path / "chop.toml") == [f"{tmp_path}/chop.toml: no such file; did you mean 'chip.toml'?"]
    assert problems_of(tmp_path) == [f"{tmp_path}: is a directory; name a file in it"]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"engine.fifo_dept": 4}, "engine.fifo_dept: unknown key (got 4); did you mean 'fifo_depth'?"),
        ({"engin.fifo_depth": 4}, "engin: unknown key (got {\"fifo_depth\": 4}); did you mean 'engine'?"),
        ({"technology.sram.tabel": "x"}, "technology.sram.tabel: unknown key (got \"x\"); did you mean 'table'?"),
        ({"technology.register_bit_p": 1.0}, "did you mean 'register_bit_pj'?"),
        ({"engine.pes": "64"}, 'engine.pes: must be a whole number, without quotes or a point (got "64")'),
        ({"engine.pes.count": 4}, "engine.pes.count: 'pes' is not a table, so nothing can be set below it"),
        ({"technology": "cmos-45"}, "'cmos-45': no technology of this name is shipped; did you mean 'cmos-45nm'?"),
    ],
)  # fmt: skip
def test_an_override_is_checked_as_the_file_is(overrides: dict[str, Any], said: str) -> None:
    (problem,) = problems_of("eie-64pe-45nm", overrides)
    assert said in problem
    assert load_hardware("eie-64pe-45nm").engine.pes == 64  # and nothing stuck to the shipped chip


def test_an_unknown_key_is_compared_with_those_of_its_own_engine() -> None:
    (problem,) = problems_of("a100-pcie", {"engine.pes": 4})
    assert "engine.pes: unknown key (got 4); known: accumulator_bits, accumulators, choose, clock_mhz, " in problem
    (problem,) = problems_of("a100-pcie", {"engine.core": 4})
    assert "engine.core: unknown key (got 4); did you mean 'cores'?" in problem


def test_an_override_takes_the_numbers_of_numpy() -> None:
    chip = load_hardware("eie-64pe-45nm", {"engine.pes": np.int64(16), "engine.clock_mhz": np.float32(100)})
    assert (chip.engine.pes, chip.engine.clock_mhz) == (16, 100.0)


def test_an_override_of_a_loaded_chip_is_checked_too() -> None:
    chip = load_hardware("eie-64pe-45nm")
    assert load_hardware(chip, {"engine.pes": 32}).engine.pes == 32
    with pytest.raises(InputError, match=r"engine\.pes: must be at least 1 \(got 0\)"):
        load_hardware(chip, {"engine.pes": 0})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"memory.dram": "ddr4-240"}, "memory.dram: 'ddr4-240': no DRAM part of this name is shipped; did you mean"),
        ({"memory.dram": "cmos-45nm"}, "memory.dram: 'cmos-45nm': is a technology, not a DRAM part"),
        ({"memory.dram": 3}, "memory.dram: must be one table, [dram] or dram = { ... } (got 3)"),
        ({"memory.dram.model": "x"}, "memory.dram.model: must be one of 'timed', 'bandwidth-only' (got \"x\")"),
        ({"memory.dram.timing.cl_ns": -1.0}, "memory.dram.timing.cl_ns: must be above 0 (got -1.0)"),
        ({"memory.dram.address_map": "RoXx"}, "unknown field 'Xx' in 'RoXx'"),
        ({"memory.channels": 0}, "memory.channels: must be at least 1 (got 0); the default is 1"),
        ({"memory.residency": "on"}, "memory.residency: must be 'auto', 'resident' or 'stream' (got \"on\")"),
        ({"memory.timing": "slow"}, "memory.timing: must be 'service' or 'exact' (got \"slow\")"),
        ({"memory": 3}, "memory: must be one table, [memory] or memory = { ... } (got 3)"),
    ],
)
def test_mistakes_in_the_memory_of_a_chip(change: dict[str, object], said: str) -> None:
    with pytest.raises(InputError) as caught:
        load_hardware("eie-64pe-45nm", change)
    assert caught.value.problems[0].startswith("eie-64pe-45nm.toml: ")
    assert said in caught.value.problems[0]


@pytest.mark.parametrize(("chip", "table"), [("eie-64pe-45nm", "technology"), ("a100-pcie", "memory")])
def test_a_table_that_a_machine_needs_is_missing(tmp_path: Path, chip: str, table: str) -> None:
    """Other machines may go without, so that its default is none there."""
    text = (shipped_dir("hwconfigs") / f"{chip}.toml").read_text("utf-8")
    cut = {"technology": r'technology = ".*"', "memory": r"\[memory\]\n(?:[a-z#].*\n)*"}[table]
    path = tmp_path / "chip.toml"
    path.write_text(re.sub(cut, "", text), "utf-8")
    assert problems_of(path) == [f"{path}: {table}: is missing; add it"]


@pytest.mark.parametrize(
    ("chip", "change", "said"),
    [
        (
            TOY_CHIP,
            {"technology": "cmos-45nm"},
            "technology: is not used: engine toy is not priced by one; leave it out",
        ),
        ("a100-pcie", {"memory.residency": "resident"}, "memory.residency: cannot be resident: weights come from DRAM"),
        ("edge-nm-16x16", {"memory.timing": "exact"}, "memory.timing: cannot be exact: tiles take what a stream"),
    ],
)
def test_what_a_machine_has_no_use_for_is_an_error(chip: Any, change: dict[str, str], said: str) -> None:
    with pytest.raises(InputError) as caught:
        load_hardware(chip, change)
    assert said in str(caught.value)


def test_an_unknown_machine_is_told_how_ones_own_is_found() -> None:
    with pytest.raises(InputError, match="a machine of your own is known once ACCELSIM_ENGINES names its module"):
        load_hardware("eie-64pe-45nm", {"engine.kind": "mine"})
