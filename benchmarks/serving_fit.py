"""Where the fitted numbers of serving software come from: `python -m benchmarks.serving_fit [--write | --check]`.

Reads runs of Llama3.2-1B on six boards, and what its products took alone on them, so that the numbers are those of the
software and not of the products' model; finds the numbers marked FITTED in the software's file. `--write` puts them
there, `--check` fails if others stand there. Runs of other models are never read. Deterministic; ten seconds.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from accelsim.config import shipped_dir
from accelsim.hardware import load_hardware
from accelsim.network.decoder import LanguageModel, load_model, pruned_by
from accelsim.serving import ServingSoftware, load_serving
from accelsim.serving.board import Board
from accelsim.serving.schedule import ServingRun, run_of
from accelsim.serving.software import FOLDER
from accelsim.serving.work import Load, load_of, with_host, work_of
from benchmarks.gemm_fit import differences, write
from benchmarks.serving_runs import GPUS, MODEL, MeasuredRun, measured_runs, products_us

FILE = "vllm-0.x"
TOLERANCE = 0.01
ERROR_SCALE = 0.05
"""Relative error beyond which the objective grows linearly: the spread of repeated runs is of this size."""


class Number(NamedTuple):
    """A fitted number: where it stands, and what is believed before any run is seen."""

    key: str
    centre: float
    spread: float
    """Standard deviation of the logarithm."""


SHARED = (
    Number("kernels.attention_share", 0.45, 0.3),
    Number("kernels.cache_share", 0.7, 0.2),
    Number("kernels.sampling_passes", 12.0, 0.4),
    Number("launching.overlap", 5.0, 0.4),
    Number("launching.graph_share", 0.15, 0.4),
    Number("launching.prompt_share", 1.6, 0.5),
)
"""Of the software, whatever the board. What is believed: FlashAttention-2's figures, streams of other kernels, a dozen
passes over the scores in vLLM's sampler."""

OF_HOST = (
    Number("layer_us", 1500.0, 1.0),
    Number("packed_us", 80.0, 1.0),
    Number("step_us", 1000.0, 0.7),
    Number("sequence_us", 9.0, 0.5),
    Number("memory_share", 0.72, 0.12),
)
"""Of each host and board."""


class Case(NamedTuple):
    """A measured run, and what it has to do by its own measured products."""

    run: MeasuredRun
    model: LanguageModel
    board: Board
    steps: ServingRun
    load: Load


def cases(software: ServingSoftware) -> list[Case]:
    """Return every run that is fitted on."""
    found = []
    for run in measured_runs():
        if run.left_out:
            continue
        model = pruned_by(load_model(MODEL), run.pattern).language_model
        board = Board(load_hardware(run.chip))
        steps = run_of(run.asked, software.schedule, run.asked.sequences)
        load = load_of(model, board, run.dtype, steps)
        measured = products_us(run.chip, run.dtype, run.pattern, steps.step_tokens)
        found.append(Case(run, model, board, steps, load._replace(gemm_us=measured)))
    return found


def with_numbers(software: ServingSoftware, numbers: dict[str, float]) -> ServingSoftware:
    """Return the software with other numbers, by the keys of its file."""
    tables: dict[str, dict[str, float]] = {}
    for key, value in numbers.items():
        table, _, name = key.rpartition(".")
        tables.setdefault(table, {})[name] = value
    hosts = {name: replace(host, **tables.get(f"host.{name}", {})) for name, host in software.host.items()}
    return replace(
        software,
        kernels=replace(software.kernels, **tables.get("kernels", {})),
        launching=replace(software.launching, **tables.get("launching", {})),
        host=hosts,
    )


def time_us(case: Case, software: ServingSoftware) -> float:
    """Return what the model makes of a run."""
    host = software.host[case.run.chip]
    work = work_of(case.load, case.board, software.kernels, host)
    busy = work.gemm + work.attention + work.other + work.head
    took = with_host(busy, case.model, case.steps, host, software.launching)
    return float(took.sum()) / case.steps.tokens


def _numbers(chips: list[str]) -> list[Number]:
    return [*SHARED, *(each._replace(key=f"host.{chip}.{each.key}") for chip in chips for each in OF_HOST)]


def fit() -> tuple[dict[str, float], NDArray[np.float64]]:
    """Return the fitted numbers by key, and the relative errors at them."""
    software = load_serving(FILE)
    if software is None:
        raise TypeError(FILE)
    chips, measured = list(GPUS), cases(software)
    numbers = _numbers(chips)
    own = {chip: [case for case in measured if case.run.chip == chip] for chip in chips}

    def errors(z: NDArray[np.float64], of: list[str]) -> list[float]:
        values = {number.key: _value(number, each) for number, each in zip(numbers, z, strict=True)}
        tried = with_numbers(software, values)
        return [math.log(time_us(case, tried) / case.run.time_us) for chip in of for case in own[chip]]

    def objective(z: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.array([*(error / ERROR_SCALE for error in errors(z, chips)), *z])

    def slopes(z: NDArray[np.float64]) -> NDArray[np.float64]:
        """Differences of the objective: a number of one host changes nothing on the others."""
        here, step = np.array(errors(z, chips)), 1e-3
        found = np.zeros((here.size + z.size, z.size))
        place = {chip: sum(len(own[each]) for each in chips[: chips.index(chip)]) for chip in chips}
        for i in range(z.size):
            moved = z.copy()
            moved[i] += step
            of = chips if i < len(SHARED) else [chips[(i - len(SHARED)) // len(OF_HOST)]]
            rows = slice(None, here.size) if of is chips else slice(place[of[0]], place[of[0]] + len(own[of[0]]))
            found[rows, i] = (np.array(errors(moved, of)) - here[rows]) / step / ERROR_SCALE
            found[here.size + i, i] = 1.0
        return found

    reached = least_squares(objective, np.zeros(len(numbers)), jac=slopes, loss="soft_l1", xtol=1e-6, max_nfev=60)
    found = {number.key: four_digits(_value(number, each)) for number, each in zip(numbers, reached.x, strict=True)}
    return found, np.array([time_us(case, with_numbers(software, found)) / case.run.time_us - 1 for case in measured])


def _value(number: Number, z: float) -> float:
    """Return the number that lies z spreads from the centre; a share stays one."""
    value = number.centre * math.exp(z * number.spread)
    return min(1.0, value) if number.key.endswith(("memory_share", "attention_share", "cache_share")) else value


def four_digits(value: float) -> float:
    """Return a number as it is written into the file."""
    return float(f"{value:.4g}")


def main() -> int:
    """Fit, print, and write or compare."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving_fit", description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the numbers into the file")
    parser.add_argument("--check", action="store_true", help="fail if other numbers stand there")
    options = parser.parse_args()
    found, errors = fit()
    path = shipped_dir(FOLDER) / f"{FILE}.toml"
    print("; ".join(f"{key} {value:g}" for key, value in found.items()))
    print(f"{errors.size} runs: median error {100 * np.median(abs(errors)):.1f} %")
    if options.write:
        write(path, found)
    stale = differences(path, found, "benchmarks.serving_fit", TOLERANCE) if options.check else []
    print("\n".join(stale), end="\n" if stale else "")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
