"""How far the GPUs are from measured GEMMs: tables for the docs, by board and number format, with what was asked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.config import shipped_dir
from benchmarks.gemm_fit import GPUS, NARROW, WIDE, Kernels, Row, fitted_keys, measured, numbers_in

DECIDED = 0.05
"""Dense and 2:4 differ where one is faster by more than this share."""

MIXED = "all boards"


class Bound(NamedTuple):
    """What was asked of the absolute error in per cent: median and 90th percentile."""

    median: float
    tail: float


ASKED = {
    "16-bit": (Bound(3.5, 11), Bound(4.5, 13), Bound(5, 14)),
    "narrow": (Bound(6, 18), Bound(7, 20), None),
}
"""Dense, 2:4 and speed-up: of 16-bit types on each board, of INT8 and FP8 together."""

ASKED_WINNERS = (96.0, 80.0)
"""Per cent of shapes with the right winner: where dense and 2:4 differ, and of those where dense wins."""


class Compared(NamedTuple):
    """Measured GEMMs of one board and format, and the errors in per cent of what we say: NaN where not measured."""

    rows: Sequence[Row]
    dense: NDArray[np.float64]
    sparse: NDArray[np.float64]

    @property
    def speed_up(self) -> NDArray[np.float64]:
        """Errors of dense / 2:4."""
        return 100 * ((1 + self.dense / 100) / (1 + self.sparse / 100) - 1)

    @property
    def winners(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Of shapes where dense and 2:4 differ: whether the winner is right, and whether dense wins."""
        factor = np.array([row.dense_us / row.sparse_us for row in self.rows])
        decided = abs(np.log(factor)) > math.log(1 + DECIDED)
        ours = factor * (1 + self.speed_up / 100)
        return ((ours > 1) == (factor > 1))[decided], (factor < 1)[decided]


@cache
def compared(chip: str, dtype: str) -> Compared:
    """Return how far a chip is from every measured GEMM of a type."""
    rows = [row for row in measured(GPUS[chip]) if row.dtype == dtype]
    kernels, shapes = Kernels(chip, dtype), [(row.tokens, row.outputs, row.k) for row in rows]
    dense, sparse = (
        100 * (kernels.times_us(side, shapes) / np.array([getattr(row, f"{side}_us") for row in rows]) - 1)
        for side in ("dense", "sparse")
    )
    return Compared(rows, dense, sparse)


def together(parts: Sequence[Compared]) -> Compared:
    """Return the GEMMs of several boards or types as one."""
    rows = [row for part in parts for row in part.rows]
    return Compared(rows, *(np.concatenate([part[i] for part in parts]) for i in (1, 2)))


def groups(chip: str) -> dict[str, Compared]:
    """Return the GEMMs of a board by format: 16 bits together, and each narrow type that was fitted."""
    found = {"16-bit": together([compared(chip, dtype) for dtype in WIDE])}
    return found | {dtype: compared(chip, dtype) for dtype in NARROW[chip]}


def off(errors: NDArray[np.float64]) -> Bound:
    """Return median and 90th percentile of absolute errors, of those that were measured."""
    known = abs(errors[~np.isnan(errors)])
    return Bound(float(np.median(known)), float(np.percentile(known, 90)))


def errors_table() -> str:
    """Return reached errors by board and format, with bias and winners, beside what was asked."""
    lines = [
        "| board | format | GEMMs | dense: median, 90th pct, bias | 2:4 | speed-up | winner right, where dense wins |",
        "|---|---|---|---|---|---|---|",
    ]
    narrow = []
    for chip in GPUS:
        for name, found in groups(chip).items():
            narrow += [] if name == "16-bit" else [found]
            lines.append(_line(chip, name, found))
    lines.append(_line(MIXED, "INT8, FP8", together(narrow)))
    everything = together([found for chip in GPUS for found in groups(chip).values()])
    lines.append(_line(MIXED, "all", everything))
    for name, bounds in ASKED.items():
        cells = [f"{bound.median:g} %, {bound.tail:g} %" if bound else "" for bound in bounds]
        what = ("each board", name) if name == "16-bit" else (MIXED, "INT8, FP8")
        winners = f"{ASKED_WINNERS[0]:g} %, {ASKED_WINNERS[1]:g} %"
        lines.append(f"| asked, {what[0]} | {what[1]} | | {' | '.join(cells)} | {winners} |")
    return "\n".join(lines)


def _line(board: str, name: str, found: Compared) -> str:
    cells = []
    for errors in (found.dense, found.sparse, found.speed_up):
        reached, bias = off(errors), float(np.nanmedian(errors))
        cells.append(f"{reached.median:.1f} %, {reached.tail:.1f} %, {bias:+.1f} %")
    right, dense_wins = found.winners
    where = f"{100 * right[dense_wins].mean():.0f} % of {dense_wins.sum()}" if dense_wins.any() else "never"
    winners = f"{100 * right.mean():.1f} % of {len(right)}, {where}"
    return f"| {board} | {name} | {len(found.rows)} | {' | '.join(cells)} | {winners} |"


def worst_table(count: int = 3) -> str:
    """Return the GEMMs of each board and format that we are furthest from."""
    lines = ["| board | format | dense | 2:4 |", "|---|---|---|---|"]
    for chip in GPUS:
        for name, found in groups(chip).items():
            cells = []
            for errors in (found.dense, found.sparse):
                order = np.argsort(-np.nan_to_num(abs(errors)), kind="stable")
                shapes: dict[str, float] = {}
                for i in order:
                    row = found.rows[i]
                    shapes.setdefault(f"{row.tokens} x {row.outputs} x {row.k}", errors[i])
                cells.append("; ".join(f"{shape}: {error:+.0f} %" for shape, error in list(shapes.items())[:count]))
            lines.append(f"| {chip} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def fitted_table() -> str:
    """Return the fitted numbers of the chips as their files have them."""
    numbers = {
        chip: numbers_in((shipped_dir("hwconfigs") / f"{chip}.toml").read_text(encoding="utf-8")) for chip in GPUS
    }
    fitted = {chip: set(fitted_keys(chip)) for chip in GPUS}
    lines = [f"| fitted | {' | '.join(GPUS)} |", "|---|" + "---|" * len(GPUS)]
    for key in sorted(set.union(*fitted.values())):
        cells = [numbers[chip][key][1] if key in fitted[chip] else "" for chip in GPUS]
        lines.append(f"| `{key.removeprefix('engine.')}` | {' | '.join(cells)} |")
    return "\n".join(lines)
