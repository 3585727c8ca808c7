"""How far SRAM prices are off where the grid says nothing: parts of it are left out and predicted from the rest."""

from __future__ import annotations

import csv
import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

import accelsim
from accelsim.chips import SramTable, Technology
from accelsim.config import read_table
from accelsim.memory.sram import QUANTITIES, sram

Row = dict[str, str]

SLOW_MHZ = 1e-6
"""A clock that every array meets."""


class HeldOut(NamedTuple):
    """Which rows of the grid remain, and which of the others are predicted."""

    what: str
    keep: Callable[[Row], bool]
    predict: Callable[[Row], bool]


def _node(row: Row) -> int:
    return int(row["node_nm"])


def _octave(row: Row) -> int:
    """Return log2 of the capacity: 8 to 25."""
    return int(row["capacity_bytes"]).bit_length() - 1


def _width(row: Row) -> int:
    return int(row["width_bits"])


HELD_OUT = (
    HeldOut("every second capacity", lambda row: _octave(row) % 2 == 1, lambda row: _octave(row) > 8),
    HeldOut("every second width", lambda row: _width(row) in (8, 32, 128, 512), lambda row: True),
    HeldOut("32 nm, from 45 and 22", lambda row: _node(row) != 32, lambda row: True),
    HeldOut("45 nm, from 65 and 32", lambda row: _node(row) != 45, lambda row: True),
    HeldOut("65 nm, from 90 and 45", lambda row: _node(row) != 65, lambda row: True),
    HeldOut("extrapolated: 22 nm, from 32", lambda row: _node(row) > 22, lambda row: True),
    HeldOut("extrapolated: 22 nm, from 45", lambda row: _node(row) > 32, lambda row: _node(row) == 22),
    HeldOut(
        "extrapolated: 32 MB from 8 MB, 64 bits and wider",
        lambda row: _octave(row) <= 23,
        lambda row: _octave(row) == 25 and _width(row) >= 64,
    ),
    HeldOut(
        "extrapolated: 32 MB from 8 MB, narrower",
        lambda row: _octave(row) <= 23,
        lambda row: _octave(row) == 25 and _width(row) < 64,
    ),
    HeldOut(
        "extrapolated: 512 bits from 256, 32 KB and larger",
        lambda row: _width(row) <= 256,
        lambda row: _octave(row) >= 15,
    ),
)


def errors(case: HeldOut) -> dict[str, np.ndarray]:
    """Return relative errors by quantity over the rows that are predicted, of CACTI's energy x delay, one of a size."""
    technology = accelsim.load_hardware("eie-64pe-45nm").technology
    device, objective = technology.sram.device, "ED"
    rows = [
        row
        for row in read_table(technology.sram_table_path)
        if (row["device_type"], row["objective"]) == (device, objective)
    ]
    with tempfile.TemporaryDirectory() as folder:
        part, full = (
            dataclasses.replace(technology, sram=_table(path, kept, device, objective), extrapolate=True)
            for path, kept in (
                (Path(folder) / "part.csv", [row for row in rows if case.keep(row)]),
                (Path(folder) / "full.csv", rows),
            )
        )
        wanted = [row for row in rows if not case.keep(row) and case.predict(row)]
        pairs = [(_price(row, part), _price(row, full)) for row in wanted]
    return {
        name: np.array([getattr(ours, name) / getattr(theirs, name) - 1 for ours, theirs in pairs])
        for name in QUANTITIES
    }


def _table(path: Path, rows: Sequence[Row], device: str, objective: str) -> SramTable:
    """Write a grid of its own, by which leakage is priced, too, so that it is held out with the rest."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return SramTable(table=str(path), device=device, leakage_device=device, leakage_objective=objective)


def _price(row: Row, technology: Technology) -> accelsim.memory.sram.Sram:
    at_node = dataclasses.replace(technology, node_nm=_node(row))
    return sram(int(row["capacity_bytes"]), _width(row), at_node, SLOW_MHZ)
