"""Commands that say what is in a file or comes with the package: inspect, check, list, schema."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from enum import StrEnum
from functools import reduce
from itertools import accumulate
from operator import or_
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from accelsim.cli.app import (
    NetworkArgument,
    app,
    collect,
    console,
    note,
    note_beside,
    reporting,
    say,
    say_left_out,
    say_wrote,
    write_all,
)
from accelsim.cli.outputs import Tables, writes_table
from accelsim.cli.reading import ReadingOptions, reads_network
from accelsim.defaults import DEFAULT_NETWORK
from accelsim.errors import InputError, collecting, raise_if_any
from accelsim.files import write_whole
from accelsim.report.files import check_outputs

if TYPE_CHECKING:
    import pandas as pd

    from accelsim.network import Network


class Described(StrEnum):
    """Files that have a schema."""

    HARDWARE = "hardware"
    NETWORK = "network"
    TECHNOLOGY = "technology"
    DRAM = "dram"
    SPACE = "space"


@app.command("inspect")
@reads_network
@writes_table
def inspect_command(
    network: NetworkArgument = DEFAULT_NETWORK,
    graph: Annotated[
        bool, typer.Option("--graph", help="Show the graph instead: inputs, layers, operations, and what each takes.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Draw where the zeros are, and which weights, to this .png, .svg or .pdf.")
    ] = None,
    before: Annotated[
        str | None, typer.Option(help="With --plot: the network before it was pruned; its weights are drawn too.")
    ] = None,
    layer: Annotated[str | None, typer.Option(help="With --plot: these layers, separated by commas.")] = None,
    *,
    reading: ReadingOptions,
    tables: Tables,
) -> None:
    """Show what is in a network: shapes, densities, patterns that hold exactly, sizes in each format."""
    problems: list[str] = []
    from accelsim.network import load_weights

    told = collect(problems, reading.keywords)
    net: Any = None if told is None else collect(problems, lambda: load_weights(network, **told))
    collect(problems, check_outputs, tables.files | ({} if plot is None else {"inspect plot": plot}))
    problems += [
        f"{option}: belongs to --plot; name a file for the figure, or leave it out"
        for option, given in (("--before", before), ("--layer", layer))
        if given is not None and plot is None
    ]
    other: Any = None if before is None else collect(problems, lambda: load_weights(before))
    raise_if_any(problems)
    if graph:
        net = net.wired()
    note_beside(net)

    from accelsim.inspection import inspect_graph, weights_of
    from accelsim.report import terminal

    names = None if layer is None else [name.strip() for name in layer.split(",")]
    shown = [] if plot is None else weights_of(net, other, names)
    table = inspect_graph(net) if graph else _inspected(net)
    write_all(table, tables.files)
    if graph:
        console().print(terminal.graph_table(net.name, table, net.graph.outputs))
    else:
        console().print(terminal.inspection_table(net.name, table))
    say_left_out(net)
    say_wrote(*tables.files.values())
    if plot is not None:
        from accelsim.report.plots import save, zeros

        if layer is None and len(shown) < len(net):
            note([f"{plot}: shows the {len(shown)} largest of {len(net)} layers; choose others with --layer"])
        drawn = zeros.figure(shown, net.name)
        write_whole(plot, lambda place: save(drawn, place, plot.suffix.removeprefix(".")))
        say_wrote(plot)


def _inspected(net: Network) -> pd.DataFrame:
    """Return a row per layer, and say how long it takes by the weights that have been looked at."""
    from accelsim.inspection import inspect

    counts = {layer.name: layer.weight_count for layer in net}
    begins = dict(zip(counts, accumulate(counts.values(), initial=0), strict=False))
    with reporting(sum(counts.values()), quiet=False) as step:
        return inspect(net, lambda name: step(name, begins[name]))


@app.command()
@reads_network
@writes_table
def check(
    file: Annotated[
        str,
        typer.Argument(
            help="A network, chip or DRAM part: a name, a .toml, .onnx, .safetensors, .npz, .pt or .gguf file, or a "
            "folder of shards; or a .cfg or .csv file of SCALE-Sim."
        ),
    ],
    *,
    reading: ReadingOptions,
    tables: Tables,
) -> None:
    """Check a network, chip or DRAM part, weights included, and say what is in it."""
    from accelsim.config import find, kinds_of, read_toml, shipped_names
    from accelsim.errors import did_you_mean

    if file.endswith((".cfg", ".csv")):
        from accelsim.cli.scalesim_files import check_file as check_theirs

        raise_if_any(reading.unused(f"{file}, which is a file of SCALE-Sim"))
        raise_if_any(_no_table(tables, file))
        check_theirs(Path(file))
        return
    is_name = not any(character in file for character in "./\\") and not os.path.isdir(file)
    shipped = {name: kind for kind in ("hwconfigs", "workloads", "hwconfigs/dram") for name in shipped_names(kind)}
    if is_name and file not in shipped:
        raise InputError(f"'{file}': no shipped chip, network or DRAM part of this name" + did_you_mean(file, shipped))
    path = find(file, shipped.get(file, "workloads"), folders=True)
    kinds = kinds_of(read_toml(path)) if path.suffix == ".toml" else ["network"]
    for kind, check_file in {"chip": _check_hardware, "DRAM part": _check_part}.items():
        if kind in kinds:
            raise_if_any([*reading.unused(f"{file}, which is a {kind} and no network"), *_no_table(tables, file)])
            check_file(path)
            return
    if "network" in kinds:
        check_outputs(tables.files)
        _check_network(path, reading, tables)
        return
    raise InputError(
        f"{path}: is neither a chip (it has no [engine]) nor a network (it has no [[layer]]) "
        "nor a DRAM part (it has no [timing] or [bandwidth])"
    )


class Listed(StrEnum):
    """Kinds of what comes with the package."""

    CHIPS = "chips"
    NETWORKS = "networks"
    MODELS = "models"
    SERVING = "serving"
    DRAM = "dram"
    TECHNOLOGIES = "technologies"
    SPACES = "spaces"


LISTED = {
    Listed.CHIPS: ("chips", "hwconfigs"),
    Listed.NETWORKS: ("networks", "workloads"),
    Listed.MODELS: ("language models", "workloads/models"),
    Listed.SERVING: ("serving software", "hwconfigs/serving"),
    Listed.DRAM: ("DRAM parts", "hwconfigs/dram"),
    Listed.TECHNOLOGIES: ("technologies", "hwconfigs/technology"),
    Listed.SPACES: ("spaces", "workloads/spaces"),
}
"""What a kind is called, and in which folder it is."""


def _described(keys: dict[str, Any]) -> str:
    """Return what a file says of itself in a line."""
    text = f"{keys['node_nm']:g} nm; {keys['source']}" if "node_nm" in keys else keys.get("description", "")
    return " ".join(str(text).split())


@app.command("list")
@writes_table
def list_shipped(
    kind: Annotated[Listed | None, typer.Argument(help="Only this kind.", show_default=False)] = None,
    *,
    tables: Tables,
) -> None:
    """List what comes with accelsim: chips, networks, language models, serving software, DRAM parts, technologies,
    spaces.
    """  # noqa: D205 - the help of the command
    from accelsim.config import read_toml, shipped_dir, shipped_names
    from accelsim.report.grid import Grid

    check_outputs(tables.files)
    found = {
        title: {name: _described(read_toml(shipped_dir(folder) / f"{name}.toml")) for name in shipped_names(folder)}
        for title, folder in ([LISTED[kind]] if kind else LISTED.values())
    }
    if tables.files:
        import pandas as pd

        rows = [(title, name, text) for title, named in found.items() for name, text in named.items()]
        write_all(pd.DataFrame(rows, columns=["kind", "name", "description"]), tables.files)
    for title, named in found.items():
        grid = Grid(title)
        grid.add("", named, kind="name")
        grid.add("", named.values(), kind="words", rank=1)
        console().print(grid)
    say_wrote(*tables.files.values())


@app.command()
def schema(
    kind: Annotated[Described, typer.Argument(help="Which files.", show_default=False)],
) -> None:
    """Print the JSON schema of one kind of file, for editors that complete and check TOML."""
    from accelsim.chips import Technology
    from accelsim.explore.space import SpaceSpec
    from accelsim.hardware import chip_schema
    from accelsim.keys import json_schema
    from accelsim.network import NetworkSpec
    from accelsim.parts import MODELS

    makers: dict[Described, Callable[[], dict[str, Any]]] = {
        Described.HARDWARE: chip_schema,
        Described.NETWORK: lambda: json_schema(NetworkSpec),
        Described.TECHNOLOGY: lambda: json_schema(Technology),
        Described.DRAM: lambda: json_schema(reduce(or_, MODELS.values())),
        Described.SPACE: lambda: json_schema(SpaceSpec),
    }
    sys.stdout.write(json.dumps(makers[kind](), indent=2) + "\n")


def _check_hardware(path: Path) -> None:
    from accelsim.engines import engine_of
    from accelsim.errors import placing
    from accelsim.hardware import load_hardware

    chip = load_hardware(path)
    with placing(str(path)):
        what, made = engine_of(chip).describe(chip)
        limit_mhz = engine_of(chip).fastest_clock_mhz(chip)
    limit = "" if limit_mhz is None else f", memories fast enough for up to {limit_mhz:,.0f} MHz"
    console().print(
        f"{path}: a valid chip: {chip.name}, engine {chip.engine.kind}, {what} at {chip.engine.clock_mhz:g} MHz, "
        f"{made}{limit}"
    )


def _check_part(path: Path) -> None:
    from accelsim.memory import BandwidthPart, load_memory

    part = load_memory(path)
    if isinstance(part, BandwidthPart):
        rate = part.bandwidth
        said = f"{rate.sustained_gb_per_s:g} of {rate.peak_gb_per_s:g} GB/s, {part.latency.latency_ns:g} ns, no timings"
    else:
        said = f"{part.geometry.channels} x {part.peak_bytes_per_ns:g} GB/s, {part.geometry.capacity_gib:g} GiB"
        said += ", no currents" if part.currents is None else ""
    published = "" if part.published is None else f", {part.published.pj_per_bit:g} pJ per bit published"
    console().print(f"{path}: a valid DRAM part: {part.name}, {said}{published}")


def _no_table(tables: Tables, file: str) -> list[str]:
    """Say which options of a table were given for what has none."""
    return [f"--{kind}: there is no table of {file}, which is not a network; leave it out" for kind in tables.files]


def _check_network(path: Path, reading: ReadingOptions, tables: Tables) -> None:
    import numpy as np

    from accelsim.formats.counting import WeightMatrix
    from accelsim.network import load_network
    from accelsim.report import checked

    net = load_network(path, **reading.keywords())
    note_beside(net)
    problems: list[str] = []
    found: list[checked.Checked] = []
    seen = 0
    with reporting(sum(layer.weight_count for layer in net), quiet=False) as step:
        for layer in net:
            step(layer.name, seen)
            seen += layer.weight_count
            weights = WeightMatrix(layer.weight.reshape(layer.out_features, -1), layer.bias)
            with collecting(problems, f"{path}: layer {layer.name}: "):
                bias = None if layer.bias is None else int(np.count_nonzero(layer.bias))
                nonzeros = weights.content.nonzeros - (bias or 0)
                found.append(checked.Checked(layer, str(weights.weight.dtype), nonzeros, bias))
    raise_if_any(problems)
    if tables.files:
        write_all(checked.checked_rows(found), tables.files)
    say([f"{path}: a valid network: {net.name}, {len(net)} layer{'s' * (len(net) > 1)}"])
    console().print(checked.checked_table(found))
    zero = [each.layer.name for each in found if not each.nonzeros]
    say([f"all weights are zero: {', '.join(zero)}"] if zero else [])
    if table := checked.left_out_table(net):
        say(net.told_left_out[:1])
        console().print(table)
    if bare := ", ".join(str(each) for each in net.left_out if not each.has_size):
        console().print(f"not simulated, without weights or multiply-accumulates: {bare}")
    say_wrote(*tables.files.values())
