"""Einsum equations: which letters are contracted, and whether one is a product of matrices."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Equation(NamedTuple):
    """Letters of the operands and of the output; what stood for `...` has letters of its own."""

    operands: tuple[str, ...]
    output: str
    sizes: Mapping[str, int]

    @property
    def macs(self) -> int:
        """Multiply-accumulates, operand after operand from the left; 0 where nothing is summed."""
        left, total = self.operands[0], 0
        for number, right in enumerate(self.operands[1:], 1):
            later = set(self.output).union(*self.operands[number + 1 :])
            letters = set(left) | set(right)
            if letters - later:
                total += self.size(letters)
            left = "".join(sorted(letters & later))
        return total

    def size(self, letters: Sequence[str] | set[str]) -> int:
        """Return the product of the sizes of letters."""
        return math.prod(self.sizes[letter] for letter in letters)

    def product(self, constant: int) -> Letters | None:
        """Return this as products of matrices with operand 0 or 1 of two, None where it is not one."""
        if len(self.operands) != 2 or any(len(set(each)) < len(each) for each in (*self.operands, self.output)):
            return None
        weight, data = self.operands[constant], self.operands[1 - constant]
        if set(weight) - set(data) - set(self.output) or set(data) - set(weight) - set(self.output):
            return None  # summed over before it is multiplied
        found = Letters(
            groups="".join(each for each in weight if each in data and each in self.output),
            rows="".join(each for each in weight if each not in data),
            columns="".join(each for each in weight if each not in self.output),
            vectors="".join(each for each in data if each not in weight),
        )
        return found if found.columns else None


class Letters(NamedTuple):
    """The letters of a product: of each group (rows, columns) times (columns, vectors)."""

    groups: str
    rows: str
    columns: str
    vectors: str


def equation_of(text: str, shapes: Sequence[Sequence[int]]) -> Equation:
    """Return an equation for operands of these shapes; raises ValueError where they do not fit."""
    left, arrow, output = text.replace(" ", "").partition("->")
    operands = left.split(",")
    if len(operands) != len(shapes):
        raise ValueError(f"its equation {text} has {len(operands)} operands, the node {len(shapes)}")
    free = (letter for number in itertools.count() if (letter := chr(0x3B1 + number)) not in text)
    rest = max(
        len(shape) - len(each.replace("...", "")) for each, shape in zip(operands, shapes, strict=True)
    )  # dimensions behind `...`
    stands = "".join(itertools.islice(free, max(rest, 0)))
    sizes: dict[str, int] = {}
    spelled = []
    for each, shape in zip(operands, shapes, strict=True):
        hidden = len(shape) - len(each.replace("...", ""))
        letters = each.replace("...", stands[len(stands) - hidden :] if hidden > 0 else "")
        if len(letters) != len(shape):
            raise ValueError(f"its equation {text} does not fit an operand of shape {list(shape)}")
        for letter, size in zip(letters, shape, strict=True):
            if sizes.setdefault(letter, size) not in (size, 1) and size != 1:
                raise ValueError(f"its equation {text} has sizes {sizes[letter]} and {size} for '{letter}'")
            sizes[letter] = max(sizes[letter], size)
        spelled.append(letters)
    if not arrow:
        times = Counter("".join(operands).replace(".", ""))
        output = "..." + "".join(sorted(letter for letter, count in times.items() if count == 1))
    return Equation(tuple(spelled), output.replace("...", stands), sizes)
