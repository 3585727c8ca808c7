"""What every unit of a chip does in every cycle of a layer, within a window of cycles."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelsim.engines import ENGINES, engine_of, union
from accelsim.engines.events import Timeline
from accelsim.engines.events import kind_of as kind_among
from accelsim.engines.events import unit_order as order_among
from accelsim.engines.words import UnitKind
from accelsim.errors import collecting, did_you_mean, raise_if_any
from accelsim.hardware import Hardware, load_hardware
from accelsim.inputs import Given, LayerInputs
from accelsim.network import Layer, Network, load_network
from accelsim.simulation import Backend

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["KINDS", "UNITS", "Timeline", "causes", "kind_of", "timeline", "unit_order", "window_problems"]

KINDS: tuple[UnitKind, ...] = union(list(ENGINES.values()), "kinds")
"""Units of all machines, by the beginning of their names."""

UNITS = tuple(engine.words.unit for engine in ENGINES.values())
"""What does the work in a machine: the kinds of units whose causes are the table's."""


def kind_of(unit: str) -> str:
    """Return the kind of a unit: the one of KINDS that its name begins with, else its first word."""
    return kind_among(unit, KINDS)


def unit_order(unit: str) -> tuple[int, list[Any]]:
    """Return what units are sorted by: the order of their kinds, then their numbers, 10 after 9."""
    return order_among(unit, KINDS)


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
        runs = net.samples is not None and (activations is None or isinstance(activations, Mapping))
        alone = net if runs else Network(net.name, [target])
        with collecting(problems):
            entering = LayerInputs(alone, activations, seed if runs else seed + number).each()
            samples = next(each for each in entering if each.layer == layer).samples
    raise_if_any(dict.fromkeys(problems))
    return engine_of(chip).timeline(chip, net, target, samples, backend, (first_cycle, last_cycle))


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
    mine = events[events["unit"].map(kind_of).isin(UNITS)]
    table = mine.pivot_table("cycles", "unit", "event", aggfunc="sum", fill_value=0, sort=False)
    return table[table.sum().sort_values(ascending=False, kind="stable").index]
