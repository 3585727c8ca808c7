"""Commands that write pages: report."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from accelsim.cli.exploring import (
    ConstraintOption,
    NoConstraintsOption,
    ObjectiveOption,
    OfSpaceOption,
    objectives_of,
    wanted_of,
)
from accelsim.cli.reading import ReadingOptions, runs_network
from accelsim.defaults import DEFAULT_CHIP, DEFAULT_NETWORK, SECOND_CHIP
from accelsim.errors import InputError, raise_if_any, typed, warn
from accelsim.files import check_writable, write_whole

if TYPE_CHECKING:
    from accelsim.explore.store import Wanted

DEFAULT_CHIPS = f"{DEFAULT_CHIP},{SECOND_CHIP}"
SUFFIXES = (".html", ".htm")
STORES = (".db", ".sqlite", ".sqlite3")
"""Endings of what accelsim sweep writes."""


@app.command("report")
@runs_network
def report_command(
    source: Annotated[
        str,
        typer.Argument(
            help="A network, as for accelsim run; results, .csv, .json or .parquet; or a store of accelsim sweep, .db."
        ),
    ] = DEFAULT_NETWORK,
    hardware: Annotated[
        str | None,
        typer.Option(
            help="Chips, separated by commas: names of shipped ones, or .toml files; for results only files of those "
            f"that are not shipped. [default for a network: {DEFAULT_CHIPS}]",
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
    objective: ObjectiveOption = None,
    constraint: ConstraintOption = None,
    no_constraints: NoConstraintsOption = False,
    space: OfSpaceOption = None,
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
    asked = {"--objective": objective, "--constraint": constraint, "--no-constraints": no_constraints or None}
    asked |= {"--space": space}
    given |= asked | {"--output": None if output == Path("report.html") else output}
    command = ["accelsim", "report", source]
    for option, value in given.items():
        for each in value if isinstance(value, list) else [] if value is None else [value]:
            command += [option] if each is True else [option, str(each)]
    is_store, is_table = Path(source).suffix in STORES, Path(source).suffix in READERS
    if not (is_store or is_table):
        problems += _refused(given, asked, f"chooses among the points of a sweep, and {source} is a network")
    if is_store:
        text = _of_store(problems, source, given, command)
    elif is_table:
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


def _refused(given: dict[str, Any], options: Iterable[str], why: str) -> list[str]:
    """Return a problem for each of these options that was given."""
    return [f"{option}: {why}; leave it out" for option in options if given[option] is not None]


def _of_store(problems: list[str], source: str, given: dict[str, Any], command: list[str]) -> str:
    """Read the points of a store and return the page."""
    others = set(given) - {"--objective", "--constraint", "--no-constraints", "--space", "--output"}
    why = f"changes what is simulated, and {source} holds points that ran"
    problems += _refused(given, sorted(others), why)
    raise_if_any(problems)

    from accelsim.cli.exploring import columns_of
    from accelsim.explore import load
    from accelsim.report.swept import ORIGIN, page

    no_constraints = bool(given["--no-constraints"])
    wanted, _ = wanted_of(
        Path(source), given["--space"], given["--objective"], given["--constraint"], no_constraints=no_constraints
    )
    with reporting(1, quiet=False):
        results = load(source, [*columns_of(wanted), *ORIGIN, "network"])
        return page(
            results,
            wanted,
            command=command,
            python=_of_points(wanted, f"load({source!r})", "accelsim.explore import load"),
        )


def _of_points(wanted: Wanted, read: str, reader: str) -> list[str]:
    """Return the lines of Python that give the front of a sweep."""
    limits = f", {list(wanted.constraints)!r}" if wanted.constraints else ""
    return [
        "from accelsim.explore import pareto, totals",
        f"from {reader}",
        "",
        f"table = totals({read})",
        f"front = pareto(table, {list(wanted.objectives)!r}{limits})",
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

    of_points = ("--objective", "--constraint", "--no-constraints", "--space")
    problems += [
        f"{option}: changes what is simulated, and {source} holds results already; leave it out, or give a network"
        for option, value in given.items()
        if option not in ("--hardware", "--output", *of_points) and value is not None
    ]
    results: Any = collect(problems, read_results, source)
    if results is not None and {"point", "score", "error"} <= set(results):
        problems += _refused(given, ["--space", "--hardware"], f"{source} is the table of a sweep, which names none")
        raise_if_any(problems)
        return _of_swept(source, results, given, command)
    problems += _refused(given, of_points, f"chooses among the points of a sweep, and {source} is of a run")
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


def _of_swept(source: str, results: Any, given: dict[str, Any], command: list[str]) -> str:
    """Return the page of a table that accelsim sweep wrote."""
    from accelsim.explore.store import Wanted
    from accelsim.report.swept import page

    constraints = () if given["--no-constraints"] else tuple(given["--constraint"] or ())
    wanted = Wanted(Path(source).stem, objectives_of(given["--objective"]), constraints)
    python = _of_points(wanted, f"read_results({source!r})", "accelsim.report.reading import read_results")
    return page(results, wanted, command=command, python=python)


def _arguments(file: str, keywords: dict[str, Any]) -> str:
    """Return the arguments of a call in Python."""
    return ", ".join([repr(file), *([_keywords(keywords)] if keywords else [])])


def _keywords(given: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in given.items())


def _check_output(path: Path) -> None:
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: --output is a page; give it the ending .html")
    check_writable(path)
