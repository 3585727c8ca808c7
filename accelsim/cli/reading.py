"""What a file leaves open of a network, as options of every command that reads one."""

from __future__ import annotations

import functools
import inspect
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeVar, get_type_hints

import typer

from accelsim.errors import InputError, collecting, raise_if_any

if TYPE_CHECKING:
    from accelsim.network import Network

T = TypeVar("T")

PANEL = "Reading files"

AMOUNT_PANEL = "How much runs"

NETWORK_SUFFIXES = ("", ".toml", ".onnx")
"""Of networks whose weights are under no key and have their shapes: what is said of a file of weights is not theirs."""


@dataclass(frozen=True, kw_only=True)
class ReadingOptions:
    """What a command was told beside the file of a network, as it was typed."""

    key: str | None = None
    transpose: list[str] | None = None
    input_shape: list[str] | None = None
    batch_dim: list[str] | None = None
    input_value: list[str] | None = None
    inputs: Path | None = None
    labels: Path | None = None
    phase: str | None = None
    tokens: int | None = None
    context: int | None = None
    batch: int | None = None

    @property
    def given(self) -> dict[str, Any]:
        """Every option under its name on the command line."""
        return {_flag(name): value for name, value in vars(self).items()}

    def unused(self, source: str) -> list[str]:
        """Say what was given that a source has no use for."""
        return [f"{option}: is of no use with {source}; leave it out" for option, value in self.given.items() if value]

    @property
    def amount(self) -> tuple[str, dict[str, Any]]:
        """Return which method of a network makes of it what shall run, with its arguments; "": as it is."""
        from accelsim.network.language import amount

        return amount(**self.how_much)

    @property
    def how_much(self) -> dict[str, Any]:
        """What was said of how much runs, None where nothing was."""
        return {name: getattr(self, name) for name in _AMOUNTS}

    def resized(self, network: Network) -> Network:
        """Return as much of a network as shall run; raises InputError with every problem, by the options' names."""
        from accelsim.network.language import as_much

        problems: list[str] = []
        with collecting(problems, "--"):
            network = as_much(network, **self.how_much)
        raise_if_any(problems)
        return network

    @property
    def of_space(self) -> dict[str, Any]:
        """Keys of a space that take the place of those in its file; paths count from here."""
        found: dict[str, Any] = dict(self.how_much)
        for name in _INPUTS:
            path: Path | None = getattr(self, name)
            found[name] = None if path is None else str(path.absolute())
        return {name: value for name, value in found.items() if value is not None}

    def keywords(self) -> dict[str, Any]:
        """Return keywords of `load_network`, for what was given; raises InputError with every problem."""
        problems: list[str] = []
        found: dict[str, Any] = {"key": self.key, "transpose": self.transpose}
        for form in FORMS:
            found[form.keyword] = values = {}
            for text in getattr(self, form.parameter) or ():
                with collecting(problems, f"{form.option} {text}: "):
                    name, value = form.read(text)
                    if name in values:
                        raise InputError(f"{name} is given twice; keep one")
                    values[name] = value
        raise_if_any(problems)
        return {name: value for name, value in found.items() if value}

    def entering(self, network: Network, density: float | None = None) -> Network:
        """Return a network with its inputs, where they were given; raises InputError with every problem."""
        if self.inputs is None and self.labels is None:
            return network
        if density is not None:
            raise InputError("--density: draws activations, and with --inputs they are real; leave one of them out")
        if self.batch is not None:
            raise InputError("--batch: with --inputs there are as many samples as they hold; leave one of them out")
        from accelsim.network.samples import with_inputs

        return with_inputs(network, self.inputs, self.labels)

    @property
    def python_of_inputs(self) -> list[str]:
        """The line of Python that does what `entering` does; none where nothing was given."""
        inputs, labels = (None if path is None else str(path) for path in (self.inputs, self.labels))
        return [] if inputs is labels is None else [f"network = with_inputs(network, {inputs!r}, {labels!r})"]

    def keywords_beside(self, weights: Path | None, network: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return keywords for a network, and for the file of weights that replaces its own.

        Raises InputError with every problem.
        """
        found = self.keywords()
        of_weights = {name: found[name] for name in found if weights is not None and name in ("key", "transpose")}
        both = Path(network).suffix not in NETWORK_SUFFIXES or os.path.isdir(network)
        return {name: value for name, value in found.items() if both or name not in of_weights}, of_weights


def _flag(parameter: str) -> str:
    """Return what a parameter of a command is called on the command line."""
    return f"--{parameter.replace('_', '-')}"


class Form(NamedTuple):
    """How an option NAME=VALUE is written, and what it means."""

    keyword: str
    value: Callable[[str], Any]
    """Raises ValueError for what is none."""
    metavar: str
    help: str
    says: str

    @property
    def option(self) -> str:
        """Its name on the command line."""
        return _flag(self.parameter)

    @property
    def parameter(self) -> str:
        """Its name among the parameters of a command."""
        return self.keyword.removesuffix("s")

    def read(self, text: str) -> tuple[str, Any]:
        """Return name and value; raises InputError that says the form."""
        name, equals, value = (part.strip() for part in text.rpartition("="))
        try:
            if not (name and equals):
                raise ValueError
            return name, self.value(value)
        except ValueError:
            raise InputError(f"write {self.says}") from None


def _sizes(text: str) -> int | tuple[int, ...]:
    """Read 128 as one size, 1,3,224,224 or 1x3x224x224 as a shape and 128, with its comma as one of one dimension."""
    if "x" in text and "," not in text:
        text = text.replace("x", ",")
    parts = text.removesuffix(",").split(",")
    sizes = tuple(_count(part) for part in parts)
    if 0 in sizes:
        raise ValueError
    return sizes if "," in text else sizes[0]


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text.strip(), re.ASCII):
        raise ValueError
    return int(text)


def _dimension(text: str) -> int | None:
    if text.lower() == "none":
        return None
    return -_count(text[1:]) if text.startswith("-") else _count(text)


def _number(text: str) -> float:
    """Read 16000, 0.5, true or false; what is whole stays an integer."""
    if text.lower() in ("true", "false"):
        return int(text.lower() == "true")
    value = float(text)
    if not math.isfinite(value):
        raise ValueError
    return int(text) if re.fullmatch(r"[+-]?[0-9]+", text, re.ASCII) else value


FORMS = (
    Form(
        "input_shapes", _sizes, "NAME=SIZES",
        "ONNX: shape of an input, as in x=1,3,224,224, or an open size, as in seq_len=128.",
        "an input and its sizes, whole numbers above 0, as in x=1,3,224,224, or an open size, as in seq_len=128",
    ),
    Form(
        "batch_dims", _dimension, "NAME=NUMBER",
        "ONNX: which dimension of an input counts samples, as in x=0; none: x=none.",
        "an input and which of its dimensions counts samples, as in x=0, or x=none",
    ),
    Form(
        "input_values", _number, "NAME=VALUE",
        "ONNX: the number that an input always has, as in sr=16000.",
        "an input and the number that it always has, as in sr=16000 or training=false",
    ),
)  # fmt: skip


def _repeated(option: str, metavar: str, text: str) -> Any:
    """Return the annotation of an option that may be given several times."""
    also = ["--shape"] if option == "--input-shape" else []
    return Annotated[list[str] | None, typer.Option(option, *also, metavar=metavar, help=text, rich_help_panel=PANEL)]


_OPTIONS: dict[str, Any] = {
    "key": Annotated[
        str | None,
        typer.Option(
            "--key", metavar="NAME", help="Where a checkpoint keeps its tensors, as in model.ema.",
            rich_help_panel=PANEL,
        ),
    ],
    "transpose": _repeated(
        "--transpose", "PATTERN",
        "Layers whose weights are stored (in, out), as in 'h.*.attn.*'; can be repeated, like the options below.",
    ),
    **{form.parameter: _repeated(form.option, form.metavar, form.help) for form in FORMS},
}  # fmt: skip


_INPUTS: dict[str, Any] = {
    "inputs": Annotated[
        Path | None,
        typer.Option(
            "--inputs",
            metavar="FILE",
            help="Run the network on these samples: .npy, or .npz or .safetensors with one array for each input.",
        ),
    ],
    "labels": Annotated[
        Path | None,
        typer.Option(
            "--labels",
            metavar="FILE",
            help="Class of each sample; by default the array labels of --inputs, if there is one.",
        ),
    ],
}


def _amount(option: str, kind: Any, text: str, **more: Any) -> Any:
    """Return the annotation of an option that says how much of a network runs."""
    return Annotated[kind | None, typer.Option(option, help=text, rich_help_panel=AMOUNT_PANEL, **more)]


_AMOUNTS: dict[str, Any] = {
    "phase": _amount("--phase", str, "For a language model: prefill or decode.", metavar="PHASE"),
    "tokens": _amount("--tokens", int, "Tokens of each sequence that run at once; decode has 1.", metavar="N"),
    "context": _amount("--context", int, "Tokens that each query attends to, including those that run.", metavar="N"),
    "batch": _amount(
        "--batch", int, "Samples or sequences at once; their activations are drawn at random.", metavar="N"
    ),
}


def reads_network(command: Callable[..., T]) -> Callable[..., T]:
    """Return a command with the options of reading; it gets them as one keyword `reading`, a ReadingOptions."""
    return with_options(command, _OPTIONS, "reading", ReadingOptions)


def runs_network(command: Callable[..., T]) -> Callable[..., T]:
    """Return a command with the options of `reads_network`, and those that say what enters and how much runs."""
    return with_options(command, _INPUTS | _OPTIONS | _AMOUNTS, "reading", ReadingOptions)


def runs_space(command: Callable[..., T]) -> Callable[..., T]:
    """Return a command with the options that say what enters the networks of a space, and how much of them runs."""
    return with_options(command, _INPUTS | _AMOUNTS, "reading", ReadingOptions)


def with_options(
    command: Callable[..., T], options: Mapping[str, Any], keyword: str, made: Callable[..., Any]
) -> Callable[..., T]:
    """Return a command that has these options, too, and gets what is made of them under one keyword."""

    @functools.wraps(command)
    def wrapped(*arguments: Any, **given: Any) -> T:
        values = made(**{name: given.pop(name, None) for name in options})
        return command(*arguments, **{keyword: values}, **given)

    hints = get_type_hints(command, include_extras=True)
    own = inspect.signature(command).parameters
    shown = [own[name].replace(annotation=hints[name]) for name in own if name != keyword]
    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in options.items()
    ]
    wrapped.__signature__ = inspect.Signature([*shown, *more])  # type: ignore[attr-defined]
    wrapped.__annotations__ = {each.name: each.annotation for each in (*shown, *more)}
    return wrapped
