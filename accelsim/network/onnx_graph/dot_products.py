"""Scaled dot products of an attention that are written out, and what of them a mask or shared keys spare.

Exporters scale queries and keys by the same number, the root of the scale, add a mask to the scores, and put zero where
all keys are masked. That is one product and one softmax, as `scaled_dot_product_attention` of PyTorch is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.network.graph import ActivationProduct
from accelsim.network.onnx_graph.forms import STANDARD, input_of
from accelsim.network.onnx_graph.prepared import Prepared
from accelsim.network.onnx_graph.scope import numbers_of
from accelsim.network.onnx_graph.written_out import Values, WrittenOut

MASKED = -1e4
"""What is added to a score that counts for nothing, at most: the least that half precision has is -65504."""

BETWEEN = ("Add", "Where", "Softmax", "Mul", "Div", "Reshape")
"""Operations between scores and their softmax, and between that and the product with the values."""


class Attended(NamedTuple):
    """The two products of an attention."""

    scores: Any
    """The node of the product of queries by keys."""
    values: Any
    """That of the product of probabilities by values."""
    written_out: tuple[WrittenOut, ...]
    """The first with what scales its operands, and the softmax with its mask, where they are written out."""
    causal: bool
    """Whether a mask that the file holds leaves each query only keys up to its own place."""

    def product_of(self, node: Any, product: ActivationProduct, values: Values) -> ActivationProduct:
        """Return one of the products with what the mask spares, and with the operands that heads share."""
        shared = shared_by(values, node.input[1], product)
        return product._replace(causal=product.causal or self.causal, operand_groups=shared or product.operand_groups)


def attentions(ready: Prepared, values: Values, is_product: Callable[[Any], bool]) -> Iterator[Attended]:
    """Go through the attentions of a graph, of those nodes that are products of activations."""
    for node in ready.nodes:
        if is_product(node):
            found = _attended(ready, values, node, is_product)
            if found is not None:
                yield found


def is_masked_later(ready: Prepared, values: Values, node: Any) -> bool:
    """Return whether the mask of an attention that is one node leaves each query only keys up to its own place."""
    mask = input_of(node, 3) if node.op_type == "Attention" and node.domain in STANDARD else ""
    mask, _ = values.behind(mask)
    constant = ready.constants.get(mask)
    shape = list(constant.dims if constant is not None else ready.shapes.get(mask, ()))
    kinds = [None, False] if constant is None else [False if constant.dtype == bool else None]
    return bool(mask) and any(Masks(ready, values, shape).is_causal(mask, is_true=each) for each in kinds)


def _attended(ready: Prepared, values: Values, node: Any, is_product: Callable[[Any], bool]) -> Attended | None:
    """Return the attention whose scores a node makes, None where no softmax and no second product follow."""
    causal, softmax, seen, last = False, None, [node], node.output[0]
    while True:
        following = [each for each in values.takers(last) if each.op_type != "IsNaN"]
        if len(following) != 1 or not values.is_within(last):
            return None
        (user,) = following
        if is_product(user) and softmax is not None and user.input[0] == last:
            break
        if user.op_type not in (*BETWEEN, "Cast", "Identity", "Dropout") or user.domain not in STANDARD:
            return None
        if softmax is None and user.op_type in ("Add", "Where"):
            causal |= _masks_later(ready, values, user, last)
        softmax = user if user.op_type == "Softmax" else softmax
        seen.append(user)
        last = user.output[0]
    return Attended(node, user, tuple(_joined(ready, values, node, softmax)), causal)


def _joined(ready: Prepared, values: Values, node: Any, softmax: Any) -> Iterator[WrittenOut]:
    """Yield the product of scaled queries by scaled keys, and the softmax that its mask and its zeros belong to."""
    scaled = [_scaled(values, name) for name in node.input[:2]]
    scales = [each[1] for each in scaled if each is not None]
    is_scaled = len(scales) == 2 and math.isclose(*scales) and scales[0] > 0
    if is_scaled:
        makers = [values.makers[name] for name in node.input[:2]]
        yield WrittenOut("", [*makers, node], [each[0] for each in scaled if each is not None])
    before = values.makers.get(values.behind(softmax.input[0])[0])
    nodes, takes = [softmax], [softmax.input[0]]
    if is_scaled and before is not None and before.op_type == "Add" and values.is_within(before.output[0]):
        scores = [name for name in before.input if values.behind(name)[0] == node.output[0]]
        if len(scores) == 1:
            nodes, takes = [before, softmax], [*scores, *(name for name in before.input if name not in scores)]
    nodes += _zeros(values, softmax)
    if len(nodes) > 1:
        yield WrittenOut("Softmax", nodes, takes)


def _scaled(values: Values, name: str) -> tuple[str, float] | None:
    """Return what is multiplied by a number, and by which, where one product alone takes the result."""
    node = values.makers.get(name)
    if node is None or node.op_type != "Mul" or node.domain not in STANDARD or len(values.takers(name)) != 1:
        return None
    numbers = [values.number(each) for each in node.input]
    known = [each for each in numbers if each is not None]
    if len(known) != 1 or not values.is_within(name):
        return None
    return node.input[numbers.index(None)], known[0]


def _zeros(values: Values, softmax: Any) -> list[Any]:
    """Return what puts zero where a softmax has nothing to take, as all keys are masked."""
    made = softmax.output[0]
    takers = {each.op_type: each for each in values.takers(made)}
    if takers.keys() != {"IsNaN", "Where"} or len(values.takers(made)) != 2 or not values.is_within(made):
        return []
    test, choice = takers["IsNaN"], takers["Where"]
    is_theirs = list(choice.input)[::2] == [test.output[0], made] and values.number(choice.input[1]) == 0
    alone = len(values.takers(test.output[0])) == 1 and values.is_within(test.output[0])
    return [test, choice] if is_theirs and alone else []


def _masks_later(ready: Prepared, values: Values, node: Any, scores: str) -> bool:
    """Return whether what is added to scores, or stands in their place, masks all keys behind a query's own place."""
    masks = Masks(ready, values, list(ready.shapes.get(scores, ())))
    if node.op_type == "Add":
        return any(masks.is_causal(name) for name in node.input if name != scores)
    return masks.is_causal(node.output[0])


class Masks:
    """Masks of scores of one shape, (..., queries, keys), as the constants of a file make them."""

    def __init__(self, ready: Prepared, values: Values, shape: list[int]) -> None:
        self._ready, self._values = ready, values
        self._later = np.zeros((0, 0), bool)
        if len(shape) >= 2:
            queries, keys = shape[-2:]
            self._later = np.triu(np.ones((queries, keys), bool), keys - queries + 1)
        """Keys behind the place of a query, the last query at the last key."""

    def is_causal(self, name: str, *, is_true: bool | None = None) -> bool:
        """Return whether a value masks all later keys: by numbers so low, or by being true there, or false.

        is_true: what a mask of truths is where it masks; None: a mask of numbers.
        """
        name, _ = self._values.behind(name)
        array = self._constant(name)
        if array is not None:
            masked = array.astype(bool) == is_true if is_true is not None else array <= MASKED
            return bool(self._later.any() and masked[..., self._later].all())
        node = self._values.makers.get(name)
        if node is None or node.domain not in STANDARD:
            return False
        match node.op_type:
            case "Add" if is_true is None:
                return any(self.is_causal(each) for each in node.input)
            case "And" if is_true is False:
                return any(self.is_causal(each, is_true=False) for each in node.input)
            case "Or" if is_true is True:
                return any(self.is_causal(each, is_true=True) for each in node.input)
            case "Not" if is_true is not None:
                return self.is_causal(node.input[0], is_true=not is_true)
            case "Where" if is_true is None:
                condition, *chosen = node.input
                lows = [self._is_low(each) for each in chosen]
                return any(low and self.is_causal(condition, is_true=at == 0) for at, low in enumerate(lows))
            case "Unsqueeze" | "Expand" | "Reshape":
                before, after = (self._ready.shapes.get(each, ()) for each in (node.input[0], node.output[0]))
                same = list(before[-2:]) == list(after[-2:]) == list(self._later.shape)
                return same and self.is_causal(node.input[0], is_true=is_true)
        return False

    def _constant(self, name: str) -> NDArray[Any] | None:
        """Return a constant of the size of the scores of a head, or of several."""
        constant = self._ready.constants.get(name)
        if constant is None or constant.dims[-2:] != self._later.shape:
            return None
        return constant.read()

    def _is_low(self, name: str) -> bool:
        number = self._values.number(self._values.behind(name)[0])
        return number is not None and number <= MASKED


def shared_by(values: Values, name: str, product: ActivationProduct) -> int:
    """Return how many second operands a product has, of which the file makes one for each group; 0: as many as groups.

    Keys and values that several heads share are stretched over these before they are multiplied.
    """
    shapes, size = values.ready.shapes, product.rows * product.columns
    while (node := values.makers.get(name)) is not None and node.domain in STANDARD:
        before, after = shapes.get(node.input[0], []), shapes.get(name, [])
        match node.op_type:
            case "Mul":
                others = [each for each in node.input if values.number(each) is None]
                if len(others) != 1:
                    return 0
                name = others[0]
                continue
            case "Transpose":
                order = numbers_of(node, "perm", range(len(after))[::-1])
                if order[:-2] != list(range(len(order) - 2)):
                    return 0
            case "Expand":
                spread = [1] * (len(after) - len(before)) + list(before)
                stretched = [at for at, each in enumerate(spread) if each != after[at]]
                if not stretched or math.prod(after[stretched[-1] + 1 :]) % size:
                    return 0
                times = math.prod(after) // max(1, math.prod(before))
                return product.groups // times if product.groups % times == 0 else 0
            case "Reshape" | "Unsqueeze" | "Squeeze" | "Cast" | "Identity":
                pass
            case _:
                return 0
        name = node.input[0]
    return 0
