"""What one operation costs on a chip: why memory is what energy is spent on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from accelsim.config import read_table, shipped_dir
from accelsim.energy import eie, tensor_core
from accelsim.energy.arithmetic import arithmetic
from accelsim.errors import InputError
from accelsim.hardware import Hardware
from accelsim.memory.service import measure
from accelsim.memory.sram import sram
from accelsim.parts.timed import BLOCK_BYTES
from accelsim.tensor_core_config import TensorCoreConfig

if TYPE_CHECKING:
    import pandas as pd

WORD_BITS = 32
SMALL_SRAM_BYTES = 8192
"""The array that published comparisons show."""


def operations(hardware: Hardware) -> pd.DataFrame:
    """Return the energy of moving, keeping and computing 32 bits on a chip, dearest first: operation, pj, kind, source.

    Reads of a memory cost their share of its width; DRAM is that of a stream, pins included where they have a price.
    kind: "chip", or "published": the row of this name in operations.csv, for comparison.
    Raises InputError for a chip whose energies are not known.
    """
    import pandas as pd

    rows = [("chip", *row) for row in (*_dram(hardware), *_own(hardware))]
    held = read_table(shipped_dir("hwconfigs") / "technology" / "operations.csv")
    rows += [("published", row["operation"], float(row["pj"]), row["source"]) for row in held]
    table = pd.DataFrame(rows, columns=["kind", "operation", "pj", "source"])
    return table.sort_values("pj", ascending=False, kind="stable", ignore_index=True)


def _dram(hardware: Hardware) -> list[tuple[str, float, str]]:
    if hardware.memory is None:
        return []
    service = measure(hardware.memory.dram)
    words = 8 * BLOCK_BYTES / WORD_BITS
    pj = (service.read_pj + service.read_io_pj) / words
    return [(f"DRAM read, {hardware.memory.dram.name}", pj, service.energy_source)] if pj else []


def _own(hardware: Hardware) -> list[tuple[str, float, str]]:
    """Return what is on the chip."""
    if isinstance(hardware.engine, TensorCoreConfig):
        price = tensor_core.prices(hardware)
        if not price:
            raise InputError(
                f"{hardware.name}: engine.power: is missing, so that no operation of the chip has a price; choose "
                "another chip, or add it with its source"
            )
        l2, fma = price["l2_bytes"], price["fma"]
        moved = [("L2 read", l2.pj * WORD_BITS / 8, l2.source)] if l2.pj else []
        return [*moved, ("16-bit multiply-add", fma.pj, fma.source)]
    _, technology, _ = hardware.eie
    cacti = f"CACTI 7, {technology.sram.device}, {technology.sram.objective}"
    arrays = eie.memories(hardware)["spmat"][0], sram(SMALL_SRAM_BYTES, WORD_BITS, technology)
    found = [
        (
            f"SRAM read, {array.capacity_bytes // 1024} KB x {array.width_bits} bit",
            array.read_energy_pj * WORD_BITS / array.width_bits,
            cacti,
        )
        for array in dict.fromkeys(arrays)
    ]
    found.append(("register access", WORD_BITS * technology.register_bit_pj, technology.source))
    for operation in ("multiply", "add"):
        for precision in ("fp32", "int32"):
            cost = arithmetic(technology, operation, precision)
            found.append((f"{precision} {operation}", cost.pj, cost.source))
    return found
