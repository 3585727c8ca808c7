"""What an arithmetic operation costs in energy and area, by precision and node."""

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
from accelsim.scaling import SCALING_SOURCE, area_scale, energy_scale

FLOATING = {name: form for name, form in NUMBER_FORMATS.items() if form.family == "fp"}

OPERATIONS = ("multiply", "add", "mac")


class Arithmetic(NamedTuple):
    """The energy of one operation, and whether its source states it or a rule made it from what the source states."""

    pj: float
    kind: str
    """published or derived"""
    source: str
    um2: float
    """The area of the circuit that does one in a cycle."""


def arithmetic_pj(technology: Technology, operation: str, precision: str) -> float:
    """Return the energy of one operation; see `arithmetic`."""
    return arithmetic(technology, operation, precision).pj


@lru_cache(maxsize=1024)
def arithmetic(technology: Technology, operation: str, precision: str) -> Arithmetic:
    """Return the cost of "multiply", "add" or "mac" at a precision: int<bits> or a floating-point `NumberFormat`.

    All from the one table that the technology chooses. What it lacks is derived, with the bits of an integer or of a
    significand as width: a multiply by the power law through the narrowest and widest published ones (with the square
    of the width where one is published, as Accelergy's plug-in scales Aladdin's); an add linearly between published
    ones and in proportion outside. A multiply-accumulate adds in 32 bits of the same kind, or in its own if wider.
    Other nodes than the table's are reached by `energy_scale` and `area_scale`, and count as derived.
    Raises InputError for an unknown operation or precision.
    """
    if operation == "mac":
        return multiply_accumulate(technology, precision, 32)
    family, width = _parse(precision)
    if operation not in OPERATIONS:
        raise InputError(f"operation: must be one of {', '.join(OPERATIONS)} (got {operation!r})")
    published = _published(technology.arithmetic, operation, family)
    known = precision in published.precisions
    of_width = _multiply if operation == "multiply" else _add
    pj, um2 = (points[width] if known else of_width(points, width) for points in (published.pj, published.um2))
    return Arithmetic(
        pj * energy_scale(published.node_nm, technology.node_nm),
        "published" if known and technology.node_nm == published.node_nm else "derived",
        published.source + ("" if known else ": by width") + scaled(published.node_nm, technology),
        um2 * area_scale(published.node_nm, technology.node_nm),
    )


def multiply_accumulate(technology: Technology, precision: str, sum_bits: int) -> Arithmetic:
    """Return the cost of a multiply at a precision and an add in a sum of its kind, int or fp, of 16, 32 or 64 bits.

    A sum is never narrower than the precision. Errors are those of `arithmetic`.
    """
    family, width = _parse(precision)
    wide = f"{family}{sum_bits}"
    wide = precision if width >= _parse(wide)[1] else wide
    parts = arithmetic(technology, "multiply", precision), arithmetic(technology, "add", wide)
    kind = "published" if all(part.kind == "published" for part in parts) else "derived"
    return Arithmetic(
        sum(part.pj for part in parts), kind, f"{parts[0].source}; {wide} add", sum(part.um2 for part in parts)
    )


@lru_cache(maxsize=1024)
def register_um2(technology: Technology) -> float:
    """Return the area of a bit of a register: Aladdin's, whose energy every technology has."""
    return _part("register", technology).um2


def selection(technology: Technology, ways: int, bits: int) -> Arithmetic:
    """Return the cost of taking one of so many operands: a gate for every bit of each, Aladdin's bitwise operator."""
    gates, part = ways * bits if ways > 1 else 0, _part("bitwise", technology)
    return part._replace(pj=gates * part.pj, um2=gates * part.um2)


@lru_cache(maxsize=1024)
def multiply_pj(technology: Technology, bits_a: int, bits_b: int) -> float:
    """Return the energy of an integer multiply by the power law of `arithmetic`.

    Operands of different width count as their geometric mean, as the area of an array multiplier does.
    """
    published = _published(technology.arithmetic, "multiply", "int")
    pj = _multiply(published.pj, math.sqrt(bits_a * bits_b))
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


class _Published(NamedTuple):
    """The rows of one table for one operation: width -> pJ and um2, narrowest first."""

    pj: dict[int, float]
    um2: dict[int, float]
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
    rows.sort(key=lambda row: _parse(row["precision"])[1])
    pj, um2 = ({_parse(row["precision"])[1]: float(row[column]) for row in rows} for column in ("pj", "um2"))
    names = frozenset(row["precision"] for row in rows)
    return _Published(pj, um2, names, int(rows[0]["node_nm"]), rows[0]["source"])


def _part(operation: str, technology: Technology) -> Arithmetic:
    """Return the cost of one bit of what only Aladdin's table has."""
    published = _published("aladdin", operation, "int")
    ((width, pj),), (um2,) = published.pj.items(), published.um2.values()
    return Arithmetic(
        pj / width * energy_scale(published.node_nm, technology.node_nm),
        "derived",
        published.source + scaled(published.node_nm, technology),
        um2 / width * area_scale(published.node_nm, technology.node_nm),
    )


def _multiply(points: dict[int, float], width: float) -> float:
    narrow, wide = min(points), max(points)
    exponent = math.log(points[wide] / points[narrow]) / math.log(wide / narrow) if wide > narrow else 2.0
    return float(points[narrow] * (width / narrow) ** exponent)


def _add(points: dict[int, float], width: float) -> float:
    inside = min(max(width, min(points)), max(points))
    return float(np.interp(inside, list(points), list(points.values()))) * width / inside
