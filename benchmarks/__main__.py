"""Speed and memory: `python -m benchmarks [--quick] [--json FILE]`.

Every ratio is measured side by side in one run; absolute times are medians and depend on the machine. Targets are those
the project set itself; nothing fails here, a person reads the last column.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

import accelsim
from accelsim.engines.eie import specification, twin
from accelsim.engines.eie.image import encode_layer
from accelsim.engines.tensor_core.product import Gemm, run
from accelsim.formats.counting import WeightMatrix
from accelsim.network.synthetic import draw_weights
from benchmarks import convolutions, exploration, first_command
from benchmarks.figure import Figure, fc8
from benchmarks.validation import chip

PEAK_BYTES = (  # not ru_maxrss: Linux hands the parent's peak down to a child
    "import pathlib, re\n"
    "status = pathlib.Path('/proc/self/status')\n"
    "peak = lambda: 1024 * int(re.search(r'VmHWM:\\s+(\\d+)', status.read_text())[1])\n"
)
"""Start of a script that asks for its own peak memory, on Linux."""


def seconds(action: Callable[[], object], runs: int) -> list[float]:
    """Return the times of several runs after a warm-up."""
    action()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return times


def paired_ratio(
    action: Callable[[], object], yardstick: Callable[[], object], runs: int
) -> tuple[float, float, float]:
    """Return the median of action / yardstick measured in turn, and both medians in seconds."""
    action(), yardstick()
    pairs = [(seconds_of(action), seconds_of(yardstick)) for _ in range(runs)]
    return (
        statistics.median(a / b for a, b in pairs),
        statistics.median(a for a, _ in pairs),
        statistics.median(b for _, b in pairs),
    )


def seconds_of(action: Callable[[], object]) -> float:
    """Return the time of one run."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def engine_call(quick: bool) -> list[Figure]:
    """The engine on an encoded layer, against its SimPy specification."""
    layer, activations, name = fc8()
    config = chip().engine
    weights = WeightMatrix(np.ascontiguousarray(layer.weight), np.ascontiguousarray(layer.bias))
    codes = np.column_stack([layer.weight, layer.bias]) != 0
    counted, entries = encode_layer(weights, config), encode_layer(weights, config, codes.astype(np.int64))
    batch = np.append(activations != 0, True).astype(np.int64)[None]
    fast = statistics.median(seconds(lambda: twin.run(config, counted, batch), 20 if quick else 300))
    slow = statistics.median(seconds(lambda: specification.run(config, entries, batch), 1 if quick else 3))
    return [
        Figure(f"engine call, {name}, 64 PEs", 1e3 * fast, "ms", "at most 0.3", fast <= 0.3e-3),
        Figure("SimPy specification / compiled", slow / fast, "x", "at least 1000", slow / fast >= 1000),
    ]


def whole_row(quick: bool) -> list[Figure]:
    """A dense array in, a full row out, against one look at every element."""
    weight = draw_weights(4096, 9216, 0.09, 0)
    hardware = chip()

    def row() -> object:
        return accelsim.simulate(accelsim.Layer.linear("fc6", weight), hardware, 0.351)

    ratio, ours, numpys = paired_ratio(row, lambda: np.count_nonzero(weight), 5 if quick else 25)
    return [
        Figure("AlexNet fc6, dense float32 to row / numpy.count_nonzero", ratio, "x", "at most 1.5", ratio <= 1.5),
        Figure("  that row", 1e3 * ours, "ms", "", True),
        Figure("  that numpy.count_nonzero", 1e3 * numpys, "ms", "", True),
    ]


def linear_in_nonzeros(quick: bool) -> list[Figure]:
    """Growth of time with non-zeros: a look at every element is the floor, on top of which it may be linear at most."""
    densities = (0.1, 0.2, 0.4)
    times = []
    for density in densities:
        layer = accelsim.Layer.linear("layer", draw_weights(4096, 4096, density, 1))
        times.append(min(seconds(lambda layer=layer: accelsim.simulate(layer, chip(), 0.3), 5 if quick else 15)))
    per_nonzero = (times[-1] - times[0]) / ((densities[-1] - densities[0]) * 4096**2)
    growth = [times[1] / times[0], times[2] / times[0]]
    return [
        Figure("twice the non-zeros (10 -> 20 %) take longer by", growth[0], "x", "at most 2", growth[0] <= 2),
        Figure("four times the non-zeros (10 -> 40 %)", growth[1], "x", "at most 4", growth[1] <= 4),
        Figure("  per further non-zero", 1e9 * per_nonzero, "ns", "", True),
    ]


def memory(quick: bool) -> list[Figure]:
    """Peak memory of a large layer read from safetensors, in a process of its own."""
    if not Path("/proc/self/status").exists():
        return []  # Linux only
    size = 4096 if quick else 16384
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.safetensors"
        save_file({"large.weight": draw_weights(size, size, 0.05, 0)}, path)
        script = PEAK_BYTES + (
            "import sys, warnings, accelsim\n"
            "warnings.simplefilter('ignore')\n"
            "hw = accelsim.load_hardware('eie-64pe-45nm', {'engine.capacity': 'ignore', 'engine.pointer_bits': 32})\n"
            "accelsim.simulate('lenet-300-100-digits', hw)\n"
            "before = peak()\n"
            "accelsim.simulate(sys.argv[1], hw, 0.3)\n"
            "print(peak() - before)\n"
        )
        done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
        extra = int(done.stdout) / path.stat().st_size
    return [
        Figure(f"{size} x {size} from safetensors: peak memory added / input", extra, "x", "at most 1.1", extra <= 1.1)
    ]


def reading(quick: bool) -> list[Figure]:
    """All weights of a network from a large file of tensors, against all bytes of that file; and of many small ones."""
    size = 4096 if quick else 6144
    arrays = {f"layers.{at}.weight": np.full((size, size), at, np.float32) for at in range(6)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.safetensors"
        save_file(arrays, path)

        shards, small = Path(folder) / "shards", Path(folder) / "small.safetensors"
        shards.mkdir()
        for at, (name, array) in enumerate(arrays.items(), 1):
            save_file({name: array}, shards / f"model-{at:05}-of-{len(arrays):05}.safetensors")
        count = 2000 if quick else 10000
        save_file({f"layers.{at}.weight": np.ones((16, 16), np.float32) for at in range(count)}, small)

        def weights(of: Path) -> Callable[[], int]:
            return lambda: sum(int(layer.weight.view(np.uint64).sum()) for layer in accelsim.load_network(of))

        def all_bytes() -> int:
            return int(np.memmap(path, np.uint64, "r", shape=path.stat().st_size // 8).sum())

        runs = 5 if quick else 15
        ratio, ours, _ = paired_ratio(weights(path), all_bytes, runs)
        sharded, _, _ = paired_ratio(weights(shards), all_bytes, runs)
        megabytes = path.stat().st_size / 2**20
        each = min(seconds(weights(small), 3)) / count
    return [
        Figure("safetensors, all weights of a network / all bytes", ratio, "x", "at most 1.1", ratio <= 1.1),
        Figure("  the same in six shards", sharded, "x", "at most 1.1", sharded <= 1.1),
        Figure(f"  {megabytes:.0f} MiB of numbers, mapped", 1e3 * ours, "ms", "", True),
        Figure(f"  each of {count} small layers", 1e6 * each, "us", "", True),
    ]


def many_points(quick: bool) -> list[Figure]:
    """Queue depths and row widths on one layer, each a full row of the table."""
    layer, activations, _ = fc8()
    base = chip()
    chips = [
        accelsim.load_hardware(base, {"engine.fifo_depth": depth, "engine.spmat_width_bits": width})
        for depth in range(2, 252)
        for width in (32, 64, 128, 256)
    ]
    taken = statistics.median(seconds(lambda: accelsim.simulate(layer, chips, {"fc8": activations}), 1 if quick else 5))
    return [Figure("1000 queue depths and row widths on fc8", taken, "s", "at most 1", taken <= 1)]


def start_up(quick: bool) -> list[Figure]:
    """Import and help of a fresh process, less the start of Python itself."""
    runs = 3 if quick else 9
    python = min(seconds(lambda: subprocess.run([sys.executable, "-c", "pass"], check=True), runs))

    def process(*arguments: str) -> float:
        command = [sys.executable, *arguments]
        return (
            statistics.median(seconds(lambda: subprocess.run(command, capture_output=True, check=True), runs)) - python
        )

    load, show = process("-c", "import accelsim"), process("-m", "accelsim", "--help")
    return [
        Figure("import accelsim", load, "s", "at most 0.3", load <= 0.3),
        Figure("accelsim --help", show, "s", "at most 0.6", show <= 0.6),
    ]


def dram(quick: bool) -> list[Figure]:
    """Requests a second through the DRAM controller, one core."""
    n = 200_000 if quick else 2_000_000
    read = np.zeros(n, bool)
    found = []
    for name, blocks, target in (
        ("stream", np.arange(n) % 2**22, 5.0),
        ("random reads", np.random.default_rng(0).integers(0, 2**22, n), 2.0),
    ):
        best = min(seconds(lambda blocks=blocks: accelsim.memory.replay("ddr4-2400", blocks, read), 3))
        rate = n / best / 1e6
        found.append(Figure(f"DRAM, ddr4-2400, {name}", rate, "M/s", f"at least {target:g}", rate >= target))
    return found


def tensor_core(quick: bool) -> list[Figure]:
    """One GEMM, its specification, and a whole network pruned 2:4 with its weights in memory."""
    hardware = accelsim.load_hardware("a100-pcie")
    small = Gemm(512, 256, 1024, "fp16", "2:4")
    fast = statistics.median(seconds(lambda: run(small, hardware, "compiled", repeated=True), 20 if quick else 200))
    large = Gemm(4096, 4096, 4096, "fp16")
    compiled = min(seconds(lambda: run(large, hardware, "compiled", repeated=True), 20))
    simpy = min(seconds(lambda: run(large, hardware, "simpy", repeated=True), 1))
    network = accelsim.load_network("resnet-50-dense")
    layers = []
    for layer in network:
        weight = layer.weight
        kept = accelsim.pruning.prune(weight, "nm:2:4", pad=True)
        layers.append(dataclasses.replace(layer, weight_source=lambda pruned=weight * kept: pruned))
    pruned = accelsim.Network("resnet-50, 2:4", layers)
    whole = min(seconds(lambda: accelsim.simulate(pruned, hardware, 1.0), 2 if quick else 5))
    engine = sum(
        min(seconds(lambda g=product: run(g, hardware, "compiled", repeated=False), 3))
        for product in (
            Gemm(layer.products.vectors, layer.products.rows, layer.products.columns, "fp16", "2:4")
            for layer in network
            if layer.products.columns % 4 == 0
        )
    )
    return [
        Figure("GEMM 512 x 256 x 1024, 2:4, all tiles tried", 1e3 * fast, "ms", "at most 1", fast <= 1e-3),
        Figure("SimPy specification / compiled, 4096 x 4096 x 4096", simpy / compiled, "x", "at least 300",
               simpy / compiled >= 300),
        Figure("ResNet-50, 2:4, arrays to table", whole, "s", "at most 0.1", whole <= 0.1),
        Figure("  of it the engine", engine, "s", "", True),
    ]  # fmt: skip


def pruning_masks(quick: bool) -> list[Figure]:
    """Magnitude masks of 4096 x 4096 float32 by every granularity, against the sum of magnitudes and a partition."""
    weight = np.random.default_rng(0).standard_normal((4096, 4096)).astype(np.float32)
    runs = 3 if quick else 9
    others = ("fine", "vector:1x4", "vector:4x1", "block:4x4", "block:16x16", "filter", "channel")
    found = []
    for criterion in ("l1", "l2"):
        ratio, ours, _ = paired_ratio(
            lambda c=criterion: accelsim.pruning.prune(weight, "nm:2:4", criterion=c),
            lambda: np.abs(weight).sum(),
            runs,
        )
        found += [
            Figure(f"mask 2:4 by {criterion}, 4096 x 4096 / numpy.abs(w).sum()", ratio, "x", "at most 3", ratio <= 3),
            Figure("  that mask", 1e3 * ours, "ms", "", True),
        ]
        ratios = {
            text: paired_ratio(
                lambda t=text, c=criterion: accelsim.pruning.prune(weight, t, 0.5, c),
                lambda: np.partition(weight.reshape(-1), weight.size // 2),
                runs,
            )[0]
            for text in others
        }
        worst = max(ratios, key=lambda text: ratios[text])
        found.append(
            Figure(f"slowest other mask by {criterion} ({worst}) / numpy.partition", ratios[worst], "x", "at most 1",
                   ratios[worst] <= 1)
        )  # fmt: skip
    weight = np.random.default_rng(0).uniform(-1, 1, (1024, 1024))
    taken = min(seconds(lambda: accelsim.pruning.permute_for_nm(weight), 1))
    return [*found, Figure("channel permutation for 2:4, 1024 x 1024", taken, "s", "at most 10", taken <= 10)]


def surgeon(quick: bool) -> list[Figure]:
    """Optimal Brain Surgeon on 4096 x 4096 with 2:4, in a process of its own: a quarter of a minute."""
    if quick or not Path("/proc/self/status").exists():
        return []
    script = PEAK_BYTES + (
        "import time, numpy as np\n"
        "from accelsim.pruning import Calibration, sparsegpt\n"
        "rng = np.random.default_rng(0)\n"
        "sparsegpt(rng.random((8, 8)), 'nm:2:4', activations=rng.random((9, 8)))\n"
        "weight = rng.standard_normal((4096, 4096), np.float32)\n"
        "inputs = Calibration.of(rng.standard_normal((2048, 4096), np.float32) for _ in range(2))\n"
        "before = 1024 * int(re.search(r'VmRSS:\\s+(\\d+)', status.read_text())[1])\n"
        "start = time.perf_counter()\n"
        "sparsegpt(weight, 'nm:2:4', activations=inputs)\n"
        "print(time.perf_counter() - start, (peak() - before) / weight.nbytes)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    taken, extra = map(float, done.stdout.split())
    return [
        Figure("OBS update, 2:4, 4096 x 4096", taken, "s", "at most 60", taken <= 60),
        Figure("  peak memory added / float32 weight", extra, "x", "at most 8", extra <= 8),
    ]


def language_model(quick: bool) -> list[Figure]:
    """A network of the shapes of Llama 7B, pruned in two ways, on two engines, in a process of its own."""
    if quick or not Path("/proc/self/status").exists():
        return []  # Linux only
    script = (
        "import pathlib, re, warnings, accelsim\n"
        "warnings.simplefilter('ignore')\n"
        "for name in ('llama-7b-2to4', 'llama-7b-fine90'):\n"
        "    accelsim.simulate(name, ['a100-pcie', 'eie-64pe-45nm'])\n"
        "print(re.search(r'VmHWM:\\s+(\\d+)', pathlib.Path('/proc/self/status').read_text())[1])\n"
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    taken, peak_gb = time.perf_counter() - start, 1024 * int(done.stdout) / 1e9
    return [
        Figure("Llama 7B, 2:4 and fine 90 %, A100 and EIE, from start to table", taken, "s", "at most 60", taken <= 60),
        Figure("  peak memory of that process", peak_gb, "GB", "at most 2", peak_gb <= 2),
    ]


BENCHMARKS = (
    engine_call,
    whole_row,
    linear_in_nonzeros,
    memory,
    reading,
    many_points,
    dram,
    tensor_core,
    pruning_masks,
    surgeon,
    language_model,
    *convolutions.BENCHMARKS,
    *exploration.BENCHMARKS,
    *first_command.BENCHMARKS,
    start_up,
)


NEEDED: dict[Callable[[bool], list[Figure]], tuple[str, str]] = {
    exploration.sweeps: ("distributed", "explore"),
    exploration.search_against_sweep: ("optuna", "explore"),
}
"""What benchmarks import that an installation without extras lacks, and the extra that brings it."""


def main() -> None:
    """Measure, print a table, and write JSON if asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer runs and a smaller large layer")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    options = parser.parse_args()
    figures: list[Figure] = []
    print(f"accelsim {accelsim.__version__}, Python {platform.python_version()}, {platform.machine()}")
    for benchmark in BENCHMARKS:
        module, extra = NEEDED.get(benchmark, ("", ""))
        if module and find_spec(module) is None:
            print(f"left out: {benchmark.__name__}, which needs {module}: pip install '.[{extra}]'", flush=True)
            continue
        for figure in benchmark(options.quick):
            figures.append(figure)
            verdict = f"{figure.target:15} {'met' if figure.met else 'MISSED'}" if figure.target else ""
            print(f"{figure.what:62} {figure.measured:12,.3f} {figure.unit:3} {verdict}", flush=True)
    if options.json:
        rows: list[dict[str, Any]] = [figure._asdict() | {"met": bool(figure.met)} for figure in figures]
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
