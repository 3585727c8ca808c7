"""Energy of tensor cores: a multiply-accumulate against published figures, and the account of a layer.

`python -m benchmarks.tensor_core_energy` prints the tables of docs/tensor_core.md. No published figure here is an
input, but for the share of control, which is that of the HMMA.
"""

from __future__ import annotations

from typing import NamedTuple

import accelsim
from accelsim.chips import Hardware
from accelsim.costs import area_mm2, entries
from accelsim.engines.tensor_core.config import TensorCoreChip
from accelsim.engines.tensor_core.prices import areas_mm2, constants_of, multiplier_of
from accelsim.hardware import load_hardware


class Published(NamedTuple):
    """One figure of a multiply-accumulate, and which of ours it stands beside."""

    what: str
    source: str
    figure: float
    """pJ, or um2 where `part` is area."""
    node_nm: int
    """That of ours: of the nodes that have a file the one nearest to that of the figure."""
    dtype: str
    sum_bits: int
    part: str
    """arithmetic: multiply and add; all: with registers, clock and control; area: with them."""


LAYER = {"tokens": 64, "out_features": 64, "in_features": 256, "dtype": "fp16", "pattern": "2:4"}
"""The product whose account docs/tensor_core.md adds up."""

DALLY = 'Dally, "Deep Learning Hardware", MLSys 2021, p. 19: estimates for 45 nm'
"""Quoted by others; how many operations an HMMA has is from the Volta white paper, an IMMA by his later talks."""
LUO = "Luo et al., IPDPS 2024: board power"

PUBLISHED = (
    Published("HFMA, fp16", DALLY, 1.5, 45, "fp16", 16, "arithmetic"),
    Published("HMMA, fp16: 110 pJ for 64", DALLY, 110 / 64, 45, "fp16", 32, "arithmetic"),
    Published("the same with 22 % for instruction and operands", DALLY, 1.22 * 110 / 64, 45, "fp16", 32, "all"),
    Published("IMMA, int8: 160 pJ for 512", DALLY, 160 / 512, 45, "int8", 32, "arithmetic"),
    Published("the same with 16 %", DALLY, 1.16 * 160 / 512, 45, "int8", 32, "all"),
    Published("Sparseloop, int8", "Wu et al., MICRO 2022, artifact: 45 nm", 0.561, 45, "int8", 32, "arithmetic"),
    Published("A100 (7 nm), fp16: 1.79 TFLOPS/W", LUO, 2 / 1.79, 7, "fp16", 32, "all"),
    Published("H800 (4 nm), fp16: 2.62 TFLOPS/W", LUO, 2 / 2.62, 7, "fp16", 32, "all"),
    Published("RTX 4090 (4 nm), fp16: 1.89 TFLOPS/W", LUO, 2 / 1.89, 7, "fp16", 32, "all"),
    Published(
        "RedMulE, fp16: 0.07 mm² for 32", "Tortorella et al., DATE 2022: 22 nm", 7e4 / 32, 22, "fp16", 16, "area"
    ),
)


class Compared(NamedTuple):
    """A published figure beside ours."""

    published: Published
    ours: float

    @property
    def difference(self) -> float:
        """Relative difference."""
        return self.ours / self.published.figure - 1


def ours(published: Published) -> float:
    """Return our figure: of a multiplier without patterns in the technology of this node."""
    changes = {"technology": f"cmos-{published.node_nm}nm", "engine.patterns": []}
    chip = load_hardware("edge-nm-16x16", changes | {"engine.accumulator_bits": published.sum_bits})
    if not isinstance(chip, TensorCoreChip) or chip.technology is None:
        raise TypeError("edge-nm-16x16 is not a tensor core chip with a technology")
    constants = constants_of(chip)
    multiplier = multiplier_of(chip.engine, chip.technology, published.dtype)
    return {
        "arithmetic": multiplier.pj,
        "all": (1 + constants.control_energy) * multiplier.cycle_pj,
        "area": (1 + constants.control_area) * multiplier.um2,
    }[published.part]


def compared() -> list[Compared]:
    """Return every figure beside ours."""
    return [Compared(published, ours(published)) for published in PUBLISHED]


def account() -> str:
    """Return the account of one product on the edge chip: every count, its price, and what comes of them."""
    chip = load_hardware("edge-nm-16x16")
    row = accelsim.gemm(**LAYER, hardware=chip).iloc[0]
    actions = {name.removeprefix("count_"): int(row[name]) for name in row.index if name.startswith("count_")}
    counted = {action: times for action, times in actions.items() if times}
    lines = ["| line | times | pJ each | nJ | price from |", "|---|---|---|---|---|"]
    for action, times, price in entries(counted, int(row["cycles"]), chip, dtype=str(row["dtype"])):
        lines.append(
            f"| {action.replace('_', ' ')} | {times} | {price.pj:.6g} | {times * price.pj / 1e3:.4f} | {price.source} |"
        )
    lines.append(f"| all | {row['cycles']} cycles | | {row['energy_pj'] / 1e3:.4f} | {row['time_us']:.3f} µs |")
    areas = ", ".join(f"{part} {mm2:.3f}" for part, mm2 in areas_of(chip).items())
    return "\n".join([*lines, "", f"Its area in mm²: {areas}; together {area_mm2(chip):.3f}."])


def areas_of(chip: Hardware) -> dict[str, float]:
    """Return the area of each part of a tensor core chip."""
    if not isinstance(chip, TensorCoreChip):
        raise TypeError(f"{chip.name} is not a tensor core chip")
    return areas_mm2(chip)


def render(found: list[Compared]) -> str:
    """Return a Markdown table."""
    lines = ["| multiply-accumulate | source | published | ours | difference | |", "|---|---|---|---|---|---|"]
    for published, own in ((each.published, each) for each in found):
        unit = "µm²" if published.part == "area" else "pJ"
        part = {"arithmetic": "arithmetic alone", "all": "with registers, clock and control"}.get(
            published.part, "with registers and control"
        )
        lines.append(
            f"| {published.what} | {published.source} | {published.figure:.4g} {unit} | {own.ours:.3g} {unit} at "
            f"{published.node_nm} nm | {100 * own.difference:+.0f} % | {part} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(render(compared()), account(), sep="\n\n")
