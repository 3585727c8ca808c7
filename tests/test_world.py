"""What moves between chip and world, counted here from shapes and formats; and what --count-io charges for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import TOY_CHIP, Run

import accelsim
from accelsim.costs import account, entries
from accelsim.errors import InputError
from accelsim.memory.service import measure
from accelsim.network.ends import ends_of
from accelsim.network.graph import Graph, Operation
from accelsim.report.terminal import chip_totals
from accelsim.totals import over_layers

FOLLOWS = ("energy_dram_pj", "energy_dram_io_pj", "energy_pj", "power_mw", "edp_pj_s", "dram_gb_per_s")
PAID = ("count_io_reads", "count_io_writes", "dram_read_bytes", "dram_write_bytes", "unpaid_input_bytes",
        "unpaid_output_bytes", "dram", "dram_model", "dram_pins", "network_io")  # fmt: skip


def world(row: Any, which: str) -> tuple[int, int, int]:
    return tuple(int(row[f"{which}_{what}_bytes"]) for what in ("input", "output", "weight"))  # type: ignore[return-value]


def linear(outputs: int, inputs: int, **keywords: Any) -> accelsim.Layer:
    return accelsim.Layer.linear("fc", np.ones((outputs, inputs), np.float32), **keywords)


def run(layer: accelsim.Layer, chip: str, changes: dict[str, Any] | None = None, batch: int = 1) -> Any:
    samples = np.ones((batch, *layer.input_shape), np.float32)
    return accelsim.simulate(layer, accelsim.load_hardware(chip, changes), {"fc": samples}).iloc[0]


@pytest.mark.parametrize("batch", [1, 3])
def test_a_layer_that_stays_on_eie_pays_for_nothing_that_crosses(batch: int) -> None:
    """128 outputs over 64 PEs: 2 entries of 8 bits in each column of each PE, 641 pointers of 16 bits, 16 codes."""
    row = run(linear(128, 640), "eie-64pe-45nm", batch=batch)
    weights = 128 * 640 + 64 * 641 * 2 + 16 * 2
    assert world(row, "world") == (batch * 640 * 2, batch * 128 * 2, weights)
    assert world(row, "unpaid") == world(row, "world")
    assert row["dram_read_bytes"] == row["dram_write_bytes"] == 0


def test_a_layer_that_is_streamed_to_eie_pays_for_all_but_its_codebook() -> None:
    row = run(linear(256, 640), "eie-64pe-45nm", {"memory.residency": "stream", "engine.activation_bytes": 26})
    assert world(row, "world") == (640 * 2, 256 * 2, 256 * 640 + 64 * 641 * 2 + 32)
    assert world(row, "unpaid") == (0, 0, 32)
    resident = run(linear(256, 640), "eie-64pe-45nm", {"memory.residency": "stream"})
    assert world(resident, "unpaid") == (640 * 2, 256 * 2, 32)


def test_activations_of_eie_count_their_own_bits() -> None:
    row = run(linear(64, 100), "eie-64pe-45nm", {"engine.activation_bits": 5})
    assert world(row, "world")[:2] == (-(-100 * 5 // 8), 64 * 5 // 8)


@pytest.mark.parametrize(
    ("dtype", "in_bytes", "out_bytes"), [("fp16", 2, 2), ("int8", 1, 2)], ids=["16 bits", "int8 gives 16"]
)
@pytest.mark.parametrize("batch", [1, 5])
def test_a_layer_on_tensor_cores_pays_for_all(dtype: str, in_bytes: int, out_bytes: int, batch: int) -> None:
    row = run(linear(96, 160), "edge-nm-16x16", {"engine.dtype": dtype}, batch)
    moved = batch * 160 * in_bytes, batch * 96 * out_bytes, 96 * 160 * in_bytes
    assert world(row, "world") == moved
    assert world(row, "unpaid") == (0, 0, 0)
    assert row["dram_read_bytes"] + row["dram_write_bytes"] >= sum(moved)


def test_packed_weights_cross_with_their_metadata() -> None:
    """2:4: half the weights, each of 16 bits and an index of 3."""
    weight = np.tile([1.0, 1.0, 0.0, 0.0], (64, 32))
    row = run(accelsim.Layer.linear("fc", weight), "edge-nm-16x16")
    assert row["executed_as"] == "2:4"
    assert world(row, "world") == (128 * 2, 64 * 2, 64 * 64 * (16 + 3) // 8)


def test_inputs_that_no_tile_reads_do_not_cross() -> None:
    """1024 of 2048 inputs meet zeros alone, in all rows of weights: their slices are skipped."""
    weight = np.ones((16, 2048), np.float32)
    weight[:, 512:1536] = 0
    row = run(accelsim.Layer.linear("fc", weight), "edge-skip-16x16")
    assert row["executed_as"] == "skip:16"
    assert world(row, "world")[0] == 1024 * 2
    assert world(row, "unpaid") == (0, 0, 0)


@pytest.mark.parametrize("chip", ["eie-64pe-45nm", "edge-nm-16x16"])
def test_a_convolution_reads_each_input_once(chip: str) -> None:
    """8 maps of 6 x 7, a kernel of 3 x 3 with padding 1 and stride 2: 3 x 4 outputs of 16 channels; no bias."""
    layer = accelsim.Layer.conv2d("fc", np.ones((16, 8, 3, 3), np.float32), input_hw=(6, 7), stride=2, padding=1)
    row = run(layer, chip, batch=2)
    assert world(row, "world")[:2] == (2 * 8 * 6 * 7 * 2, 2 * 16 * 3 * 4 * 2)


@pytest.mark.parametrize("chip", ["eie-64pe-45nm", "edge-nm-16x16"])
def test_steps_have_inputs_and_outputs_of_their_own_and_share_weights(chip: str) -> None:
    once, often = (run(linear(64, 32, steps=steps), chip) for steps in (1, 7))
    assert world(often, "world")[:2] == tuple(7 * each for each in world(once, "world")[:2])
    assert world(often, "world")[2] == world(once, "world")[2]


def test_what_l2_kept_from_the_run_before_is_not_paid() -> None:
    """128 KiB each of inputs, weights and results: L2 holds all of it, or nothing where it has one byte."""
    kept = accelsim.gemm(256, 256, 256, "a100-pcie").iloc[0]
    assert world(kept, "world") == world(kept, "unpaid") == (2**17,) * 3
    chip = accelsim.load_hardware("a100-pcie", {"engine.l2_bytes": 1})
    none = accelsim.gemm(256, 256, 256, chip).iloc[0]
    assert world(none, "world") == (2**17,) * 3
    assert world(none, "unpaid") == (0, 0, 0)


def test_the_toy_keeps_everything() -> None:
    row = run(linear(10, 33), str(TOY_CHIP), batch=2)
    assert world(row, "world") == world(row, "unpaid") == (2 * 33 * 2, 2 * 10 * 2, 10 * 33 * 2)


# --count-io


def network() -> accelsim.Network:
    return accelsim.Network("two", [
        accelsim.Layer.linear("first", np.ones((96, 500)), activations=np.ones((3, 500))),
        accelsim.Layer.linear("last", np.ones((40, 96)), activations=np.ones((3, 96))),
    ])  # fmt: skip


CHARGED = {"eie-64pe-45nm": {}, str(TOY_CHIP): {"memory.dram": "lpddr3-1600"}}


@pytest.mark.parametrize("name", CHARGED)
def test_inputs_and_outputs_of_the_network_are_charged_where_they_lie_on_the_chip(name: str) -> None:
    """3 x 500 inputs and 3 x 40 outputs of 16 bits, in blocks of 64 bytes, at the price of the part and its pins."""
    chip = accelsim.load_hardware(name, CHARGED[name])
    given, charged = (accelsim.simulate(network(), chip, count_io=asked) for asked in (False, True))
    same = [column for column in given if column not in (*FOLLOWS, *PAID)]
    pd.testing.assert_frame_equal(given[same], charged[same], check_exact=True)
    service = measure(chip.memory.dram)
    first, last = (charged.iloc[place] for place in (0, 1))
    reads, writes = -(-3 * 500 * 2 // 64), -(-3 * 40 * 2 // 64)
    assert (first["count_io_reads"], first["count_io_writes"]) == (reads, 0)
    assert (last["count_io_reads"], last["count_io_writes"]) == (0, writes)
    more = charged["energy_pj"] - given["energy_pj"]
    assert more[0] == pytest.approx(reads * (service.read_pj + service.read_io_pj), rel=1e-9)
    assert more[1] == pytest.approx(writes * (service.write_pj + service.write_io_pj), rel=1e-9)
    assert (first["dram_read_bytes"], last["dram_write_bytes"]) == (64 * reads, 64 * writes)
    assert (first["unpaid_input_bytes"], last["unpaid_output_bytes"]) == (0, 0)
    assert last["unpaid_input_bytes"] == first["unpaid_output_bytes"] == 3 * 96 * 2  # between layers: on the chip
    assert set(charged["network_io"]) == {"counted"}
    assert (charged["power_mw"] * charged["time_us"] * 1e3).tolist() == pytest.approx(charged["energy_pj"].tolist())


@pytest.mark.parametrize("name", CHARGED)
def test_the_account_and_the_table_agree_on_what_is_charged(name: str) -> None:
    chip = accelsim.load_hardware(name, CHARGED[name])
    for _, row in accelsim.simulate(network(), chip, count_io=True).iterrows():
        counted = {column.removeprefix("count_"): int(row[column]) for column in row.index if column[:6] == "count_"}
        actions = {action: times for action, times in counted.items() if times}
        asked = actions, int(row["cycles"]), chip, float(row["clock_mhz"])
        assert account(*asked).total_pj == pytest.approx(row["energy_pj"], rel=1e-12)
        assert any(action.startswith("io_") for action, _, _ in entries(*asked))


def test_who_pays_for_them_already_pays_nothing_more() -> None:
    given, charged = (accelsim.simulate(network(), "edge-nm-16x16", count_io=asked) for asked in (False, True))
    pd.testing.assert_frame_equal(given.drop(columns="network_io"), charged.drop(columns="network_io"))
    assert set(charged["network_io"]) == {"counted"}
    spilled = accelsim.load_hardware("eie-64pe-45nm", {"engine.activation_bytes": 2})
    first = accelsim.simulate(network(), spilled, count_io=True).iloc[0]
    assert first["count_io_reads"] == 0


def of_graph(sources: dict[str, tuple[str, ...]], operations: tuple[Operation, ...], outputs: tuple[str, ...]) -> Graph:
    return Graph({"x": (8,), "ids": (8,)}, sources, operations, outputs)


def between(name: str, kind: str, *inputs: str) -> Operation:
    return Operation(name=name, kind=kind, inputs=inputs, shape=(8,), does="")


def test_inputs_and_outputs_are_those_of_the_graph_and_not_of_the_list() -> None:
    """Two branches read the input, of which the first pays; a layer behind an addition of both is no end."""
    sources = {"a": ("norm",), "b": ("x",), "c": ("sum",), "d": ("c",), "e": ("c",)}
    middle = between("norm", "normalisation", "x"), between("sum", "elementwise", "a", "b", "x")
    joined = of_graph(sources, (*middle, between("both", "concat", "d", "e")), ("both",))
    assert ends_of(joined, list(sources)) == ({"a"}, {"d", "e"})
    added = of_graph(sources, (*middle, between("both", "elementwise", "d", "e")), ("both", "c"))
    assert ends_of(added, list(sources)) == ({"a"}, {"e", "c"})
    looked_up = of_graph({"a": ("rows",), "b": ("x",)}, (between("rows", "embedding", "ids"),), ())
    assert ends_of(looked_up, ["a", "b"]) == ({"b"}, {"a", "b"})
    assert ends_of(None, ["a", "b"]) == ({"a"}, {"b"})


def test_a_second_branch_of_the_input_pays_nothing_more() -> None:
    """Inputs of 500 values each; the last layer of the list makes no output, as two behind a branch of the first do."""
    layers = [accelsim.Layer.linear(name, np.ones((96, 500))) for name in ("first", "second")]
    graph = Graph({"x": (500,)}, {"first": ("x",), "second": ("x",)}, (), ("first",))
    charged = accelsim.simulate(accelsim.Network("two", layers, graph=graph), "eie-64pe-45nm", 1.0, count_io=True)
    assert charged["count_io_reads"].tolist() == [-(-500 * 2 // 64), 0]
    assert charged["count_io_writes"].tolist() == [-(-96 * 2 // 64), 0]


def test_a_chip_without_dram_says_that_it_cannot() -> None:
    with pytest.raises(InputError, match="the chip has no DRAM that inputs and outputs could be charged by"):
        accelsim.simulate(network(), [str(TOY_CHIP), "eie-64pe-45nm"], count_io=True)


def test_the_total_names_that_inputs_and_outputs_are_in_it(accelsim: Run) -> None:
    asked = "run", "lenet-300-100-digits", "--hardware", "eie-64pe-45nm,edge-nm-16x16"
    assert "--count-io" not in accelsim(*asked).out
    told = "with the network's inputs and outputs (--count-io), which take no time here"
    for command in (asked, (*asked[:3], "eie-64pe-45nm"), ("compare", *asked[1:], "--granularity", "fine")):
        said = accelsim(*command, "--count-io")
        assert said.code == 0
        assert " ".join(said.out.split()).count(told) == 1


def test_totals_sum_what_crosses() -> None:
    table = accelsim.simulate(network(), "eie-64pe-45nm")
    total = over_layers(table, "hardware").iloc[0]
    assert total["world_weight_bytes"] == table["world_weight_bytes"].sum()
    assert len(chip_totals(table).columns[0].cells) == 1
