"""Where the fitted numbers of the GPUs come from: `python -m benchmarks.gemm_fit [--write | --check] [chip ...]`.

Reads square GEMMs up to 16384 alone, BF16 and FP16, of the measurements (see docs/tensor_core.md), and finds the
numbers marked FITTED in the chips' files; `--write` puts them there, `--check` fails if others stand there. Layers of
networks are never read here. Deterministic; two minutes for all chips on one core.
"""

from __future__ import annotations

import argparse
import csv
import math
import re
import sys
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import differential_evolution, minimize

from accelsim.config import shipped_dir
from accelsim.engines.tensor_core.config import TensorCoreConfig
from accelsim.engines.tensor_core.plan import Limits, Machine
from accelsim.engines.tensor_core.product import Gemm, choices_of, limits_of, machine_of
from accelsim.engines.tensor_core.tiles import NO_SKIPPING, Choices, Size
from accelsim.engines.tensor_core.twin import run_best
from accelsim.hardware import load_hardware
from benchmarks.documents import EVIDENCE

LARGEST = 16384
FLOOR_UP_TO = 128
"""Squares so small that only the launch is seen."""
RASTERS = (1, 2, 4, 8)
TOLERANCE = 0.005
"""Mathematical libraries differ in the last bit, which moves a fitted number by less."""
ERROR_SCALE = 0.05
"""Relative error beyond which the objective grows linearly: the spread of repeated measurements is of this size."""


class Number(NamedTuple):
    """A fitted number: where it stands, and what is believed before any GEMM is seen."""

    key: str
    centre: float
    spread: float
    """Standard deviation of the logarithm; of the number itself for a share, which stays between 0 and 1."""

    def value(self, z: float) -> float:
        """Return the number that lies z spreads from the centre."""
        if self.key.endswith("overlap_loss"):
            return min(1.0, max(0.0, self.centre + z * self.spread))
        return self.centre * math.exp(z * self.spread)


GPUS = {"a100-pcie": "A100", "h100-pcie": "H100", "rtx4090": "RTX4090"}
"""Chips that are fitted, and what the measurements call them."""

FITTED = {
    "a100-pcie": (
        Number("engine.dense.overhead_us", 3.0, 0.5),
        Number("engine.sparse.overhead_us", 5.0, 0.5),
        Number("engine.dense.load_cycles_per_k", 10.0, 0.7),
        Number("engine.sparse.load_cycles_per_k", 7.0, 0.7),
        Number("engine.power.fma_pj", 1.6, 0.3),
        Number("engine.sparse.overlap_loss", 0.2, 0.5),
    ),
    "h100-pcie": (
        Number("engine.dense.overhead_us", 2.0, 0.5),
        Number("engine.sparse.overhead_us", 5.0, 0.5),
        Number("engine.dense.load_cycles_per_k", 3.0, 0.7),
        Number("engine.sparse.load_cycles_per_k", 7.0, 0.7),
        Number("engine.power.fma_pj", 1.6, 0.3),
        Number("engine.power.burst_factor", 1.5, 0.2),
    ),
    "rtx4090": (
        Number("engine.dense.overhead_us", 5.0, 0.5),
        Number("engine.sparse.overhead_us", 7.0, 0.5),
        Number("engine.dense.load_cycles_per_k", 22.0, 0.7),
        Number("engine.sparse.load_cycles_per_k", 11.0, 0.7),
        Number("engine.clock_mhz", 2650.0, 0.05),
    ),
}
FLOORS = ("engine.dense.floor_us", "engine.sparse.floor_us")
RASTER = "engine.sparse.raster_tiles"


class Row(NamedTuple):
    """A measured GEMM: times in us."""

    dtype: str
    tokens: int
    outputs: int
    k: int
    dense_us: float
    sparse_us: float


FITTED_DTYPES = ("bf16", "fp16")


def measured(gpu: str, *, squares: bool, dtypes: Sequence[str] = FITTED_DTYPES) -> list[Row]:
    """Return the GEMMs of a GPU: squares up to 16384, which are fitted on, or the layers, which never are."""
    path = EVIDENCE / "nm" / "gemm_measured.csv"
    rows = [
        Row(
            row["dtype"].lower(),
            *(int(row[name]) for name in ("M_tokens", "N_out", "K_in")),
            *(float(row[name]) for name in ("dense_us", "sparse24_us")),
        )
        for row in csv.DictReader(path.read_text().splitlines())
        if row["gpu"] == gpu and row["dtype"].lower() in dtypes and (row["workload"] == "SQUARE") == squares
    ]
    return [row for row in rows if not squares or row.tokens <= LARGEST]


class Kernels:
    """A chip's dense and sparse kernel with numbers that can be changed."""

    def __init__(self, chip: str, dtype: str = "fp16") -> None:
        hardware = load_hardware(chip)
        config = hardware.engine
        if not isinstance(config, TensorCoreConfig) or config.sparse is None:
            raise TypeError(f"{chip} has no sparse tensor cores")
        self.sides: dict[str, tuple[Machine, Limits, Choices]] = {}
        for side, kernel, pattern in (("dense", config.dense, None), ("sparse", config.sparse, "2:4")):
            gemm = Gemm(1, 1, 4, dtype, pattern)
            self.sides[side] = (
                machine_of(gemm, hardware, kernel),
                limits_of(gemm, hardware, kernel),
                choices_of(gemm, config, kernel.tiles, kernel),
            )

    def put(self, key: str, value: float) -> None:
        """Change a number of the chip's file: of one kernel, or of both where it is the chip's."""
        table, name = key.split(".")[-2:]
        if name == "overlap_loss":
            name, value = "overlap_loss_per_mille", round(1000 * value)
        for side in self.sides if table not in self.sides else [table]:
            machine, limits, choices = self.sides[side]
            if name in Machine._fields:
                machine = machine._replace(**{name: value})
            else:
                limits = limits._replace(**{name: value})
            self.sides[side] = machine, limits, choices

    def times_us(self, side: str, shapes: Iterable[tuple[int, int, int]]) -> NDArray[np.float64]:
        """Return the time of each GEMM (tokens, outputs, k)."""
        machine, limits, choices = self.sides[side]
        return np.array(
            [
                max(limits.floor_us, run_best(machine, limits, Size(*shape), choices, True, NO_SKIPPING)[1])
                for shape in shapes
            ]
        )


def fit(chip: str) -> tuple[dict[str, float], float]:
    """Return the fitted numbers of a chip by key, and the objective at them."""
    rows = measured(GPUS[chip], squares=True)
    shapes = sorted({row[1:4] for row in rows})
    which = np.array([shapes.index(row[1:4]) for row in rows])
    logs = {"dense": np.log([row.dense_us for row in rows]), "sparse": np.log([row.sparse_us for row in rows])}
    small = [row for row in rows if row.tokens <= FLOOR_UP_TO]
    floors = (np.median([row.dense_us for row in small]), np.median([row.sparse_us for row in small]))
    fixed = {key: four_digits(float(floor)) for key, floor in zip(FLOORS, floors, strict=True)}
    numbers = FITTED[chip]
    kernels = Kernels(chip)
    for key, floor in fixed.items():
        kernels.put(key, floor)

    def objective(z: NDArray[np.float64]) -> float:
        """Smooth-L1 of the logarithmic errors, and the priors; rounded, so that last bits decide nothing."""
        for number, own in zip(numbers, z, strict=True):
            kernels.put(number.key, number.value(own))
        error = np.concatenate([np.log(kernels.times_us(side, shapes))[which] - logs[side] for side in logs])
        return round(float(2 * np.sum(np.sqrt(1 + (error / ERROR_SCALE) ** 2) - 1) + np.sum(z * z)), 6)

    fits = []
    for raster in RASTERS:
        kernels.put(RASTER, raster)
        coarse = differential_evolution(
            objective,
            [(-2.5, 2.5)] * len(numbers),
            x0=np.zeros(len(numbers)),
            seed=1,
            popsize=8,
            maxiter=30,
            tol=1e-6,
            polish=False,
        )
        fine = minimize(
            objective, coarse.x, method="Nelder-Mead", options={"maxfev": 800, "xatol": 1e-3, "fatol": 1e-3}
        )
        fits.append((fine.fun, raster, fine.x))
    reached, raster, z = min(fits, key=lambda fitted: fitted[:2])
    found = {number.key: four_digits(number.value(own)) for number, own in zip(numbers, z, strict=True)}
    return found | fixed | {RASTER: raster}, reached


def four_digits(value: float) -> float:
    """Return a number as it is written into a chip's file."""
    return float(f"{value:.4g}")


def numbers_in(text: str) -> dict[str, tuple[int, str]]:
    """Return the plain numbers of a chip's file by dotted key: their line, counted from 0, and how they are written."""
    found, table = {}, ""
    for i, line in enumerate(text.splitlines()):
        if heading := re.match(r"\[([\w.]+)\]", line):
            table = heading[1] + "."
        elif number := re.match(r"(\w+) = ([-+.\deE]+)\s", line):
            found[table + number[1]] = (i, number[2])
    return found


def marked(chip: str) -> set[str]:
    """Return the keys that are marked FITTED in a chip's file."""
    text = (shipped_dir("hwconfigs") / f"{chip}.toml").read_text(encoding="utf-8")
    lines = text.splitlines()
    return {key for key, (i, _) in numbers_in(text).items() if "# FITTED" in lines[i]}


def write(chip: str, found: dict[str, float]) -> None:
    """Put numbers into a chip's file; comments stay where they are."""
    path = shipped_dir("hwconfigs") / f"{chip}.toml"
    text = path.read_text(encoding="utf-8")
    lines, places = text.splitlines(), numbers_in(text)
    for key, value in found.items():
        i, _ = places[key]
        assignment = f"{key.rsplit('.', 1)[1]} = {value}"
        lines[i] = f"{assignment:36} #{lines[i].partition('#')[2]}"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def differences(chip: str, found: dict[str, float]) -> list[str]:
    """Say which numbers of a chip's file are not those that were found."""
    written = numbers_in((shipped_dir("hwconfigs") / f"{chip}.toml").read_text(encoding="utf-8"))
    return [
        f"{chip}.toml: {key}: is {written[key][1]}, the fit gives {value:g}; run python -m benchmarks.gemm_fit --write"
        for key, value in found.items()
        if not math.isclose(float(written[key][1]), value, rel_tol=TOLERANCE)
    ]


def main() -> int:
    """Fit, print, and write or compare."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gemm_fit", description=__doc__)
    parser.add_argument("chips", nargs="*", metavar="chip", help=f"of {', '.join(GPUS)}; all if none is named")
    parser.add_argument("--write", action="store_true", help="put the numbers into the chips' files")
    parser.add_argument("--check", action="store_true", help="fail if other numbers stand there")
    options = parser.parse_args()
    if unknown := set(options.chips) - set(GPUS):
        parser.error(f"no fitted chip: {', '.join(sorted(unknown))}; known: {', '.join(GPUS)}")
    stale = []
    for chip in options.chips or GPUS:
        found, reached = fit(chip)
        print(f"{chip}: objective {reached:.2f}; " + ", ".join(f"{key} {value:g}" for key, value in found.items()))
        if options.write:
            write(chip, found)
        if options.check:
            stale += differences(chip, found)
    print("\n".join(stale), end="\n" if stale else "")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
