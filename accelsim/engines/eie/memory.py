"""What of a layer lies in which memory of EIE: what fits, and how the rest comes from DRAM, tile by tile."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.chips import MemoryConfig
from accelsim.engines.eie.config import EieConfig
from accelsim.engines.eie.image import EieImage, EieSlice, Footprint
from accelsim.engines.streaming import NOTHING, Fetch, Stream
from accelsim.errors import UnsupportedError
from accelsim.kernels import njit
from accelsim.memory.service import DramService
from accelsim.network.lowering import Maps
from accelsim.parts.timed import BLOCK_BYTES

BLOCK_BITS = 8 * BLOCK_BYTES


def weight_problems(need: Footprint, config: EieConfig) -> list[str]:
    """Say which weights do not fit on the chip at once, each with the need and the size."""
    if config.capacity == "ignore":
        return []
    memories = (
        (
            "spmat_bytes",
            need.spmat_rows * config.spmat_width_bits,
            config.spmat_bytes,
            f"{need.spmat_rows} rows in the fullest PE",
        ),
        (
            "pointer_bytes",
            need.pointers * config.pointer_bits,
            config.pointer_bytes,
            f"{need.pointers} pointers of {config.pointer_bits} bits",
        ),
    )
    problems = [_too_small(key, bits, size, what) for key, bits, size, what in memories if bits > 8 * size]
    if need.entries >= 2**config.pointer_bits:
        problems.append(
            f"engine.pointer_bits: {config.pointer_bits}-bit pointers reach {2**config.pointer_bits - 1} entries, "
            f"the fullest PE stores {need.entries} of one slice"
        )
    return problems


def activation_problems(maps: Maps, config: EieConfig) -> list[str]:
    """Say whether the inputs and outputs of one sample do not fit on the chip."""
    if config.capacity == "ignore":
        return []
    activations = -(-maps.inputs // config.pes) + -(-maps.outputs // config.pes)
    bits, size = activations * config.activation_bits, config.activation_bytes
    what = f"{activations} inputs and outputs of {config.activation_bits} bits"
    return [_too_small("activation_bytes", bits, size, what)] if bits > 8 * size else []


def _too_small(key: str, bits: int, size_bytes: int, what: str) -> str:
    return f"engine.{key}: needs {-(-bits // 8)} bytes per PE, has {size_bytes} ({what})"


class Tiles(NamedTuple):
    """The tiles of a slice: ends (tiles,), the column after the last; rows (columns,) that have come with a column."""

    ends: NDArray[np.int64]
    rows: NDArray[np.int64]

    @property
    def columns(self) -> NDArray[np.int64]:
        """Columns of each tile."""
        return np.diff(self.ends, prepend=0)


def tiles(part: EieSlice, config: EieConfig) -> Tiles:
    """Cut a slice into as few runs of columns as fit half the memories of every PE.

    Rows are moved whole: one that two tiles share comes twice. Pointers count from the start of their tile and must
    reach its end.
    Raises UnsupportedError where half a memory cannot hold one column.
    """
    half_rows = config.spmat_bytes * 8 // config.spmat_width_bits // 2
    half_pointers = config.pointer_bytes * 8 // config.pointer_bits // 2
    reach = (2**config.pointer_bits - 1) // config.entries_per_row
    ends, rows, most = _tiles(
        part.entries, part.first_row, part.last_row, min(half_rows, reach), max(half_pointers - 1, 1)
    )
    if most > half_rows:
        raise UnsupportedError(
            f"engine.spmat_bytes: half of it, {config.spmat_bytes // 2} bytes per PE, is one buffer and cannot hold a "
            f"column of {most} rows of {config.spmat_width_bits} bits; enlarge it, or use more PEs"
        )
    if half_pointers < 2:
        raise UnsupportedError(
            f"engine.pointer_bytes: half of it, {config.pointer_bytes // 2} bytes per PE, is one buffer and cannot "
            f"hold the two pointers of {config.pointer_bits} bits of a column; enlarge it"
        )
    return Tiles(ends, rows)


@njit(cache=True, nogil=True)
def _tiles(entries, first_row, last_row, most_rows, most_columns):
    """Return the ends of the tiles, the rows of all PEs up to each column of its tile, and of the largest column."""
    columns, pes = entries.shape
    ends = np.empty(columns, np.int64)
    rows = np.empty(columns, np.int64)
    first = np.full(pes, -1, np.int64)  # the first row of this tile; -1: none yet
    held = np.zeros(pes, np.int64)  # rows of this tile
    tile = begin = 0
    largest = np.int64(0)
    for j in range(columns):
        full = j - begin >= most_columns
        for k in range(pes):
            if entries[j, k] > 0:
                largest = max(largest, np.int64(last_row[j, k]) - np.int64(first_row[j, k]) + 1)
                if first[k] >= 0 and np.int64(last_row[j, k]) - first[k] + 1 > most_rows:
                    full = True
        if full and j > begin:
            ends[tile] = begin = j
            tile += 1
            first[:] = -1
            held[:] = 0
        for k in range(pes):
            if entries[j, k] > 0:
                if first[k] < 0:
                    first[k] = np.int64(first_row[j, k])
                held[k] = np.int64(last_row[j, k]) - first[k] + 1
        rows[j] = held.sum()
    ends[tile] = columns
    return ends[: tile + 1].copy(), rows, largest


def stream(
    image: EieImage,
    config: EieConfig,
    memory: MemoryConfig,
    service: DramService,
    *,
    vectors: int,
    weights: bool,
    activations: Maps | None,
) -> Stream:
    """Return how so many vectors are fed from DRAM: their weights, their activations (None: on the chip), or both.

    A layer whose weights fit by themselves is fetched once for all vectors and waits for no buffer. Of a convolution
    the new inputs of an output row come with its first pixel, and the row leaves with its last.
    Raises UnsupportedError where half a memory cannot hold one column.
    """
    fits = not weight_problems(image.footprint, config)

    def fetches(weights: bool, inputs: int, outputs: int) -> tuple[Fetch, ...]:
        return tuple(
            _fetch(
                part,
                config,
                memory,
                service,
                weights=weights,
                inputs=-(-inputs * part.inputs // image.inputs),
                outputs=outputs * part.outputs if part.completes_outputs else 0,
            )
            for part in image.slices
        )

    row = 1 if activations is None else activations.row_vectors
    row_inputs = 0 if activations is None else -(-activations.inputs // activations.rows)
    begins, ends = np.zeros((2, vectors), bool)
    if activations is not None:
        begins[::row] = row_inputs > 0
        ends[row - 1 :: row] = True
    loads = np.full(vectors, weights and not fits)
    loads[0] = weights
    moved = 4 * loads + 2 * begins + ends
    different = np.flatnonzero(np.bincount(moved))
    kinds = np.searchsorted(different, moved)
    kinds_of_fetches = tuple(
        fetches(bool(kind & 4), row_inputs * bool(kind & 2), row * (kind & 1)) for kind in different.tolist()
    )
    latency_cycles = service.latency_cycles(config.clock_mhz)
    return Stream(latency_cycles, weights and not fits, kinds, kinds_of_fetches)


def _fetch(
    part: EieSlice,
    config: EieConfig,
    memory: MemoryConfig,
    service: DramService,
    *,
    weights: bool,
    inputs: int,
    outputs: int,
) -> Fetch:
    """Return what one pass moves: pointers and inputs lead their tile, finished outputs leave when the pass ends."""
    columns = len(part.nonzeros)
    if weights:
        cut = tiles(part, config)
        pointers = (cut.columns + 1) * config.pes
        leading_bits = pointers * config.pointer_bits
        leading_bits[:1] += inputs * config.activation_bits
        bits = np.repeat(leading_bits, cut.columns) + cut.rows * config.spmat_width_bits
        blocks = -(-bits // BLOCK_BITS)
    elif inputs:
        cut = Tiles(np.array([columns]), np.zeros(columns, np.int64))
        pointers, blocks = np.zeros(1, np.int64), np.full(columns, -(-inputs * config.activation_bits // BLOCK_BITS))
    else:
        cut = Tiles(NOTHING, np.zeros(columns, np.int64))
        pointers = blocks = NOTHING
    read = int(blocks[cut.ends - 1].sum())
    written = -(-outputs * config.activation_bits // BLOCK_BITS)
    return Fetch(
        ends=cut.ends,
        blocks=blocks,
        cycles=service.read_cycles(blocks, memory.all_channels, config.clock_mhz),
        write_cycles=int(service.write_cycles(np.array(written), memory.all_channels, config.clock_mhz)),
        actions={
            "spmat_writes": int(cut.rows[cut.ends - 1].sum()),
            "ptr_writes": int(pointers.sum()),
            "act_sram_writes": inputs,
            "act_sram_reads": outputs,
            "dram_reads": read,
            "dram_writes": written,
            "dram_read_io": read,
            "dram_write_io": written,
        },
    )
