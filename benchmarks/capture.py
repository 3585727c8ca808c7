"""Cost of what each layer of an ONNX file sees: `python -m benchmarks.capture [--quick] [--only NAME]`.

Times are CPU seconds over those of ONNX Runtime's own forward pass of the same samples, all at once, in a session that
is ready, measured in turn in one run: of the first capture, of a second, of one with other weights, and of making that
session ready. Memory is the peak of a process of its own, above what it has before the file is read, over weights and
twice the largest map that a layer takes or gives, of all samples: of ONNX Runtime's own pass, of the first capture, and
of two more with other weights.
"""

from __future__ import annotations

import argparse
import math
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


class Model(NamedTuple):
    """A network that is made up, and how many samples go through it."""

    make: Callable[[Graph], None]
    shape: tuple[int, ...]
    """Of one sample."""
    samples: int
    words: int = 0
    """Size of the vocabulary, where samples are words."""


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

    def constant(self, values: Any, dtype: type = np.float32) -> str:
        """Return the name of a new constant of these values."""
        name = f"w{len(self.constants)}"
        self.constants[name] = np.array(values, dtype)
        return name

    def saved(self, path: Path, shape: tuple[int, ...], kind: int = onnx.TensorProto.FLOAT) -> None:
        """Write it, with an open number of samples."""
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            self.nodes, "made", [value("x", kind, ["batch", *shape])], [value(self.last, 1, None)],
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
        for _ in range(2):
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


def lenet(graph: Graph) -> None:
    """LeNet-5 but for its classifier: so small that what stands around it counts."""
    for width, channels in ((6, 1), (16, 6), (120, 16)):
        graph.convolution(width, channels, 5)
        graph.add("Relu")
        graph.add("MaxPool", kernel_shape=[2, 2], strides=[2, 2])


def bottlenecks(graph: Graph) -> None:
    """Blocks as of ResNet-50."""
    graph.convolution(64, 3, 7, 2)
    graph.add("Relu")
    graph.add("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    channels = 64
    for width, count in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for number in range(count):
            stride = 2 if number == 0 and width > 64 else 1
            start = graph.last
            graph.convolution(width, channels, 1)
            graph.add("Relu")
            graph.convolution(width, width, 3, stride)
            graph.add("Relu")
            graph.convolution(4 * width, width, 1)
            end = graph.last
            if number == 0:
                graph.last = start
                graph.convolution(4 * width, channels, 1, stride)
                start = graph.last
            graph.last = end
            graph.add("Add", start)
            graph.add("Relu")
            channels = 4 * width


def transformer(graph: Graph, blocks: int, tokens: int, *, width: int = 768, causal: bool = False) -> None:
    """Blocks of attention and of two layers, normalised before each."""
    apart = graph.constant([0, 0, width // 64, 64], np.int64)
    together = graph.constant([0, 0, width], np.int64)
    scale, half, one, root = (graph.constant(each) for each in (0.125, 0.5, 1.0, math.sqrt(2)))
    mask = graph.constant(np.triu(np.full((tokens, tokens), -1e9), 1)) if causal else ""

    def normalised() -> None:
        graph.add("LayerNormalization", graph.constant(np.ones(width)), graph.constant(np.zeros(width)))

    def linear(given: int, taken: int) -> None:
        graph.add("MatMul", graph.weight(taken, given))
        graph.add("Add", graph.constant(np.zeros(given)))

    for _ in range(blocks):
        start = graph.last
        normalised()
        entering, heads = graph.last, []
        for axes in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]):
            graph.last = entering
            linear(width, width)
            graph.add("Reshape", apart)
            heads.append(graph.add("Transpose", perm=axes))
        graph.last = heads[0]
        graph.add("MatMul", heads[1])
        graph.add("Mul", scale)
        if causal:
            graph.add("Add", mask)
        graph.add("Softmax", axis=-1)
        graph.add("MatMul", heads[2])
        graph.add("Transpose", perm=[0, 2, 1, 3])
        graph.add("Reshape", together)
        linear(width, width)
        start = graph.add("Add", start)
        normalised()
        linear(4 * width, width)
        before = graph.last
        graph.add("Div", root)
        graph.add("Erf")
        graph.add("Add", one)
        graph.add("Mul", before)
        graph.add("Mul", half)
        linear(width, 4 * width)
        graph.add("Add", start)


def bert(graph: Graph) -> None:
    """Half of BERT-base, without its embeddings."""
    transformer(graph, 6, 128)


def gpt(graph: Graph) -> None:
    """Half of GPT-2, of a smaller vocabulary: words in, scores of words out."""
    words = graph.weight(16384, 768)
    graph.nodes.append(helper.make_node("Gather", [words, "x"], ["embedded"], name="embedding"))
    graph.last = "embedded"
    transformer(graph, 6, 128, causal=True)
    graph.add("MatMul", graph.weight(768, 16384))


def dense(graph: Graph) -> None:
    """Fully connected layers of 2048: as many weights as products of one sample."""
    for _ in range(8):
        graph.add("MatMul", graph.weight(2048, 2048))
        graph.add("Relu")


MODELS = {
    "LeNet-5, convolutions": Model(lenet, (1, 32, 32), 256),
    "VGG-16, convolutions": Model(vgg, (3, 224, 224), 4),
    "ResNet-18": Model(residual, (3, 224, 224), 16),
    "ResNet-50": Model(bottlenecks, (3, 224, 224), 8),
    "MobileNet": Model(depthwise, (3, 224, 224), 16),
    "BERT, 6 blocks": Model(bert, (128, 768), 8),
    "GPT-2, 6 blocks": Model(gpt, (128,), 8, words=16384),
    "dense 8 x 2048^2": Model(dense, (2048,), 256),
}


def saved(name: str, folder: Path) -> tuple[Path, Array]:
    """Write one of the models; return where, and samples for it."""
    model = MODELS[name]
    graph, path = Graph(), folder / "net.onnx"
    model.make(graph)
    graph.saved(path, model.shape, onnx.TensorProto.INT64 if model.words else onnx.TensorProto.FLOAT)
    random, shape = np.random.default_rng(1), (model.samples, *model.shape)
    if model.words:
        return path, random.integers(model.words, size=shape)
    return path, random.standard_normal(shape, dtype=np.float32)


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
    """Return the CPU seconds of one run, of all threads together."""
    start = time.process_time()
    action()
    return time.process_time() - start


def through(network: Network) -> None:
    """Go through what each layer sees, keeping nothing."""
    for _ in network.seen():
        pass


def ready(path: str | Path) -> Any:
    """Return a session of ONNX Runtime with a file."""
    return ort.InferenceSession(path, providers=["CPUExecutionProvider"])


def ratios(name: str, runs: int) -> tuple[float, Mapping[str, float]]:
    """Return the seconds of ONNX Runtime's forward pass, and what else takes over it: the least of several each."""
    with tempfile.TemporaryDirectory() as folder:
        path, x = saved(name, Path(folder))
        session = ready(path)
        session.run(None, {"x": x})
        network = load_network(path).with_samples(x)
        first = taken(lambda: through(network))
        times: dict[str, list[float]] = {"forward": [], "again": [], "variant": [], "ready": []}
        other = variants(network)
        for _ in range(runs):
            variant = other()
            times["forward"].append(taken(lambda: session.run(None, {"x": x})))
            times["again"].append(taken(lambda: through(network)))
            times["ready"].append(taken(lambda: ready(path)))
            times["variant"].append(taken(lambda variant=variant: through(variant)))
        least = {key: min(each) for key, each in times.items()}
        forward = least.pop("forward")
        return forward, {"first": first / forward} | {key: each / forward for key, each in least.items()}


def peak() -> int:
    """Return the most memory that this process has had, in bytes; Linux only."""
    line = next(each for each in Path("/proc/self/status").read_text().splitlines() if each.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def memory(name: str) -> list[float]:
    """Return peaks over weights and twice the largest map: of a forward pass, a capture, and two variants more."""
    with tempfile.TemporaryDirectory() as folder:
        path, x = saved(name, Path(folder))
        samples = Path(folder) / "x.npy"
        np.save(samples, x)
        printed = []
        for road in ("forward", "capture"):
            command = [sys.executable, "-m", "benchmarks.capture", "--memory-of", road, str(path), str(samples)]
            printed += subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    forward, weights, once, twice, allowed = (float(each) for each in printed)
    return [each / allowed for each in (forward, once, twice - 2 * weights)]


def memory_of(road: str, path: str, samples: str) -> None:
    """Print the peaks of `memory` in bytes, in a process of its own: all libraries are loaded before."""
    with tempfile.TemporaryDirectory() as folder:
        tiny = Graph()
        tiny.convolution(4, 3, 3)
        tiny.saved(Path(folder) / "tiny.onnx", (3, 8, 8))
        given = np.ones((1, 3, 8, 8), np.float32)
        through(load_network(Path(folder) / "tiny.onnx").with_samples(given))
        ready(Path(folder) / "tiny.onnx").run(None, {"x": given})
    x = np.load(samples)
    before = peak()
    if road == "forward":
        ready(path).run(None, {"x": x})
        print(peak() - before)
        return
    network = load_network(path).with_samples(x)
    through(network)
    first = peak() - before
    other = variants(network)
    weights = sum(4 * layer.weight.size for layer in network)
    largest = max(4 * len(x) * max(layer.maps.inputs, layer.maps.outputs) for layer in network)
    for _ in range(2):
        through(other())
    print(weights, first, peak() - before, weights + 2 * largest)


def main() -> None:
    """Print a line for each model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two runs of each in place of five")
    parser.add_argument("--only", metavar="NAME", choices=MODELS, help="one of the models")
    parser.add_argument("--memory-of", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.memory_of:
        memory_of(*given.memory_of)
        return
    print(f"{'':24}{'CPU time':>11}{'over that of its forward pass':>34}{'peak memory':>26}")
    print(
        f"{'':24}{'forward':>11}{'first':>8}{'again':>8}{'variant':>9}{'session':>9}"
        f"{'forward':>10}{'first':>7}{'variants':>10}"
    )
    for name in [given.only] if given.only else MODELS:
        forward, over = ratios(name, 2 if given.quick else RUNS)
        own, once, later = memory(name)
        print(
            f"{name:24}{1e3 * forward:8.0f} ms{over['first']:8.2f}{over['again']:8.2f}{over['variant']:9.2f}"
            f"{over['ready']:9.2f}{own:10.2f}{once:7.2f}{later:10.2f}", flush=True
        )  # fmt: skip


if __name__ == "__main__":
    main()
