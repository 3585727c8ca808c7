"""What does a tensor core cost by its technology, and is every figure what the tables give when added up by hand?"""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run, at_most
from hypothesis import given
from hypothesis import strategies as st

import accelsim
from accelsim.costs import area_mm2, entries, extrapolated, prices
from accelsim.energy.arithmetic import arithmetic, multiply_accumulate, register_um2, selection
from accelsim.engines.tensor_core.config import TensorCoreChip
from accelsim.engines.tensor_core.prices import Linear, areas_mm2, linear, memories
from accelsim.engines.tensor_core.prices import prices as of_run
from accelsim.errors import InputError
from accelsim.memory.service import measure
from accelsim.memory.sram import fastest_clock_mhz, sram
from accelsim.scaling import area_scale, energy_scale

CHIP = "edge-nm-16x16"
BOARD = {
    "limit_w": 5.0,
    "static_w": 0.1,
    "fma_pj": 1.0,
    "l2_pj_per_byte": 1.0,
    "dram_pj_per_byte": 1.0,
}


def edge(**engine: Any) -> TensorCoreChip:
    chip = accelsim.load_hardware(CHIP, {f"engine.{key}": value for key, value in engine.items()})
    assert isinstance(chip, TensorCoreChip)
    return chip


def at(node: str, **engine: Any) -> TensorCoreChip:
    chip = accelsim.load_hardware(edge(**engine), {"technology": node})
    assert isinstance(chip, TensorCoreChip)
    return chip


def test_a_multiply_accumulate_costs_what_its_number_format_does() -> None:
    """45 nm, Horowitz: a multiply in the format, an add in the sum's, and with patterns 8 gates for each bit."""
    gate = 0.0181 / 32  # Aladdin's bitwise operator
    expected = {
        "fp16": 1.1 + 0.9 + 8 * 16 * gate,
        "bf16": 1.1 * (8 / 11) ** (math.log(3.7 / 1.1) / math.log(24 / 11)) + 0.9 + 8 * 16 * gate,
        "int8": 0.2 + 0.1 + 8 * 8 * gate,
    }
    chip = at("cmos-45nm")
    for dtype, pj in expected.items():
        assert of_run(chip, dtype=dtype)["fma"].pj == pytest.approx(pj)
    dense = accelsim.load_hardware(chip, {"engine.patterns": []})
    assert prices(dense)["fma"].pj == pytest.approx(2.0)
    narrow = accelsim.load_hardware(chip, {"engine.patterns": [], "engine.accumulator_bits": 16})
    assert prices(narrow)["fma"].pj == pytest.approx(1.1 + 0.4)
    assert of_run(narrow, dtype="int8")["fma"].pj == pytest.approx(0.2 + 0.05)


@pytest.mark.parametrize("node", ["cmos-45nm", "cmos-22nm", "cmos-7nm"])
def test_the_node_scales_arithmetic_and_registers(node: str) -> None:
    chip, nm = at(node), int(node[5:-2])
    assert prices(chip)["fma"].pj == pytest.approx(prices(at("cmos-45nm"))["fma"].pj * energy_scale(45, nm))
    assert prices(chip)["register_bits"].pj == pytest.approx(0.009 * energy_scale(45, nm), rel=1e-3)
    assert areas_mm2(chip)["multipliers"] == pytest.approx(
        areas_mm2(at("cmos-45nm"))["multipliers"] * area_scale(45, nm)
    )


def test_the_shared_memory_is_two_banks_of_cacti() -> None:
    """128 bytes a cycle: two rows of 512 bits. A byte pays its share of a row, a register, and the wire to the edge."""
    chip = edge()
    technology = chip.technology
    assert technology is not None
    bank = sram(131072, 512, technology, 500.0)
    wire_mm = (math.sqrt(2) - 1) * math.sqrt(bank.area_mm2)
    beside = 8 * (0.1 * wire_mm + technology.register_bit_pj)
    table = prices(chip)
    assert table["shared_bytes"].pj == pytest.approx(bank.read_energy_pj / 64 + beside)
    assert table["shared_bytes"].pj + table["shared_writes"].pj == pytest.approx(bank.write_energy_pj / 64 + beside)
    # Registers of what a cycle moves, of the bus, of sums, of fp16 and int8 multipliers: 7e-5 mW a bit, Aladdin.
    bits = 1024 + 512 + 8 * 16384 + 256 * (16 + 16 + 32 + 3) + 256 * (8 + 8 + 32 + 3)
    assert table["powered_ns"].pj == pytest.approx(2 * bank.leakage_mw + 7e-5 * bits)
    one = sram(262144, 512, technology, min(500.0, fastest_clock_mhz(262144, 512, technology)))
    mm2 = max(one.area_mm2, 2 * bank.area_mm2)
    assert areas_mm2(chip)["shared memory"] == pytest.approx(mm2 + 1024 * register_um2(technology) * 1e-6)


def test_an_l2_smaller_than_any_array_is_made_of_registers_as_is_the_bus_without_one() -> None:
    for size in (0, 16):
        chip = edge(l2_bytes=size)
        assert memories(chip)["l2"].array is None
        technology = chip.technology
        assert technology is not None
        for action in ("l2_bytes", "l2_writes"):  # a register of the memory and one of the bus
            assert prices(chip)[action].pj == pytest.approx(2 * 8 * technology.register_bit_pj)
        assert areas_mm2(chip)["L2"] == pytest.approx((8 * size + 8 * 64) * register_um2(technology) * 1e-6)
    assert memories(edge(l2_bytes=2**16))["l2"].array is not None


def test_control_is_its_share_of_all_multipliers_with_their_registers() -> None:
    """Operands of 16 bits and 3 of an index are read, the sum of 32 read and written: 99 bits at 0.009 pJ."""
    chip = at("cmos-45nm")
    multiplier = prices(chip)["fma"].pj + (16 + 16 + 3 + 32 + 32) * 0.009
    assert prices(chip)["control_per_cycle"].pj == pytest.approx(0.22 * 256 * multiplier)
    assert areas_mm2(chip)["control"] == pytest.approx(0.03 * sum(areas_mm2(chip).values()) / 1.03)
    bare = accelsim.load_hardware(chip, {"constants": {"control_energy": 0.0, "control_area": 0.0}})
    assert prices(bare)["control_per_cycle"].pj == 0
    assert area_mm2(bare) == pytest.approx(area_mm2(chip) / 1.03)


def test_floating_point_and_integers_have_units_of_their_own() -> None:
    """45 nm, Horowitz: fp16 multiply 1640, fp32 add 4184; int8 multiply 282, int32 add 137; Aladdin for the rest."""
    gate, bit = 50.4 / 32, 5.98
    fp16 = 1640 + 4184 + 8 * 16 * gate + (16 + 16 + 3 + 32) * bit
    int8 = 282 + 137 + 8 * 8 * gate + (8 + 8 + 3 + 32) * bit
    assert areas_mm2(at("cmos-45nm"))["multipliers"] == pytest.approx(256 * (fp16 + int8) * 1e-6)  # bf16 is narrower


def test_the_account_of_a_layer_is_every_count_at_its_price() -> None:
    layer = accelsim.Layer.linear("fc", np.eye(48, 64))
    row = accelsim.simulate(layer, CHIP, 1.0).iloc[0]
    executed = row["count_fma"]
    assert row["executed_as"] == "1:4"
    assert row["count_register_bits"] == executed * 2 * (16 + 32)
    assert row["count_metadata_bits"] == 3 * executed
    assert 0 < row["count_shared_writes"] < row["count_shared_bytes"]
    assert row["area_mm2"] == area_mm2(edge())
    assert row["extrapolated"] == "no"
    table = of_run(edge())
    paid = sum(row[f"count_{name}"] * price.pj for name, price in table.items() if not name.endswith("_per_cycle"))
    own = row["energy_pj"] - row["energy_dram_pj"] - row["energy_dram_io_pj"]
    assert own == pytest.approx(paid + row["cycles"] * (table["control_per_cycle"].pj + table["clock_per_cycle"].pj))


@pytest.mark.parametrize("more", [{}, {"l2_bytes": 2**16}, {"accumulators": "shared", "register_bytes": 0}])
@pytest.mark.parametrize("dtype", ["fp16", "int8"])
@pytest.mark.parametrize("pattern", [None, "2:4"])
def test_energy_is_linear_in_what_a_choice_of_tiles_decides(
    dtype: str, pattern: str | None, more: dict[str, Any]
) -> None:
    """But for DRAM, where a write costs less than the read at whose price all bytes count here."""
    chip = edge(**more)
    row = accelsim.gemm(512, 256, 1024, hardware=chip, dtype=dtype, pattern=pattern).iloc[0]
    priced, service = linear(chip, dtype, pattern is not None), measure(chip.memory.dram)
    assert row["clock_mhz"] == chip.engine.clock_mhz
    standby_w = 1e-3 * service.standby_mw
    expected = (
        row["count_fma"] * priced.fma_pj
        + row["count_shared_bytes"] * priced.shared_pj_per_byte
        + row["count_sum_bytes"] * priced.sum_pj_per_byte
        + row["count_shared_writes"] * priced.l2_pj_per_byte
        + row["count_l2_writes"] * (priced.dram_pj_per_byte - service.read_pj_per_byte)
        + row["time_us"] * 1e6 * (priced.static_w - standby_w)
    )
    own = row["energy_pj"] - row["energy_dram_pj"] - row["energy_dram_io_pj"]
    assert own == pytest.approx(expected, rel=1e-4)


def test_a_chip_without_energies_costs_nothing_and_says_so() -> None:
    chip = accelsim.load_hardware(CHIP, {"technology": None})
    assert isinstance(chip, TensorCoreChip)
    assert prices(chip) == {}
    assert linear(chip, "fp16") == Linear(0, 0, 0, 0, 0, 0)
    assert (area_mm2(chip), extrapolated(chip)) == (0, "no")
    assert entries({"fma": 1}, 1, chip) == []


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        (CHIP, {"engine.power": BOARD}, "technology: cmos-22nm is not used: engine.power gives the energies of a"),
        ("a100-pcie", {"technology": "cmos-7nm"}, "technology: cmos-7nm is not used: engine.power gives the energies"),
        ("a100-pcie", {"constants": {"control_energy": 0.1}}, "constants: is not used without a technology"),
        ("h200", {"engine.accumulator_bits": 16}, "engine.accumulator_bits: is not used without a technology"),
        ("rtx4090", {"engine.l2_banks": 16}, "engine.l2_banks: is not used without a technology"),
    ],
)
def test_a_key_that_would_not_be_used_is_an_error(name: str, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        accelsim.load_hardware(name, changes)
    assert said in str(caught.value)
    assert f"{name}.toml" in str(caught.value)


def test_a_clock_that_the_memories_cannot_follow_is_refused(accelsim: Run) -> None:
    chip = edge()
    assert chip.technology is not None
    fastest = fastest_clock_mhz(131072, 512, chip.technology)
    checked = accelsim("check", CHIP)
    assert checked.code == 0
    assert f"memories fast enough for up to {fastest:,.0f} MHz" in checked.out
    assert prices(edge(clock_mhz=fastest * 0.999))
    with pytest.raises(InputError, match=rf"shared_memory, .* engine.shared_banks .* is {fastest:.0f} MHz"):
        prices(edge(clock_mhz=fastest * 1.001))
    assert prices(edge(clock_mhz=fastest * 1.001, shared_banks=4))
    refused = accelsim("run", "--hardware", CHIP, "--set", f"engine.clock_mhz={fastest * 1.001}")
    assert refused.code == 2


def test_what_is_beyond_the_tables_is_said() -> None:
    assert extrapolated(at("cmos-7nm")) == "node"
    large = accelsim.load_hardware(edge(l2_bytes=2**27, clock_mhz=50.0), {"technology.extrapolate": True})
    assert extrapolated(large) == "size of l2"


CAPACITIES = {
    "cores": st.integers(1, 8),
    "fma_per_cycle.fp16": st.sampled_from([256, 300, 512, 1024]),
    "fma_per_cycle.int8": st.sampled_from([256, 300, 512, 1024]),
    "metadata_bits_per_value": st.integers(0, 8),
    "accumulator_bits": st.sampled_from([16, 32]),
    "shared_memory_bytes": st.integers(2**17, 2**21),
    "shared_bytes_per_cycle": st.floats(64, 512),
    "shared_banks": st.integers(1, 16),
    "l2_bytes": st.integers(1, 2**20),
    "l2_bytes_per_cycle": st.floats(16, 256),
    "l2_banks": st.integers(1, 16),
}


@pytest.mark.parametrize("key", CAPACITIES)
@at_most(20)
@given(data=st.data())
def test_more_never_takes_less_area(key: str, data: st.DataObject) -> None:
    less, more = sorted(data.draw(CAPACITIES[key]) for _ in range(2))
    sizes = {"l2_bytes": data.draw(st.sampled_from([1, 2**18]))} | {"clock_mhz": 200.0}
    small, large = edge(**sizes | {key: less}), edge(**sizes | {key: more})
    assert area_mm2(large) >= area_mm2(small) * (1 - 1e-12)


@pytest.mark.parametrize("key", CAPACITIES)
def test_twice_as_much_is_never_free(key: str) -> None:
    first = {"fma_per_cycle.fp16": 256, "fma_per_cycle.int8": 256, "metadata_bits_per_value": 3, "cores": 1}
    first |= {"accumulator_bits": 16, "shared_memory_bytes": 2**18, "shared_bytes_per_cycle": 128.0, "l2_bytes": 2**18}
    first |= {"shared_banks": 2, "l2_banks": 1, "l2_bytes_per_cycle": 64.0}
    small, large = edge(**first), edge(**first | {key: 2 * first[key]})
    assert area_mm2(large) > area_mm2(small)


def test_registers_of_sums_cost_area_and_leakage() -> None:
    """At 45 nm 5.98 um2 and 7e-5 mW a bit, by Aladdin's table."""
    shared, first, second = (
        accelsim.load_hardware(chip, {"technology": "cmos-45nm"})
        for chip in (
            edge(accumulators="shared", register_bytes=0),
            edge(accumulators="registers", register_bytes=65536),
            edge(accumulators="registers", register_bytes=131072),
        )
    )
    for less, more in ((shared, first), (first, second)):
        assert area_mm2(more) - area_mm2(less) == pytest.approx(1.03e-6 * 8 * 65536 * 5.98)
        assert prices(more)["powered_ns"].pj - prices(less)["powered_ns"].pj == pytest.approx(8 * 65536 * 7e-5)


def test_every_key_has_a_price_or_a_reason() -> None:
    """Keys of the engine that no test here raises are declared free, or are no capacity: rates of time, names."""
    config = type(edge().engine)
    own = {field.name for field in dataclasses.fields(config)}
    assert config.FREE.keys() <= own
    assert all(reason for reason in config.FREE.values())
    raised = {key.partition(".")[0] for key in CAPACITIES} | {"register_bytes", "accumulators"}  # the test below
    times = {"clock_mhz", "prologue_cycles", "epilogue_cycles_per_output", "reduction_us"}
    assert own - raised - config.FREE.keys() - times == {"kind", "dtype", "patterns", "power"}


def test_prices_of_a_chip_are_listed(accelsim: Run) -> None:
    edge_, board = accelsim("energy", CHIP), accelsim("energy", "a100-pcie")
    assert (edge_.code, board.code) == (0, 0)
    assert "mm² in cmos-22nm" in edge_.out
    assert "energies of a measured board, not bottom-up" in board.out
    for action in prices(edge()):
        assert action.removesuffix("_per_cycle").replace("_", " ") in edge_.out
    assert "energies of a published table, not bottom-up" in accelsim("check", "sparseloop-stc").out
    unused = accelsim("energy", CHIP, "--layer", "fc1")
    assert unused.code == 2
    assert "--layer: is of no use with edge-nm-16x16" in unused.err


def test_listed_prices_are_those_of_the_node_that_is_asked_for(accelsim: Run) -> None:
    """A register's bit in 45 nm costs 0.009 pJ; the memory controller has no source, and so no number."""
    moved = accelsim("energy", CHIP, "--at", "node=45nm")
    assert moved.code == 0
    assert "edge-nm-16x16 @ 45nm: 1 core," in moved.out
    lines = {" ".join(line.split()[:3]): line.split() for line in moved.out.splitlines() if line.strip()}
    assert lines["register bits registers"][3] == "0.009"
    assert "unknown memory controller of the chip: no source" in " ".join(lines["controller bytes dram"])
    wrong = accelsim("energy", CHIP, "--at", "node=banana", "--count-io", "--hardware", "a100-pcie")
    assert wrong.code == 2
    assert wrong.out == ""
    for option in ("--hardware: is of no use", "--count-io: is of no use", "--at node=banana: node must be"):
        assert option in wrong.err
    board = accelsim("energy", "a100-pcie", "--at", "node=28nm")
    assert (board.code, board.out) == (2, "")
    assert "a100-pcie cannot be put at 28nm" in board.err


def test_a_clock_too_fast_is_said_once_whatever_the_layers(accelsim: Run) -> None:
    done = accelsim("run", "lenet-300-100-digits", "--hardware", CHIP, "--set", "engine.clock_mhz=20000")
    assert done.code == 2
    assert done.err.count("error:") == done.err.count("the fastest clock that it follows") == 1


def document(block: str) -> list[str]:
    """Return the lines of a block of docs/tensor_core.md; skips where the docs are not beside the tests."""
    path = Path(__file__).parents[1] / "docs" / "tensor_core.md"
    if not path.is_file():
        pytest.skip("the docs are not beside the tests")
    return (
        path.read_text(encoding="utf-8").split(f"<!-- {block} -->\n")[1].split(f"\n<!-- /{block} -->")[0].splitlines()
    )


def test_the_document_adds_up_prices_by_hand() -> None:
    table, seen = prices(edge()), []
    for line in document("by hand")[1:-1]:
        action, derivation = line.split(maxsplit=1)
        left, _, right = derivation.removesuffix(" pJ").rpartition(" = ")
        assert re.fullmatch(r"[-+*/()0-9.ex ]+", left)
        by_hand = eval(left.replace(" x ", " * "))  # noqa: S307 (digits and operators only)
        assert by_hand == pytest.approx(float(right), rel=2e-4), action  # 4 digits
        assert table[action].pj == pytest.approx(float(right), rel=2e-4), action
        seen.append(action)
    assert {*seen} == {
        "fma", "register_bits", "shared_bytes", "shared_writes", "powered_ns", "control_per_cycle", "clock_per_cycle"
    }  # fmt: skip


def test_the_account_in_the_document_is_that_of_the_run() -> None:
    """Each line is times x price, and all add up to what the run reports."""
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in document("edge-account") if "|" in line]
    *lines, total = lines[2:]
    for _, times, pj, nj, _ in lines:
        assert int(times) * float(pj) / 1e3 == pytest.approx(float(nj), rel=1e-4, abs=1e-4)
    assert sum(float(nj) for *_, nj, _ in lines) == pytest.approx(float(total[3]), rel=1e-6)
    row = accelsim.gemm(64, 64, 256, hardware=CHIP, pattern="2:4").iloc[0]
    assert row["energy_pj"] / 1e3 == pytest.approx(float(total[3]), rel=1e-6)


def test_parts_of_arithmetic_add_up() -> None:
    chip = at("cmos-45nm")
    technology = chip.technology
    assert technology is not None
    assert multiply_accumulate(technology, "fp16", 32) == arithmetic(technology, "mac", "fp16")
    assert multiply_accumulate(technology, "int16", 16).um2 == pytest.approx(
        282 * 2 ** (math.log(3495 / 282) / math.log(4)) + 67
    )
    assert multiply_accumulate(technology, "fp32", 16).um2 == 7700 + 4184  # no sum is narrower than its products
    assert register_um2(technology) == 5.98
    assert selection(technology, 1, 16).pj == 0
    assert selection(technology, 4, 16).um2 == pytest.approx(4 * 16 * 50.4 / 32)


@pytest.mark.parametrize("bytes_per_cycle", [16385.0, 1e9])
def test_more_bytes_in_a_cycle_than_banks_can_move_are_refused(bytes_per_cycle: float) -> None:
    """256 banks with rows of 512 bits move 16384 bytes; without a bound a slip of the keyboard never ended."""
    with pytest.raises(InputError, match=f"{bytes_per_cycle:g} bytes per cycle".replace("+", r"\+")) as caught:
        prices(edge(shared_bytes_per_cycle=bytes_per_cycle))
    assert "move no more than 16384 bytes in a cycle" in str(caught.value)
