"""A memory known only by its data rate and latency, as measured on a board: enough for an engine that streams."""

from __future__ import annotations

from typing import Literal

from pydantic.dataclasses import dataclass

from accelsim.config import CHECKED, Hashed, NonNegative, Positive
from accelsim.errors import InputError


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class PublishedEnergy:
    """Energy per bit as published for a kind of memory, for data that streams; a random access costs more."""

    pj_per_bit: Positive
    """Of each bit read or written."""
    source: str
    """With its scope: device, device and I/O, or the board."""


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Bandwidth:
    """Data rate of the whole memory: what its pins could move, and what a stream sustains."""

    peak_gb_per_s: Positive
    """What its pins could move."""
    sustained_gb_per_s: Positive
    """Measured; the peak where nothing is known, and then `source` says so."""
    source: str
    """Who measured it."""

    def __post_init__(self) -> None:
        if self.sustained_gb_per_s > self.peak_gb_per_s:
            raise InputError(
                f"sustained_gb_per_s: must be at most peak_gb_per_s = {self.peak_gb_per_s:g} "
                f"(got {self.sustained_gb_per_s:g}); check both in the source"
            )


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Latency:
    """Time from a request to its data with nothing else under way, seen by the processor: caches' tags included."""

    latency_ns: NonNegative
    """From a request to its data."""
    source: str
    """Who measured it."""


@dataclass(frozen=True, kw_only=True, eq=False, config=CHECKED)
class BandwidthPart(Hashed):
    """A memory without timings: a rate, a latency and perhaps an energy per bit, each with its source."""

    model: Literal["bandwidth-only"] = "bandwidth-only"
    """bandwidth-only: a measured rate and latency."""
    name: str
    """What it is called in results."""
    source: str
    """Where its numbers are from."""
    description: str = ""
    """What it is, in a sentence; `accelsim list` shows it."""
    bandwidth: Bandwidth
    latency: Latency
    capacity_gb: Positive | None = None
    """What it holds, in 10^9 bytes; None: unknown, and nothing is too large for it."""
    published: PublishedEnergy | None = None
    """None where no energy is published: such a part has no energy."""
