"""Kinds of operations that are not layers, and what becomes of them: words that tables share."""

from __future__ import annotations

from collections.abc import Mapping

KINDS: Mapping[str, str] = {
    "activation": "a function of one value, such as ReLU or GELU",
    "attention": "a product of activations by activations, as of queries by keys or of probabilities by values",
    "concat": "tensors put one behind the other, or taken apart",
    "elementwise": "sums, products and the like of tensors, element by element",
    "embedding": "rows looked up in a table",
    "normalisation": "batch, layer, group or RMS normalisation",
    "pooling": "the largest or the mean of windows, or of whole maps",
    "reshape": "the same values in another shape or order",
    "softmax": "softmax",
    "other": "anything else",
}
"""Kinds of operations, and what each is."""

COMPUTED, MOVED, FUSED, ELSEWHERE = "computed", "moved", "fused", "elsewhere"
"""What a chip does with an operation, see `accelsim.chips.operations`."""
