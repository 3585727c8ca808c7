"""Commands that write pages: report."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from accelsim.cli.app import (
    AgainstOption,
    AtOption,
    CountIoOption,
    DensityOption,
    SeedOption,
    SetOption,
    WeightsOption,
    app,
    collect,
    load,
    note,
    of_parent,
    other_network,
    put_at,
    reporting,
    say_left_out,
    say_wrote,
)
from accelsim.cli.reading import ReadingOptions, runs_network
from accelsim.defaults import DEFAULT_CHIP, DEFAULT_NETWORK, SECOND_CHIP
from accelsim.errors import InputError, raise_if_any, typed, warn
from accelsim.files import check_writable, write_whole

DEFAULT_CHIPS = f"{DEFAULT_CHIP},{SECOND_CHIP}"
SUFFIXES = (".html", ".htm")
STORES = (".db", ".sqlite", ".sqlite3")
"""Endings of what accelsim sweep writes."""


@app.command("report")
@runs_network
def report_command(
    source: Annotated[
        str, typer.Argument(help="A network, as of accelsim run, or results: .csv, .json or .parquet.")
    ] = DEFAULT_NETWORK,
    hardware: Annotated[
        str | None,
        typer.Option(
            help=f"Chips, separated by commas: names of shipped ones, or .toml files; for a network {DEFAULT_CHIPS} if "
            "none are given, for results where to find those that are not shipped.",
            show_default=False,
        ),
    ] = None,
    weights: WeightsOption = None,
    overrides: SetOption = None,
    density: DensityOption = None,
    seed: SeedOption = 0,
    at: AtOption = None,
    count_io: CountIoOption = False,
    against: AgainstOption = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="The page, .html.")] = Path("report.html"),
    *,
    reading: ReadingOptions,
) -> None:
    """Write one HTML page, which works offline: summary, layer table, charts, chips, network, origin."""
    from accelsim.report.frame import chart_library
    from accelsim.report.reading import READERS

    problems: list[str] = []
    collect(problems, _check_output, output)
    collect(problems, chart_library)
    given: dict[str, Any] = {"--hardware": hardware, "--weights": weights, "--set": overrides, "--density": density}
    given |= {"--seed": seed or None, "--at": at, "--count-io": count_io or None, "--against": against} | reading.given
    given |= {"--output": None if output == Path("report.html") else output}
    command = ["accelsim", "report", source]
    for option, value in given.items():
        for each in value if isinstance(value, list) else [] if value is None else [value]:
            command += [option] if each is True else [option, str(each)]
    if Path(source).suffix in STORES:
        problems.append(
            f"{source}: is a store of accelsim sweep, whose points are many chips; accelsim pareto {source} and "
            f"accelsim knobs {source} show it, and accelsim report takes a network, or results of accelsim run --csv"
        )
        raise_if_any(problems)
    if Path(source).suffix in READERS:
        text = _of_results(problems, source, hardware, given, command)
    else:
        text = _of_network(problems, source, given, command, reading)

    def write(target: Path) -> None:
        # Half a surrogate pair in a name is not text in UTF-8; as a reference browsers show that it is none.
        target.write_text(text, encoding="utf-8", errors="xmlcharrefreplace", newline="\n")

    write_whole(output, write)
    say_wrote(output)


def _of_network(
    problems: list[str], source: str, given: dict[str, Any], command: list[str], reading: ReadingOptions
) -> str:
    """Simulate a network with the options that were given and return the page."""
    hardware, weights, overrides, density = (given[f"--{name}"] for name in ("hardware", "weights", "set", "density"))
    seed, at, count_io = given["--seed"] or 0, given["--at"], bool(given["--count-io"])
    net, chips = load(problems, source, hardware or DEFAULT_CHIPS, overrides, density, weights, reading)
    parent = other_network(problems, net, given["--against"], reading)
    chips, left = put_at(problems, chips, at)
    raise_if_any(dict.fromkeys(problems))
    note([*net.assumptions, *left, *of_parent(parent, given["--against"])])

    from accelsim.against import gains
    from accelsim.config import find
    from accelsim.report.describe import describe
    from accelsim.report.html import page
    from accelsim.simulation import simulate
    from accelsim.terms import differences

    files = [name.strip() for name in (hardware or DEFAULT_CHIPS).split(",")]
    others = bought = None
    with reporting(len(net) + (0 if parent is None else len(parent)), quiet=False) as step:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            results = simulate(net, chips, density, seed=seed, progress=step, count_io=count_io)
        notes = dict.fromkeys(typed(item.message) for item in caught if issubclass(item.category, UserWarning))
        for each in notes:
            warn(each)  # for the terminal, too
        if parent is not None:
            others = simulate(parent, chips, density, seed=seed, progress=step, count_io=count_io)
            bought = gains(results, others, net, parent)
    note(differences(chips))
    say_left_out(net, chips)
    described = [describe(chip, find(name, "hwconfigs")) for chip, name in zip(chips, files, strict=True)]
    told = [*net.assumptions, *left, *notes]
    python = _python(source, files, given, reading, against=parent is not None)
    return page(results, described, net, before=others, gains=bought, notes=told, command=command, python=python)


def _python(
    source: str, files: list[str], given: dict[str, Any], reading: ReadingOptions, *, against: bool
) -> list[str]:
    """Return the lines of Python that make the table of a report, and what the network is compared with."""
    from accelsim.config import parse_override
    from accelsim.terms import parse_at

    weights, overrides, density, at = (given[f"--{name}"] for name in ("weights", "set", "density", "at"))
    changes = dict(parse_override(text) for text in overrides or [])
    change = f", {changes!r}" if changes else ""
    of_network, of_weights = reading.keywords_beside(weights, source)
    method, amount = reading.amount
    of_amount = f".{method}({_keywords(amount)})" if method else ""
    run = f"{density}, seed={given['--seed'] or 0}{', count_io=True' if given['--count-io'] else ''}"
    other = f"other(network, {given['--against']!r}"
    if of_amount or of_network:
        keywords = f", {_keywords(of_network)}" if of_network else ""
        other += f", lambda name: accelsim.load_network(name{keywords}){of_amount}"
    return [
        "import accelsim",
        *(["from accelsim.against import gains, other"] if against else []),
        *(["from accelsim.network import with_weights"] if weights else []),
        *(["from accelsim.network.samples import with_inputs"] if reading.python_of_inputs else []),
        *(["from accelsim.terms import at"] if at else []),
        "",
        f"network = accelsim.load_network({_arguments(source, of_network)})",
        *([f"network = with_weights(network, {_arguments(str(weights), of_weights)})"] if weights else []),
        *reading.python_of_inputs,
        *([f"network = network{of_amount}"] if method else []),
        f"chips = [{', '.join(f'accelsim.load_hardware({name!r}{change})' for name in files)}]",
        *(["chips = at(chips, {!r}, {!r})".format(*parse_at(at))] if at else []),
        f"table = accelsim.simulate(network, chips, {run})",
        *([f"before = {other})"] if against else []),
        *([f"print(gains(table, accelsim.simulate(before, chips, {run}), network, before))"] if against else []),
    ]


def _of_results(
    problems: list[str], source: str, hardware: str | None, given: dict[str, Any], command: list[str]
) -> str:
    """Read results and return the page; chips are described whose hash is that of the rows."""
    from accelsim.config import find, shipped_names
    from accelsim.hardware import load_hardware
    from accelsim.report.describe import describe
    from accelsim.report.html import page
    from accelsim.report.reading import read_results

    problems += [
        f"{option}: changes what is simulated, and {source} holds results already; leave it out, or give a network"
        for option, value in given.items()
        if option not in ("--hardware", "--output") and value is not None
    ]
    results: Any = collect(problems, read_results, source)
    files = [name.strip() for name in hardware.split(",")] if hardware else []
    offered = [(name, collect(problems, load_hardware, name)) for name in files]
    raise_if_any(dict.fromkeys(problems))
    names = set(results["hardware"])
    offered += [(name, load_hardware(name)) for name in shipped_names("hwconfigs") if name in names]
    hashes = set(zip(results["hardware"], results["hardware_hash"], strict=True))
    known = [
        describe(chip, find(name, "hwconfigs"))
        for name, chip in reversed(offered)  # those that were given go before shipped ones
        if chip is not None and (chip.name, chip.content_hash) in hashes
    ]
    python = [
        "from accelsim.report.reading import read_results",
        "",
        f"table = read_results({source!r})",
    ]
    return page(results, known, command=command, python=python)


def _arguments(file: str, keywords: dict[str, Any]) -> str:
    """Return the arguments of a call in Python."""
    return ", ".join([repr(file), *([_keywords(keywords)] if keywords else [])])


def _keywords(given: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in given.items())


def _check_output(path: Path) -> None:
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: --output is a page; give it the ending .html")
    check_writable(path)
