"""SCALE-Sim 3.0.0: its golden rows, number for number; closed forms against word by word; its files and reports."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import EVIDENCE, Run, at_most
from hypothesis import given
from hypothesis import strategies as st

from accelsim import InputError, scalesim
from accelsim.kernels import read_only
from accelsim.scalesim import Machine, Placed, Shape
from accelsim.scalesim import memory as kernels
from accelsim.scalesim.layers import DATAFLOWS
from accelsim.scalesim.memory import Entry
from accelsim.scalesim.model import Operand, folds_of, outputs, simulate

GOLDEN = pd.read_csv(EVIDENCE / "systolic" / "scalesim.csv")
COMPARED = list(GOLDEN.columns[GOLDEN.columns.get_loc("total_incl_prefetch") :])
SHARES = ("overall_util", "mapping_eff", "compute_util")


def golden_layer(row: Any) -> Shape:
    kept = tuple(int(part) for part in row.nm.split(":"))
    if row.kind == "gemm":
        return Shape(name=row.layer, m=int(row.M), n=int(row.N), k=int(row.K), kept=kept)
    sides = [int(each) for each in (row.ih, row.iw, row.fh, row.fw, row.ch, row.nf, row.st)]
    return Shape.convolution(row.layer, (sides[0], sides[1]), (sides[2], sides[3]), *sides[4:], kept)


def golden_machine(row: Any) -> Machine:
    return Machine(
        rows=row.R, columns=row.C, dataflow=row.df, ifmap_kb=row.ifkb, filter_kb=row.fikb, ofmap_kb=row.ofkb,
        ifmap_bandwidth=row.ifbw, filter_bandwidth=row.fibw, bandwidth=row.bw, mode=row.mode,
        sparse=bool(row.sp), representation=row.rep, row_wise=bool(row.opt), block=row.block, seed=row.seed,
    )  # fmt: skip


def golden_id(row: Any) -> str:
    return f"{row.Index}-{row.set}-{row.layer}-{row.df}-{row.mode}"


ROWS = list(GOLDEN.rename(columns={"name": "layer"}).itertuples())
SPREAD = sorted(ROWS, key=lambda row: row.Index % 9)


@pytest.mark.thorough(keep=40)
@pytest.mark.parametrize("row", SPREAD, ids=golden_id)
def test_every_golden_row_is_met_in_every_field(row: Any) -> None:
    found = simulate(golden_layer(row), golden_machine(row))
    wanted = {name: getattr(row, name) for name in COMPARED if not pd.isna(getattr(row, name))}
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        assert found[name] == (pytest.approx(value, abs=1e-4) if name in SHARES else value), name


@st.composite
def machines(draw: st.DrawFn, **fixed: Any) -> Machine:
    sizes, rates = st.integers(1, 2), st.sampled_from([1, 3, 10, 600])
    drawn = Machine(
        rows=draw(st.integers(1, 9)), columns=draw(st.integers(1, 9)), dataflow=draw(st.sampled_from(DATAFLOWS)),
        ifmap_kb=draw(sizes), filter_kb=draw(sizes), ofmap_kb=draw(sizes), ifmap_bandwidth=draw(rates),
        filter_bandwidth=draw(rates), bandwidth=draw(rates), mode=draw(st.sampled_from(["CALC", "USER"])),
        sparse=draw(st.booleans()), late_counted=draw(st.sampled_from([2, 2, 1])),
    )  # fmt: skip
    if drawn.dataflow == "ws" and drawn.sparse and draw(st.booleans()):
        drawn = replace(drawn, row_wise=True, block=draw(st.sampled_from([2, 4, 8])))
    return replace(drawn, **fixed)


@st.composite
def shapes(draw: st.DrawFn, most: int = 30) -> Shape:
    kept = draw(st.sampled_from([(1, 1), (2, 4), (1, 2), (3, 8)]))
    if draw(st.booleans()):
        m, n, k = (draw(st.integers(1, most)) for _ in range(3))
        return Shape(name="drawn", m=m, n=n, k=k, kept=kept)
    window = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    image = window[0] + draw(st.integers(0, 6)), window[1] + draw(st.integers(0, 6))
    channels, filters, stride = draw(st.integers(1, 4)), draw(st.integers(1, 9)), draw(st.integers(1, 4))
    return Shape.convolution("drawn", image, window, channels, filters, stride, kept)


class Roomy(Operand):
    """An operand with a cache of a size of its own."""

    size_of_cache = 1

    @property
    def room(self) -> int:
        return self.size_of_cache


def work(row: Any) -> int:
    placed = Placed(golden_machine(row), golden_layer(row))
    return placed.folds * placed.tiling.cycles * (placed.machine.rows + placed.machine.columns)


@pytest.mark.thorough(keep=12)
@pytest.mark.parametrize("row", [row for row in SPREAD if work(row) < 300_000], ids=golden_id)
def test_the_specification_meets_the_golden_rows(row: Any) -> None:
    """All but those of which a look at every cycle takes seconds."""
    found = simulate(golden_layer(row), golden_machine(row), backend="simpy")
    wanted = {name: getattr(row, name) for name in COMPARED if not pd.isna(getattr(row, name))}
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        assert found[name] == (pytest.approx(value, abs=1e-4) if name in SHARES else value), name


@at_most(40)
@given(layer=shapes(12), machine=machines())
def test_the_twin_is_its_specification_in_every_column(layer: Shape, machine: Machine) -> None:
    compiled, simpy = (simulate(layer, machine, detailed=True, backend=each) for each in ("compiled", "simpy"))
    assert compiled == simpy


@given(layer=shapes(), machine=machines(), more=st.integers(-3, 3), room=st.integers(1, 400))
def test_misses_in_closed_form_are_those_word_by_word(layer: Shape, machine: Machine, more: int, room: int) -> None:
    placed = Placed(machine, layer)
    for which in ("inputs", "weights"):
        for size in (room, max(1, Operand(placed, which).numbers + more)):
            operand = Roomy(placed, which)
            operand.size_of_cache = size
            assert operand.words.shape == operand.shape
            unseen = np.full(operand.numbers, -1, np.int64)
            looked_up, _ = kernels.misses(folds_of(placed), operand.entry, operand.words, size, unseen)
            assert operand.misses() == looked_up


@given(layer=shapes(), machine=machines(), size=st.sampled_from([2, 4, 10, 50, 200, 1024]))
def test_outputs_from_event_to_event_are_those_cycle_by_cycle(layer: Shape, machine: Machine, size: int) -> None:
    placed = Placed(machine, layer)
    operands = [Operand(placed, which) for which in ("inputs", "weights")]
    leaves = (placed.k - 1, 0) if machine.dataflow == "os" else (2 * machine.rows - 1, placed.tiling.steps)
    marks = np.array([operand.marks() for operand in operands])
    came = marks.copy()
    stalls, out = outputs(folds_of(placed), leaves, size, machine.bandwidth, came)
    slow, short = kernels.output_buffer(size, machine.bandwidth), np.zeros((1 << 16, 2), np.int64)
    nothing = [read_only(np.zeros(shape, dtype)) for shape, dtype in (((1, 1), "i4"), (1, "i8"), (1, "i4"))]
    entry = (Entry(0, 0, 0, 1, 0), *nothing)
    memories = np.zeros((2, 8), np.int64)
    assert kernels.user(folds_of(placed), entry, entry, leaves, memories, slow, short, marks) == stalls
    assert np.array_equal(out[: kernels.FIRST], slow[: kernels.FIRST])
    assert np.array_equal(came, marks)


@at_most(30)
@given(layer=shapes(), machine=machines(mode="CALC"))
def test_without_stalls_cycles_and_words_meet_the_closed_forms(layer: Shape, machine: Machine) -> None:
    """Cycles as in Samajdar et al., ISPASS 2020; on the chip each operand once per fold that uses it."""
    row = simulate(layer, replace(machine, sparse=False, row_wise=False, columns=max(2, machine.columns)))
    m, n, k, down, along = layer.m, layer.n, layer.k, machine.rows, max(2, machine.columns)
    if machine.dataflow == "os":
        folds, each = -(-m // down) * -(-n // along), k + down + along - 2
    elif machine.dataflow == "ws":
        folds, each = -(-k // down) * -(-n // along), 2 * down + along + m - 2
    else:
        folds, each = -(-k // down) * -(-m // along), 2 * down + along + n - 2
    assert row["total_cycles"] == folds * each - 1 + row["stall_cycles"]
    assert row["dram_filter_count"] >= k * n
    assert row["dram_ofmap_stop"] >= row["total_cycles"]


@at_most(20)
@given(layer=shapes(), machine=machines())
def test_what_reports_add_changes_nothing_else(layer: Shape, machine: Machine) -> None:
    short, long = simulate(layer, machine), simulate(layer, machine, detailed=True)
    assert short == {name: long[name] for name in short}
    for memory in ("ifmap", "filter", "ofmap"):
        assert (
            long[f"sram_{memory}_start"]
            <= long[f"sram_{memory}_stop"]
            <= long["total_cycles"] + long["stall_cycles"] + 1
        )


CFG = """[general]
run_name = mine
[architecture_presets]
ArrayHeight : 8
ArrayWidth = 8
IfmapSramSzkB: 1
FilterSramSzkB: 1
OfmapSramSzkB: 1
IfmapOffset: 0
FilterOffset: 10000000
OfmapOffset: 20000000
Dataflow: ws
Bandwidth: 10
ReadRequestBuffer: 32
WriteRequestBuffer: 32
[layout]
IfmapCustomLayout: False
IfmapSRAMBankBandwidth: 10
IfmapSRAMBankNum: 1
IfmapSRAMBankPort: 2
FilterCustomLayout: False
FilterSRAMBankBandwidth: 10
FilterSRAMBankNum: 1
FilterSRAMBankPort: 2
[sparsity]
SparsitySupport: true
SparseRep: ellpack_block
OptimizedMapping: false
BlockSize: 4
RandomNumberGeneratorSeed: 40
[run_presets]
InterfaceBandwidth: CALC
UseRamulatorTrace: False
"""
GEMMS = "Layer,M,N,K,Sp,\ng,33,17,65,1:1,\nh,16,16,16,2:4,\n"

THEIR_REPORTS = {
    "COMPUTE": [
        [0, 1589, 1484, 0, 38.393910040431265, 63.94675925925925, 34.03617831541218],
        [1, 119, 75, 0, 85.33333333333333, 100.0, 35.55555555555556],
    ],
    "BANDWIDTH": [
        [0, 4.336253369272237, 0.7446091644204852, 0.0, 3.402291105121294, 4.626168224299065, 1.1818181818181819,
         3.520891364902507],
        [1, 6.826666666666667, 1.7066666666666668, 0.10666666666666667, 3.4133333333333336, 9.846153846153847,
         9.846153846153847, 8.0],
    ],
    "DETAILED_ACCESS": [
        [0, 9, 1471, 6435, 1, 1438, 1105, 15, 1477, 5049, -42, 1348, 6435, -50, 884, 1105, 104, 1539, 5056],
        [1, 9, 69, 512, 1, 46, 128, 15, 75, 256, -13, -1, 128, -13, -1, 128, 75, 106, 256],
    ],
    "SPARSE": [[0, 1105, 1105.0, 0.0, 0.0], [1, 256, 136.0, 8.0, 0.10666666666666667]],
}  # fmt: skip
"""What the tool itself wrote for these two files (SCALE-Sim 3.0.0, MIT; numpy 2.2.6)."""


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    topology, config = tmp_path / "mine.csv", tmp_path / "mine.cfg"
    topology.write_text(GEMMS)
    config.write_text(CFG)
    return topology, config


def test_one_command_runs_the_tools_own_two_files(files: tuple[Path, Path], tmp_path: Path, accelsim: Run) -> None:
    topology, config = files
    said = accelsim(
        "run", str(topology), "--hardware", str(config), "--reports", str(tmp_path / "out"), "--csv",
        str(tmp_path / "table.csv"),
    )  # fmt: skip
    assert said.code == 0, said.err
    assert "1,559" in said.out
    for name, wanted in THEIR_REPORTS.items():
        header, *lines = csv.reader((tmp_path / "out" / f"{name}_REPORT.csv").read_text().splitlines())
        assert header[0] == "LayerID"
        found = [[float(field) for field in line if field.strip() not in ("", "ellpack_block")] for line in lines]
        assert found == [pytest.approx(line, rel=1e-12) for line in wanted], name
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "table.csv"), scalesim.run(topology, config, gemm=True))


def test_a_table_has_the_columns_of_the_golden_rows(files: tuple[Path, Path]) -> None:
    table = scalesim.run(*files, gemm=True)
    assert list(table.columns) == ["name", *COMPARED]
    dense = scalesim.run(scalesim.read_topology(files[0], gemm=True), Machine())
    assert list(dense.columns) == ["name", *COMPARED[:-3]]


def test_check_says_what_each_key_became(files: tuple[Path, Path], accelsim: Run) -> None:
    topology, config = files
    config.write_text(CFG + "Colour: blue\n")
    said = accelsim("check", str(config))
    assert "architecture_presets.ArrayHeight: rows = 8" in said.out
    assert "run_presets.Colour: is unknown and changes nothing" in said.err
    assert "a valid topology of 2 matrices" in accelsim("check", str(topology)).out


def test_of_several_bandwidths_the_first_is_taken_as_the_tool_does(files: tuple[Path, Path], accelsim: Run) -> None:
    user = CFG.replace("CALC", "USER")
    files[1].write_text(user.replace("\nBandwidth: 10", "\nBandwidth: 7"))
    one = scalesim.run(*files, gemm=True)
    files[1].write_text(user.replace("\nBandwidth: 10", "\nBandwidth: 7, 20,30"))
    pd.testing.assert_frame_equal(scalesim.run(*files, gemm=True), one)
    said = accelsim("check", str(files[1]))
    assert "architecture_presets.Bandwidth: bandwidth = 7, the first; the tool takes no other" in said.out
    files[1].write_text(user.replace("\nBandwidth: 10", "\nBandwidth: 7,x"))
    with pytest.raises(InputError, match=r"Bandwidth: has to be a whole number .got 'x'."):
        scalesim.read_config(files[1])


def test_topologies_are_read_with_and_without_their_extras(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("Layer,IH,IW,FH,FW,C,F,S\nc,14,14,3,3,8,16,1\n\nDPd,8,8,3,3,4,1,1,2:4,,\n")
    layers = scalesim.read_topology(path)
    assert layers[0] == Shape.convolution("c", (14, 14), (3, 3), 8, 16, 1)
    assert [layer.name for layer in layers[1:]] == [f"DPdChannel_{channel}" for channel in range(4)]
    assert {layer.kept for layer in layers[1:]} == {(2, 4)}
    assert not scalesim.is_gemm(path)


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        ("[architecture_presets]\n", "", "has no section [architecture_presets] with ArrayHeight; add it, as in"),
        ("[run_presets]\n", "", "has no section [run_presets] with InterfaceBandwidth; add it"),
        ("ArrayHeight : 8", "ArrayHeight : 0", "ArrayHeight: has to be from 1 to 4096 (got 0)"),
        ("ArrayHeight : 8", "ArrayHeight : many", "ArrayHeight: has to be a whole number (got 'many')"),
        ("IfmapSramSzkB: 1", "IfmapSramSzkB: 0", "IfmapSramSzkB: has to be from 1"),
        ("Dataflow: ws", "Dataflow: rs", "Dataflow: has to be one of ws, os, is (got 'rs')"),
        ("UseRamulatorTrace: False", "UseRamulatorTrace: True", "traces of Ramulator are not read; set it to False"),
        ("IfmapCustomLayout: False", "IfmapCustomLayout: True", "set it to False"),
        ("OptimizedMapping: false\nBlockSize: 4", "OptimizedMapping: true\nBlockSize: 16", "use a larger array"),
        ("OptimizedMapping: false\nBlockSize: 4", "OptimizedMapping: true\nBlockSize: 3", "has to be even"),
        ("BlockSize: 4", "BlockSize", "is not a configuration file"),
    ],
)
def test_what_is_wrong_with_a_configuration_is_named(
    files: tuple[Path, Path], before: str, after: str, problem: str
) -> None:
    assert before in CFG
    files[1].write_text(CFG.replace(before, after))
    with pytest.raises(InputError) as error:
        scalesim.read_config(files[1])
    assert problem in str(error.value)
    assert str(files[1]) in str(error.value)


def test_row_wise_sparsity_needs_weights_that_stay(files: tuple[Path, Path]) -> None:
    files[1].write_text(
        CFG.replace("OptimizedMapping: false", "OptimizedMapping: true").replace("flow: ws", "flow: os")
    )
    with pytest.raises(InputError, match="set Dataflow to ws, or OptimizedMapping to false"):
        scalesim.run(*files, gemm=True)
    with pytest.raises(InputError, match="layer g: row-wise sparsity needs weights that stay"):
        scalesim.run([Shape(name="g", m=1, n=1, k=1)], Machine(sparse=True, row_wise=True, dataflow="os"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty"),
        ("Layer,M,N,K,\n", "has no layer; each line after the first is one: layer,M,N,K,"),
        ("Layer;M;N;K\ng;1;2;3\n", "line 1: is separated by semicolons; a topology is by commas, replace them"),
        ("Layer\tM\tN\tK\n", "is separated by tabs"),
        ("Layer,M,N,K,\ng,1,2,\n", "line 2: has 3 columns, and no K; add it"),
        ("Layer,M,N,K,\ng,1,2,x,\n", "line 2: K: has to be a whole number (got 'x')"),
        ("Layer,M,N,K,\ng,1,2,0,\n", "line 2: K: has to be from 1 to 2147483647 (got 0)"),
        ("Layer,M,N,K,\ng,1,2,4294967296,\n", "line 2: K: has to be from 1 to 2147483647"),
        ("Layer,M,N,K,\ng,1,65536,65536,\n", "line 2: has 4,294,967,296 weights, and 2,147,483,647 can be told apart"),
        ("Layer,M,N,K,\ng,1,2,8,2-4,\n", "line 2: N:M: has to be as in 2:4"),
        ("Layer,M,N,K,\ng,1,2,8,5:4,\n", "line 2: N:M: keeps more of a group than it has (got '5:4')"),
        ("Layer,M,N,K,\ng,1,2,8,2:4,9,9,9,9,\n", "a topology of convolutions is read with gemm=False"),
    ],
)
def test_what_is_wrong_with_a_topology_is_named(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        scalesim.read_topology(path, gemm=True)
    assert problem in str(error.value)


def test_a_filter_larger_than_its_image_and_a_wrong_kind_are_named(files: tuple[Path, Path], tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("Layer,IH,IW,FH,FW,C,F,S,\nc,2,9,3,3,8,16,1,\n")
    with pytest.raises(InputError, match=r"line 2: filter height: is larger than the IFMAP, 2 .got 3.; pad the IFMAP"):
        scalesim.read_topology(path)
    with pytest.raises(InputError, match="is read with gemm=True"):
        scalesim.run(*files)


def test_a_layer_with_more_words_than_int32_is_named() -> None:
    with pytest.raises(InputError, match=r"layer g: has 4,294,967,296 weights, and 2,147,483,647 can be told apart"):
        scalesim.run([Shape(name="g", m=1, n=65536, k=65536)], Machine())


def test_a_layer_that_ends_in_cycle_0_is_named() -> None:
    with pytest.raises(InputError, match="layer g: ends in cycle 0, by which the tool divides"):
        scalesim.run([Shape(name="g", m=1, n=1, k=1)], Machine(rows=1, columns=1, dataflow="os"))


@pytest.mark.parametrize("option", [["--density", "0.5"], ["--verify"], ["--units", "u.csv"], ["--plot", "p.svg"]])
def test_options_of_networks_are_no_use_here(files: tuple[Path, Path], accelsim: Run, option: list[str]) -> None:
    said = accelsim("run", str(files[0]), "--hardware", str(files[1]), *option)
    assert said.code == 2
    assert f"{option[0]}: is of no use with files of SCALE-Sim; leave it out" in said.err


def test_files_of_two_kinds_do_not_run_together(files: tuple[Path, Path], accelsim: Run) -> None:
    assert "is not a .cfg" in accelsim("run", str(files[0])).err
    assert "is not a .csv" in accelsim("run", "--hardware", str(files[1])).err
