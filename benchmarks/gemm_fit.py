"""Where the fitted numbers of the GPUs come from: `python -m benchmarks.gemm_fit [--write | --check] [chip ...]`.

Reads all measured GEMMs of `tests/evidence/gpu/gemm.csv`: squares, and the layers of Llama3.2-1B at every number of
tokens (see docs/tensor_core.md), and finds the numbers marked FITTED in the chips' files; `--write` puts them there,
`--check` fails if others stand there. Nothing else is fitted on. Deterministic; all take two and a half minutes of CPU.
"""

from __future__ import annotations

import argparse
import csv
import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from accelsim.config import shipped_dir
from accelsim.engines.tensor_core.config import TensorCoreConfig
from accelsim.engines.tensor_core.plan import Limits, Machine
from accelsim.engines.tensor_core.product import Gemm, choices_of, limits_of, machine_of
from accelsim.engines.tensor_core.tiles import NO_SKIPPING, Choices, Size
from accelsim.engines.tensor_core.twin import run_best
from accelsim.hardware import load_hardware
from accelsim.number_formats import NUMBER_FORMATS
from benchmarks.documents import EVIDENCE

TOLERANCE = 0.005
"""Mathematical libraries differ in the last bit, which moves a fitted number by less."""
ERROR_SCALE = 0.05
"""Relative error beyond which the objective grows linearly: the spread of repeated measurements is of this size."""
LIGHT = 0.4
"""Weight of squares up to 512, which see little but the launch, and beyond 16384, which nobody runs."""
FLOOR_UP_TO = 128
"""Squares so small that only the launch is seen: their median is the floor."""
ROUNDS = 3
"""How often the numbers of kernels and those of the chip are found in turn."""
STARTS = (-1.5, 0.0, 1.5)
"""Paces of loads from which the first round sets out, in spreads."""
EVALUATIONS, SHARED_EVALUATIONS = 300, 80
SIDES = {"dense": None, "sparse": "2:4"}
WIDE = ("bf16", "fp16")
"""Types that share all numbers of a kernel."""


class Number(NamedTuple):
    """A fitted number: where it stands, and what is believed before any GEMM is seen."""

    key: str
    centre: float
    spread: float
    """Standard deviation of the logarithm; of the number itself for a share, which stays between 0 and 1."""

    def value(self, z: float) -> float:
        """Return the number that lies z spreads from the centre."""
        if self.key.endswith(("overlap_loss", "efficiency")):
            return min(1.0, max(0.01 if self.key.endswith("efficiency") else 0.0, self.centre + z * self.spread))
        return self.centre * math.exp(z * self.spread)


GPUS = {
    "a100-pcie": "A100",
    "h100-pcie": "H100",
    "b200": "B200",
    "rtx4090": "RTX4090",
    "rtx5080": "RTX5080",
    "gb10": "GB10",
}
"""Chips that are fitted, and what the measurements call them."""

NARROW = {
    "a100-pcie": ("int8",),
    "h100-pcie": ("int8", "fp8"),
    "b200": ("fp8",),  # INT8 has no fast dense kernel there
    "rtx4090": ("int8", "fp8"),
    "rtx5080": ("int8", "fp8"),
    "gb10": ("int8", "fp8"),
}
"""Types of 8 bits, whose kernels have numbers of their own."""

APART = {"rtx5080", "gb10"}
"""Chips where FP16 and BF16 differ by more than measurements do: FP16 has numbers of its own, on the dense side."""


def own_formats(chip: str, side: str) -> tuple[str, ...]:
    """Return the types whose kernels have numbers of their own."""
    return (("fp16",) if chip in APART and side == "dense" else ()) + NARROW[chip]


CHIP = {
    "a100-pcie": (Number("engine.l2_bytes_per_cycle", 3200.0, 0.2), Number("engine.power.fma_pj", 1.6, 0.3)),
    "h100-pcie": (
        Number("engine.l2_bytes_per_cycle", 3942.0, 0.2),
        Number("engine.power.fma_pj", 1.6, 0.3),
        Number("engine.power.burst_factor", 1.4, 0.2),
    ),
    "b200": (
        Number("engine.l2_bytes_per_cycle", 10000.0, 0.3),
        Number("engine.power.fma_pj", 0.7, 0.3),
        Number("engine.power.burst_factor", 1.4, 0.2),
        Number("engine.power.burst_seconds", 0.05, 0.5),
    ),
    "rtx4090": (Number("engine.clock_mhz", 2650.0, 0.03), Number("engine.l2_bytes_per_cycle", 3500.0, 0.2)),
    "rtx5080": (Number("engine.clock_mhz", 2800.0, 0.03), Number("engine.l2_bytes_per_cycle", 3500.0, 0.2)),
    "gb10": (Number("engine.l2_bytes_per_cycle", 1400.0, 0.2), Number("engine.power.fma_pj", 0.9, 0.3)),
}
"""Numbers that all kernels of a chip share."""


def at(side: str, dtype: str | None) -> str:
    """Return the table of a kernel in a chip's file: that of 16-bit types (None), or what a narrow type has of it."""
    return f"engine.{side}" if dtype is None else f"engine.{side}.formats.{dtype}"


def of_kernel(side: str, dtype: str | None, floor_us: float = 5.0) -> tuple[Number, ...]:
    """Return the numbers of one kernel beside its floor."""
    key = at(side, dtype)
    return (
        Number(f"{key}.overhead_us", 0.7 * floor_us, 0.5),
        Number(f"{key}.load_cycles_per_k", 8.0, 0.7),
        Number(f"{key}.step_sync_cycles", 60.0, 0.6),
        Number(f"{key}.efficiency", 0.96, 0.1),
        Number(f"{key}.overlap_loss", 0.2, 0.3),
    )


def fitted_keys(chip: str) -> tuple[str, ...]:
    """Return the keys of all numbers that are fitted in a chip's file."""
    if chip not in GPUS:
        return ()
    places = [(side, dtype) for side in SIDES for dtype in (None, *own_formats(chip, side))]
    kernels = [number.key for side, dtype in places for number in of_kernel(side, dtype)]
    return (*(number.key for number in CHIP[chip]), *kernels, *(f"{at(*place)}.floor_us" for place in places))


class Row(NamedTuple):
    """A measured GEMM: times in us, NaN where one was not measured."""

    dtype: str
    tokens: int
    outputs: int
    k: int
    dense_us: float
    sparse_us: float

    @property
    def square(self) -> bool:
        """Whether all sizes are equal."""
        return self.tokens == self.outputs == self.k


@cache
def measured(gpu: str) -> tuple[Row, ...]:
    """Return the GEMMs of a GPU; a time of 0, which one file has, was not measured."""
    rows = csv.DictReader((EVIDENCE / "gpu" / "gemm.csv").read_text().splitlines())
    return tuple(
        Row(
            row["dtype"].lower(),
            *(int(row[name]) for name in ("M_tokens", "N_out", "K_in")),
            *(float(row[name] or "nan") or math.nan for name in ("dense_us", "sparse24_us")),
        )
        for row in rows
        if row["gpu"] == gpu
    )


class Kernels:
    """A chip's dense and sparse kernel for one type, with numbers that can be changed."""

    def __init__(self, chip: str, dtype: str = "fp16", changed: Mapping[str, Any] | None = None) -> None:
        hardware = load_hardware(chip, changed or {})
        config = hardware.engine
        if not isinstance(config, TensorCoreConfig) or config.sparse is None:
            raise TypeError(f"{chip} has no sparse tensor cores")
        self.bits = NUMBER_FORMATS[dtype].bits
        self.sides: dict[str, tuple[Machine, Limits, Choices]] = {}
        for side, pattern in SIDES.items():
            gemm, kernel = Gemm(1, 1, 4, dtype, pattern), config.kernel_of(pattern, dtype)
            self.sides[side] = (
                machine_of(gemm, hardware, kernel),
                limits_of(gemm, hardware, kernel),
                choices_of(gemm, config, kernel.tiles, kernel),
            )

    def put(self, key: str, value: float) -> None:
        """Change a number of the chip's file: of one kernel, or of both where it is the chip's."""
        name = key.rsplit(".", 1)[1]
        for side in [key.split(".")[1]] if key.split(".")[1] in self.sides else self.sides:
            machine, limits, choices = self.sides[side]
            if name == "overlap_loss":
                limits = limits._replace(overlap_loss_per_mille=round(1000 * value))
            elif name == "efficiency":
                machine = machine._replace(fma_per_cycle=machine.peak_fma_per_cycle * value)
            elif name in ("load_cycles_per_k", "fma_pj"):
                scaled = value * self.bits / 16
                if name == "fma_pj":
                    limits = limits._replace(fma_pj=scaled)
                else:
                    machine = machine._replace(load_cycles_per_k=scaled)
            elif name == "burst_seconds":
                limits = limits._replace(burst_us=1e6 * value)
            elif name in Machine._fields:
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


class Part:
    """What one kernel is fitted to: the measured GEMMs of one type, or of both wide ones, on one side."""

    def __init__(
        self, chip: str, side: str, dtype: str | None, rows: Sequence[Row], changed: Mapping[str, Any] | None = None
    ) -> None:
        together = [name for name in WIDE if name not in own_formats(chip, side)]
        self.kernels = Kernels(chip, dtype or together[0], changed)
        self.held: dict[str, float] = {}
        """Numbers that are not fitted."""
        self.side, self.types = side, [dtype] if dtype else together
        self.judge(rows)
        small = [log for shape, log in zip(self.shapes, self.logs, strict=True) if max(shape) <= FLOOR_UP_TO]
        self.floor = Number(f"{at(side, dtype)}.floor_us", four_digits(math.exp(np.median(small))), 0.0)
        self.kernels.put(self.floor.key, self.floor.centre)
        self.numbers = of_kernel(side, dtype, self.floor.centre)
        self.z = np.zeros(len(self.numbers))

    def judge(self, rows: Sequence[Row]) -> None:
        """Take GEMMs as what its times are compared with."""
        logs: dict[Row, list[float]] = {}
        for row in rows:
            taken_us = getattr(row, f"{self.side}_us")
            if row.dtype in self.types and not math.isnan(taken_us):
                logs.setdefault(row._replace(dtype="", dense_us=0.0, sparse_us=0.0), []).append(math.log(taken_us))
        self.shapes = [(row.tokens, row.outputs, row.k) for row in logs]
        self.logs = np.array([np.mean(each) for each in logs.values()])
        light = [row.square and not 512 < row.tokens <= 16384 for row in logs]
        self.weights = np.where(light, LIGHT, 1.0)

    def errors(self) -> NDArray[np.float64]:
        """Return the logarithm of ours / measured."""
        return np.log(self.kernels.times_us(self.side, self.shapes)) - self.logs

    def put(self, z: NDArray[np.float64]) -> None:
        """Put numbers at so many spreads from their centres."""
        for number, own in zip(self.numbers, z, strict=True):
            self.kernels.put(number.key, self.held.get(number.key, number.value(own)))

    def loss(self) -> float:
        """Return the smooth-L1 of the errors."""
        return float(2 * np.sum(self.weights * (np.sqrt(1 + (self.errors() / ERROR_SCALE) ** 2) - 1)))

    def fit(self, starts: Sequence[float] = (0.0,)) -> None:
        """Find the numbers of the kernel, with those of the chip as they are, from several paces of loads."""

        def objective(z: NDArray[np.float64]) -> float:
            self.put(z)
            return round(self.loss() + float(np.sum(z * z)), 6)  # so that last bits decide nothing

        pace = np.arange(len(self.z)) == 1
        reached = [descend(objective, self.z + start * pace, EVALUATIONS) for start in starts]
        self.z = min(reached, key=objective)
        self.put(self.z)


def descend(objective: Callable[[NDArray[np.float64]], float], z: NDArray[np.float64], evaluations: int) -> NDArray:
    """Return where Nelder and Mead's simplex comes to from z."""
    simplex = np.vstack([z, z + 0.6 * np.eye(len(z))])
    options = {"maxfev": evaluations, "xatol": 1e-3, "fatol": 1e-3, "initial_simplex": simplex}
    return np.asarray(minimize(objective, z, method="Nelder-Mead", options=options).x)


def fit(chip: str) -> dict[str, float]:
    """Return the fitted numbers of a chip by key."""
    rows = measured(GPUS[chip])
    parts = [Part(chip, side, dtype, rows) for side in SIDES for dtype in (None, *own_formats(chip, side))]
    shared, z = CHIP[chip], np.zeros(len(CHIP[chip]))

    def put(z: NDArray[np.float64]) -> None:
        for part in parts:
            for number, own in zip(shared, z, strict=True):
                part.kernels.put(number.key, number.value(own))

    def objective(z: NDArray[np.float64]) -> float:
        put(z)
        return round(sum(part.loss() for part in parts) + float(np.sum(z * z)), 6)

    put(z)
    for i in range(ROUNDS):
        for part in parts:
            part.fit(STARTS if i == 0 else (0.0,))
        z = descend(objective, z, SHARED_EVALUATIONS)
        put(z)
    for part in parts:
        part.fit()
    found = {number.key: number.value(own) for number, own in zip(shared, z, strict=True)}
    for part in parts:
        found |= {number.key: number.value(own) for number, own in zip(part.numbers, part.z, strict=True)}
        found[part.floor.key] = part.floor.centre
    return {key: four_digits(value) for key, value in found.items()}


def four_digits(value: float) -> float:
    """Return a number as it is written into a chip's file."""
    return float(f"{value:.4g}")


def numbers_in(text: str) -> dict[str, tuple[int, str]]:
    """Return the plain numbers of a chip's file by dotted key: their line, counted from 0, and how they are written."""
    found, table = {}, ""
    for i, line in enumerate(text.splitlines()):
        if heading := re.match(r"\[([\w.-]+)\]", line):
            table = heading[1] + "."
        elif number := re.match(r"(\w+) = ([-+.\deE]+)\s", line):
            found[table + number[1]] = (i, number[2])
    return found


def marked(chip: str) -> set[str]:
    """Return the keys that are marked FITTED in a chip's file."""
    text = (shipped_dir("hwconfigs") / f"{chip}.toml").read_text(encoding="utf-8")
    lines = text.splitlines()
    return {key for key, (i, _) in numbers_in(text).items() if "# FITTED" in lines[i]}


def write(path: Path, found: Mapping[str, float]) -> None:
    """Put numbers into a file by their dotted keys; comments stay where they are."""
    text = path.read_text(encoding="utf-8")
    lines, places = text.splitlines(), numbers_in(text)
    for key, value in found.items():
        i, _ = places[key]
        assignment = f"{key.rsplit('.', 1)[1]} = {value}"
        lines[i] = f"{assignment:36} #{lines[i].partition('#')[2]}"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def differences(path: Path, found: Mapping[str, float], command: str, tolerance: float = TOLERANCE) -> list[str]:
    """Say which numbers of a file are not those that a command found."""
    written = numbers_in(path.read_text(encoding="utf-8"))
    return [
        f"{path.name}: {key}: is {written[key][1]}, the fit gives {value:g}; run python -m {command} --write"
        for key, value in found.items()
        if not math.isclose(float(written[key][1]), value, rel_tol=tolerance)
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
        found, path = fit(chip), shipped_dir("hwconfigs") / f"{chip}.toml"
        print(f"{chip}: " + ", ".join(f"{key.removeprefix('engine.')} {value:g}" for key, value in found.items()))
        if options.write:
            write(path, found)
        if options.check:
            stale += differences(path, found, "benchmarks.gemm_fit")
    print("\n".join(stale), end="\n" if stale else "")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
