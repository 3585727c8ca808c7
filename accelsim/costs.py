"""What a chip costs: prices of its actions, the account of a run, its area, by whatever machine it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from accelsim.chips import Hardware
from accelsim.config import read_table, shipped_dir
from accelsim.energy import Account, Entry, Price, dram
from accelsim.engines import Operation, Ran, engine_of
from accelsim.memory.service import measure

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["account", "area_mm2", "entries", "extrapolated", "operations", "prices"]

WORD_BITS = 32


def prices(hardware: Hardware, streamed: bool = False) -> dict[str, Price]:
    """Return the price of every action and of every cycle (`*_per_cycle`) of this chip.

    `streamed`: of a run that is fed from DRAM, which has more kinds of actions. A run whose weights are resident pays
    nothing for DRAM: it may be off.
    Raises InputError for what has no price.
    """
    own = engine_of(hardware).prices(hardware, streamed=streamed)
    return own | dram.prices(hardware) if streamed else own


def entries(
    actions: Mapping[str, int], cycles: int, hardware: Hardware, clock_mhz: float = 0.0, dtype: str = ""
) -> list[Entry]:
    """Return every line of the account: the machine's own, what is paid per cycle last, and then those of DRAM.

    `clock_mhz` and `dtype` are those of the run, for chips whose prices depend on them; 0 and "": those of the chip.
    Raises KeyError for an action without a price.
    """
    ran = Ran(actions, cycles, clock_mhz or hardware.engine.clock_mhz, dtype)
    return dram.entries(engine_of(hardware).entries(hardware, ran), hardware, actions, ran.clock_mhz)


def account(
    actions: Mapping[str, int], cycles: int, hardware: Hardware, clock_mhz: float = 0.0, dtype: str = ""
) -> Account:
    """Return the energy of a run by component: actions x price, and cycles x what the chip spends in each.

    Arguments and errors are those of `entries`.
    """
    components = (word.name for word in engine_of(hardware).words.components)
    return Account.of(entries(actions, cycles, hardware, clock_mhz, dtype), components)


def area_mm2(hardware: Hardware) -> float:
    """Return the area of the chip, 0 where it is not known."""
    return engine_of(hardware).area_mm2(hardware)


def extrapolated(hardware: Hardware) -> str:
    """Return "no", or what of this chip's memories lies beyond the data that prices them: `node; size of spmat`."""
    return engine_of(hardware).extrapolated(hardware)


def operations(hardware: Hardware) -> pd.DataFrame:
    """Return the energy of moving, keeping and computing 32 bits on a chip, dearest first: operation, pj, kind, source.

    Reads of a memory cost their share of its width; DRAM is that of a stream, pins included where they have a price.
    kind: "chip", or "published": the row of this name in operations.csv, for comparison.
    Raises InputError for a chip whose energies are not known.
    """
    import pandas as pd

    rows = [("chip", *row) for row in (*_dram(hardware), *engine_of(hardware).operations(hardware))]
    held = read_table(shipped_dir("hwconfigs") / "technology" / "operations.csv")
    rows += [("published", row["operation"], float(row["pj"]), row["source"]) for row in held]
    table = pd.DataFrame(rows, columns=["kind", "operation", "pj", "source"])
    return table.sort_values("pj", ascending=False, kind="stable", ignore_index=True)


def _dram(hardware: Hardware) -> list[Operation]:
    if hardware.memory is None:
        return []
    service = measure(hardware.memory.dram)
    pj = service.read_pj_per_byte * WORD_BITS / 8
    return [Operation(f"DRAM read, {hardware.memory.dram.name}", pj, service.energy_source)] if pj else []
