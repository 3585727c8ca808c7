"""What an N:M sparse tensor core is: cores, rates, tiles, memories and power, as checked data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, fields, replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from accelsim.chips import EngineConfig, Hardware, MemoryConfig, Technology
from accelsim.config import CHECKED, Clock, Count, Cycles, Hashed, NonNegative, Positive
from accelsim.errors import raise_if_any
from accelsim.number_formats import NUMBER_FORMATS, is_pattern

Share = Annotated[float, Field(strict=True, ge=0, le=1)]
Efficiency = Annotated[float, Field(strict=True, ge=1e-6, le=1)]
"""A share of a rate, by which something is divided."""
MOST_CORES = 2**20
"""Of a chip, more than any wafer has; each is counted by itself."""
LARGEST_SIDE = 4096
"""Of any tile."""
TileSide = Annotated[int, Field(strict=True, ge=1, le=LARGEST_SIDE)]
Bytes = Annotated[int, Field(strict=True, ge=0, le=2**40)]
MOST_BANKS = 256
Banks = Annotated[int, Field(strict=True, ge=1, le=MOST_BANKS)]
Tile = Annotated[list[TileSide], Field(min_length=2, max_length=2)]

DTYPES = [name for name, form in NUMBER_FORMATS.items() if form.family in ("fp", "int")]
"""What products may be computed in."""


OutputBits = Annotated[int, Field(strict=True, ge=8, le=64)]


@dataclass(frozen=True, kw_only=True, eq=False, config=CHECKED)
class OwnKernel(Hashed):
    """What differs in the library's kernel for one data type; the rest is shared. Keys are those of `Kernel`."""

    tiles: Annotated[list[Tile], Field(min_length=1, max_length=1000)] | None = None
    """Tiles to choose from, each [tokens, outputs]."""
    splits: Annotated[list[Count], Field(min_length=1, max_length=100)] | None = None
    """Into how many parts k may be cut."""
    efficiency: Efficiency | None = None
    """Multiply-accumulates per cycle that instructions sustain / those of the data sheet."""
    step_sync_cycles: Cycles | None = None
    """Of every step, before the tensor cores begin."""
    load_cycles_per_k: Cycles | None = None
    """The pace, in 16-bit types, at which loads come in however small the tile."""
    overhead_us: NonNegative | None = None
    """Time of every kernel besides its tiles."""
    floor_us: NonNegative | None = None
    """No kernel is launched and done in less."""
    raster_tiles: Count | None = None
    """Tiles of tokens that share one pass over the weights."""
    overlap_loss: Share | None = None
    """Share of the shorter of computing and DRAM that the longer does not hide."""
    persistent: bool | None = None
    """The output of one tile leaves while the next is computed."""
    output_bits: OutputBits | None = None
    """Of a result."""
    source: str = ""
    """Where its numbers are from."""


@dataclass(frozen=True, kw_only=True, eq=False, config=CHECKED)
class Kernel(Hashed):
    """How a library runs a product on the chip: its tiles and what they cost beyond the arithmetic.

    A tile is [tokens, outputs] of the result; k moves in steps of `engine.step_k`.
    """

    tiles: Annotated[list[Tile], Field(min_length=1, max_length=1000)]
    """Tiles to choose from, each [tokens, outputs]."""
    splits: Annotated[list[Count], Field(min_length=1, max_length=100)]
    """Into how many parts k may be cut, each with a tile of its own; their sums are added by a further kernel."""
    efficiency: Efficiency
    """Multiply-accumulates per cycle that instructions sustain / those of the data sheet."""
    step_sync_cycles: Cycles
    """Of every step, before the tensor cores begin: data from shared memory, the first instruction, a barrier."""
    load_cycles_per_k: Cycles
    """The pace, in 16-bit types, at which loads come in however small the tile: their latency / stages under way."""
    overhead_us: NonNegative
    """Time of every kernel besides its tiles."""
    floor_us: NonNegative
    """No kernel is launched and done in less."""
    raster_tiles: Count = 1
    """Tiles of tokens that share one pass over the weights; without L2 the search chooses the order of the tiles."""
    overlap_loss: Share
    """Share of the shorter of computing and DRAM that the longer does not hide."""
    persistent: bool = False
    """The output of one tile leaves while the next is computed."""
    shared_reads: Literal["warps", "wgmma", "wgmma-sparse"] = "warps"
    """Who reads operands from shared memory: warps of 64 x 64, or warp groups of 64 x n on the whole tile."""
    output_bits: OutputBits | None = None
    """Of a result; None: those of its type, 16 at least."""
    formats: Mapping[str, OwnKernel] = field(default_factory=dict)
    """What differs in the kernel of a data type, as in [engine.dense.formats.int8]."""
    source: str = ""
    """Where its numbers are from."""

    def of(self, dtype: str) -> Kernel:
        """Return the kernel for a data type: with what it has of its own."""
        own = self.formats.get(dtype)
        if own is None:
            return self
        given = {key.name: getattr(own, key.name) for key in fields(own)}
        return replace(self, formats={}, **{name: value for name, value in given.items() if value not in (None, "")})

    def output_bytes(self, dtype: str) -> float:
        """Return the size of a result: narrow types leave the chip with 16 bits where nothing else is said."""
        return (self.of(dtype).output_bits or max(16, NUMBER_FORMATS[dtype].bits)) / 8


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Instruction:
    """A matrix instruction as measured alone; m x n x k with k of the dense operand."""

    dtype: str
    """Data type of its operands."""
    sparse: bool
    """Whether one operand is packed by a pattern N:M."""
    m: Count
    """Rows of the result."""
    n: Count
    """Columns of the result."""
    k: Count
    """Products that each result adds up."""
    issue_interval_cycles: Positive
    """Between two instructions of one sub-core that do not depend on each other."""
    latency_cycles: Positive
    """From issue to the result."""
    source: str = ""
    """Who measured it."""


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Power:
    """The power limit, and the energy of computing and moving without DRAM; a lower clock has a lower voltage."""

    limit_w: Positive
    """What the board may draw; above it the clock falls."""
    basis: Literal["measured board", "published table"] = "measured board"
    """What the energies are: not a technology's, in either case."""
    static_w: NonNegative
    """What the board draws at rest."""
    fma_pj: NonNegative
    """One multiply-accumulate of 16 bits with its operands from registers and shared memory, at the full clock.

    Of other types in proportion to their bits."""
    l2_pj_per_byte: NonNegative
    """A byte from L2."""
    dram_pj_per_byte: NonNegative
    """Of the chip's side of the memory: controller and pins; what the part costs comes with the part."""
    least_voltage: Share = 0.72
    """Share of the full voltage below which it never falls."""
    voltage_slope: Share = 0.65
    """Voltage / full voltage = max(least, 1 - slope (1 - clock / full clock))."""
    burst_seconds: NonNegative = 0.0
    """How long a board may exceed its limit by `burst_factor`."""
    burst_factor: Annotated[float, Field(strict=True, ge=1, le=1000, allow_inf_nan=False)] = 1.0
    """A multiple of the limit, for `burst_seconds`."""
    source: str = ""
    """Where these numbers are from."""

    def voltage(self, clock_share: float) -> float:
        """Return the share of the full voltage that a share of the full clock needs."""
        return max(self.least_voltage, 1 - self.voltage_slope * (1 - clock_share))


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class TensorCoreConfig(EngineConfig):
    """An N:M sparse tensor core machine. Rates are of one core and in dense multiply-accumulates.

    Sources: Sun et al., TPDS 2023 (instructions); NVIDIA A100 white paper (machine).
    """

    FREE: ClassVar = {
        "subcores": "sub-cores share the multipliers of their core, which are paid by the rate",
        "step_k": "a step lies in shared memory, which is paid by its size",
        "stages": "stages lie in shared memory, which is paid by its size",
        "skip_k": "bits of slices lie with the weights in DRAM, and are read from L2",
        "l2_usable": "what two partitions of L2 keep twice is paid by the size of L2",
        "least_k_per_split": "a rule of the library",
        "dense": "tiles and pace of a library: software",
        "sparse": "tiles and pace of a library: software",
        "instructions": "as they were measured alone; no run uses them",
        "minimize": "a rule of the library",
        "choose": "a rule of the library",
        "fitted": "what the numbers of the kernels were found from",
    }

    kind: Literal["tensor-core"] = "tensor-core"
    cores: Annotated[int, Field(strict=True, ge=1, le=MOST_CORES)]
    """Cores of the chip: streaming multiprocessors of a GPU."""
    subcores: Count = 4
    """Parts of a core, each of which issues matrix instructions of its own."""
    clock_mhz: Clock
    fma_per_cycle: Mapping[str, Count]
    """By data type, of a core; a sparse pattern N:M in `patterns` runs M / N times as fast."""
    dtype: str = ""
    """What networks run in; empty: the first of `fma_per_cycle`."""
    patterns: list[str] = Field(default_factory=list)
    """Patterns N:M of weights that run faster than dense ones, as in ["2:4"]."""
    accumulator_bits: Literal[16, 32] | None = None
    """Width of a sum, floating-point or integer as its products are, and no less than they; None: 32."""
    metadata_bits_per_value: Annotated[int, Field(strict=True, ge=0, le=32)] = 2
    """Place of each value that a pattern keeps."""
    skip_k: Annotated[int, Field(strict=True, ge=0, le=4096)] = 0
    """Elements of a slice of k that is left out where it is zero in all weight rows of a tile; 0: none is."""
    instructions: list[Instruction] = Field(default_factory=list)
    step_k: Count = 32
    """Depth of a step in 16-bit types; others move the same bytes."""
    stages: Annotated[int, Field(strict=True, ge=2, le=64)] = 4
    """Steps whose operands shared memory holds: one is computed while the others load."""
    shared_memory_bytes: Count
    """Shared memory of one core, which holds the operands of its tile."""
    shared_bytes_per_cycle: Positive
    """What the shared memory of one core delivers."""
    shared_banks: Banks | None = None
    """Banks of a core's shared memory; None, or too few: as many as deliver its bytes per cycle in rows of 512 bits."""
    accumulators: Literal["registers", "shared"] = "shared"
    """Where the sums of a tile lie while it is computed: in registers, or in shared memory beside its stages."""
    register_bytes: Bytes = 0
    """Registers of a core that hold the sums of a tile; 0 if shared memory does."""
    l2_bytes: Bytes = 0
    """L2, or global buffer, of the whole chip; 0: there is none, and what shared memory has room for is kept there."""
    l2_usable: Efficiency = 1.0
    """Share that one address sees: less where two partitions keep copies."""
    l2_bytes_per_cycle: Positive
    """What it delivers to all cores; without L2 the bus from the memory controller does."""
    l2_banks: Banks | None = None
    """Banks of L2, as in `shared_banks`."""
    prologue_cycles: Cycles
    """From the first operands of a tile to its first multiply-accumulate: latency of shared memory and instruction.

    What the DRAM takes until they are there is added, in ns: at any clock, of any part.
    """
    epilogue_cycles_per_output: Cycles
    """After the last multiply-accumulate of a tile, for each of its results."""
    reduction_us: NonNegative = 0.0
    """The kernel that adds the parts of a split k."""
    least_k_per_split: Count = 1024
    """k is never cut into shorter parts."""
    minimize: Literal["time", "energy", "edp"] = "time"
    """What the choice of a tile minimises; time: the least energy among those within 1 % of the fastest."""
    choose: Literal["pattern", "fastest"] = "pattern"
    """How weights that hold a pattern run. pattern: packed; fastest: packed or dense, whichever `minimize` prefers."""
    fitted: list[str] | None = None
    """Data types whose kernels were fitted to measurements; others give a warning. None: there are none to fit to."""
    dense: Kernel
    sparse: Kernel | None = None
    power: Power | None = None

    def __post_init__(self) -> None:
        raise_if_any(self._problems())

    @property
    def type_of_networks(self) -> str:
        """The data type that networks run in."""
        return self.dtype or next(iter(self.fma_per_cycle))

    def kernel_of(self, pattern: str | None, dtype: str) -> Kernel:
        """Return what runs weights that are packed by a pattern, or dense ones: None."""
        return (self.dense if pattern is None else self.sparse or self.dense).of(dtype)

    def sum_bits(self, dtype: str) -> int:
        """Return the width of the sums of products in this data type."""
        return max(self.accumulator_bits or 32, NUMBER_FORMATS[dtype].bits)

    def packed(self, dtype: str, pattern: str | None) -> float:
        """Return the size of stored weights, indices included / dense, of a pattern N:M or None."""
        if pattern is None:
            return 1.0
        n, _, m = pattern.partition(":")
        bits = NUMBER_FORMATS[dtype].bits
        return int(n) / int(m) * (bits + self.metadata_bits_per_value) / bits

    def room(self, tile: Any, dtype: str, pattern: str | None) -> tuple[Any, Any]:
        """Return the bytes of shared memory and of registers that a tile (tokens, outputs) leaves; below 0: lacks.

        For arrays of tokens and outputs, arrays.
        """
        tokens, outputs = tile
        step_bytes = self.step_of(dtype) * NUMBER_FORMATS[dtype].bits / 8
        stages = self.stages * step_bytes * (tokens + self.packed(dtype, pattern) * outputs)
        sums = self.sum_bits(dtype) / 8 * tokens * outputs
        if self.accumulators == "registers":
            return self.shared_memory_bytes - stages, self.register_bytes - sums
        return self.shared_memory_bytes - stages - sums, 0.0

    def lack_of(self, tile: Sequence[int], dtype: str, pattern: str | None) -> str | None:
        """Say what a tile needs more than there is, None where it fits."""
        shared, registers = self.room(tile, dtype, pattern)
        what = f"tile {tile[0]} x {tile[1]} of {dtype}" + (f" packed {pattern}" if pattern else "")
        if shared < 0:
            sums = "" if self.accumulators == "registers" else " and its sums"
            return (
                f"{what}: needs {self.shared_memory_bytes - shared:.0f} bytes of shared memory for {self.stages} "
                f"stages of {self.step_of(dtype)}{sums}, has {self.shared_memory_bytes}; choose a smaller tile or "
                "fewer stages"
            )
        if registers < 0:
            return (
                f"{what}: needs {self.register_bytes - registers:.0f} bytes of registers for its sums, has "
                f"{self.register_bytes}; choose a smaller tile"
            )
        return None

    def step_of(self, dtype: str) -> int:
        """Return the k of one step: it has the same bytes for every data type."""
        return max(1, self.step_k * 16 // NUMBER_FORMATS[dtype].bits)

    def _problems(self) -> Iterator[str]:
        if not self.fma_per_cycle:
            yield "fma_per_cycle: is empty; give the rate of a data type, as in fma_per_cycle.fp16 = 64"
        if self.dtype and self.dtype not in self.fma_per_cycle:
            yield f"dtype: '{self.dtype}' has no rate in fma_per_cycle; it has {', '.join(self.fma_per_cycle)}"
        for dtype in self.fma_per_cycle:
            if dtype not in DTYPES:
                yield f"fma_per_cycle.{dtype}: is not a data type; known: {', '.join(DTYPES)}"
        for pattern in self.patterns:
            if not is_pattern(pattern):
                yield f"patterns: '{pattern}' is not a pattern N:M with 0 < N < M <= 32; write \"2:4\""
        if self.patterns and self.sparse is None:
            yield "sparse: is missing; a chip with patterns needs a [engine.sparse] kernel"
        for dtype in self.fma_per_cycle if self.skip_k else ():
            step = self.step_of(dtype) if dtype in DTYPES else self.skip_k
            if step % self.skip_k:
                whole = ", ".join(str(k) for k in range(1, step + 1) if step % k == 0)
                yield f"skip_k: must divide the {step} elements of a step of {dtype} (got {self.skip_k}); use {whole}"
        if (self.accumulators == "registers") != (self.register_bytes > 0):
            yield (
                f'register_bytes: must be above 0 with accumulators = "registers", and left out without (got '
                f'{self.register_bytes} with "{self.accumulators}")'
            )
        for key, default in {"l2_usable": 1.0, "l2_banks": None}.items() if self.l2_bytes == 0 else ():
            if (got := getattr(self, key)) != default:
                yield f"{key}: describes an L2, which the chip does not have (got {got}); leave it out"
        known = ", ".join(self.fma_per_cycle)
        kernels = {name: kernel for name, kernel in (("dense", self.dense), ("sparse", self.sparse)) if kernel}
        for name, kernel in kernels.items():
            for dtype in kernel.formats:
                if dtype not in self.fma_per_cycle:
                    yield f"{name}.formats.{dtype}: has no rate in fma_per_cycle; it has {known}"
        for dtype in self.fitted or ():
            if dtype not in NUMBER_FORMATS:
                yield f"fitted: '{dtype}' is not a data type; known: {', '.join(NUMBER_FORMATS)}"
        all_kernels = {
            f"{name}{own}": kernel.of(own.rpartition(".")[2])
            for name, kernel in kernels.items()
            for own in ("", *(f".formats.{dtype}" for dtype in kernel.formats))
        }
        for name, kernel in all_kernels.items() if self.l2_bytes == 0 else ():
            if max(kernel.splits) > 1:
                yield f"{name}.splits: the parts of a split k need an L2, which the chip does not have; use [1]"
            if kernel.raster_tiles > 1:
                yield f"{name}.raster_tiles: is for chips with L2; without one the order is searched; leave it out"
        if all(dtype in DTYPES for dtype in self.fma_per_cycle):
            yield from self._kernels_without_a_tile()
        if self.step_k > self.least_k_per_split:
            yield f"least_k_per_split: must be at least step_k = {self.step_k} (got {self.least_k_per_split})"

    def _kernels_without_a_tile(self) -> Iterator[str]:
        """Say of which kernel no tile fits, and what the smallest would need."""
        wanted: list[tuple[str, Kernel, str | None]] = [("dense", self.dense, None)]
        if self.sparse is not None:
            wanted += [("sparse", self.sparse, pattern) for pattern in self.patterns if is_pattern(pattern)]
        for name, kernel, pattern in wanted:
            for dtype in self.fma_per_cycle:
                tiles = kernel.of(dtype).tiles
                lacks = [self.lack_of(tile, dtype, pattern) for tile in tiles]
                if None not in lacks:
                    smallest = max(range(len(lacks)), key=lambda i: min(self.room(tiles[i], dtype, pattern)))
                    yield f"{name}.tiles: none fits; the smallest need: {lacks[smallest]}"
                    break


BOTTOM_UP = ("accumulator_bits", "shared_banks", "l2_banks")
"""Keys of the engine that only a technology puts a price on."""


@dataclass(frozen=True, kw_only=True, eq=False, config=CHECKED)
class TensorCoreConstants(Hashed):
    """What no table of a technology has: clock and control, in proportion to what they drive.

    Energy: 22 % of what an HMMA instruction computes goes into fetching, decoding and its operands (16 % of an IMMA),
    Dally, "Deep Learning Hardware", MLSys 2021; the clock network of EIE is 26 % of all else (Table II). Area: control
    is 2 % of the TPU's die where buffers and arithmetic are 67 %, Jouppi et al., ISCA 2017. ASSUMED for other designs.
    """

    control_energy: NonNegative = 0.22
    """Energy of clock and control in every cycle / energy of all multipliers with their registers at the full rate."""
    clock_pj_per_bit_cycle: NonNegative = 0.00089
    """Clock of the registers of sums, in every cycle: EIE's, by its Table II and the bits of its registers, in 45 nm.

    Scaled to other nodes by published polynomials."""
    control_area: NonNegative = 0.03
    """Area of control / area of memories, multipliers and registers."""
    wire_pj_per_bit_mm: NonNegative = 0.1
    """From a bank across the others: 0.121 at 40 nm, 0.078 projected for 10 nm (Keckler et al., IEEE Micro 2011).

    0.1 at 14 nm (Dally et al., CACM 2020). The same at every node."""


@dataclass(frozen=True, kw_only=True, eq=False, config=CHECKED)
class TensorCoreChip(Hardware):
    """A chip with tensor cores, which fetches its operands from DRAM.

    A technology prices it bottom-up, or `engine.power` says what was measured; with neither it has no energies.
    """

    engine: TensorCoreConfig
    technology: Technology | None = None
    memory: MemoryConfig = field()  # without the default of other chips
    constants: TensorCoreConstants | None = None
    """None: the defaults, where a technology prices the chip."""

    def __post_init__(self) -> None:
        raise_if_any(self._problems())

    def _problems(self) -> Iterator[str]:
        if self.technology is not None and self.engine.power is not None:
            yield (
                f"technology: {self.technology.name} is not used: engine.power gives the energies of a "
                f"{self.engine.power.basis}; leave out one of the two"
            )
        if self.memory.residency == "resident":
            yield "memory.residency: cannot be resident: weights come from DRAM or lie in L2; leave it out"
        if self.memory.timing == "exact":
            yield "memory.timing: cannot be exact: tiles take what a stream of their size takes; leave it out"
        if self.technology is None and self.engine.power is None and self.engine.minimize != "time":
            yield (
                f"engine.minimize: the chip has no energies to choose by (got {self.engine.minimize!r}); name a "
                'technology, or use "time"'
            )
        if (said := self.operations) is not None and said.dtype and said.dtype not in self.engine.fma_per_cycle:
            known = ", ".join(self.engine.fma_per_cycle)
            yield f"operations.dtype: '{said.dtype}' has no rate in engine.fma_per_cycle; it has {known}"
        if self.technology is None:
            given = [f"engine.{key}" for key in BOTTOM_UP if getattr(self.engine, key) is not None]
            given += ["constants"] if self.constants is not None else []
            for key in given:
                yield f"{key}: is not used without a technology, which prices it; leave it out, or name a technology"
