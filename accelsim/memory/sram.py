"""On-chip memory priced from a CACTI grid."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from accelsim.chips import SramTable, Technology
from accelsim.config import read_table
from accelsim.errors import InputError, raise_if_any
from accelsim.scaling import area_scale, delay_scale, energy_scale

QUANTITIES = ("read_energy_pj", "write_energy_pj", "leakage_mw", "area_mm2", "access_ns")

BEYOND_CAPACITY = {
    "read_energy_pj": 0.5, "write_energy_pj": 0.5, "leakage_mw": 1.0, "area_mm2": 1.0, "access_ns": 0.75,
}  # fmt: skip
"""Powers of capacity above the grid, as in its last octaves: wires with the side of the array, cells in proportion."""

BEYOND_WIDTH = {
    "read_energy_pj": 1.0, "write_energy_pj": 1.0, "leakage_mw": 0.0, "area_mm2": 0.0, "access_ns": 0.0,
}  # fmt: skip
"""Powers of width above the grid: more columns switch, of as many cells."""

BEYOND_NODE = {
    "read_energy_pj": energy_scale, "write_energy_pj": energy_scale, "area_mm2": area_scale, "access_ns": delay_scale,
}  # fmt: skip
"""Scaling from the nearest node of the grid. Leakage stays what it is there: the source has no equation for it."""


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
    beyond: tuple[str, ...] = ()
    """What lies beyond the grid: node, size, both or nothing."""

    @property
    def extrapolated(self) -> bool:
        """Whether any figure here is extrapolated from the grid and not interpolated in it."""
        return bool(self.beyond)


@lru_cache(maxsize=1024)
def sram(capacity_bytes: int, width_bits: int, technology: Technology) -> Sram:
    """Return the array of this capacity (bytes) and port width (bits) in a technology.

    Between grid points every quantity is interpolated bilinearly in the logarithms of capacity, width and value. The
    grid is first made monotone by a running maximum over both axes: CACTI changes its internal organisation between
    sizes, so that a few larger arrays read for less than smaller ones, and a design should not hinge on that.
    Between nodes, the arrays of the two neighbouring ones are interpolated linearly in the logarithms of node and
    value. Arrays below the grid cost what its smallest costs.
    Beyond the grid in node, capacity or width: InputError, or with `technology.extrapolate` the nearest point of the
    grid scaled by BEYOND_NODE, BEYOND_CAPACITY and BEYOND_WIDTH, and `beyond` says so.
    Source: CACTI 7 with the settings in the header of the table.
    """
    table = technology.sram
    path = technology.sram_table_path
    dynamic = _grid(path, table.device, table.objective)
    leakage = _grid(path, table.leakage_device, table.leakage_objective)
    problems: dict[str, list[str]] = {}
    for grid in (dynamic, leakage):
        for what, problem in grid.beyond(capacity_bytes, width_bits, technology.node_nm).items():
            problems.setdefault(what, []).append(f"{technology.name}: {problem}")
    if not technology.extrapolate:
        raise_if_any([said[0] for said in problems.values()])
    values = {
        name: (leakage if name == "leakage_mw" else dynamic).at(name, capacity_bytes, width_bits, technology.node_nm)
        for name in QUANTITIES
    }
    return Sram(capacity_bytes, width_bits, **values, beyond=tuple(problems))


@dataclass(frozen=True)
class _Grid:
    """One device type and objective: quantity -> (nodes, capacities, widths) array of logarithms."""

    name: str
    nodes: NDArray[np.float64]
    capacities: NDArray[np.float64]
    widths: NDArray[np.float64]
    logarithms: dict[str, NDArray[np.float64]]

    def beyond(self, capacity_bytes: int, width_bits: int, node_nm: int) -> dict[str, str]:
        """Return what lies beyond the grid, and how to say so."""
        problems = {}
        if not self.nodes[0] <= node_nm <= self.nodes[-1]:
            problems["node"] = (
                f"{node_nm} nm is outside the CACTI grid of {self.name} ({self.nodes[0]:.0f} to {self.nodes[-1]:.0f} "
                "nm); choose a node inside, or set extrapolate = true to scale from the nearest"
            )
        if capacity_bytes > self.capacities[-1] or width_bits > self.widths[-1]:
            problems["size"] = (
                f"an SRAM of {capacity_bytes} bytes x {width_bits} bits is outside the CACTI grid (up to "
                f"{self.capacities[-1]:.0f} bytes and {self.widths[-1]:.0f} bits); split it into banks, "
                "or set extrapolate = true"
            )
        return problems

    def at(self, name: str, capacity_bytes: int, width_bits: int, node_nm: int) -> float:
        """Return one quantity, extrapolated where the grid ends."""
        n, t = _position(self.nodes, node_nm)
        c, u = _position(self.capacities, capacity_bytes)
        w, v = _position(self.widths, width_bits)
        z = self.logarithms[name]
        low = z[:, c, w] * (1 - v) + z[:, c, w + 1] * v
        high = z[:, c + 1, w] * (1 - v) + z[:, c + 1, w + 1] * v
        nodes = low * (1 - u) + high * u
        value = math.exp(nodes[n] * (1 - t) + nodes[n + 1] * t)
        value *= max(1.0, capacity_bytes / self.capacities[-1]) ** BEYOND_CAPACITY[name]
        value *= max(1.0, width_bits / self.widths[-1]) ** BEYOND_WIDTH[name]
        nearest_nm = min(max(node_nm, self.nodes[0]), self.nodes[-1])
        if node_nm != nearest_nm and name in BEYOND_NODE:
            value *= BEYOND_NODE[name](nearest_nm, node_nm)
        return float(value)


def _position(axis: NDArray[np.float64], value: float) -> tuple[int, float]:
    """Return the cell on a logarithmic axis and the place in it, 0 to 1; clamped at both ends."""
    logs = np.log(axis)
    x = min(max(math.log(value), float(logs[0])), float(logs[-1]))
    cell = min(int(np.searchsorted(logs, x, side="right")) - 1, len(axis) - 2)
    return cell, float((x - logs[cell]) / (logs[cell + 1] - logs[cell]))


@lru_cache(maxsize=64)
def _grid(path: Path, device: str, objective: str) -> _Grid:
    """Return the grid of one device type and objective; raises InputError with what the table has instead."""
    rows = [row for row in read_table(path) if (row.get("device_type"), row.get("objective")) == (device, objective)]
    if not rows:
        known = sorted({f"{row.get('device_type')}, {row.get('objective')}" for row in read_table(path)})
        raise InputError(f"{path.name}: has no rows for {device}, {objective}; it has {'; '.join(known)}")
    try:
        points = [(int(row["node_nm"]), int(row["capacity_bytes"]), int(row["width_bits"])) for row in rows]
        values = {name: [math.log(float(row[name])) for row in rows] for name in QUANTITIES}
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path.name}: {device}, {objective}: a column is missing or no number: {error}") from None
    axes = [sorted(set(axis)) for axis in zip(*points, strict=True)]
    logarithms = {}
    for name in QUANTITIES:
        z = np.full([len(axis) for axis in axes], -np.inf)
        for point, value in zip(points, values[name], strict=True):
            z[tuple(axis.index(at) for axis, at in zip(axes, point, strict=True))] = value
        # CACTI builds no array of fewer than 32 words: one that shallow costs what the smallest deeper one does.
        for c in range(len(axes[1]) - 2, -1, -1):
            z[:, c] = np.where(np.isneginf(z[:, c]), z[:, c + 1], z[:, c])
        logarithms[name] = np.maximum.accumulate(np.maximum.accumulate(z, axis=1), axis=2)
    if min(z.shape) < 2 or np.isneginf(z).any():
        raise InputError(
            f"{path.name}: {device}, {objective}: is no full grid of at least two nodes, capacities and widths"
        )
    nodes, capacities, widths = (np.array(axis, float) for axis in axes)
    return _Grid(f"{device}, {objective}", nodes, capacities, widths, logarithms)


__all__ = ["Sram", "SramTable", "sram"]
