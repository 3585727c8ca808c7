"""Does the command line print what it should, exit with 2 on bad input and never write half a file?"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Run, Said
from safetensors.numpy import save_file

from accelsim import __version__, load_network, simulate
from accelsim.cli import app
from accelsim.config import shipped_dir
from accelsim.engines import ENGINES
from accelsim.report.files import WRITERS
from accelsim.report.units import number
from accelsim.results import COLUMNS

ROOT = Path(__file__).resolve().parents[1]
CHIP = "eie-64pe-45nm"


@pytest.fixture
def net(tmp_path: Path) -> Path:
    path = tmp_path / "small.safetensors"
    weight = np.eye(6, 5, dtype=np.float32)
    save_file({"fc.weight": weight, "fc.activations": np.ones((2, 5), np.float32)}, path)
    return path


def edited_chip(path: Path, *edits: tuple[str, str]) -> Path:
    text = (shipped_dir("hwconfigs") / f"{CHIP}.toml").read_text(encoding="utf-8")
    for old, new in edits:
        assert old in text
        text = text.replace(old, new, 1)
    path.write_text(text, encoding="utf-8")
    return path


def in_a_process(*arguments: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **environment}
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, check=False, env=environment
    )


def rows(text: str) -> list[str]:
    """Lines of a table, one space between cells."""
    return [" ".join(line.split()) for line in text.splitlines()]


# What it prints


def test_run_without_arguments_prints_the_shipped_network(accelsim: Run) -> None:
    said = accelsim("run")
    assert said.code == 0
    assert said.out.startswith("lenet-300-100-digits on eie-64pe-45nm")
    table = simulate("lenet-300-100-digits", CHIP)
    for row in table.to_dict("records"):
        assert any(row["layer"] in line and f"{row['cycles']:,}" in line for line in said.out.splitlines())
    assert f"{table['cycles'].sum():,}" in said.out


def test_run_on_two_chips_totals_both(accelsim: Run, net: Path, tmp_path: Path) -> None:
    other = edited_chip(tmp_path / "other.toml", (f'name = "{CHIP}"', 'name = "half"'), ("pes = 64 ", "pes = 32 "))
    said = accelsim("run", net, "--hardware", f"{CHIP}, {other}")
    assert said.code == 0
    assert f"small on {CHIP}" in said.out
    assert "small on half" in said.out
    assert "totals" in said.out


def test_results_are_the_same_in_every_file(accelsim: Run, net: Path, tmp_path: Path) -> None:
    files = {name: tmp_path / f"out.{name}" for name in ("csv", "json", "parquet", "svg")}
    said = accelsim(
        "run", net, "--csv", files["csv"], "--json", files["json"],
        "--parquet", files["parquet"], "--plot", files["svg"],
    )  # fmt: skip
    assert (said.code, said.err) == (0, "")
    assert all(f"wrote {file}" in said.out for file in files.values())
    expected = simulate(load_network(net), CHIP)
    read = {
        "csv": pd.read_csv(files["csv"]),
        "json": pd.DataFrame(json.loads(files["json"].read_text(encoding="utf-8"))),
        "parquet": pd.read_parquet(files["parquet"]),
    }
    for table in read.values():
        assert list(table.columns) == [column.name for column in COLUMNS]
        for column in COLUMNS:
            if column.dtype == "int64":
                assert table[column.name].dtype == np.int64
            wanted = expected[column.name].tolist()
            is_real = column.dtype == "float64"
            if is_real:  # JSON has null where a number is empty
                found = table[column.name].astype(float).tolist()
                assert found == pytest.approx(wanted, rel=1e-15, nan_ok=True)
            else:
                assert table[column.name].tolist() == wanted
    assert files["svg"].read_text(encoding="utf-8").lstrip().startswith("<?xml")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([net.name, *(f.name for f in files.values())])


@pytest.mark.parametrize(("suffix", "magic"), [(".png", b"\x89PNG"), (".pdf", b"%PDF")])
def test_a_plot_is_of_the_kind_of_its_ending(
    accelsim: Run, net: Path, tmp_path: Path, suffix: str, magic: bytes
) -> None:
    assert accelsim("run", net, "--plot", tmp_path / f"plot{suffix}").code == 0
    assert (tmp_path / f"plot{suffix}").read_bytes().startswith(magic)


def test_quiet_prints_nothing_and_writes(accelsim: Run, tmp_path: Path) -> None:
    save_file({"fc.weight": np.zeros((2, 2), np.float32)}, tmp_path / "zero.safetensors")
    said = accelsim("run", tmp_path / "zero.safetensors", "-q", "--csv", tmp_path / "out.csv")
    assert said == Said(0, "", "")
    assert pd.read_csv(tmp_path / "out.csv")["macs"].tolist() == [0]


def test_what_a_score_lacks_is_told_with_what_to_type(accelsim: Run, tmp_path: Path) -> None:
    names = [f"fc{number}" for number in range(9)]
    save_file({f"{name}.weight": np.eye(4, dtype=np.float32) for name in names}, tmp_path / "bare.safetensors")
    for command in ("allocate", "sensitivity"):
        said = accelsim(command, tmp_path / "bare.safetensors")
        assert said.code == 2
        (line,) = said.err.splitlines()
        assert "no real activations for fc0, fc1, fc2, fc3, fc4, fc5 and 3 more" in line
        assert "LAYER.activations" in line
        assert "--evaluate FILE.py:FUNCTION" in line
    (tmp_path / "score.py").write_text("def score(network):\n    return 1.0\n", encoding="utf-8")
    scored = ("--evaluate", f"{tmp_path / 'score.py'}:score", "--steps", 1, "--budget", "time_us=80%")
    said = accelsim("allocate", tmp_path / "bare.safetensors", *scored)
    assert said.code == 0
    (line,) = (line for line in said.err.splitlines() if "no activations" in line)
    assert line.startswith("note: no activations for fc0, fc1, fc2, fc3, fc4, fc5 and 3 more: every input counts")
    assert "--density 0.4" in line
    assert "no activations" not in accelsim("allocate", tmp_path / "bare.safetensors", *scored, "--density", 0.4).err


@pytest.mark.parametrize(
    "command",
    [
        ("run",), ("inspect",), ("energy", "--layer", "[red]fc[/]"), ("timeline", "--layer", "[red]fc[/]", "--to", 9),
        ("compare",), ("divisions",), ("check",),
    ],
    ids=lambda command: command[0],
)  # fmt: skip
def test_names_that_look_like_markup_are_shown_as_they_are(
    accelsim: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[Any, ...]
) -> None:
    weight = np.eye(8, dtype=np.float32)
    save_file({"[red]fc[/].weight": weight, "[/].weight": weight}, tmp_path / "net[v2].safetensors")
    monkeypatch.chdir(tmp_path)
    name, *more = command
    density = () if name in ("check", "inspect") else ("--density", 0.5)
    said = accelsim(name, "net[v2].safetensors", *more, *density)
    assert said.code == 0, said.err
    assert "net[v2]" in said.out or name in ("energy", "compare")
    assert "[red]fc[/]" in said.out or name in ("divisions", "compare")


def test_warnings_are_notes(accelsim: Run, tmp_path: Path) -> None:
    save_file({"fc.weight": np.zeros((2, 2), np.float32)}, tmp_path / "zero.safetensors")
    said = accelsim("run", tmp_path / "zero.safetensors")
    assert said.code == 0
    assert "note: layer fc: all weights are zero" in said.err
    assert "note: no activations for fc" in said.err


def test_options_reach_the_simulation(accelsim: Run, net: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    accelsim("run", net, "--set", "engine.pes=2", "--set", 'engine.capacity="ignore"', "--csv", out,
             "--density", "0.4", "--seed", "5", "--backend", "simpy", "--verify")  # fmt: skip
    (row,) = pd.read_csv(out).to_dict("records")
    assert (row["capacity"], row["backend"], row["verified"], row["seed"]) == ("ignore", "simpy", "exact", 5)
    assert row["activation_density"] == 0.4  # 2 of 5 inputs
    # With two PEs a cycle has two units: busy and stalled cycles together are cycles x PEs.
    assert row["busy_cycles"] + sum(row[key] for key in row if key.startswith("stall_")) == 2 * row["cycles"]


def test_list_names_everything_shipped(accelsim: Run) -> None:
    said = accelsim("list")
    for kind in ("hwconfigs", "workloads", "hwconfigs/dram", "hwconfigs/technology", "workloads/spaces"):
        for path in shipped_dir(kind).glob("*.toml"):
            assert path.stem in said.out
    assert "the design point of the paper" in said.out
    parts = accelsim("list", "dram").out
    assert all(path.stem in parts for path in shipped_dir("hwconfigs/dram").glob("*.toml"))
    assert "eie-64pe-45nm" not in parts


def keys_of(folder: str) -> list[set[str]]:
    """Keys of every shipped file, but `base`, another file, which it changes, and what it removes of that."""
    return [
        set(tomllib.loads(path.read_text("utf-8"))) - {"base", "remove"} for path in shipped_dir(folder).glob("*.toml")
    ]


def test_the_schema_of_chips_describes_one_of_each_machine(accelsim: Run) -> None:
    described = json.loads(accelsim("schema", "hardware").out)
    *chips, variant = (
        described["$defs"].get(each.get("$ref", "").rpartition("/")[2], each) for each in described["anyOf"]
    )
    assert len(chips) == len(ENGINES)
    assert variant["required"] == ["base"]
    assert all({"name", "engine"} <= set(chip["required"]) and not chip["additionalProperties"] for chip in chips)
    assert all(any(keys <= set(chip["properties"]) for chip in chips) for keys in keys_of("hwconfigs"))


@pytest.mark.parametrize(("kind", "required"), [("network", {"name", "layer"})])
def test_schema_describes_the_files(accelsim: Run, kind: str, required: set[str]) -> None:
    described = json.loads(accelsim("schema", kind).out)
    assert set(described["required"]) == required
    assert all(keys <= set(described["properties"]) for keys in keys_of("workloads"))


def test_check_says_what_is_in_a_file(accelsim: Run, net: Path) -> None:
    said = accelsim("check", net)
    assert said.code == 0
    assert said.out.startswith(f"{net}: a valid network: small, 1 layer\n")
    assert "fc 6 x 5 float32 30 5 -" in rows(said.out)
    assert "a valid chip: eie-64pe-45nm, engine eie, 64 PEs at 800 MHz" in accelsim("check", CHIP).out


def test_convolutions_and_what_is_not_simulated_are_told(accelsim: Run, tmp_path: Path) -> None:
    path = tmp_path / "cnn.toml"
    path.write_text(
        'name = "cnn"\nnot_simulated = ["maxpool1", "[softmax]"]\n[[layer]]\nname = "conv"\nkind = "conv2d"\n'
        "out_channels = 8\nin_channels = 4\nkernel = 3\ngroups = 2\ninput_hw = [6, 5]\n"
        "synthetic = { density = 1.0 }\nactivations = { density = 0.5 }\n",
        encoding="utf-8",
    )
    checked, ran = accelsim("check", path), accelsim("run", path)
    assert "conv 8 x 2 x 3 x 3 float32 12 144 144 -" in rows(checked.out)
    assert "cnn on eie-64pe-45nm" in ran.out
    assert "12 input vectors" in ran.out
    assert (checked.code, ran.code) == (0, 0)
    assert "not simulated: maxpool1, [softmax] (no weights, no MACs)\n" in ran.out
    assert "not simulated, without weights or multiply-accumulates: maxpool1, [softmax]\n" in checked.out


def test_check_says_that_weights_are_all_zero(accelsim: Run, tmp_path: Path) -> None:
    path = tmp_path / "zero.safetensors"
    save_file({"fc.weight": np.zeros((2, 3), np.float32), "fc.bias": np.ones(2, np.float32)}, path)
    said = accelsim("check", path).out
    assert "fc 2 x 3 float32 6 0 2" in rows(said)
    assert "all weights are zero: fc\n" in said


def test_help_says_what_each_command_and_option_does(accelsim: Run) -> None:
    overview = accelsim("--help")
    assert overview.code == 0
    for command in ("run", "check", "list", "schema"):
        assert command in overview.out
        assert "Usage:" in accelsim(command, "--help").out
    told = accelsim("run", "-h").out
    for option in ("--hardware", "--set", "--density", "--seed", "--backend", "--verify", "--csv", "--json", "--plot"):
        assert option in told


def test_version_is_that_of_the_package_and_of_the_citation(accelsim: Run) -> None:
    assert accelsim("--version").out == f"accelsim {__version__}\n"
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


# What it refuses


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["vgg16-fx"], "'vgg16-fx': no network of this name is shipped; did you mean 'vgg16-fc'?"),
        (["--hardware", "eie-64"], "'eie-64': no chip of this name is shipped; did you mean 'eie-64pe-45nm'?"),
        (["--hardware", "a,,b"], "--hardware a,,b: write names separated by commas"),
        (["--hardware", ""], "--hardware : write names separated by commas"),
        (["--hardware", f"{CHIP},{CHIP}"], f"--hardware: 2 chips are called '{CHIP}'; leave one out"),
        (["--set", "engine.fifo_dept=4"], "engine.fifo_dept: unknown key (got 4); did you mean 'fifo_depth'?"),
        (["--set", "engine.pes"], "--set engine.pes: write key=value"),
        (["--set", "=4"], "--set =4: write key=value"),
        (["--set", "engine..pes=4"], "--set engine..pes=4: write key=value"),
        (["--set", "engine.pes=many"], 'engine.pes: must be a whole number, without quotes or a point (got "many")'),
        (["--density", "0"], "--density: density must be above 0 and at most 1 (got 0.0)"),
        (["--density", "1.5"], "--density: density must be above 0 and at most 1 (got 1.5)"),
        (["--csv", "/nowhere/out.csv"], "/nowhere/out.csv: the directory /nowhere does not exist; create it first"),
        (["--csv", "/"], "/: is a directory; name a file in it"),
        pytest.param(
            ["--csv", "/proc/out.csv"], "/proc/out.csv: cannot be written; choose another place",
            marks=pytest.mark.skipif(not Path("/proc/self").exists(), reason="/proc is Linux's"),
        ),
        (["--plot", "plot.gif"], "plot.gif: --plot draws .png, .svg or .pdf; choose one of these endings"),
        (["--csv", "x", "--json", "x"], "x: 2 results would be written to this file"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_and_exit_code_2(accelsim: Run, arguments: list[str], said: str) -> None:
    result = accelsim("run", *arguments)
    assert (result.code, result.out) == (2, "")
    (error,) = result.errors
    assert said in error


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["run", "--backend", "fast"], "'compiled', "),
        (["run", "--seed", "-1"], "--seed"),
        (["run", "--hardwear", "x"], "--hardware"),
        (["schema", "chip"], "'hardware', "),
        (["rum"], "rum"),
    ],
)
def test_a_wrong_argument_is_exit_code_2(accelsim: Run, arguments: list[str], named: str) -> None:
    result = accelsim(*arguments)
    assert (result.code, result.out) == (2, "")
    assert named in result.err


def test_everything_wrong_is_told_at_once(accelsim: Run, tmp_path: Path) -> None:
    chip = edited_chip(tmp_path / "chip.toml", ("pes = 64 ", "pes = 0 "), ("fifo_depth", "fifo_dept"))
    result = accelsim(
        "run", tmp_path / "gone.toml", "--hardware", f"{chip},tpu", "--density", "7", "--plot", tmp_path / "plot.gif",
        "--csv", tmp_path / "no" / "out.csv",
    )  # fmt: skip
    assert result.code == 2
    beginnings = [
        "gone.toml: no such file",
        "engine.pes",
        "engine.fifo_dept",
        "'tpu'",
        "--density",
        "does not exist",
        "plot.gif",
    ]
    assert len(result.errors) == len(beginnings)
    for text in beginnings:
        assert sum(text in error for error in result.errors) == 1


def test_parquet_without_pyarrow(accelsim: Run, monkeypatch: pytest.MonkeyPatch, net: Path, tmp_path: Path) -> None:
    monkeypatch.setattr("accelsim.report.files.find_spec", lambda name: None)
    result = accelsim("run", net, "--parquet", tmp_path / "out.parquet")
    assert result.code == 2
    assert result.errors == ["--parquet: needs pyarrow; install it with: pip install 'accelsim[parquet]'"]
    assert not (tmp_path / "out.parquet").exists()


@pytest.mark.parametrize(
    ("failure", "code"),
    [(KeyboardInterrupt(), 130), (MemoryError(), 2), (OSError(28, "No space left on device"), 2)],
)
def test_a_failure_while_writing_leaves_the_old_file(
    accelsim: Run, monkeypatch: pytest.MonkeyPatch, net: Path, tmp_path: Path, failure: BaseException, code: int
) -> None:
    out = tmp_path / "out.csv"
    out.write_text("precious")

    def half_written(_: pd.DataFrame, path: Path) -> None:
        path.write_text("half")
        raise failure

    monkeypatch.setitem(WRITERS, "csv", half_written)
    result = accelsim("run", net, "-q", "--csv", out)
    assert result.code == code
    assert out.read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", net.name]


def test_interrupting_the_simulation_writes_nothing(
    accelsim: Run, monkeypatch: pytest.MonkeyPatch, net: Path, tmp_path: Path
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["accelsim.simulation"], "simulated_rows", interrupted)
    assert accelsim("run", net, "--csv", tmp_path / "out.csv").code == 130
    assert not (tmp_path / "out.csv").exists()


def test_a_link_is_written_through_and_a_device_is_not_replaced(accelsim: Run, net: Path, tmp_path: Path) -> None:
    (tmp_path / "real.csv").touch()
    (tmp_path / "link.csv").symlink_to("real.csv")
    assert accelsim("run", net, "-q", "--csv", tmp_path / "link.csv", "--json", "/dev/null").code == 0
    assert (tmp_path / "link.csv").is_symlink()
    assert len(pd.read_csv(tmp_path / "real.csv")) == 1
    assert Path("/dev/null").is_char_device()


def test_what_does_not_fit_is_told_and_nothing_written(accelsim: Run, net: Path, tmp_path: Path) -> None:
    result = accelsim("run", net, "--set", "engine.pointer_bytes=4", "--set", "memory.residency=resident",
                      "--csv", tmp_path / "out.csv")  # fmt: skip
    assert (result.code, result.out) == (2, "")
    # 5 columns and the end of the last: 6 pointers of 2 bytes.
    assert "engine.pointer_bytes: needs 12 bytes per PE, has 4 (6 pointers of 16 bits)" in result.errors[0]
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is neither a chip (it has no [engine]) nor a network (it has no [[layer]])"),
        ("[[layer]]\nname = 1\n", "layer 1: name: must be text in quotes (got 1)"),
        ("[engine]\npes = 0\n", "engine.pes: must be at least 1 (got 0); the default is 64"),
    ],
)
def test_check_refuses_what_run_would(accelsim: Run, tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "file.toml"
    path.write_text(content, encoding="utf-8")
    result = accelsim("check", path)
    assert (result.code, result.out) == (2, "")
    assert any(said in error and "file.toml" in error for error in result.errors)


def test_check_reads_every_weight(accelsim: Run, tmp_path: Path) -> None:
    path = tmp_path / "nan.safetensors"
    bad = np.array([[1, 0], [0, np.nan]], np.float32)
    save_file({"a.weight": bad, "b.weight": bad.T.copy(), "b.bias": bad[1]}, path)
    result = accelsim("check", path)
    assert result.code == 2
    assert sorted(error.split(";")[0] for error in result.errors) == [
        f"{path}: layer a: weight[1, 1] is nan",
        f"{path}: layer b: weight[1, 1] is nan",
    ]


def test_check_of_an_unknown_name_suggests_both_kinds(accelsim: Run) -> None:
    (error,) = accelsim("check", "eie-benchmark").errors
    said = "'eie-benchmark': no shipped chip, network or DRAM part of this name; did you mean 'eie-benchmarks'?"
    assert error == said


# In a process of its own


def test_the_module_exits_with_2_and_no_traceback(tmp_path: Path) -> None:
    ended = in_a_process("-m", "accelsim", "run", str(tmp_path / "gone.npz"))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == f"error: {tmp_path}/gone.npz: no such file\n"


def test_a_wing_that_cannot_be_loaded_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    """Every one of them, and a wing that is there but imports what is not."""
    (tmp_path / "wing.py").write_text("import gone.altogether\n")
    paths = os.pathsep.join((str(tmp_path), os.environ["PYTHONPATH"]))
    for arguments in (("run", "lenet-300-100-digits"), ("--help",)):
        ended = in_a_process(
            *("-m", "accelsim", *arguments), ACCELSIM_ENGINES="no_wing, ./toy_engine,wing,toy_engine", PYTHONPATH=paths
        )
        assert (ended.returncode, ended.stdout) == (2, "")
        assert ended.stderr.splitlines() == [
            "error: ACCELSIM_ENGINES: no_wing: no module 'no_wing'; install it, or put its folder on PYTHONPATH",
            "error: ACCELSIM_ENGINES: ./toy_engine: is not the name of a module; write it as after import, "
            "its folder on PYTHONPATH",
            "error: ACCELSIM_ENGINES: wing: no module 'gone'; install it, or put its folder on PYTHONPATH",
        ]


def test_import_and_help_load_nothing_heavy() -> None:
    script = (
        "import os, sys\n"
        "del os.environ['ACCELSIM_ENGINES']  # the machine of these tests loads all of itself\n"
        "import accelsim\n"
        "from accelsim.cli import main\n"
        "sys.argv = ['accelsim', '--help']\n"
        "try:\n    main()\nexcept SystemExit as ended:\n    assert not ended.code\n"
        "heavy = {'numba', 'numpy', 'pandas', 'matplotlib', 'sklearn', 'scipy', 'simpy', 'pydantic', 'safetensors'}\n"
        "sys.exit(f'loaded: {heavy & set(sys.modules)}' if heavy & set(sys.modules) else 0)\n"
    )
    ended = in_a_process("-c", script)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "Usage:" in ended.stdout


def test_energy_explains_every_action_of_a_layer(accelsim: Run) -> None:
    result = accelsim("energy", "--layer", "fc2")
    assert result.code == 0
    row = simulate("lenet-300-100-digits", "eie-64pe-45nm").set_index("layer").loc["fc2"]
    lines = [line for line in result.out.splitlines() if "%" in line]
    shares = [float(line.partition(" %")[0].split()[-1]) for line in lines]
    assert sum(shares) == pytest.approx(100, abs=0.05 * len(shares))
    assert shares == sorted(shares, reverse=True)
    (reads,) = [line for line in lines if "spmat reads" in line]
    assert f"{row['count_spmat_reads']:,}" in reads
    assert "CACTI 7" in reads


def test_energy_of_a_layer_that_is_not_there(accelsim: Run) -> None:
    result = accelsim("energy", "--layer", "fc9")
    assert result.code == 2
    assert result.errors == ["--layer fc9: lenet-300-100-digits has no such layer; did you mean 'fc3'?"]


def test_energy_of_one_layer_is_that_of_the_whole_network(accelsim: Run, tmp_path: Path) -> None:
    """Alone the layer would fit on the chip; with the others it has to be streamed."""
    figure = tmp_path / "energy.svg"
    result = accelsim("energy", "--layer", "fc3", "--set", "engine.pointer_bytes=700", "--plot", figure)
    assert result.code == 0
    assert "dram reads" in result.out
    assert "@ DRAM" in result.out
    assert figure.read_text(encoding="utf-8").lstrip().startswith("<?xml")


def test_compare_and_inspect_print_tables(accelsim: Run, tmp_path: Path) -> None:
    figure, rows = tmp_path / "compare.svg", tmp_path / "compare.csv"
    said = accelsim(
        "compare", "lenet-300-100-digits-dense", "--granularity", "fine,nm:2:4", "--plot", figure, "--csv", rows
    )
    assert said.code == 0
    assert "as given" in said.out
    assert "2:4" in said.out
    assert figure.read_text(encoding="utf-8").lstrip().startswith("<?xml")
    assert len(pd.read_csv(rows)) == 3 * 3 * 2
    said = accelsim("inspect", "lenet-300-100-digits")
    assert said.code == 0
    assert "8.0 %" in said.out


def test_mistakes_of_compare(accelsim: Run) -> None:
    said = accelsim("compare", "--granularity", "fien")
    assert said.code == 2
    assert "did you mean 'fine'" in said.errors[0]


def test_energy_of_a_tensor_core_adds_up_to_its_row(accelsim: Run) -> None:
    result = accelsim("energy", "--layer", "fc2", "--hardware", "a100-pcie")
    assert result.code == 0
    shares = [float(line.partition(" %")[0].split()[-1]) for line in result.out.splitlines() if "%" in line]
    assert sum(shares) == pytest.approx(100, abs=0.05 * len(shares))
    assert "fma" in result.out


@pytest.mark.thorough
def test_a_layer_that_a_chip_cannot_run_is_told_and_drawn_nowhere(accelsim: Run, tmp_path: Path) -> None:
    result = accelsim("run", "vgg16-fc", "--set", "memory.residency=resident", "--plot", tmp_path / "figure.svg",
                      "--csv", tmp_path / "out.csv")  # fmt: skip
    assert result.code == 0
    assert any("layer fc6 on eie-64pe-45nm: engine.pointer_bytes" in line for line in result.err.splitlines())
    table = pd.read_csv(tmp_path / "out.csv").set_index("layer")
    assert table["cycles"].isna().tolist() == [True, False, False]
    drawn = (tmp_path / "figure.svg").read_text()
    assert "fc7" in drawn
    assert "fc6" not in drawn
    assert accelsim("run", "vgg16-fc", "--set", "memory.residency=resident", "--json", tmp_path / "out.json").code == 0
    assert json.loads((tmp_path / "out.json").read_text())[0]["cycles"] is None


def test_what_is_wrong_with_every_layer_is_told_once(accelsim: Run) -> None:
    told = accelsim("prune", "--criterion", "magnitude").err.splitlines()
    assert len(told) == 2
    assert told[0].startswith("error: layers fc1, fc2, fc3: --criterion: 'magnitude' is not known; known: apoz, l1, l2")
    assert told[1].startswith("error: layers fc1, fc2, fc3: --sparsity: missing; 'fine' needs the share of weights")


@pytest.mark.parametrize("command", [str(each.name or each.callback.__name__) for each in app.registered_commands])
def test_help_has_no_types_of_python_and_whole_defaults(
    accelsim: Run, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    said = accelsim(command, "--help").out
    options = [line for line in said.splitlines() if re.match(r"│ \*? *--", line)]
    assert options
    assert not [line for line in options if re.search("<(bool|str|path|int|float|list)", line)]
    assert "…" not in said
    assert any(re.search(r"--help +(-h +)?Show ", line) for line in options)


def test_prune_writes_a_network_that_every_command_reads(accelsim: Run, tmp_path: Path) -> None:
    out = tmp_path / "pruned.safetensors"
    result = accelsim("prune", "--granularity", "nm:2:4", "--criterion", "wanda", "--update", "-o", out)
    assert result.code == 0
    assert f"wrote {out}" in result.out
    pruned = load_network(out)
    assert pruned.provenance["granularity"] == "nm:2:4"
    assert all(np.count_nonzero(layer.weight) * 2 == layer.weight.size for layer in pruned)
    assert accelsim("run", out, "--hardware", "edge-nm-16x16", "--csv", tmp_path / "run.csv").code == 0
    assert pd.read_csv(tmp_path / "run.csv")["executed_as"].tolist() == ["2:4"] * 3
    accelsim("prune", "--sparsity", "0.75", "--global", "-o", out)
    zeros = [np.count_nonzero(layer.weight == 0) for layer in load_network(out)]
    assert sum(zeros) == 0.75 * (64 * 300 + 300 * 100 + 100 * 10)


def test_sensitivity_goes_on_from_its_store(accelsim: Run, tmp_path: Path) -> None:
    store, plot = tmp_path / "scores.json", tmp_path / "figure.png"
    arguments = ("sensitivity", "--sparsity", "0.5,0.9", "--scores", store)
    result = accelsim(*arguments, "--csv", tmp_path / "table.csv", "--plot", plot)
    assert result.code == 0
    assert plot.read_bytes().startswith(b"\x89PNG")
    table = pd.read_csv(tmp_path / "table.csv")
    assert table["layer"].tolist() == ["fc1", "fc1", "fc2", "fc2", "fc3", "fc3"]
    assert len(json.loads(store.read_text())) == 1 + 6
    again = accelsim(*arguments, "--csv", tmp_path / "again.csv")
    assert again.code == 0
    assert pd.read_csv(tmp_path / "again.csv").equals(table)


def test_allocate_meets_a_share_of_the_cost(accelsim: Run, tmp_path: Path) -> None:
    out = tmp_path / "small.safetensors"
    result = accelsim("allocate", "--budget", "energy_pj=70%", "--csv", tmp_path / "steps.csv", "-o", out)
    assert result.code == 0
    steps = pd.read_csv(tmp_path / "steps.csv")["energy_pj"]
    assert steps.iloc[-1] <= 0.7 * steps.iloc[0]
    accelsim("run", out, "-q", "--csv", tmp_path / "run.csv")
    assert pd.read_csv(tmp_path / "run.csv")["energy_pj"].sum() == pytest.approx(steps.iloc[-1])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("prune", "--sparsity", "1.5"), "--sparsity 1.5: must be a number, at least 0 and below 1"),
        (("prune", "--sparsity", "fc1=0.5", "--global"), "--global: takes one --sparsity for all layers"),
        (("prune", "--sparsity", "fc7=0.5"), "has no layer 'fc7'; did you mean 'fc"),
        (("prune", "--granularity", "kernel", "--sparsity", "0.5"), "granularity 'kernel'"),
        (("prune", "--sparsity", "0.5", "-o", "/nowhere/out.safetensors"), "the directory /nowhere does not exist"),
        (("sensitivity", "--evaluate", "digit"), "evaluate: 'digit' is not known; did you mean 'digits'"),
        (("sensitivity", "--sparsity", "a"), "--sparsity a: must be a number"),
        (("allocate", "--budget", "time_us"), "--budget time_us: write METRIC=NUMBER"),
        (("allocate", "--budget", "times=5"), "metric: 'times' is not known; did you mean 'time_us'"),
        (("allocate", "--hardware", "eie-64pe-45nm,a100-pcie"), "takes one chip"),
    ],
)
def test_mistakes_in_pruning(
    accelsim: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = accelsim(*arguments)
    assert result.code == 2
    assert any(said in error for error in result.errors)
    assert not list(tmp_path.iterdir())


def test_curve_prints_the_scores_below_the_costs(accelsim: Run, tmp_path: Path) -> None:
    out = tmp_path / "curve.svg"
    arguments = ("--sparsity", "0.5", "--granularity", "fine", "--hardware", "eie-64pe-45nm", "--evaluate", "digits")
    said = accelsim("curve", *arguments, "-o", out, "--csv", tmp_path / "curve.csv").out
    table = pd.read_csv(tmp_path / "curve.csv")
    costs, scores = said.split("lenet-300-100-digits-dense: score, by the share of weights that are zero")
    assert "energy in pJ, by the share of weights that are zero" in costs
    for place, column in ((costs, "energy_pj"), (scores, "score")):
        for value in table[column]:
            assert number(value) in place


def test_curve_writes_a_figure_and_its_table(accelsim: Run, tmp_path: Path) -> None:
    out = tmp_path / "curve.png"
    arguments = ("--sparsity", "0.5:0.9:0.2", "--granularity", "fine,channel", "--hardware", "eie-64pe-45nm")
    assert accelsim("curve", *arguments, "-o", out).code == 0
    assert out.read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.iterdir()) == [out]  # a table is written where it is asked for
    assert accelsim("curve", *arguments, "-o", out, "--csv", tmp_path / "curve.csv").code == 0
    table = pd.read_csv(tmp_path / "curve.csv")
    assert table.loc[table["granularity"] == "fine", "sparsity"].tolist() == [0.5, 0.7, 0.9]
    for wrong, said in (
        (("--metric", "joules"), "metric: 'joules' is not known"),
        (("--metric", "accuracy"), "--metric accuracy: needs --evaluate"),
        (("--sparsity", "0.9:0.5:0.1"), "--sparsity 0.9:0.5:0.1: write from:to:step"),
    ):
        result = accelsim("curve", *wrong, "-o", tmp_path / "other.svg")
        assert result.code == 2
        assert any(said in error for error in result.errors)
    assert not (tmp_path / "other.svg").exists()


def test_weights_come_from_a_file_of_their_own(accelsim: Run, tmp_path: Path) -> None:
    file = tmp_path / "zeros.safetensors"
    net = load_network("convnet-digits")
    save_file({f"{layer.name}.weight": np.eye(layer.out_features, layer.in_features, dtype=np.float32).reshape(
        layer.weight_shape) for layer in net}, file)  # fmt: skip
    assert accelsim("run", "convnet-digits", "--weights", file, "-q", "--csv", tmp_path / "out.csv").code == 0
    table = pd.read_csv(tmp_path / "out.csv")
    expected = [min(layer.out_features, layer.in_features) / layer.weight_count for layer in net]
    assert table["weight_density"].tolist() == pytest.approx(expected)
    assert accelsim("inspect", file).code == 0  # which gives no geometry
    assert accelsim("run", "lenet-5", "--weights", file).code == 2


def test_divisions_are_two_lines_a_chip(accelsim: Run, tmp_path: Path) -> None:
    result = accelsim("divisions", "--csv", tmp_path / "out.csv")
    assert result.code == 0
    assert pd.read_csv(tmp_path / "out.csv")["division"].tolist() == ["closed", "open"] * 2
    assert "98.0 %" in result.out
    assert accelsim("divisions", "lenet-300-100-digits-dense").code == 2
