"""On-chip memory priced from a CACTI grid: the cheapest array that meets the clock."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import compress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from accelsim.chips import SramTable, Technology
from accelsim.config import read_columns
from accelsim.errors import InputError, raise_if_any
from accelsim.scaling import area_scale, delay_scale, energy_scale

MOST = 1e15
"""Of a number in a table, in its unit; the least is its reciprocal."""
AXES = ("node_nm", "capacity_bytes", "width_bits")
QUANTITIES = ("read_energy_pj", "write_energy_pj", "leakage_mw", "area_mm2", "access_ns")
_READ, _ACCESS = QUANTITIES.index("read_energy_pj"), QUANTITIES.index("access_ns")

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

Corners = tuple[tuple[int, int, int, float], ...]
"""Points of the grid around a size: node, capacity and width of each by index, and its share."""


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


def extrapolated(beyond: Mapping[str, tuple[str, ...]]) -> str:
    """Return "no", or what of memories lies beyond the grid, `node; size of l2`, by the name and `beyond` of each."""
    parts = ["node"] if any("node" in what for what in beyond.values()) else []
    parts += [f"size of {name}" for name, what in beyond.items() if "size" in what]
    return "; ".join(parts) or "no"


@lru_cache(maxsize=4096)
def sram(capacity_bytes: int, width_bits: int, technology: Technology, clock_mhz: float) -> Sram:
    """Return the array of this capacity (bytes) and port width (bits) that reads for the least and meets the clock.

    An array meets the clock if it answers within a cycle, less `technology.cycle_margin` of it; a memory that may
    take n cycles is asked for at a clock of 1 / n. At every point of the grid the cheapest such array is taken,
    whatever objective CACTI found it by, and the fastest where none meets the clock. Between points every quantity
    is interpolated bilinearly in the logarithms of capacity, width and value. The points are first made monotone by
    a running maximum over both axes: CACTI changes its internal organisation between sizes, so that a few larger
    arrays read for less than smaller ones, and a design should not hinge on that.
    Between nodes, the arrays of the two neighbouring ones are interpolated linearly in the logarithms of node and
    value. Arrays below the grid cost what its smallest costs. Leakage is that of a device type and objective of its
    own, which no clock changes.
    Beyond the grid in node, capacity or width: InputError, or with `technology.extrapolate` the nearest point of the
    grid scaled by BEYOND_NODE, BEYOND_CAPACITY and BEYOND_WIDTH, and `beyond` says so.
    Raises InputError where no array of this size meets the clock, with the fastest clock that one does.
    Source: CACTI 7 with the settings in the header of the table.
    """
    place = _place(capacity_bytes, width_bits, technology)
    limit_ns = _limit_ns(technology, clock_mhz)
    if place.fastest_ns > limit_ns * (1 + 1e-9):
        raise InputError(
            f"{technology.name}: an SRAM of {capacity_bytes} bytes x {width_bits} bits takes {place.fastest_ns:.3g} ns "
            f"at least, and {clock_mhz:g} MHz leave it {limit_ns:.3g} ns of a cycle; the fastest clock that it follows "
            f"is {_clock_mhz(technology, place.fastest_ns):.0f} MHz; lower the clock, or make the memory smaller"
        )
    values = place.cheapest(limit_ns, place.factors)
    if "size" in place.beyond:  # a faster array may write for less: no less than the largest of the grid
        largest = place.cheapest(limit_ns, place.largest_factors)
        values = {name: max(value, largest[name]) for name, value in values.items()}
    values |= {"access_ns": min(values["access_ns"], limit_ns), "leakage_mw": place.leakage_mw}
    return Sram(capacity_bytes, width_bits, **values, beyond=place.beyond)


@lru_cache(maxsize=4096)
def fastest_clock_mhz(capacity_bytes: int, width_bits: int, technology: Technology) -> float:
    """Return the fastest clock that an array of this size follows, in MHz; raises InputError beyond the grid."""
    return _clock_mhz(technology, _place(capacity_bytes, width_bits, technology).fastest_ns)


def _limit_ns(technology: Technology, clock_mhz: float) -> float:
    return (1 - technology.cycle_margin) * 1e3 / clock_mhz


def _clock_mhz(technology: Technology, access_ns: float) -> float:
    return (1 - technology.cycle_margin) * 1e3 / access_ns


@dataclass(frozen=True)
class _Place:
    """A size and node in the grid: which points lie around it, and what of it lies beyond."""

    grid: _Grid
    corners: Corners
    factors: dict[str, float]
    """What each quantity is multiplied by because it lies beyond the grid."""
    largest_factors: dict[str, float]
    """The same for the largest array of the grid at this width."""
    beyond: tuple[str, ...]
    fastest_ns: float
    leakage_mw: float

    def cheapest(self, limit_ns: float, factors: Mapping[str, float]) -> dict[str, float]:
        """Return each quantity of the cheapest array that takes no longer, multiplied by its factor."""
        chosen = self.grid.cheapest(limit_ns / factors["access_ns"], self.corners)
        return {name: value * factors[name] for name, value in chosen.items()}


@lru_cache(maxsize=1024)
def _place(capacity_bytes: int, width_bits: int, technology: Technology) -> _Place:
    """Return where a size lies; raises InputError where it is beyond the grid, unless extrapolation is asked for."""
    table, path, node_nm = technology.sram, technology.sram_table_path, technology.node_nm
    grid = _grid(path, table.table_hash, table.device, None)
    leakage = _grid(path, table.table_hash, table.leakage_device, table.leakage_objective)
    problems: dict[str, list[str]] = {}
    for each in (grid, leakage):
        for what, problem in each.beyond(capacity_bytes, width_bits, node_nm).items():
            problems.setdefault(what, []).append(f"{technology.name}: {problem}")
    if not technology.extrapolate:
        raise_if_any([said[0] for said in problems.values()])
    size = capacity_bytes, width_bits, node_nm
    corners, factors, leaking = grid.around(*size), grid.factors(*size), leakage.around(*size)
    return _Place(
        grid,
        corners,
        factors,
        grid.factors(1, width_bits, node_nm),
        tuple(problems),
        fastest_ns=math.exp(sum(share * grid.fastest[n, c, w] for n, c, w, share in corners)) * factors["access_ns"],
        leakage_mw=leakage.cheapest(math.inf, leaking)["leakage_mw"] * leakage.factors(*size)["leakage_mw"],
    )


@dataclass(frozen=True)
class _Grid:
    """One device type: axes, and the arrays of every point, the fastest first; where there are fewer, infinite ones."""

    name: str
    nodes: NDArray[np.float64]
    capacities: NDArray[np.float64]
    widths: NDArray[np.float64]
    arrays: NDArray[np.float64]
    """(quantities, nodes, capacities, widths, arrays)."""
    fastest: NDArray[np.float64]
    """Logarithm of the access time of the fastest array, which no smaller one of the same width exceeds."""
    times_ns: NDArray[np.float64]
    """All access times, sorted."""
    chosen: dict[tuple[int, int], NDArray[np.float64]]
    """What was chosen, by node and by how many of all access times are within the limit."""

    def cheapest(self, limit_ns: float, corners: Corners) -> dict[str, float]:
        """Return each quantity between some points, of their cheapest arrays with no more than an access time."""
        within = int(np.searchsorted(self.times_ns, limit_ns * (1 + 1e-9), side="right"))
        found = sum(share * self._choose(n, within)[:, c, w] for n, c, w, share in corners)
        return dict(zip(QUANTITIES, np.exp(found).tolist(), strict=True))

    def _choose(self, node: int, within: int) -> NDArray[np.float64]:
        """Return logarithms (quantities, capacities, widths) of what is chosen at one node, made monotone."""
        if (node, within) not in self.chosen:
            arrays = self.arrays[:, node]
            limit_ns = self.times_ns[within - 1] if within else 0.0
            read = np.where(arrays[_ACCESS] <= limit_ns, arrays[_READ], np.inf)
            cheapest = read.argmin(axis=-1)  # the first, which is the fastest, where none is within
            logs = np.log(np.take_along_axis(arrays, cheapest[None, ..., None], -1)[..., 0])
            self.chosen[node, within] = np.maximum.accumulate(np.maximum.accumulate(logs, axis=1), axis=2)
        return self.chosen[node, within]

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

    def around(self, capacity_bytes: int, width_bits: int, node_nm: int) -> Corners:
        """Return the points around a size with their shares."""
        return tuple(
            (n, c, w, t * u * v)
            for n, t in _neighbours(self.nodes, node_nm)
            for c, u in _neighbours(self.capacities, capacity_bytes)
            for w, v in _neighbours(self.widths, width_bits)
        )

    def factors(self, capacity_bytes: int, width_bits: int, node_nm: int) -> dict[str, float]:
        """Return what each quantity at the nearest point is multiplied by: 1 inside the grid."""
        larger = max(1.0, capacity_bytes / float(self.capacities[-1]))
        wider = max(1.0, width_bits / float(self.widths[-1]))
        nearest_nm = min(max(node_nm, float(self.nodes[0])), float(self.nodes[-1]))
        found = {name: larger ** BEYOND_CAPACITY[name] * wider ** BEYOND_WIDTH[name] for name in QUANTITIES}
        if nearest_nm != node_nm:
            found |= {name: found[name] * scale(nearest_nm, node_nm) for name, scale in BEYOND_NODE.items()}
        return found


def _neighbours(axis: NDArray[np.float64], value: float) -> list[tuple[int, float]]:
    """Return the points of a logarithmic axis around a value with their shares; the end where the value lies beyond."""
    logs = np.log(axis)
    x = min(max(math.log(value), float(logs[0])), float(logs[-1]))
    below = int(np.searchsorted(logs, x, side="right")) - 1
    if x == logs[below]:
        return [(below, 1.0)]
    share = float((x - logs[below]) / (logs[below + 1] - logs[below]))
    return [(below, 1 - share), (below + 1, share)]


@lru_cache(maxsize=64)
def _grid(path: Path, table_hash: str, device: str, objective: str | None) -> _Grid:
    """Return the arrays of one device type, of all objectives or one; InputError says what the table has instead."""
    called = device if objective is None else f"{device}, {objective}"
    columns = read_columns(path, table_hash)
    kinds = columns.get("device_type", [])
    if objective is not None:
        kinds = list(map(", ".join, zip(kinds, columns.get("objective", []), strict=False)))
    ours = list(map(called.__eq__, kinds))
    if not any(ours):
        raise InputError(f"{path.name}: has no rows for {called}; it has {'; '.join(sorted(set(kinds)))}")
    try:
        points = np.array([[int(text) for text in compress(columns[name], ours)] for name in AXES]).T
        values = np.array([[float(text) for text in compress(columns[name], ours)] for name in QUANTITIES]).T
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path.name}: {called}: a column is missing or no number: {error}") from None
    if not ((values >= 1 / MOST) & (values <= MOST)).all() or (points < 1).any() or (points > MOST).any():
        raise InputError(f"{path.name}: {called}: every number must be above 0, and from {1 / MOST:g} to {MOST:g}")
    axes, arrays = _by_point(points, values)
    if np.isinf(arrays[..., 0]).any():
        raise InputError(
            f"{path.name}: {called}: is not a full grid: every node has every capacity at every width, but for arrays "
            "too shallow to build"
        )
    fastest = np.maximum.accumulate(np.log(arrays[_ACCESS, ..., 0]), axis=1)
    nodes, capacities, widths = (axis.astype(float) for axis in axes)
    return _Grid(called, nodes, capacities, widths, arrays, fastest, np.sort(values[:, _ACCESS]), {})


def _by_point(
    points: NDArray[np.int64], values: NDArray[np.float64]
) -> tuple[list[NDArray[np.int64]], NDArray[np.float64]]:
    """Return the axes and (quantities, nodes, capacities, widths, arrays), the fastest first, missing ones infinite."""
    order = np.lexsort((values[:, _ACCESS], *points.T[::-1]))
    found = [np.unique(axis, return_inverse=True) for axis in points[order].T]
    shape = tuple(len(axis) for axis, _ in found)
    flat = np.ravel_multi_index([place for _, place in found], shape)
    rank = np.arange(len(flat)) - np.searchsorted(flat, flat)
    arrays = np.full((len(QUANTITIES), *shape, int(rank.max()) + 1), np.inf)
    arrays.reshape(len(QUANTITIES), -1, arrays.shape[-1])[:, flat, rank] = values[order].T
    # CACTI builds no array of fewer than 32 words: one that shallow costs what the smallest deeper one does.
    for c in range(shape[1] - 2, -1, -1):
        missing = np.isinf(arrays[_ACCESS, :, c, :, 0])
        arrays[:, :, c][:, missing] = arrays[:, :, c + 1][:, missing]
    return [axis for axis, _ in found], arrays


__all__ = ["QUANTITIES", "Sram", "SramTable", "fastest_clock_mhz", "sram"]
