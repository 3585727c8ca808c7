"""Cost of what each layer of an ONNX file sees: `python -m benchmarks.capture [--quick]`.

Time is a ratio to ONNX Runtime's own forward pass of the same samples, all at once, in a session that is ready, measured
in turn in one run; memory is that of a process of its own, above what it has before the file is read.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from accelsim import Network, load_network

Array = NDArray[Any]

RUNS = 5
SAMPLES = 16


class Model(NamedTuple):
    """A network that is made up, and how many samples go through it."""

    make: Callable[[Graph], None]
    shape: tuple[int, ...]
    """Of one sample."""
    samples: int


class Graph:
    """Operations of a made-up network, each behind the one before."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, Array] = {}
        self.last = "x"
        self._random = np.random.default_rng(0)

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add an operation that takes what stands before it, and these."""
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, [self.last, *inputs], [name], name=name, **attributes))
        self.last = name
        return name

    def weight(self, *shape: int) -> str:
        """Return the name of a new constant whose products keep the size of what they multiply."""
        name = f"w{len(self.constants)}"
        scale = np.float32(np.sqrt(2 / np.prod(shape[1:])))
        self.constants[name] = scale * self._random.standard_normal(shape, dtype=np.float32)
        return name

    def convolution(self, given: int, taken: int, size: int, stride: int = 1, group: int = 1) -> None:
        """Add a convolution."""
        weight = self.weight(given, taken // group, size, size)
        half = size // 2
        self.add("Conv", weight, kernel_shape=[size] * 2, pads=[half] * 4, strides=[stride] * 2, group=group)

    def saved(self, path: Path, shape: tuple[int, ...]) -> None:
        """Write it, with an open number of samples."""
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            self.nodes, "made", [value("x", 1, ["batch", *shape])], [value(self.last, 1, None)],
            [numpy_helper.from_array(array, name) for name, array in self.constants.items()],
        )  # fmt: skip
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path)


def vgg(graph: Graph) -> None:
    """VGG-16 but for its classifier: few layers, large activations."""
    channels = 3
    for width, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            graph.convolution(width, channels, 3)
            graph.add("Relu")
            channels = width
        graph.add("MaxPool", kernel_shape=[2, 2], strides=[2, 2])


def residual(graph: Graph) -> None:
    """Residual blocks as of ResNet-18."""
    graph.convolution(64, 3, 7, 2)
    graph.add("Relu")
    graph.add("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    channels = 64
    for width in (64, 128, 256, 512):
        for block in range(2):
            stride = 2 if width != channels else 1
            start = graph.last
            graph.convolution(width, channels, 3, stride)
            graph.add("Relu")
            graph.convolution(width, width, 3)
            end = graph.last
            if width != channels:
                graph.last = start
                graph.convolution(width, channels, 1, stride)
                start = graph.last
            graph.last = end
            graph.add("Add", start)
            graph.add("Relu")
            channels = width


def depthwise(graph: Graph) -> None:
    """Blocks as of MobileNet: many small layers, that multiply little by what they move."""
    graph.convolution(32, 3, 3, 2)
    channels = 32
    for width, stride in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2)):
        graph.add("Relu")
        graph.convolution(channels, channels, 3, stride, channels)
        graph.add("Relu")
        graph.convolution(width, channels, 1)
        channels = width


def dense(graph: Graph) -> None:
    """Fully connected layers of 2048: as many weights as products of one sample."""
    for _ in range(8):
        graph.add("MatMul", graph.weight(2048, 2048))
        graph.add("Relu")


MODELS = {
    "VGG-16, convolutions": Model(vgg, (3, 224, 224), 4),
    "ResNet-18": Model(residual, (3, 224, 224), 16),
    "MobileNet": Model(depthwise, (3, 224, 224), 16),
    "dense 8 x 2048^2": Model(dense, (2048,), 256),
}


def saved(name: str, folder: Path) -> tuple[Path, Array]:
    """Write one of the models; return where, and samples for it."""
    model = MODELS[name]
    graph, path = Graph(), folder / "net.onnx"
    model.make(graph)
    graph.saved(path, model.shape)
    return path, np.random.default_rng(1).standard_normal((model.samples, *model.shape), dtype=np.float32)


def variants(network: Network) -> Callable[[], Network]:
    """Return what makes a variant with other weights each time, read and ready."""
    weights = {layer.name: np.array(layer.weight) for layer in network}

    def other() -> Network:
        layers = []
        for layer in network:
            weight = weights[layer.name].copy()
            weight.flat[::2] = 0
            layers.append(replace(layer, weight_source=lambda weight=weight: weight))
        return replace(network, layers=layers)

    return other


def taken(action: Callable[[], object]) -> float:
    """Return the seconds of one run."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def through(network: Network) -> None:
    """Go through what each layer sees, keeping nothing."""
    for _ in network.seen():
        pass


def ratios(name: str, runs: int) -> tuple[float, Mapping[str, float]]:
    """Return the seconds of ONNX Runtime's forward pass, and what else takes over it: the least of several each."""
    with tempfile.TemporaryDirectory() as folder:
        path, x = saved(name, Path(folder))
        session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        session.run(None, {"x": x})
        network = load_network(path).with_samples(x)
        first = taken(lambda: through(network))
        times: dict[str, list[float]] = {"forward": [], "again": [], "variant": []}
        other = variants(network)
        for _ in range(runs):
            variant = other()
            times["forward"].append(taken(lambda: session.run(None, {"x": x})))
            times["again"].append(taken(lambda: through(network)))
            times["variant"].append(taken(lambda: through(variant)))
        least = {key: min(each) for key, each in times.items()}
        forward = least.pop("forward")
        return forward, {"first": first / forward} | {key: each / forward for key, each in least.items()}


def peak() -> int:
    """Return the most memory that this process has had, in bytes; Linux only."""
    line = next(each for each in Path("/proc/self/status").read_text().splitlines() if each.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def memory(name: str) -> tuple[float, float]:
    """Return the peak of a run, and of a second one, over weights and twice the largest layer's activations."""
    with tempfile.TemporaryDirectory() as folder:
        path, x = saved("dense 8 x 2048^2", Path(folder))  # so that everything is imported
        through(load_network(path).with_samples(x[:1]))
        script = Path(folder) / "x.npy"
        del x
        path, x = saved(name, Path(folder))
        np.save(script, x)
        command = [sys.executable, "-m", "benchmarks.capture", "--memory-of", str(path), str(script)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        once, twice = (float(each) for each in done.stdout.split())
    return once, twice


def memory_of(path: str, samples: str) -> None:
    """Print the peaks of `memory`, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        tiny = Graph()
        tiny.convolution(4, 3, 3)
        tiny.saved(Path(folder) / "tiny.onnx", (3, 8, 8))
        network = load_network(Path(folder) / "tiny.onnx").with_samples(np.ones((1, 3, 8, 8), np.float32))
        through(network)
    x = np.load(samples)
    before = peak()
    network = load_network(path).with_samples(x)
    through(network)
    first = peak() - before
    other = variants(network)
    weights = sum(4 * layer.weight.size for layer in network)
    largest = max(4 * len(x) * int(np.prod(layer.input_shape)) for layer in network)
    allowed = weights + 2 * largest
    for _ in range(2):
        through(other())
    print(first / allowed, (peak() - before - 2 * weights) / allowed)


def main() -> None:
    """Print a line for each model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two runs of each in place of five")
    parser.add_argument("--memory-of", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.memory_of:
        memory_of(*given.memory_of)
        return
    print(f"{'':24}{'forward':>10}{'first':>8}{'again':>8}{'variant':>9}{'peak':>8}{'variants':>10}")
    for name in MODELS:
        forward, over = ratios(name, 2 if given.quick else RUNS)
        once, later = memory(name)
        print(
            f"{name:24}{1e3 * forward:7.0f} ms{over['first']:8.2f}{over['again']:8.2f}{over['variant']:9.2f}"
            f"{once:8.2f}{later:10.2f}", flush=True
        )  # fmt: skip


if __name__ == "__main__":
    main()
