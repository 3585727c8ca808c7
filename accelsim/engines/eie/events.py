"""The timeline of EIE: what the scan, the broadcast, every queue and every PE do, pass by pass.

The specification tells it while it runs. From the compiled twin it follows from when each PE began with each column:
only those of the window are recorded, so that neither time nor memory grows with the rest of a large layer.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from accelsim.engines.counts import Outcome
from accelsim.engines.eie import specification, twin
from accelsim.engines.eie.config import EieChip, EieConfig
from accelsim.engines.eie.image import EieImage, EieSlice, encode_layer
from accelsim.engines.eie.row import EieRun, codes_of, engine_inputs
from accelsim.engines.eie.words import WORDS
from accelsim.engines.engine import Asked
from accelsim.engines.events import OCCUPANCY, EventLog, Timeline, Window, open_log
from accelsim.engines.streaming import Prefetch, Stream, Supply, VectorSource, resident
from accelsim.errors import placing
from accelsim.formats.counting import WeightMatrix
from accelsim.formats.relative_csc import encode
from accelsim.memory.dram_counts import COMMANDS
from accelsim.memory.service import ChannelCommands, tile_commands
from accelsim.network import Layer, Network
from accelsim.network.activations import Samples
from accelsim.parts.timed import DramPart

RunPass = Callable[[EventLog, EieConfig, EieSlice, NDArray[np.int64], WeightMatrix, Supply], tuple[int, Prefetch]]
"""Logs one pass; returns its cycles, and what was done ahead for the next."""


def timeline(chip: EieChip, network: Network, layer: Layer, samples: Samples, backend: str, window: Window) -> Timeline:
    """Return what every unit does in a window of a layer's run; see `accelsim.engines.Engine.timeline`."""
    config = chip.engine
    run = EieRun(chip)
    held: WeightMatrix | None = None
    for each in network:  # whether weights are streamed depends on all layers, until it is known
        if held is not None and run.known:
            break
        with placing(f"layer {each.name} on {chip.name}"):
            weights = WeightMatrix(each.matrix, each.bias)
            run.look_at(weights)
        held = weights if each is layer else held
    if held is None:
        raise AssertionError("the layer is in the network")
    with placing(f"layer {layer.name} on {chip.name}"):
        codes, _ = codes_of(held, layer, config, Asked(backend))
        image = encode_layer(held, config, codes)
        vectors = engine_inputs(samples, layer, config)
        outcome, stream = run.feeding.run(backend, image, vectors, layer.maps)
    cycles = outcome.counts.cycles
    log = open_log(cycles, window)
    events(log, backend, config, image, held, vectors, stream)
    if stream is not None and len(outcome.loads):
        loads(log, stream, outcome.loads)
        _commands(log, chip, backend, outcome, stream)
    return Timeline(
        network.name, layer.name, chip.name, config.clock_mhz, cycles, log.first_cycle, log.last_cycle,
        log.frame(WORDS.kinds),
    )  # fmt: skip


def events(
    log: EventLog,
    backend: str,
    config: EieConfig,
    image: EieImage,
    weights: WeightMatrix,
    vectors: VectorSource,
    stream: Stream | None,
) -> None:
    """Log what happens in the window of a run of vectors (vectors, columns) through a layer, fed as `stream` says."""
    run_pass = PASSES[backend]
    memory = stream or resident(len(vectors), len(image.slices))
    prefetch = Prefetch()
    cycles = 0
    for number in range(len(vectors)):
        block = vectors[number : number + 1]
        fetches = memory.fetches[memory.kinds[number]]
        for place, (part, fetch) in enumerate(zip(image.slices, fetches, strict=True)):
            log.origin = cycles
            supply = Supply(fetch, memory, prefetch)
            taken, prefetch = run_pass(log, config, part, block[0, part.columns], weights, supply)
            log.note("pass", f"vector {number}", 0, taken, place)
            log.note("write back", "write", taken - fetch.write_cycles, fetch.write_cycles)
            cycles += taken
            if cycles >= log.last_cycle:
                return


def loads(log: EventLog, stream: Stream, times: NDArray[np.int64]) -> None:
    """Log when tiles were asked for while nothing else was under way, and when they came; times (tiles, 2): `loads`."""
    asked, arrived = times.T
    cycles = np.concatenate([fetch.cycles[fetch.ends - 1] for fetch in stream.passes])
    begun = arrived - cycles
    waits = np.maximum(asked, np.concatenate([[0], arrived[:-1]]))
    tiles = np.arange(len(times))
    log.origin = 0
    log.notes(["weight loader"], 0, "request", waits, begun - waits, tiles)
    log.notes(["weight loader"], 0, "transfer", begun, cycles, tiles)


def _specified(
    log: EventLog,
    config: EieConfig,
    part: EieSlice,
    vector: NDArray[np.int64],
    weights: WeightMatrix,
    supply: Supply,
) -> tuple[int, Prefetch]:
    machine = specification.simulate_slice(config, part, vector, None, supply, note=log.note)
    return machine.cycles, machine.ahead


def _compiled(
    log: EventLog,
    config: EieConfig,
    part: EieSlice,
    vector: NDArray[np.int64],
    weights: WeightMatrix,
    supply: Supply,
) -> tuple[int, Prefetch]:
    active = np.flatnonzero(vector)
    record = twin.Record(np.empty((len(active) + 1, 3), np.int64), 0, np.empty((0, config.pes), np.int64))

    cycles, ahead = twin.record_pass(config, part, vector, supply, record)
    if not log.reaches(cycles):
        return cycles, ahead
    found = record.steps[:-1].sum(axis=1)
    # A PE is through with a column before the one B + 1 later is found; a column is waited for before it is found.
    first = max(0, int(np.searchsorted(found, log.first_cycle - log.origin)) - config.fifo_depth - 1)
    last = min(len(active), int(np.searchsorted(found, log.last_cycle - log.origin)) + 1)
    log.check_room((last - first) * config.pes)
    record = record._replace(first=first, starts=np.empty((last - first, config.pes), np.int64))
    twin.record_pass(config, part, vector, supply, record)
    _scan(log, part, active, record.steps, cycles)
    columns, entries = active[first:last], part.entries[active[first:last]].astype(np.int64)
    _elements(log, part, columns, entries, record, cycles)
    _weights(log, config, part, columns, entries, record.starts, weights)
    _queues(log, found[first:last], record.starts, cycles)
    return cycles, ahead


PASSES: dict[str, RunPass] = {"compiled": _compiled, "simpy": _specified}


def _scan(log: EventLog, part: EieSlice, active: NDArray[np.int64], steps: NDArray[np.int64], cycles: int) -> None:
    """The scan, from when it was ready for each column, and the broadcast."""
    ready, held_back, held_by_dram = steps[:-1].T
    scan_end, finished, _ = steps[-1].tolist()
    free = ready + held_back
    found = free + held_by_dram
    columns = part.first_input + active
    after = np.concatenate([[0], found]) + 1  # cycle 0 latches the first row
    log.note("scan", "latch", 0, 1)
    log.notes(["scan"], 0, "next row", after, np.append(ready, scan_end) - after)
    log.notes(["scan"], 0, "backpressure", ready, held_back, columns)
    log.notes(["scan"], 0, "dram", free, held_by_dram, columns)
    log.notes(["scan"], 0, "found", found, 1, columns)
    log.notes(["broadcast"], 0, "broadcast", found, 1, columns)
    log.note("scan", "drain", scan_end, finished - scan_end)
    log.note("scan", "dram", finished, cycles - finished)


def _elements(
    log: EventLog,
    part: EieSlice,
    columns: NDArray[np.int64],
    entries: NDArray[np.int64],
    record: twin.Record,
    cycles: int,
) -> None:
    """What each PE waits for: before each column (columns, pes), and at the end of the pass."""
    starts = record.starts
    pes = np.arange(starts.shape[1])
    names = [f"PE {k}" for k in pes]
    ends = np.concatenate([np.zeros((1, len(pes)), np.int64), starts + np.maximum(entries, 1)])
    if record.first:
        ends[0] = starts[0]  # what came before the window is not known
    waited = starts - ends[:-1]
    _, held_back, held_by_dram = record.steps[record.first : record.first + len(columns), :, None].transpose(1, 0, 2)
    dram = np.minimum(waited, held_by_dram)
    backpressure = np.minimum(waited - dram, held_back)
    number = part.first_input + columns[:, None]
    log.notes(names, pes, "scan", ends[:-1], waited - dram - backpressure, number)
    log.notes(names, pes, "backpressure", starts - dram - backpressure, backpressure, number)
    log.notes(names, pes, "dram", starts - dram, dram, number)
    log.notes(names, pes, "empty column", starts, np.where(entries, 0, 1), number)
    finished = int(record.steps[-1, 1])
    if record.first + len(columns) == len(record.steps) - 1:
        log.notes(names, pes, "drain", ends[-1], finished - ends[-1])
    log.notes(names, pes, "dram", finished, cycles - finished)


def _weights(
    log: EventLog,
    config: EieConfig,
    part: EieSlice,
    columns: NDArray[np.int64],
    entries: NDArray[np.int64],
    starts: NDArray[np.int64],
    weights: WeightMatrix,
) -> None:
    """The entries of each column in their order: runs of real weights and of padding."""
    matrix = encode(_nonzero(weights, part, columns), config.pes, config.index_bits)
    count = entries.T.ravel()  # PE by PE, as the entries lie
    place = np.repeat(np.arange(count.size), count)
    cycle = starts.T.ravel()[place] + np.arange(len(place)) - np.repeat(np.cumsum(count) - count, count)
    real = matrix.codes != 0
    heads = np.ones(len(place), bool)
    heads[1:] = (place[1:] != place[:-1]) | (real[1:] != real[:-1])
    (head,) = np.nonzero(heads)
    cycles = np.diff(np.append(head, len(place)))
    pe, column = np.divmod(place[head], len(columns))
    for event, mine in (("real weights", real[head]), ("padding", ~real[head])):
        log.notes(
            [f"PE {k}" for k in range(config.pes)],
            pe[mine],
            event,
            cycle[head[mine]],
            cycles[mine],
            part.first_input + columns[column[mine]],
        )


def _nonzero(weights: WeightMatrix, part: EieSlice, columns: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which weights of some columns of a slice are not zero: (outputs, columns)."""
    outputs = slice(part.first_output, part.first_output + part.outputs)
    nonzero: NDArray[np.bool_] = weights.weight[outputs][:, part.first_input + columns[columns < part.inputs]] != 0
    if weights.bias is not None and nonzero.shape[1] < len(columns):
        nonzero = np.column_stack([nonzero, weights.bias[outputs] != 0])
    return nonzero


def _queues(log: EventLog, found: NDArray[np.int64], starts: NDArray[np.int64], cycles: int) -> None:
    """How full each queue is seen: a column from the cycle after it was found until its PE begins with it."""
    columns, pes = starts.shape
    seen = np.broadcast_to(found[:, None] + 1, starts.shape)
    times = np.concatenate([np.zeros((1, pes), np.int64), seen, starts])
    change = np.repeat([0, 1, -1], [1, columns, columns])
    order = np.argsort(times, axis=0, kind="stable")
    times = np.take_along_axis(times, order, axis=0)
    until = np.concatenate([times[1:], np.full((1, pes), cycles)])
    which = np.arange(pes)
    log.notes([f"queue {k}" for k in which], which, OCCUPANCY, times, until - times, np.cumsum(change[order], axis=0))


def _commands(log: EventLog, chip: EieChip, backend: str, outcome: Outcome, stream: Stream) -> None:
    """Log the commands of every bank where the chip's DRAM was replayed for this very run."""
    memory = chip.memory
    if memory is None or memory.timing == "service" or not isinstance(memory.dram, DramPart):
        return
    part, asked = memory.dram, outcome.loads[:, 0]
    geometry = part.geometry
    banks_per_rank = geometry.banks // geometry.ranks
    log.origin = 0
    channels = tile_commands(part, memory.all_channels, chip.engine.clock_mhz, asked, stream.tile_blocks, backend)
    for channel, issued in enumerate(channels):
        place = f"DRAM channel {channel}"
        names = [f"{place} bank {bank}" for bank in range(geometry.banks)]
        names += [f"{place} rank {rank}" for rank in range(geometry.ranks)]
        refreshes = issued.command == COMMANDS.index("REF")
        unit = np.where(refreshes, geometry.banks + issued.bank // banks_per_rank, issued.bank)
        _command_events(log, names, unit, issued)


def _command_events(log: EventLog, names: list[str], unit: NDArray[np.int64], issued: ChannelCommands) -> None:
    """Log commands, each until it is done or the next one of its bank begins, and for a cycle at least."""
    order = np.lexsort((issued.start, unit))
    unit, start, command = unit[order], issued.start[order], issued.command[order]
    next_start = np.append(start[1:], 0)
    is_last = np.append(unit[1:] != unit[:-1], True)
    end = np.where(is_last, issued.end[order], np.minimum(issued.end[order], next_start))
    cycles = np.maximum(end - start, 1)
    for code, name in enumerate(COMMANDS):
        mine = command == code
        log.notes(names, unit[mine], name, start[mine], cycles[mine], order[mine])
