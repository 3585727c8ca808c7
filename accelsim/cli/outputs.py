"""Where the table of a command goes, as options of every command that makes one: --csv, --json, --parquet."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from accelsim.cli.app import aside
from accelsim.cli.reading import with_options
from accelsim.report.files import STANDARD_OUTPUT

T = TypeVar("T")

PANEL = "Where the table goes; - is standard output"


@dataclass(frozen=True)
class Tables:
    """Files that a command was told to write its table to."""

    csv: Path | None = None
    json: Path | None = None
    parquet: Path | None = None

    @property
    def files(self) -> dict[str, Path]:
        """What was given, by kind."""
        return {kind: path for kind, path in vars(self).items() if path is not None}


def _option(kind: str) -> Any:
    return Annotated[
        Path | None,
        typer.Option(f"--{kind.lower()}", metavar="FILE", help=f"All columns as {kind}.", rich_help_panel=PANEL),
    ]


_TABLES = {"csv": _option("CSV"), "json": _option("JSON"), "parquet": _option("Parquet")}


def writes_table(command: Callable[..., T]) -> Callable[..., T]:
    """Return a command with the options of its table; it gets them as one keyword `tables`.

    Where one of them is standard output, nothing else goes there: what is said goes to standard error.
    """

    @functools.wraps(command)
    def apart(*arguments: Any, tables: Tables, **given: Any) -> T:
        with aside(STANDARD_OUTPUT in tables.files.values()):
            return command(*arguments, tables=tables, **given)

    return with_options(apart, _TABLES, "tables", Tables)
