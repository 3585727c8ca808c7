"""What limits a run on a tensor core machine: what, made faster, makes it fastest.

Each resource is made faster by a tenth, one after another, with the tile and its order fixed; the clock of a board at
its limit of power is found anew. Idle cores cannot be a tenth faster: all that they cost counts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from accelsim.engines.tensor_core.plan import Limits, Machine, energy_uj, schedule
from accelsim.engines.tensor_core.tiles import Size, Tiles
from accelsim.engines.tensor_core.twin import Room, measured, room_for, time_us
from accelsim.kernels import step, uncounted

RESOURCES = (
    "tensor cores",
    "step latency",
    "shared memory",
    "load latency",
    "L2",
    "DRAM",
    "tile latency",
    "tile output",
    "launch",
    "power",
    "wave",
)
"""What can be made faster, of equals the first; those up to the launch are numbers of the Machine."""
(
    TENSOR_CORES, STEP_LATENCY, SHARED_MEMORY, LOAD_LATENCY, L2_RATE, DRAM_RATE, TILE_LATENCY, TILE_OUTPUT,
    LAUNCH, POWER, WAVE,
) = range(11)  # fmt: skip

FASTER = 1.1
"""How much faster a resource is made to see what that gives."""


@step
def faster(machine: Machine, which: int) -> Machine:
    """Return the Machine with one of its resources faster."""
    return Machine(
        machine.cores,
        machine.clock_mhz,
        machine.fma_per_cycle * (FASTER if which == TENSOR_CORES else 1.0),
        machine.peak_fma_per_cycle * (FASTER if which == TENSOR_CORES else 1.0),
        machine.element_bytes,
        machine.output_bytes,
        machine.sum_bytes,
        machine.packed,
        machine.step_k,
        machine.shared_bytes_per_cycle * (FASTER if which == SHARED_MEMORY else 1.0),
        machine.wgmma,
        machine.l2_bytes,
        machine.l2_bytes_per_cycle * (FASTER if which == L2_RATE else 1.0),
        machine.dram_bytes_per_us * (FASTER if which == DRAM_RATE else 1.0),
        machine.dram_latency_us / (FASTER if which == TILE_LATENCY else 1.0),
        machine.prologue_cycles / (FASTER if which == TILE_LATENCY else 1.0),
        machine.epilogue_cycles_per_output / (FASTER if which == TILE_OUTPUT else 1.0),
        machine.step_sync_cycles / (FASTER if which == STEP_LATENCY else 1.0),
        machine.load_cycles_per_k / (FASTER if which == LOAD_LATENCY else 1.0),
        machine.raster_tiles,
        machine.persistent,
        machine.stages,
        machine.reduction_us,
        machine.groups,
        machine.input_share,
    )


@step
def eased(limits: Limits, which: int) -> Limits:
    """Return the Limits with less launch or with more power, if it is one of them."""
    launch = FASTER if which == LAUNCH else 1.0
    return Limits(
        limits.minimize,
        limits.overhead_us / launch,
        limits.floor_us / launch,
        limits.overlap_loss_per_mille,
        limits.limit_w * FASTER if which == POWER else limits.limit_w,
        limits.static_w,
        limits.fma_pj,
        limits.executed,
        limits.shared_pj_per_byte,
        limits.sum_pj_per_byte,
        limits.l2_pj_per_byte,
        limits.dram_pj_per_byte,
        limits.least_voltage,
        limits.voltage_slope,
        limits.burst_us,
        limits.burst_factor,
        limits.runs_before,
        limits.runs_timed,
    )


@uncounted
def times_if_faster(
    machine: Machine, limits: Limits, size: Size, tiles: Tiles, repeated: bool, found: NDArray[np.float64], room: Room
) -> None:
    """Fill found (11,) with the time in us of a tile and split with each of RESOURCES faster, one at a time."""
    for which in range(len(RESOURCES)):
        quicker, own = faster(machine, which), eased(limits, which)
        plan = schedule(quicker, size, tiles, machine.clock_mhz, repeated, room.rounds)
        full_us = time_us(quicker, own, size, tiles, machine.clock_mhz, repeated, which == WAVE, room)
        core_uj, dram_uj = energy_uj(quicker, own, tiles, plan)
        _, taken, _ = measured(quicker, own, size, tiles, repeated, which == WAVE, (core_uj, dram_uj, full_us), room)
        found[which] = max(own.floor_us, taken)


def limited_by(machine: Machine, limits: Limits, size: Size, tiles: Tiles, repeated: bool) -> str:
    """Return what, made faster by a tenth, makes a run fastest, its tiles fixed; idle cores: put to use altogether."""
    found = np.empty(len(RESOURCES))
    times_if_faster(machine, limits, size, tiles, repeated, found, room_for(len(tiles.rounds), machine.stages))
    return RESOURCES[int(found.argmin())]
