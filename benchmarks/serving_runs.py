"""Measured runs of whole models: what a step took, and what its products took when they ran alone."""

from __future__ import annotations

import csv
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.network.decoder import load_model
from accelsim.serving import Request
from benchmarks.documents import EVIDENCE

GPUS = {
    "a100-pcie": "A100",
    "h100-pcie": "H100",
    "b200": "B200",
    "rtx4090": "RTX4090",
    "rtx5080": "RTX5080",
    "gb10": "GB10",
}
"""Chips, and what the measurements call them."""

MODEL = "llama3.2-1b"
MEASURED_AS = "Llama3.2-1B"

TIMES = {"": "dense_us", "2:4": "sparse24_us"}
"""Columns of measured products, by pattern."""


class MeasuredRun(NamedTuple):
    """A run of one model: what was asked, and what a step took."""

    chip: str
    dtype: str
    pattern: str
    asked: Request
    time_us: float

    @property
    def tokens(self) -> int:
        """Tokens of a step."""
        return self.asked.sequences * (self.asked.prompt if self.asked.phase == "prefill" else 1)

    @property
    def left_out(self) -> str:
        """Why a run is neither fitted on nor counted, or nothing."""
        if (self.chip, self.dtype) == ("b200", "int8") and not self.pattern:
            return "no fast dense int8"
        prefill = self.asked.phase == "prefill"
        if (self.chip, self.dtype, self.tokens, self.pattern) == ("rtx4090", "fp8", 65536, "") and prefill:
            return "ten times what half of it took"
        return ""


@cache
def measured_runs() -> tuple[MeasuredRun, ...]:
    """Return every run of the file."""
    chips = {theirs: ours for ours, theirs in GPUS.items()}
    rows = csv.DictReader((EVIDENCE / "gpu" / "end_to_end.csv").read_text(encoding="utf-8").splitlines())
    return tuple(
        MeasuredRun(
            chips[row["gpu"]],
            row["dtype"].lower(),
            "" if row["pattern"] == "dense" else row["pattern"],
            Request(
                phase=row["stage"],
                sequences=int(row["max_num_seqs"]),
                prompt=int(row["prompt_len"]),
                output=int(row["output_len"]),
            ),
            1e6 * float(row["elapsed_s"]) / int(row["steps"]),
        )
        for row in rows
        if row["model"] == MEASURED_AS
    )


@cache
def _products(chip: str, dtype: str, pattern: str, shape: tuple[int, int]) -> tuple[list[int], list[float]]:
    rows = csv.DictReader((EVIDENCE / "gpu" / "gemm.csv").read_text(encoding="utf-8").splitlines())
    found = {
        int(row["M_tokens"]): float(row[TIMES[pattern]])
        for row in rows
        if (row["gpu"], row["dtype"].lower(), row["workload"]) == (GPUS[chip], dtype, MEASURED_AS)
        and (int(row["N_out"]), int(row["K_in"])) == shape
        and row[TIMES[pattern]]
    }
    return sorted(found), [found[tokens] for tokens in sorted(found)]


def products_us(chip: str, dtype: str, pattern: str, tokens: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return what the products of all blocks took alone, as measured: interpolated, and in proportion beyond."""
    model = load_model(MODEL).language_model
    total = np.zeros(tokens.size)
    for shape in model.products.values():
        sizes, times = _products(chip, dtype, pattern, shape)
        inside = np.interp(tokens, sizes, times)
        total += np.where(tokens > sizes[-1], times[-1] * tokens / sizes[-1], inside) * (tokens > 0)
    return model.layers * total
