"""Attentions of one operation: their two products of activations, queries by keys and probabilities by values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from accelsim.network.graph import ActivationProduct
from accelsim.network.left_out import LeftOut
from accelsim.network.onnx_graph.forms import MICROSOFT, PAST, attributes_of
from accelsim.network.onnx_graph.node_shapes import NodeShapes


class Heads(NamedTuple):
    """The sizes of an attention, of all samples together."""

    batch: int
    heads: int
    queries: int
    keys: int
    width: int
    """Of a query and a key of one head."""
    value_width: int
    """Of a value of one head."""
    shared: int
    """Heads of keys and values, which several heads of queries may have in common."""
    causal: bool

    @property
    def scores(self) -> ActivationProduct:
        """The product of queries by keys, of one sample."""
        return ActivationProduct(self.heads, self.keys, self.width, self.queries, self.causal, self.shared)

    @property
    def values(self) -> ActivationProduct:
        """The product of probabilities by values, of one sample."""
        return ActivationProduct(self.heads, self.value_width, self.keys, self.queries, self.causal, self.shared)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of both, of all samples."""
        return self.batch * (self.scores.macs + self.values.macs)


def heads_of(inputs: NodeShapes) -> Heads:
    """Return the sizes of an operation of `ATTENTIONS`; raises LookupError or ValueError where they are not known."""
    node = inputs.node
    if node.domain != MICROSOFT:
        return _of_onnx(inputs)
    if node.op_type in PAST:
        past = PAST[node.op_type]
        return heads_of_projected(
            node, inputs.shape(0), inputs.shape(1)[1], inputs.shape(past)[3] if inputs.has(past) else 0
        )
    return _many_heads(inputs) if node.op_type == "MultiHeadAttention" else _grouped_queries(inputs)


def heads_of_projected(node: Any, data: Sequence[int], out: int, past: int) -> Heads:
    """Return the sizes of an `Attention` that makes queries, keys and values, `out` wide together, of its data."""
    attributes = attributes_of(node)
    batch, queries, _ = data
    sizes = attributes.get("qkv_hidden_sizes") or [out // 3] * 3
    heads = attributes.get("num_heads", 1)
    causal = bool(attributes.get("unidirectional", 0))
    return Heads(batch, heads, queries, queries + past, sizes[0] // heads, sizes[2] // heads, heads, causal)


def attended(name: str, heads: Heads | None) -> list[LeftOut]:
    """Return the products of an attention as they are left out, of all samples together; None: sizes not known."""
    scores, values = (None, None) if heads is None else (heads.scores.macs, heads.values.macs)
    batch = 1 if heads is None else heads.batch
    return [
        LeftOut(f"{name}.{end}", "attention", macs=None if macs is None else batch * macs)
        for end, macs in (("scores", scores), ("values", values))
    ]


def _of_onnx(inputs: NodeShapes) -> Heads:
    """Return the sizes of that of ONNX: queries, keys and values of 4 dimensions, or of 3 and a number of heads."""
    attributes = inputs.attributes

    def spread(position: int, heads: str) -> tuple[int, int, int, int]:
        shape = inputs.shape(position)
        if len(shape) == 3:
            batch, length, width = shape
            return batch, attributes[heads], length, width // attributes[heads]
        batch, count, length, width = shape
        return batch, count, length, width

    batch, heads, queries, width = spread(0, "q_num_heads")
    _, shared, keys, _ = spread(1, "kv_num_heads")
    keys += inputs.shape(4)[2] if inputs.has(4) else 0
    value_width = spread(2, "kv_num_heads")[3]
    return Heads(batch, heads, queries, keys, width, value_width, shared, bool(attributes.get("is_causal", 0)))


def _many_heads(inputs: NodeShapes) -> Heads:
    query, heads = inputs.shape(0), inputs.attributes["num_heads"]
    if len(query) == 5:  # (batch, tokens, heads, 3, width): all three in one
        batch, queries, _, _, width = query
        keys, query_width, value_width = queries, heads * width, heads * width
    else:
        batch, queries, query_width = query
        key = inputs.shape(1)
        keys = key[2] if len(key) == 4 else key[1]
        if len(key) == 5:
            value_width = key[2] * key[4]
        else:
            value = inputs.shape(2)
            value_width = value[1] * value[3] if len(value) == 4 else value[2]
    keys += inputs.shape(6)[2] if inputs.has(6) else 0
    causal = bool(inputs.attributes.get("unidirectional", 0))
    return Heads(batch, heads, queries, keys, query_width // heads, value_width // heads, heads, causal)


def _grouped_queries(inputs: NodeShapes) -> Heads:
    """Return the sizes of a GroupQueryAttention, in which every query meets only keys up to its own place."""
    heads, shared = inputs.attributes["num_heads"], inputs.attributes["kv_num_heads"]
    batch, queries, width = inputs.shape(0)
    width //= heads if inputs.has(1) else heads + 2 * shared
    present = inputs.output(1)
    if present is not None and len(present) == 4:
        keys = present[2]
    else:
        keys = queries + (inputs.shape(3)[2] if inputs.has(3) else 0)
    return Heads(batch, heads, queries, keys, width, width, shared, True)
