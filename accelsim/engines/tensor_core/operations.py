"""Operations that are not layers on a tensor core machine: attention as dense GEMMs, the rest as bytes that move.

Layers find L2 empty and write all their results to DRAM, so that operations read from DRAM what they take, too.
"""

from __future__ import annotations

from math import ceil

from accelsim.chips import OperationsConfig
from accelsim.engines.counts import Counts, per_unit
from accelsim.engines.engine import Ran, Row
from accelsim.engines.measures import Crossing, Pace, measures, world
from accelsim.engines.operations import Step, met
from accelsim.engines.tensor_core.config import TensorCoreChip
from accelsim.engines.tensor_core.prices import area_mm2, entries, extrapolated
from accelsim.engines.tensor_core.product import Gemm, output_bytes
from accelsim.engines.tensor_core.specification import CAUSES, WAVE
from accelsim.engines.tensor_core.words import WORDS
from accelsim.kinds import MOVED
from accelsim.memory.service import measure
from accelsim.number_formats import NUMBER_FORMATS
from accelsim.parts.timed import BLOCK_BYTES

DEFAULT = OperationsConfig(
    attention="computed",
    activation="moved",
    concat="moved",
    elementwise="moved",
    embedding="moved",
    normalisation="moved",
    pooling="moved",
    reshape="fused",
    softmax="moved",
    other="moved",
    behind_layers=["activation", "Add"],
)
"""Of a chip that says nothing: what frameworks do on GPUs, epilogues of GEMMs with an activation and a residual."""

MULTIPLIERS_PER_LANE = 16
"""Dense multipliers of a core in 16 bits / its vector lanes: 1024 / 64 (NVIDIA A100 white paper)."""

FALLBACK_TYPES = ("bf16", "fp16")
"""In which activations stay where weights are narrower, first the one that a chip has."""


def bill_of(chip: TensorCoreChip) -> OperationsConfig:
    """Return what a chip does with operations."""
    return chip.operations or DEFAULT


def dtype_of(chip: TensorCoreChip) -> str:
    """Return the type of activations in operations: of at least 16 bits, where the chip computes in one."""
    rates, own = chip.engine.fma_per_cycle, chip.engine.type_of_networks
    if said := bill_of(chip).dtype:
        return said
    wide = [name for name in FALLBACK_TYPES if name in rates]
    return wide[0] if wide and NUMBER_FORMATS[own].bits < 16 else own


def elements_per_cycle(chip: TensorCoreChip) -> float:
    """Return the elements that the vector units of all cores take in a cycle."""
    config = chip.engine
    lanes = config.cores * config.fma_per_cycle[dtype_of(chip)] / MULTIPLIERS_PER_LANE
    return bill_of(chip).elements_per_cycle or lanes


def product_of(step: Step, chip: TensorCoreChip) -> Gemm:
    """Return the GEMM of a product of activations: as many as heads of keys and samples, in one kernel.

    Queries of heads that share keys are tokens of one product. A causal mask takes out queries x keys: of scores as so
    many queries less, of values as so many keys less; each operand is still read, and each result written, once.
    Scores that are kept are neither written nor read, and their product by values is in the same kernel.
    """
    product, (inputs_stay, outputs_stay) = step.operation.product, step.stays
    if product is None:
        raise ValueError(f"{step.operation.name}: is not a product")
    heads = product.operand_groups or product.groups
    tokens, rows, columns = product.vectors * product.groups // heads, product.rows, product.columns
    read = tokens * columns
    if step.of_values:
        columns = ceil(product.columns * met(product, product.columns))
        read = 0 if inputs_stay else tokens * columns
        read += rows * (product.columns - columns)  # values of masked keys: others meet them
    else:
        tokens = ceil(tokens * met(product, rows))
    return Gemm(
        tokens,
        rows,
        columns,
        dtype_of(chip),
        groups=heads * step.batch,
        input_share=read / (tokens * columns),
        output_share=0.0 if outputs_stay else 1.0,
        launched=not inputs_stay,
    )


def moved_row(step: Step, chip: TensorCoreChip, *, units: bool = False) -> Row:
    """Return the columns of an operation that moves bytes: one kernel, or part of one where it is fused.

    It takes as long as its bytes need to and from DRAM, or its elements in the vector units, behind the latency of
    DRAM; a fused one only reads, while its kernel runs. `units`: also what each core does, which all do alike.
    """
    config, bill, service = chip.engine, bill_of(chip), measure(chip.memory.dram)
    alone, dtype = step.way == MOVED, dtype_of(chip)
    read_bytes, written_bytes = (round(elements * output_bytes(dtype)) for elements in (step.reads, step.writes))
    read, written = (-(-moved // BLOCK_BYTES) for moved in (read_bytes, written_bytes))
    clocks_per_block = float(service.read_ns) * config.clock_mhz / 1000 / chip.memory.all_channels
    latency = service.latency_cycles(config.clock_mhz) if alone else 0
    vector, dram = ceil(step.elements / elements_per_cycle(chip)), ceil((read + written) * clocks_per_block)
    cycles = latency + max(vector, dram)
    launch_us = 0.0 if not alone else config.dense.overhead_us if bill.launch_us is None else bill.launch_us
    time_us = cycles / config.clock_mhz + launch_us
    spent = {"latency": latency, "vector": vector, "dram": max(0, dram - vector)}
    causes = (*CAUSES[1:], WAVE, "vector")
    moved = BLOCK_BYTES * (read + written)
    counts = Counts(
        cycles=cycles,
        macs=0,
        padding_macs=0,
        busy_cycles=config.cores * (0,),
        stall_cycles={cause: config.cores * (spent.get(cause, 0),) for cause in causes},
        actions={
            "l2_bytes": BLOCK_BYTES * read if config.l2_bytes else 0,
            "l2_writes": moved if config.l2_bytes else 0,
            "vector_elements": step.elements,
            "controller_bytes": moved,
            "dram_reads": read,
            "dram_writes": written,
            "dram_read_io": read,
            "dram_write_io": written,
            "dram_standby": round(time_us * config.clock_mhz),
            "powered_ns": round(1000 * time_us),
        },
    )
    ran = Ran(counts.actions, cycles, config.clock_mhz, dtype)
    peak = config.cores * config.fma_per_cycle[dtype]
    pace = Pace(peak, config.cores * config.shared_bytes_per_cycle + (config.l2_bytes > 0) * config.l2_bytes_per_cycle)
    limits = {"launch": launch_us * config.clock_mhz, "vector units": vector, "DRAM": dram, "tile latency": latency}
    return {
        **measures(
            chip, counts, pace, (entries(chip, ran), WORDS), work_cycles=0, time_us=time_us, clock_mhz=config.clock_mhz
        ),
        **world(Crossing(8 * read_bytes), Crossing(8 * written_bytes), Crossing(0)),
        **({"units": per_unit(counts, counts.busy_cycles)} if units else {}),
        "capacity": "tiles",
        "residency": "stream",
        "sram_gb_per_s": counts.actions["l2_bytes"] / time_us / 1e3,
        "limited_by": max(limits, key=lambda name: limits[name]),
        "dtype": dtype,
        "area_mm2": area_mm2(chip),
        "extrapolated": extrapolated(chip),
    }
