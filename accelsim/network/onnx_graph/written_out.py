"""Operations that an exporter writes out in pieces, found by their formulas: GELU, SiLU, layer normalisation and so on.

A value and one that it is computed from, x, make a formula: sums, products and powers with the numbers that the file
has. It is brought into one form, in which division is a product and a root a power, whichever way it was written, and
looked up among those of FORMULAS, which are brought into the same form.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

from accelsim.network.onnx_graph.constants import Constant
from accelsim.network.onnx_graph.forms import STANDARD
from accelsim.network.onnx_graph.kinds import PASSED
from accelsim.network.onnx_graph.prepared import Prepared
from accelsim.network.onnx_graph.scope import graphs_of, number_of, numbers_of

FORMULAS: Mapping[str, tuple[str, ...]] = {
    "Gelu": ("0.5 * x * (1 + Erf(x / 2 ** 0.5))", "0.5 * x * (1 + Tanh(0.7978845608 * (x + 0.044715 * x ** 3)))"),
    "QuickGelu": ("x * Sigmoid(1.702 * x)",),
    "Swish": ("x * Sigmoid(x)", "x / (1 + Exp(-x))"),
    "Mish": ("x * Tanh(Softplus(x))", "x * Tanh(Log(1 + Exp(x)))"),
    "HardSwish": ("x * HardSigmoid(x)", "x * Clip(x + 3) / 6"),
    "HardSigmoid": ("Clip(x + 3) / 6",),
    "Softmax": ("Exp(x - ReduceMax(x)) / ReduceSum(Exp(x - ReduceMax(x)))",),
    "LayerNormalization": tuple(
        f"(x - ReduceMean(x)) / (ReduceMean((x - ReduceMean(x)) ** 2) + eps) ** 0.5{end}"
        for end in ("", " * vector", " * vector + vector", " + vector")
    ),
    "RMSNormalization": tuple(f"x / (ReduceMean(x ** 2) + eps) ** 0.5{end}" for end in ("", " * vector")),
}
"""Of each operation its formulas. eps: a number that keeps from dividing by zero; vector: scales or shifts of features;
HardSigmoid(x) is clipped x / 6 + 1 / 2, Clip(x) between 0 and 6; means and sums are over the same axes, which stay."""

LARGEST_EPS = 0.01
LONGEST = 16
"""Operations of the longest formula, those that change no value included."""
CLOSE = 1e-3
"""To which numbers of a file and of a formula agree: half precision has eleven bits."""

ALONE = {
    "Erf", "Tanh", "Sigmoid", "HardSigmoid", "Softplus", "Exp", "Log", "Clip", "ReduceMax", "ReduceSum", "ReduceMean",
}  # fmt: skip
"""Functions of one value: what stands behind their first input says how. One of them is in every formula."""
ROOTS = ("Mul", "Div", "Add")
"""Operations that formulas end with."""


class WrittenOut(NamedTuple):
    """An operation that is written out in several nodes."""

    does: str
    nodes: list[Any]
    """In order; the last gives the result, and nobody else takes what the others give."""
    takes: list[str]
    """What is computed from, each once."""


def written_out(values: Values) -> Iterator[WrittenOut]:
    """Go through the operations of a graph that are written out in pieces."""
    gone: set[int] = set()
    for node in reversed(values.ready.nodes):
        if id(node) in gone or node.domain not in STANDARD:
            continue
        found = _rolled(values, node) if node.op_type == "Concat" else _found(values, node)
        if found is not None and not any(id(each) in gone for each in found.nodes):
            gone.update(id(each) for each in found.nodes)
            yield found


class Term(NamedTuple):
    """An expression in its one form."""

    kind: str
    """number, x, eps, vector, sum, product, or what a function is called."""
    parts: tuple[tuple[Any, float], ...] = ()
    """Of a sum: terms and how often each is taken; of a product: factors and their powers; of a function its argument,
    once."""
    number: float = 0.0
    """What is added to a sum, or multiplied by a product."""


X, EPS, VECTOR = Term("x"), Term("eps"), Term("vector")


UNKNOWN = Term("unknown")


def _number(value: float) -> Term:
    return Term("number", number=value)


def _sorted(parts: Mapping[Term, float]) -> tuple[tuple[Term, float], ...]:
    return tuple(sorted(((term, count) for term, count in parts.items() if count), key=lambda each: _shape(each[0])))


def _shape(term: Term) -> str:
    """Return the text of an expression without its numbers, by which parts are ordered."""
    return f"{term.kind}({','.join(_shape(each) for each, _ in term.parts)})"


def _is_close(one: Term, other: Term) -> bool:
    """Return whether two expressions are the same but for the rounding of their numbers."""
    return (
        one.kind == other.kind
        and math.isclose(one.number, other.number, rel_tol=CLOSE)
        and len(one.parts) == len(other.parts)
        and all(
            math.isclose(mine, theirs, rel_tol=CLOSE) and _is_close(each, another)
            for (each, mine), (another, theirs) in zip(one.parts, other.parts, strict=True)
        )
    )


def _sum(terms: Iterable[tuple[Term, float]]) -> Term:
    """Return a sum of terms, each so many times."""
    number, parts = 0.0, dict[Term, float]()
    for term, count in terms:
        inner = term.parts if term.kind == "sum" else ()
        number += count * term.number if term.kind in ("sum", "number") else 0
        if term.kind == "product" and term.number != 1:
            inner = ((_plain_product(term), term.number),)
        elif term.kind not in ("sum", "number"):
            inner = ((term, 1.0),)
        for each, times in inner:
            parts[each] = parts.get(each, 0) + count * times
    found = _sorted(parts)
    if not found:
        return _number(number)
    if len(found) == 1 and not number:
        return _product([(found[0][0], 1), (_number(found[0][1]), 1)])
    return Term("sum", found, number)


def _plain_product(term: Term) -> Term:
    """Return a product without its number."""
    ((only, power), *more) = term.parts
    return only if power == 1 and not more else Term("product", term.parts, 1.0)


def _product(factors: Iterable[tuple[Term, float]]) -> Term:
    """Return a product of factors, each to a power."""
    number, parts = 1.0, dict[Term, float]()
    for term, power in factors:
        if term.kind in ("number", "product"):
            if (term.number <= 0 and power != int(power)) or (not term.number and power < 0):
                return UNKNOWN
            number *= term.number**power
        inner = term.parts if term.kind == "product" else () if term.kind == "number" else ((term, 1.0),)
        for each, times in inner:
            parts[each] = parts.get(each, 0) + power * times
    found = _sorted(parts)
    if not found or not number:
        return _number(number)
    if len(found) == 1 and found[0][1] == 1 and number == 1:
        return found[0][0]
    return Term("product", found, number)


def _called(name: str, argument: Term) -> Term:
    return Term(name, ((argument, 1.0),))


@cache
def _formulas() -> tuple[tuple[Term, str], ...]:
    """Return the one form of each formula, and what it is called."""
    return tuple(
        (_parsed(ast.parse(text, mode="eval").body), name) for name, texts in FORMULAS.items() for text in texts
    )


def _name_of(term: Term) -> str:
    """Return what a formula is called, empty where it is not known."""
    return next((name for each, name in _formulas() if _is_close(each, term)), "")


def _parsed(tree: ast.expr) -> Term:
    """Return the one form of a formula of FORMULAS."""
    match tree:
        case ast.Constant(value=int() | float() as value):
            return _number(value)
        case ast.Name(id=name):
            return Term(name)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _product([(_parsed(operand), 1), (_number(-1), 1)])
        case ast.Call(func=ast.Name(id=name), args=[argument]):
            return _called(name, _parsed(argument))
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return _product([(_parsed(left), _parsed(right).number)])
        case ast.BinOp(left=left, op=ast.Mult() | ast.Div() as op, right=right):
            return _product([(_parsed(left), 1), (_parsed(right), 1 if isinstance(op, ast.Mult) else -1)])
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() as op, right=right):
            return _sum([(_parsed(left), 1), (_parsed(right), 1 if isinstance(op, ast.Add) else -1)])
    raise ValueError(f"no formula: {ast.dump(tree)}")


class Values:
    """The values of a graph: what makes each, and who takes it."""

    def __init__(self, ready: Prepared) -> None:
        self.ready = ready
        self.makers = {name: node for node in ready.nodes for name in node.output if name}
        self._places = {id(node): place for place, node in enumerate(ready.nodes)}
        self._takers: dict[str, list[Any]] = {}
        for node in ready.nodes:
            for name in dict.fromkeys(node.input):
                self._takers.setdefault(name, []).append(node)
        self._given = set(ready.outputs)
        for node in ready.closed:
            self._given.update(node.input)
            for _, body in graphs_of(node):
                self._given.update(_taken(body))

    def place(self, node: Any) -> int:
        """Return which operation of the graph a node is."""
        return self._places[id(node)]

    def takers(self, name: str) -> list[Any]:
        """Return the operations that take a value."""
        return self._takers.get(name, [])

    def is_within(self, name: str) -> bool:
        """Return whether a value is needed by operations of the graph alone, and not given or taken by a body."""
        return name not in self._given

    def behind(self, name: str) -> tuple[str, list[Any]]:
        """Return the value that a value is, before what changes no value, and the nodes of that."""
        passed = []
        while (node := self.makers.get(name)) is not None and node.op_type in PASSED:
            passed.append(node)
            name = node.input[0]
        return name, passed

    def number(self, name: str) -> float | None:
        """Return the number that a constant is, None where it is none or has several elements."""
        constant = self.ready.constants.get(name)
        if constant is None or constant.size != 1 or constant.dtype.kind not in "fiu":
            return None
        return float(constant.read().reshape(-1)[0])


def _taken(body: Any) -> Iterator[str]:
    """Go through the names that the operations of a body take, those of bodies inside included."""
    for node in body.node:
        yield from node.input
        for _, inner in graphs_of(node):
            yield from _taken(inner)


def _found(graph: Values, root: Any) -> WrittenOut | None:
    """Return the longest formula that ends in a node, None where it is none that is known."""
    longest = None
    if root.op_type not in ROOTS:
        return None
    for x in _sources(graph, root):
        formula = _Formula(graph, x)
        term = formula.of(root.output[0])
        does = _name_of(term)
        if does and formula.is_alone(root) and (longest is None or len(formula.nodes) > len(longest.nodes)):
            longest = WrittenOut(does, sorted(formula.nodes.values(), key=graph.place), [x])
    return longest


def _rolled(values: Values, node: Any) -> WrittenOut | None:
    """Return a roll: what is behind a place along an axis, and then what is before it."""
    parts = [values.makers.get(name) for name in node.input]
    if len(parts) != 2 or any(each is None or each.op_type != "Slice" or len(each.input) < 4 for each in parts):
        return None
    (x, *others), axis = {each.input[0] for each in parts if each is not None}, number_of(node, "axis", 0)
    shape = values.ready.shapes.get(x)
    alone = all(len(values.takers(name)) == 1 and values.is_within(name) for name in node.input)
    if others or shape is None or not alone:
        return None
    ranges = []
    for each in parts:
        said = [values.number(name) for name in each.input[1:]] if each is not None else []
        if None in said or int(said[2] or 0) % len(shape) != axis % len(shape):
            return None
        start, end, _, *step = (int(number or 0) for number in said)
        ranges.append(range(shape[axis])[start : end : (step or [1])[0]])
    later, sooner = ranges
    is_whole = len(later) > 0 < len(sooner) and [*sooner, *later] == list(range(shape[axis]))
    return WrittenOut("Roll", [*(each for each in parts if each is not None), node], [x]) if is_whole else None


def _sources(graph: Values, root: Any) -> list[str]:
    """Return the values from which a formula that ends in a node may be computed; none where no function is in it."""
    found: dict[str, None] = {}
    waiting, seen, is_one = [root], {id(root)}, False
    while waiting and len(seen) <= LONGEST:
        node = waiting.pop(0)
        for name in (each for each in node.input if each and each not in graph.ready.constants):
            real = graph.behind(name)[0]
            found[real] = None
            maker = graph.makers.get(real)
            if maker is not None and id(maker) not in seen and maker.op_type in KNOWN and maker.domain in STANDARD:
                is_one |= maker.op_type in ALONE
                seen.add(id(maker))
                waiting.append(maker)
    return list(found) if is_one else []


@dataclass
class _Formula:
    """What a value is as a formula of another, x."""

    graph: Values
    x: str
    nodes: dict[int, Any] = field(default_factory=dict)
    """Those of which it is made."""
    axes: set[tuple[int, ...]] = field(default_factory=set)
    """Over which means and sums are."""

    def of(self, name: str) -> Term:
        """Return the formula of a value; "unknown" where it has other parts than those of FORMULAS."""
        real, passed = self.graph.behind(name)
        if real == self.x:
            return X
        self.nodes.update((id(node), node) for node in passed)
        constant = self.graph.ready.constants.get(real)
        if constant is not None:
            return self._constant(real, constant)
        node = self.graph.makers.get(real)
        if node is None or node.domain not in STANDARD or node.op_type not in KNOWN or len(self.nodes) > LONGEST:
            return UNKNOWN
        self.nodes[id(node)] = node
        arguments = [self.of(each) for each in node.input[: 1 if node.op_type in ALONE else 2]]
        if UNKNOWN in arguments:
            return UNKNOWN
        return KNOWN[node.op_type](self, node, *arguments)

    def _constant(self, name: str, constant: Constant) -> Term:
        value = self.graph.number(name)
        if value is not None:
            return _number(value)
        shape = self.graph.ready.shapes.get(self.x, ())
        is_vector = constant.dims and constant.size == constant.dims[-1] == (shape[-1] if shape else 0)
        return VECTOR if is_vector else UNKNOWN

    def is_alone(self, root: Any) -> bool:
        """Return whether nobody else takes what is between x and the result, and all is over the same last axes."""
        rank = len(self.graph.ready.shapes.get(self.x, ()))
        if len(self.axes) > 1 or any(axes != tuple(range(rank - len(axes), rank)) for axes in self.axes):
            return False
        values = [name for node in self.nodes.values() if node is not root for name in node.output if name]
        inside = all(id(taker) in self.nodes for name in values for taker in self.graph.takers(name))
        return inside and all(map(self.graph.is_within, values))

    def reduced(self, node: Any, term: Term) -> Term:
        """Return a mean, sum or largest of what is computed from x, whose axes stay; others are not known."""
        rank = len(self.graph.ready.shapes.get(self.x, ()))
        axes = numbers_of(node, "axes", ())
        if len(node.input) > 1 and node.input[1]:
            constant = self.graph.ready.constants.get(node.input[1])
            if constant is None:
                return UNKNOWN
            axes = [int(each) for each in constant.read().reshape(-1)]
        if not axes or not number_of(node, "keepdims", 1):
            return UNKNOWN
        self.axes.add(tuple(sorted(axis % rank for axis in axes)))
        return _called(node.op_type, term)

    def shifted(self, one: Term, other: Term, sign: int = 1) -> Term:
        """Return a sum, in which a small number beside a mean is an epsilon."""
        pair = [one, other]
        for at, each in enumerate(pair):
            is_small = each.kind == "number" and 0 < each.number <= LARGEST_EPS
            if is_small and pair[1 - at].kind == "ReduceMean":
                pair[at] = EPS
        return _sum([(pair[0], 1), (pair[1], sign)])

    def clipped(self, node: Any, term: Term) -> Term:
        """Return what lies between 0 and 6."""
        ends = {each.name: each.f for each in node.attribute}
        for at, name in ((1, "min"), (2, "max")):
            if len(node.input) > at and node.input[at]:
                ends[name] = self.graph.number(node.input[at])
        return _called("Clip", term) if (ends.get("min"), ends.get("max")) == (0, 6) else UNKNOWN


def _hard_sigmoid(_: _Formula, node: Any, term: Term) -> Term:
    said = {each.name: each.f for each in node.attribute}
    is_usual = math.isclose(said.get("alpha", 0.2), 1 / 6, rel_tol=CLOSE) and said.get("beta", 0.5) == 0.5
    return _called("HardSigmoid", term) if is_usual else UNKNOWN


def _power(_: _Formula, __: Any, term: Term, power: Term) -> Term:
    return _product([(term, power.number)]) if power.kind == "number" else UNKNOWN


def _is(power: float) -> Callable[..., Term]:
    return lambda _, __, term: _product([(term, power)])


KNOWN: Mapping[str, Callable[..., Term]] = {
    "Add": lambda formula, _, one, other: formula.shifted(one, other),
    "Sub": lambda formula, _, one, other: formula.shifted(one, other, -1),
    "Mul": lambda _, __, one, other: _product([(one, 1), (other, 1)]),
    "Div": lambda _, __, one, other: _product([(one, 1), (other, -1)]),
    "Pow": _power,
    "Sqrt": _is(0.5),
    "Reciprocal": _is(-1),
    "Neg": lambda _, __, term: _product([(term, 1), (_number(-1), 1)]),
    "Clip": _Formula.clipped,
    "HardSigmoid": _hard_sigmoid,
    **dict.fromkeys(("ReduceMean", "ReduceMax", "ReduceSum"), _Formula.reduced),
    **dict.fromkeys(
        ("Erf", "Tanh", "Sigmoid", "Softplus", "Exp", "Log"), lambda _, node, term: _called(node.op_type, term)
    ),
}
"""What becomes of the formulas of what an operation takes, by its type."""
