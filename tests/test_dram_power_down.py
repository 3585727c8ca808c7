"""Is a rank without work powered down from the right clock to the right clock, and is that all that it saves?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import TIMED_PARTS

from accelsim import memory
from accelsim.config import shipped_dir
from accelsim.errors import InputError
from accelsim.memory import DramPart, load_part

NAMES = [name for name in TIMED_PARTS if load_part(name).timing.t_xp_ns > 0]
QUEUE_CLOCKS = 2
"""A request accepted in one clock is scheduled in the next, and its command is issued in the one after that."""
AFTER = 150
"""Clocks without work; more than the last access of any part needs."""


def powered_down(name: str, page_policy: str = "open") -> DramPart:
    return load_part(
        name, {"controller.power_down_after_cycles": AFTER, "controller.page_policy": page_policy, "geometry.ranks": 1}
    )


def two_reads(part: DramPart, gap: int) -> memory.DramReplay:
    """The same row twice, accepted in clock 0 and in clock `gap`."""
    load = part.cycles.burst / (gap + 0.5)
    return memory.replay(part, np.array([0, 1 << part.fields().column.shift]), np.zeros(2, bool), load)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("late", [0, 1, 7])
def test_the_first_command_waits_for_t_xp_if_the_rank_was_down(name: str, late: int) -> None:
    """The first read's command goes in clock 2 + tRCD; the rank is down `AFTER` clocks later, unless it has work."""
    part = powered_down(name)
    c = part.cycles
    r = two_reads(part, c.rcd_rd + AFTER + late)
    assert r.counts["active_power_down_cycles"] == late
    assert r.counts["precharged_power_down_cycles"] == 0
    hit = QUEUE_CLOCKS + c.read_latency
    assert r.counts["latency_cycles"] == hit + c.rcd_rd + hit + (c.xp if late else 0)


@pytest.mark.parametrize("name", NAMES)
def test_standby_of_an_idle_open_page_by_hand(name: str) -> None:
    """Down with the row open until a refresh is due, which closes it; then down with all banks closed."""
    part = powered_down(name)
    c, i = part.cycles, part.currents
    assert i is not None
    gap = c.refi + c.refi // 2
    r = two_reads(part, gap)
    first = QUEUE_CLOCKS + c.rcd_rd
    precharge = c.refi + c.xp
    refresh = precharge + c.rp
    activate = gap + QUEUE_CLOCKS + c.xp
    end = activate + c.rcd_rd + c.read_latency + 1
    active = (precharge - QUEUE_CLOCKS) + (end - activate)
    down = c.refi - (first + AFTER), gap + QUEUE_CLOCKS - (refresh + AFTER)
    assert r.cycles == end
    assert r.counts["refreshes"] == 1
    assert r.counts["active_cycles"] == active
    assert (r.counts["active_power_down_cycles"], r.counts["precharged_power_down_cycles"]) == down
    assert min(down) > 0
    parts = r.energy_parts_pj_per_bit
    assert parts is not None
    clock_pj = i.vdd_v * part.geometry.devices * part.timing.clock_ns / (2 * 512)
    expected = {
        "active_standby": (active - down[0]) * i.idd3n_ma,
        "precharged_standby": (end - active - down[1]) * i.idd2n_ma,
        "active_power_down": down[0] * (i.idd3p_ma or 0),
        "precharged_power_down": down[1] * (i.idd2p_ma or 0),
    }
    for key, milliamperes in expected.items():
        assert parts[key] == pytest.approx(clock_pj * milliamperes), key
    assert r.energy_pj_per_bit == pytest.approx(sum(pj for key, pj in parts.items() if key != "io"))


def test_a_closed_page_is_closed_before_the_rank_is_down() -> None:
    part = powered_down("ddr4-2400", "closed")
    c = part.cycles
    gap = 3000
    r = two_reads(part, gap)
    read = QUEUE_CLOCKS + c.rcd_rd
    precharge = max(QUEUE_CLOCKS + c.ras, read + c.rtp)
    assert r.counts["active_power_down_cycles"] == 0
    assert r.counts["precharged_power_down_cycles"] == gap + QUEUE_CLOCKS - (precharge + AFTER)
    assert r.counts["latency_cycles"] == 2 * (read + c.read_latency) + c.xp


def test_a_rank_is_powered_down_beside_one_that_works() -> None:
    overrides = {"geometry.ranks": 2, "address_map": "RoRaBaCoBg"}
    part = load_part("ddr4-2400", overrides | {"controller.power_down_after_cycles": AFTER})
    n = 3000
    r = memory.replay(part, np.arange(n) % 512, np.zeros(n, bool))
    (channel,) = r.channels
    down = [a + p for a, p in zip(channel.active_power_down_cycles, channel.precharged_power_down_cycles, strict=True)]
    assert down[0] == 0
    # Idle from clock 0, it is down from clock AFTER - 1 on; each refresh of its own wakes it.
    refreshing = channel.refreshes[1] * (part.cycles.xp + AFTER)
    assert down[1] == r.cycles - (AFTER - 1) - refreshing


@pytest.mark.parametrize("name", NAMES)
def test_it_saves_energy_when_there_is_little_to_do_and_changes_nothing_when_there_is_much(name: str) -> None:
    n = 300
    trace = np.arange(n), np.zeros(n, bool)
    on, off = (memory.replay(part, *trace) for part in (powered_down(name), name))
    assert on.channels == off.channels
    assert on.energy_pj_per_bit == off.energy_pj_per_bit
    on, off = (memory.replay(part, *trace, load=0.002) for part in (powered_down(name), name))
    assert on.energy_pj_per_bit is not None
    assert off.energy_pj_per_bit is not None
    assert on.energy_pj_per_bit <= off.energy_pj_per_bit
    assert on.mean_latency_ns > off.mean_latency_ns
    assert off.counts["active_power_down_cycles"] == off.counts["precharged_power_down_cycles"] == 0


def test_what_a_part_must_say_for_it() -> None:
    with pytest.raises(InputError) as error:
        load_part("lpddr5-6400", {"controller.power_down_after_cycles": 5})
    c = load_part("lpddr5-6400").cycles
    least = max(c.read_latency + 1, c.wr_pre)
    assert f"controller.power_down_after_cycles: must leave {least} clocks for the last access to end" in str(
        error.value
    )
    assert "timing.t_xp_ns: is needed for controller.power_down_after_cycles = 5 (got 0)" in str(error.value)
    with pytest.raises(InputError, match=r"idd2p_ma: must be at most idd2n_ma = 34 .got 35"):
        load_part("ddr4-2400", {"currents.idd2p_ma": 35.0})


def test_a_part_without_the_currents_for_it(tmp_path: Path) -> None:
    text = (shipped_dir("hwconfigs") / "dram" / "ddr4-2400.toml").read_text(encoding="utf-8")
    file = tmp_path / "own.toml"
    file.write_text("".join(line for line in text.splitlines(True) if "idd2p_ma" not in line), encoding="utf-8")
    assert memory.replay(file, np.zeros(1, int), np.zeros(1, bool)).energy_pj_per_bit is not None
    with pytest.raises(InputError, match=r"currents.idd2p_ma: is needed for controller.power_down_after_cycles = 150"):
        load_part(file, {"controller.power_down_after_cycles": AFTER})
