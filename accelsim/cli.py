"""The command line: parse, call one function, print."""

from __future__ import annotations

import json
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

from accelsim.errors import AccelsimError, InputError, raise_if_any
from accelsim.report.files import check_outputs, write

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from accelsim.hardware import Hardware

T = TypeVar("T")

DEFAULT_NETWORK = "lenet-300-100-digits"
DEFAULT_HARDWARE = "eie-64pe-45nm"


class Backend(StrEnum):
    """Which of the two implementations of an engine runs."""

    COMPILED = "compiled"
    SIMPY = "simpy"


class Described(StrEnum):
    """Files that have a schema."""

    HARDWARE = "hardware"
    NETWORK = "network"


app = typer.Typer(
    name="accelsim",
    help="Simulate a pruned neural network on sparse hardware, cycle by cycle: cycles, energy and bandwidth per layer.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

NetworkArgument = Annotated[
    str, typer.Argument(help="Name of a shipped network, or a .toml, .safetensors or .npz file.", show_default=True)
]
HardwareOption = Annotated[
    str, typer.Option("--hardware", help="Chips, separated by commas: names of shipped ones, or .toml files.")
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a chip, as in engine.fifo_depth=16.")
]
DensityOption = Annotated[
    float | None, typer.Option(help="Draw the activations of every layer with this share of non-zeros.")
]
SeedOption = Annotated[int, typer.Option(min=0, help="Seed of drawn activations.")]


@app.command()
def run(
    network: NetworkArgument = DEFAULT_NETWORK,
    hardware: HardwareOption = DEFAULT_HARDWARE,
    overrides: SetOption = None,
    density: DensityOption = None,
    seed: SeedOption = 0,
    backend: Annotated[Backend, typer.Option(help="simpy is the slow specification.")] = Backend.COMPILED,
    verify: Annotated[
        bool, typer.Option("--verify", help="Also compute the product and check it, bit for bit.")
    ] = False,
    csv: Annotated[Path | None, typer.Option(help="Write all columns to this CSV file.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all columns to this JSON file.")] = None,
    parquet: Annotated[Path | None, typer.Option(help="Write all columns to this Parquet file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw cycles and energy to this .png, .svg or .pdf.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing; write the files only.")] = False,
) -> None:
    """Simulate a network on one chip or several and print a table and a chart."""
    given = {"csv": csv, "json": json_file, "parquet": parquet, "plot": plot}
    outputs = {kind: path for kind, path in given.items() if path is not None}
    problems: list[str] = []
    net, chips = _load(problems, network, hardware, overrides, density)
    _collect(problems, check_outputs, outputs)
    raise_if_any(dict.fromkeys(problems))

    from accelsim.simulation import simulate

    with _reporting(len(net), quiet) as step:
        results = simulate(net, chips, density, backend.value, verify=verify, seed=seed, progress=step)
    if not quiet:
        _print_results(results)
        if net.not_simulated:
            _console().print(f"not simulated: {', '.join(net.not_simulated)}", markup=False, soft_wrap=True)
    for kind, path in outputs.items():
        write(results, kind, path)
        if not quiet:
            _console().print(f"wrote {path}", markup=False, highlight=False, soft_wrap=True)


@app.command()
def energy(
    network: NetworkArgument = DEFAULT_NETWORK,
    hardware: HardwareOption = DEFAULT_HARDWARE,
    overrides: SetOption = None,
    layer: Annotated[str | None, typer.Option(help="Explain this layer only.")] = None,
    density: DensityOption = None,
    seed: SeedOption = 0,
    plot: Annotated[Path | None, typer.Option(help="Draw energy by component to this .png, .svg or .pdf.")] = None,
) -> None:
    """Explain the energy of each layer: every action, how often, its price, and where the price is from."""
    from accelsim.errors import did_you_mean

    outputs = {} if plot is None else {"energy plot": plot}
    problems: list[str] = []
    net, chips = _load(problems, network, hardware, overrides, density)
    if net is not None and layer is not None and layer not in [each.name for each in net]:
        problems.append(f"--layer {layer}: {net.name} has no such layer" + did_you_mean(layer, [e.name for e in net]))
    _collect(problems, check_outputs, outputs)
    raise_if_any(dict.fromkeys(problems))

    from accelsim.report import terminal
    from accelsim.simulation import simulate

    with _reporting(len(net), quiet=False) as step:
        results = simulate(net, chips, density, seed=seed, progress=step)
    if layer is not None:  # only now: whether a layer is resident depends on all of them
        results = results[results["layer"] == layer]
    by_name = {chip.name: chip for chip in chips}
    for _, row in results.iterrows():
        _console().print(terminal.energy_table(row, by_name[row["hardware"]]))
        _console().print()
    _console().print(terminal.energy_chart(results, _console().width), soft_wrap=True)
    for kind, path in outputs.items():
        write(results, kind, path)
        _console().print(f"wrote {path}", markup=False, highlight=False, soft_wrap=True)


@app.command("compare")
def compare_command(
    network: NetworkArgument = "lenet-300-100-digits-dense",
    hardware: HardwareOption = f"{DEFAULT_HARDWARE},edge-nm-16x16",
    granularity: Annotated[
        str, typer.Option(help="Separated by commas: fine, nm:2:4, vector:1x4, block:4x4, kernel, filter, channel.")
    ] = "fine,nm:2:4,channel",
    sparsity: Annotated[float, typer.Option(help="Share of weights to remove; N:M has its own.")] = 0.5,
    overrides: SetOption = None,
    density: DensityOption = None,
    seed: SeedOption = 0,
    csv: Annotated[Path | None, typer.Option(help="Write all rows to this CSV file.")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw speed-up and energy saving to this .png, .svg or .pdf.")
    ] = None,
) -> None:
    """Prune a network by each granularity and show what it buys on each chip, against the network as it was given."""
    outputs = {kind: path for kind, path in {"csv": csv, "compare plot": plot}.items() if path is not None}
    problems: list[str] = []
    net, chips = _load(problems, network, hardware, overrides, density)
    _collect(problems, check_outputs, outputs)
    raise_if_any(dict.fromkeys(problems))

    from accelsim.compare import compare, totals
    from accelsim.report import terminal

    names = [name.strip() for name in granularity.split(",")]
    with _reporting(len(names) + 1, quiet=False) as step:
        results = compare(net, chips, names, sparsity, activations=density, seed=seed, progress=step)
    _console().print(terminal.compare_table(totals(results)))
    for kind, path in outputs.items():
        write(results, kind, path)
        _console().print(f"wrote {path}", markup=False, highlight=False, soft_wrap=True)


@app.command("inspect")
def inspect_command(
    network: NetworkArgument = DEFAULT_NETWORK,
    csv: Annotated[Path | None, typer.Option(help="Write the table to this CSV file.")] = None,
) -> None:
    """Show what is in a network: shapes, densities, patterns that hold exactly, sizes in each format."""
    outputs = {} if csv is None else {"csv": csv}
    problems: list[str] = []
    from accelsim.network import load_network

    net: Any = _collect(problems, load_network, network)
    _collect(problems, check_outputs, outputs)
    raise_if_any(problems)

    from accelsim.inspection import inspect
    from accelsim.report import terminal

    table = inspect(net)
    _console().print(terminal.inspection_table(net.name, table))
    for kind, path in outputs.items():
        write(table, kind, path)


@app.command()
def check(
    file: Annotated[
        str, typer.Argument(help="A network, chip or DRAM part: a name, or a .toml, .safetensors or .npz file.")
    ],
) -> None:
    """Check a network, chip or DRAM part, weights included, and say what is in it."""
    from accelsim.config import find, kinds_of, read_toml, shipped_names
    from accelsim.errors import did_you_mean

    is_name = not any(character in file for character in "./\\")
    shipped = {name: kind for kind in ("hwconfigs", "workloads", "hwconfigs/dram") for name in shipped_names(kind)}
    if is_name and file not in shipped:
        raise InputError(f"{file}: no shipped chip, network or DRAM part of this name" + did_you_mean(file, shipped))
    path = find(file, shipped.get(file, "workloads"))
    checks = {"chip": _check_hardware, "network": _check_network, "DRAM part": _check_part}
    kinds = kinds_of(read_toml(path)) if path.suffix == ".toml" else ["network"]
    for kind, check_file in checks.items():
        if kind in kinds:
            check_file(path)
            return
    raise InputError(
        f"{path}: is neither a chip (it has no [engine]) nor a network (it has no [[layer]]) "
        "nor a DRAM part (it has no [timing] or [bandwidth])"
    )


@app.command("list")
def list_shipped() -> None:
    """List the chips, networks and DRAM parts that come with accelsim."""
    from rich.table import Table
    from rich.text import Text

    from accelsim.config import read_toml, shipped_dir, shipped_names

    for title, kind in (("hardware", "hwconfigs"), ("networks", "workloads"), ("DRAM parts", "hwconfigs/dram")):
        grid = Table(
            title=title, title_justify="left", show_header=False, pad_edge=False, box=None, padding=(0, 2, 0, 0)
        )
        grid.add_column(no_wrap=True)
        for name in shipped_names(kind):
            description = read_toml(shipped_dir(kind) / f"{name}.toml").get("description", "")
            grid.add_row(Text(name, style="bold"), Text(" ".join(str(description).split())))
        _console().print(grid)
        _console().print()


@app.command()
def schema(
    kind: Annotated[Described, typer.Argument(help="Which files.", show_default=False)],
) -> None:
    """Print the JSON schema of chip or network files, for editors that complete and check TOML."""
    from pydantic import TypeAdapter

    from accelsim.hardware import Hardware
    from accelsim.network import NetworkSpec

    described: type = Hardware if kind is Described.HARDWARE else NetworkSpec
    sys.stdout.write(json.dumps(TypeAdapter(described).json_schema(), indent=2) + "\n")


def main() -> None:
    """Run the command line; bad input is a message per problem and exit code 2, never a traceback."""
    try:
        app(standalone_mode=True)
    except InputError as error:
        _fail(2, *(f"error: {problem}" for problem in error.problems))
    except MemoryError:
        _fail(2, "error: out of memory; use a smaller layer or batch, or a safetensors file")
    except AccelsimError as error:
        _fail(3, f"internal error, please report it: {error}")


def _fail(exit_code: int, *lines: str) -> NoReturn:
    for line in lines:
        _errors().print(line, markup=False, highlight=False, soft_wrap=True)
    sys.exit(exit_code)


def _load(
    problems: list[str], network: str, hardware: str, overrides: list[str] | None, density: float | None
) -> tuple[Any, list[Any]]:
    """Return the network and the chips that a command was given, or their problems."""
    from accelsim.hardware import load_hardware
    from accelsim.network import Density, load_network

    net = _collect(problems, load_network, network)
    changes = _collect(problems, _overrides, overrides or [])
    names = _collect(problems, _names, hardware)
    chips = [_collect(problems, load_hardware, name, changes) for name in names or []]
    _collect(problems, _check_names_differ, chips)
    if density is not None:
        _collect(problems, Density, density, place="--density: ")
    return net, chips


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise InputError(f"--hardware {text}: write names separated by commas, as in {DEFAULT_HARDWARE},my-chip.toml")
    return names


def _overrides(texts: list[str]) -> dict[str, Any]:
    from accelsim.config import parse_override

    problems: list[str] = []
    changes: list[Any] = [_collect(problems, parse_override, text) for text in texts]
    raise_if_any(problems)
    return dict(changes)


def _check_names_differ(chips: list[Hardware]) -> None:
    names = Counter(chip.name for chip in chips if chip is not None)
    raise_if_any(
        f"--hardware: {times} chips are called '{name}'; leave one out, or change the name in its file"
        for name, times in names.items()
        if times > 1
    )


def _collect(problems: list[str], action: Callable[..., T], *arguments: Any, place: str = "") -> T | None:
    """Run one check and keep its problems, so that all are told at once."""
    try:
        return action(*arguments)
    except InputError as error:
        problems.extend(f"{place}{problem}" for problem in error.problems)
        return None


def _console() -> Console:
    from rich.console import Console

    # A pipe has no width of its own; a table cut to 80 columns would be of no use to grep.
    return Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=160)


def _errors() -> Console:
    from rich.console import Console

    return Console(stderr=True, highlight=False)


@contextmanager
def _reporting(steps: int, quiet: bool) -> Iterator[Callable[[str], None]]:
    """Show progress on work longer than a second, say when kernels are compiled, and turn warnings into notes."""
    if quiet:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield lambda name: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from accelsim.kernels import on_first_compile

    console = _errors()
    on_first_compile(
        lambda: console.print("Compiling for this machine: once, a few seconds; the result is kept on disk.")
    )
    bar = Progress(
        TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip
    task = bar.add_task("", total=steps)
    done = 0

    def step(name: str) -> None:
        nonlocal done
        bar.update(task, description=name, completed=done)
        done += 1

    timer = threading.Timer(1.0, bar.start)
    timer.daemon = True
    timer.start()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield step
        finally:
            timer.cancel()
            bar.stop()
    for message in dict.fromkeys(str(item.message) for item in caught if issubclass(item.category, UserWarning)):
        console.print(f"note: {message}", markup=False, soft_wrap=True)


def _print_results(results: pd.DataFrame) -> None:
    from accelsim.report import terminal

    console = _console()
    chips = list(results.groupby("hardware", sort=False))
    for _, mine in chips:
        console.print(terminal.layer_table(mine, console.width))
        if (mine["capacity"] == "ignore").any():
            console.print('memory and register limits are lifted (engine.capacity = "ignore")', markup=False)
        console.print()
    if len(chips) > 1:
        console.print(terminal.chip_totals(results))
        console.print()
    console.print(terminal.cycle_chart(results, console.width), soft_wrap=True)
    console.print(terminal.energy_chart(results, console.width), soft_wrap=True)


def _check_hardware(path: Path) -> None:
    from accelsim.energy import area_mm2, prices
    from accelsim.hardware import load_hardware
    from accelsim.tensor_core_config import TensorCoreConfig

    chip = load_hardware(path)
    if isinstance(chip.engine, TensorCoreConfig):
        what = f"{chip.engine.cores} cores, patterns {', '.join(chip.engine.patterns) or 'none'}"
        made = ", ".join(chip.engine.fma_per_cycle)
    else:
        problems: list[str] = []
        _collect(problems, prices, chip, place=f"{path}: ")
        raise_if_any(problems)
        what, made = f"{chip.engine.pes} PEs", f"{area_mm2(chip):.1f} mm² in {chip.eie.technology.name}"
    _console().print(
        f"{path}: a valid chip: {chip.name}, engine {chip.engine.kind}, {what} at {chip.engine.clock_mhz:g} MHz, "
        f"{made}",
        markup=False,
        soft_wrap=True,
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
    _console().print(f"{path}: a valid DRAM part: {part.name}, {said}{published}", markup=False, soft_wrap=True)


def _check_network(path: Path) -> None:
    from accelsim.formats.counting import WeightMatrix
    from accelsim.network import load_network

    net = load_network(path)
    problems: list[str] = []
    lines = [f"{path}: a valid network: {net.name}, {len(net)} layers"]
    with _reporting(len(net), quiet=False) as step:
        for layer in net:
            step(layer.name)
            weights = WeightMatrix(layer.weight.reshape(layer.out_features, -1), layer.bias)
            content = _collect(problems, lambda: weights.content, place=f"{path}: layer {layer.name}: ")  # noqa: B023
            vectors = f"{layer.products.vectors:,} vectors, " if layer.products.vectors > 1 else ""
            if content is not None:
                lines.append(
                    f"  {layer.name}: {layer.kind}, {layer.out_features} x {layer.in_features} {weights.weight.dtype}, "
                    f"{vectors}{content.nonzeros:,} non-zeros{' with bias' if layer.bias is not None else ''} "
                    f"of {layer.weight_count:,}{'' if weights.weight.any() else ' (all weights are zero)'}"
                )
    raise_if_any(problems)
    if net.not_simulated:
        lines.append(f"  not simulated: {', '.join(net.not_simulated)}")
    for line in lines:
        _console().print(line, markup=False, soft_wrap=True)
