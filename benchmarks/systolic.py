"""The two rules of the systolic array on ResNet-50, its speed, and TPU v1: `python -m benchmarks.systolic`.

Prints the tables of docs/systolic.md; `--write` puts them there, `--speed` measures instead (CPU time, of one thread).
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any, cast

import numpy as np
import pandas as pd

import accelsim
from accelsim import Density, scalesim
from accelsim.engines.systolic.as_scalesim import shape_of
from accelsim.engines.systolic.config import SystolicChip
from accelsim.engines.systolic.row import SystolicRun
from accelsim.formats.counting import WeightMatrix
from accelsim.memory import replay
from accelsim.network import Layer, Network
from accelsim.network.activations import Samples
from accelsim.scalesim import Machine, Placed, Shape
from accelsim.scalesim.model import simulate
from benchmarks.documents import EVIDENCE, fill
from benchmarks.published import EYERISS_FRAMES_PER_S, EYERISS_WORDS_PER_MAC, TPU_V1

DATAFLOWS = ("ws", "os", "is")
MEMORY_KB = 128
WORDS_PER_CYCLE = 10


@cache
def convolutions() -> list[Layer]:
    """Return the 53 convolutions of ResNet-50."""
    return [layer for layer in accelsim.load_network("resnet-50-dense").layers if layer.convolution is not None]


@cache
def shapes(*, floor: bool = False) -> list[Shape]:
    """Return them in the words of the tool, padded by hand; `floor`: cut so that no window hangs over the edge."""
    config = accelsim.load_hardware("systolic-32x32-ws-dense").engine
    found = []
    for layer in convolutions():
        shape, times = shape_of(layer, 1, config)
        geometry = layer.convolution
        if floor and geometry is not None and shape.image is not None:
            height, width = (
                (outputs - 1) * shape.stride + window
                for outputs, window in zip(geometry.output_hw, shape.window, strict=True)
            )
            shape = Shape.convolution(shape.name, (height, width), shape.window, shape.image[2], shape.n, shape.stride)
        found += [shape] * times
    return found


@cache
def tool(dataflow: str, mode: str, *, floor: bool = False, late_counted: int = 2) -> pd.DataFrame:
    """Return the rows of the tool."""
    machine: Any = Machine(
        dataflow=dataflow, ifmap_kb=MEMORY_KB, filter_kb=MEMORY_KB, ofmap_kb=MEMORY_KB,
        ifmap_bandwidth=WORDS_PER_CYCLE, filter_bandwidth=WORDS_PER_CYCLE, bandwidth=WORDS_PER_CYCLE,
        mode=mode, late_counted=late_counted,
    )  # fmt: skip
    return scalesim.run(shapes(floor=floor), machine)


@cache
def honest(dataflow: str) -> pd.DataFrame:
    """Return the rows of the honest machine of the same size."""
    network = Network("resnet-50", convolutions())
    return accelsim.simulate(network, f"systolic-32x32-{dataflow}-dense", 1.0)


def each(number: Callable[[str], float], scale: float = 1e6, form: str = ",.2f") -> str:
    """Return a number of each dataflow, in millions."""
    return ", ".join(f"{number(dataflow) / scale:{form}}" for dataflow in DATAFLOWS)


def resnet() -> str:
    """Return the table of totals."""
    lines = ["| cycles in millions | ws | os | is |", "|---|---|---|---|"]
    rows: list[tuple[str, Callable[[str], float]]] = [
        ("the tool, CALC", lambda df: tool(df, "CALC")["total_cycles"].sum()),
        ("the tool, USER", lambda df: tool(df, "USER")["total_cycles"].sum()),
        ("honest: computing", lambda df: honest(df)["compute_cycles"].sum()),
        ("honest: waiting for DRAM", lambda df: honest(df)["stall_dram_cycles"].sum()),
        ("**honest**", lambda df: honest(df)["cycles"].sum()),
    ]
    for name, number in rows:
        found = [f"{number(dataflow) / 1e6:,.2f}" for dataflow in DATAFLOWS]
        cells = [f"**{cell}**" for cell in found] if name.startswith("**") else found
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def total(mode: str, **how: Any) -> Callable[[str], float]:
    """Return the total cycles of the tool by dataflow."""
    return lambda dataflow: float(tool(dataflow, mode, **how)["total_cycles"].sum())


def changed(mode: str, **how: Any) -> str:
    """Return by how much a total changes without one of the tool's rules, in thousands of cycles."""
    return each(lambda dataflow: total(mode, **how)(dataflow) - total(mode)(dataflow), 1e3, "+,.1f")


def words(column: str, mode: str = "USER") -> Callable[[str], float]:
    """Return the words of a column by dataflow."""
    return lambda dataflow: float(tool(dataflow, mode)[column].sum())


def moved(column: str) -> Callable[[str], float]:
    """Return the sum of a column of the honest machine by dataflow."""
    return lambda dataflow: float(honest(dataflow)[column].sum())


def without_stalls(dataflow: str) -> float:
    """Return the cycles of the tool's folds alone, outputs by floor."""
    machine: Any = Machine(dataflow=dataflow)
    return float(sum(Placed(machine, shape).cycles + 1 for shape in shapes(floor=True)))


def row_slots() -> str:
    """Return what row-wise patterns 1..2:4 that are drawn cost by either rule, cycles without stalls in millions."""
    theirs = Machine(sparse=True, row_wise=True)
    cycles = sum(Placed(theirs, shape).cycles + 1 for shape in shapes(floor=True) if shape.k % 4 == 0)
    dense = sum(Placed(Machine(), shape).cycles + 1 for shape in shapes(floor=True) if shape.k % 4 == 0)
    return f"{cycles / 1e6:.2f} of the dense {dense / 1e6:.2f}"


def rules() -> str:
    """Return the table of differences: what each does to the totals of `ws, os, is`, in each mode."""
    short = {df: words("dram_ofmap_count", "CALC")(df) - words("sram_ofmap_count", "CALC")(df) for df in DATAFLOWS}
    extra = sum(Placed(Machine(dataflow="os"), shape).folds * 64 for shape in shapes())
    once, ceil = {"late_counted": 1}, {"floor": True}
    macs = sum(shape.macs for shape in shapes()), sum(shape.macs for shape in shapes(floor=True))
    late = {df: total("USER", late_counted=1)(df) - total("CALC")(df) for df in DATAFLOWS}
    none, dense = "none", "none: dense"

    def read(mode: str, form: str) -> str:
        return each(lambda df: words("dram_ifmap_count", mode)(df) + words("dram_filter_count", mode)(df), form=form)

    rows = [
        (
            "outputs of a convolution", "by `ceil`: windows that hang over the edge", "by `floor`",
            f"{changed('CALC', **ceil)} thousand", f"{changed('USER', **ceil)} thousand",
            f"{macs[1] / 1e9:.2f} instead of {macs[0] / 1e9:.2f} billion multiply-accumulates",
        ),
        (
            "a word that is late", "its stall is added twice", "counted once", "none: no word of an operand is late",
            f"{changed('USER', **once)} thousand", "each waiting cycle is counted once, in `stall_dram_cycles`",
        ),
        (
            "what is fetched",
            "windows of lines, one after another in prefetch order, cycling until one has the word",
            "what a fold needs, once where it fits", "none",
            f"{each(lambda df: -late[df], form='+,.2f')} million if none were late",
            f"{each(moved('dram_read_bytes'))} million bytes read; the tool: {read('USER', ',.0f')} million words in "
            f"USER, {read('CALC', ',.2f')} in CALC",
        ),
        (
            "streams longer than a memory", "stream on, as if they had arrived",
            "cut into parts, each of which loads and drains the array", none, none,
            f"{each(lambda df: moved('compute_cycles')(df) - without_stalls(df), form='+,.2f')} million",
        ),
        (
            "waiting for DRAM", "outputs only (CALC); operands word by word (USER)",
            "passes that lack their operands, or room for their outputs",
            f"{each(lambda df: float(tool(df, 'CALC')['stall_cycles'].sum()))} million",
            f"{each(lambda df: float(tool(df, 'USER')['stall_cycles'].sum()))} million",
            f"{each(moved('stall_dram_cycles'))} million",
        ),
        (
            "partial sums", "leave in every row fold, never read back",
            "stay on the chip if they fit, otherwise are written and read back",
            f"{each(words('dram_ofmap_count', 'CALC'), form=',.1f')} million words leave",
            f"{each(words('dram_ofmap_count'), form=',.1f')}",
            f"{each(moved('dram_write_bytes'), form=',.1f')} million bytes",
        ),
        (
            "R + C more words a fold", "with `os`", "none", f"{none}; {extra / 1e6:.2f} million words on the chip",
            "the same", "none",
        ),
        (
            "short lines", "counted as full ones", "only the blocks of 64 bytes that move",
            f"{short['ws']:,.0f} words too many with `ws`, {short['is']:,.0f} with `is`", "as many or more", "none",
        ),
        (
            "bandwidth of reads", "from the keys of SRAM banks", "the DRAM part's", "none: not asked",
            f"{WORDS_PER_CYCLE} words a cycle for each operand", "12.8 GB/s of pins for all, 25.6 bytes a cycle",
        ),
        (
            "a total", "the number of the last cycle", "the cycles", f"+{len(shapes())} cycles",
            f"+{len(shapes())} cycles", "none",
        ),
        (
            "N:M", "from the topology, whatever the weights are", "if the weights follow it", dense, dense,
            "none: dense weights run dense",
        ),
        (
            "row-wise patterns", "half of the rows, whatever the pattern drawn (`ws`)",
            "as many as the fullest group of a fold needs",
            f"none: dense; if asked for, {row_slots()} million", "the same", "none: dense; by the weights",
        ),
    ]  # fmt: skip
    lines = ["| rule | the tool | honest | CALC | USER | honest |", "|---|---|---|---|---|---|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


REPLAYED = 6
"""Of the 53 convolutions, spread evenly: their transfers are replayed."""


def bus() -> str:
    """Say how much longer all transfers of layers take the DRAM's controller, back to back, than is assumed of them."""
    chip: Any = accelsim.load_hardware("systolic-32x32-ws-dense")
    part, clock = chip.memory.dram, chip.engine.clock_mhz
    longer = {}
    for dataflow in DATAFLOWS:
        runs = SystolicRun(cast("SystolicChip", accelsim.load_hardware(f"systolic-32x32-{dataflow}-dense")))
        assumed = replayed_us = 0.0
        for layer in convolutions()[:: len(convolutions()) // REPLAYED][:REPLAYED]:
            samples = Samples(Density(1.0), layer.input_shape)
            ready = runs.ready(layer, WeightMatrix(layer.matrix, layer.bias), samples)
            passes = ready.plan.passes
            reads, writes = [], []
            for number in range(len(passes.reads)):  # the order of the bus, of passes that are all waited for
                reads += [passes.reads[number], passes.backs[number]]
                writes += [0, passes.writes[number]]
            blocks = np.stack([reads, writes], axis=1).ravel()
            is_write = np.repeat(np.tile([False, True], len(reads)), blocks)
            half = part.geometry.capacity_blocks // 2  # what is written lies apart
            place = np.where(is_write, half + np.cumsum(is_write) - 1, np.cumsum(~is_write) - 1)
            replayed_us += replay(part, place, is_write).time_ns / 1e3
            assumed += float(ready.bus.reads.sum() + ready.bus.backs.sum() + ready.bus.writes.sum()) / clock
        longer[dataflow] = 100 * (replayed_us / assumed - 1)
    told = ", ".join(f"{each:+.1f} % with `{dataflow}`" for dataflow, each in longer.items())
    return f"Replayed by the controller back to back, the transfers of {REPLAYED} of the 53 convolutions take {told}."


def tpu() -> dict[str, float]:
    """Return the share of peak of workloads of which shapes are published, or follow; their layers are equal."""
    found = {}
    for work in TPU_V1:
        if work.board:
            weight = np.ones((work.side, work.side, 3, 3), np.int8)
            layer = Layer.conv2d("layer", weight, input_hw=work.board, padding=1)
        else:
            layer = Layer.linear("layer", np.ones((work.side, work.side), np.int8))
        row = accelsim.simulate(layer, "tpu-v1-like-dense", Density(1.0, batch=work.batch)).iloc[0]
        found[work.name] = float(row["utilization"])
    return found


TPU_TOPS = 92.0


def tpu_table() -> str:
    """Return the table of TPU v1."""
    lines = ["| workload | layers as simulated | counters | throughput | simulated |", "|---|---|---|---|---|"]
    simulated = tpu()
    for work in TPU_V1:
        shares = work.useful, work.tops / TPU_TOPS, simulated[work.name]
        lines.append(f"| {work.name} | {work.said} | {' | '.join(f'{100 * share:.1f} %' for share in shares)} |")
    return "\n".join(lines)


def eyeriss() -> tuple[float, float]:
    """Return frames per second of AlexNet's convolutions, and words of DRAM (16 bits) per multiply-accumulate.

    Dense, in batches of 4, as Eyeriss was measured.
    """
    layers = []
    for layer in accelsim.load_network("alexnet").layers:
        of = layer.convolution
        if of is not None:
            ones = np.ones(layer.weight_shape, np.int8)
            how: Any = {"stride": of.stride_hw, "padding": of.padding_hw, "groups": of.groups}
            layers.append(Layer.conv2d(layer.name, ones, input_hw=of.input_hw, **how))
    rows = accelsim.simulate(Network("alexnet", layers), "eyeriss-like-12x14-dense", Density(1.0, batch=4))
    total = rows[["time_us", "macs", "dram_read_bytes", "dram_write_bytes"]].sum()
    return 4e6 / total["time_us"], (total["dram_read_bytes"] + total["dram_write_bytes"]) / 2 / total["macs"]


def eyeriss_table() -> str:
    """Return the table of Eyeriss."""
    frames, words = eyeriss()
    return "\n".join(
        [
            "| AlexNet's 5 convolutions, batch 4 | measured | simulated |",
            "|---|---|---|",
            f"| frames/s | {EYERISS_FRAMES_PER_S:.0f} | {frames:.1f} |",
            f"| words from and to DRAM per multiply-accumulate | {EYERISS_WORDS_PER_MAC} | {words:.4f} |",
        ]
    )


def seconds(run: Callable[[], Any], least: float = 0.2) -> float:
    """Return the CPU seconds of a call, the shortest of several, once it has compiled."""
    run()
    taken: list[float] = []
    while len(taken) < 3 or sum(taken) < least:
        start = time.process_time()
        run()
        taken.append(time.process_time() - start)
    return min(taken)


def speed() -> str:
    """Return the table of times."""
    found = ["| what | CPU time | goal |", "|---|---|---|"]
    for dataflow in DATAFLOWS:
        large: Any = Machine(dataflow=dataflow)
        took = seconds(lambda large=large: scalesim.run(shapes(), large))
        found.append(f"| CALC, {dataflow}: ResNet-50's 53 convolutions, 1024 kB | {1e3 * took:.1f} ms | 5 ms |")
        small: Any = replace(large, ifmap_kb=64, filter_kb=64, ofmap_kb=64)
        took = seconds(lambda small=small: scalesim.run(shapes(), small))
        found.append(f"| the same, 64 kB | {1e3 * took:.0f} ms | |")
    golden = pd.read_csv(EVIDENCE / "systolic" / "scalesim.csv")
    rows = [golden_case(row) for row in golden.itertuples()]
    took = seconds(lambda: [simulate(*row) for row in rows])
    found.append(f"| all {len(rows)} golden rows (the tool: 121 s) | {took:.2f} s, {121 / took:,.0f} x | 50 x |")
    user = [row for row in rows if row[1].mode == "USER"]
    took = seconds(lambda: [simulate(*row) for row in user])
    found.append(f"| those of USER, {len(user)} | {took:.2f} s | |")
    layer = Shape(name="g", m=128, n=128, k=128)
    for mode in ("CALC", "USER"):
        machine: Any = Machine(rows=16, columns=16, ifmap_kb=4, filter_kb=4, ofmap_kb=4, mode=mode)
        slow = seconds(lambda machine=machine: simulate(layer, machine, backend="simpy"))
        fast = seconds(lambda machine=machine: simulate(layer, machine))
        found.append(
            f"| SimPy against twin, 128 x 128 x 128 on 16 x 16, {mode} | {slow:.2f} s, {slow / fast:,.0f} x | 300 x |"
        )
    return "\n".join(found)


def golden_case(row: Any) -> tuple[Shape, Machine]:
    """Return a golden row as layer and machine."""
    n, m = (int(part) for part in row.nm.split(":"))
    if row.kind == "gemm":
        layer = Shape(name=row.name, m=int(row.M), n=int(row.N), k=int(row.K), kept=(n, m))
    else:
        height, width, down, along, channels, filters, stride = (
            int(each) for each in (row.ih, row.iw, row.fh, row.fw, row.ch, row.nf, row.st)
        )
        layer = Shape.convolution(row.name, (height, width), (down, along), channels, filters, stride, (n, m))
    return layer, Machine(
        rows=row.R, columns=row.C, dataflow=row.df, ifmap_kb=row.ifkb, filter_kb=row.fikb, ofmap_kb=row.ofkb,
        ifmap_bandwidth=row.ifbw, filter_bandwidth=row.fibw, bandwidth=row.bw, mode=row.mode,
        sparse=bool(row.sp), representation=row.rep, row_wise=bool(row.opt), block=row.block, seed=row.seed,
    )  # fmt: skip


def main() -> None:
    """Print the tables, or put them into the docs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--speed", action="store_true")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    tables: dict[str, Callable[[], str]] = {
        "systolic-tpu": tpu_table, "systolic-eyeriss": eyeriss_table, "systolic-resnet": resnet,
        "systolic-rules": rules, "systolic-bus": bus,
    }  # fmt: skip
    for name, table in ({"systolic-speed": speed} if asked.speed else tables).items():
        block = table()
        print(block, end="\n\n", flush=True)
        if asked.write:
            fill({name: block}, write=True)


if __name__ == "__main__":
    main()
