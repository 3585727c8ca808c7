"""How fast matrix instructions follow each other: predicted from latency and issue interval, against measurements."""

from __future__ import annotations

import csv
import math
from typing import NamedTuple

from accelsim.engines.tensor_core.config import Instruction, TensorCoreConfig
from accelsim.hardware import load_hardware
from benchmarks.documents import EVIDENCE

LOOP_CYCLES = 2.7
"""Of an iteration of one warp beyond its instructions: 27.4 cycles with 4 warps less 24.7 alone, dense m16n8k16 in FP16
with 32-bit sums (Sun et al.). Taken from that row, predicted for every other."""
WGMMA_TFLOPS = 729.3
"""Dense m64n256k16 in FP16 on the H800 (Luo et al.): gives the clock, the other rows are predicted."""
SHARED_BYTES_PER_CYCLE = 128


class Rate(NamedTuple):
    """A predicted and a measured throughput; `role` says whether the measurement was an input."""

    what: str
    warps: str
    measured: float
    predicted: float
    unit: str
    role: str

    @property
    def difference(self) -> float:
        """Relative difference."""
        return self.predicted / self.measured - 1


def fma_per_cycle(instruction: Instruction, warps: int, subcores: int = 4) -> float:
    """Return the dense multiply-accumulates per cycle of a core whose warps each repeat independent instructions.

    A warp has as many under way as the measurement found enough: latency over interval, rounded for one warp on a
    sub-core, rounded up where several share it. It waits for the first of them, and for its loop; others go on.
    """
    sharing = warps // subcores
    interval, latency = instruction.issue_interval_cycles, instruction.latency_cycles
    ratio = latency / (sharing * interval)
    under_way = round(ratio) if sharing == 1 else math.ceil(ratio)
    alone = max(under_way * interval, latency) + LOOP_CYCLES
    cycles = max(alone, sharing * under_way * interval)
    return warps * under_way * instruction.m * instruction.n * instruction.k / cycles


def wgmma_cycles(n: int, *, sparse: bool, sparse_in_registers: bool = False) -> float:
    """Return the cycles of one warp-group instruction m64 n k16, or k32 sparse, of 16-bit operands.

    It multiplies for n / 2 cycles, and reads its operands from shared memory meanwhile: the sparse one packed.
    """
    k = 32 if sparse else 16
    operand = 0 if sparse_in_registers else 64 * 16 * 2
    return max(n / 2, (operand + 2 * n * k) / SHARED_BYTES_PER_CYCLE)


def rates() -> list[Rate]:
    """Return every comparison for A100 with 32-bit sums, and for warp groups of n >= 64 on the H800."""
    rows = list(csv.DictReader((EVIDENCE / "nm" / "nm_mma_latency.csv").read_text().splitlines()))
    config = load_hardware("a100-pcie").engine
    if not isinstance(config, TensorCoreConfig):
        raise TypeError("a100-pcie is not a tensor core chip")
    found = []
    for instruction in config.instructions:
        shape = f"m{instruction.m}n{instruction.n}k{instruction.k}"
        for warps in (4, 8):
            measured = next(
                float(row["throughput_dense_equiv_fma_clk_sm"])
                for row in rows
                if (row["gpu"], row["ab_type"].lower(), row["shape"]) == ("A100", instruction.dtype, shape)
                and row["cd_type"] in ("FP32", "INT32")
                and (row["sparsity"] != "dense") == instruction.sparse
                and row["condition"].startswith(f"{warps} warps")
            )
            what = f"A100 {instruction.dtype} {shape}{' 2:4' if instruction.sparse else ''}"
            taken = (warps == 8 and instruction.issue_interval_cycles % 1 != 0) or (warps == 4 and not found)
            role = "input" if taken else "predicted"
            found.append(Rate(what, str(warps), measured, fma_per_cycle(instruction, warps), "FMA / cycle", role))
    dense = wgmma_cycles(256, sparse=False)
    per_cycle = WGMMA_TFLOPS * dense / (64 * 256 * 16)
    cases = (
        ("m64n256k16", 256, False, False),
        ("m64n128k16", 128, False, False),
        ("m64n64k16", 64, False, False),
        ("m64n256k32 SS", 256, True, False),
        ("m64n256k32 RS", 256, True, True),
    )
    for shape, n, sparse, registers in cases:
        measured = next(
            float(row["device_tflops_dense_equiv"])
            for row in rows
            if (row["gpu"], row["shape"]) == ("H800 PCIe", shape) and row["ab_type"].startswith("FP16")
        )
        cycles = wgmma_cycles(n, sparse=sparse, sparse_in_registers=registers)
        predicted = per_cycle * 64 * n * (32 if sparse else 16) / cycles
        role = "input" if shape == "m64n256k16" else "predicted"
        found.append(Rate(f"H800 wgmma fp16 {shape}", "-", measured, predicted, "TFLOPS", role))
    return found


def render(found: list[Rate]) -> str:
    """Return a Markdown table."""
    lines = ["| instruction | warps | measured | ours | difference | |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {rate.what} | {rate.warps} | {rate.measured:.1f} {rate.unit} | {rate.predicted:.1f} | "
        f"{100 * rate.difference:+.1f} % | {rate.role} |"
        for rate in found
    ]
    return "\n".join(lines)
