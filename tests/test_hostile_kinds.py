"""What once broke a reader, each kind once: is it read, or refused before it takes memory, waits or runs?"""

from __future__ import annotations

import gzip
import io
import os
import pickle
import sys
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from conftest import Run

from accelsim import InputError, Layer, Network, load_hardware, load_network, simulate
from accelsim.config import shipped_dir, shipped_names
from accelsim.files import check_writable, real_path, write_whole
from accelsim.memory import load_part, read_trace
from accelsim.network.files import open_tensors
from accelsim.network.files.pickles import read_pickle
from accelsim.network.files.torch_pickle import MAKERS, Storage
from accelsim.report import trace
from accelsim.report.plots.exploration import write_front
from accelsim.report.plots.style import log_limits
from accelsim.report.reading import read_table
from accelsim.scalesim import read_config, read_topology

CORPUS = Path(__file__).parent / "cases" / "hostile"


def test_weights_that_are_not_finite_are_told_of_the_first_of_several_layers(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, **{"a.weight": np.full((4, 4), np.nan, np.float32), "b.weight": np.eye(4, dtype=np.float32)})
    with pytest.raises(InputError, match=r"layer a: weight\[0, 0\] is nan; weights must be finite"):
        simulate(load_network(path), "eie-64pe-45nm", 1.0)


def test_a_shape_below_zero_is_refused_of_any_type(tmp_path: Path) -> None:
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (-1, 4), }\n"
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", b"\x93NUMPY\x01\0" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(InputError, match=r"not a complete npz file: 'a' claims shape \(-1, 4\)"):
        open_tensors(tmp_path / "a.npz")


READERS: dict[str, Callable[[Path], object]] = {
    "a.npz": load_network,
    "a.toml": load_hardware,
    "a.onnx": load_network,
    "a.csv": read_table,
    "b.csv": read_topology,
    "a.cfg": read_config,
    "a.json": trace.read_trace,
    "config.json": load_network,
    "a.trace": lambda path: read_trace(path, load_part("ddr4-2400")),
}


@pytest.mark.parametrize("name", READERS)
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(InputError, match=rf"{name}: is a pipe or a device, which is not read; name a file"):
        READERS[name](tmp_path / name)


@pytest.mark.parametrize("command", [
    ("run", "lenet-300-100-digits", "--weights"), ("inspect", "lenet-300-100-digits", "--csv"),
    ("curve", "lenet-300-100-digits", "-o"), ("check",),
])  # fmt: skip
@pytest.mark.parametrize("ending", ["db", "csv", "svg", "pt"])
def test_a_command_waits_for_no_pipe(tmp_path: Path, accelsim: Run, command: tuple[str, ...], ending: str) -> None:
    os.mkfifo(tmp_path / f"place.{ending}")
    said = accelsim(*command, tmp_path / f"place.{ending}")
    assert said.code == 2
    assert f"place.{ending}" in said.errors[0]


def test_what_a_shell_opens_for_a_command_is_written() -> None:
    reading, writing = os.pipe()
    path = Path(f"/dev/fd/{writing}")
    check_writable(path)
    write_whole(path, lambda target: target.write_text("whole"))
    os.close(writing)
    with os.fdopen(reading) as file:
        assert file.read() == "whole"


def test_links_that_lead_in_a_loop_are_the_place_of_nothing(tmp_path: Path, accelsim: Run) -> None:
    loop = tmp_path / "loop.json"
    loop.symlink_to(loop)
    said = accelsim("run", "lenet-300-100-digits", "--against", "none", "--json", loop)
    assert (said.code, said.errors) == (
        2, [f"{loop}: cannot be the name of a file: Too many levels of symbolic links; choose another one"],
    )  # fmt: skip
    assert real_path(loop).name == "loop.json"
    assert real_path("a\0b").name == "a\0b"


def test_a_file_named_beside_a_shipped_chip_lies_where_the_command_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = (shipped_dir("hwconfigs/technology") / "cmos-45nm.toml").read_text(encoding="utf-8")
    Path("own.toml").write_text(text.replace("register_bit_pj =", "register_bit_pj = 1.0 #"), encoding="utf-8")
    chip = load_hardware("eie-64pe-45nm", {"technology": "own.toml"})
    assert chip.technology is not None
    with pytest.raises(InputError, match=r"^eie-64pe-45nm.toml: technology: gone.toml: no such file"):
        load_hardware("eie-64pe-45nm", {"technology": "gone.toml"})


@pytest.mark.parametrize("points", [2**63, 10**400, float("nan"), [0, 2**31], [float("inf"), 0.0], "x", None])
def test_a_zero_that_no_type_holds_is_refused(points: object) -> None:
    stored = Storage("0", "qint8", "cpu")
    scheme = SimpleNamespace(name="torch.per_channel_affine" if isinstance(points, list) else "torch.per_tensor_affine")
    with pytest.raises(ValueError, match="has a tensor whose zero is stored as"):
        MAKERS["torch._utils._rebuild_qtensor"](stored, 0, (2, 3), (3, 1), (scheme, 1.0, points, 0))


@pytest.mark.parametrize("name", shipped_names("hwconfigs"))
@pytest.mark.parametrize("key", ["technology", "memory", "engine"])
def test_a_chip_that_lacks_a_table_is_told_or_checked(tmp_path: Path, accelsim: Run, name: str, key: str) -> None:
    (tmp_path / "chip.toml").write_text(f'base = "{name}"\nremove = ["{key}"]\n')
    said = accelsim("check", tmp_path / "chip.toml")
    assert said.code in (0, 2)
    assert not said.code or "chip.toml: " in said.errors[0]


def test_a_pipe_beside_a_missing_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "chio.toml")
    with pytest.raises(InputError, match=r"chip.toml: no such file$"):
        load_hardware(tmp_path / "chip.toml")


def test_a_sparse_tensor_of_a_few_bytes_is_not_made_gigabytes() -> None:
    with pytest.raises(InputError, match=r"'fc.weight': would take 5\.96 GiB of memory, of [\d,]+ bytes in its file"):
        load_network(CORPUS / "bombs-sparse.pt")


def test_zeros_that_deflate_to_nothing_are_not_made_gigabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "a.npz", **{"fc.weight": np.zeros((1024, 4096), np.float32)})
    net = load_network(tmp_path / "a.npz")
    monkeypatch.setattr("accelsim.network.sizes.LEAST_CHECKED_BYTES", 2**20)
    with pytest.raises(InputError, match=r"'fc.weight': would take 0\.02 GiB of memory"):
        _ = net["fc"].weight


DEPTH = 9


def test_what_a_pickle_nests_again_and_again_is_not_gone_through() -> None:
    # Nine dicts in one another, each with a thousand names for the next: written out, 10^27 things.
    parts = [b"\x80\x02}"]
    for level in range(DEPTH):
        parts.append(b"q" + bytes([level]) + b"0}(")
        parts += [b"K" + bytes([key]) + b"h" + bytes([level]) for key in range(200)]
        parts.append(b"u")
    with pytest.raises(ValueError, match="the same things again and again"):
        read_pickle(io.BytesIO(b"".join(parts) + b"."), {}, lambda saved: saved)
    with pytest.raises(ValueError, match="holds itself"):
        read_pickle(io.BytesIO(b"\x80\x02]q\0h\0a."), {}, lambda saved: saved)
    twice = b"(" + b"2\x86" * 60  # two of what was there, sixty times: as text 2^60 characters
    with pytest.raises(ValueError, match="by something else than text"):
        read_pickle(io.BytesIO(b"\x80\x04N" + twice.removeprefix(b"(") + b"N\x93."), {}, lambda saved: saved)


def test_a_number_of_thousands_of_digits_is_in_no_pickle() -> None:
    number = (1 << 80_000).to_bytes(10_001, "little")
    content = b"\x80\x02}\x8b" + len(number).to_bytes(4, "little") + number + b"Nsq\0."
    with pytest.raises(ValueError, match="a whole number of 80,001 bits"):
        read_pickle(io.BytesIO(content), {}, lambda saved: saved)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b'{"traceEvents": [' + b"0," * 2**23, r"a.json.gz: has more than 16,777,216 bytes, more than any trace"),
        (b'{"traceEvents": [' + b"{}," * (2**17 + 1000), r"a.json.gz: has more than 0 events"),
    ],
)
def test_a_packed_trace_is_not_unpacked_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: bytes, said: str
) -> None:
    monkeypatch.setattr(trace, "MOST_EVENTS", 0)
    monkeypatch.setattr(trace, "MOST_TABLES", 2**17)
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(text))
    with pytest.raises(InputError, match=said):
        trace.read_trace(tmp_path / "a.json.gz")


CALLS = {
    "REDUCE": b"cos\nmkdir\n(Vcanary\ntR",
    "OBJ": b"(cos\nmkdir\nVcanary\no",
    "INST": b"(Vcanary\nios\nmkdir\n",
    "NEWOBJ": b"cos\nmkdir\n(Vcanary\nt\x81",
    "STACK_GLOBAL": b"Vos\nVmkdir\n\x93(Vcanary\ntR",
    "BUILD": b"cos\nmkdir\n(Vcanary\ntR}b",
}
"""Operations that call what a pickle names: os.mkdir("canary"); NEWOBJ calls its `__new__`, of which mkdir has none."""


@pytest.mark.parametrize("operation", CALLS)
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".ckpt"])
def test_a_pickle_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str, suffix: str) -> None:
    monkeypatch.chdir(tmp_path)
    content = b"\x80\x04}Vfc.weight\n" + CALLS[operation] + b"s."
    bare, packed = Path(f"bare{suffix}"), Path(f"packed{suffix}")
    bare.write_bytes(content)
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("net/data.pkl", content)
        archive.writestr("net/version", b"3\n")
    for path in (bare, packed):
        with pytest.raises(InputError, match=path.name):
            load_network(path)
    assert not Path("canary").exists()
    if operation != "NEWOBJ":
        with suppress(AttributeError):  # of None, which mkdir returns
            pickle.loads(content)  # noqa: S301 - the canary would have been made
        assert Path("canary").exists()


def test_a_logarithmic_axis_leaves_out_what_has_no_place_on_it() -> None:
    assert log_limits([0.0, -1.0, float("nan"), 10.0, 100.0]) == log_limits([10.0, 100.0])
    low, high = log_limits([0.0])
    assert 0 < low < 1 < high


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_figure_of_a_store_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "front.svg"
    path.symlink_to("/dev/full")
    table = pd.DataFrame({"energy_pj": [1.0, 2.0], "time_us": [2.0, 1.0], "point": [0, 1], "error": ["", ""]})
    table["able"] = table["layers"] = 1
    with pytest.raises(InputError, match=r"front.svg: cannot be written: No space left on device"):
        write_front(table, ["energy_pj", "time_us"], [], path)


def test_labels_that_do_not_fit_name_their_file(tmp_path: Path, accelsim: Run) -> None:
    np.save(tmp_path / "y.npy", np.arange(3))
    said = accelsim("run", "lenet-300-100-digits", "--against", "none", "--labels", tmp_path / "y.npy")
    assert said.code == 2
    assert said.errors == [f"{tmp_path}/y.npy: labels: there are 3 for 16 samples; give one of each"]


@pytest.mark.parametrize(
    "header", ["{'descr': (", "(" * 300, "{'descr': '<f4', 'fortran_order': 1, 'shape': (-1,)}", "\0"]
)
def test_samples_that_are_no_array_are_told(tmp_path: Path, accelsim: Run, header: str) -> None:
    text = f"{header}\n".encode()
    (tmp_path / "x.npy").write_bytes(b"\x93NUMPY\x01\0" + len(text).to_bytes(2, "little") + text)
    said = accelsim("run", "lenet-300-100-digits", "--against", "none", "--inputs", tmp_path / "x.npy")
    assert said.code == 2
    assert said.errors[0].startswith(f"{tmp_path}/x.npy: is not an array (")


DIGITS = "9" * 5000


@pytest.mark.parametrize(
    ("name", "content", "command"),
    [
        ("r.json", f'[{{"layer": "fc", "cycles": {DIGITS}}}]', ("plot", "r.json", "energy", "-o", "x.svg")),
        ("config.json", f'{{"model_type": "llama", "hidden_size": {DIGITS}}}', ("check", "config.json")),
        ("t.json", f'{{"traceEvents": [{{"ts": {DIGITS}}}]}}', ("plot", "t.json", "queue", "-o", "x.svg")),
    ],
)
def test_numbers_of_thousands_of_digits_are_told_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accelsim: Run, name: str, content: str, command: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_text(content)
    said = accelsim(*command)
    assert said.code == 2
    assert said.errors[0].startswith(f"{name}: is not JSON")
    assert "a whole number has more digits than any that is read" in said.errors[0]


@pytest.mark.skipif(os.name == "nt" or sys.platform == "darwin", reason="names of files are UTF-8 there")
def test_a_file_whose_name_is_no_utf8_is_a_file_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accelsim: Run
) -> None:
    monkeypatch.chdir(tmp_path)
    net, space, store, page, pruned = (f"\udcff.{end}" for end in ("npz", "toml", "db", "html", "safetensors"))
    with open(net, "wb") as file:
        np.savez(file, **{"fc.weight": np.eye(8, dtype=np.float32)})
    Path(space).write_text("network = 'lenet-300-100-digits'\nvary.engine.fifo_depth = [4, 8]\n")
    for command in (
        ("run", net, "--density", "0.5", "--csv", "t.csv", "--json", "t.json"),
        ("report", net, "--density", "0.5", "-o", page),
        ("prune", net, "--sparsity", "0.5", "-o", pruned),
        ("check", pruned),
        ("sweep", space, "--store", store, "--jobs", "1"),
        ("pareto", store),
    ):
        said = accelsim(*command)
        assert said.code == 0, said.err
    assert pd.read_csv("t.csv")["network"].tolist() == [r"\udcff"]


def test_half_a_surrogate_pair_in_results_is_a_name_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accelsim: Run
) -> None:
    monkeypatch.chdir(tmp_path)
    assert accelsim("run", "--against", "none", "--json", "t.json", "-q").code == 0
    Path("t.json").write_text(Path("t.json").read_text().replace('"fc1"', r'"fc1\ud83d"'))
    assert read_table(Path("t.json"))["layer"].tolist() == [r"fc1\ud83d", "fc2", "fc3"]
    assert accelsim("plot", "t.json", "energy", "-o", "t.svg").code == 0


def test_half_a_surrogate_pair_is_no_name_of_a_layer() -> None:
    with pytest.raises(InputError, match=r"layer 'fc\\ud800': name: is not text in UTF-8; rename it"):
        Network("net", [Layer.linear("fc\ud800", np.eye(4))])
