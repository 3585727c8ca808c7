"""What a number measured at one process node becomes at another."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from accelsim.config import read_table, shipped_dir
from accelsim.errors import InputError

SCALING_SOURCE = "Stillmaker and Baas 2017"


def energy_scale(from_nm: float, to_nm: float) -> float:
    """Return dynamic energy per operation at one node relative to another, each at its nominal voltage.

    Nodes between those of the source are interpolated linearly in the logarithms of node and value.
    Raises InputError for a node that the source does not cover.
    Source: Stillmaker and Baas, Integration 58, 2017; coefficients and voltages in node_scaling.csv.
    """
    return _at(to_nm).energy / _at(from_nm).energy


def delay_scale(from_nm: float, to_nm: float) -> float:
    """Return the delay of a gate relative to another node, by the same source and rule."""
    return _at(to_nm).delay / _at(from_nm).delay


def area_scale(from_nm: float, to_nm: float) -> float:
    """Return the area of a circuit relative to another node, by the same source and rule; its table has two digits."""
    return _at(to_nm).area / _at(from_nm).area


class _Node(NamedTuple):
    """Energy, delay and area at one node in the units of the source; only ratios mean something."""

    energy: float
    delay: float
    area: float


@lru_cache(maxsize=64)
def _at(node_nm: float) -> _Node:
    nodes = _published()
    if not min(nodes) <= node_nm <= max(nodes):
        raise InputError(
            f"{node_nm:g} nm is outside the published node scaling ({min(nodes)} to {max(nodes)} nm); "
            "choose a node inside"
        )
    axis = np.log(sorted(nodes))
    columns = np.log([nodes[node] for node in sorted(nodes)]).T
    return _Node(*(math.exp(np.interp(math.log(node_nm), axis, column)) for column in columns))


@lru_cache(maxsize=1)
def _published() -> dict[int, _Node]:
    nodes = {}
    for row in read_table(shipped_dir("hwconfigs") / "technology" / "node_scaling.csv"):
        volt = float(row["nominal_v"])
        energy = np.polyval([float(row[f"energy_c{power}"]) for power in (2, 1, 0)], volt)
        delay = np.polyval([float(row[f"delay_d{power}"]) for power in (3, 2, 1, 0)], volt)
        nodes[int(row["node_nm"])] = _Node(float(energy), float(delay), float(row["area_rel_45nm"]))
    return nodes
