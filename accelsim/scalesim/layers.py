"""Layers and machines of SCALE-Sim 3.0.0, and what follows of them in closed form.

Sources: the tool's behaviour at version 3.0.0; closed forms: Samajdar et al., "A systematic methodology for
characterizing scalability of DNN accelerators using SCALE-Sim", ISPASS 2020.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Dataflow = Literal["ws", "os", "is"]
DATAFLOWS = ("ws", "os", "is")
MOST = 2**31 - 1
"""Words of an operand that can be told apart, and places that are looked at one by one."""
REPRESENTATIONS = ("ellpack_block", "csr", "csc")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A configuration of the tool. Sizes are in kB of 1024 words, bandwidths in words per cycle."""

    rows: int = 32
    columns: int = 32
    dataflow: Dataflow = "ws"
    ifmap_kb: int = 1024
    filter_kb: int = 1024
    ofmap_kb: int = 1024
    ifmap_bandwidth: int = 10
    """Words that come in per cycle, of the key of SRAM banks; `filter_bandwidth` likewise."""
    filter_bandwidth: int = 10
    bandwidth: int = 10
    """Words of outputs that leave per cycle, in mode USER."""
    mode: Literal["CALC", "USER"] = "CALC"
    sparse: bool = False
    """Whether the sparsity of layers counts."""
    representation: str = "ellpack_block"
    row_wise: bool = False
    block: int = 4
    """Reduction rows of a block, of row-wise sparsity."""
    seed: int = 40
    late_counted: int = 2
    """How often the tool adds the cycles that a word is late, in mode USER; 1 is what it would be without that."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A layer of the tool's topology: M outputs of N filters over K reduction rows, and a convolution's geometry.

    A convolution has no padding, and an output for every window that begins inside.
    """

    name: str
    m: int
    n: int
    k: int
    kept: tuple[int, int] = (1, 1)
    """N of every M reduction rows; 1:1 is dense."""
    image: tuple[int, int, int] | None = None
    """Height, width and channels of what a convolution reads; its filters: `window`, `stride`."""
    window: tuple[int, int] = (1, 1)
    stride: int = 1

    @classmethod
    def convolution(
        cls, name: str, image: tuple[int, int], window: tuple[int, int], channels: int, filters: int, stride: int,
        kept: tuple[int, int] = (1, 1),
    ) -> Shape:  # fmt: skip
        """Return a convolution; image and window as height, width."""
        down, along = (-(-(size - of + stride) // stride) for size, of in zip(image, window, strict=True))
        return cls(
            name=name, m=down * along, n=filters, k=window[0] * window[1] * channels, kept=kept,
            image=(*image, channels), window=window, stride=stride,
        )  # fmt: skip

    @property
    def along(self) -> int:
        """Outputs of a row of a convolution's map."""
        width = 1 if self.image is None else self.image[1]
        return -(-(width - self.window[1] + self.stride) // self.stride)

    def problems(self) -> list[str]:
        """Say of what it has too much."""
        sides = {"inputs": self.words, "inputs as a matrix": self.m * self.k, "weights": self.k * self.n}
        return [
            f"has {words:,} {what}, and {MOST:,} can be told apart; split the layer"
            for what, words in {**sides, "outputs": self.m * self.n}.items()
            if words > MOST
        ]

    @property
    def macs(self) -> int:
        """Multiply-accumulates, dense."""
        return self.m * self.n * self.k

    @property
    def words(self) -> int:
        """Numbers that words of the inputs have: they are smaller."""
        return self.m * self.k if self.image is None else math.prod(self.image)

    def reading(self, rows: NDArray[np.int64]) -> NDArray[np.int32]:
        """Return which word of the inputs each output multiplies in some reduction rows: (m, rows), -1 outside."""
        outputs = np.arange(self.m)[:, None]
        if self.image is None:
            return np.asarray(outputs * self.k + rows, np.int32)
        height, width, channels = self.image
        y = outputs // self.along * self.stride + rows // channels // self.window[1]
        x = outputs % self.along * self.stride + rows // channels % self.window[1]
        words = (y * width + x) * channels + rows % channels
        return np.where((y < height) & (x < width), words, -1).astype(np.int32)

    def read(self) -> int:
        """Return how many words of the inputs are read at all if no reduction row is left out."""
        if self.image is None:
            return self.m * self.k
        sides = [_covered(size, of, self.stride) for size, of in zip(self.image[:2], self.window, strict=True)]
        return sides[0] * sides[1] * self.image[2]

    @property
    def repeats(self) -> bool:
        """Whether a word of the inputs is in several windows."""
        if self.image is None:
            return False
        return max(self.window) > self.stride

    @property
    def overhangs(self) -> bool:
        """Whether a window hangs over the edge."""
        if self.image is None:
            return False
        return any((size - of) % self.stride or size < of for size, of in zip(self.image[:2], self.window, strict=True))


def _covered(size: int, window: int, stride: int) -> int:
    """Return how many places of a side are in any window; only the last window can hang over the edge."""
    last = (-(-(size - window + stride) // stride) - 1) * stride
    if window >= stride:
        return min(size, last + window)
    return last // stride * window + min(window, max(0, size - last))


def whole(words: float) -> float:
    """Return a number of words, as an integer where it is one."""
    return int(words) if words == int(words) else words


class Tiling(NamedTuple):
    """A layer on an array: what the folds go over, and how long one takes."""

    rows: int
    columns: int
    cycles: int
    steps: int
    """Inputs or weights that stream through a fold, or reduction rows of an output that stays."""
    hidden: int
    """Cycles by which the tool thinks that a fold is longer, where it tells how well the array computes."""


@dataclass(frozen=True)
class Placed:
    """A layer on a machine: everything that does not depend on memories."""

    machine: Machine
    layer: Shape

    @cached_property
    def sparsity(self) -> Literal["no", "layer-wise", "row-wise"]:
        """What the machine makes of the layer's sparsity."""
        if not self.machine.sparse:
            return "no"
        return "row-wise" if self.machine.row_wise else "layer-wise"

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """The reduction rows that are kept of the inputs: the first n of every m, layer-wise; otherwise all."""
        rows = np.arange(self.layer.k)
        if self.sparsity != "layer-wise":
            return rows
        return rows[rows % self.layer.kept[1] < self.layer.kept[0]]

    @cached_property
    def k(self) -> int:
        """Reduction rows on the array."""
        layer, block = self.layer, self.machine.block
        if self.sparsity == "row-wise":
            return block * -(-layer.k // (2 * block))
        if self.sparsity == "layer-wise":
            kept, of = layer.kept
            return kept * (layer.k // of) + min(kept, layer.k % of)
        return layer.k

    @cached_property
    def tiling(self) -> Tiling:
        """The folds."""
        machine, m, n, k = self.machine, self.layer.m, self.layer.n, self.k
        ends = machine.rows + machine.columns - 2
        match machine.dataflow:
            case "ws":
                return Tiling(k, n, machine.rows + ends + m, m, machine.rows + machine.columns - 1)
            case "is":
                return Tiling(k, m, machine.rows + ends + n, n, machine.rows + machine.columns - 1)
            case _:
                return Tiling(m, n, k + ends, k, 0)

    @property
    def row_folds(self) -> int:
        """Folds along the rows of the array."""
        return -(-self.tiling.rows // self.machine.rows)

    @property
    def column_folds(self) -> int:
        """Folds along its columns."""
        return -(-self.tiling.columns // self.machine.columns)

    @property
    def folds(self) -> int:
        """All folds."""
        return self.row_folds * self.column_folds

    @property
    def cycles(self) -> int:
        """Cycles without stalls, counted as the tool does: the number of the last one."""
        return self.folds * self.tiling.cycles - 1

    @cached_property
    def taken(self) -> NDArray[np.int64]:
        """Slots of row-wise sparsity that hold a word, of each block of each filter: (blocks, n).

        Drawn as the tool draws them, with numpy's global generator of its seed; that one is not touched.
        """
        machine, layer = self.machine, self.layer
        drawn = np.random.RandomState(machine.seed).randint(1, machine.block // 2 + 1, layer.n)
        blocks = -(-layer.k // machine.block)
        there = np.minimum(machine.block, layer.k - machine.block * np.arange(blocks))
        return np.minimum(drawn, there[:, None])

    def weights(self) -> NDArray[np.int32]:
        """Return the number of the word in each place of the weights: (k, n), -1 where there is none."""
        words = np.arange(self.k * self.layer.n, dtype=np.int32).reshape(self.k, self.layer.n)
        if self.sparsity != "row-wise":
            return words
        half = self.machine.block // 2
        slot = np.arange(self.k)
        block = slot // half
        there = block < len(self.taken)
        held = np.zeros(words.shape, bool)
        held[there] = (slot % half)[there, None] < self.taken[block[there]]
        return np.where(held, words, np.int32(-1))

    @cached_property
    def weight_holes(self) -> int:
        """Places of the weights that hold no word."""
        return self.k * self.layer.n - int(self.taken.sum()) if self.sparsity == "row-wise" else 0

    def sram_counts(self) -> tuple[float, float, float]:
        """Return the words read of inputs and weights and written of outputs, on the chip, as the tool counts them."""
        machine, layer, k = self.machine, self.layer, self.k
        m, n = layer.m, layer.n
        if machine.dataflow == "os":
            extra = self.folds * (machine.rows + machine.columns)
            return m * k * self.column_folds, k * n * self.row_folds, m * n + extra
        if machine.dataflow == "is":
            return m * k, n * k * self.column_folds, m * n * self.row_folds
        if self.sparsity == "row-wise":
            inputs: float = (m + machine.rows - 1) * machine.rows * machine.block * self.folds
        else:
            inputs = m * k * self.column_folds
            if self.sparsity == "layer-wise":
                inputs = whole(inputs * layer.kept[1] / layer.kept[0])
        return inputs, k * n, m * n * self.row_folds

    def mapping_efficiency(self) -> float:
        """Return the share of the array that holds words, in per cent."""
        held = self.tiling.rows * self.tiling.columns - self.weight_holes
        return 100 * held / (self.machine.rows * self.machine.columns * self.folds)

    def compute_utilisation(self) -> float:
        """Return the share of the array's cycles in which it multiplies, without stalls, in per cent."""
        machine, tiling = self.machine, self.tiling
        length = tiling.cycles if tiling.hidden == 0 else 2 * machine.rows + 2 * machine.columns + tiling.steps - 3
        held = tiling.rows * tiling.columns
        return 100 * held * tiling.steps / (machine.rows * machine.columns * length * self.folds)

    def overall_utilisation(self, total_cycles: int) -> float:
        """Return dense multiply-accumulates by what the array could have done, in per cent."""
        return 100 * self.layer.macs / (total_cycles * self.machine.rows * self.machine.columns)

    def storage(self) -> dict[str, float]:
        """Return the words of the weights before and after compression, and of metadata; none if nothing is sparse."""
        if self.sparsity == "no":
            return {}
        k, n, of = self.layer.k, self.layer.n, self.layer.kept[1]
        held = self.k * n
        nonzeros = held - self.weight_holes
        metadata: float
        match self.machine.representation:
            case "csr":
                words, metadata = nonzeros, nonzeros + k + 1
            case "csc":
                words, metadata = nonzeros, nonzeros + n + 1
            case _:
                words, metadata = held, held * (of - 1).bit_length() / 32
        return {"orig_storage": float(k * n), "new_storage": float(words + metadata), "metadata": float(metadata)}
