"""Commands that look at single cycles: timeline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from accelsim.cli.app import (
    DensityOption,
    NetworkArgument,
    SeedOption,
    SetOption,
    WeightsOption,
    app,
    collect,
    console,
    load,
    note,
    reporting,
    say_left_out,
    say_wrote,
    write_all,
)
from accelsim.cli.outputs import Tables, writes_table
from accelsim.cli.reading import ReadingOptions, runs_network
from accelsim.cli.simulating import Backend
from accelsim.defaults import DEFAULT_CHIP, DEFAULT_NETWORK
from accelsim.errors import did_you_mean, raise_if_any
from accelsim.files import write_whole
from accelsim.report.files import check_outputs


@app.command("timeline")
@runs_network
@writes_table
def timeline_command(
    network: NetworkArgument = DEFAULT_NETWORK,
    hardware: Annotated[str, typer.Option(help="The chip: name of a shipped one, or a .toml file.")] = DEFAULT_CHIP,
    layer: Annotated[str | None, typer.Option(help="The layer to look at; the first if none is named.")] = None,
    first: Annotated[int, typer.Option("--from", help="The first cycle of the window.")] = 0,
    last: Annotated[
        int | None, typer.Option("--to", help="The cycle after the window; the end if none is given.")
    ] = None,
    weights: WeightsOption = None,
    overrides: SetOption = None,
    density: DensityOption = None,
    seed: SeedOption = 0,
    backend: Annotated[Backend, typer.Option(help="simpy is the slow specification.")] = Backend.COMPILED,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="The trace for Perfetto or chrome://tracing, .json or .json.gz.")
    ] = Path("trace.json"),
    plot: Annotated[Path | None, typer.Option(help="Also draw some units to this .png, .svg or .pdf.")] = None,
    *,
    reading: ReadingOptions,
    tables: Tables,
) -> None:
    """Write what every unit does in every cycle of a layer as a trace, and say what the cycles went into."""
    from accelsim.report.trace import check_suffix, write_trace
    from accelsim.timeline import window_problems

    outputs = {"trace": output} | ({} if plot is None else {"timeline plot": plot}) | tables.files
    problems: list[str] = []
    net, chips = load(problems, network, hardware, overrides, density, weights, reading)
    if len(chips) > 1:
        problems.append(f"--hardware {hardware}: takes one chip")
    names = [] if net is None else [each.name for each in net]
    if names and layer is not None and layer not in names:
        problems.append(f"--layer {layer}: {net.name} has no such layer{did_you_mean(layer, names)}")
    problems += window_problems(first, last, ("--from", "--to"))
    collect(problems, check_suffix, output)
    collect(problems, check_outputs, outputs)
    raise_if_any(dict.fromkeys(problems))
    note(net.assumptions)

    from accelsim.report import gantt, plots
    from accelsim.report.timelines import timeline_table
    from accelsim.timeline import causes, timeline

    with reporting(1, quiet=False) as step:
        step(layer or names[0])
        found = timeline(net, chips[0], layer or names[0], first, last, density, backend.value, seed=seed)
    write_trace(found, output)
    write_all(causes(found.events).rename_axis("unit").reset_index(), tables.files)
    if plot is not None:
        drawing = gantt.figure(found)
        write_whole(plot, lambda target: plots.save(drawing, target, plot.suffix.removeprefix(".")))
    console().print(timeline_table(found))
    say_left_out(net)
    say_wrote(*outputs.values())
