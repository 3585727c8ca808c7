"""On-chip memory priced from a CACTI grid."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import InputError
from accelsim.hardware import SramTable, Technology

QUANTITIES = ("read_energy_pj", "write_energy_pj", "leakage_mw", "area_mm2", "access_ns")


@dataclass(frozen=True)
class Sram:
    """One SRAM array: energy per access of its full width, leakage of the whole array, area and access time."""

    capacity_bytes: int
    width_bits: int
    read_energy_pj: float
    write_energy_pj: float
    leakage_mw: float
    area_mm2: float
    access_ns: float


@lru_cache(maxsize=1024)
def sram(capacity_bytes: int, width_bits: int, technology: Technology) -> Sram:
    """Return the array of this capacity (bytes) and port width (bits) in a technology.

    Between grid points every quantity is interpolated bilinearly in the logarithms of capacity, width and value. The
    grid is first made monotone by a running maximum over both axes: CACTI changes its internal organisation between
    sizes, so that a few larger arrays read for less than smaller ones, and a design should not hinge on that.
    Arrays below the grid cost what its smallest costs. Raises InputError above the grid.
    Source: CACTI 7 with the settings in the header of the table.
    """
    table = technology.sram
    path = technology.sram_table_path
    dynamic = _grid(path, technology.node_nm, table.device, table.objective)
    leakage = _grid(path, technology.node_nm, table.leakage_device, table.leakage_objective)
    values = {
        name: (leakage if name == "leakage_mw" else dynamic).at(name, capacity_bytes, width_bits, technology)
        for name in QUANTITIES
    }
    return Sram(capacity_bytes, width_bits, **values)


@dataclass(frozen=True)
class _Grid:
    """One device type and objective at one node: quantity -> (capacities, widths) array of logarithms."""

    capacities: NDArray[np.float64]
    widths: NDArray[np.float64]
    logarithms: dict[str, NDArray[np.float64]]

    def at(self, name: str, capacity_bytes: int, width_bits: int, technology: Technology) -> float:
        if capacity_bytes > self.capacities[-1] or width_bits > self.widths[-1]:
            raise InputError(
                f"{technology.name}: an SRAM of {capacity_bytes} bytes x {width_bits} bits is outside the CACTI grid "
                f"(up to {self.capacities[-1]:.0f} bytes and {self.widths[-1]:.0f} bits); split it into banks"
            )
        c, u = _position(self.capacities, capacity_bytes)
        w, v = _position(self.widths, width_bits)
        z = self.logarithms[name]
        low = z[c, w] * (1 - v) + z[c, w + 1] * v
        high = z[c + 1, w] * (1 - v) + z[c + 1, w + 1] * v
        return math.exp(low * (1 - u) + high * u)


def _position(axis: NDArray[np.float64], value: float) -> tuple[int, float]:
    """Return the cell on a logarithmic axis and the place in it, 0 to 1; clamped below."""
    logs = np.log(axis)
    x = max(math.log(value), float(logs[0]))
    cell = min(int(np.searchsorted(logs, x, side="right")) - 1, len(axis) - 2)
    return cell, float((x - logs[cell]) / (logs[cell + 1] - logs[cell]))


@lru_cache(maxsize=64)
def _grid(path: Path, node_nm: int, device: str, objective: str) -> _Grid:
    rows = [
        row
        for row in _read(path)
        if int(row["node_nm"]) == node_nm and row["device_type"] == device and row["objective"] == objective
    ]
    if not rows:
        raise InputError(f"{path.name}: has no rows for {node_nm} nm, {device}, {objective}")
    capacities = sorted({int(row["capacity_bytes"]) for row in rows})
    widths = sorted({int(row["width_bits"]) for row in rows})
    logarithms = {}
    for name in QUANTITIES:
        z = np.full((len(capacities), len(widths)), -np.inf)
        for row in rows:
            z[capacities.index(int(row["capacity_bytes"])), widths.index(int(row["width_bits"]))] = math.log(
                float(row[name])
            )
        # CACTI builds no array of fewer than 32 words: one that shallow costs what the smallest deeper one does.
        for c in range(len(capacities) - 2, -1, -1):
            z[c] = np.where(np.isneginf(z[c]), z[c + 1], z[c])
        logarithms[name] = np.maximum.accumulate(np.maximum.accumulate(z, axis=0), axis=1)
    return _Grid(np.array(capacities, float), np.array(widths, float), logarithms)


@lru_cache(maxsize=8)
def _read(path: Path) -> tuple[dict[str, str], ...]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return tuple(csv.DictReader(line for line in file if not line.startswith("#")))
    except OSError as error:
        raise InputError(f"{path}: SRAM table cannot be read: {error.strerror}") from None


__all__ = ["Sram", "SramTable", "sram"]
