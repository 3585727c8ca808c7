"""Arithmetic in a space file: derived values, conditions, constraints. Evaluated by simpleeval, which runs no code."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from simpleeval import DEFAULT_OPERATORS, InvalidExpression, SimpleEval

from accelsim.config import short
from accelsim.errors import InputError, raise_if_any

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": abs, "ceil": math.ceil, "floor": math.floor, "log2": math.log2, "max": max, "min": min,
    "round": lambda number, digits=None: _rounded(number, digits), "sqrt": math.sqrt,
}  # fmt: skip
"""What may be called."""

ALLOWED = (
    ast.BinOp, ast.BoolOp, ast.Call, ast.Compare, ast.Constant, ast.IfExp, ast.Name, ast.UnaryOp,
    ast.boolop, ast.cmpop, ast.expr_context, ast.operator, ast.unaryop,
)  # fmt: skip
"""What an expression is made of; everything else is refused before it is evaluated."""

LONGEST = 500
"""Characters of an expression."""

MOST_BITS = 1024
"""Of an integer on the way: as many as the largest float."""

MOST_DIGITS = 400
"""To which a number is rounded: a float has no more before or behind its point."""

SENSES = {ast.LtE: 1, ast.Lt: 1, ast.GtE: -1, ast.Gt: -1}


class Expression:
    """An expression over dotted names, such as `4096 // engine.pes`.

    Raises InputError for text that is none.
    """

    def __init__(self, text: Any, place: str) -> None:
        if not isinstance(text, str):
            raise InputError(
                f'{place}: must be an expression in quotes, as in "4096 // engine.pes" (got {short(text)})'
            )
        self.text, self.place = text, place
        if len(text) > LONGEST:
            raise InputError(f"{place}: is an expression of {len(text)} characters; at most {LONGEST}")
        try:
            tree = _Dotted().visit(ast.parse(text.strip(), mode="eval").body)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise InputError(f"{place}: {text!r} is not an expression ({getattr(error, 'msg', error)})") from None
        called = {node.func for node in ast.walk(tree) if isinstance(node, ast.Call)}
        raise_if_any(dict.fromkeys(f"{place}: {text!r}: {problem}" for problem in _not_allowed(tree, called)))
        self._tree = tree
        every = (node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and node not in called)
        self.names = tuple(dict.fromkeys(every))

    def value(self, names: Mapping[str, Any]) -> Any:
        """Return the value with these names (dotted); raises InputError where it has none."""
        raise_if_any(
            f"{self.place}: {self.text!r}: '{name}' is not known here" for name in self.names if name not in names
        )
        evaluator = SimpleEval(operators=OPERATORS, functions=FUNCTIONS, names={n: names[n] for n in self.names})
        try:
            return _plain(evaluator.eval(self.text, previously_parsed=self._tree))
        except (InvalidExpression, ArithmeticError, TypeError, ValueError, RecursionError) as error:
            values = ", ".join(f"{name} = {short(names[name])}" for name in self.names)
            raise InputError(f"{self.place}: {self.text!r} has no value ({error}; {values})") from None


class Constraint(Expression):
    """A comparison that has to hold, such as `area_mm2 <= 40`."""

    def __init__(self, text: Any, place: str) -> None:
        super().__init__(text, place)
        tree = self._tree
        if not (isinstance(tree, ast.Compare) and len(tree.ops) == 1 and type(tree.ops[0]) in SENSES):
            raise InputError(f"{place}: {text!r}: write one comparison by <=, <, >= or >, as in area_mm2 <= 40")
        self._sense = SENSES[type(tree.ops[0])]
        # The difference of the sides says how far a value is from being allowed.
        self._tree = ast.copy_location(ast.BinOp(tree.left, ast.Sub(), tree.comparators[0]), tree)
        self.strict = isinstance(tree.ops[0], ast.Lt | ast.Gt)

    def violation(self, names: Mapping[str, Any]) -> float:
        """Return by how much it is broken; at most 0 where it holds, NaN where a value is empty."""
        by = self._sense * float(self.value(names))
        return math.ulp(1.0) if self.strict and by == 0 else by


def _power(base: float, exponent: float) -> Any:
    """Return a power that is no larger than a float can be."""
    if abs(exponent) * math.log2(max(abs(base), 2)) > MOST_BITS:
        raise OverflowError("the power is too large")
    return base**exponent


def _remainder(left: Any, right: Any) -> Any:
    """Return a remainder; of text, Python would make a format."""
    if isinstance(left, str):
        raise TypeError("text has no remainder")
    return left % right


def _rounded(number: float, digits: Any) -> Any:
    """Return a number to so many digits; Python would make 10^9 of them."""
    if digits is not None and abs(digits) > MOST_DIGITS:
        raise ValueError(f"round: at most {MOST_DIGITS} digits")
    return round(number, digits)


OPERATORS = DEFAULT_OPERATORS | {ast.Pow: _power, ast.Mod: _remainder}


def _plain(value: Any) -> Any:
    """Return a value that is a number, text, true or false of a moderate size."""
    if not isinstance(value, str | int | float) or (isinstance(value, int) and value.bit_length() > MOST_BITS):
        raise ValueError("it is not a number, or too large")
    return value


class _Dotted(ast.NodeTransformer):
    """Makes one name of `engine.pes`, which Python reads as an attribute of a name."""

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        inner = self.visit(node.value)
        return ast.Name(f"{inner.id}.{node.attr}", ast.Load()) if isinstance(inner, ast.Name) else node


def _not_allowed(tree: ast.AST, called: set[ast.expr]) -> Iterator[str]:
    """Say what an expression has that arithmetic does not need."""
    for node in ast.walk(tree):
        if not isinstance(node, ALLOWED):
            yield "is not arithmetic; write numbers, names, comparisons, and, or, not, if-else"
        elif isinstance(node, ast.Constant) and not isinstance(node.value, str | int | float):
            yield f"{node.value!r} is neither a number nor text"
        elif isinstance(node, ast.Call) and not (isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS):
            yield f"{ast.unparse(node.func)} cannot be called; what can: {', '.join(FUNCTIONS)}"
        elif isinstance(node, ast.Call) and node.keywords:
            yield f"{ast.unparse(node)}: write the arguments without names"
        elif isinstance(node, ast.Name) and node.id in FUNCTIONS and node not in called:
            yield f"{node.id} is a function; call it, as in {node.id}(engine.pes)"
