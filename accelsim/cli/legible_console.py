"""A console that shows names from files of anyone: none of their characters moves the cursor."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from accelsim.errors import legible


class LegibleConsole(Console):
    """A console whose texts and cells of tables are `legible`."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render, control characters escaped and endless names cut."""
        if isinstance(renderable, Text) and (text := legible(renderable.plain)) != renderable.plain:
            renderable = Text(text, renderable.style, justify=renderable.justify, overflow=renderable.overflow)
        return super().render(renderable, options)
