"""One GEMM on a tensor core machine: what its chip makes of it, the tile that is fastest, and what that costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from accelsim.engines.counts import Counts
from accelsim.engines.tensor_core import specification, twin
from accelsim.engines.tensor_core.bound import limited_by
from accelsim.engines.tensor_core.config import LARGEST_SIDE, Kernel, TensorCoreChip, TensorCoreConfig
from accelsim.engines.tensor_core.plan import EDP, ENERGY, TIME, TIME_ALONE, Limits, Machine, Ran, Schedule
from accelsim.engines.tensor_core.prices import linear
from accelsim.engines.tensor_core.tiles import (
    INNER,
    NO_SKIPPING,
    OUTPUTS_INNER,
    PANEL,
    Choices,
    Fetched,
    Size,
    Skipping,
)
from accelsim.errors import InputError, collecting, did_you_mean, raise_if_any
from accelsim.memory.service import measure
from accelsim.network.sizes import check_countable
from accelsim.number_formats import NUMBER_FORMATS
from accelsim.parts.timed import BLOCK_BYTES

WARM_UP_RUNS, TIMED_RUNS = 25, 50
"""How a GEMM is measured; a board that may exceed its limit for a while does so in the first of these runs."""

MINIMIZE = {"time": TIME, "energy": ENERGY, "edp": EDP}

RunProduct = Callable[[Machine, Limits, Size, Choices, bool, Skipping], Ran | None]
BACKENDS: dict[str, RunProduct] = {
    "compiled": twin.run_product,
    "simpy": specification.run_product,
}


class Gemm(NamedTuple):
    """A product of tokens x in_features activations with out_features x in_features weights.

    `pattern` is the N:M that the weights are packed by, None where they are stored dense. `groups` products of this
    size, each with weights and activations of its own, are one kernel.
    """

    tokens: int
    out_features: int
    in_features: int
    dtype: str
    pattern: str | None = None
    groups: int = 1
    input_share: float = 1.0
    """Activations that there are / tokens x in_features: less for a convolution, which is lowered as it is read."""
    output_share: float = 1.0
    """Results that leave the chip / tokens x out_features: 0 where the kernel goes on with them."""
    launched: bool = True
    """Whether it is a kernel of its own."""


class GemmOutcome(NamedTuple):
    """What a GEMM took: the schedule and clock it ran with, counts, time in µs with launch, and what bound it."""

    plan: Schedule
    counts: Counts
    clock_mhz: float
    time_us: float
    energy_uj: float
    """As the choice of the tile saw it, by what its energy is linear in."""
    limited_by: str
    compute_cycles: int
    """The arithmetic alone, of the core that has the most."""
    executed_as: str
    """A pattern N:M, skip:K where slices of K were skipped, else dense."""
    stored: int
    """Weights."""
    metadata_bits: int
    inputs_read: float
    """Share of the inputs that any tile reads."""
    loop_order: str
    """Without L2: which loop is inner, and what shared memory keeps."""
    rounds: tuple[tuple[int, int, int], ...]
    """Of the rounds of tiles: steps, how many have so many, cycles of each in DRAM; the last is the one not full."""
    overlap_loss_per_mille: int
    other_us: float = 0.0
    """Of the way that was not taken, packed or dense, where the chip had the choice; 0: it had none."""

    def times(self, steps: int) -> GemmOutcome:
        """Return the outcome of so many of these one after another, each launched anew."""
        if steps == 1:
            return self
        return self._replace(
            counts=self.counts.times(steps),
            time_us=steps * self.time_us,
            other_us=steps * self.other_us,
            energy_uj=steps * self.energy_uj,
            compute_cycles=steps * self.compute_cycles,
        )


def better(first: GemmOutcome, second: GemmOutcome, minimize: str) -> GemmOutcome:
    """Return which of two ways to run a product `engine.minimize` prefers; of equals that with less DRAM traffic."""
    cost: dict[str, Callable[[GemmOutcome], float]] = {
        "time": lambda ran: ran.time_us,
        "energy": lambda ran: ran.energy_uj,
        "edp": lambda ran: ran.energy_uj * ran.time_us,
    }
    return min(first, second, key=lambda ran: (cost[minimize](ran), ran.plan.dram_bytes))


@lru_cache(maxsize=256)
def pattern_of(pattern: str | None) -> tuple[int, int]:
    """Return N and M of a pattern, 1 and 1 of None."""
    n, m = (1, 1) if pattern is None else map(int, pattern.split(":"))
    return n, m


def problems(gemm: Gemm, config: TensorCoreConfig) -> list[str]:
    """Say what keeps a GEMM from running on this chip."""
    sizes = {name: getattr(gemm, name) for name in ("tokens", "out_features", "in_features")}
    wrong = {name: problem for name, size in sizes.items() if (problem := _size_problem(size))}
    found = [f"{name}: {problem}" for name, problem in wrong.items()]
    if gemm.dtype not in config.fma_per_cycle:
        known = config.fma_per_cycle
        found.append(f"dtype: the chip has no {gemm.dtype!r}{did_you_mean(str(gemm.dtype), known)}")
    if gemm.pattern is not None and gemm.pattern not in config.patterns:
        has = f"it has {', '.join(config.patterns)}" if config.patterns else "it has none"
        found.append(f"pattern: the chip cannot exploit {gemm.pattern!r}, {has}; run it dense with pattern=None")
    elif "in_features" not in wrong and gemm.in_features % pattern_of(gemm.pattern)[1]:
        found.append(
            f"pattern: {gemm.pattern} needs in_features in whole groups (got {gemm.in_features}); pad the weights"
        )
    if not wrong:
        with collecting(found):
            padded = {name: -(-int(size) // LARGEST_SIDE) * LARGEST_SIDE for name, size in sizes.items()}
            whole = {"groups": gemm.groups, **padded, "in_features": int(gemm.in_features)}
            check_countable(whole, f", padded to tiles of {LARGEST_SIDE} x {LARGEST_SIDE}")
    return found


def _size_problem(size: Any) -> str | None:
    """Say what keeps something from being a size."""
    if not isinstance(size, int | np.integer) or isinstance(size, bool):
        return f"must be a whole number (got {size!r})"
    return f"must be at least 1 (got {size})" if size < 1 else None


def run(
    gemm: Gemm,
    chip: TensorCoreChip,
    backend: str,
    tile: tuple[int, int] | None = None,
    *,
    repeated: bool = True,
    skipping: Skipping = NO_SKIPPING,
) -> GemmOutcome:
    """Run a GEMM with the fastest of the chip's tiles and splits, or with one tile.

    `repeated`: as it is measured, again and again, so that L2 keeps what it can; else L2 is empty at first.
    `skipping`: the live slices of dense weights, for a chip that skips the others.
    Raises InputError with every problem of the GEMM and the tile.
    """
    config = chip.engine
    raise_if_any([*problems(gemm, config), *_shape_problems(tile)])
    kernel = config.kernel_of(gemm.pattern, gemm.dtype)
    if tile is not None:
        raise_if_any(filter(None, [config.lack_of(tile, gemm.dtype, gemm.pattern)]))
    machine, limits, choices = _seen(chip, *gemm[3:])
    if tile is not None:
        choices = choices_of(gemm, config, [tile], kernel)
    size = Size(gemm.tokens, gemm.out_features, gemm.in_features)
    ran = BACKENDS[backend](machine, limits, size, choices, repeated, skipping)
    if ran is None:
        raise InputError(f"{chip.name}: engine splits: none of {kernel.splits} can be used; add 1")
    time_us = max(limits.floor_us, ran.time_us)
    n, m = pattern_of(gemm.pattern)
    stored = round(ran.tiles.weights * gemm.groups * gemm.out_features * gemm.in_features) * n // m
    return GemmOutcome(
        plan=ran.plan,
        counts=_counts(gemm, config, ran, stored, time_us),
        clock_mhz=ran.clock_mhz,
        time_us=time_us,
        energy_uj=ran.energy_uj,
        limited_by=limited_by(machine, limits, size, ran.tiles, repeated),
        compute_cycles=int(ran.per_core[0].max()),
        executed_as=f"skip:{skipping.slice_k}" if skipping.slice_k else gemm.pattern or "dense",
        stored=stored,
        metadata_bits=stored * config.metadata_bits_per_value if gemm.pattern else ran.tiles.bitmap_bits,
        inputs_read=ran.tiles.inputs,
        loop_order="" if config.l2_bytes else _loop_order(ran.tiles.fetched),
        rounds=tuple(map(tuple, ran.rounds.tolist())),
        overlap_loss_per_mille=limits.overlap_loss_per_mille,
    )


def output_bytes(dtype: str) -> float:
    """Return the size of a result: narrow types leave the chip with 16 bits."""
    return max(2.0, NUMBER_FORMATS[dtype].bits / 8)


@lru_cache(maxsize=256)
def _seen(
    chip: TensorCoreChip,
    dtype: str,
    pattern: str | None,
    groups: int,
    input_share: float,
    output_share: float,
    launched: bool,
) -> tuple[Machine, Limits, Choices]:
    """Return a chip as the products of a network see it that differ in size alone."""
    gemm = Gemm(1, 1, 1, dtype, pattern, groups, input_share, output_share, launched)
    config = chip.engine
    kernel = config.kernel_of(pattern, dtype)
    return (
        machine_of(gemm, chip, kernel),
        limits_of(gemm, chip, kernel),
        choices_of(gemm, config, kernel.tiles, kernel),
    )


def choices_of(gemm: Gemm, config: TensorCoreConfig, tiles: Sequence[Sequence[int]], kernel: Kernel) -> Choices:
    """Return which tiles and splits a GEMM can use: those that fit, of which there is one on any chip."""
    shapes = np.array(tiles, np.int64)
    shared, registers = config.room(shapes.T, gemm.dtype, gemm.pattern)
    fits = np.minimum(shared, registers) >= 0
    return Choices(shapes[fits], np.array(kernel.splits, np.int64), config.least_k_per_split, shared[fits])


def machine_of(gemm: Gemm, chip: TensorCoreChip, kernel: Kernel) -> Machine:
    """Return the chip as its schedule sees it."""
    config, memory = chip.engine, chip.memory
    service = measure(memory.dram)
    bits = NUMBER_FORMATS[gemm.dtype].bits
    n, m = pattern_of(gemm.pattern)
    rate = config.fma_per_cycle[gemm.dtype] * m / n
    return Machine(
        cores=config.cores,
        clock_mhz=config.clock_mhz,
        fma_per_cycle=rate * kernel.efficiency,
        peak_fma_per_cycle=rate,
        element_bytes=bits / 8,
        output_bytes=kernel.output_bytes(gemm.dtype) * gemm.output_share,
        sum_bytes=config.sum_bits(gemm.dtype) / 8 if config.accumulators == "shared" else 0.0,
        packed=config.packed(gemm.dtype, gemm.pattern),
        step_k=config.step_of(gemm.dtype),
        shared_bytes_per_cycle=config.shared_bytes_per_cycle,
        wgmma={"warps": 0, "wgmma": 1, "wgmma-sparse": 2}[kernel.shared_reads],
        l2_bytes=config.l2_usable * config.l2_bytes,
        l2_bytes_per_cycle=config.l2_bytes_per_cycle,
        dram_bytes_per_us=memory.all_channels * float(BLOCK_BYTES * 1000 / service.read_ns),
        dram_latency_us=float(service.latency_ns) / 1000,
        prologue_cycles=config.prologue_cycles,
        epilogue_cycles_per_output=config.epilogue_cycles_per_output,
        step_sync_cycles=kernel.step_sync_cycles,
        load_cycles_per_k=kernel.load_cycles_per_k * bits / 16,
        raster_tiles=kernel.raster_tiles,
        persistent=kernel.persistent,
        stages=config.stages,
        reduction_us=config.reduction_us,
        groups=gemm.groups,
        input_share=gemm.input_share,
    )


def limits_of(gemm: Gemm, chip: TensorCoreChip, kernel: Kernel) -> Limits:
    """Return what the board allows, and what a run costs beside its tiles."""
    n, m = pattern_of(gemm.pattern)
    power, energies = chip.engine.power, linear(chip, gemm.dtype, gemm.pattern is not None)
    return Limits(
        minimize=MINIMIZE[chip.engine.minimize] if any(energies) else TIME_ALONE,
        overhead_us=gemm.launched * kernel.overhead_us,
        floor_us=gemm.launched * kernel.floor_us,
        overlap_loss_per_mille=round(1000 * kernel.overlap_loss),
        limit_w=0.0 if power is None else power.limit_w,
        static_w=energies.static_w,
        fma_pj=energies.fma_pj,
        executed=n / m,
        shared_pj_per_byte=energies.shared_pj_per_byte,
        sum_pj_per_byte=energies.sum_pj_per_byte,
        l2_pj_per_byte=energies.l2_pj_per_byte,
        dram_pj_per_byte=energies.dram_pj_per_byte,
        least_voltage=0.0 if power is None else power.least_voltage,
        voltage_slope=0.0 if power is None else power.voltage_slope,
        burst_us=0.0 if power is None else 1e6 * power.burst_seconds,
        burst_factor=1.0 if power is None else power.burst_factor,
        runs_before=WARM_UP_RUNS,
        runs_timed=TIMED_RUNS,
    )


def _loop_order(fetched: Fetched) -> str:
    """Name a loop order and what is kept in it."""
    inner, outer = ("outputs", "tokens") if fetched.order == OUTPUTS_INNER else ("tokens", "outputs")
    operand = {"outputs": "weights", "tokens": "inputs"}
    kept = [f"{operand[outer]} of a {'row' if outer == 'tokens' else 'column'}"] if fetched.kept & PANEL else []
    kept += [f"all {operand[inner]}"] if fetched.kept & INNER else []
    return f"{inner} inner, {' and '.join(kept) or 'nothing'} kept"


def _shape_problems(tile: Any) -> list[str]:
    """Say what keeps something that was asked for from being a tile; None, the fastest, is one."""
    if tile is None:
        return []
    if not isinstance(tile, tuple | list) or len(tile) != 2:
        return [f"tile: must be tokens and outputs, as in (128, 64) (got {tile!r})"]
    found = [f"tile: {problem}" for size in tile if (problem := _size_problem(size))]
    if not found and max(tile) > LARGEST_SIDE:
        found.append(f"tile: must be at most {LARGEST_SIDE} x {LARGEST_SIDE} (got {tile[0]} x {tile[1]})")
    return found


def _counts(gemm: Gemm, config: TensorCoreConfig, ran: Ran, stored: int, time_us: float) -> Counts:
    """Return cycles, actions, and for every core its busy cycles and its stalls by cause."""
    n, m = pattern_of(gemm.pattern)
    plan = ran.plan
    steps = int(ran.tiles.core_steps.sum())
    executed = steps * config.step_of(gemm.dtype) * plan.tile_tokens * plan.tile_outputs * n // m
    useful = gemm.tokens * stored
    busy, *stalls = map(tuple, ran.per_core.tolist())
    # A block that holds the end of what is read and the beginning of what is written counts once, as written.
    written = -(-plan.dram_write_bytes // BLOCK_BYTES)
    read = -(-plan.dram_bytes // BLOCK_BYTES) - written
    return Counts(
        cycles=ran.cycles,
        macs=useful,
        padding_macs=executed - useful,
        busy_cycles=busy,
        stall_cycles={
            **dict(zip((*specification.CAUSES[1:], "wave"), stalls, strict=True)),
            "vector": len(busy) * (0,),
        },
        actions={
            "fma": executed,
            # Both operands are read, the sum is read and written.
            "register_bits": executed * 2 * (NUMBER_FORMATS[gemm.dtype].bits + config.sum_bits(gemm.dtype)),
            "metadata_bits": executed * config.metadata_bits_per_value if gemm.pattern else 0,
            "shared_bytes": plan.shared_bytes,
            "shared_writes": plan.filled_bytes,
            "sum_bytes": plan.sum_bytes,
            "l2_bytes": plan.l2_bytes,
            "l2_writes": plan.dram_bytes if config.l2_bytes else 0,
            "vector_elements": 0,
            "controller_bytes": BLOCK_BYTES * (read + written),
            "dram_reads": read,
            "dram_writes": written,
            "dram_read_io": read,
            "dram_write_io": written,
            "dram_standby": round(time_us * ran.clock_mhz),  # launch included
            "powered_ns": round(1000 * time_us),
        },
    )
