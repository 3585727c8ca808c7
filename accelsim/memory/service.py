"""What a DRAM gives to an engine that streams: latency, time and energy per block, measured by `replay`."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache, lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.memory.dram_replay import BLOCK_BITS, arrivals, energies_pj_per_bit, replay, stream_commands
from accelsim.parts.bandwidth import BandwidthPart
from accelsim.parts.timed import BLOCK_BYTES, DramPart

Pins = Literal["priced", "derived", "included", "unknown"]
"""What is known of a part's pins: a published price, one worked out, one that a published energy holds, or nothing."""

MEASURED_BLOCKS = 2**15
"""Blocks of the stream that is measured: 2 MB, long enough for tens of refreshes."""


@dataclass(frozen=True)
class DramService:
    """One channel of a part under a stream: ns to the first block, ns and pJ of every further one, mW of standby."""

    latency_ns: Fraction
    read_ns: Fraction
    write_ns: Fraction
    read_pj: float
    """Activates and reads of the core; without the standby, which grows with time."""
    write_pj: float
    read_io_pj: float
    write_io_pj: float
    standby_mw: float
    """Rows open, refreshes included."""
    pins: Pins
    energy_source: str
    io_source: str
    standby_source: str

    @property
    def read_pj_per_byte(self) -> float:
        """Energy of a byte that is read, pins included; without the standby."""
        return (self.read_pj + self.read_io_pj) / BLOCK_BYTES

    def latency_cycles(self, clock_mhz: float) -> int:
        """Return the clocks of an engine from a request to the data that follows it, in an idle memory."""
        clocks = self.latency_ns * exact(clock_mhz) / 1000
        return -(-clocks.numerator // clocks.denominator)

    def read_cycles(self, blocks: NDArray[np.int64], channels: int, clock_mhz: float) -> NDArray[np.int64]:
        """Return the clocks of an engine in which so many blocks of a stream arrive over all channels."""
        return _cycles(blocks, channels, self.read_ns, clock_mhz)

    def write_cycles(self, blocks: NDArray[np.int64], channels: int, clock_mhz: float) -> NDArray[np.int64]:
        """Return the clocks of an engine in which so many blocks are written."""
        return _cycles(blocks, channels, self.write_ns, clock_mhz)


def _cycles(blocks: NDArray[np.int64], channels: int, ns: Fraction, clock_mhz: float) -> NDArray[np.int64]:
    return -(-(-(-blocks // channels) * _rate(ns, clock_mhz)) // 2**20)


@lru_cache(maxsize=64)
def _rate(ns: Fraction, clock_mhz: float) -> int:
    """Return the clocks per block in units of 2^-20: a product with it stays within 64 bits."""
    return math.ceil(ns * exact(clock_mhz) / 1000 * 2**20)


def exact(number: float) -> Fraction:
    """Return the decimal number that a float was written as."""
    return Fraction(repr(number))


@lru_cache(maxsize=64)
def measure(part: DramPart | BandwidthPart) -> DramService:
    """Return what one channel of a part gives to a long stream of consecutive blocks in its own address map.

    A timed part is replayed; of shipped ones what that counted is kept. What a part without currents costs is its
    published energy per bit, standby included; a part that is bandwidth-only has its measured rate and latency.
    """
    if isinstance(part, BandwidthPart):
        block_ns = BLOCK_BYTES / exact(part.bandwidth.sustained_gb_per_s)
        return _published(part, exact(part.latency.latency_ns), block_ns, block_ns)
    clock_ns = exact(part.timing.clock_ns)
    streams = shipped_streams().get(content_of(part)) or replayed_streams(part)
    read_ns = (streams.last_clock - streams.first_clock) * clock_ns / (MEASURED_BLOCKS - 1)
    latency_ns = max(streams.first_clock * clock_ns - read_ns, Fraction(0))
    write_ns = streams.writes["cycles"] * clock_ns / MEASURED_BLOCKS
    if part.currents is None:
        return _published(part, latency_ns, read_ns, write_ns)
    read_pj, write_pj = _pj_per_block(part, streams.reads), _pj_per_block(part, streams.writes)
    standby_pj = sum(read_pj[name] for name in ("refresh", "active_standby", "precharged_standby"))
    return DramService(
        latency_ns=latency_ns,
        read_ns=read_ns,
        write_ns=write_ns,
        read_pj=read_pj["activate"] + read_pj["read"],
        write_pj=write_pj["activate"] + write_pj["write"],
        read_io_pj=read_pj.get("io", 0.0),
        write_io_pj=write_pj.get("io", 0.0),
        standby_mw=standby_pj * MEASURED_BLOCKS / float(streams.reads["cycles"] * clock_ns),  # pJ / ns = mW
        energy_source=f"{part.name}: {part.currents.source}",
        pins="unknown" if part.io is None else "derived" if part.io.derived else "priced",
        io_source=f"{part.name}: {_io_source(part)}",
        standby_source=f"{part.name}: {part.currents.source}; refresh included",
    )


def _published(
    part: DramPart | BandwidthPart, latency_ns: Fraction, read_ns: Fraction, write_ns: Fraction
) -> DramService:
    published = part.published
    block_pj = 0.0 if published is None else published.pj_per_bit * BLOCK_BITS
    return DramService(
        latency_ns=latency_ns,
        read_ns=read_ns,
        write_ns=write_ns,
        read_pj=block_pj,
        write_pj=block_pj,
        read_io_pj=0.0,
        write_io_pj=0.0,
        standby_mw=0.0,
        energy_source="" if published is None else f"{part.name}: {published.source}",
        pins="unknown" if published is None else "included",
        io_source=f"{part.name}: included in the published energy per bit",
        standby_source=f"{part.name}: included in the published energy per bit",
    )


def _io_source(part: DramPart) -> str:
    if part.io is None:
        return "the part has no [io]"
    return f"derived: {part.io.source}" if part.io.derived else part.io.source


class Streams(NamedTuple):
    """What replays of a long stream through one channel of a part counted; everything follows from these."""

    first_clock: int
    """When the first block of those that are read has arrived, and then the last."""
    last_clock: int
    reads: dict[str, int]
    """Of the same stream read as fast as the channel can: cycles, commands and standby clocks."""
    writes: dict[str, int]


SHIPPED_STREAMS = Path(__file__).with_name("streams.json")
"""Streams of every shipped part, written by `python -m benchmarks.dram_streams`: to compile a replay takes seconds."""


@cache
def shipped_streams() -> dict[str, Streams]:
    """Return the streams of shipped parts by the `content_of` them, so that a part with a key changed has none here."""
    kept = json.loads(SHIPPED_STREAMS.read_text(encoding="utf-8"))
    return {each["content"]: Streams(**each["streams"]) for each in kept.values()}


def content_of(part: DramPart) -> str:
    """Return a hash over every key of a part."""
    return hashlib.blake2b(repr(part).encode(), digest_size=16).hexdigest()


def replayed_streams(part: DramPart) -> Streams:
    """Return the streams of a part, replayed."""
    arrived = arrivals(part, np.zeros(MEASURED_BLOCKS, np.int64), 1)
    reads, writes = (_stream(part, write=write) for write in (False, True))
    return Streams(int(arrived[0]), int(arrived[-1]), reads, writes)


def _stream(part: DramPart, *, write: bool) -> dict[str, int]:
    single = replace(part, geometry=replace(part.geometry, channels=1))
    found = replay(single, np.arange(MEASURED_BLOCKS), np.full(MEASURED_BLOCKS, write))
    return {"cycles": found.cycles, **found.counts}


def _pj_per_block(part: DramPart, counts: Mapping[str, int]) -> dict[str, float]:
    return {name: pj * BLOCK_BITS for name, pj in (energies_pj_per_bit(part, counts) or {}).items()}


def tile_arrivals(
    part: DramPart, channels: int, clock_mhz: float, asked: NDArray[np.int64], blocks: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return when each block of a run has arrived, in clocks of the engine, from a replay of these very requests.

    asked (tiles,): the clocks of the engine in which tiles are asked for; blocks (tiles,): how many each has. They lie
    one after another in the memory. The result is (sum of blocks,).
    """
    memory_clocks, engine_clocks = _clocks(part, clock_mhz)
    done = arrivals(part, _asked_clocks(part, clock_mhz, asked, blocks), channels)
    return -(-done * engine_clocks // memory_clocks)


class ChannelCommands(NamedTuple):
    """The commands of one channel in clocks of the engine: (n,) each.

    `command` is a number among COMMANDS; `end` is when what it started is over: the row open or closed, the data
    moved, the rank refreshed. `bank` is the first one of a rank that is refreshed.
    """

    start: NDArray[np.int64]
    end: NDArray[np.int64]
    command: NDArray[np.int64]
    bank: NDArray[np.int64]


def tile_commands(
    part: DramPart,
    channels: int,
    clock_mhz: float,
    asked: NDArray[np.int64],
    blocks: NDArray[np.int64],
    backend: str = "compiled",
) -> list[ChannelCommands]:
    """Return the commands of each channel in the replay that `tile_arrivals` makes of the same requests."""
    memory_clocks, engine_clocks = _clocks(part, clock_mhz)
    c = part.cycles
    takes = np.array([c.rcd_rd, c.rp, c.burst, c.burst, c.rfc])
    found = []
    for issued in stream_commands(part, _asked_clocks(part, clock_mhz, asked, blocks), channels, backend):
        clock, command, bank = issued.T
        end = -(-(clock + takes[command]) * engine_clocks // memory_clocks)
        found.append(ChannelCommands(clock * engine_clocks // memory_clocks, end, command, bank))
    return found


def _clocks(part: DramPart, clock_mhz: float) -> tuple[int, int]:
    """Return clocks of the memory and of an engine that take the same time."""
    per_engine_clock = 1000 / (exact(clock_mhz) * exact(part.timing.clock_ns))
    return per_engine_clock.limit_denominator(10**6).as_integer_ratio()


def _asked_clocks(
    part: DramPart, clock_mhz: float, asked: NDArray[np.int64], blocks: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the clocks of the memory in which every block is asked for."""
    memory_clocks, engine_clocks = _clocks(part, clock_mhz)
    return np.repeat(-(-np.maximum.accumulate(asked) * memory_clocks // engine_clocks), blocks)
