"""Kernels of Keras, Flax and TensorFlow: stored (in, out) and (kh, kw, in, out)."""

from __future__ import annotations

from accelsim.network.roles.kinds import LOOK_UPS
from accelsim.network.roles.logical import Logical
from accelsim.network.roles.names import words


def named(module: str, tails: dict[str, Logical]) -> dict[str, Logical]:
    """Return the arrays of a module by what they are, where Keras 3 only numbers them: `vars/0`, `vars/1`."""
    first, second = tails.get("vars/0"), tails.get("vars/1")
    said = set(words(module))
    if first is None or len(first.shape) < 2 or said & {"optimizer", "optimiser"}:
        return tails
    if said & LOOK_UPS:
        names = ["embeddings"]
    elif second is not None and len(second.shape) == 2 and second.shape[1:] == first.shape[1:]:
        names = ["kernel", "recurrent_kernel", "bias"]
    else:
        names = ["kernel", "bias"]
    renamed = {f"vars/{at}": name for at, name in enumerate(names)}
    return {renamed.get(tail, tail): each for tail, each in tails.items()}


def depthwise(kernel: Logical) -> Logical:
    """Return a kernel (kh, kw, channels, multiplier) as weights of as many groups as channels."""
    height, width, channels, multiplier = kernel.shape
    shape = (channels * multiplier, 1, height, width)
    return kernel.changed(shape, lambda array: array.transpose(2, 3, 0, 1).reshape(shape))


def is_depthwise(module: str, kernel: Logical, bias: Logical | None) -> bool:
    """Whether a kernel of four dimensions has filters of each channel alone, by its bias or the module's name."""
    channels, multiplier = kernel.shape[2:]
    if bias is not None and channels > 1:
        return bias.shape == (channels * multiplier,)
    return "depthwise" in words(module)


def into_heads(kernel: Logical) -> Logical:
    """Return a projection (features, heads, head_features) as weights (heads x head_features, features)."""
    features = kernel.shape[0]
    out = kernel.size // features
    return kernel.changed((out, features), lambda array: array.reshape(features, out).T)


def from_heads(kernel: Logical) -> Logical:
    """Return a projection (heads, head_features, features) as weights (features, heads x head_features)."""
    features = kernel.shape[-1]
    inputs = kernel.size // features
    return kernel.changed((features, inputs), lambda array: array.reshape(inputs, features).T)
