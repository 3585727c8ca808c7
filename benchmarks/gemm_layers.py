"""How far the GPUs are from measured layers, none of which any number was fitted on: tables for the docs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from accelsim.config import shipped_dir
from benchmarks.gemm_fit import FITTED, FITTED_DTYPES, FLOORS, GPUS, RASTER, Kernels, measured, numbers_in

ASKED_PCT = {"a100-pcie": (4, 7, 6), "h100-pcie": (8, 6, 8), "rtx4090": (3, 5, 5)}
"""Median absolute error that was asked for: dense, 2:4, speed-up."""


def errors_pct(chip: str, dtype: str | None = None, *, squares: bool = False) -> NDArray[np.float64]:
    """Return the errors of dense time, 2:4 time and speed-up in per cent: (3, rows).

    dtype: None is both that the fit has seen.
    """
    rows = measured(GPUS[chip], squares=squares, dtypes=[dtype] if dtype else FITTED_DTYPES)
    if not rows:
        return np.empty((3, 0))
    kernels, shapes = Kernels(chip, dtype or FITTED_DTYPES[0]), [row[1:4] for row in rows]
    dense, sparse = (kernels.times_us(side, shapes) for side in ("dense", "sparse"))
    dense = dense / [row.dense_us for row in rows]
    sparse = sparse / [row.sparse_us for row in rows]
    return 100 * (np.array([dense, sparse, dense / sparse]) - 1)


def errors_table() -> str:
    """Return reached against asked, and the squares that were fitted on."""
    lines = [
        "| chip | GEMMs | dense: median, 90th pct | 2:4: median, 90th pct | speed-up: median, 90th pct | asked |",
        "|---|---|---|---|---|---|",
    ]
    for chip, asked in ASKED_PCT.items():
        for squares in (False, True):
            for dtype in (*FITTED_DTYPES, None, "fp8"):
                errors = abs(errors_pct(chip, dtype, squares=squares))
                if not errors.size:
                    continue  # not measured
                cells = [f"{np.median(own):.1f} %, {np.percentile(own, 90):.1f} %" for own in errors]
                what = f"{errors.shape[1]} {'squares' if squares else 'layers'}, {dtype or 'both 16-bit types'}"
                asked_pct = "fitted on" if squares else " / ".join(f"{pct} %" for pct in asked)
                lines.append(
                    f"| {chip} | {what} | {' | '.join(cells)} | {'not fitted' if dtype == 'fp8' else asked_pct} |"
                )
    return "\n".join(lines)


def fitted_table() -> str:
    """Return the fitted numbers of the chips as their files have them."""
    numbers = {
        chip: numbers_in((shipped_dir("hwconfigs") / f"{chip}.toml").read_text(encoding="utf-8")) for chip in GPUS
    }
    fitted = {chip: {*FLOORS, RASTER, *(number.key for number in FITTED[chip])} for chip in GPUS}
    lines = [f"| fitted | {' | '.join(GPUS)} |", "|---|" + "---|" * len(GPUS)]
    for key in sorted(set.union(*fitted.values())):
        cells = [numbers[chip][key][1] if key in fitted[chip] else "not fitted" for chip in GPUS]
        lines.append(f"| `{key}` | {' | '.join(cells)} |")
    return "\n".join(lines)
