"""What every chip has, whatever its machine: an engine, a technology, a DRAM beside it."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from functools import cache, cached_property
from operator import attrgetter
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import numpy as np
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from accelsim.chips.operations import OperationsConfig
from accelsim.chips.technology import Technology
from accelsim.config import CHECKED, Clock, Count, Hashed, content_hash, field_names
from accelsim.parts.bandwidth import BandwidthPart
from accelsim.parts.timed import DramPart

OfKind = TypeVar("OfKind", bound="Hardware")

NEVER_BUILT = ConfigDict(**CHECKED, defer_build=True)
"""Of what only wings make something of: nothing is checked against it, so pydantic need not prepare that."""


@dataclass(frozen=True, kw_only=True, config=NEVER_BUILT)
class EngineConfig:
    """The keys of `[engine]` that every machine has; a wing adds its own.

    What may be shared between chips is everything but the keys that are declared here not to matter, so that a key
    that nobody thought of is never shared.
    """

    PRICE_ONLY: ClassVar[frozenset[str]] = frozenset()
    """Keys that change no count of a run whose weights stay on the chip: prices, areas, limits, the clock."""
    LAID_OUT_ALIKE: ClassVar[frozenset[str]] = frozenset()
    """Keys that, beside those, do not change how a layer is stored either."""
    UNPRICED: ClassVar[frozenset[str]] = frozenset()
    """Keys that change neither an area nor the price of an action."""
    FREE: ClassVar[dict[str, str]] = {}
    """Keys that may be raised at no cost in area or energy, and why; every other capacity or width has a price."""

    kind: str
    """Which machine it is."""
    clock_mhz: Clock
    """Clock of the machine."""

    def without(self, keys: frozenset[str]) -> tuple[Any, ...]:
        """Return what the configuration is but for some of its keys, as something to compare by."""
        kind: Any = type(self)
        return tuple(_but(kind, keys)(self))

    @property
    def run_key(self) -> tuple[Any, ...]:
        """What two configurations must share so that they share runs whose weights stay on the chip."""
        return self.without(self.PRICE_ONLY)

    @property
    def layout_key(self) -> tuple[Any, ...]:
        """What they must share so that they share how a layer is stored."""
        return self.without(self.PRICE_ONLY | self.LAID_OUT_ALIKE)

    @property
    def count_key(self) -> tuple[Any, ...]:
        """What they must share so that what was counted of a layer is worth keeping; no result depends on it."""
        return (self.kind,)

    @property
    def price_key(self) -> tuple[Any, ...]:
        """What they must share so that they share areas and prices of actions."""
        return self.without(self.UNPRICED)


@cache
def _but(kind: type, keys: frozenset[str]) -> attrgetter[Any]:
    return attrgetter(*(name for name in field_names(kind) if name not in keys))


@dataclass(frozen=True, kw_only=True, eq=False, config=CHECKED)
class MemoryConfig(Hashed):
    """The DRAM of a chip, and whether weights stay on the chip or are fetched from it in every inference."""

    dram: Annotated[DramPart | BandwidthPart, Field(discriminator="model")]
    """The part: the name of a shipped one, or a .toml beside the chip's; or its keys."""
    channels: Count = 1
    """Parts of this kind side by side; blocks are dealt out to them in turn."""
    residency: Literal["auto", "resident", "stream"] = "auto"
    """auto: resident if the whole network fits on the chip at once, otherwise every layer is streamed."""
    timing: Literal["service", "exact"] = "service"
    """service: a tile takes the time of a stream of its size, measured once; exact: its own requests are replayed."""

    @property
    def all_channels(self) -> int:
        """Channels of all parts together."""
        return self.channels * (self.dram.geometry.channels if isinstance(self.dram, DramPart) else 1)

    @cached_property
    def peak_gb_per_s(self) -> float:
        """Data rate of all pins, as the data sheet has it."""
        part = self.dram
        each = part.bandwidth.peak_gb_per_s if isinstance(part, BandwidthPart) else part.peak_bytes_per_ns
        return self.all_channels * each  # bytes / ns = GB/s

    def __post_init__(self) -> None:
        if self.timing == "exact" and isinstance(self.dram, BandwidthPart):
            raise ValueError(
                f'timing: cannot be exact with {self.dram.name}, which is bandwidth-only (got "exact"); use '
                '"service", or a part with timings'
            )


UNHASHED = ("name", "description", "source")
"""Fields of a chip that change no result."""


@dataclass(frozen=True, kw_only=True, eq=False, config=NEVER_BUILT)
class Hardware:
    """A chip: one engine, the technology it is made in, its DRAM if any; each kind of engine has a kind of chip.

    Chips are equal if their content is, whatever they are called. A subclass says `eq=False`, too, and declares
    `technology` again where it is priced by one: in the file of any other chip a technology is an error.
    """

    name: str
    """What it is called in results."""
    engine: EngineConfig
    technology: Technology | None = None
    """The process node: the name of a shipped one, or a .toml beside the chip's; or its keys."""
    memory: MemoryConfig | None = None
    operations: OperationsConfig | None = None
    """What it does with operations that are not layers; None: what its machine does by default."""
    description: str = ""
    """What it is, in a sentence or two; `accelsim list` shows it."""
    source: str = ""
    """Where its numbers are from."""

    @cached_property
    def content_hash(self) -> str:
        """128 bits over everything that can change a result: 32 hexadecimal digits."""
        return content_hash(self, omit=UNHASHED)

    def __eq__(self, other: object) -> bool:
        """Return whether another chip has the same content and name."""
        return isinstance(other, Hardware) and (self.name, self.content_hash) == (other.name, other.content_hash)

    def __hash__(self) -> int:
        """Return a hash of the content, which is known once: sweeps look up thousands of chips."""
        return hash(self.content_hash)


def stacked(values: Sequence[Any]) -> Any:
    """Return a value that several chips share, or an array of what each has, (chips,)."""
    first = values[0]
    if values.count(first) == len(values):
        return first
    return np.array(values, float if isinstance(first, float) else object)


def stack(chips: Sequence[OfKind], varied: Iterable[str]) -> OfKind:
    """Return one chip for several of a kind and name: what differs between them is an array, (chips,).

    That are the fields of the engine that are called varied, the hash, and the peak of DRAM; for all else the first
    chip stands. Formulas over a chip then give a column, with the same operations on the same numbers.
    """
    first = chips[0]
    chip, engine, memory = copy.copy(first), copy.copy(first.engine), copy.copy(first.memory)
    engine.__dict__.update({name: stacked([getattr(each.engine, name) for each in chips]) for name in varied})
    if memory is not None:
        memory.__dict__["peak_gb_per_s"] = stacked([each.memory.peak_gb_per_s for each in chips if each.memory])
    hashes = stacked([each.content_hash for each in chips])
    chip.__dict__.update(engine=engine, memory=memory, content_hash=hashes)
    return chip
