"""The row of multipliers, the compiled twin: the same integers as `specification.py`."""

from __future__ import annotations

import numpy as np

from accelsim.engines.counts import Counts
from accelsim.engines.events import EventLog
from accelsim.kernels import njit
from toy_engine.config import ToyConfig
from toy_engine.specification import counts_of, cycles


@njit(cache=True, nogil=True)
def lane_cycles(rows, columns, lanes, fill_cycles):
    """Return for every lane the cycles in which it multiplies, waits for the row to fill, and has no weight."""
    spent = np.zeros((3, lanes), np.int64)
    for lane in range(lanes):
        # Specification: Lane.work. It has a weight in every slice but, perhaps, the last of a row.
        weights = max(0, -(-(columns - lane) // lanes))
        spent[0, lane] = rows * weights
        spent[1, lane] = fill_cycles + 1
        spent[2, lane] = rows * (-(-columns // lanes) - weights)
    return spent


def run(config: ToyConfig, matrix: np.ndarray, vectors: np.ndarray) -> tuple[Counts, np.ndarray]:
    """Run integer vectors; the signature and answer of `specification.run`."""
    spent = lane_cycles(*matrix.shape, config.lanes, config.fill_cycles).tolist()
    counts = counts_of(matrix, cycles(config, matrix.shape), *spent)
    return counts.times(len(vectors)), vectors @ matrix.T


def note(log: EventLog, config: ToyConfig, matrix: np.ndarray) -> None:
    """Note what every lane does with one vector."""
    lanes, (rows, columns) = np.arange(config.lanes), matrix.shape
    names = [f"lane {lane}" for lane in lanes]
    slices = -(-columns // config.lanes)
    log.notes(names, lanes, "fill", 0, config.fill_cycles + 1)
    starts = config.fill_cycles + 1 + np.arange(rows * slices)[:, None]
    works = np.arange(rows * slices)[:, None] % slices * config.lanes + lanes < columns
    log.notes(names, lanes, "multiply", starts, works.astype(np.int64))
    log.notes(names, lanes, "edge", starts, 1 - works)
