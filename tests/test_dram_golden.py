"""Is the DRAM controller cycle-exact against DRAMsim3, and near another tool?"""

from __future__ import annotations

import csv
import hashlib
from functools import lru_cache

import numpy as np
import pytest
from conftest import EVIDENCE

from accelsim import memory

EXACT = ("ddr3-1600", "ddr4-2400", "ddr4-3200", "lpddr3-1600", "hbm1-1000", "hbm2-2000", "gddr5-6000", "lpddr5-6400")
PACED_REQUESTS = {"0.05": 5_000, "0.3": 10_000, "0.6": 20_000}
COMMANDS = ("reads", "writes", "activates", "precharges", "refreshes")
PARTS = {"activate": "act", "read": "read", "write": "write", "refresh": "ref", "active_standby": "bg_act"}


def rows(file: str) -> list[dict[str, str]]:
    return list(csv.DictReader((EVIDENCE / "dram" / file).read_text().splitlines()))


cached_trace = lru_cache(maxsize=16)(memory.trace)


def replayed(row: dict[str, str], backend: str = "compiled", n: int | None = None) -> memory.DramReplay:
    saturated = row["offered_load"] == "saturated"
    n = n or (40_000 if saturated else PACED_REQUESTS[row["offered_load"]])
    block, write = cached_trace(row["trace"])
    load = "saturated" if saturated else float(row["offered_load"])
    return memory.replay(row["device"].lower(), block[:n], write[:n], load, row["mapping"], backend=backend)


def checksum(block: np.ndarray, write: np.ndarray) -> str:
    """MD5 over lines `<block> <R|W>`, the last one ended too."""
    text = "".join(f"{b} {'W' if w else 'R'}\n" for b, w in zip(block.tolist(), write.tolist(), strict=True))
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


@pytest.mark.parametrize("row", rows("traces.csv"), ids=lambda row: row["trace"])
def test_a_trace_is_the_one_of_the_reference(row: dict[str, str]) -> None:
    block, write = memory.trace(row["trace"])
    assert checksum(block, write) == row["md5_first_40000_lines"]
    assert np.count_nonzero(~write) == int(row["reads_in_40000"])


@pytest.mark.thorough(keep=4)
@pytest.mark.parametrize("device", EXACT)
def test_equal_to_the_reference(device: str) -> None:
    golden = [row for row in rows("dramsim3.csv") if row["device"].lower() == device]
    assert len(golden) == 38
    for row in golden:
        r = replayed(row)
        where = f"{device} {row['mapping']} {row['trace']} {row['offered_load']}"
        assert r.cycles == int(row["cycles"]), where
        assert {name: r.counts[name] for name in COMMANDS} == {name: int(row[name]) for name in COMMANDS}, where
        assert r.energy_pj_per_bit == pytest.approx(float(row["e_total_pjb"]), rel=1e-3), where
        assert r.row_hit_rate == pytest.approx(float(row["row_hit_rate"]), abs=1e-3), where
        assert r.bandwidth_fraction == pytest.approx(float(row["bw_frac"]), abs=1e-4), where
        for name, column in PARTS.items():
            expected = float(row[f"e_{column}_pjb"])
            assert r.energy_parts_pj_per_bit[name] == pytest.approx(expected, rel=1e-3, abs=1e-4), where
        if row["lat_avg_ns"]:
            assert r.mean_latency_ns == pytest.approx(float(row["lat_avg_ns"]), abs=0.016), where


def test_gddr6_is_equal_but_for_the_rounding_of_its_slowest_arrivals() -> None:
    """Four of 38 rows, all at 5 % load with random blocks, differ by one clock: request i arrives at exactly 40 i."""
    off = [
        row
        for row in rows("dramsim3.csv")
        if row["device"] == "GDDR6-14000" and replayed(row).cycles != int(row["cycles"])
    ]
    assert len(off) == 4
    for row in off:
        assert row["offered_load"] == "0.05"
        assert abs(replayed(row).cycles - int(row["cycles"])) == 1
        assert replayed(row).energy_pj_per_bit == pytest.approx(float(row["e_total_pjb"]), rel=1e-3)


@pytest.mark.thorough(keep=8)
@pytest.mark.parametrize(
    "row",
    [
        r
        for r in rows("dramsim3.csv")
        if r["device"].lower() in EXACT and r["trace"] in ("mix_rand_75r25w", "rand_burst1K")
    ],
    ids=lambda row: f"{row['device']}-{row['mapping']}-{row['trace']}-{row['offered_load']}",
)
def test_the_specification_agrees_on_the_start_of_the_golden_traces(row: dict[str, str]) -> None:
    assert replayed(row, "simpy", n=120) == replayed(row, n=120)


@pytest.mark.parametrize("device", ["DDR3-1600", "DDR4-2400", "DDR4-3200"])
def test_near_another_simulator(device: str) -> None:
    """Ramulator 2.1 has another controller: bandwidths within 5 % on average."""
    golden = [row for row in rows("ramulator.csv") if row["device"] == device]
    assert golden
    errors = [replayed(row).bandwidth_fraction / float(row["bw_frac"]) - 1 for row in golden]
    assert np.abs(errors).mean() < 0.05
