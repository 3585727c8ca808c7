"""Operations that are no layers: counts of bytes and products by hand, what is fused, and what totals contain."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import accelsim
from accelsim import Layer, Network
from accelsim.billing import scope_on
from accelsim.compare import compare
from accelsim.compare import totals as compare_totals
from accelsim.curves import curve
from accelsim.engines.operations import plan
from accelsim.hardware import load_hardware
from accelsim.memory.service import measure
from accelsim.network.graph import KINDS, ActivationProduct, Graph, Operation
from accelsim.network.left_out import LeftOut
from accelsim.report import bars, charts, plots, terminal
from accelsim.results import supported
from accelsim.totals import not_simulated, over_layers

RNG = np.random.default_rng(7)
TOKENS, WIDTH, HEADS = 96, 64, 4
HEAD = WIDTH // HEADS
BYTES = 2  # of an activation in 16 bits

BOARD, EDGE, EIE = "a100-pcie", "edge-nm-16x16", "eie-64pe-45nm"


def linear(name: str, outputs: int, inputs: int) -> Layer:
    weight = np.where(RNG.random((outputs, inputs)) < 0.5, RNG.normal(size=(outputs, inputs)), 0)
    return Layer.linear(name, weight, tokens=TOKENS)


def block(queries: int = TOKENS, keys: int = TOKENS, *, causal: bool = True, kv_heads: int = HEADS) -> Network:
    """A block of a transformer: attention of so many queries and keys, and a feed-forward part with GELU."""
    layers = [
        *(linear(name, WIDTH, WIDTH) for name in "qkvo"),
        linear("up", 4 * WIDTH, WIDTH),
        linear("down", WIDTH, 4 * WIDTH),
    ]
    shape, product = (TOKENS, WIDTH), (HEADS, queries, keys)
    scores = ActivationProduct(HEADS, keys, HEAD, queries, causal, kv_heads)
    values = ActivationProduct(HEADS, HEAD, keys, queries, causal, kv_heads)

    def made(name: str, kind: str, *inputs: str, does: str = "", **given: Any) -> Operation:
        return Operation(name=name, kind=kind, inputs=inputs, does=does, **{"shape": shape} | given)

    operations = [
        made("norm1", "normalisation", "tokens", reads=TOKENS * WIDTH, weights=2 * WIDTH),
        made("a.scores", "attention", "q", "k", shape=product, product=scores, macs=scores.macs),
        made("a.softmax", "softmax", "a.scores", shape=product),
        made("a.values", "attention", "a.softmax", "v", product=values, macs=values.macs),
        made("add1", "elementwise", "tokens", "o", does="Add"),
        made("norm2", "normalisation", "add1", reads=TOKENS * WIDTH, weights=2 * WIDTH),
        made("gelu", "activation", "up", does="Gelu", shape=(TOKENS, 4 * WIDTH)),
        made("add2", "elementwise", "add1", "down", does="add_"),
    ]
    sources = {"q": ("norm1",), "k": ("norm1",), "v": ("norm1",), "o": ("a.values",), "up": ("norm2",)}
    graph = Graph({"tokens": shape}, sources | {"down": ("gelu",)}, tuple(operations), ("add2",))
    left = [LeftOut(each.name, "attention", macs=each.macs) for each in operations if each.product]
    return Network("block", layers, graph=graph, not_simulated=left)


def residual() -> Network:
    """A block of a ResNet: two convolutions, ReLU behind each, and a shortcut round both."""
    layers = [Layer.conv2d(name, RNG.normal(size=(8, 8, 3, 3)), input_hw=6, padding=1) for name in ("conv1", "conv2")]
    shape = (8, 6, 6)
    operations = (
        Operation(name="relu1", kind="activation", inputs=("conv1",), shape=shape, does="Relu"),
        Operation(name="add", kind="elementwise", inputs=("conv2", "image"), shape=shape, does="Add"),
        Operation(name="relu2", kind="activation", inputs=("add",), shape=shape, does="Relu"),
        Operation(name="pool", kind="pooling", inputs=("relu2",), shape=(8,), does="GlobalAveragePool"),
    )
    graph = Graph({"image": shape}, {"conv1": ("image",), "conv2": ("relu1",)}, operations, ("pool",))
    return Network("residual", layers, graph=graph)


def rows(network: Network, chip: Any, **given: Any) -> pd.DataFrame:
    return accelsim.simulate(network, chip, 1.0, **given).set_index("layer")


def blocks_of_64(moved: int) -> int:
    return 64 * math.ceil(moved / 64)


# Order, and what each is


def test_operations_stand_behind_their_layers_in_the_order_of_the_graph() -> None:
    network = block()
    found = rows(network, BOARD)
    assert list(found.index) == list(network.graph.order if network.graph else ())
    assert set(found.loc[found["kind"].isin(KINDS)].index) == {each.name for each in network.graph.operations}  # type: ignore[union-attr]
    assert found.loc["a.scores", ["out_features", "in_features"]].tolist() == [TOKENS, HEAD]
    assert pd.isna(found.loc["norm1", ["out_features", "weight_density", "activation_density"]]).all()
    alone = rows(network, BOARD, operations=False)
    assert list(alone.index) == [layer.name for layer in network]
    pd.testing.assert_series_equal(alone["cycles"].astype(int), found.loc[alone.index, "cycles"].astype(int))


def test_a_network_without_a_graph_has_layers_alone() -> None:
    network = replace(block(), graph=None)
    assert list(rows(network, BOARD).index) == [layer.name for layer in network]


@pytest.mark.parametrize("backend", ["compiled", "simpy"])
def test_both_backends_bill_the_same(backend: Any) -> None:
    numbers = ["cycles", "macs", "dram_read_bytes", "dram_write_bytes", "time_us", "energy_pj"]
    found, again = rows(block(), EDGE), rows(block(), EDGE, backend=backend)
    pd.testing.assert_frame_equal(found[numbers], again[numbers])


# Counted by hand


def test_what_moves_takes_its_bytes_over_dram_and_one_launch() -> None:
    chip, row = load_hardware(BOARD), rows(block(), BOARD).loc["norm1"]
    read, written = BYTES * (TOKENS * WIDTH + 2 * WIDTH), BYTES * TOKENS * WIDTH
    assert row[["executed_as", "dram_read_bytes", "dram_write_bytes"]].tolist() == [
        "moved", blocks_of_64(read), blocks_of_64(written),
    ]  # fmt: skip
    assert chip.memory is not None
    service, clock = measure(chip.memory.dram), chip.engine.clock_mhz
    dram_us = float(service.read_ns) / chip.memory.all_channels * (blocks_of_64(read) + blocks_of_64(written)) / 64e3
    vector_us = (TOKENS * WIDTH + 2 * WIDTH) / (64 * 108) / clock
    wait_us = float(service.latency_ns) / 1e3
    assert row["time_us"] == pytest.approx(2.969 + wait_us + max(dram_us, vector_us), abs=2 / clock)  # whole cycles
    assert row["limited_by"] == "launch"
    assert row["macs"] == row["count_fma"] == 0


def test_its_energy_is_that_of_its_bytes_its_elements_and_the_board_meanwhile() -> None:
    chip, row = load_hardware(BOARD), rows(block(), BOARD).loc["norm1"]
    assert chip.memory is not None
    service, power = measure(chip.memory.dram), chip.engine.power  # type: ignore[attr-defined]
    moved = row["dram_read_bytes"] + row["dram_write_bytes"]
    dram_pj = (row["dram_read_bytes"] * service.read_pj + row["dram_write_bytes"] * service.write_pj) / 64
    dram_pj += service.standby_mw * chip.memory.all_channels * row["time_us"] * 1e3  # mW x ns = pJ
    expected = dram_pj + moved * power.dram_pj_per_byte + row["dram_read_bytes"] * power.l2_pj_per_byte
    expected += 10.0 * (TOKENS * WIDTH + 2 * WIDTH) + power.static_w * 1e6 * row["time_us"]
    assert row["energy_pj"] == pytest.approx(expected, rel=1e-3)


def test_samples_share_a_launch_and_the_tensors_of_an_operation() -> None:
    network, batch = block(), 5
    many = accelsim.simulate(network, BOARD, {each.name: np.ones((batch, *each.input_shape)) for each in network})
    one, many = rows(network, BOARD), many.set_index("layer")
    read = BYTES * (batch * TOKENS * WIDTH + 2 * WIDTH)
    assert many.loc["norm1", "dram_read_bytes"] == blocks_of_64(read)
    assert many.loc["norm1", "time_us"] < 2 * one.loc["norm1", "time_us"]
    assert many.loc["a.scores", "macs"] == batch * one.loc["a.scores", "macs"]
    assert many.loc["a.scores", "vectors"] == batch * HEADS * TOKENS


def test_attention_is_a_gemm_for_each_head_and_sample() -> None:
    """Without a mask scores cost what a kernel of so many heads' products of this size costs."""
    found = rows(block(causal=False), EDGE)
    assert found.loc[["a.scores", "a.values"], "macs"].tolist() == 2 * [HEADS * TOKENS * TOKENS * HEAD]
    alone = accelsim.gemm(TOKENS, TOKENS, HEAD, EDGE, dtype="fp16")
    assert found.loc["a.scores", "count_fma"] == HEADS * alone["count_fma"].item()
    whole = BYTES * HEADS * TOKENS * TOKENS
    operands = 2 * BYTES * TOKENS * WIDTH
    assert found.loc["a.scores", ["dram_read_bytes", "dram_write_bytes"]].tolist() == [operands, whole]
    assert found.loc["a.softmax", ["dram_read_bytes", "dram_write_bytes"]].tolist() == [whole, whole]
    assert found.loc["a.values", "dram_read_bytes"] == whole + operands // 2
    assert found.loc["a.values", "dram_write_bytes"] == operands // 2


@pytest.mark.parametrize("keys", [TOKENS, 160])
def test_a_causal_mask_leaves_pairs_of_queries_and_keys_up_to_their_place(keys: int) -> None:
    found = rows(block(keys=keys), EDGE)
    pairs = sum(keys - TOKENS + query + 1 for query in range(TOKENS))
    for name in ("a.scores", "a.values"):
        assert found.loc[name, "macs"] == pytest.approx(HEADS * pairs * HEAD, rel=1 / 60)  # whole queries or keys
        assert found.loc[name, "dense_macs"] == HEADS * TOKENS * keys * HEAD
    scores = BYTES * HEADS * pairs
    # Operands are read whole, and results written whole: a mask takes out pairs alone.
    assert found.loc["a.scores", "dram_read_bytes"] == BYTES * (TOKENS + keys) * WIDTH
    assert found.loc["a.scores", "dram_write_bytes"] == pytest.approx(scores, rel=1 / 60)
    assert found.loc["a.softmax", "dram_write_bytes"] == blocks_of_64(scores)
    assert found.loc["a.values", "dram_read_bytes"] == pytest.approx(scores + BYTES * keys * WIDTH, rel=1 / 60)
    assert found.loc["a.values", "dram_write_bytes"] == BYTES * TOKENS * WIDTH


def test_decoding_reads_all_keys_and_values_once() -> None:
    """One query meets the whole context, mask or none; heads of queries that share keys read them once."""
    context, kv_heads = 1024, 2
    found = rows(block(queries=1, keys=context, kv_heads=kv_heads), EDGE)
    cache = BYTES * context * kv_heads * HEAD
    for name in ("a.scores", "a.values"):
        assert found.loc[name, "macs"] == HEADS * context * HEAD
    assert found.loc["a.scores", "dram_read_bytes"] == cache + BYTES * WIDTH
    assert found.loc["a.values", "dram_read_bytes"] == cache + BYTES * HEADS * context


# What is fused


def test_scores_that_are_kept_are_neither_written_nor_read() -> None:
    stored, kept = rows(block(), BOARD, operations=True), rows(block(), BOARD)
    assert kept.loc["a.softmax", "executed_as"] == "fused"
    assert kept.loc["a.softmax", ["cycles", "dram_read_bytes", "energy_pj"]].tolist() == [0, 0, 0]
    assert kept.loc["a.scores", ["dram_read_bytes", "dram_write_bytes"]].tolist() == [2 * BYTES * TOKENS * WIDTH, 0]
    assert kept.loc["a.values", "dram_read_bytes"] == BYTES * TOKENS * WIDTH
    stored = rows(block(), load_hardware(BOARD, {"operations.scores": "stored"}))
    attention = ["a.scores", "a.softmax", "a.values"]
    assert (stored.loc[attention, "executed_as"] == ["computed", "moved", "computed"]).all()
    assert stored.loc[attention, "time_us"].sum() > kept.loc[attention, "time_us"].sum()
    assert kept.loc["a.values", "time_us"] < 4.3  # no kernel of its own: no floor


def test_what_stands_right_behind_a_layer_is_fused_and_reads_its_other_operand() -> None:
    found = rows(residual(), BOARD)
    assert found["executed_as"].tolist() == ["dense", "fused", "dense", "fused", "fused", "moved"]
    map_bytes = BYTES * 8 * 6 * 6
    assert found["dram_read_bytes"].tolist()[1::2] == [0, map_bytes, map_bytes]
    assert found.loc["relu2", ["cycles", "time_us", "energy_pj"]].tolist() == [0, 0, 0]
    assert found.loc["add", "dram_write_bytes"] == 0
    assert found.loc["add", "time_us"] < 1  # no launch
    assert found.loc["pool", "dram_write_bytes"] == 64


def test_nothing_is_fused_into_what_another_needs_too() -> None:
    network = residual()
    graph = network.graph
    assert graph is not None
    *others, pool = graph.operations
    again = replace(pool, name="pool again", inputs=("conv2",))
    two = replace(network, graph=replace(graph, operations=(*others, pool, again), order=()))
    assert rows(two, BOARD).loc[["add", "relu2"], "executed_as"].tolist() == ["moved", "moved"]
    seen = replace(network, graph=replace(graph, outputs=("pool", "conv2"), order=()))
    assert rows(seen, BOARD).loc["add", "executed_as"] == "moved"


def test_a_chip_says_what_it_fuses() -> None:
    none = load_hardware(BOARD, {"operations.behind_layers": []})
    assert rows(residual(), none).loc[["relu1", "add", "relu2"], "executed_as"].tolist() == 3 * ["moved"]
    by_kind = load_hardware(BOARD, {"operations.activation": "fused", "operations.behind_layers": []})
    assert rows(residual(), by_kind).loc[["relu1", "add", "relu2"], "executed_as"].tolist() == [
        "fused", "moved", "fused",
    ]  # fmt: skip


def test_eie_has_a_relu_and_leaves_the_rest_to_a_host() -> None:
    found = rows(residual(), EIE)
    assert found["executed_as"].tolist() == ["sparse", "fused", "sparse", "elsewhere", "elsewhere", "elsewhere"]
    assert found.loc["relu1", "cycles"] == 0
    assert found.loc["add", ["cycles", "time_us", "energy_pj", "dram_read_bytes"]].isna().all()


def test_a_product_of_unknown_shape_is_left_elsewhere() -> None:
    unknown = Operation(name="mixed", kind="other", inputs=("conv1",), shape=(8, 6, 6), macs=None)
    graph = Graph({"image": (8, 6, 6)}, {"conv1": ("image",)}, (unknown,))
    assert rows(Network("n", residual().layers[:1], graph=graph), BOARD).loc["mixed", "executed_as"] == "elsewhere"


def test_what_lies_between_scores_and_values_is_kept_with_them() -> None:
    network = block()
    graph = network.graph
    assert graph is not None
    mask = Operation(name="mask", kind="elementwise", inputs=("a.scores", "tokens"), shape=(HEADS, TOKENS, TOKENS))
    changed = [replace(each, inputs=("mask",)) if each.name == "a.softmax" else each for each in graph.operations]
    longer = replace(graph, operations=(*changed, mask), order=())
    outputs = {layer.name: layer.maps.outputs for layer in network}
    bill = load_hardware(BOARD).operations
    assert bill is not None
    found = plan(longer, outputs, bill)
    assert {name: found[name].stays for name in ("a.scores", "a.values")} == {
        "a.scores": (False, True),
        "a.values": (True, False),
    }
    assert found["mask"].way == found["a.softmax"].way == "fused"
    assert found["mask"].reads == TOKENS * WIDTH  # its other operand


# Totals


def test_totals_are_of_layers_and_of_all_that_runs() -> None:
    table = accelsim.simulate(block(), [BOARD, EIE], 1.0)
    whole = over_layers(table, "hardware", whole=True)
    layers = over_layers(table[~table["kind"].isin(KINDS)], "hardware", whole=True)
    assert whole[["layers", "able", "operations", "elsewhere"]].to_numpy().tolist() == [[6, 6, 8, 0], [6, 6, 8, 8]]
    assert "operations" not in layers
    for name in ("cycles", "time_us", "energy_pj", "dram_read_bytes"):
        mine = supported(table)[lambda each: each["hardware"] == BOARD][name].astype(float)
        assert whole.loc[BOARD, name] == pytest.approx(mine.sum())
        assert whole.loc[BOARD, name] > layers.loc[BOARD, name]
        assert whole.loc[EIE, name] == layers.loc[EIE, name]
    for name in ("storage_bits", "compression_ratio", "dense_bits"):
        assert whole[name].tolist() == layers[name].tolist()
    assert (whole["missing"] == 0).all()


def test_how_much_of_the_network_is_simulated_depends_on_the_chip() -> None:
    network = block()
    table = accelsim.simulate(network, [BOARD, EIE], 1.0)
    layers, attention = network.scope.macs, network.scope.macs_left_out
    shares = table.groupby("hardware", sort=False)["simulated_macs_share"].unique()
    assert shares[BOARD].tolist() == [1.0]
    assert shares[EIE].tolist() == [pytest.approx(layers / (layers + attention))]
    assert scope_on(network, load_hardware(EIE)) == network.scope
    assert not_simulated(table[table["hardware"] == BOARD]) == []
    assert network.told_beside({"a.scores", "a.values"}) == []


def test_comparisons_and_curves_are_of_whole_networks() -> None:
    network, chips = block(), [BOARD, EIE]
    whole = over_layers(accelsim.simulate(network, chips, 1.0), "hardware")
    compared = compare_totals(compare(network, chips, ["nm:2:4"], 0.5, activations=1.0))
    given = compared[compared["pruned_by"] == "as given"].set_index("hardware")
    assert given["time_us"].tolist() == pytest.approx(whole["time_us"].tolist())
    assert given["executed_as"].tolist() == ["dense", "sparse"]
    assert given["simulated_macs_share"].tolist() == [1.0, pytest.approx(network.scope.macs_share)]
    drawn = curve(network, chips, ["nm:2:4"], [0.5], activations=1.0)
    first = drawn[drawn["granularity"] == "as given"].set_index("hardware")
    assert first["time_us"].tolist() == pytest.approx(whole["time_us"].tolist())
    assert first["executed_as"].tolist() == ["dense", "sparse"]


def test_the_terminal_says_what_its_totals_contain() -> None:
    from rich.console import Console

    def shown(table: pd.DataFrame) -> str:
        console = Console(width=120, record=True, file=io.StringIO())
        console.print(terminal.layer_table(table))
        console.print(bars.cycle_chart(table, 120))
        console.print(bars.energy_chart(table, 120))
        return console.export_text()

    board = shown(accelsim.simulate(block(), BOARD, 1.0))
    assert "layers only" in board
    assert "all operations" in board
    assert "norm1" in board
    assert "gelu" not in board  # it costs nothing
    assert "all operations but 8" in shown(accelsim.simulate(block(), EIE, 1.0))
    assert "layers only" not in shown(accelsim.simulate(block(), EIE, 1.0, operations=False))


# What a chip's file says


@pytest.mark.parametrize(
    ("chip", "key", "value", "said"),
    [
        (EIE, "attention", "computed", "attention: engine eie cannot have it computed"),
        (EIE, "softmax", "moved", "softmax: engine eie cannot have it moved"),
        (EIE, "element_pj", 1.0, "operations: element_pj: engine eie runs no operations, and has no use for it"),
        (EIE, "dtype", "fp16", "operations: dtype: engine eie runs no operations, and has no use for it"),
        (BOARD, "softmax", "computed", "operations.softmax: must be"),
        (BOARD, "attention", "moved", "operations.attention: must be"),
        (BOARD, "launch_us", -1.0, "operations.launch_us: must be"),
        (BOARD, "elements_per_cycle", 0.0, "operations.elements_per_cycle: must be"),
        (BOARD, "attention", "elsewhere", "operations.scores: \"kept\" applies to attention that is computed"),
        (BOARD, "lanes", 4, "operations.lanes: unknown key"),
        (BOARD, "dtype", "fp7", "operations.dtype: 'fp7' has no rate in engine.fma_per_cycle"),
        (BOARD, "behind_layers", ["Add", ""], "operations.behind_layers: holds an empty name"),
    ],
)  # fmt: skip
def test_what_a_chip_cannot_do_is_refused(chip: str, key: str, value: Any, said: str) -> None:
    with pytest.raises(accelsim.InputError) as caught:
        load_hardware(chip, {f"operations.{key}": value})
    assert any(said in problem for problem in caught.value.problems), caught.value.problems


@pytest.mark.parametrize("name", accelsim.config.shipped_names("hwconfigs"))
def test_every_shipped_chip_says_what_it_does(name: str) -> None:
    chip = load_hardware(name)
    assert chip.operations is not None
    assert chip.operations.source


def test_numbers_of_the_file_change_what_operations_cost() -> None:
    def cost(**changes: Any) -> pd.Series[Any]:
        chip = load_hardware(EDGE, {f"operations.{key}": value for key, value in changes.items()})
        return rows(block(), chip).loc["norm1"]

    base = cost()
    assert cost(launch_us=5.0)["time_us"] == pytest.approx(base["time_us"] + 5)
    assert cost(elements_per_cycle=1.0)["stall_vector_cycles"] == TOKENS * WIDTH + 2 * WIDTH
    more = cost(element_pj=12.0)
    assert more["energy_pj"] - base["energy_pj"] == pytest.approx(10 * (TOKENS * WIDTH + 2 * WIDTH))
    assert cost(dtype="int8")["dram_read_bytes"] == base["dram_read_bytes"]  # results have 16 bits
    unknown = accelsim.costs.prices(load_hardware(EDGE, {"operations": {"attention": "computed"}}))["vector_elements"]
    assert not unknown.known


def test_narrow_weights_leave_activations_in_16_bits() -> None:
    chip = load_hardware(BOARD, {"engine.dtype": "int8"})
    found = rows(block(), chip)
    assert found.loc["q", "dtype"] == "int8"
    assert found.loc[["norm1", "a.scores"], "dtype"].tolist() == ["bf16", "bf16"]


@pytest.mark.parametrize(("network", "chip"), [(residual(), EIE), (block(), BOARD), (block(), EDGE)])
def test_rooflines_have_the_ceilings_of_the_chip_whatever_runs_first(network: Network, chip: str) -> None:
    """Operations that are fused, or that run on other units, have no peak of multipliers."""
    found = accelsim.simulate(network, chip, 1.0)
    layer = found[found["kind"].isin(["linear", "conv2d"])].iloc[0]
    peak = layer["peak_macs_per_cycle"] * layer["full_clock_mhz"] / 1e3
    figure = plots.figure(found, "roofline")
    assert max(max(line.get_ydata()) for line in figure.axes[0].lines) == pytest.approx(peak)
    roofs = pd.DataFrame(charts.roofline(found)["layer"][0]["data"]["values"])
    assert roofs.loc[roofs["part"] == "multipliers", "y"].tolist() == pytest.approx([peak, peak])
