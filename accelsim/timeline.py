"""What every unit of a chip does in every cycle of a layer, within a window of cycles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.engines import eie_events, tensor_core_events
from accelsim.engines.events import EventLog, kind_of
from accelsim.errors import InputError, collecting, did_you_mean, raise_if_any
from accelsim.formats.counting import WeightMatrix
from accelsim.hardware import Hardware, load_hardware
from accelsim.matvec import codes_of, engine_inputs
from accelsim.memory.dram_counts import COMMANDS
from accelsim.memory.service import ChannelCommands, tile_commands
from accelsim.network import Layer, Network, load_network
from accelsim.network.activations import Samples
from accelsim.parts.timed import DramPart
from accelsim.simulation import RUNS, Backend, Given, resolve_activations
from accelsim.tensor_core_config import TensorCoreConfig

if TYPE_CHECKING:
    import pandas as pd

    from accelsim.engines import Outcome, Stream


class Timeline(NamedTuple):
    """The events of a window of cycles of one layer on one chip.

    `events` has a row for each time in which a unit did one thing: unit, event (a cause as the stalls of the table have
    it, or what else the unit does), start_cycle, cycles (those in the window), and value: slots in use of a queue,
    commands of a DRAM bank, else the column, tile or step that it was about, -1 for none. By unit, then by start.
    """

    network: str
    layer: str
    hardware: str
    clock_mhz: float
    cycles: int
    """Of the whole run of the layer."""
    first_cycle: int
    last_cycle: int
    """The cycle after the window."""
    events: pd.DataFrame


def timeline(
    network: Network | Layer | str | Path,
    hardware: Hardware | str | Path,
    layer: str,
    first_cycle: int = 0,
    last_cycle: int | None = None,
    activations: Given = None,
    backend: Backend = "compiled",
    *,
    seed: int = 0,
) -> Timeline:
    """Return what every unit does from `first_cycle` up to, not including, `last_cycle` of a layer's run.

    last_cycle: None, or a cycle after the end, is the end. Activations and seed are those of `simulate`, whose counters
    are the sums of these events over the whole run. docs/timeline.md says what every unit is.
    Raises InputError with every problem, for a window outside the run, and for one with too many events.
    """
    net = Network(network.name, [network]) if isinstance(network, Layer) else load_network(network)
    problems = window_problems(first_cycle, last_cycle)
    names = [each.name for each in net]
    if layer not in names:
        problems.append(f"layer: network {net.name} has no layer {layer!r}{did_you_mean(str(layer), names)}")
    if backend not in ("compiled", "simpy"):
        problems.append(f"backend: must be 'compiled' or 'simpy' (got {backend!r})")
    with collecting(problems):
        chip = load_hardware(hardware)
    if layer in names:
        number = names.index(layer)
        target = list(net)[number]
        if isinstance(activations, Mapping):
            activations = {name: given for name, given in activations.items() if name == layer or name not in names}
        with collecting(problems):
            samples = resolve_activations(Network(net.name, [target]), activations, seed + number)[layer]
    raise_if_any(dict.fromkeys(problems))
    run = _tensor_core if isinstance(chip.engine, TensorCoreConfig) else _eie
    return run(net, target, chip, samples, backend, (first_cycle, last_cycle))


Window = tuple[int, int | None]


def window_problems(
    first_cycle: int, last_cycle: int | None, names: tuple[str, str] = ("first_cycle", "last_cycle")
) -> list[str]:
    """Say what is wrong with a window, whatever the run."""
    problems = [
        f"{name}: must be a whole number, {least} or more (got {cycle!r})"
        for name, cycle, least in zip(
            names, (first_cycle, 1 if last_cycle is None else last_cycle), (0, 1), strict=True
        )
        if not isinstance(cycle, int) or isinstance(cycle, bool) or cycle < least
    ]
    if not problems and last_cycle is not None and last_cycle <= first_cycle:
        problems.append(
            f"{names[1]}: must be after {names[0]} {first_cycle} (got {last_cycle}); it is the cycle after the window"
        )
    return problems


def causes(events: pd.DataFrame) -> pd.DataFrame:
    """Return the cycles of each PE or core (rows) by what it did in them (columns), the most frequent first."""
    mine = events[events["unit"].map(kind_of).isin(["PE", "core"])]
    table = mine.pivot_table("cycles", "unit", "event", aggfunc="sum", fill_value=0, sort=False)
    return table[table.sum().sort_values(ascending=False, kind="stable").index]


def _log(cycles: int, window: Window) -> EventLog:
    """Return the log of a window of a run; raises InputError where it lies outside."""
    first_cycle, last_cycle = window
    if first_cycle >= cycles:
        raise InputError(
            f"first_cycle: {first_cycle} is outside the run, which takes {cycles} cycles; begin before its end"
        )
    return EventLog(first_cycle, cycles if last_cycle is None else min(last_cycle, cycles))


@contextmanager
def _named(layer: Layer, chip: Hardware) -> Iterator[None]:
    """Put the layer and the chip before the problems of a block."""
    problems: list[str] = []
    with collecting(problems, f"layer {layer.name} on {chip.name}: "):
        yield
    raise_if_any(problems)


def _eie(net: Network, layer: Layer, chip: Hardware, samples: Samples, backend: Backend, window: Window) -> Timeline:
    feeding = RUNS["eie"](chip)
    held: WeightMatrix | None = None
    for each in net:  # whether weights are streamed depends on all layers, until it is known
        if held is not None and feeding.known:
            break
        with _named(each, chip):
            weights = WeightMatrix(each.matrix, each.bias)
            feeding.look_at(weights)
        held = weights if each is layer else held
    if held is None:
        raise AssertionError("the layer is in the network")
    with _named(layer, chip):
        codes, _ = codes_of(held, layer, chip, backend, False)
        image = feeding.engine.encode(held, chip.engine, codes)
        vectors = engine_inputs(samples, layer, chip, False)
        outcome, stream = feeding.run(backend, image, vectors, layer.maps)
    log = _log(outcome.counts.cycles, window)
    eie_events.events(log, backend, chip.eie.engine, image, held, vectors, stream)
    if stream is not None and len(outcome.loads):
        eie_events.loads(log, stream, outcome.loads)
        _commands(log, chip, backend, outcome, stream)
    return Timeline(
        net.name, layer.name, chip.name, chip.engine.clock_mhz, outcome.counts.cycles, log.first_cycle, log.last_cycle,
        log.frame(),
    )  # fmt: skip


def _tensor_core(
    net: Network, layer: Layer, chip: Hardware, samples: Samples, backend: Backend, window: Window
) -> Timeline:
    config = chip.engine
    if not isinstance(config, TensorCoreConfig):
        raise TypeError(f"{chip.name} is not a tensor core chip")
    with _named(layer, chip):
        _, outcome = RUNS[config.kind](chip).run(layer, WeightMatrix(layer.matrix, layer.bias), samples, backend)
    cycles = layer.steps * outcome.counts.cycles
    log = _log(cycles, window)
    skips = outcome.executed_as.startswith("skip")
    last = outcome.plan.last and f"core {config.cores - 1}"
    cores = ("core with the longest tile", None) if skips else ("core 0", last or None)
    tensor_core_events.events(
        log, backend, outcome.plan, outcome.rounds, config.stages, outcome.overlap_loss_per_mille, cores, layer.steps
    )
    return Timeline(
        net.name, layer.name, chip.name, outcome.clock_mhz, cycles, log.first_cycle, log.last_cycle, log.frame()
    )


def _commands(log: EventLog, chip: Hardware, backend: str, outcome: Outcome, stream: Stream) -> None:
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
