"""What an arithmetic operation costs, by precision and node."""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from accelsim.chips import Technology
from accelsim.config import read_table, shipped_dir
from accelsim.errors import InputError
from accelsim.number_formats import NUMBER_FORMATS
from accelsim.scaling import SCALING_SOURCE, energy_scale

FLOATING = {name: form for name, form in NUMBER_FORMATS.items() if form.family == "fp"}

OPERATIONS = ("multiply", "add", "mac")


class Arithmetic(NamedTuple):
    """The energy of one operation, and whether its source states it or a rule made it from what the source states."""

    pj: float
    kind: str
    """published or derived"""
    source: str


def arithmetic_pj(technology: Technology, operation: str, precision: str) -> float:
    """Return the energy of one operation; see `arithmetic`."""
    return arithmetic(technology, operation, precision).pj


def arithmetic(technology: Technology, operation: str, precision: str) -> Arithmetic:
    """Return the energy of "multiply", "add" or "mac" at a precision: int<bits> or a floating-point `NumberFormat`.

    All from the one table that the technology chooses. What it lacks is derived, with the bits of an integer or of a
    significand as width: a multiply by the power law through the narrowest and widest published ones (with the square
    of the width where one is published, as Accelergy's plug-in scales Aladdin's); an add linearly between published
    ones and in proportion outside. A multiply-accumulate adds in 32 bits of the same kind, or in its own if wider.
    Other nodes than the table's are reached by `energy_scale`, and count as derived.
    Raises InputError for an unknown operation or precision.
    """
    family, width = _parse(precision)
    if operation == "mac":
        wide = precision if width >= _width_of_32(family) else f"{family}32"
        parts = arithmetic(technology, "multiply", precision), arithmetic(technology, "add", wide)
        kind = "published" if all(part.kind == "published" for part in parts) else "derived"
        return Arithmetic(sum(part.pj for part in parts), kind, f"{parts[0].source}; {wide} add")
    if operation not in OPERATIONS:
        raise InputError(f"operation: must be one of {', '.join(OPERATIONS)} (got {operation!r})")
    published = _published(technology.arithmetic, operation, family)
    pj = published.points.get(width)
    kind, rule = "published", ""
    if pj is None or precision not in published.precisions:
        kind, rule = "derived", ": by width"
        pj = (_multiply_pj if operation == "multiply" else _add_pj)(published.points, width)
    if technology.node_nm != published.node_nm:
        kind = "derived"
    pj *= energy_scale(published.node_nm, technology.node_nm)
    return Arithmetic(pj, kind, published.source + rule + scaled(published.node_nm, technology))


def multiply_pj(technology: Technology, bits_a: int, bits_b: int) -> float:
    """Return the energy of an integer multiply by the power law of `arithmetic`.

    Operands of different width count as their geometric mean, as the area of an array multiplier does.
    """
    published = _published(technology.arithmetic, "multiply", "int")
    pj = _multiply_pj(published.points, math.sqrt(bits_a * bits_b))
    return pj * energy_scale(published.node_nm, technology.node_nm)


def scaled(from_nm: int, technology: Technology) -> str:
    """Return what the source of a price says about scaling: nothing at the node it was measured at."""
    same = from_nm == technology.node_nm
    return "" if same else f"; {from_nm} to {technology.node_nm} nm by {SCALING_SOURCE}"


def _parse(precision: str) -> tuple[str, int]:
    """Return family (int or fp) and width."""
    if precision in FLOATING:
        return "fp", FLOATING[precision].significand_bits
    if match := re.fullmatch(r"int([1-9][0-9]?)", precision):
        return "int", int(match[1])
    raise InputError(f"precision: must be int1 to int99, or one of {', '.join(FLOATING)} (got {precision!r})")


def _width_of_32(family: str) -> int:
    return _parse(f"{family}32")[1]


class _Published(NamedTuple):
    """The rows of one table for one operation: width -> pJ, narrowest first."""

    points: dict[int, float]
    precisions: frozenset[str]
    node_nm: int
    source: str


@lru_cache(maxsize=16)
def _published(table: str, operation: str, family: str) -> _Published:
    rows = [
        row
        for row in read_table(shipped_dir("hwconfigs") / "technology" / "arithmetic.csv")
        if row["table"] == table and row["operation"] == operation and _parse(row["precision"])[0] == family
    ]
    points = {_parse(row["precision"])[1]: float(row["pj"]) for row in rows}
    names = frozenset(row["precision"] for row in rows)
    return _Published(dict(sorted(points.items())), names, int(rows[0]["node_nm"]), rows[0]["source"])


def _multiply_pj(points: dict[int, float], width: float) -> float:
    narrow, wide = min(points), max(points)
    exponent = math.log(points[wide] / points[narrow]) / math.log(wide / narrow) if wide > narrow else 2.0
    return float(points[narrow] * (width / narrow) ** exponent)


def _add_pj(points: dict[int, float], width: float) -> float:
    inside = min(max(width, min(points)), max(points))
    return float(np.interp(inside, list(points), list(points.values()))) * width / inside
