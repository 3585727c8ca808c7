"""The command that draws: plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from accelsim.cli.app import app, chip_of, collect, note, reporting, say_wrote
from accelsim.cli.reading import ReadingOptions, reads_network
from accelsim.errors import InputError, did_you_mean, raise_if_any
from accelsim.files import write_whole
from accelsim.report.files import check_outputs
from accelsim.report.plots.kinds import KINDS, Kind, figure, kind_of
from accelsim.report.plots.style import COLUMN_INCHES, save

if TYPE_CHECKING:
    import pandas as pd

HELP = "\n\n".join(
    [
        "Draw a figure from results, as wide as a column of print.",
        "Kinds of figures, and where they come from:",
        *(f"[bold]{name}[/bold]: {kind.meaning} ({kind.written_by})" for name, kind in KINDS.items()),
    ]
)

MAX_POINTS = 2000
"""Rows of a table that a figure takes: more than anybody can tell apart."""


@app.command("plot", help=HELP)
@reads_network
def plot_command(
    source: Annotated[
        str,
        typer.Argument(
            metavar="RESULTS",
            help="A .csv, .json or .parquet with results; a trace for queue and bandwidth; a network for storage; "
            "a chip for operations.",
            show_default=False,
        ),
    ],
    kind: Annotated[str, typer.Argument(metavar="KIND", help="One of the kinds above.", show_default=False)],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The figure, .svg, .png or .pdf. [default: KIND.svg]")
    ] = None,
    layer: Annotated[str | None, typer.Option(help="Only these layers, separated by commas.")] = None,
    hardware: Annotated[str | None, typer.Option(help="Only these chips.")] = None,
    network: Annotated[str | None, typer.Option(help="Only these networks.")] = None,
    x: Annotated[str, typer.Option(help="pareto: column of the x axis.")] = "time_us",
    y: Annotated[str, typer.Option(help="pareto: column of the y axis.")] = "energy_pj",
    width: Annotated[
        float, typer.Option(min=2, max=20, help="Width in inches; a page of two columns has 7.")
    ] = COLUMN_INCHES,
    *,
    reading: ReadingOptions,
) -> None:
    """Draw a figure from results; see HELP."""
    problems: list[str] = []
    chosen: Kind | None = collect(problems, kind_of, kind)
    target = Path(f"{kind}.svg") if output is None else output
    if chosen is not None or output is not None:
        collect(problems, check_outputs, {"plot": target})
    table: Any = None if chosen is None else collect(problems, _table, source, chosen, reading)
    raise_if_any(dict.fromkeys(problems))
    for column, names in (("network", network), ("hardware", hardware), ("layer", layer)):
        if names is not None:
            table = collect(problems, _only, table, column, names.split(","), source)
        raise_if_any(problems)
    if len(table) > MAX_POINTS and chosen is not None and chosen.source != "trace":
        raise InputError(
            f"{source}: {len(table)} rows are too many for a figure; choose some with --layer or --hardware"
        )
    options = {"x": x, "y": y} if kind == "pareto" else {}
    with reporting(1, quiet=False):
        drawn: Any = collect(problems, lambda: figure(table, kind, width, **options), place=f"{source}: ")
        raise_if_any(problems)
        write_whole(target, lambda place: save(drawn, place, target.suffix.removeprefix(".")))
    say_wrote(target)


def _table(source: str, kind: Kind, reading: ReadingOptions) -> pd.DataFrame:
    """Return what a figure of this kind is drawn from."""
    if kind.source == "network" and Path(source).suffix not in (".csv", ".json", ".parquet"):
        from accelsim.inspection import inspect
        from accelsim.network import load_weights
        from accelsim.results import of_network

        net = load_weights(source, **reading.keywords())
        note(net.assumptions)
        return inspect(net).assign(network=net.name, **of_network(net.scope))
    raise_if_any(reading.unused(f"{source}, which is not a network here"))
    if kind.source == "chip":
        from accelsim.costs import operations

        chip = chip_of(source)
        return operations(chip).assign(hardware=chip.name)
    if kind.source == "trace":
        from accelsim.report.trace import read_trace

        found = read_trace(source)
        return found.events.assign(
            network=f"{found.network}, {found.layer},", layer=found.layer, hardware=found.hardware
        )
    from accelsim.report.reading import read_table

    return read_table(source)


def _only(table: pd.DataFrame, column: str, names: Sequence[str], source: str) -> pd.DataFrame:
    """Return the rows with one of these names; raises InputError for a name that none has."""
    if column not in table:
        raise InputError(f"{source}: has no column {column} that --{column} could choose from")
    known = table[column].unique().tolist()
    wanted = [name.strip() for name in names]
    raise_if_any(
        f"--{column} {name}: {source} has no such {column}{did_you_mean(name, known)}"
        for name in wanted
        if name not in known
    )
    return table[table[column].isin(wanted)].reset_index(drop=True)
