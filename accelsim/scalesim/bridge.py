"""From files of SCALE-Sim to files and layers of this package: what an honest machine is made of."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np

from accelsim.defaults import HONEST
from accelsim.network import Layer, Network
from accelsim.scalesim.files import Configuration
from accelsim.scalesim.layers import Machine, Shape

KIB = 1024

BASES = {"ws": "systolic-32x32-ws", "os": "systolic-32x32-os", "is": "systolic-32x32-is"}
"""Shipped chips by dataflow."""


def chip_keys(read: Configuration, layers: list[Shape] | None = None, *, rules: str = HONEST) -> dict[str, Any]:
    """Return what a chip has other than its shipped base, `base` among it; words of the tool are bytes.

    Clock, technology and DRAM are the base's: the tool has none. `layers`: their patterns N:M, of a sparse machine.
    By the rules of the tool a chip has its bandwidths and its seed, too.
    """
    machine = read.machine
    keys = {
        "base": BASES[machine.dataflow],
        "name": read.name,
        "engine.rows": machine.rows,
        "engine.columns": machine.columns,
        "engine.ifmap_sram_bytes": KIB * machine.ifmap_kb,
        "engine.filter_sram_bytes": KIB * machine.filter_kb,
        "engine.ofmap_sram_bytes": KIB * machine.ofmap_kb,
        "engine.patterns": patterns_of(machine, layers or []),
    }
    if machine.sparse and machine.row_wise:
        keys["engine.row_wise_block"] = machine.block
    if rules == HONEST:
        return keys
    keys["engine.rules"] = rules
    if machine.mode == "USER":
        names = {"ifmap": machine.ifmap_bandwidth, "filter": machine.filter_bandwidth, "ofmap": machine.bandwidth}
        keys |= {f"engine.{name}_words_per_cycle": each for name, each in names.items()}
    if machine.sparse and machine.row_wise:
        keys["engine.row_wise_seed"] = machine.seed
    return keys


def patterns_of(machine: Machine, layers: list[Shape]) -> list[str]:
    """Return the patterns N:M that layers claim, where the machine is sparse layer by layer."""
    if not machine.sparse or machine.row_wise:
        return []
    claimed = {layer.kept for layer in layers if layer.kept[0] < layer.kept[1] <= 32}
    return [f"{n}:{m}" for n, m in sorted(claimed, key=lambda each: each[0] / each[1])] or ["2:4"]


def toml_of(read: Configuration, source: str, *, rules: str = HONEST) -> str:
    """Return the file of a chip; `source` is where its numbers are from."""
    keys = chip_keys(read, rules=rules)
    user = read.machine.mode == "USER" and rules == HONEST
    dropped = " Its bandwidths are left out: a DRAM has its own." if user else ""
    lines = [
        f"# Made from {source}, a configuration of SCALE-Sim: sides, dataflow and memories; a word is a byte.{dropped}",
        "# Clock, technology and DRAM are those of the base: the tool has none.",
        *(f"{name} = {_toml(keys[name])}" for name in ("base", "name")),
        f"description = {_toml(f'An array of multipliers as {source} has it')}",
        f"source = {_toml(source)}",
        "",
        "[engine]",
        *(f"{name.partition('.')[2]} = {_toml(value)}" for name, value in keys.items() if "." in name),
    ]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return str(value)


def _named(layers: list[Shape]) -> list[Shape]:
    """Return layers whose names differ: the second of a name gets its number behind it."""
    times = Counter[str]()
    found = []
    for layer in layers:
        times[layer.name] += 1
        found.append(layer if times[layer.name] == 1 else replace(layer, name=f"{layer.name}-{times[layer.name]}"))
    return found


def network_of(name: str, layers: list[Shape]) -> Network:
    """Return a network of these shapes with dense weights, all one: outputs by floor, no padding.

    What it is for are cycles and traffic; other weights come from a file (`accelsim.network.with_weights`).
    """
    made = []
    for layer in _named(layers):
        if layer.image is None:
            weight = np.ones((layer.n, layer.k), np.int8)
            made.append(Layer.linear(layer.name, weight, tokens=layer.m))
        else:
            height, width, channels = layer.image
            weight = np.ones((layer.n, channels, *layer.window), np.int8)
            made.append(Layer.conv2d(layer.name, weight, input_hw=(height, width), stride=layer.stride))
    return Network(name, made)
