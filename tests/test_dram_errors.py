"""Does each mistake in a part file, a map, a load or a trace name its place, its value and a remedy?"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TIMED_PARTS

from accelsim import memory
from accelsim.cli import main
from accelsim.config import shipped_dir
from accelsim.errors import InputError
from accelsim.memory import DramPart, load_memory, load_part

ONE = np.zeros(1, np.int64)
READ = np.zeros(1, bool)


@pytest.mark.parametrize("name", TIMED_PARTS)
def test_a_shipped_part_says_where_it_is_from(name: str) -> None:
    part = load_part(name)
    assert part.name == name
    assert part.source
    assert part.description


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"timing.t_ras_ns": 60.0}, "timing.t_rc_ns: must be at least t_ras_ns = 60 (got 46.48)"),
        ({"timing.t_faw_ns": 1.0}, "timing.t_faw_ns: must be at least t_rrd_s_ns = 3.32 (got 1)"),
        ({"timing.t_rfc_ns": 9000.0}, "timing.t_refi_ns: must leave time for an access between refreshes"),
        (
            {"timing.t_ccd_l_ns": 5e6},
            "timing.t_ccd_l_ns: is more than 100 times as long as the time between refreshes, t_refi_ns =",
        ),
        (
            {"timing.t_rtrs_ns": 5e6},
            "timing.t_rtrs_ns: is more than 100 times as long as the time between refreshes, t_refi_ns =",
        ),
        ({"timing.burst_ns": 3.32e-9}, "timing.burst_ns: is no more than half a clock"),
        ({"timing.cl_ns": "14"}, 'timing.cl_ns: must be a number, without quotes (got "14")'),
        ({"timing.t_faw": 20.0}, "timing.t_faw: unknown key (got 20.0); did you mean 't_faw_ns'?"),
        ({"geometry.banks_per_group": 0}, "geometry.banks_per_group: must be at least 1 (got 0)"),
        ({"geometry.banks_per_group": 3}, "geometry.banks_per_group: must be a power of two"),
        ({"geometry.row_bytes": 32}, "geometry.row_bytes: must hold at least one block of 64 bytes (got 32)"),
        ({"geometry.bank_groups": 1024}, "geometry.banks_per_group: a channel has 4096 banks"),
        ({"currents.idd4r_ma": 20.0}, "currents.idd4r_ma: must be above idd3n_ma = 43 (got 20)"),
        ({"currents.idd0_ma": 20.0}, "currents.idd0_ma: is below the standby current"),
        (
            {"io.vddq_v": 1.2},
            "io: give either read_pj_per_bit and write_pj_per_bit, or vddq_v, idd4r_ma, idd4w_ma "
            "(got read_pj_per_bit, write_pj_per_bit, vddq_v)",
        ),
        (
            {"io": {"source": "none"}},
            "io: give either read_pj_per_bit and write_pj_per_bit, or vddq_v, idd4r_ma, idd4w_ma (got none of them)",
        ),
        (
            {"io": {"vddq_v": 1.2, "idd4r_ma": 9.0, "source": "half"}},
            "io: give either read_pj_per_bit and write_pj_per_bit, or vddq_v, idd4r_ma, idd4w_ma "
            "(got vddq_v, idd4r_ma)",
        ),
        ({"io.read_pj_per_bit": -1.0}, "io.read_pj_per_bit: must be at least 0 (got -1.0)"),
        ({"io.derived": 1}, "io.derived: must be true or false"),
        ({"io.read_pj": 1.0}, "io.read_pj: unknown key (got 1.0); did you mean 'read_pj_per_bit'?"),
        ({"controller.page_policy": "half"}, "controller.page_policy: must be 'open' or 'closed' (got \"half\")"),
        ({"geometry.bank_groups": 0}, "geometry.bank_groups: must be at least 1 (got 0); the default is 1"),
        ({"geometry.rows": True}, "geometry.rows: must be a whole number, without quotes or a point (got true)"),
        ({"geometry.rows": 2**40}, "geometry.rows: all channels together have 1.34218e+08 GiB; give them"),
        ({"geometry.channels": 2**11}, "geometry.channels: must be at most 1024 (got 2048); the default is 1"),
        ({"geometry": 3}, "geometry: must be one table, [geometry] or geometry = { ... } (got 3)"),
        ({"timing.clock_ns": 0}, "timing.clock_ns: must be above 0 (got 0)"),
        ({"timing.clock_ns": 1e-9}, "timing.burst_ns: is more than 16777216 clocks of 1e-09 ns (got 3.32)"),
        ({"timing.clock_ns": 1e-322}, "timing.clock_ns: must be at least 1e-09 (got 1e-322)"),
        ({"timing.t_rp_ns": -1.0}, "timing.t_rp_ns: must be above 0 (got -1.0)"),
        ({"timing.t_wtr_s_ns": float("nan")}, "timing.t_wtr_s_ns: must be a finite number (got nan)"),
        ({"timing.cl_ns": float("inf")}, "timing.cl_ns: must be a finite number (got inf)"),
        (
            {"timing.t_refi_ns": 9e8},
            "timing.t_refi_ns: is more than 16777216 clocks of 0.83 ns (got 9e+08); is it in ns?",
        ),
        ({"timing.t_faw_ns": 1e300}, "timing.t_faw_ns: must be at most 1e+09 (got 1e+300)"),
        ({"currents.idd0_ma": float("nan")}, "currents.idd0_ma: must be a finite number (got nan)"),
        ({"controller.bank_queue": 2**13}, "controller.bank_queue: must be at most 4096 (got 8192); the default is 8"),
        ({"published.pj_per_bit": 4.0}, "published.source: is missing; add it"),
        ({"published.pj_per_bit": -4.0}, "published.pj_per_bit: must be above 0 (got -4.0)"),
        ({"model": "bandwidth-only"}, "bandwidth: is missing; add it"),
        ({"model": "timd"}, "model: is unknown (got 'timd'); did you mean 'timed'?"),
        ({"address_map": "RoBaCo"}, "address_map: field 'Bg' is missing from 'RoBaCo', but the part has 4 bank_groups"),
        ({"address_map": "RoBaCoBgRo"}, "address_map: field 'Ro' stands twice in 'RoBaCoBgRo'; name each once"),
        ({"address_map": "RoBaCoXx"}, "address_map: unknown field 'Xx' in 'RoBaCoXx'"),
    ],
)
def test_a_mistake_in_a_part(overrides: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as error:
        load_part("ddr4-2400", overrides)
    assert f"ddr4-2400.toml: {said}" in str(error.value)


def test_pins_beside_a_published_energy_would_be_paid_twice() -> None:
    pins = {"source": "drawn", "read_pj_per_bit": 1.0, "write_pj_per_bit": 1.0}
    with pytest.raises(InputError, match=r"io: is not used without currents, since a published energy has the pins"):
        load_part("hbm2-2400", {"io": pins})


def edited(path: Path, *edits: tuple[str, str]) -> Path:
    """Write ddr4-2400 with some text replaced."""
    text = (shipped_dir("hwconfigs") / "dram" / "ddr4-2400.toml").read_text(encoding="utf-8")
    for old, new in edits:
        assert old in text
        text = text.replace(old, new, 1)
    path.write_text(text, encoding="utf-8")
    return path


def said_by(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object) -> list[str]:
    """The errors of a command that must end with exit code 2 and print nothing else."""
    monkeypatch.setattr(sys, "argv", ["accelsim", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    captured = capsys.readouterr()
    assert (ended.value.code, captured.out) == (2, "")
    lines = captured.err.splitlines()
    assert all(line.startswith("error: ") for line in lines)
    return [line.removeprefix("error: ") for line in lines]


def test_check_tells_every_mistake_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = edited(
        tmp_path / "part.toml",
        ("t_ras_ns = 32.37", "t_ras_ns = 60.0"),
        ("t_faw_ns = 21.58", "t_faw_ns = 1.0"),
        ("rows = 65536", "rows = 65537"),
        ("idd2n_ma = 34.0", "idd2n_ma = nan"),
        ("address_map", "adress_map"),
    )
    errors = said_by(monkeypatch, capsys, "check", file)
    for said in (
        "timing.t_rc_ns: must be at least t_ras_ns = 60 (got 46.48); check both in the data sheet",
        "timing.t_faw_ns: must be at least t_rrd_s_ns = 3.32 (got 1); check both in the data sheet",
        "geometry.rows: must be a power of two, since it is a field of the address (got 65537)",
        "currents.idd2n_ma: must be a finite number (got nan)",
        "adress_map: unknown key (got \"RoBaCoBg\"); did you mean 'address_map'?",
        "address_map: is missing; add it",
    ):
        assert f"{file}: {said}" in errors
    assert len(errors) == 6


@pytest.mark.parametrize("name", ["ddr4-2400", "hbm3e-h200"])
def test_a_part_is_neither_a_chip_nor_a_network(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = shipped_dir("hwconfigs") / "dram" / f"{name}.toml"
    (error,) = said_by(monkeypatch, capsys, "run", "--hardware", path)
    assert error == f"{name}.toml: is a DRAM part, not a chip; a chip has [engine] or base"
    (error,) = said_by(monkeypatch, capsys, "run", "--hardware", name)
    assert error.startswith(f"'{name}': is a DRAM part, not a chip; ")
    (error,) = said_by(monkeypatch, capsys, "run", path)
    assert error == f"{name}.toml: is a DRAM part, not a network; a network has [[layer]]"


@pytest.mark.parametrize(("file", "kind"), [("eie-64pe-45nm", "chip"), ("technology/cmos-45nm", "technology")])
def test_another_file_is_no_part(file: str, kind: str) -> None:
    path = shipped_dir("hwconfigs") / f"{file}.toml"
    with pytest.raises(InputError, match=rf"is a {kind}, not a DRAM part; a DRAM part has \[timing\] or \[bandwidth\]"):
        load_memory(path)
    with pytest.raises(InputError, match=f"'{path.stem}': is a {kind}, not a DRAM part; "):
        load_memory(path.stem)


def test_check_says_what_a_part_is(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    # Eight devices of 8 Gb are 8 GiB; the peak is 64 bytes in four clocks of 0.83 ns.
    peak = f"{64 / (4 * 0.83):g}"
    for name, said in {
        "ddr4-2400": f"a valid DRAM part: ddr4-2400, 1 x {peak} GB/s, 8 GiB\n",
        "hbm2-2400": "1 GiB, no currents, 3.92 pJ per bit published\n",
        "gddr6x-rtx4090": "929.8 of 1008 GB/s, 214.9 ns, no timings, 7.25 pJ per bit published\n",
    }.items():
        monkeypatch.setattr(sys, "argv", ["accelsim", "check", name])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        assert capsys.readouterr().out.endswith(said)


def test_all_mistakes_at_once() -> None:
    wrong = {"timing.t_ras_ns": 60.0, "timing.t_faw_ns": 1.0, "geometry.rows": 5, "geometry.devices": 0, "speed": 1}
    with pytest.raises(InputError) as error:
        load_part("ddr4-2400", wrong)
    text = str(error.value)
    assert all(key in text for key in ("timing.t_rc_ns", "timing.t_faw_ns", "geometry.devices", "speed"))


@pytest.mark.parametrize(
    ("address_map", "said"),
    [
        ("RoBaCoBgRo", "field 'Ro' stands twice"),
        ("RoBaCo", "field 'Bg' is missing from 'RoBaCo', but the part has 4 bank_groups"),
        ("robacobg", "unknown field 'ro'"),
        ("RoBaCoB", "unknown field 'B'"),
        ("", "field 'Ro' is missing"),
        (7, "must be text"),
    ],
)
def test_a_mistake_in_a_map(address_map: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        memory.replay("ddr4-2400", ONE, READ, address_map=address_map)


@pytest.mark.parametrize("load", [0, -0.5, float("nan"), float("inf"), "full", True, None, 1e-9])
def test_a_mistake_in_a_load(load: Any) -> None:
    with pytest.raises(InputError, match="load: must be 'saturated' or a fraction of peak"):
        memory.replay("ddr4-2400", ONE, READ, load)


@pytest.mark.parametrize(
    ("block", "write", "said"),
    [
        (np.array([0, 2**27]), np.zeros(2, bool), r"block\[1\]: 134217728 is outside ddr4-2400, .* \(8 GiB\)"),
        (np.array([0, -1]), np.zeros(2, bool), r"block\[1\]: -1 is outside"),
        (np.array([2**63], np.uint64), READ, r"block\[0\]: 9223372036854775808 is outside"),
        (np.zeros(1), READ, "block: must be a 1-D array of whole numbers .got 1-D float64"),
        (np.zeros((1, 1), int), READ, "block: must be a 1-D array"),
        (np.zeros(0, int), np.zeros(0, bool), "block: is empty"),
        (ONE, np.zeros(2, bool), "write: must be a bool array as long as block"),
        (ONE, np.zeros(1, int), "write: must be a bool array as long as block .got int64"),
    ],
)
def test_a_mistake_in_a_trace(block: np.ndarray, write: np.ndarray, said: str) -> None:
    with pytest.raises(InputError, match=said):
        memory.replay("ddr4-2400", block, write)


def test_other_mistakes() -> None:
    with pytest.raises(InputError, match="no DRAM part of this name is shipped; did you mean 'ddr4-2400'"):
        memory.replay("ddr4-2401", ONE, READ)
    with pytest.raises(InputError, match="backend: must be 'compiled' or 'simpy'"):
        memory.replay("ddr4-2400", ONE, READ, backend="fast")  # type: ignore[arg-type]


def test_a_part_of_ones_own_by_path(tmp_path: Path) -> None:
    text = (shipped_dir("hwconfigs") / "dram" / "ddr4-2400.toml").read_text(encoding="utf-8")
    file = tmp_path / "my part.toml"
    file.write_text(text.split("[currents]")[0], encoding="utf-8")
    r = memory.replay(file, ONE, READ)
    assert r.energy_pj_per_bit is None
    assert r.energy_parts_pj_per_bit is None
    assert r.cycles == memory.replay(str(file), ONE, READ).cycles == memory.replay("ddr4-2400", ONE, READ).cycles
    assert isinstance(load_part(file), DramPart)


def test_importing_memory_does_not_import_the_compiler() -> None:
    code = "import sys, accelsim.memory; accelsim.memory.load_part('ddr4-2400'); sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
