"""Does the DRAM meet algebra in the limits?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import TIMED_PARTS

from accelsim import memory
from accelsim.memory import DramPart, load_part
from accelsim.parts.timed import DramIo

QUEUE_CLOCKS = 2
"""A request accepted in one clock is scheduled in the next, and its command is issued in the one after that."""


def reads(n: int) -> np.ndarray:
    return np.zeros(n, bool)


def rows_of_one_bank(part: DramPart, n: int) -> np.ndarray:
    """Blocks in n rows of bank 0."""
    return np.arange(n) << part.fields().row.shift


def latencies(part: DramPart, block: np.ndarray) -> list[float]:
    """Latency in clocks of each read, offered one by one long after the one before, and before any refresh."""
    load = part.cycles.burst / 300
    means = [memory.replay(part, block[: i + 1], reads(i + 1), load) for i in range(len(block))]
    assert not any(r.counts["refreshes"] for r in means)
    totals = [r.counts["latency_cycles"] for r in means]
    return np.diff([0, *totals]).tolist()


@pytest.mark.parametrize("name", TIMED_PARTS)
def test_unloaded_latency(name: str) -> None:
    part = load_part(name)
    c = part.cycles
    hit = QUEUE_CLOCKS + c.read_latency
    assert c.read_latency == round(part.timing.cl_ns / part.timing.clock_ns) + c.burst
    first, other = rows_of_one_bank(part, 2)
    same_row = 1 << part.fields().column.shift
    assert latencies(part, np.array([first, same_row, other])) == [hit + c.rcd_rd, hit, hit + c.rcd_rd + c.rp]


def test_a_closed_page_never_conflicts_and_never_hits_later() -> None:
    part = load_part("ddr4-2400", {"controller.page_policy": "closed"})
    miss = QUEUE_CLOCKS + part.cycles.rcd_rd + part.cycles.read_latency
    first, other = rows_of_one_bank(part, 2)
    assert latencies(part, np.array([first, first + 4, other])) == [miss] * 3


@pytest.mark.parametrize("name", TIMED_PARTS)
def test_a_stream_reaches_peak_less_refresh(name: str) -> None:
    part = load_part(name)
    n = 200_000
    fraction = memory.replay(part, np.arange(n), reads(n)).bandwidth_fraction
    limit = 1 - part.cycles.rfc / part.cycles.refi
    assert 0.94 * limit <= fraction <= limit


@pytest.mark.parametrize("name", TIMED_PARTS)
def test_row_misses_of_one_bank_take_a_row_cycle_each(name: str) -> None:
    part = load_part(name)
    n = 8_000
    r = memory.replay(part, rows_of_one_bank(part, n), reads(n))
    assert r.row_hit_rate == 0
    refreshing = r.counts["refreshes"] * part.cycles.rfc
    assert n * part.cycles.rc <= r.cycles
    # A refresh waits for the open row, and the next row for the end of the refresh: at most a row cycle is lost.
    assert r.cycles <= (n + 1 + r.counts["refreshes"]) * part.cycles.rc + refreshing


@pytest.mark.parametrize("name", ["ddr4-2400", "hbm2-2000"])
@pytest.mark.parametrize("load", [0.05, 0.3, 0.6])
def test_below_saturation_all_that_is_offered_is_moved(name: str, load: float) -> None:
    n = 20_000
    r = memory.replay(name, np.arange(n), reads(n), load)
    assert r.bandwidth_fraction == pytest.approx(load, rel=0.01)


def test_bank_group_bits_on_top_halve_a_stream_and_the_distance_says_by_how_much() -> None:
    part = load_part("ddr4-3200")
    n = 100_000
    grouped = memory.replay(part, np.arange(n), reads(n), address_map="BgRoBaCo").bandwidth_fraction
    limit = (1 - part.cycles.rfc / part.cycles.refi) * part.cycles.burst / part.cycles.rd_rd_l
    assert 0.94 * limit <= grouped <= limit


@pytest.mark.parametrize(
    ("key", "address_map"), [("channels", "RoBaCoBg"), ("channels", "RoBaChCoBg"), ("ranks", "RoRaBaCoBg")]
)
def test_more_channels_carry_more_and_more_ranks_do_not(key: str, address_map: str) -> None:
    part = load_part("ddr4-2400", {f"geometry.{key}": 2, "address_map": address_map})
    n = 100_000
    one = memory.replay("ddr4-2400", np.arange(n), reads(n))
    two = memory.replay(part, np.arange(n), reads(n))
    assert two.counts["reads"] == n
    assert one.cycles / two.cycles == pytest.approx(2 if key == "channels" else 1, rel=0.02)
    assert len(two.channels) == (2 if key == "channels" else 1)
    # Twice the devices stand by; a channel that is done early stands by too.
    standby = [sum(r.counts[f"{kind}_cycles"] for kind in ("active", "precharged")) / r.cycles for r in (one, two)]
    assert standby == [1, 2]


def test_a_block_that_is_pending_is_not_fetched_twice() -> None:
    r = memory.replay("ddr3-1600", np.zeros(10, np.int64), reads(10))
    assert (r.counts["reads"], r.counts["merged_reads"], r.counts["returned_reads"]) == (1, 9, 10)
    write = np.array([True, True, False])
    r = memory.replay("ddr3-1600", np.zeros(3, np.int64), write)
    assert (r.counts["merged_writes"], r.counts["forwarded_reads"], r.counts["reads"]) == (1, 1, 0)


def test_energy_by_hand() -> None:
    """The price list of the reference for DDR4-2400: pJ per activate, and pJ per bit of a read and a write."""
    n = 30_000
    r = memory.replay("ddr4-2400", np.arange(n), np.arange(n) >= n // 2)
    parts, counts = r.energy_parts_pj_per_bit, r.counts
    assert parts is not None
    bits = 512 * (counts["reads"] + counts["writes"])
    assert parts["read"] * bits / counts["reads"] / 512 == pytest.approx(5.727, abs=1e-3)
    assert parts["write"] * bits / counts["writes"] / 512 == pytest.approx(4.98, abs=1e-3)
    assert parts["activate"] * bits / counts["activates"] == pytest.approx(3450.1, abs=0.1)
    assert parts["refresh"] * bits / counts["refreshes"] == pytest.approx(692_737.9, abs=1)
    assert r.energy_pj_per_bit == pytest.approx(sum(pj for name, pj in parts.items() if name != "io"))
    silent = replace(load_part("ddr4-2400"), io=None)
    assert "io" not in (memory.replay(silent, np.arange(9), reads(9)).energy_parts_pj_per_bit or {})


def test_io_is_kept_apart() -> None:
    n = 1000
    r = memory.replay("lpddr4-3200", np.arange(n), reads(n))
    parts = dict(r.energy_parts_pj_per_bit or {})
    assert parts.pop("io") == pytest.approx(1.1 * 150 * 5.0 * 2 / 512)
    assert r.energy_pj_per_bit == pytest.approx(sum(parts.values()))


def test_io_by_energies_is_theirs_in_each_direction() -> None:
    part = replace(load_part("ddr4-2400"), io=DramIo(read_pj_per_bit=6.0, write_pj_per_bit=3.0, source="drawn"))
    n = 30_000
    r = memory.replay(part, np.arange(n), np.arange(n) % 3 == 0)
    moved = r.counts["reads"], r.counts["writes"]
    assert min(moved) > n / 4
    assert (r.energy_parts_pj_per_bit or {})["io"] == pytest.approx((6 * moved[0] + 3 * moved[1]) / sum(moved))
