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
from accelsim.config import shipped_dir
from accelsim.errors import InputError
from accelsim.memory import DramPart, load_part

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
        ({"timing.burst_ns": 3.32e-9}, "timing.burst_ns: is no more than half a clock"),
        ({"timing.cl_ns": "14"}, 'timing.cl_ns: must be a number, without quotes (got "14")'),
        ({"timing.t_faw": 20.0}, "timing.t_faw: unknown key (got 20.0); did you mean 't_faw_ns'?"),
        ({"geometry.banks_per_group": 0}, "geometry.banks_per_group: must be at least 1 (got 0)"),
        ({"geometry.banks_per_group": 3}, "geometry.banks_per_group: must be a power of two"),
        ({"geometry.row_bytes": 32}, "geometry.row_bytes: must hold at least one block of 64 bytes (got 32)"),
        ({"geometry.bank_groups": 1024}, "geometry.banks_per_group: a channel has 4096 banks"),
        ({"currents.idd4r_ma": 20.0}, "currents.idd4r_ma: must be above idd3n_ma = 43 (got 20)"),
        ({"currents.idd0_ma": 20.0}, "currents.idd0_ma: is below the standby current"),
        ({"controller.page_policy": "half"}, "controller.page_policy: must be 'open' or 'closed' (got \"half\")"),
        ({"address_map": "RoBaCoXx"}, "address_map: unknown field 'Xx' in 'RoBaCoXx'"),
    ],
)
def test_a_mistake_in_a_part(overrides: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as error:
        load_part("ddr4-2400", overrides)
    assert f"ddr4-2400.toml: {said}" in str(error.value)


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
