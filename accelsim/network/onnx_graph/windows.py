"""Sizes and padding of convolutions, as ONNX says them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Window(NamedTuple):
    """How a convolution goes over its input; a number for each dimension."""

    stride: list[int]
    dilation: list[int]
    before: list[int]
    """Rows of zeros, at the beginning of each dimension."""
    after: list[int]
    outputs: list[int]


def channels_first(node: Any, shape: Sequence[int]) -> list[int]:
    """Return the shape (images, channels, sizes...) of what a convolution or pooling takes, whose channels may be last.

    So they are where ONNX Runtime optimised a quantised network, or one of half floats; filters are as ever.
    """
    is_last = node.op_type in CHANNELS_LAST or any(each.name == "channels_last" and each.i for each in node.attribute)
    return [shape[0], shape[-1], *shape[1:-1]] if is_last else list(shape)


CHANNELS_LAST = ("NhwcFusedConv", "NhwcMaxPool")


def window_of(attributes: Mapping[str, Any], sizes: Sequence[int], kernel: Sequence[int]) -> Window:
    """Return the window of a node with these attributes over an input and filters of these sizes."""
    dims = len(kernel)
    stride = list(attributes.get("strides", [1] * dims))
    dilation = list(attributes.get("dilations", [1] * dims))
    pads = list(attributes.get("pads", [0] * 2 * dims))
    reach = [rate * (side - 1) + 1 for rate, side in zip(dilation, kernel, strict=True)]
    automatic = attributes.get("auto_pad", b"NOTSET").decode()
    if automatic.startswith("SAME"):
        # As many outputs as inputs / stride, rounded up.
        extra = [
            max(0, (-(-size // step) - 1) * step + far - size)
            for size, step, far in zip(sizes, stride, reach, strict=True)
        ]
        less, more = [each // 2 for each in extra], [each - each // 2 for each in extra]
        pads = less + more if automatic == "SAME_UPPER" else more + less
    elif automatic == "VALID":
        pads = [0] * 2 * dims
    before, after = pads[:dims], pads[dims:]
    outputs = [
        (size + low + high - far) // step + 1
        for size, low, high, far, step in zip(sizes, before, after, reach, stride, strict=True)
    ]
    return Window(stride, dilation, before, after, outputs)
