"""Convolutions as matrix-vector products: one vector per output pixel, never all of them made at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from accelsim.errors import raise_if_any
from accelsim.network.sizes import check_fits_memory

Array = NDArray[Any]
Pair = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Convolution:
    """The geometry of a two-dimensional convolution; pairs are (height, width)."""

    in_channels: int
    out_channels: int
    kernel_hw: Pair
    input_hw: Pair
    stride_hw: Pair = (1, 1)
    padding_hw: Pair = (0, 0)
    dilation_hw: Pair = (1, 1)
    groups: int = 1

    @classmethod
    def of(
        cls,
        in_channels: int,
        out_channels: int,
        kernel: int | Sequence[int],
        input_hw: int | Sequence[int],
        *,
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
    ) -> Convolution:
        """Return the geometry from numbers or pairs (height, width); raises InputError with every problem at once."""
        problems: list[str] = []
        given = {"kernel": kernel, "input_hw": input_hw, "stride": stride, "padding": padding, "dilation": dilation}
        pairs = {key: _pair(key, value, 0 if key == "padding" else 1, problems) for key, value in given.items()}
        if not is_count(groups, 1):
            problems.append(f"groups: must be a whole number, at least 1 (got {groups!r})")
        else:
            problems += [
                f"groups: {groups} does not divide {key} = {channels}; use a divisor of both numbers of channels, "
                "1 for a plain convolution"
                for key, channels in (("in_channels", in_channels), ("out_channels", out_channels))
                if channels % groups
            ]
        raise_if_any(problems)
        made = cls(
            in_channels=in_channels,
            out_channels=out_channels,
            kernel_hw=pairs["kernel"],
            input_hw=pairs["input_hw"],
            stride_hw=pairs["stride"],
            padding_hw=pairs["padding"],
            dilation_hw=pairs["dilation"],
            groups=groups,
        )
        reach, padded = made.reach_hw, made.padded_hw
        if reach[0] > padded[0] or reach[1] > padded[1]:
            raise_if_any(
                [
                    f"kernel: reaches over {reach[0]} x {reach[1]} pixels, dilation included, but the padded input has "
                    f"only {padded[0]} x {padded[1]}; correct input_hw, or add padding"
                ]
            )
        input_bytes = 8 * in_channels * padded[0] * padded[1]
        check_fits_memory(input_bytes, f"input_hw: the input ({in_channels}, {padded[0]}, {padded[1]}) of one sample")
        return made

    @property
    def reach_hw(self) -> Pair:
        """Height and width of the window that a kernel covers, dilation included."""
        (kernel_h, kernel_w), (dilation_h, dilation_w) = self.kernel_hw, self.dilation_hw
        return dilation_h * (kernel_h - 1) + 1, dilation_w * (kernel_w - 1) + 1

    @property
    def padded_hw(self) -> Pair:
        """Height and width of the input with its padding."""
        return self.input_hw[0] + 2 * self.padding_hw[0], self.input_hw[1] + 2 * self.padding_hw[1]

    @property
    def output_hw(self) -> Pair:
        """Height and width of the output."""
        reach, padded, stride = self.reach_hw, self.padded_hw, self.stride_hw
        return (padded[0] - reach[0]) // stride[0] + 1, (padded[1] - reach[1]) // stride[1] + 1

    @property
    def positions(self) -> int:
        """Output pixels: one matrix-vector product each."""
        return self.output_hw[0] * self.output_hw[1]

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Shape of one sample's input: (in_channels, height, width)."""
        return self.in_channels, *self.input_hw

    @property
    def in_features(self) -> int:
        """Columns of the lowered matrix: in_channels x kernel height x kernel width."""
        return self.in_channels * self.kernel_hw[0] * self.kernel_hw[1]

    def matrix(self, weight: Array) -> Array:
        """Return weights (out_channels, in_channels / groups, kh, kw) as a matrix (out_channels, in_features).

        Columns in the order channel, kh, kw. With groups it is block-diagonal, with zeros outside the blocks.
        Raises InputError where it exceeds this machine's memory.
        """
        flat = weight.reshape(self.out_channels, -1)
        if self.groups == 1:
            return flat
        shape = self.out_channels, self.in_features
        check_fits_memory(weight.dtype.itemsize * shape[0] * shape[1], f"the weights of {self.groups} groups {shape}")
        matrix = np.zeros(shape, weight.dtype)
        blocks = matrix.reshape(self.groups, -1, self.groups, flat.shape[1])
        every = np.arange(self.groups)
        blocks[every, :, every] = flat.reshape(self.groups, -1, flat.shape[1])
        return matrix


def filters_of_transposed(weight: Any, groups: int) -> Any:
    """Return weights (in, out / groups, ...) of a transposed convolution as filters (out x ..., in / groups, 1, 1).

    Those are the filters of the 1 x 1 convolution by which each input pixel is multiplied. An array, or a tensor of
    PyTorch.
    """
    per_group = len(weight) // groups
    return weight.reshape(groups, per_group, -1).swapaxes(1, 2).reshape(-1, per_group, 1, 1)


class Products(NamedTuple):
    """A layer as products of matrices: of each group (rows, columns) times (columns, vectors), `vectors` per sample."""

    groups: int
    rows: int
    columns: int
    vectors: int


class Maps(NamedTuple):
    """The activations of one sample: how many go in and come out, its vectors, and how many of them are one row."""

    inputs: int
    outputs: int
    vectors: int = 1
    row_vectors: int = 1

    @property
    def rows(self) -> int:
        """Rows of the output, or tokens."""
        return self.vectors // self.row_vectors


KEPT_BYTES = 1 << 25
"""Vectors that need no more than this are lowered once, for all chips that meet them."""


class Vectors:
    """The input vectors of a layer, made when they are asked for: samples in order, within one output row by row.

    Many are made again, a chunk at a time, whenever they are asked for.

    `samples` (batch, in_channels, height, width) of a convolution, with several images in one (batch, images,
    in_channels, height, width), else (batch, in_features) or (batch, tokens, in_features). `bias` is the value of one
    more column, if not None.
    """

    def __init__(self, samples: Array, convolution: Convolution | None = None, bias: int | None = None) -> None:
        self._bias = bias
        self._kept: Array | None = None
        self._length: int
        if convolution is None:
            self._length = samples.size // samples.shape[-1]
            self._vectors = samples.reshape(self._length, -1)
            self._pixels = None
        else:
            (pad_h, pad_w), (step_h, step_w) = convolution.padding_hw, convolution.stride_hw
            dilation_h, dilation_w = convolution.dilation_hw
            samples = samples.reshape(-1, *convolution.input_shape)
            padded = np.pad(samples, ((0, 0), (0, 0), (pad_h, pad_h), (pad_w, pad_w)))
            windows = sliding_window_view(padded, convolution.reach_hw, axis=(2, 3))
            windows = windows[:, :, ::step_h, ::step_w, ::dilation_h, ::dilation_w]
            # (batch, output row, output column, channel, kh, kw), all of it a view of the samples.
            self._pixels = windows.transpose(0, 2, 3, 1, 4, 5)
            self._length = len(samples) * convolution.positions

    def __len__(self) -> int:
        """Return the number of vectors: batch x output pixels, or batch x tokens."""
        return self._length

    def __getitem__(self, part: slice) -> Array:
        """Return some consecutive vectors (n, columns), as of an array."""
        return self.chunk(*part.indices(self._length)[:2])

    def chunk(self, first: int, last: int) -> Array:
        """Return the vectors from `first` up to, not including, `last`: (last - first, columns)."""
        if self._kept is None and self._bytes <= KEPT_BYTES:
            self._kept = self._made(0, self._length)
        return self._made(first, last) if self._kept is None else self._kept[first:last]

    @property
    def _bytes(self) -> int:
        source = self._vectors if self._pixels is None else self._pixels
        return source.nbytes + (0 if self._bias is None else self._length * source.itemsize)

    def _made(self, first: int, last: int) -> Array:
        chunk = self._vectors[first:last] if self._pixels is None else _lowered(self._pixels, first, last)
        if self._bias is None:
            return chunk
        return np.concatenate([chunk, np.full((last - first, 1), self._bias, chunk.dtype)], axis=1)


def _lowered(pixels: Array, first: int, last: int) -> Array:
    """Return some consecutive pixels of (batch, output rows, output columns, channels, kh, kw) as (n, columns)."""
    samples, height, width = pixels.shape[:3]
    begin, end = first // width, -(-last // width)  # rows of the output
    rows = np.empty((end - begin, *pixels.shape[2:]), pixels.dtype)
    for sample in range(begin // height, min(-(-end // height), samples)):
        above = sample * height
        mine = slice(max(begin - above, 0), min(end - above, height))
        here = slice(above + mine.start - begin, above + mine.stop - begin)
        for place in np.ndindex(pixels.shape[4:]):  # which leaves long runs to copy
            rows[here, ..., *place] = pixels[sample, mine, ..., *place]
    flat = rows.reshape(len(rows) * width, math.prod(pixels.shape[3:]))
    return flat[first - begin * width : last - begin * width]


def is_count(value: Any, least: int) -> bool:
    """Return whether this is a whole number, at least `least`."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and int(value) >= least


def _pair(key: str, value: Any, least: int, problems: list[str]) -> Pair:
    """Return (height, width) of a number or a pair; what is neither is a problem."""
    pair = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value, value)
    if len(pair) == 2 and all(is_count(each, least) for each in pair):
        return int(pair[0]), int(pair[1])
    problems.append(
        f"{key}: must be a whole number, at least {least}, or two of them for height and width (got {value!r})"
    )
    return least, least
