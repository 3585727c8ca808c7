"""What all commands share: the application, its common options, errors, progress."""

from __future__ import annotations

import functools
import inspect
import os
import re
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException
from typer.models import OptionInfo

from accelsim.cli import streams
from accelsim.cli.progress import Aloud
from accelsim.cli.reading import ReadingOptions
from accelsim.cli.stopping import DEFAULT_LIMIT, STOPPED, Pace, duration, limit_reached, set_limit, signals, watched
from accelsim.defaults import DEFAULT_CHIP, MOST_SEED
from accelsim.errors import AccelsimError, InputError, in_memory, legible, raise_if_any, told, typed, within

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from accelsim.hardware import Hardware
    from accelsim.network import Network

T = TypeVar("T")

LimitOption = Annotated[
    str | None,
    typer.Option(
        "--limit",
        metavar="TIME",
        help="Stop after this long, as in 90s, 10m or 2d; work that will take longer is refused. "
        f"[default: {DEFAULT_LIMIT}]",
        show_default=False,
    ),
]


@contextmanager
def _legibly() -> Iterator[None]:
    """Have what is wrong with a command line told as all else is: as a terminal can show it, and not endless."""
    try:
        yield
    except TyperException as error:
        if isinstance(getattr(error, "message", None), str):
            error.message = legible(error.message)
        raise


class OneCommand(TyperCommand):
    """A command whose help names no type for --help, a flag."""

    def get_help_option(self, ctx: Any) -> Any:
        """Return --help."""
        return _flag_alone(super().get_help_option(ctx))


def _flag_alone(option: Any) -> Any:
    if option is not None:
        option.metavar = ""
    return option


class Commands(TyperGroup):
    """All commands."""

    def get_help_option(self, ctx: Any) -> Any:
        """Return --help."""
        return _flag_alone(super().get_help_option(ctx))

    def make_context(self, *arguments: Any, **named: Any) -> Any:
        """Read what stands before the command."""
        with _legibly():
            return super().make_context(*arguments, **named)

    def invoke(self, ctx: Any) -> Any:
        """Read what stands behind it, and run it."""
        with _legibly():
            return super().invoke(ctx)


class Application(typer.Typer):
    """The application, of whose commands each has --limit."""

    def command(self, *arguments: Any, **named: Any) -> Callable[[Any], Any]:
        """Return the decorator of a command."""
        register = super().command(*arguments, cls=OneCommand, **named)
        return lambda command: register(_limited(command))


METAVARS = {bool: "", Path: "FILE", int: "N", float: "NUMBER", str: "TEXT"}
"""What stands behind an option in the help, by its type; behind a flag nothing."""


def _without_types(hint: Any) -> Any:
    """Give an option without a word of its own that of its type: `FILE`, in place of what Python calls it."""
    kinds = {*get_args(get_args(hint)[0]), get_args(hint)[0]} if get_origin(hint) is Annotated else set()
    for option in getattr(hint, "__metadata__", ()):
        if isinstance(option, OptionInfo) and option.metavar is None:
            option.metavar = next((METAVARS[kind] for kind in METAVARS if kind in kinds), None)
    return hint


def _limited(command: Callable[..., T]) -> Callable[..., T]:
    """Return a command with the option of a limit."""

    @functools.wraps(command)
    def limited(*arguments: Any, limit: str | None = None, **given: Any) -> T:
        set_limit(limit)
        _FILES.clear()
        with watched():
            return command(*arguments, **given)

    hints = {name: _without_types(hint) for name, hint in get_type_hints(command, include_extras=True).items()}
    own = [each.replace(annotation=hints[name]) for name, each in inspect.signature(command).parameters.items()]
    more = inspect.Parameter("limit", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=LimitOption)
    limited.__signature__ = inspect.Signature([*own, more])  # type: ignore[attr-defined]
    limited.__annotations__ = {each.name: each.annotation for each in (*own, more)}
    return limited


app = Application(
    name="accelsim",
    cls=Commands,
    help="Simulate a pruned neural network on sparse hardware, cycle by cycle: cycles, energy and bandwidth per layer.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

NetworkArgument = Annotated[
    str,
    typer.Argument(
        help="Name of a shipped network, a .toml, .onnx, .safetensors, .npz, .pt or .gguf file, or a folder of shards.",
        show_default=True,
    ),
]
HardwareOption = Annotated[
    str, typer.Option("--hardware", help="Chips, separated by commas: names of shipped ones, or .toml files.")
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a chip, as in engine.fifo_depth=16.")
]
DensityOption = Annotated[float | None, typer.Option(help="Draw random activations, this share of them not zero.")]
EndsOption = Annotated[
    bool, typer.Option("--ends", help="Let filter and channel prune inputs and outputs of the network itself, too.")
]
WeightsOption = Annotated[
    Path | None, typer.Option("--weights", help="Take the weights from this file, X.weight of every layer X.")
]
AgainstOption = Annotated[
    str | None,
    typer.Option(
        "--against",
        metavar="NETWORK",
        help="Compare with another network: dense (the same, unpruned), a file, a shipped one, or none; by default "
        "the one that it was pruned from, if known.",
    ),
]


def checked_seed(seed: int) -> int:
    """Return a seed that is not too large; a bound of the option itself would widen every help."""
    if seed > MOST_SEED:
        raise typer.BadParameter(f"is larger than {MOST_SEED:,}")
    return seed


SeedOption = Annotated[int, typer.Option(min=0, callback=checked_seed, help="Seed of drawn activations.")]

CountIoOption = Annotated[
    bool,
    typer.Option(
        "--count-io", help="Charge every chip for reading the network's inputs from DRAM and writing its outputs there."
    ),
]

AtOption = Annotated[
    str | None,
    typer.Option(
        "--at",
        metavar="TERMS",
        help="Put all chips at one node, in one number format, or both: node=28nm,format=int8. Chips without a "
        "technology stay as they are.",
    ),
]


def _show_version(asked: bool) -> None:
    if asked:
        from accelsim import __version__

        typer.echo(f"accelsim {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", metavar="", callback=_show_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass  # of the program itself, before any command


def main() -> None:
    """Run the command line; bad input is a message per problem and exit code 2, never a traceback."""
    streams.prepare()
    with signals(), telling(), _noting():
        try:
            app(standalone_mode=True)
        finally:
            streams.flush()


@contextmanager
def _noting() -> Iterator[None]:
    """Make a note of each warning in the block that nothing inside of it collects: no line of a source file."""

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, UserWarning):
            note([typed(message)])
        else:
            before(message, category, *where, **more)

    with warnings.catch_warnings():
        before, warnings.showwarning = warnings.showwarning, show
        yield


@contextmanager
def telling() -> Iterator[None]:
    """End the program after an error in the block, with a message per problem and its exit code."""
    try:
        yield
    except InputError as error:
        _fail(2, *(f"error: {problem}" for problem in told([_with_file(spoken(each)) for each in error.problems])))
    except OSError as error:  # of standard output: files say themselves what is wrong with them
        _fail(2, f"error: {error.filename or 'standard output'}: cannot be written: {error.strerror or error}")
    except MemoryError as error:
        _fail(2, f"error: {' '.join(sys.argv[1:3])}: {in_memory(error)}")
    except AccelsimError as error:
        _fail(3, f"internal error, please report it: {error}")
    except (KeyboardInterrupt, SystemError, SystemExit) as error:
        # In compiled code Ctrl-C becomes an error of its own, and Typer makes an exit of it.
        left = isinstance(error, SystemExit) and error.code == STOPPED
        if not left and not isinstance(error.__cause__ or error, KeyboardInterrupt):
            raise
        if said := limit_reached():
            _fail(2, f"error: {said}")
        _fail(STOPPED, "stopped")


_FILES: dict[str, str] = {}
"""Files of chips that this command read, by the names that these have in them."""


def chip_of(name: str, changes: Mapping[str, Any] | None = None) -> Hardware:
    """Return a chip, of which messages name the file, too, where it is one's own."""
    from accelsim.hardware import load_hardware

    chip = load_hardware(name, changes)
    if name.endswith(".toml"):
        _FILES[chip.name] = name
    return chip


def _with_file(text: str) -> str:
    """Return a message with the file of the chip that it names."""
    for name, file in _FILES.items():
        if text.startswith(f"{name}: ") and name != file:
            return f"{file}: {text}"
        text = text.replace(f" on {name}: ", f" on {name} ({file}): ", 1)
    return text


_OPTIONS_OF = {"objectives": "objective", "constraints": "constraint", "activations": "density"}
"""Arguments of functions whose options are called differently."""


@functools.cache
def _commands() -> Mapping[str, Any]:
    """Return all commands by name, as the command line has them."""
    found: Mapping[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return found


_IN_PYTHON = re.compile(r"(?<=\()(?:\w+=|[A-Z]\w+\.\w+), (?=--)|(?<=[a-z]) \(\w+=\)(?=:)")
"""How an argument of a function stands beside the option that does the same."""


def spoken(text: str) -> str:
    """Return a message in the command line's words: an argument of a function that it begins with, as its option."""
    said = re.match(r"((?:layers? [^:]+: )?)(\w+)(?=:| ')", text)
    command = next((_commands()[word] for word in sys.argv[1:2] if word in _commands()), None)
    if said and command is not None:
        option = f"--{_OPTIONS_OF.get(said[2], said[2])}"
        if any(option in parameter.opts for parameter in command.params):
            text = said[1] + option + text[said.end() :]
    return _IN_PYTHON.sub("", text)


def _fail(exit_code: int, *lines: str) -> NoReturn:
    with suppress(BrokenPipeError):  # who reads it was told to stop, too, as in `accelsim run 2>&1 | tee`
        for line in lines:
            errors().print(line, soft_wrap=True)
    sys.exit(exit_code)


def load(
    problems: list[str],
    network: str,
    hardware: str,
    overrides: list[str] | None,
    density: float | None,
    weights: Path | None = None,
    reading: ReadingOptions = ReadingOptions(),  # noqa: B008 - frozen
    *,
    weights_alone: bool = False,
) -> tuple[Any, list[Any]]:
    """Return the network and the chips that a command was given, or their problems.

    weights_alone: whether the weights of a bare file will do, without what it does not say of convolutions.
    """
    from accelsim.network import Density, load_network, load_weights, with_weights

    net: Any = None
    if told := collect(problems, reading.keywords_beside, weights, network):
        read = load_weights if weights_alone else load_network
        net = collect(problems, lambda: read(network, **told[0]))
        if net is not None and weights is not None:
            net = collect(problems, lambda: with_weights(net, weights, **told[1]))
        if net is not None:
            net = collect(problems, reading.resized, net)
        if net is not None:
            net = collect(problems, reading.entering, net, density)
    changes = collect(problems, changes_of, overrides or [])
    names = collect(problems, _names, hardware)
    chips = [collect(problems, chip_of, name, changes) for name in names or []]
    collect(problems, _check_names_differ, chips)
    if density is not None:
        collect(problems, Density, density, place="--density: ")
    if net is not None and not problems:
        note(_large(net))
    return net, chips


def other_network(
    problems: list[str],
    network: Network | None,
    against: str | None,
    reading: ReadingOptions = ReadingOptions(),  # noqa: B008 - frozen
) -> Network | None:
    """Return the network that --against names, as much of it as runs of the network; None where there is none."""
    from accelsim.against import DENSE, NOTHING, other
    from accelsim.network import load_network

    def read(name: str | Path) -> Network:
        return reading.resized(load_network(name, **reading.keywords_beside(None, str(name))[0]))

    place = f"--against {against}: "
    if network is not None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = collect(problems, other, network, against, read, place=place)
        note(typed(item.message) for item in caught)
        return found
    if against not in (None, DENSE, NOTHING):
        collect(problems, read, against, place=place)  # what is wrong with it is told at once
    return None


def of_parent(parent: Network | None, against: str | None) -> list[str]:
    """Say of a network that runs though nobody named it why it does, and how to leave it out."""
    if parent is None or against is not None:
        return []
    return [f"{parent.name}, from which it was pruned, runs too, to compare; --against none leaves that out"]


def put_at(problems: list[str], chips: list[Any], text: str | None) -> tuple[list[Any], list[str]]:
    """Return the chips at the node and in the format that --at names, and what to say of those that cannot.

    As they are where nothing is asked for, or where there are problems already.
    """
    if text is None:
        return chips, []
    from accelsim.terms import at, parse_at

    asked = collect(problems, parse_at, text)
    if asked is None or problems:
        return chips, []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        moved = collect(problems, at, chips, *asked, place="--at: ")
    return moved or chips, [str(item.message) for item in caught]


def note(lines: Iterable[str]) -> None:
    """Show what is to be known beside the results, a line each."""
    for line in lines:
        out = errors()  # only now: to make a console takes some time
        out.print(f"note: {spoken(line)}", soft_wrap=not out.is_terminal)


MUCH_BYTES = 2**30
"""Of memory: what may take more is told."""


def note_beside(network: Network) -> None:
    """Show what is to be known of a network before it is worked on: what was assumed, and what will take memory."""
    note([*network.assumptions, *_large(network)])


def _large(network: Network) -> list[str]:
    """Say of the largest layer how much memory it may take: its weights as one matrix, what enters and what leaves."""
    sizes = {
        layer.name: 8 * (layer.out_features * layer.in_features + layer.maps.inputs + layer.maps.outputs)
        for layer in network
    }
    name = max(sizes, key=sizes.__getitem__)
    if sizes[name] < MUCH_BYTES:
        return []
    return [f"layer {name} may take {sizes[name] / 2**30:.1f} GiB of memory"]


def say_left_out(network: Network, chips: Sequence[Hardware] = ()) -> None:
    """Say below the results what of the network is not in them: operations are that all of these chips run."""
    from accelsim.billing import billed

    by_chip = [billed(network, chip) for chip in chips]
    say(network.told_beside(set.intersection(*by_chip) if by_chip else ()))


def say(lines: Iterable[str]) -> None:
    """Print lines as they are."""
    out = console()
    for line in lines:
        out.print(line)


def write_all(results: pd.DataFrame, outputs: Mapping[str, Path]) -> None:
    """Write results to each file, by its kind: before anything is printed, whose reader may go, as `head` does."""
    from accelsim.report.files import write

    for kind, path in outputs.items():
        write(results, kind, path)


def say_wrote(*paths: Path) -> None:
    """Say which files were written."""
    from accelsim.report.files import STANDARD_OUTPUT

    for path in paths:
        if path != STANDARD_OUTPUT:
            console().print(f"wrote {path}", soft_wrap=True)


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise InputError(f"--hardware {text}: write names separated by commas, as in {DEFAULT_CHIP},my-chip.toml")
    return names


def names_chip(name: str) -> bool:
    """Return whether a name is that of a shipped chip, or of a file that describes one."""
    from accelsim.config import kinds_of, read_toml, shipped_names

    if not any(character in name for character in "./\\"):
        return name in shipped_names("hwconfigs")
    return name.endswith(".toml") and os.path.isfile(name) and "chip" in kinds_of(read_toml(Path(name)))


def changes_of(texts: list[str]) -> dict[str, Any]:
    """Return the keys that `--set` changes, and their values; raises InputError with every problem."""
    from accelsim.config import parse_override

    problems: list[str] = []
    changes: list[Any] = [collect(problems, parse_override, text) for text in texts]
    raise_if_any(problems)
    return dict(changes)


def _check_names_differ(chips: list[Hardware]) -> None:
    names = Counter(chip.name for chip in chips if chip is not None)
    raise_if_any(
        f"--hardware: {times} chips are called '{name}'; leave one out, or change the name in its file"
        for name, times in names.items()
        if times > 1
    )


def collect(problems: list[str], action: Callable[..., T], *arguments: Any, place: str = "") -> T | None:
    """Run one check and keep its problems, so that all are told at once."""
    try:
        return action(*arguments)
    except InputError as error:
        problems.extend(f"{place}{problem}" for problem in error.problems)
        return None


_aside: ContextVar[bool] = ContextVar("aside", default=False)

UNLIMITED = 10_000
"""Characters of a line in a pipe, which has no width of its own: grep sees every column and whole names."""


@contextmanager
def aside(needed: bool) -> Iterator[None]:
    """Say in the block on standard error what else goes to standard output, if that is needed for a table."""
    token = _aside.set(needed)
    try:
        yield
    finally:
        _aside.reset(token)


def console() -> Console:
    """Return where results go."""
    from accelsim.cli.legible_console import LegibleConsole

    stream = sys.stderr if _aside.get() else sys.stdout
    has_width = stream.isatty() or os.environ.get("COLUMNS", "").isdigit()
    return LegibleConsole(file=stream, width=None if has_width else UNLIMITED)


def errors() -> Console:
    """Return where notes and errors go."""
    from accelsim.cli.legible_console import LegibleConsole

    return LegibleConsole(stderr=True)


LONGEST_STEP = 30
"""Characters of what a progress bar says is done, which leave room for its numbers at 80 columns."""

SILENCE_SECONDS = 30
"""How long work that is not watched in a terminal says nothing."""

_now = time.monotonic


@contextmanager
def reporting(steps: int, quiet: bool) -> Iterator[Callable[..., None]]:
    """Show progress on work longer than a second, say when kernels are compiled, and turn warnings into notes.

    What it yields takes the name of a step as it begins, and how many are done where that is not the number of calls,
    of how many where that is not `steps`.
    """
    if quiet:
        pace, quietly = Pace(lambda text: None), 0

        def counted(name: str, already: int | None = None, of: int = steps) -> None:
            nonlocal quietly
            pace.step(quietly if already is None else already, of)
            quietly += 1

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield counted
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from accelsim.kernels import Compiling, on_compile

    notes = errors()
    compiled: set[str] = set()

    def compiling(each: Compiling) -> None:
        if each.part not in compiled and (not compiled or not notes.is_terminal):  # there the bar names the others
            kept = "" if compiled else " (a second or two for each part, kept for later commands)"
            notes.print(f"compiling for this machine: {each.part}{kept}", soft_wrap=not notes.is_terminal)
        bar.update(task, description=within(LONGEST_STEP, f"compiling: {each.part}"))
        compiled.add(each.part)

    bar = Progress(
        TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("{task.fields[left]}", markup=False),
        console=notes, transient=True, disable=not notes.is_terminal,
    )  # fmt: skip
    task = bar.add_task("", total=steps, left="")
    pace = Pace(lambda text: None if notes.is_terminal else note([text]))
    done, since = 0, _now()
    aloud = Aloud(notes, steps, SILENCE_SECONDS, _now)

    def step(name: str, already: int | None = None, of: int = steps) -> None:
        nonlocal done
        before = done if already is None else already
        left = f"{duration((_now() - since) / before * (of - before))} left" if 0 < before < of else ""
        bar.update(task, description=within(LONGEST_STEP, name), completed=before, total=of, left=left)
        if not notes.is_terminal:
            aloud.step(name, before, of, left)
        pace.step(before, of)
        done += 1

    timer = threading.Timer(1.0, bar.start)
    timer.daemon = True
    timer.start()
    if not notes.is_terminal:
        aloud.start()
    with warnings.catch_warnings(record=True) as caught, on_compile(compiling):
        warnings.simplefilter("always")
        try:
            yield step
        finally:
            timer.cancel()
            timer.join()  # workers may be forked next, beside no thread
            aloud.stop()
            bar.stop()
    for message in dict.fromkeys(typed(item.message) for item in caught if issubclass(item.category, UserWarning)):
        notes.print(f"note: {spoken(message)}", soft_wrap=not notes.is_terminal)
