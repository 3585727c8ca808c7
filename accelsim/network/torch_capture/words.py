"""Operations of a trace in the words of network files, which NumPy runs, as far as these reach."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from accelsim.network.spoken import Said, pooled, rearranged
from accelsim.network.torch_capture.merging import TURNS, VIEWS, order_of
from accelsim.network.torch_capture.trace import Node, View

AS_THEY_ARE = {
    "relu": "Relu", "relu6": "Relu6", "hardswish": "HardSwish", "hardsigmoid": "HardSigmoid", "silu": "Silu",
    "sigmoid": "Sigmoid", "tanh": "Tanh", "erf": "Erf", "sqrt": "Sqrt", "exp": "Exp", "neg": "Neg",
}  # fmt: skip
"""Operations on single values that need to know nothing else."""

TOGETHER = {"add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div"}


def words_of(node: Node) -> Said | None:
    """Return what a node is in the words of network files, None where there are none for it.

    Samples are counted by the first dimension of all that it takes and gives.
    """
    shapes = [each.shape for each in node.sources]
    if node.takes != len(node.sources) or any(not shape or shape[:1] != node.shape[:1] for shape in shapes):
        return None
    if node.views or node.inner in (*VIEWS, *TURNS):
        return _views(node.views or [node.view])
    if node.inner in AS_THEY_ARE:
        return Said(AS_THEY_ARE[node.inner])
    rule = _RULES.get(node.inner)
    try:
        return None if rule is None else rule(node)
    except (LookupError, TypeError, ValueError):
        return None  # arguments of another kind


def _views(views: Sequence[View]) -> Said | None:
    steps: list[tuple[str, Sequence[int]]] = []
    for name, said, before, after in views:
        if not before or not after or before[0] != after[0]:
            return None
        if name in VIEWS:
            steps.append(("reshape", after[1:]))
            continue
        order = order_of(name, said, len(before))
        if order is None or order[0] != 0:
            return None
        steps.append(("transpose", [axis - 1 for axis in order[1:]]))
    return rearranged(steps)


def _axis(node: Node, dim: int) -> int:
    """Return a dimension of what a node takes as one of a sample; raises ValueError for that of samples."""
    axis = dim % len(node.sources[0].shape) - 1
    if axis < 0:
        raise ValueError("samples are counted along it")
    return axis


def _clip(low: str, high: str) -> Callable[[Node], Said]:
    def clip(node: Node) -> Said:
        if any(key in node.held for key in (low, high)):
            raise ValueError("bounds of each element")
        return pooled("Clip", {"min": node.attributes.get(low), "max": node.attributes.get(high)})

    return clip


def _together(node: Node) -> Said:
    said = node.attributes
    if said.get("alpha", 1) != 1 or said.get("rounding_mode"):
        raise ValueError("more than one operation")
    word = TOGETHER[node.inner]
    if len(node.sources) > 1:
        return Said(word)
    if "other" in said and not isinstance(said["other"], (str, bool)):
        return Said(word, {"value": float(said["other"])})
    (name,) = node.held
    value = node.held[name]
    if value is None or (name != "other" and word in ("Sub", "Div")):
        raise ValueError("a constant on the left, or a large one")
    if value.ndim == len(node.shape):
        if value.shape[0] != 1:
            raise ValueError("a number for each sample")
        value = value[0]
    return Said(word, {"value": value if value.ndim else float(value)})


def _normal(word: str, **keys: str) -> Callable[[Node], Said]:
    """Return what says a normalisation: keys of the word by arguments of PyTorch."""

    def normal(node: Node) -> Said:
        found: dict[str, Any] = {}
        for argument, key in keys.items():
            if argument in node.held:
                if node.held[argument] is None:
                    raise ValueError("a large array")
                found[key] = node.held[argument]
            elif argument in node.attributes:
                found[key] = node.attributes[argument]
        if node.attributes.get("training") or node.attributes.get("use_input_stats"):
            raise ValueError("normalises by what it sees")
        if isinstance(sizes := node.attributes.get("normalized_shape"), list):
            found["axis"] = -len(sizes)
            if word == "RMSNormalization" and (len(sizes) > 1 or found.pop("axis") != -1):
                raise ValueError("along several dimensions")
        return Said(word, found)

    return normal


def _window(node: Node) -> dict[str, Any]:
    said = node.attributes
    kernel = said["kernel_size"]
    return {
        "kernel": kernel, "stride": said.get("stride") or kernel, "padding": said.get("padding", 0),
        "ceil": bool(said.get("ceil_mode")),
    }  # fmt: skip


def _max_pool(node: Node) -> Said:
    return pooled("MaxPool", _window(node), dilation=node.attributes.get("dilation", 1))


def _average_pool(node: Node) -> Said:
    if node.attributes.get("divisor_override"):
        raise ValueError("divides by another number")
    return pooled("AveragePool", _window(node), count_padding=bool(node.attributes.get("count_include_pad", True)))


def _to_size(word: str) -> Callable[[Node], Said]:
    """Return what says a pooling to maps of a size, of windows that do not overlap."""

    def to_size(node: Node) -> Said:
        before, after = node.sources[0].shape[-2:], node.shape[-2:]
        if tuple(after) == (1, 1):
            return Said(f"Global{word}")
        if any(size % made for size, made in zip(before, after, strict=True)):
            raise ValueError("windows that overlap")
        window = [size // made for size, made in zip(before, after, strict=True)]
        return Said(word, {"kernel": window, "stride": window})

    return to_size


def _mean(node: Node) -> Said:
    dims = node.attributes["dim"]
    axes = sorted(_axis(node, dim) for dim in (dims if isinstance(dims, list) else [dims]))
    if not node.attributes.get("keepdim"):
        return Said("ReduceMean", {"axis": axes})
    rank = len(node.shape) - 1
    if rank < 3 or axes != [rank - 2, rank - 1]:
        raise ValueError("keeps other dimensions than those of maps")
    return Said("GlobalAveragePool")


def _slice(node: Node) -> Said:
    said = node.attributes
    if said.get("step", 1) != 1:
        raise ValueError("in steps")
    size = node.sources[0].shape[said["dim"]]
    start, stop = said.get("start", 0), min(said.get("end", size), size)
    return Said("Slice", {"axis": _axis(node, said["dim"]), "start": start, "stop": stop})


def _embedding(node: Node) -> Said:
    table = node.held["weight"]
    if table is None:
        raise ValueError("a large table")
    return Said("Gather", {"value": table})


def _scores(node: Node) -> Said:
    scale = node.attributes.get("scale")
    factor = {} if scale is None else {"factor": float(scale)}
    return Said("AttentionScores", {"parted": True, **factor})


_RULES: Mapping[str, Callable[[Node], Said]] = {
    **dict.fromkeys(TOGETHER, _together),
    "hardtanh": _clip("min_val", "max_val"),
    "clamp": _clip("min", "max"),
    "clamp_min": _clip("min", "max"),
    "clamp_max": _clip("min", "max"),
    "leaky_relu": lambda node: Said("LeakyRelu", {"alpha": node.attributes.get("negative_slope", 0.01)}),
    "gelu": lambda node: Said("Gelu", {"approximate": node.attributes.get("approximate", "none")}),
    "softmax": lambda node: Said("Softmax", {"axis": _axis(node, node.attributes["dim"])}),
    "log_softmax": lambda node: Said("LogSoftmax", {"axis": _axis(node, node.attributes["dim"])}),
    **dict.fromkeys(
        ("batch_norm", "batch_norm_legit_no_training"),
        _normal(
            "BatchNormalization",
            running_mean="mean",
            running_var="variance",
            weight="scale",
            bias="shift",
            eps="epsilon",
        ),
    ),
    "layer_norm": _normal("LayerNormalization", weight="scale", bias="shift", eps="epsilon"),
    "group_norm": _normal("GroupNormalization", num_groups="groups", weight="scale", bias="shift", eps="epsilon"),
    "rms_norm": _normal("RMSNormalization", weight="scale", eps="epsilon"),
    **dict.fromkeys(("max_pool2d", "max_pool2d_with_indices"), _max_pool),
    "avg_pool2d": _average_pool,
    "adaptive_avg_pool2d": _to_size("AveragePool"),
    "adaptive_max_pool2d": _to_size("MaxPool"),
    "mean": _mean,
    "cat": lambda node: Said("Concat", {"axis": _axis(node, node.attributes["dim"])}),
    "slice": _slice,
    "embedding": _embedding,
    "matmul": lambda _: Said("MatMul"),
    "sdpa_scores": _scores,
    "sdpa_softmax": lambda _: Said("Softmax", {"axis": -1}),
    "sdpa_values": lambda _: Said("MatMul"),
}
