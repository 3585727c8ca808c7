"""Is the compiled DRAM controller equal to its specification, and that one independent of the order of ties?"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import DramCase, dram_cases
from test_order import shuffled

from accelsim import memory
from accelsim.memory import dram, dram_fast, load_part
from accelsim.memory.dram_counts import ChannelCounts, Offer, Record


@given(dram_cases())
def test_every_counter_is_equal(case: DramCase) -> None:
    specification, twin = (memory.replay(*case, backend=backend) for backend in ("simpy", "compiled"))
    assert specification.channels == twin.channels
    assert specification.counts == twin.counts
    assert specification.energy_parts_pj_per_bit is not None


@given(dram_cases(), st.integers(0, 2**16))
def test_ties_do_not_matter(case: DramCase, seed: int) -> None:
    fields = case.part.fields(case.address_map)
    offered = 0.0 if case.load == "saturated" else float(case.load) * case.part.peak_bytes_per_ns
    arguments = (case.part, 0, fields, Offer(case.block, case.write, offered))
    assert dram.run(*arguments, environment=shuffled(seed)) == dram_fast.run(*arguments)


@given(dram_cases(), st.integers(0, 400), st.integers(0, 2**16))
def test_requests_that_come_at_given_times_return_at_the_same_time(case: DramCase, gap: int, seed: int) -> None:
    times = np.sort(np.random.default_rng(seed).integers(0, gap + 1, len(case.block)))
    counts, returned = both_at(case, times, 0)
    answered = returned > 0
    assert (returned[answered] > times[answered]).all()
    assert np.count_nonzero(answered) == counts.returned_reads - counts.merged_reads


@given(dram_cases(), st.integers(0, 100), st.integers(1, 12))
def test_a_stream_never_has_more_under_way_than_it_may(case: DramCase, gap: int, outstanding: int) -> None:
    n = min(len(case.block), case.part.geometry.capacity_blocks // case.part.geometry.channels)  # no block twice
    reads = case._replace(block=np.arange(n), write=np.zeros(n, bool))
    _, returned = both_at(reads, np.arange(n) * gap // 10, outstanding)
    in_order = np.maximum.accumulate(returned)
    # A read is offered when the one `outstanding` before it is back, and takes the latency at least.
    assert (returned[outstanding:] > in_order[:-outstanding]).all()


def both_at(case: DramCase, times: np.ndarray, outstanding: int) -> tuple[ChannelCounts, np.ndarray]:
    """Run one channel in both models with requests offered at these clocks; what they agree on."""
    part = dataclasses.replace(case.part, geometry=dataclasses.replace(case.part.geometry, channels=1))
    block = case.block % part.geometry.capacity_blocks
    offer = Offer(block, case.write, arrivals=times, outstanding=outstanding)
    returned = [np.zeros(len(block), np.int64) for _ in range(2)]
    results = [
        run(part, 0, part.fields(), offer, Record(answered))
        for run, answered in zip((dram.run, dram_fast.run), returned, strict=True)
    ]
    assert results[0] == results[1]
    assert returned[0].tolist() == returned[1].tolist()
    return results[0], returned[0]


@given(dram_cases())
def test_what_is_asked_for_is_done(case: DramCase) -> None:
    """Every read returns once; commands, merges and what the buffers still hold add up; standby covers every clock."""
    r = memory.replay(*case)
    policy, channels = case.part.controller, case.part.geometry.channels
    reads, writes = np.count_nonzero(~case.write), np.count_nonzero(case.write)
    assert r.counts["returned_reads"] == reads
    assert r.counts["reads"] == reads - r.counts["merged_reads"] - r.counts["forwarded_reads"]
    buffered = writes - r.counts["merged_writes"] - r.counts["writes"]
    assert 0 <= buffered <= channels * (policy.write_buffer + case.part.geometry.banks * policy.bank_queue)
    for channel in r.channels:
        assert channel.cycles == r.cycles
        for active, precharged in zip(channel.active_cycles, channel.precharged_cycles, strict=True):
            assert active + precharged == r.cycles
        for activates, precharges in zip(channel.activates, channel.precharges, strict=True):
            assert activates - precharges in (0, 1)
        for kind in ("active", "precharged"):
            down, all_clocks = getattr(channel, f"{kind}_power_down_cycles"), getattr(channel, f"{kind}_cycles")
            assert all(0 <= part <= whole for part, whole in zip(down, all_clocks, strict=True))
            assert policy.power_down_after_cycles or not any(down)


def test_a_write_that_waits_for_a_read_that_waits_for_the_drain() -> None:
    """The reference hangs here: the full buffer asks for a drain, whose first write waits for a read of its block."""
    one_bank = np.arange(31) << 11  # rows of bank 0: 8 reads fill its queue, the others wait
    block = np.concatenate([one_bank, one_bank[-1:], (100 + np.arange(40)) << 11])
    write = np.arange(len(block)) >= len(one_bank)
    results = [memory.replay("ddr4-2400", block, write, backend=backend) for backend in ("simpy", "compiled")]
    assert results[0] == results[1]
    assert results[0].counts["returned_reads"] == len(one_bank)


def test_a_rank_that_works_while_the_other_is_refreshed() -> None:
    """A precharge for the refresh takes the clock of a command of the other rank: who goes next may be another then."""
    overrides = {"geometry.ranks": 2, "address_map": "RoRaBaCoBg", "timing.t_refi_ns": 520.0}
    block = np.random.default_rng(0).integers(0, 2**24, 120)
    write = np.zeros(len(block), bool)
    part = load_part("ddr4-2400", overrides)
    specification, twin = (memory.replay(part, block, write, backend=backend) for backend in ("simpy", "compiled"))
    assert specification == twin


@pytest.mark.thorough
def test_without_compiler() -> None:
    """The kernels are Python too: the same tests pass interpreted, where integers do not overflow silently."""
    command = [sys.executable, "-m", "pytest", "--all", "--hypothesis-profile=some", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "-k", "not without_compiler", __file__],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"}, cwd=Path(__file__).parents[1], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
