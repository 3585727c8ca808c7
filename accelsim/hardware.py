"""What a chip is: data and invariants, no behaviour."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field
from pydantic.dataclasses import dataclass

from accelsim.config import (
    CHECKED,
    SHIPPED,
    Count,
    Hashed,
    NonNegative,
    Positive,
    build,
    check_kind,
    content_hash,
    existing_file,
    find,
    label,
    read_toml,
    shipped_dir,
    with_overrides,
)
from accelsim.errors import InputError, collecting, raise_if_any
from accelsim.parts.bandwidth import BandwidthPart
from accelsim.parts.timed import DramPart
from accelsim.tensor_core_config import TensorCoreConfig


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class EieConfig:
    """The Efficient Inference Engine: compressed columns, broadcast of non-zero activations, one queue per PE.

    Sizes in bytes are per processing element (PE). Source: Han et al., ISCA 2016, Sections IV and VI.
    """

    kind: Literal["eie"] = "eie"
    pes: Annotated[int, Field(strict=True, ge=1, le=1024)] = 64
    fifo_depth: Annotated[int, Field(strict=True, ge=2, le=2**20)] = 8
    """Slots of the circular activation queue; it is full when it holds one less. The paper uses 8."""
    spmat_width_bits: Annotated[int, Field(strict=True, ge=1, le=4096)] = 64
    index_bits: Annotated[int, Field(strict=True, ge=0, le=16)] = 4
    """Width of a zero run. 0: no runs, every zero down to the last weight of a column is stored."""
    code_bits: Annotated[int, Field(strict=True, ge=1, le=16)] = 4
    weight_sharing: Annotated[bool, Field(strict=True)] = True
    """True: an entry holds a code into a shared codebook. False: it holds the weight itself, code_bits wide."""
    weight_bits: Annotated[int, Field(strict=True, ge=2, le=16)] = 16
    """Width of a codebook entry, fixed point."""
    activation_bits: Annotated[int, Field(strict=True, ge=2, le=32)] = 16
    pointer_bits: Annotated[int, Field(strict=True, ge=1, le=32)] = 16
    clock_mhz: Positive = 800.0
    registers_per_pe: Count = 64
    """Activations that the source, and likewise the destination, register file of one PE holds."""
    spmat_bytes: Count = 131072
    pointer_bytes: Count = 32768
    """Both banks (even and odd columns) together."""
    activation_bytes: Count = 2048
    capacity: Literal["error", "ignore"] = "error"

    def __post_init__(self) -> None:
        if self.spmat_width_bits < self.entry_bits:
            raise ValueError(
                f"spmat_width_bits: a row of {self.spmat_width_bits} bits cannot hold one entry of "
                f"code_bits + index_bits = {self.entry_bits} bits; the paper uses 64"
            )

    @property
    def entry_bits(self) -> int:
        """Bits of one stored entry: code and zero run."""
        return self.code_bits + self.index_bits

    @property
    def entries_per_row(self) -> int:
        """Entries that one read of the sparse-matrix memory returns."""
        return self.spmat_width_bits // self.entry_bits

    @property
    def slice_length(self) -> int | None:
        """Longest vector of one pass, or None where capacity is ignored."""
        return None if self.capacity == "ignore" else self.pes * self.registers_per_pe


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class EieConstants(Hashed):
    """What the synthesised EIE costs beside its memories, from Table II of the paper; per PE unless named otherwise."""

    clock_pj_per_pe_cycle: NonNegative
    pipeline_pj_per_pe_cycle: NonNegative
    lnzd_pj_per_node_cycle: NonNegative
    logic_area_um2_per_pe: NonNegative
    filler_area_um2_per_pe: NonNegative
    lnzd_area_um2_per_node: NonNegative
    node_nm: Count = 45
    """Node of the synthesis; at another, energies and areas are scaled by published polynomials."""


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class SramTable:
    """Which rows of a CACTI grid price the memories: one device type and objective for energy, area and time."""

    table: str
    device: str
    objective: str
    leakage_device: str
    leakage_objective: str


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Technology(Hashed):
    """A process node as prices: memories and arithmetic each by one table, registers by a published energy."""

    name: str
    node_nm: Count
    source: str
    sram: SramTable
    arithmetic: Literal["horowitz", "aladdin"]
    """The table of arithmetic energies; the two disagree by a factor of four for an int32 multiply."""
    register_bit_pj: Positive
    """One access of one bit, at this node."""
    extrapolate: Annotated[bool, Field(strict=True)] = False
    """Price memories beyond the grid, in node or size, by stated rules; results say so in column `extrapolated`."""
    notes: str = ""

    @property
    def sram_table_path(self) -> Path:
        """The CACTI grid as a file; a bare name is a shipped one."""
        name = Path(self.sram.table)
        return name if name.is_absolute() else shipped_dir("hwconfigs") / "technology" / name


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class MemoryConfig(Hashed):
    """The DRAM beside a chip, and whether weights stay on the chip or are fetched from it in every inference."""

    dram: Annotated[DramPart | BandwidthPart, Field(discriminator="model")]
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

    def __post_init__(self) -> None:
        if self.timing == "exact" and isinstance(self.dram, BandwidthPart):
            raise ValueError(
                f'timing: cannot be exact with {self.dram.name}, which is bandwidth-only (got "exact"); use '
                '"service", or a part with timings'
            )


class EieParts(NamedTuple):
    """What an EIE chip is made of."""

    engine: EieConfig
    technology: Technology
    constants: EieConstants


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Hardware:
    """A chip: one engine, the technology it is made in, the constants that were measured on it, its DRAM if any."""

    name: str
    engine: Annotated[EieConfig | TensorCoreConfig, Field(discriminator="kind")]
    technology: Technology | None = None
    """EIE is priced by it; a tensor core carries its own energies."""
    constants: EieConstants | None = None
    memory: MemoryConfig | None = None
    description: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.engine, EieConfig):
            if self.technology is None or self.constants is None:
                missing = [key for key in ("technology", "constants") if getattr(self, key) is None]
                raise InputError(*(f"{key}: is missing; an EIE chip needs it" for key in missing))
        elif self.memory is None:
            raise InputError("memory: is missing; a tensor core fetches its operands from DRAM: add dram = a part")

    @property
    def eie(self) -> EieParts:
        """What an EIE chip is made of; raises TypeError for another engine."""
        if not isinstance(self.engine, EieConfig) or self.technology is None or self.constants is None:
            raise TypeError(f"{self.name} is not an EIE chip")
        return EieParts(self.engine, self.technology, self.constants)

    @cached_property
    def content_hash(self) -> str:
        """128 bits over everything that can change a result: 32 hexadecimal digits."""
        return content_hash(self, omit=("name", "description", "source"))

    def __hash__(self) -> int:
        """Return a hash of the content, which is known once: sweeps look up thousands of chips."""
        return hash(self.content_hash)


def load_hardware(name: str | Path | Hardware, overrides: Mapping[str, Any] | None = None) -> Hardware:
    """Return the chip of this name or path, with dotted keys overridden.

    `load_hardware("eie-64pe-45nm", {"engine.fifo_depth": 16})`. A technology named by the chip is loaded with it, so
    `technology.register_bit_pj` can be overridden too.
    Raises InputError with every unknown key, wrong type and impossible value at once.
    """
    changes = dict(overrides or {})
    if isinstance(name, Hardware):
        return _build(dataclasses.asdict(name), changes, name.name, Path()) if changes else name
    path = find(name, "hwconfigs")
    return _build(_read_chip(path), changes, label(path), path.parent)


def _read_chip(path: Path, derived: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read a chip's file; with `base = "another"` it changes and adds keys of that chip, shipped or beside it."""
    data = read_toml(path)
    check_kind(data, "chip", label(path))
    base = data.pop("base", None)
    if base is None:
        return data
    if not isinstance(base, str):
        raise InputError(f"{label(path)}: base: must be the name of a chip, in quotes (got {base!r})")
    problems: list[str] = []
    with collecting(problems, f"{label(path)}: base: "):
        file = existing_file(path.parent / base) if base.endswith(".toml") else find(base, "hwconfigs")
        if file.resolve() in (chain := (*derived, path.resolve())):
            raise InputError(f"{base} is based on itself; name another chip")
        return _merged(_read_chip(file, chain), data)
    raise InputError(*problems)


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return a table with the keys of another put in, tables key by key."""
    both = {
        key: _merged(base[key], value) if isinstance(value, dict) and isinstance(base.get(key), dict) else value
        for key, value in changes.items()
    }
    return base | both


NAMED = {"technology": "hwconfigs/technology", "memory.dram": "hwconfigs/dram"}
"""Keys whose value may be the name of another file, a shipped one or one relative to the chip's, and of which kind."""


def _build(data: dict[str, Any], changes: dict[str, Any], source: str, folder: Path) -> Hardware:
    """Read the files that a chip names, then change keys, so that a number in such a file can be changed too."""
    names = {key: changes.pop(key) for key in NAMED if isinstance(changes.get(key), str)}
    data = with_overrides(data, names)
    problems: list[str] = []
    for dotted, kind in NAMED.items():
        *tables, key = dotted.split(".")
        owner: Any = data
        for table in tables:
            owner = owner.get(table) if isinstance(owner, dict) else None
        if isinstance(owner, dict) and isinstance(owner.get(key), str):
            name = owner[key]
            with collecting(problems, f"{source}: {dotted}: "):
                file = existing_file(folder / name) if name.endswith(".toml") else find(name, kind)
                owner[key] = read_toml(file)
                check_kind(owner[key], SHIPPED[kind], label(file))
    raise_if_any(problems)
    data = with_overrides(data, changes)
    part = data["memory"].get("dram") if isinstance(data.get("memory"), dict) else None
    if isinstance(part, dict):
        part.setdefault("model", DramPart.model)
    if isinstance(data.get("engine"), dict):
        data["engine"].setdefault("kind", EieConfig.kind)
    return build(Hardware, data, source)
