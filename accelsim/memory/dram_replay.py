"""A trace of block accesses through a DRAM part: bandwidth, latency and energy per bit."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accelsim.errors import InputError, did_you_mean, raise_if_any
from accelsim.memory.dram_counts import ChannelCounts, Offer, Record
from accelsim.parts import load_part
from accelsim.parts.timed import BLOCK_BYTES, DramPart

BLOCK_BITS = 8 * BLOCK_BYTES

BACKENDS = {"compiled": "accelsim.memory.dram_fast", "simpy": "accelsim.memory.dram"}

OUTSTANDING = 64
"""Reads of a stream that are under way at most. Without a bound some wait for microseconds, since others go first."""

MOST_CLOCKS = 2**36
"""Up to the last request: about a minute of DRAM, in which millions of refreshes are simulated."""

MIN_LOAD = 1e-6
"""Below it a run is refreshes and nothing else."""


@dataclass(frozen=True)
class DramReplay:
    """What a trace took: fractions of peak, pJ per bit moved, ns, mW and counts.

    Energy is that of the DRAM core, standby and refresh included; "io" is among the parts where the part's pins have a
    source, and never in the total. Without sourced currents the energies are None. What no command was issued for has
    no rate: NaN.
    """

    part: str
    cycles: int
    time_ns: float
    """Those cycles: up to the last beat of the last read."""
    bandwidth_fraction: float
    bandwidth_gb_per_s: float
    row_hit_rate: float
    mean_latency_ns: float
    """Of the reads, from acceptance by the controller to the last beat of data."""
    energy_pj_per_bit: float | None
    energy_parts_pj_per_bit: Mapping[str, float] | None
    power_mw: float | None
    """That energy over that time, of all channels."""
    power_parts_mw: Mapping[str, float] | None
    counts: Mapping[str, int]
    channels: tuple[ChannelCounts, ...]
    """The counts of each channel, per bank and per rank."""


def replay(
    part: str | Path | DramPart,
    block: ArrayLike,
    write: ArrayLike,
    load: float | Literal["saturated"] = "saturated",
    address_map: str | None = None,
    *,
    time_ns: ArrayLike | None = None,
    backend: Literal["compiled", "simpy"] = "compiled",
) -> DramReplay:
    """Replay a trace through a DRAM part, command by command.

    part: a shipped name ("ddr4-2400"), the path of a part file, or a DramPart; block (n,) integers: indices of 64-byte
    blocks; write (n,) bool; load: "saturated" (a request is always waiting) or the offered fraction of peak bandwidth,
    where request i arrives at i x 64 B / (load x peak); address_map: most significant field first out of Ro Ba Bg Co Ra
    Ch, the part's own if None; time_ns (n,), ascending: when each request arrives, in place of a load; it is offered in
    the clock of the part in which that time lies. Channels take their requests independently, each at most one a clock.
    Raises InputError for a bad part, map, load or trace, and for a block beyond the part's capacity.
    """
    dram = load_part(part)
    fields = dram.fields(address_map)
    blocks, writes = _trace(dram, block, write)
    run = import_module(_module(backend)).run
    channels = dram.geometry.channels
    offered = 0.0 if _saturated(load) else float(load) * (dram.peak_bytes_per_ns * channels)
    offer = Offer(blocks, writes, offered)
    if time_ns is not None:
        if offered:
            raise InputError(
                f"load: cannot be given beside time_ns, which says when each request arrives (got {load!r})"
            )
        offer = offer._replace(arrivals=_arrival_clocks(dram, time_ns, len(blocks)))
    counts = [run(dram, channel, fields, offer) for channel in range(channels)]
    cycles = max(count.cycles for count in counts)
    # A channel that is done waits for the others: it goes on drawing standby current and being refreshed.
    for channel, count in enumerate(counts):
        if count.cycles < cycles:
            counts[channel] = run(dram, channel, fields, offer._replace(min_cycles=cycles))
    return _result(dram, len(blocks), counts)


def _result(part: DramPart, requests: int, channels: list[ChannelCounts]) -> DramReplay:
    cycles = channels[0].cycles
    counts = {"requests": requests} | {
        name: sum(_total(getattr(channel, name)) for channel in channels)
        for name in ChannelCounts._fields
        if name != "cycles"
    }
    clock_ns = part.timing.clock_ns
    accesses = counts["reads"] + counts["writes"]
    gb_per_s = accesses * BLOCK_BYTES / (cycles * clock_ns)
    energies = energies_pj(part, counts)
    per_bit = energies_pj_per_bit(part, counts)
    time_ns = cycles * clock_ns
    power = None if energies is None else {name: energy / time_ns for name, energy in energies.items()}  # pJ / ns = mW
    return DramReplay(
        part=part.name,
        cycles=cycles,
        time_ns=time_ns,
        bandwidth_fraction=gb_per_s / (part.peak_bytes_per_ns * part.geometry.channels),
        bandwidth_gb_per_s=gb_per_s,
        row_hit_rate=_ratio(counts["row_hits"], accesses),
        mean_latency_ns=_ratio(counts["latency_cycles"] * clock_ns, counts["returned_reads"]),
        energy_pj_per_bit=None if per_bit is None else sum(pj for name, pj in per_bit.items() if name != "io"),
        energy_parts_pj_per_bit=per_bit,
        power_mw=None if power is None else sum(mw for name, mw in power.items() if name != "io"),
        power_parts_mw=power,
        counts=counts,
        channels=tuple(channels),
    )


def energies_pj(part: DramPart, counts: Mapping[str, int]) -> dict[str, float] | None:
    """Return the energy of each kind of command and of standby in pJ; None for a part without currents.

    A command costs what it draws above standby: V x mA x ns of all devices in lockstep. "io" stands beside them where
    the part has it. Source: Micron TN-46-03, "Calculating memory system power for DDR".
    """
    if part.currents is None:
        return None
    i, c, clock_ns, devices = part.currents, part.cycles, part.timing.clock_ns, part.geometry.devices
    pj = i.vdd_v * devices * clock_ns
    active_down, precharged_down = counts["active_power_down_cycles"], counts["precharged_power_down_cycles"]
    energies = {
        "activate": counts["activates"] * pj * (i.idd0_ma * c.rc - i.idd3n_ma * c.ras - i.idd2n_ma * (c.rc - c.ras)),
        "read": counts["reads"] * pj * (i.idd4r_ma - i.idd3n_ma) * c.burst,
        "write": counts["writes"] * pj * (i.idd4w_ma - i.idd3n_ma) * c.burst,
        "refresh": counts["refreshes"] * pj * (i.idd5_ma - i.idd3n_ma) * c.rfc,
        "active_standby": (counts["active_cycles"] - active_down) * pj * i.idd3n_ma,
        "precharged_standby": (counts["precharged_cycles"] - precharged_down) * pj * i.idd2n_ma,
    }
    if part.controller.power_down_after_cycles and i.idd2p_ma is not None and i.idd3p_ma is not None:
        energies["active_power_down"] = active_down * pj * i.idd3p_ma
        energies["precharged_power_down"] = precharged_down * pj * i.idd2p_ma
    if part.io is not None:
        read_pj, write_pj = part.io.block_pj(clock_ns * c.burst, devices)
        energies["io"] = counts["reads"] * read_pj + counts["writes"] * write_pj
    return energies


def energies_pj_per_bit(part: DramPart, counts: Mapping[str, int]) -> dict[str, float] | None:
    """Return the same for each bit that was moved; NaN where none was."""
    energies, bits = energies_pj(part, counts), (counts["reads"] + counts["writes"]) * BLOCK_BITS
    return None if energies is None else {name: _ratio(energy, bits) for name, energy in energies.items()}


def _total(value: int | tuple[int, ...]) -> int:
    return value if isinstance(value, int) else sum(value)


def _ratio(numerator: float, denominator: int) -> float:
    return numerator / denominator if denominator else math.nan


def _saturated(load: Any) -> bool:
    """Return whether the load is "saturated"; raises InputError for what is neither that nor a fraction of peak."""
    if isinstance(load, str) and load == "saturated":
        return True
    number = isinstance(load, (int, float, np.integer, np.floating)) and not isinstance(load, bool)
    if not number or not math.isfinite(load) or load < MIN_LOAD:
        raise InputError(f"load: must be 'saturated' or a fraction of peak, {MIN_LOAD:g} or more (got {load!r})")
    return False


def _module(backend: Any) -> str:
    if backend not in BACKENDS:
        raise InputError(
            f"backend: must be 'compiled' or 'simpy' (got {backend!r}){did_you_mean(str(backend), BACKENDS)}"
        )
    return BACKENDS[backend]


def _trace(part: DramPart, block: ArrayLike, write: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the trace as contiguous arrays; raises InputError for what is no trace of this part."""
    blocks, writes = np.asarray(block), np.asarray(write)
    problems = []
    if blocks.ndim != 1 or blocks.dtype.kind not in "iu":
        problems.append(
            f"block: must be a 1-D array of whole numbers (got {blocks.ndim}-D {blocks.dtype}); use np.int64"
        )
    elif not blocks.size:
        problems.append("block: is empty; give at least one request")
    else:
        capacity = part.geometry.capacity_blocks
        for at in (int(blocks.argmin()), int(blocks.argmax())):
            if not 0 <= int(blocks[at]) < capacity:
                problems.append(
                    f"block[{at}]: {int(blocks[at])} is outside {part.name}, which has {capacity} blocks "
                    f"({part.geometry.capacity_gib:g} GiB); use blocks 0 to {capacity - 1}, or a larger part"
                )
    if writes.dtype != np.bool_ or writes.shape != blocks.shape:
        problems.append(
            f"write: must be a bool array as long as block (got {writes.dtype} {reprlib.repr(writes.shape)} for "
            f"{reprlib.repr(blocks.shape)}); True marks a write"
        )
    raise_if_any(problems)
    return np.ascontiguousarray(blocks, np.int64), np.ascontiguousarray(writes)


def _arrival_clocks(part: DramPart, time_ns: ArrayLike, requests: int) -> NDArray[np.int64]:
    """Return the clocks in which requests arrive; raises InputError for times that are none or go back."""
    times, clock_ns = np.asarray(time_ns), part.timing.clock_ns
    if times.shape != (requests,) or times.dtype.kind not in "iuf":
        raise InputError(
            f"time_ns: must be a 1-D array of numbers as long as block (got {times.dtype} "
            f"{reprlib.repr(times.shape)} for {requests} requests)"
        )
    if not (np.isfinite(times).all() and times[0] >= 0 and times[-1] <= MOST_CLOCKS * clock_ns):
        raise InputError(f"time_ns: must be 0 to {MOST_CLOCKS * clock_ns:.6g} ns, {MOST_CLOCKS} clocks of {part.name}")
    back = np.flatnonzero(times[1:] < times[:-1])
    if len(back):
        at = int(back[0]) + 1
        raise InputError(
            f"time_ns[{at}]: must not be before the request above (got {times[at]:g} after {times[at - 1]:g})"
        )
    # A time that was made from a whole number of clocks must not fall into the clock before it.
    return np.floor(times / clock_ns + 1e-6).astype(np.int64)


def arrivals(part: DramPart, asked: NDArray[np.int64], channels: int) -> NDArray[np.int64]:
    """Return the clocks in which the data of a stream of consecutive blocks have arrived: (n,), none before another.

    asked (n,): the clocks in which the blocks are asked for, ascending; they are dealt out to identical channels in
    turn, each of `part` with one channel, and OUTSTANDING of a channel are under way at most.
    """
    answered = np.zeros(len(asked), np.int64)
    for channel in range(channels):
        mine = np.ascontiguousarray(asked[channel::channels])
        times = np.zeros(len(mine), np.int64)
        _read_stream(part, mine, Record(times), "compiled")
        answered[channel::channels] = times
    latest: NDArray[np.int64] = np.maximum.accumulate(answered)
    return latest


def stream_commands(
    part: DramPart, asked: NDArray[np.int64], channels: int, backend: str = "compiled"
) -> list[NDArray[np.int64]]:
    """Return the commands of each channel that `arrivals` follow from: (n, 3) clock, number among COMMANDS, bank.

    Of a refresh the bank is the first one of its rank.
    """
    found = []
    for channel in range(channels):
        mine = np.ascontiguousarray(asked[channel::channels])
        times = np.zeros(len(mine), np.int64)
        counts = _read_stream(part, mine, Record(times), backend)
        issued = (counts.activates, counts.precharges, counts.reads, counts.writes, counts.refreshes)
        commands = np.zeros((sum(map(sum, issued)), 3), np.int64)
        _read_stream(part, mine, Record(times, commands), backend)
        found.append(commands)
    return found


def _read_stream(part: DramPart, asked: NDArray[np.int64], record: Record, backend: str) -> ChannelCounts:
    """Read consecutive blocks from one channel, each asked for in its clock; fills the record."""
    single = replace(part, geometry=replace(part.geometry, channels=1))
    block = np.arange(len(asked)) % single.geometry.capacity_blocks
    # Never two reads of one block under way: a read that is merged with another has no answer of its own.
    window = min(OUTSTANDING, single.geometry.capacity_blocks)
    run = import_module(BACKENDS[backend]).run
    offer = Offer(block, np.zeros(len(asked), bool), arrivals=asked, outstanding=window)
    counts: ChannelCounts = run(single, 0, single.fields(), offer, record)
    return counts
