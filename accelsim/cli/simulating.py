"""Commands that simulate: run, energy, compare."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from accelsim.cli.app import (
    AgainstOption,
    AtOption,
    CountIoOption,
    DensityOption,
    EndsOption,
    HardwareOption,
    NetworkArgument,
    SeedOption,
    SetOption,
    WeightsOption,
    app,
    changes_of,
    chip_of,
    collect,
    console,
    load,
    names_chip,
    note,
    of_parent,
    other_network,
    put_at,
    reporting,
    say,
    say_left_out,
    say_wrote,
    write_all,
)
from accelsim.cli.outputs import Tables, writes_table
from accelsim.cli.reading import ReadingOptions, runs_network
from accelsim.cli.scoring import CriterionOption, EvaluateOption
from accelsim.cli.serving import (
    DtypeOption,
    OutputOption,
    PatternOption,
    PromptOption,
    ServingOption,
    check_unasked,
    run_step,
)
from accelsim.defaults import AS_GIVEN, DEFAULT_CHIP, DEFAULT_NETWORK, SECOND_CHIP
from accelsim.errors import InputError, raise_if_any
from accelsim.files import write_whole
from accelsim.pruning.spelling import EXAMPLES
from accelsim.report.files import check_outputs, write
from accelsim.results import UNIT_OF_WORK

if TYPE_CHECKING:
    import pandas as pd

    from accelsim.engines import Row
    from accelsim.hardware import Hardware
    from accelsim.network import Network


class Backend(StrEnum):
    """Which of the two implementations of an engine runs."""

    COMPILED = "compiled"
    SIMPY = "simpy"


@app.command()
@runs_network
@writes_table
def run(
    network: NetworkArgument = DEFAULT_NETWORK,
    hardware: HardwareOption = DEFAULT_CHIP,
    weights: WeightsOption = None,
    overrides: SetOption = None,
    density: DensityOption = None,
    seed: SeedOption = 0,
    at: AtOption = None,
    count_io: CountIoOption = False,
    against: AgainstOption = None,
    backend: Annotated[Backend, typer.Option(help="simpy is the slow specification.")] = Backend.COMPILED,
    verify: Annotated[
        bool, typer.Option("--verify", help="Also compute the product and check it, bit for bit.")
    ] = False,
    units: Annotated[
        Path | None, typer.Option(help=f"Write what each {UNIT_OF_WORK} does in each layer to this CSV file.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw cycles and energy to this .png, .svg or .pdf.")] = None,
    reports: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="With a .csv and a .cfg of SCALE-Sim: write its reports into this folder."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing; write the files only.")] = False,
    prompt: PromptOption = None,
    output_tokens: OutputOption = None,
    dtype: DtypeOption = None,
    pattern: PatternOption = None,
    serving: ServingOption = None,
    *,
    reading: ReadingOptions,
    tables: Tables,
) -> None:
    """Simulate a network on one chip or several and print a table and a chart.

    A topology (.csv) and a configuration (.cfg) of SCALE-Sim run as they are, and give its numbers.

    With --prompt: a step of a language model as it is served, what 2:4 buys there, and what would buy more.
    """
    idle: dict[str, object] = {
        "--weights": weights, "--density": density, "--seed": seed or None, "--at": at, "--units": units,
        "--plot": plot, "--count-io": count_io or None, "--against": against, "--verify": verify or None,
        "--backend": None if backend is Backend.COMPILED else backend,
    }  # fmt: skip
    told = {"output_tokens": output_tokens, "dtype": dtype, "pattern": pattern, "serving": serving}
    if prompt is not None:
        idle |= {"--reports": reports}
        run_step(network, hardware, told | {"prompt": prompt}, tables.files, idle, overrides, reading, quiet=quiet)
        return
    problems: list[str] = check_unasked({f"--{name.replace('_', '-')}": value for name, value in told.items()})
    if reports is not None or network.endswith(".csv") or hardware.endswith(".cfg"):
        from accelsim.cli.scalesim_files import run_files

        raise_if_any(problems)
        unused = idle | {"--weights": None, "--set": overrides} | reading.given
        run_files(network, hardware, weights, reports, tables.files, unused, quiet=quiet)
        return
    drawn = {kind: path for kind, path in {"units": units, "plot": plot}.items() if path is not None}
    outputs = tables.files | drawn
    net, chips = load(problems, network, hardware, overrides, density, weights, reading)
    parent = None if quiet and against is None else other_network(problems, net, against, reading)
    chips, left = put_at(problems, chips, at)
    collect(problems, check_outputs, outputs)
    raise_if_any(dict.fromkeys(problems))
    if not quiet:
        note([*net.assumptions, *left, *of_parent(parent, against)])

    from accelsim.simulation import simulate, simulated_rows

    others = None
    with reporting(len(net) + (0 if parent is None or quiet else len(parent)), quiet) as step:
        rows = simulated_rows(
            net, chips, density, backend.value, verify=verify, seed=seed, progress=step, units=units is not None,
            count_io=count_io,
        )  # fmt: skip
        if parent is not None and not quiet:
            others = simulate(parent, chips, density, seed=seed, progress=step, count_io=count_io)
    _hand_over(rows, outputs, None if quiet else lambda results: print_run(results, others, net, parent, chips))


def _hand_over(rows: Sequence[Row], outputs: Mapping[str, Path], show: Callable[[pd.DataFrame], None] | None) -> None:
    """Show the results of a run, and write them to each file, by its kind; None: say nothing."""
    from accelsim.results import table, unit_table

    if show is None and not outputs:
        return  # nobody looks at the table
    results = table(rows)
    for kind, path in outputs.items():
        write(unit_table(rows) if kind == "units" else results, kind, path)
    if show is not None:
        show(results)
        say_wrote(*outputs.values())


@app.command()
@runs_network
@writes_table
def energy(
    network: NetworkArgument = DEFAULT_NETWORK,
    hardware: HardwareOption = DEFAULT_CHIP,
    overrides: SetOption = None,
    layer: Annotated[str | None, typer.Option(help="Explain this layer only.")] = None,
    density: DensityOption = None,
    seed: SeedOption = 0,
    at: AtOption = None,
    count_io: CountIoOption = False,
    plot: Annotated[Path | None, typer.Option(help="Draw energy by component to this .png, .svg or .pdf.")] = None,
    *,
    reading: ReadingOptions,
    tables: Tables,
) -> None:
    """Explain the energy of each layer: every action, how often, its price, and where the price is from.

    With the name of a chip instead of a network, list its prices.
    """
    from accelsim.errors import did_you_mean

    if names_chip(network):
        others = None if hardware == DEFAULT_CHIP else hardware
        unused: dict[str, object] = {"--hardware": others, "--layer": layer, "--density": density, "--plot": plot}
        _list_prices(network, overrides, at, tables, unused | {"--count-io": count_io or None} | reading.given)
        return
    drawn = {} if plot is None else {"energy plot": plot}
    problems: list[str] = []
    net, chips = load(problems, network, hardware, overrides, density, reading=reading)
    chips, left = put_at(problems, chips, at)
    if net is not None and layer is not None and layer not in [each.name for each in net]:
        problems.append(f"--layer {layer}: {net.name} has no such layer" + did_you_mean(layer, [e.name for e in net]))
    collect(problems, check_outputs, tables.files | drawn)
    raise_if_any(dict.fromkeys(problems))
    note([*net.assumptions, *left])

    import pandas as pd

    from accelsim.report import bars, terminal
    from accelsim.results import supported
    from accelsim.simulation import simulate

    with reporting(len(net), quiet=False) as step:
        results = simulate(net, chips, density, seed=seed, progress=step, count_io=count_io)
    if layer is not None:  # only now: whether a layer is resident depends on all of them
        results = results[results["layer"] == layer]
    by_name = {chip.name: chip for chip in chips}
    accounts = [(row, terminal.account(row, by_name[row["hardware"]])) for _, row in supported(results).iterrows()]
    write_all(results, drawn)
    write_all(pd.concat(account for _, account in accounts), tables.files)
    for row, account in accounts:
        console().print(terminal.energy_table(row, account))
    console().print(bars.energy_chart(results, console().width), soft_wrap=True)
    say_left_out(net, chips)
    say_wrote(*drawn.values(), *tables.files.values())


def _list_prices(
    name: str, overrides: list[str] | None, at: str | None, tables: Tables, unused: dict[str, object]
) -> None:
    """Print the prices of a chip; raises InputError for options that are about a network."""
    from accelsim.report import terminal

    problems = [
        f"{option}: is of no use with {name}, which is a chip, not a network; leave it out"
        for option, value in unused.items()
        if value is not None
    ]
    chip = collect(problems, chip_of, name, collect(problems, changes_of, overrides or []))
    chips, left = put_at(problems, [] if chip is None else [chip], at)
    collect(problems, check_outputs, tables.files)
    raise_if_any(problems)
    note(left)
    listed = terminal.price_list(chips[0])
    write_all(listed, tables.files)
    console().print(terminal.prices_table(chips[0], listed))
    say_wrote(*tables.files.values())


@app.command("compare")
@runs_network
@writes_table
def compare_command(
    network: NetworkArgument = "lenet-300-100-digits-dense",
    hardware: HardwareOption = f"{DEFAULT_CHIP},{SECOND_CHIP}",
    granularity: Annotated[
        str, typer.Option(help=f"Separated by commas: {', '.join(EXAMPLES)}.")
    ] = "fine,nm:2:4,channel",
    sparsity: Annotated[float, typer.Option(help="Share of weights to prune; patterns N:M have their own.")] = 0.5,
    criterion: CriterionOption = "l1",
    evaluate: EvaluateOption = None,
    weights: WeightsOption = None,
    overrides: SetOption = None,
    density: DensityOption = None,
    seed: SeedOption = 0,
    at: AtOption = None,
    count_io: CountIoOption = False,
    ends: EndsOption = False,
    plot: Annotated[
        Path | None, typer.Option(help="Draw speed-up and energy saving to this .png, .svg or .pdf.")
    ] = None,
    *,
    reading: ReadingOptions,
    tables: Tables,
) -> None:
    """Prune a network by each granularity and show what it buys on each chip, compared with the network before."""
    outputs = tables.files | ({} if plot is None else {"compare plot": plot})
    problems: list[str] = []
    net, chips = load(problems, network, hardware, overrides, density, weights, reading)
    chips, left = put_at(problems, chips, at)
    collect(problems, check_outputs, outputs)
    raise_if_any(dict.fromkeys(problems))
    note([*net.assumptions, *left])

    from accelsim.amdahl import sentence, ways
    from accelsim.compare import compare, totals
    from accelsim.evaluation import meaning_of
    from accelsim.report import terminal
    from accelsim.terms import differences, terms
    from accelsim.totals import left_out

    names = [name.strip() for name in granularity.split(",")]
    with reporting(len(names) + 1, quiet=False) as step:
        results = compare(
            net, chips, names, sparsity, criterion, evaluate=evaluate, activations=density, seed=seed, progress=step,
            count_io=count_io, ends=ends,
        )  # fmt: skip
    write_all(results, outputs)
    console().print(terminal.terms_table(terms(chips)))
    sums = totals(results)
    console().print(terminal.compare_table(sums, meaning_of(evaluate) if evaluate else ""))
    say(left_out(results, ["hardware", "pruned_by"]))
    say(
        f"{row['hardware']}, {row['pruned_by']}: {said}"
        for _, row in sums[sums["pruned_by"] != AS_GIVEN].iterrows()
        if (said := sentence(row, AS_GIVEN))
    )
    say(ways(results[results["pruned_by"] == AS_GIVEN]))
    say_left_out(net, chips)
    note(differences(chips))
    say_wrote(*outputs.values())


@app.command("curve")
@runs_network
@writes_table
def curve_command(
    network: NetworkArgument = "lenet-300-100-digits-dense",
    hardware: HardwareOption = f"{DEFAULT_CHIP},{SECOND_CHIP}",
    granularity: Annotated[
        str, typer.Option(help=f"Separated by commas: {', '.join(EXAMPLES)}.")
    ] = "fine,nm:2:4,vector:1x4,block:4x4,channel",
    sparsity: Annotated[str, typer.Option(help="From:to:step, as 0:0.95:0.05, or numbers separated by commas.")] = (
        "0:0.95:0.05"
    ),
    metric: Annotated[str, typer.Option(help="energy, latency, edp, bandwidth, storage or accuracy.")] = "energy",
    criterion: CriterionOption = "l1",
    evaluate: EvaluateOption = None,
    weights: WeightsOption = None,
    overrides: SetOption = None,
    density: DensityOption = None,
    seed: SeedOption = 0,
    at: AtOption = None,
    count_io: CountIoOption = False,
    ends: EndsOption = False,
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            help="The figure, .svg, .png or .pdf.",
        ),
    ] = Path("curve.svg"),
    *,
    reading: ReadingOptions,
    tables: Tables,
) -> None:
    """Draw cost against sparsity: each granularity pruned for real and simulated on each chip."""
    if not output.name:
        raise InputError(f"--output {output}: is a directory; name a file in it, as in curve.svg")
    outputs = {"curve plot": output} | tables.files
    problems: list[str] = []
    net, chips = load(problems, network, hardware, overrides, density, weights, reading)
    chips, left = put_at(problems, chips, at)
    shares: Any = collect(problems, _range, sparsity)
    collect(problems, check_outputs, outputs)
    from accelsim.curves import column_of, curve
    from accelsim.report import plots, terminal
    from accelsim.terms import differences

    column: Any = collect(problems, column_of, metric)
    if metric == "accuracy" and evaluate is None and (net is None or net.labels is None):
        problems.append("--metric accuracy: needs --evaluate, such as digits or file.py:function, or --labels")
    raise_if_any(dict.fromkeys(problems))
    note([*net.assumptions, *left])

    names = [name.strip() for name in granularity.split(",")]
    with reporting(1 + len(names) * len(shares), quiet=False) as step:
        table = curve(
            net, chips, names, shares, criterion, evaluate=evaluate, activations=density, seed=seed, progress=step,
            count_io=count_io, ends=ends,
        )  # fmt: skip
    write_all(table, tables.files)
    figure = plots.curve(table, column)
    write_whole(output, lambda target: plots.save(figure, target, output.suffix.removeprefix(".")))
    for shown in dict.fromkeys([column, *["score"] * bool(table["score"].notna().any())]):
        console().print(terminal.curve_table(table, shown, shares))
    say_left_out(net, chips)
    note(differences(chips))
    say_wrote(*outputs.values())


@app.command("divisions")
@runs_network
@writes_table
def divisions_command(
    network: NetworkArgument = DEFAULT_NETWORK,
    hardware: HardwareOption = f"{DEFAULT_CHIP},{SECOND_CHIP}",
    evaluate: Annotated[
        str | None,
        typer.Option(
            help="What tells the accuracy: labels, digits, or file.py:function; by default the network's own file."
        ),
    ] = None,
    overrides: SetOption = None,
    density: DensityOption = None,
    seed: SeedOption = 0,
    *,
    reading: ReadingOptions,
    tables: Tables,
) -> None:
    """Compare a pruned network (open) with the same unpruned (closed): throughput, latency, energy, accuracy."""
    problems: list[str] = []
    net, chips = load(problems, network, hardware, overrides, density, reading=reading)
    collect(problems, check_outputs, tables.files)
    raise_if_any(dict.fromkeys(problems))
    note(net.assumptions)

    from accelsim.amdahl import sentence
    from accelsim.divisions import divisions
    from accelsim.report import terminal

    with reporting(2, quiet=False) as step:
        table = divisions(net, chips, evaluate=evaluate, activations=density, seed=seed, progress=step)
    write_all(table, tables.files)
    console().print(terminal.divisions_table(table))
    account = {row["hardware"]: sentence(row) for _, row in table[table["division"] == "open"].iterrows()}
    say(f"{chip}: {said}" for chip, said in account.items() if said)
    say_left_out(net, chips)
    say_wrote(*tables.files.values())


MOST_SHARES = 1000
"""Sparsities of a curve; a figure has not so many points."""


def _range(text: str) -> list[float]:
    """Read 0:0.95:0.05, or 0.5,0.8."""
    try:
        if ":" not in text:
            return [float(part) for part in text.split(",")]
        first, last, step = (float(part) for part in text.split(":"))
        if not (step > 0 and -math.inf < first <= last < math.inf):
            raise ValueError
        if (last - first) / step < MOST_SHARES:
            return [round(first + number * step, 10) for number in range(int((last - first) / step + 1e-9) + 1)]
    except ValueError:
        raise InputError(
            f"--sparsity {text}: write from:to:step with from <= to and step > 0, as 0:0.95:0.05, or 0.5,0.8"
        ) from None
    raise InputError(f"--sparsity {text}: makes {(last - first) / step:.3g} values; at most {MOST_SHARES:,}")


def print_run(
    results: pd.DataFrame, others: pd.DataFrame | None, net: Network, parent: Network | None, chips: Sequence[Hardware]
) -> None:
    """Print what a network takes on chips, and what it takes less than another that it is compared with."""
    from accelsim.against import gains
    from accelsim.report import terminal

    _print_results(results, others)
    if others is not None:
        console().print(terminal.gains_table(gains(results, others, net, parent)))
    say_left_out(net, chips)


def _print_results(results: pd.DataFrame, others: pd.DataFrame | None) -> None:
    from accelsim.amdahl import amdahl, of_other, sentence, ways
    from accelsim.report import bars, terminal
    from accelsim.totals import left_out

    out = console()
    chips = list(results.groupby("hardware", sort=False))
    for _, mine in chips:
        out.print(terminal.layer_table(mine))
        if (mine["capacity"] == "ignore").any():
            out.print('memory and register limits are lifted (engine.capacity = "ignore")')
        say(filter(None, [terminal.activations_note(mine), terminal.pins_note(mine)]))
        out.print()
    if len(chips) > 1:
        out.print(terminal.chip_totals(results))
    elif counted := terminal.io_counted(results):
        out.print(f"the total is {counted}")
    say(left_out(results, "hardware"))
    account = [(row["hardware"], sentence(row, of_other(others))) for _, row in amdahl(results, others).iterrows()]
    say([*(f"{chip}: {said}" for chip, said in account if said), *ways(results)])
    out.print(bars.cycle_chart(results, out.width), soft_wrap=True)
    out.print(bars.energy_chart(results, out.width), soft_wrap=True)
