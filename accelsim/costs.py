"""What a chip costs: prices of its actions, the account of a run, its area, whatever machine it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from accelsim.chips import Hardware
from accelsim.config import read_table, shipped_dir
from accelsim.energy import Account, Entry, Price, dram
from accelsim.engines import Operation, Ran, Row, engine_of
from accelsim.engines.words import DRAM_COMPONENTS
from accelsim.errors import InputError
from accelsim.memory.service import measure
from accelsim.parts.timed import BLOCK_BYTES

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["account", "area_mm2", "check_io", "entries", "extrapolated", "operations", "prices", "with_io"]

WORD_BITS = 32

IO = {"io_reads": ("dram_reads", "dram_read_io"), "io_writes": ("dram_writes", "dram_write_io")}
"""What every chip can be charged for a network's inputs and outputs, and the prices of DRAM that it is charged."""


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
    own = {action: times for action, times in actions.items() if action not in IO}
    ran = Ran(own, cycles, clock_mhz or hardware.engine.clock_mhz, dtype)
    lines = engine_of(hardware).entries(hardware, ran)
    return dram.entries(lines, hardware, own, ran.clock_mhz) + (_io_entries(actions, hardware) if lines else [])


def account(
    actions: Mapping[str, int], cycles: int, hardware: Hardware, clock_mhz: float = 0.0, dtype: str = ""
) -> Account:
    """Return the energy of a run by component: actions x price, and cycles x what the chip spends in each.

    Arguments and errors are those of `entries`.
    """
    components = dict.fromkeys(word.name for word in (*engine_of(hardware).words.components, *DRAM_COMPONENTS))
    return Account.of(entries(actions, cycles, hardware, clock_mhz, dtype), components)


def with_io(row: Row, hardware: Hardware, *, inputs: bool, outputs: bool) -> Row:
    """Return the columns of a row that change where a layer's inputs, outputs or both are read and written.

    Only what its run did not pay for is charged: at the price of the chip's DRAM, pins included, in no time.
    Raises InputError for a chip without DRAM, and for a part whose energy has no source.
    """
    moved = {
        "io_reads": -(-row["unpaid_input_bytes"] // BLOCK_BYTES) if inputs else 0,
        "io_writes": -(-row["unpaid_output_bytes"] // BLOCK_BYTES) if outputs else 0,
    }
    counted = {f"count_{action}": blocks for action, blocks in moved.items()} | {"network_io": "counted"}
    if not any(moved.values()) or hardware.memory is None:
        return counted
    actions = {name.removeprefix("count_"): times for name, times in row.items() if name.startswith("count_")} | moved
    paid = account(actions, row["cycles"], hardware, row["clock_mhz"], row.get("dtype", ""))
    read, written = (row[f"dram_{way}_bytes"] + BLOCK_BYTES * moved[f"io_{way}s"] for way in ("read", "write"))
    return {
        **counted,
        **paid.columns(row["time_us"]),
        **({"unpaid_input_bytes": 0} if inputs else {}),
        **({"unpaid_output_bytes": 0} if outputs else {}),
        "dram": hardware.memory.dram.name,
        "dram_model": hardware.memory.dram.model,
        "dram_pins": measure(hardware.memory.dram).pins,
        "dram_read_bytes": read,
        "dram_write_bytes": written,
        "dram_gb_per_s": (read + written) / row["time_us"] / 1e3,  # bytes / us = MB/s
    }


def check_io(hardware: Hardware) -> None:
    """Raise InputError for a chip that cannot be charged for inputs and outputs: it has no DRAM."""
    if hardware.memory is None:
        raise InputError(
            f"{hardware.name}: --count-io: the chip has no DRAM that inputs and outputs could be charged by; add "
            "[memory] with dram = a part, or leave --count-io out"
        )


def _io_entries(actions: Mapping[str, int], hardware: Hardware) -> list[Entry]:
    """Return what blocks of a network's inputs and outputs cost, core and pins."""
    found = []
    for action, priced_as in IO.items():
        if times := actions.get(action, 0):
            price = dram.prices(hardware)
            found += [(action, times, price[name]) for name in priced_as]
    return found


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
