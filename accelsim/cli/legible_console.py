"""A console that shows names from files of anyone: none of their characters moves the cursor or is markup."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from accelsim.errors import legible


class LegibleConsole(Console):
    """A console whose texts are `legible` and stand there as they are: no markup, no names of emoji, no line cut."""

    def __init__(self, **options: Any) -> None:
        """Take the options of a console."""
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def print(self, *objects: Any, crop: bool = False, **options: Any) -> None:
        """Print objects, a table that is wider than the terminal whole."""
        super().print(*objects, crop=crop, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render, control characters escaped and endless names cut."""
        if isinstance(renderable, Text) and (text := legible(renderable.plain)) != renderable.plain:
            renderable = Text(text, renderable.style, justify=renderable.justify, overflow=renderable.overflow)
        return super().render(renderable, options)

    def on_broken_pipe(self) -> None:
        """Leave it to the command what becomes of it: its own exit code says more than that a reader has gone."""
        raise
