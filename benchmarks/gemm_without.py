"""What each mechanism of GPU kernels is worth; whether squares tell layers: `python -m benchmarks.gemm_without`.

A kernel is fitted again without the mechanism, with the numbers of its chip as they are, and with it, on all measured
GEMMs; or on squares alone and on layers alone, and then held against the others. `--write` puts the tables into docs.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks import gemm_fit
from benchmarks.documents import fill
from benchmarks.gemm_fit import GPUS, NARROW, SIDES, STARTS, Part, Row, measured
from benchmarks.gemm_layers import Bound, off

POWERS, ALL = [1, 2, 4, 8], [1, 2, 3, 4, 5, 6, 7, 8]


class Without(NamedTuple):
    """A mechanism that is left out of one kernel: what the chip's file says instead."""

    what: str
    chip: str
    side: str
    dtype: str | None
    """None: both types of 16 bits."""
    changed: Mapping[str, Any]


def _side(side: str, dtype: str | None, **keys: Any) -> dict[str, Any]:
    return {f"{gemm_fit.at(side, dtype)}.{key}": value for key, value in keys.items()}


HOPPER_TILES = [[64, 64], [64, 128], [128, 64], [128, 128], [128, 256], [256, 64], [256, 128]]

CASES = (
    Without("packed weights pass once per 128 tokens: 8 rows share a pass", "gb10", "sparse", None, {"raster": 8}),
    Without("the same", "a100-pcie", "sparse", None, {"raster": 8}),
    Without("k split into 3, 5, 6, 7: only 1, 2, 4, 8", "a100-pcie", "dense", None, {"splits": POWERS}),
    Without("k split at all", "rtx4090", "dense", None, {"splits": [1]}),
    Without("INT8 never splits k: up to 8", "rtx5080", "dense", "int8", {"splits": ALL}),
    Without("the same", "h100-pcie", "dense", "int8", {"splits": ALL}),
    Without("INT8 writes INT32: 16 bits", "a100-pcie", "dense", "int8", {"output_bits": 16}),
    Without("the same", "gb10", "dense", "int8", {"output_bits": 16}),
    Without("192 tokens are always computed: tiles from 64", "h100-pcie", "sparse", None, {"tiles": HOPPER_TILES}),
    Without("results leave behind the next tile: at its end", "b200", "sparse", None, {"persistent": False}),
    Without("the same", "b200", "sparse", "fp8", {"persistent": False}),
    Without("the same", "rtx4090", "dense", "fp8", {"persistent": False}),
    Without("the same", "rtx5080", "dense", "fp8", {"persistent": False}),
    Without("the same", "gb10", "dense", "fp8", {"persistent": False}),
    Without("what overlap leaves: nothing", "a100-pcie", "sparse", None, {"overlap": 0.0}),
    Without("the pace of loads: none", "a100-pcie", "sparse", None, {"load": 0.0}),
    Without("the limit of power: none", "h100-pcie", "dense", None, {"limit_w": 1e6}),
    Without("a burst beyond the limit: none", "h100-pcie", "dense", None, {"burst": 0.0}),
    Without("the same", "b200", "dense", None, {"burst": 0.0}),
)

KEYS = {
    "raster": "raster_tiles",
    "splits": "splits",
    "tiles": "tiles",
    "output_bits": "output_bits",
    "persistent": "persistent",
}
POWER_KEYS = {"limit_w": "engine.power.limit_w", "burst": "engine.power.burst_seconds"}
HELD = {"overlap": "overlap_loss", "load": "load_cycles_per_k"}
"""Numbers that are held instead of fitted."""


def reached(case: Without, *, left_out: bool) -> Bound:
    """Return the errors of a kernel that is fitted with or without the mechanism, in per cent."""
    over: dict[str, Any] = {}
    held: dict[str, float] = {}
    for key, value in case.changed.items() if left_out else ():
        if key in HELD:
            held[f"{gemm_fit.at(case.side, case.dtype)}.{HELD[key]}"] = value
        else:
            over[POWER_KEYS.get(key) or f"{gemm_fit.at(case.side, case.dtype)}.{KEYS[key]}"] = value
    part = Part(case.chip, case.side, case.dtype, measured(GPUS[case.chip]), over)
    part.held = held
    part.fit(STARTS)
    return off(100 * np.expm1(part.errors()))


def without_table() -> str:
    """Return what each mechanism is worth."""
    lines = [
        "| without | kernel | median, 90th percentile | with it |",
        "|---|---|---|---|",
    ]
    for case in CASES:
        found = [reached(case, left_out=out) for out in (True, False)]
        cells = [f"{each.median:.1f} %, {each.tail:.1f} %" for each in found]
        side = "dense" if case.side == "dense" else SIDES[case.side]
        lines.append(f"| {case.what} | {case.chip}, {side}, {case.dtype or '16-bit'} | {' | '.join(cells)} |")
    return "\n".join(lines)


def crossed(chip: str, side: str, dtype: str | None, rows: Sequence[Row], others: Sequence[Row]) -> Bound:
    """Return the errors on some GEMMs of a kernel that was fitted on others."""
    part = Part(chip, side, dtype, others)
    part.fit(STARTS)
    part.judge(rows)
    return off(100 * np.expm1(part.errors()))


def crossed_table() -> str:
    """Return how far kernels fitted on squares are from layers, and the other way round."""
    lines = [
        "| board | format | layers from squares: dense | 2:4 | squares from layers: dense | 2:4 |",
        "|---|---|---|---|---|---|",
    ]
    for chip, gpu in GPUS.items():
        squares = [row for row in measured(gpu) if row.square]
        layers = [row for row in measured(gpu) if not row.square]
        # The smallest squares are the floor, which no layer tells.
        floor = [row for row in squares if row.tokens <= gemm_fit.FLOOR_UP_TO]
        large = [row for row in squares if 512 < row.tokens <= 16384]
        for dtype in (None, *NARROW[chip]):
            cells = [
                f"{found.median:.1f} %, {found.tail:.1f} %"
                for judged, others in ((layers, squares), (large, layers + floor))
                for found in (crossed(chip, side, dtype, judged, others) for side in SIDES)
            ]
            lines.append(f"| {chip} | {dtype or '16-bit'} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Print the tables, and write them."""
    found = {"gemm-without": without_table(), "gemm-crossed": crossed_table()}
    print("\n\n".join(found.values()))
    fill(found, write="--write" in sys.argv)


if __name__ == "__main__":
    main()
