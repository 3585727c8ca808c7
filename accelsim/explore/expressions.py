"""Arithmetic in a space file: derived values, conditions, constraints. Evaluated by simpleeval, which runs no code."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping
from typing import Any

from simpleeval import DEFAULT_OPERATORS, InvalidExpression, SimpleEval

from accelsim.errors import InputError

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": abs, "ceil": math.ceil, "floor": math.floor, "log2": math.log2, "max": max, "min": min, "round": round,
    "sqrt": math.sqrt,
}  # fmt: skip
"""What may be called."""

SENSES = {ast.LtE: 1, ast.Lt: 1, ast.GtE: -1, ast.Gt: -1}


class Expression:
    """An expression over dotted names, such as `4096 // engine.pes`.

    Raises InputError for text that is none.
    """

    def __init__(self, text: Any, place: str) -> None:
        if not isinstance(text, str):
            raise InputError(f'{place}: must be an expression in quotes, as in "4096 // engine.pes" (got {text!r})')
        self.text, self.place = text, place
        try:
            tree = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise InputError(f"{place}: {text!r} is no expression ({getattr(error, 'msg', error)})") from None
        self._tree = tree
        self.names = tuple(dict.fromkeys(_names(tree)))

    def value(self, names: Mapping[str, Any]) -> Any:
        """Return the value with these names (dotted); raises InputError where it has none."""
        nested: dict[str, Any] = {}
        for name in self.names:
            if name not in names:
                raise InputError(f"{self.place}: {self.text!r}: '{name}' is not known here")
            *tables, last = name.split(".")
            table = nested
            for part in tables:
                table = table.setdefault(part, {})
            table[last] = names[name]
        evaluator = SimpleEval(operators=DEFAULT_OPERATORS, functions=FUNCTIONS, names=nested)
        try:
            return evaluator.eval(self.text, previously_parsed=self._tree)
        except (InvalidExpression, ArithmeticError, TypeError, ValueError) as error:
            values = ", ".join(f"{name} = {names[name]!r}" for name in self.names)
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


def _names(node: ast.AST) -> list[str]:
    """Return the dotted names of an expression; functions that are called are none."""
    if isinstance(node, ast.Attribute | ast.Name):
        parts: list[str] = []
        inner: ast.AST = node
        while isinstance(inner, ast.Attribute):
            parts.append(inner.attr)
            inner = inner.value
        if isinstance(inner, ast.Name):
            return [".".join([inner.id, *reversed(parts)])]
    children = ast.iter_child_nodes(node)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS:
        children = iter(node.args)
    return [name for child in children for name in _names(child)]
