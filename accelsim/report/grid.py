"""Tables for a terminal: numbers are whole, columns that do not fit are left out and named, names lose their middle."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from accelsim.errors import legible, within

Cell = str | Sequence[str]
"""A line of text, or several below each other."""

Kind = Literal["number", "name", "words"]

ENOUGH = {"name": 24, "words": 20}
"""Characters that a column keeps before other columns are left out for it."""
LEAST = {"name": 12, "words": 10}
"""The fewest, once nothing else can be left out."""

GAP = 2
"""Characters between two columns."""


@dataclass(frozen=True, eq=False)
class Column:
    """A column: its heading, its cells from top to bottom, and below them its total.

    kind: numbers stand at the right and are never cut, names are shortened in the middle, words fold into lines. rank:
    0 stays whatever happens, of the others those with the highest rank are left out first.
    """

    heading: tuple[str, ...]
    cells: list[tuple[str, ...]]
    footer: tuple[str, ...]
    kind: Kind
    rank: int
    sections: dict[int, str] = field(default_factory=dict)
    """What stands in a line of its own before a row."""

    @property
    def name(self) -> str:
        """Its heading in one line; a key that `broken` put into several is whole again."""
        return " ".join(filter(None, self.heading)).replace(". ", ".").replace("_ ", "_")

    @property
    def natural(self) -> int:
        """Characters that it takes as it is."""
        cells = (self.heading, self.footer, *self.cells, tuple(self.sections.values()))
        return max(cell_len(line) for cell in cells for line in cell or ("",))

    def least(self, few: dict[str, int]) -> int:
        """Characters that it takes at least; headings and totals are not shortened."""
        if self.kind == "number":
            return self.natural
        fixed = max((cell_len(each) for cell in (self.heading, self.footer) for each in cell), default=0)
        return min(self.natural, max(few[self.kind], fixed if self.kind == "name" else 0))


class Grid:
    """A table that fits any width: it is told its columns, and chooses among them when it is printed.

    What comes from a file of anyone stands in it as it is: no markup, no control characters, a line for a cell.
    """

    def __init__(self, title: str = "", notes: Iterable[str] = (), *, all_in: str = "--csv has all") -> None:
        """Take what stands above the table, what below it, and where all columns are when some are not shown."""
        self.title, self.notes, self._all_in = title, list(notes), all_in
        self.columns: list[Column] = []

    def add(
        self, heading: str, cells: Iterable[Cell], footer: str = "", *, kind: Kind = "number", rank: int = 0
    ) -> None:
        """Add a column; see `Column`. A line break in heading or footer begins another line."""
        lines = [_lines(cell) for cell in cells]
        self.columns.append(Column(_lines(heading.split("\n")), lines, _lines(footer.split("\n")), kind, rank))

    def section(self, row: int, label: str) -> None:
        """Put a line with a name before a row, in the first column."""
        self.columns[0].sections[row] = one_line(label)

    def fitting(self, width: int) -> tuple[list[tuple[Column, int]], list[str]]:
        """Return the columns that fit into so many characters, each with its own, and the names of the others."""
        kept = list(self.columns)

        def needed(few: dict[str, int]) -> int:
            return sum(each.least(few) for each in kept) + GAP * (len(kept) - 1)

        for each in sorted(self.columns, key=lambda each: -each.rank):
            if each.rank == 0 or needed(ENOUGH) <= width:
                break
            kept.remove(each)
        few = ENOUGH if needed(ENOUGH) <= width else LEAST
        widths = [each.least(few) for each in kept]
        spare = width - needed(few)
        for kind in ("name", "words"):
            for number, each in enumerate(kept):
                if each.kind == kind:
                    more = max(0, min(spare, each.natural - widths[number]))
                    widths[number] += more
                    spare -= more
        return list(zip(kept, widths, strict=True)), [each.name for each in self.columns if each not in kept]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Print title, table and notes."""
        if self.title:
            yield Text(one_line(self.title), style="bold")
        shown, left_out = self.fitting(options.max_width)
        table = Table(
            box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0),
            show_header=any(any(each.heading) for each, _ in shown),
            show_footer=any(any(each.footer) for each, _ in shown),
        )  # fmt: skip
        for each, width in shown:
            table.add_column(
                Text("\n".join(each.heading)), Text("\n".join(each.footer)), width=width, overflow="fold",
                justify="right" if each.kind == "number" else "left", no_wrap=each.kind != "words",
            )  # fmt: skip
        for row in range(len(self.columns[0].cells)):
            if row in (sections := self.columns[0].sections):
                if row:
                    table.add_row()
                table.add_row(Text(shortened(sections[row], shown[0][1]), style="bold"))
            table.add_row(*(Text("\n".join(_fitted(each, row, width))) for each, width in shown))
        total = sum(width for _, width in shown) + GAP * (len(shown) - 1)
        yield from console.render(table, options.update(width=max(total, 1), max_width=max(total, options.max_width)))
        if left_out:
            yield Text(f"not shown: {', '.join(left_out)}; {self._all_in}", style="dim")
        for note in self.notes:
            yield Text(one_line(note))
        yield Text("")


def _fitted(column: Column, row: int, width: int) -> Sequence[str]:
    cell = column.cells[row]
    return [shortened(line, width) for line in cell] if column.kind == "name" else cell


def shortened(name: str, width: int) -> str:
    """Return a name without its middle, so that it takes no more than so many characters of a terminal."""
    length, text = width, name
    while cell_len(text) > width and length > 0:
        text = within(length, name)
        length -= 1
    return text


def broken(name: str, width: int = 12) -> str:
    """Return a name with dots and underscores as a heading of several lines, broken behind those, and no wider than
    so many lines need.
    """  # noqa: D205
    parts = name.replace(".", ".\0").replace("_", "_\0").split("\0")

    def within_width(width: int) -> list[str]:
        lines = [""]
        for part in parts:
            if lines[-1] and len(lines[-1]) + len(part) > width:
                lines.append("")
            lines[-1] += part
        return lines

    fewest = len(within_width(width))
    return "\n".join(next(lines for each in range(width + 1) if len(lines := within_width(each)) == fewest))


def _lines(cell: Cell) -> tuple[str, ...]:
    return (one_line(cell),) if isinstance(cell, str) else tuple(one_line(each) for each in cell)


def one_line(text: str) -> str:
    """Return a text as one line, as it can be shown."""
    return legible(text).replace("\n", "\\n").replace("\t", "\\t")
