"""Does what a command prints fit 80 columns with whole numbers, and can it be piped, cut short and shown anywhere?"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
from command_lines import TABLES, write_inputs
from conftest import Run, at_most
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from accelsim.cli import app, scoring
from accelsim.cli.app import reporting
from accelsim.cli.legible_console import LegibleConsole
from accelsim.cli.making import variant_of
from accelsim.config import shipped_dir, shipped_names
from accelsim.evaluation import EVALUATIONS, MEANINGS
from accelsim.hardware import load_hardware
from accelsim.inspection import patterns_of_chips
from accelsim.network import load_network
from accelsim.pruning import CRITERIA
from accelsim.report.files import write
from accelsim.report.formulas import restored, tamed
from accelsim.report.grid import GAP, Grid, broken, shortened
from accelsim.report.reading import read_table
from accelsim.report.terminal import points_table


def printed(grid: Grid, width: int) -> list[str]:
    console = LegibleConsole(file=io.StringIO(), width=width)
    console.print(grid)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]


# One table writer


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    """A table of a name, words and numbers of any size, with ranks."""
    rows = draw(st.integers(1, 3))
    grid = Grid("title")
    names = st.text("abc.[/]:\x1b\n", min_size=1, max_size=60)
    grid.add("name", draw(st.lists(names, min_size=rows, max_size=rows)), kind="name")
    for number in range(draw(st.integers(1, 8))):
        cells = [f"{draw(st.integers(0, 10**9)):,}" for _ in range(rows)]
        grid.add(f"n{number}\nunit", cells, rank=draw(st.integers(0, 3)))
    if draw(st.booleans()):
        grid.add("words", ["some words that fold"] * rows, kind="words", rank=1)
    return grid


@at_most(60)
@given(grids(), st.sampled_from([20, 40, 80, 100, 140, 10_000]))
def test_numbers_are_whole_and_what_is_left_out_is_named(grid: Grid, width: int) -> None:
    lines = printed(grid, width)
    shown, left_out = grid.fitting(width)
    for column, _ in shown:
        if column.kind == "number":
            whole = [re.compile(rf"(?<![\d,]){cell}(?![\d,])") for (cell,) in column.cells]
            assert all(any(each.search(line) for line in lines) for each in whole)
    assert all(each.rank > 0 for each in grid.columns if each not in [column for column, _ in shown])
    assert (f"not shown: {', '.join(left_out)}; --csv has all" in " ".join(lines)) == bool(left_out)
    assert "\x1b" not in "".join(lines)
    gone = [each.rank for each in grid.columns if each not in [column for column, _ in shown]]
    assert min(gone, default=9) >= max(column.rank for column, _ in shown)
    needed = sum(each for _, each in shown) + GAP * (len(shown) - 1)
    assert max(map(len, lines)) <= max(width, needed, len("title"))
    if width == 10_000:
        assert not left_out
        assert "…" not in "".join(lines)


def test_columns_go_by_rank_and_names_lose_their_middle() -> None:
    grid = Grid()
    grid.add("layer", ["encoder.layers.11.self_attention.query_projection"], kind="name")
    for rank, heading in enumerate(["cycles", "power", "size"]):
        grid.add(heading, ["1,234,567,890"], rank=rank)
    names = [[column.name for column, _ in grid.fitting(width)[0]] for width in (100, 70, 55, 40, 20)]
    everything = ["layer", "cycles", "power", "size"]
    assert names == [everything, everything, everything[:3], everything[:2], everything[:2]]
    (_, width), *_ = grid.fitting(60)[0]
    assert shortened("encoder.layers.11.self_attention.query_projection", 20) == "encode…ry_projection"
    assert width == 60 - 2 * 13 - 2 * GAP
    assert broken("engine.spmat_width_bits") == "engine.\nspmat_\nwidth_bits"


def test_points_that_are_equal_are_named_and_constant_knobs_said_once() -> None:
    rows = [[1, 8, 4, 2.0, 1.0], [2, 8, 8, 2.0, 1.0], [3, 8, 16, 3.0, 0.5]]
    points = pd.DataFrame(rows, columns=["point", "engine.pes", "engine.fifo_depth", "energy_pj", "time_us"])
    points.insert(3, "score", np.nan)
    said = printed(points_table(points, ["energy_pj", "time_us"]), 80)
    assert said[0] == "3 Pareto-optimal points: energy_pj, time_us"
    assert "in all of them: engine.pes = 8" in said
    assert "equal in every objective: points 1, 2" in said
    assert not any("equal" in line for line in printed(points_table(points[1:], ["energy_pj", "time_us"]), 80))


# All commands at every width


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("commands")
    write_inputs(place)
    return place


def numbers(text: str) -> set[str]:
    """Words with digits of the lines of a text, names shortened and lines of prose left out."""
    words = {word for line in text.splitlines() if not line.startswith("not shown") for word in line.split()}
    return {word.strip("(),;:") for word in words if re.fullmatch(r"\(?[\d,.]+x?[),;:]?", word)}


@pytest.mark.thorough
@pytest.mark.parametrize("command", TABLES, ids=lambda command: "-".join(command[:2]))
def test_every_command_fits_every_width_with_whole_numbers(
    accelsim: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.chdir(folder)
    if command[1:2] == ("tiny.db",):
        accelsim("sweep", "space.toml", "--store", "tiny.db", "--jobs", "1", "-q")
    monkeypatch.delenv("COLUMNS", raising=False)
    piped = accelsim(*command)
    assert piped.code == 0, piped.err
    assert "not shown" not in piped.out
    for width in (80, 100, 140):
        monkeypatch.setenv("COLUMNS", str(width))
        said = accelsim(*command)
        assert said.code == 0
        tables = [line for line in said.out.splitlines() if not line.startswith(("wrote ", "stored in "))]
        assert max(map(len, tables)) <= width, max(tables, key=len)
        assert numbers(said.out) <= numbers(piped.out)


def test_the_first_command_fits_80_columns(accelsim: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the test of all commands one, in the quick run."""
    monkeypatch.setenv("COLUMNS", "80")
    narrow = accelsim("run").out
    assert "not shown: " in narrow
    assert max(map(len, narrow.splitlines())) <= 80
    monkeypatch.delenv("COLUMNS")
    assert numbers(narrow) <= numbers(accelsim("run").out)


# Where tables go


def commands_with_tables() -> set[str]:
    known = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return {name for name, each in known.items() if any("--csv" in option.opts for option in each.params)}


def test_every_command_that_makes_a_table_takes_all_its_outputs() -> None:
    known = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert commands_with_tables() == {name for name, *_ in TABLES}
    for name in commands_with_tables():
        options = {option for each in known[name].params for option in each.opts}
        assert {"--csv", "--json", "--parquet"} <= options
    for name, command in known.items():
        for each in command.params:
            assert ("-o" in each.opts) == ("--output" in each.opts), name
            assert ("--store" in each.opts) <= (name in ("sweep", "search")), name
            assert "--objectives" not in each.opts
    assert list(known)[:4] == ["run", "compare", "curve", "prune"]
    prunes = [known[name] for name in ("compare", "curve")]
    assert all({"--criterion", "--evaluate"} <= {o for each in one.params for o in each.opts} for one in prunes)


def test_a_minus_sends_the_table_alone_to_standard_output(accelsim: Run, tmp_path: Path) -> None:
    said = accelsim("run", "--csv", "-", "--against", "none")
    table = pd.read_csv(io.StringIO(said.out))
    assert table["layer"].tolist() == ["fc1", "fc2", "fc3"]
    assert "lenet-300-100-digits on eie-64pe-45nm" in said.err
    listed = json.loads(accelsim("list", "--json", "-").out)
    assert {"chips", "networks", "DRAM parts", "technologies", "spaces"} <= {row["kind"] for row in listed}
    assert accelsim("list", "--csv", "-", "--json", "-").errors == [
        "-: 2 results would be written to this file; give each a file of its own"
    ]


def test_a_reader_that_goes_is_no_error_and_files_are_written(tmp_path: Path) -> None:
    """As `accelsim list --csv list.csv 2>&1 | head -1`; tests/test_anywhere.py asks it of every command."""
    asked = [sys.executable, "-m", "accelsim", "list", "--csv", str(tmp_path / "list.csv")]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(asked, stdout=writing, stderr=writing)
    os.close(writing)
    assert done.returncode == 0
    assert len(pd.read_csv(tmp_path / "list.csv")) > 50


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_an_encoding_that_lacks_our_characters_gets_plain_ones(encoding: str) -> None:
    asked = [sys.executable, "-m", "accelsim", "check", "eie-64pe-45nm"]
    done = subprocess.run(asked, env={**os.environ, "PYTHONIOENCODING": encoding}, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert f"41.3 mm{'2' if encoding == 'ascii' else chr(178)} in" in done.stdout.decode(encoding)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
def test_a_full_standard_output_is_an_error_in_a_line() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "accelsim", "--version"], stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 2
    assert done.stderr.decode().splitlines() == ["error: standard output: cannot be written: No space left on device"]


# What comes from files


@pytest.mark.parametrize("name", ["\x1b]0;title\x07", "[/]", "[red]x[/red]", "no:x:dir", ":smile:", "$x$", "a\nb\tc"])
def test_a_name_is_shown_as_it_is_and_moves_no_cursor(accelsim: Run, tmp_path: Path, name: str) -> None:
    save_file({f"{name}.weight": np.eye(4, dtype=np.float32)}, tmp_path / "net.safetensors")
    spelt = name.encode("unicode_escape").decode() if not name.isprintable() else name
    for command in (("check",), ("inspect",), ("run", "--density", 0.5)):
        said = accelsim(command[0], tmp_path / "net.safetensors", *command[1:])
        assert said.code == 0
        assert spelt in said.out
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", said.out + said.err)


@given(st.text(alphabet="'=+-@\t\r a1\uff1d", max_size=5))
def test_no_text_in_csv_begins_as_a_formula_and_all_come_back(text: str) -> None:
    assert not re.match(r"[=+@\t\r\uff1d]|-.", tamed(text))
    assert restored(tamed(text)) == text


@at_most(40)
@given(st.lists(st.text("'=+-@\t\r\n,;\"\0 a", min_size=1, max_size=6), min_size=2, max_size=4, unique=True))
def test_no_cell_of_a_csv_file_begins_as_a_formula_and_all_come_back(texts: list[str]) -> None:
    """Names of columns are such cells, too, and what follows an end of a line that no quotes keep from being one."""
    table = pd.DataFrame(dict.fromkeys(texts, texts))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "t.csv")
        write(table, "csv", path)
        text = path.read_bytes().decode()
        assert read_table(path).equals(table)
    for line in csv.reader(io.StringIO(text, newline="")):
        assert not any(re.match(r"[=+@\t\r\n]|-.", cell, re.DOTALL) for cell in line)
    assert "\r" not in re.sub(r'"[^"]*"', "", text)


def test_formulas_are_tamed_in_csv_alone_and_read_back(tmp_path: Path) -> None:
    table = pd.DataFrame({"layer": ["=1+1", "-", "fc"], "cycles": [-1, 2, 3]})
    for kind in ("csv", "json"):
        write(table, kind, tmp_path / f"t.{kind}")
    assert (tmp_path / "t.csv").read_text().splitlines() == ["layer,cycles", "'=1+1,-1", "-,2", "fc,3"]
    assert json.loads((tmp_path / "t.json").read_text())[0] == {"layer": "=1+1", "cycles": -1}


def test_reports_of_scale_sim_have_no_formulas(accelsim: Run, tmp_path: Path) -> None:
    write_inputs(tmp_path)
    (tmp_path / "scale.csv").write_text("Layer, M, N, K,\n=1+1, 4, 8, 16,\n", encoding="utf-8")
    files = "run", tmp_path / "scale.csv", "--hardware", tmp_path / "scale.cfg"
    assert accelsim(*files, "--reports", tmp_path / "out", "--csv", tmp_path / "out.csv", "-q").code == 0
    written = [*(tmp_path / "out").glob("*.csv"), tmp_path / "out.csv"]
    assert len(written) == 5
    for path in written:
        rows = csv.reader(path.read_text(encoding="utf-8").splitlines())
        assert not any(re.match(r"[=+@\t\r]|-\D", cell.strip()) for row in rows for cell in row)


# Words


def test_messages_name_options_and_scores_are_explained(accelsim: Run, tmp_path: Path) -> None:
    said = accelsim("prune", "-o", tmp_path / "x.safetensors").errors
    assert said[0].startswith("layers fc1, fc2, fc3: --sparsity: missing; 'fine' needs the share of weights to prune")
    save_file({"fc.weight": np.eye(4, dtype=np.float32)}, tmp_path / "net.safetensors")
    (line,) = accelsim("sensitivity", tmp_path / "net.safetensors").errors
    assert "evaluate=" not in line
    assert "Network." not in line
    assert {*MEANINGS} == {*EVALUATIONS}
    (line,) = accelsim("check", tmp_path / "net.safetensors", "--input-shape", "x=1,3").errors
    assert "--input-shape: belongs to an ONNX graph" in line
    (line,) = accelsim("report", "results.db").errors
    assert "results.db: no such store; accelsim sweep SPACE --store results.db makes one" in line


def test_the_help_lists_every_criterion() -> None:
    assert tuple(CRITERIA) == scoring.CRITERIA


def test_inspect_names_only_patterns_of_chips(accelsim: Run, tmp_path: Path) -> None:
    assert (2, 4) in patterns_of_chips()
    weight = np.zeros((2, 32), np.float32)
    weight[:, :11] = 1  # 11:32 holds, and no chip has it
    half = np.tile(np.array([1, 1, 0, 0], np.float32), (2, 8))
    save_file({"dense.weight": weight, "half.weight": half}, tmp_path / "net.safetensors")
    assert accelsim("inspect", tmp_path / "net.safetensors", "--csv", tmp_path / "t.csv").code == 0
    assert pd.read_csv(tmp_path / "t.csv")["best_nm"].tolist() == ["-", "nm:2:4"]


@pytest.mark.thorough(keep=3)
@pytest.mark.parametrize("base", shipped_names("hwconfigs"))
def test_a_new_chip_is_its_base_until_it_is_changed(tmp_path: Path, base: str) -> None:
    path = tmp_path / "mine.toml"
    text = variant_of(base, (shipped_dir("hwconfigs") / f"{base}.toml").read_text(encoding="utf-8"), "mine")
    path.write_text(text, encoding="utf-8")
    assert load_hardware(path) == load_hardware(base, {"name": "mine", "description": f"{base}, changed"})


def test_a_new_chip_is_written_once(accelsim: Run, tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    assert accelsim("new", "chip", "-o", mine).code == 0
    mine.write_text(mine.read_text().replace("#pes = 64", "pes = 32"))
    assert load_hardware(mine).engine.pes == 32
    assert "already exists" in accelsim("new", "chip", "-o", mine).errors[0]


def test_a_new_network_is_filled_in_and_runs(accelsim: Run, tmp_path: Path) -> None:
    arrays = {f"conv{n}.weight": np.ones((2, 2, 1, 1), np.float32) for n in range(20)}
    (tmp_path / "weights").mkdir()
    bare, made = tmp_path / "weights" / "net.safetensors", tmp_path / "made.toml"
    save_file(arrays | {"fc.weight": np.ones((3, 4), np.float32)}, bare)
    (error,) = accelsim("run", bare, "--transpose", "f*", "--against", "none").errors
    assert "21 layers" in error
    assert error.endswith(f"accelsim new network --base {bare} --transpose 'f*' -o net.toml")
    assert accelsim("new", "network", "--base", bare, "--transpose", "f*", "-o", made).code == 0
    made.write_text(made.read_text().replace("[0, 0]", "[3, 3]"))
    net = load_network(made)
    assert {layer.name for layer in net} == {*(f"conv{n}" for n in range(20)), "fc"}
    assert net["fc"].weight.shape == (4, 3)
    assert "--base: is missing" in accelsim("new", "network", "-o", tmp_path / "other.toml").errors[0]


def test_long_work_says_how_much_is_left(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    monkeypatch.setattr(sys.modules["accelsim.cli.app"], "_now", lambda: now[0])
    with reporting(10, quiet=False) as step:
        for number in range(10):
            step(f"layer {number}")
            now[0] = 20.0 * (number + 1)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "2 of 10 done, about 2.7 minutes left: layer 2"
    assert len(lines) == 4  # a line every 40 s: 30 are over with every second step


def test_a_long_name_leaves_a_progress_bar_its_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    class AtOnce:
        daemon = False

        def __init__(self, _: float, start: Callable[[], None], **__: object) -> None:
            self.start = start

        def cancel(self) -> None:
            pass

        def join(self) -> None:
            pass

    shown = io.StringIO()
    terminal = LegibleConsole(file=shown, width=80, force_terminal=True)
    monkeypatch.setattr(sys.modules["accelsim.cli.app"], "errors", lambda: terminal)
    monkeypatch.setattr(sys.modules["accelsim.cli.app"].threading, "Timer", AtOnce)
    with reporting(450, quiet=False) as step:
        step("model.encoder.layers.11.self_attention.query_projection", 299)
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.getvalue())
    assert re.search(r"model.enco…\S+projection \S+ 299/450 ", plain)


def test_a_single_step_that_takes_long_says_something(monkeypatch: pytest.MonkeyPatch) -> None:
    said = threading.Event()

    class Heard(io.StringIO):
        def write(self, text: str) -> int:
            if "fc6" in text:
                said.set()
            return super().write(text)

    pipe = Heard()
    monkeypatch.setattr(sys.modules["accelsim.cli.app"], "errors", lambda: LegibleConsole(file=pipe, width=200))
    monkeypatch.setattr(sys.modules["accelsim.cli.app"], "SILENCE_SECONDS", 0.01)
    with reporting(3, quiet=False) as step:
        step("fc6")
        assert said.wait(60)
    lines = pipe.getvalue().splitlines()
    assert all(line.startswith("0 of 3 done, ") and line.endswith(" so far: fc6") for line in lines if "fc6" in line)
