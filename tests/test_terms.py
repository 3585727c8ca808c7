"""On what terms chips are compared: what is said of each, the same for all, and a pair that differs in design alone."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from conftest import TOY_CHIP, Run

import accelsim
from accelsim.config import shipped_names
from accelsim.costs import entries, prices
from accelsim.engines import engine_of
from accelsim.errors import InputError
from accelsim.memory.service import measure
from accelsim.report.terminal import account, chip_totals, compare_table, energy_table, terms_table
from accelsim.scaling import energy_scale
from accelsim.terms import at, differences, parse_at, terms

PAIR = ("eie-matched-45nm", "nm-matched-45nm-dense")


def loaded(*names: str) -> list[accelsim.Hardware]:
    return [accelsim.load_hardware(name) for name in names]


# The terms


def test_terms_say_what_a_chip_is() -> None:
    """EIE: 64 PEs of 128 + 32 + 2 KiB at 800 MHz. The core: 256 multipliers, 256 KiB, 500 MHz. A100: 108 x 1024."""
    chips = loaded("eie-64pe-45nm", "edge-nm-16x16", "a100-pcie")
    table = terms(chips).set_index("hardware")
    eie, edge, board = (table.loc[name] for name in table.index)
    assert (eie["node_nm"], eie["multipliers"], eie["sram_bytes"]) == (45, 64, 64 * 162 * 1024)
    assert (eie["weights"], eie["stored"], eie["activations"], eie["sums"]) == (
        "int16",
        "4-bit codes",
        "int16",
        "int32",
    )
    assert (edge["node_nm"], edge["multipliers"], edge["sram_bytes"], edge["stored"]) == (22, 256, 256 * 1024, "")
    assert (edge["weights"], edge["activations"], edge["sums"]) == ("fp16", "fp16", "fp32")
    assert table["peak_gmac_per_s"].tolist() == pytest.approx([51.2, 128, 108 * 1024 * 1.41])
    assert (eie["dram"], edge["dram"]) == ("lpddr3-1600", "lpddr4-3200")
    assert table["dram_pins"].tolist() == [measure(chip.memory.dram).pins for chip in chips]  # type: ignore[union-attr]
    assert board["priced_by"] == "measured board"
    assert math.isnan(board["node_nm"])
    assert math.isnan(board["area_mm2"])
    assert board["sram_bytes"] == 108 * 167936 + 41943040


@pytest.mark.parametrize("name", [*shipped_names("hwconfigs"), str(TOY_CHIP)])
def test_every_chip_has_terms_and_its_tables_fit_80_columns(name: str) -> None:
    chip = accelsim.load_hardware(name)
    table = terms([chip])
    assert table["multipliers"].iloc[0] > 0
    assert (table["priced_by"] != "").all()
    layer = accelsim.Layer.linear("fc", np.ones((8, 32)), activations=np.ones(32))
    row = accelsim.simulate(layer, chip)
    assert table["peak_gmac_per_s"].iloc[0] == pytest.approx(
        row["peak_macs_per_cycle"].iloc[0] * row["full_clock_mhz"].iloc[0] / 1e3
    )


def test_tables_of_three_chips_fit_80_columns() -> None:
    from rich.console import Console

    chips = at(loaded("eie-matched-45nm", "nm-matched-45nm-dense", "edge-skip-16x16"), 28, "int8")
    layer = accelsim.Layer.linear("fc", np.ones((8, 32)), activations=np.ones(32))
    results = accelsim.simulate(layer, chips, count_io=True).assign(pruned_by="block:16x16", speed_up=1.0)
    totals = results.assign(energy_saving=1.0)
    for grid in (terms_table(terms(chips)), chip_totals(results), compare_table(totals)):
        console = Console(width=80, record=True)
        with console.capture() as captured:
            console.print(grid)
        said = captured.get()
        assert max(map(len, said.splitlines())) <= 80
        assert "int8" in said
    for chip, (_, row) in zip(chips, results.iterrows(), strict=True):
        console = Console(width=80, record=True)
        with console.capture() as captured:
            console.print(energy_table(row, account(row, chip)))
        said = captured.get()
        assert "…" not in said
        assert max(map(len, said.splitlines())) <= 80


def test_what_makes_energies_hard_to_compare_is_said_in_a_line_each() -> None:
    said = differences(loaded("eie-64pe-45nm", "edge-nm-16x16", "a100-pcie"))
    assert said == [
        "the chips differ in node: eie-64pe-45nm: 45 nm; edge-nm-16x16: 22 nm; a100-pcie: measured board",
        "the chips differ in number format: eie-64pe-45nm: 4-bit codes of int16 x int16; edge-nm-16x16: fp16; "
        "a100-pcie: fp16",
    ]
    assert differences(loaded("edge-nm-16x16", "edge-nm-16x16-dense")) == []


# The same for all


def test_chips_are_put_at_one_node_and_format() -> None:
    """28 nm lies between shipped technologies: its registers cost what the nearest's do, scaled as arithmetic is."""
    eie, core = at(loaded("eie-64pe-45nm", "nm-matched-45nm"), 28, "int8")
    assert differences([eie, core]) == [
        "the chips differ in number format: eie-64pe-45nm @ 28nm int8: 4-bit codes of int8 x int8; "
        "nm-matched-45nm @ 28nm int8: int8"
    ]
    assert eie.technology is not None
    assert dataclasses.replace(eie.technology, name="") == dataclasses.replace(core.technology, name="")
    assert eie.technology.node_nm == 28
    nearest = accelsim.load_hardware("eie-64pe-45nm", {"technology": "cmos-32nm"}).technology
    assert eie.technology.register_bit_pj == pytest.approx(nearest.register_bit_pj * energy_scale(32, 28))
    # A multiply-accumulate of int8 with a sum of 32 bits is the same operation for both.
    assert prices(eie)["mac"].pj == pytest.approx(prices(core)["fma"].pj, rel=0.15)  # the core selects 1 of 8
    dense = at(loaded("nm-matched-45nm-dense"), 28, "int8")[0]
    assert prices(eie)["mac"].pj == pytest.approx(prices(dense)["fma"].pj, rel=1e-12)


def test_a_shipped_node_is_that_technology() -> None:
    (moved,) = at(["eie-64pe-45nm"], 22)
    assert moved.technology == accelsim.load_hardware("edge-nm-16x16").technology
    same = accelsim.load_hardware("eie-64pe-45nm", {"technology": "cmos-22nm"})
    assert prices(moved) == prices(same)


def test_narrower_numbers_run_with_their_own_bytes() -> None:
    """Half the bits, half the bytes of inputs and weights; results leave the core with 16 bits."""
    layer = accelsim.Layer.linear("fc", np.ones((64, 64)), activations=np.ones(64))
    wide, narrow = (accelsim.simulate(layer, chip).iloc[0] for chip in (PAIR[1], *at([PAIR[1]], None, "int8")))
    assert (narrow["dtype"], wide["dtype"]) == ("int8", "int16")
    assert [2 * narrow[f"world_{what}_bytes"] for what in ("input", "weight")] == [
        wide[f"world_{what}_bytes"] for what in ("input", "weight")
    ]


def test_who_cannot_follow_stays_and_is_named() -> None:
    given = loaded("a100-pcie", "eie-64pe-45nm", str(TOY_CHIP), "edge-nm-16x16")
    with pytest.warns(UserWarning, match="it stays as it is") as caught:
        found = at(given, 32, "fp16")
    said = [str(each.message) for each in caught]
    assert said == [
        "a100-pcie cannot be put at 32nm fp16: no technology prices it: measured board; it stays as it is",
        "eie-64pe-45nm cannot be put at 32nm fp16: engine eie computes in integers of at most 16 bits, not in fp16; it "
        "stays as it is",
        "toy cannot be put at 32nm fp16: no technology prices it: made up; it stays as it is",
    ]
    assert found[:3] == given[:3]
    assert found[3].name == "edge-nm-16x16 @ 32nm fp16"


def test_a_clock_that_memories_cannot_follow_at_the_node_is_said() -> None:
    fast = accelsim.load_hardware("edge-nm-16x16", {"engine.clock_mhz": 1500.0})
    with pytest.warns(UserWarning, match="cannot be put at 45nm: .*the fastest clock that it follows is 1312 MHz"):
        left, moved = at([fast, "eie-64pe-45nm"], 45)
    assert left == fast
    assert moved.technology == accelsim.load_hardware("eie-64pe-45nm").technology


@pytest.mark.parametrize(
    ("chips", "node", "form", "problem"),
    [
        (["a100-pcie", "h200"], 28, None, "a100-pcie cannot be put at 28nm: no technology prices it: measured board"),
        (["edge-nm-16x16"], None, "int4", "engine.fma_per_cycle has no int4; it has fp16, bf16, int8"),
        (["edge-nm-16x16"], None, "int5", "format: 'int5' is not known"),
        (["edge-nm-16x16"], 3, None, "3 nm is outside the published node scaling"),
    ],
)
def test_what_no_chip_can_is_refused(chips: list[str], node: Any, form: Any, problem: str) -> None:
    with pytest.raises(InputError) as caught:
        at(chips, node, form)
    assert any(problem in each for each in caught.value.problems)


def test_the_option_is_read() -> None:
    assert parse_at("node=28nm,format=int8") == (28, "int8")
    assert parse_at("format=fp16") == (None, "fp16")
    assert parse_at(" node = 45 ") == (45, None)
    for text in ("28nm", "node=", "node=nm", "node=2.8nm", "node=28nm,node=22nm", "size=3", ""):
        with pytest.raises(InputError, match="--at"):
            parse_at(text)


def test_commands_compare_on_equal_terms(accelsim: Run, tmp_path: Any) -> None:
    chips = "--hardware", "a100-pcie,eie-64pe-45nm,nm-matched-45nm"
    said = accelsim("compare", *chips, "--granularity", "fine", "--at", "node=32nm,format=int8", "--count-io")
    assert said.code == 0
    assert "on these terms" in said.out
    assert "eie-64pe-45nm @ 32nm int8" in said.out
    assert "note: a100-pcie cannot be put at 32nm int8" in said.err
    assert "note: the chips differ in node: a100-pcie: measured board" in said.err
    page = tmp_path / "page.html"
    asked = "--at", "node=32nm", "--count-io", "-o", str(page)
    assert accelsim("report", "lenet-300-100-digits", *chips, *asked).code == 0
    text = page.read_text()
    assert "On these terms" in text
    assert "a100-pcie cannot be put at 32nm" in text
    assert "--at node=32nm --count-io" in text
    assert "chips = at(chips, 32, None)" in text
    wrong = accelsim("run", *chips, "--at", "node=28pm")
    assert (wrong.code, wrong.out) == (2, "")


# The pair


def test_the_pair_differs_in_design_alone() -> None:
    chips = loaded(*PAIR, "nm-matched-45nm")
    table = terms(chips)
    alike = [name for name in table if name not in ("hardware", "area_mm2")]
    assert {name: table[name].nunique(dropna=False) for name in alike} == dict.fromkeys(alike, 1)
    assert differences(chips) == []
    assert len({chip.memory for chip in map(_without_residency, chips)}) == 1
    assert len({chip.technology for chip in chips}) == 1


def _without_residency(chip: accelsim.Hardware) -> accelsim.Hardware:
    return accelsim.load_hardware(chip, {"memory.residency": "auto"})


@pytest.mark.parametrize("batch", [1, 8, 64])
def test_a_dense_product_costs_the_pair_the_same_but_for_what_their_designs_differ_in(batch: int) -> None:
    """256 x 256: EIE stores 16 + 4 bits a weight and 257 pointers of 16 bits in each of 64 PEs; the core 16 bits."""
    side, rng = 256, np.random.default_rng(0)
    layer = accelsim.Layer.linear("fc", rng.random((side, side)) + 1, activations=rng.random((batch, side)) + 1)
    chips = loaded(*PAIR)
    eie, core = (row for _, row in accelsim.simulate(layer, chips, count_io=True).iterrows())
    service = measure(chips[0].memory.dram)  # type: ignore[union-attr]

    # Arithmetic: as many multiply-accumulates, at the same price.
    assert eie["macs"] == core["macs"] == batch * side**2
    assert eie["padding_macs"] == core["padding_macs"] == 0
    assert eie["energy_arithmetic_pj"] == pytest.approx(core["energy_arithmetic_pj"], rel=1e-12)

    # DRAM: the same inputs and outputs; of the weights what their formats take.
    assert all(
        eie[f"world_{what}_bytes"] == core[f"world_{what}_bytes"] == 2 * batch * side for what in ("input", "output")
    )
    blocks = {"weights": side**2 * 16 // 512, "maps": batch * side * 16 // 512}
    more = math.ceil((side**2 * 20 + 64 * (side + 1) * 16) / 512) - blocks["weights"]
    assert core["dram_read_bytes"] == 64 * (blocks["weights"] + blocks["maps"])
    assert eie["dram_read_bytes"] == core["dram_read_bytes"] + 64 * more
    assert eie["dram_write_bytes"] == core["dram_write_bytes"] == 64 * blocks["maps"]

    # Energy: what is read more, and the time for which DRAM stands by, at the prices of one part.
    longer_ns = (eie["cycles"] - core["cycles"]) / 800.0 * 1e3
    assert eie["energy_dram_pj"] - core["energy_dram_pj"] == pytest.approx(
        more * service.read_pj + longer_ns * service.standby_mw, rel=1e-6
    )
    assert eie["energy_dram_io_pj"] - core["energy_dram_io_pj"] == pytest.approx(more * service.read_io_pj, rel=1e-6)


def test_each_line_of_the_pair_is_explained_at_the_same_price() -> None:
    layer = accelsim.Layer.linear("fc", np.ones((256, 256)), activations=np.ones((8, 256)))
    told: list[dict[str, float]] = []
    for chip in loaded(*PAIR):
        row = accelsim.simulate(layer, chip, count_io=True).iloc[0]
        counted = {word.removeprefix("count_"): int(row[word]) for word in row.index if word.startswith("count_")}
        own = [word.name for word in engine_of(chip).words.actions]
        actions = {action: counted[action] for action in (*own, "io_reads", "io_writes")}
        lines = entries(actions, int(row["cycles"]), chip, dtype=str(row["dtype"]))
        assert sum(times * price.pj for _, times, price in lines) == pytest.approx(row["energy_pj"], rel=1e-9)
        told.append({f"{price.component} {action}": price.pj for action, _, price in lines})
    eie, core = told
    assert eie["arithmetic mac"] == core["arithmetic fma"]
    shared = eie.keys() & core.keys()
    assert shared >= {"dram dram_reads", "dram dram_standby", "dram_io dram_read_io"}
    assert all(eie[line] == core[line] for line in shared if line.startswith("dram"))
    assert eie["dram io_reads"] == core["dram dram_reads"]
    assert eie["dram_io io_writes"] == core["dram_io dram_write_io"]


def test_the_account_of_the_pair_is_shown(accelsim: Run) -> None:
    """EIE streams weights and writes nothing: an action of DRAM that never happened is no line."""
    asked = "--layer", "fc3", "--count-io", "--hardware", ",".join(PAIR)
    said = accelsim("energy", "lenet-300-100-digits", *asked)
    assert said.code == 0
    assert said.out.count("io reads") == 0  # fc3 is the last layer, of which outputs are charged
    assert said.out.count("io writes") == 2  # core and pins, of EIE alone
    assert said.out.count("dram writes") == 1  # of the core alone
