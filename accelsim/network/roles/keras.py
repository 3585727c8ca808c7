"""Kernels of Keras, Flax and TensorFlow: stored (in, out) and (kh, kw, in, out)."""

from __future__ import annotations

from accelsim.network.roles.kinds import LOOK_UPS, UNKNOWN, is_transposed
from accelsim.network.roles.logical import Logical, turned
from accelsim.network.roles.names import words
from accelsim.network.roles.orientation import Found


def named(module: str, tails: dict[str, Logical]) -> dict[str, Logical]:
    """Return the arrays of a module by what they are, where Keras 3 only numbers them: `vars/0`, `vars/1`."""
    first, second = tails.get("vars/0"), tails.get("vars/1")
    if first is None or len(first.shape) < 2:
        return tails
    said = words(module)
    if said & {"optimizer", "optimiser"}:
        return tails
    if said & LOOK_UPS:
        names = ["embeddings"]
    elif second is not None and len(second.shape) == 2 and second.shape[1:] == first.shape[1:]:
        names = ["kernel", "recurrent_kernel", "bias"]
    else:
        names = ["kernel", "bias"]
    renamed = {f"vars/{at}": name for at, name in enumerate(names) if name not in tails}
    return {renamed.get(tail, tail): each for tail, each in tails.items()}


def settle(found: Found, joins_heads: bool) -> str | None:
    """Put a kernel the right way round, or return what it is where it is not a layer that can be simulated.

    joins_heads: whether it is the last product of an attention, whose inputs are heads and their features.
    """
    kernel, bias, path = found.weight, found.bias, found.path
    dims, said = len(kernel.shape), words(path.component)
    is_of_inputs = bias is not None and not has_bias(found) and bias.shape == kernel.shape[-2:-1]
    splits = bias is not None and bias.shape == kernel.shape[1:]
    if 0 in kernel.shape:
        return "empty"
    if dims == 3 and (splits or said & {"query", "key", "value"}):
        found.weight, found.bias, found.is_turned = _into_heads(kernel), bias and bias.flat(), False
    elif dims == 3 and joins_heads:
        found.weight, found.is_turned = _from_heads(kernel), False
    elif dims == 4 and (path.tail == "depthwise_kernel" or _is_depthwise(path.module, kernel, bias)):
        found.weight, found.is_turned, found.groups = _depthwise(kernel), False, kernel.shape[2]
    elif dims in (3, 4) and (is_transposed(path) or is_of_inputs):
        # Keras keeps (kh, kw, out, in) and calls modules in lower case; Flax keeps (kh, kw, in, out).
        is_of_flax = has_bias(found) if bias is not None else not path.component.islower()
        found.weight = turned(kernel) if not is_of_flax else _inputs_first(turned(kernel))
        found.is_turned, found.is_transposed, found.groups = False, True, 1
    elif dims <= 4:
        found.is_turned = not (dims == 2 and is_of_inputs)
    else:
        return "convolution of 3 dimensions" if dims == 5 else UNKNOWN
    found.proof = "by its name it is a kernel of Keras" if found.is_turned else "its shape or its bias shows it"
    return None


def _inputs_first(weight: Logical) -> Logical:
    """Return weights (out, in, ...) as (in, out, ...)."""
    out, inputs, *window = weight.shape
    return weight.changed((inputs, out, *window), lambda array: array.swapaxes(0, 1))


def has_bias(found: Found) -> bool:
    """Whether a layer has a bias for each of the last dimension of its kernel."""
    return found.bias is not None and found.bias.shape == found.weight.shape[-1:]


def _is_depthwise(module: str, kernel: Logical, bias: Logical | None) -> bool:
    """Whether a kernel of four dimensions has filters of each channel alone, by its bias or the module's name."""
    channels, multiplier = kernel.shape[2:]
    if bias is not None and channels > 1:
        return bias.shape == (channels * multiplier,)
    return "depthwise" in words(module)


def _depthwise(kernel: Logical) -> Logical:
    """Return a kernel (kh, kw, channels, multiplier) as weights of as many groups as channels."""
    height, width, channels, multiplier = kernel.shape
    shape = (channels * multiplier, 1, height, width)
    return kernel.changed(shape, lambda array: array.transpose(2, 3, 0, 1).reshape(shape))


def _into_heads(kernel: Logical) -> Logical:
    """Return a projection (features, heads, head_features) as weights (heads x head_features, features)."""
    features = kernel.shape[0]
    out = kernel.size // features
    return kernel.changed((out, features), lambda array: array.reshape(features, out).T)


def _from_heads(kernel: Logical) -> Logical:
    """Return a projection (heads, head_features, features) as weights (features, heads x head_features)."""
    features = kernel.shape[-1]
    inputs = kernel.size // features
    return kernel.changed((features, inputs), lambda array: array.reshape(inputs, features).T)
