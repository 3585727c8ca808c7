"""Does the energy account add up, and do its prices come from where they say?"""

from __future__ import annotations

import numpy as np
import pytest
from conftest import TIMED_PARTS
from hypothesis import given
from hypothesis import strategies as st

import accelsim
from accelsim.costs import account, area_mm2, entries, prices
from accelsim.energy import dram
from accelsim.energy.arithmetic import multiply_pj
from accelsim.engines import engine_of
from accelsim.engines.eie.prices import memories, register_files
from accelsim.errors import InputError
from accelsim.memory import load_part
from accelsim.memory.service import measure
from accelsim.memory.sram import fastest_clock_mhz, sram

CHIP = accelsim.load_hardware("eie-64pe-45nm")
TECHNOLOGY = CHIP.technology
COMPONENTS = [word.name for word in engine_of(CHIP).words.components]
OWN = {f"energy_{part}_pj" for part in COMPONENTS}


@pytest.mark.parametrize("residency", ["resident", "stream"])
def test_every_action_has_a_price_and_every_price_an_action(residency: str) -> None:
    """What is counted in a run that exercises everything is what has a price: the two lists are walked."""
    chip = accelsim.load_hardware(CHIP, {"memory.residency": residency, "memory.dram": "lpddr4-3200"})
    if residency == "stream":
        chip = accelsim.load_hardware(chip, {"engine.activation_bytes": 2})
    row = accelsim.simulate("lenet-300-100-digits", chip).sum(numeric_only=True)
    counted = {name.removeprefix("count_") for name in row.index if name.startswith("count_") and row[name] > 0}
    table = prices(chip, residency == "stream")
    priced = {name for name in table if not name.endswith("_per_cycle")}
    assert counted == priced
    assert all(price.pj > 0 and price.source for price in table.values())


MACHINES = {"eie-64pe-45nm": {"mac": 1}, "edge-nm-16x16": {"fma": 1}}
"""Chips at 800 and 500 MHz, and something of their own that they count."""


@pytest.mark.parametrize("part", TIMED_PARTS)
@pytest.mark.parametrize("share", [1.0, 0.5])
def test_a_stream_costs_the_same_on_every_machine(part: str, share: float) -> None:
    """3000 blocks read and 1000 written in 50 us: blocks, pins and standby by the part, whoever moved them.

    At half the clock, as under a limit of power, standby has half the clocks and each costs twice as much.
    """
    reads, writes, time_us, channels = 3000, 1000, 50, 2
    given_by = measure(load_part(part))
    energies = []
    for name, own in MACHINES.items():
        chip = accelsim.load_hardware(name, {"memory.dram": part, "memory.channels": channels})
        clock_mhz = share * chip.engine.clock_mhz
        moved = {"dram_reads": reads, "dram_writes": writes, "dram_read_io": reads, "dram_write_io": writes}
        actions = own | moved | {"dram_standby": round(time_us * clock_mhz)}
        paid = account(actions, round(time_us * clock_mhz), chip, clock_mhz).components_pj
        energies.append((paid["dram"], paid["dram_io"]))
    blocks_pj = reads * given_by.read_pj + writes * given_by.write_pj
    standby_pj = channels * given_by.standby_mw * time_us * 1e3  # mW x ns
    pins_pj = reads * given_by.read_io_pj + writes * given_by.write_io_pj
    for energy in energies:
        assert energy == pytest.approx((blocks_pj + standby_pj, pins_pj), rel=1e-12)


def test_a_published_energy_is_all_that_a_board_pays_for_its_memory() -> None:
    """Standby and pins are part of it, and each line says so; the chip's own side of the memory is its own line."""
    chip = accelsim.load_hardware("a100-pcie")
    assert chip.memory is not None
    table = prices(chip, streamed=True)
    assert table["dram_reads"].pj == table["dram_writes"].pj == 4.3 * 512
    for action in ("dram_read_io", "dram_write_io", "dram_standby"):
        assert table[action].pj == 0
        assert "included in the published energy per bit" in table[action].source
    assert table["controller_bytes"].pj == chip.engine.power.dram_pj_per_byte == 11.6  # type: ignore[attr-defined]


def test_an_action_of_dram_that_is_left_out_is_an_error() -> None:
    own = entries({"mac": 1}, 1, CHIP)
    with pytest.raises(KeyError, match="dram_write_io"):
        dram.entries(own, CHIP, {"dram_reads": 1, "dram_writes": 0, "dram_read_io": 1}, 800.0)


def test_every_component_is_a_column() -> None:
    result = accelsim.simulate("lenet-300-100-digits", CHIP)
    columns = [name for name in result.columns if name.startswith("energy_") and name != "energy_pj"]
    assert [f"energy_{part}_pj" for part in COMPONENTS] == [name for name in columns if name in OWN]
    assert {price.component for price in prices(CHIP).values()} <= set(COMPONENTS)


def test_components_add_up_exactly() -> None:
    result = accelsim.simulate("lenet-300-100-digits", CHIP)
    for _, row in result.iterrows():
        assert row["energy_pj"] == sum(row[f"energy_{part}_pj"] for part in COMPONENTS)


def test_energy_is_counts_times_price() -> None:
    """A run of 3 row reads and 10 cycles, by hand."""
    table = prices(CHIP)
    energy = account({"spmat_reads": 3}, 10, CHIP)
    assert energy.components_pj["spmat_sram"] == 3 * table["spmat_reads"].pj
    assert energy.components_pj["clock"] == pytest.approx(10 * 64 * 1.874 / 0.8, rel=1e-4)  # Table II: mW at 800 MHz
    assert energy.components_pj["arithmetic"] == 0


def test_an_action_without_price_is_an_error() -> None:
    with pytest.raises(KeyError, match="teleports"):
        account({"teleports": 1}, 1, CHIP)


def test_time_costs_what_actions_do_not() -> None:
    """At half the clock the same run takes as many cycles and clock energy, and twice the leakage."""
    slow = accelsim.load_hardware(CHIP, {"engine.clock_mhz": 400.0})
    fast_pj, slow_pj = (account({}, 1000, chip).components_pj for chip in (CHIP, slow))
    assert slow_pj["leakage"] == pytest.approx(2 * fast_pj["leakage"])
    assert slow_pj["clock"] == fast_pj["clock"]


def test_sixteen_bit_multiply_is_between_eight_and_32() -> None:
    """Horowitz 2014: 0.2 pJ at 8 bits, 3.1 at 32; the power law gives 0.2 x 2^1.977 = 0.787 at 16."""
    assert multiply_pj(TECHNOLOGY, 8, 8) == pytest.approx(0.2)
    assert multiply_pj(TECHNOLOGY, 32, 32) == pytest.approx(3.1)
    assert multiply_pj(TECHNOLOGY, 16, 16) == pytest.approx(0.7874, abs=1e-4)
    assert prices(CHIP)["mac"].pj == pytest.approx(0.8874, abs=1e-4)


@pytest.mark.parametrize(
    ("width", "implied_pj", "ours_pj"), [(32, 13.7, 14.19), (64, 18.8, 21.57), (128, 29.2, 29.85), (256, 53.6, 46.99)]
)
def test_reads_at_the_clock_of_the_paper(width: int, implied_pj: float, ours_pj: float) -> None:
    """EIE Fig. 9: energy per read of 128 KB that its right panel implies; the clock leaves 1.15 ns."""
    array = sram(131072, width, TECHNOLOGY, 800.0)
    assert array.read_energy_pj == pytest.approx(ours_pj, abs=0.01)
    assert array.read_energy_pj == pytest.approx(implied_pj, rel=0.15)
    assert array.access_ns <= 1.15 * (1 + 1e-9)


@given(
    st.integers(8, 25),
    st.floats(1.0, 2.0),
    st.integers(8, 512),
    st.floats(1.0, 1.5),
    st.sampled_from([1.0, 400.0, 1e3]),
)
def test_prices_are_monotone(exponent: int, more: float, width: int, wider: float, clock_mhz: float) -> None:
    sizes = (min(int(2**exponent * more), 2**25), width), (2**exponent, min(int(width * wider), 512))
    # No clock that the largest of them does not follow.
    clock_mhz = min(clock_mhz, *(fastest_clock_mhz(*size, TECHNOLOGY) for size in (*sizes, (2**exponent, width))))
    small = sram(2**exponent, width, TECHNOLOGY, clock_mhz)
    for big in (sram(*size, TECHNOLOGY, clock_mhz) for size in sizes):
        for name in ("read_energy_pj", "write_energy_pj", "leakage_mw", "area_mm2", "access_ns"):
            assert getattr(big, name) >= getattr(small, name) * (1 - 1e-12)


def test_the_smallest_array_is_the_floor_and_the_largest_the_end() -> None:
    assert sram(16, 8, TECHNOLOGY, 800.0).read_energy_pj == sram(256, 8, TECHNOLOGY, 800.0).read_energy_pj
    for size in ((2**26, 64), (2**20, 1024)):
        with pytest.raises(InputError, match="outside the CACTI grid"):
            sram(*size, TECHNOLOGY, 1.0)


def test_area_grows_with_pes() -> None:
    """All memories and logic are per PE; only the 21 or 85 quadtree nodes of 189 um2 are not."""
    double = accelsim.load_hardware(CHIP, {"engine.pes": 256})
    per_pe = [(area_mm2(chip) - nodes * 189e-6) / pes for chip, pes, nodes in ((CHIP, 64, 21), (double, 256, 85))]
    assert np.isclose(*per_pe)


def test_the_entries_of_an_account_are_all_of_it() -> None:
    """Every line is times x price, and the lines of a component add up to it exactly, in the order of the account."""
    actions = {"spmat_reads": 7, "mac": 11, "act_sram_reads": 3, "act_sram_writes": 5}
    lines = entries(actions, 100, CHIP)
    assert [times for _, times, _ in lines[:4]] == [7, 11, 3, 5]
    assert {times for _, times, _ in lines[4:]} == {100}
    for component, pj in account(actions, 100, CHIP).components_pj.items():
        assert pj == sum(times * price.pj for _, times, price in lines if price.component == component)


# Registers of EIE


def eie(**engine: object) -> accelsim.Hardware:
    return accelsim.load_hardware(CHIP, {f"engine.{key}": value for key, value in engine.items()})


PARTS = {
    # bits of registers of one PE: two files of 64 x 16, a queue of 8 x (16 + 16), a codebook of 16 x 16, row, entry
    "files": 2 * 64 * 16,
    "queue": 8 * 32,
    "codebook": 16 * 16,
    "row": 64,
    "entry": 8,
}


def test_registers_of_the_design_point_lie_within_table_ii() -> None:
    """Area is that of the arrays and of Table II's logic, and the clock network is Table II's, at the design point."""
    assert sum(PARTS.values()) == 2632
    arrays = sum(count * array.area_mm2 for array, count in memories(CHIP).values())
    logic_mm2 = 1e-6 * (866 + 9465 + 8946 + 23961)
    assert area_mm2(CHIP) == pytest.approx(64 * (arrays + logic_mm2) + 21 * 189e-6, rel=1e-6)
    assert prices(CHIP)["clock_per_cycle"].pj == pytest.approx(64 * 1.874 / 0.8, rel=1e-4)


def test_the_fitted_constant_is_what_is_missing_to_table_ii() -> None:
    """Registers and combinational logic of one PE in a cycle of pruned fc8: an entry, rows and columns at its rates."""
    table = prices(CHIP)
    per_entry = ("mac", "act_reg_reads", "act_reg_writes", "codebook_reads", "entry_reg_writes")
    priced = sum(table[action].pj for action in per_entry)
    priced += table["row_reg_writes"].pj / 5.03
    priced += (table["act_queue_pushes"].pj + table["act_queue_pops"].pj) / 4.50
    priced += 2632 * 7e-5 / 0.8  # leakage, mW at 800 MHz
    priced += table["pipeline_per_cycle"].pj / 64
    assert priced == pytest.approx((1.026 + 0.841) / 0.8, rel=1e-3)


def test_a_wider_row_pays_for_its_register() -> None:
    """512 bits: 4.6 pJ to latch a row, and 448 bits more in each PE that hang on the clock."""
    wide = eie(spmat_width_bits=512)
    assert prices(wide)["row_reg_writes"].pj == pytest.approx(512 * 0.009)
    more = prices(wide)["clock_per_cycle"].pj - prices(CHIP)["clock_per_cycle"].pj
    assert more == pytest.approx(64 * 448 * (1.874 / 0.8) / 2632, rel=1e-4)
    row = accelsim.simulate("lenet-300-100-digits", CHIP).iloc[0]
    assert row["count_row_reg_writes"] == row["count_spmat_reads"]
    assert row["count_entry_reg_writes"] == row["macs"] + row["padding_macs"]


@pytest.mark.parametrize(
    ("key", "small", "large", "words", "width"),
    [
        ("fifo_depth", 64, 65, 65, 32),
        ("registers_per_pe", 128, 129, 129, 16),
        ("code_bits", 7, 12, 4096, 16),
    ],
)
def test_a_file_larger_than_256_bytes_has_an_sram_behind(
    key: str, small: int, large: int, words: int, width: int
) -> None:
    """Up to 2048 bits an access costs 0.009 pJ a bit, however many words; beyond, that and the SRAM's."""
    action, part = {
        "fifo_depth": ("act_queue_pops", "queue"),
        "registers_per_pe": ("act_reg_reads", "activation"),
        "code_bits": ("codebook_reads", "codebook"),
    }[key]
    behind = sram(words * width // 8, width, TECHNOLOGY, 800.0)
    assert prices(eie(**{key: small}))[action].pj == pytest.approx(width * 0.009)
    assert prices(eie(**{key: large}))[action].pj == pytest.approx(width * 0.009 + behind.read_energy_pj)
    file = register_files(eie(**{key: large}))[part][0]
    assert file.area_mm2 == pytest.approx(2048 * 5.98e-6 + behind.area_mm2)
    assert file.leakage_mw == pytest.approx(2048 * 7e-5 + behind.leakage_mw)
    assert file.register_bits == 2048


def test_a_deep_queue_is_dear() -> None:
    """Its SRAM may be slow, since words leave as they came: 2^20 words are 4 MB in each PE, 9 mm2 and more."""
    depths = [2, 8, 64, 65, 1024, 2**16, 2**20]
    areas = [area_mm2(eie(fifo_depth=depth)) for depth in depths]
    energies = [prices(eie(fifo_depth=depth))["act_queue_pushes"].pj for depth in depths]
    assert all(np.diff(areas) > 0)
    assert all(np.diff(energies) >= 0)
    assert areas[-1] - areas[1] > 64 * 9
    assert energies[-1] > 50 * energies[1]


def test_a_chip_whose_memories_do_not_follow_its_clock_is_refused() -> None:
    """Every memory that does not is named, with the clock that it would follow; that clock is taken."""
    with pytest.raises(InputError) as caught:
        accelsim.simulate("lenet-300-100-digits", eie(clock_mhz=20_000.0))
    assert [problem.split(":")[:2] for problem in caught.value.problems] == [
        ["eie-64pe-45nm", f" {name} memory"] for name in ("spmat", "pointer", "activation")
    ]
    assert "fastest clock that it follows is 1310 MHz" in caught.value.problems[0]
    fastest = engine_of(CHIP).fastest_clock_mhz(CHIP)
    assert fastest == pytest.approx(0.92e3 / 0.702368)  # CACTI: 128 KB x 64 bits in 45 nm
    assert accelsim.simulate("lenet-300-100-digits", eie(clock_mhz=fastest))["energy_pj"].gt(0).all()
    with pytest.raises(InputError, match="spmat memory"):
        prices(eie(clock_mhz=1.001 * fastest))
    many = eie(registers_per_pe=2**17, clock_mhz=1310.0)  # 256 KB of 16 bits are in the way, too
    with pytest.raises(InputError) as caught:
        prices(many)
    assert [problem.split(":")[1] for problem in caught.value.problems] == [" spmat memory", " activation registers"]
    assert engine_of(many).fastest_clock_mhz(many) < fastest
