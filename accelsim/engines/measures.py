"""The columns that follow from counts, whatever the machine: time, shares, energy, traffic with DRAM, ceilings."""

from __future__ import annotations

from typing import NamedTuple

from accelsim.chips import Hardware
from accelsim.energy import Account, Entry, dram
from accelsim.engines.counts import Counts
from accelsim.engines.engine import Row
from accelsim.engines.words import Words
from accelsim.memory.service import measure
from accelsim.parts.timed import BLOCK_BYTES


class Pace(NamedTuple):
    """What a chip could do at most in a cycle, of all units together."""

    macs_per_cycle: int
    """Of weights that are stored, as column `macs` counts them: a pattern N:M does not raise them."""
    sram_bytes_per_cycle: float
    """Full width of all memories on the chip."""


class Crossing(NamedTuple):
    """What of a layer crosses the edge of its chip, each element once, and how much of that DRAM is not paid for."""

    bits: int
    unpaid_bits: int = 0
    """It lies on the chip before the run, or stays there after it."""


def world(inputs: Crossing, outputs: Crossing, weights: Crossing) -> Row:
    """Return the columns of what a run takes from the world and gives to it, in the chip's own formats."""
    return {
        "world_input_bytes": -(-inputs.bits // 8),
        "world_output_bytes": -(-outputs.bits // 8),
        "world_weight_bytes": -(-weights.bits // 8),
        "unpaid_input_bytes": -(-inputs.unpaid_bits // 8),
        "unpaid_output_bytes": -(-outputs.unpaid_bits // 8),
        "unpaid_weight_bytes": -(-weights.unpaid_bits // 8),
    }


def peaks(chip: Hardware, pace: Pace) -> Row:
    """Return the ceilings of a roofline; memories at the full clock, DRAM as in its data sheet."""
    return {
        "peak_macs_per_cycle": float(pace.macs_per_cycle),
        "sram_max_gb_per_s": pace.sram_bytes_per_cycle * chip.engine.clock_mhz / 1e3,
        "dram_max_gb_per_s": 0.0 if chip.memory is None else chip.memory.peak_gb_per_s,
    }


def measures(
    chip: Hardware,
    counts: Counts,
    pace: Pace,
    account: tuple[list[Entry], Words],
    *,
    work_cycles: int,
    time_us: float,
    clock_mhz: float,
) -> Row:
    """Return what counts are in time and energy. `account`: entries of the run but DRAM's, and the machine's words.

    `work_cycles`: those of the busy cycles that went into real weights; `clock_mhz`: that of the run. Of a `stack` of
    chips, prices and clocks are arrays (chips,), and so are the columns that follow from them.
    """
    counted = counts.columns
    busy, unit_cycles = counted["busy_cycles"], counts.cycles * len(counts.busy_cycles)
    read, written = (BLOCK_BYTES * counts.actions.get(action, 0) for action in ("dram_reads", "dram_writes"))
    entries, words = account
    paid = dram.entries(entries, chip, counts.actions, clock_mhz)
    part = chip.memory.dram if chip.memory is not None and dram.counted(counts.actions) else None
    return {
        **counted,
        **peaks(chip, pace),
        "clock_mhz": clock_mhz,
        "full_clock_mhz": chip.engine.clock_mhz,
        "time_us": time_us,
        "utilization": counts.macs / (counts.cycles * pace.macs_per_cycle),
        "load_balance": busy / unit_cycles,
        "work_cycles": work_cycles,
        "padding_cycles": busy - work_cycles,
        **Account.of(paid, (word.name for word in words.components)).columns(time_us),
        "dram": "off" if part is None else part.name,
        "dram_model": "off" if part is None else part.model,
        "dram_pins": "off" if part is None else measure(part).pins,
        "dram_read_bytes": read,
        "dram_write_bytes": written,
        "dram_gb_per_s": (read + written) / time_us / 1e3,  # bytes / us = MB/s
    }
