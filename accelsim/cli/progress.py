"""Progress of long work where nobody watches a bar: a line now and then, within a step as well."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from accelsim.cli.stopping import duration

if TYPE_CHECKING:
    from rich.console import Console


class Aloud:
    """Says how far work is, whenever it was silent for so many seconds; `start` and `stop` bracket the work."""

    def __init__(self, notes: Console, steps: int, silence_seconds: float, now: Callable[[], float]) -> None:
        self._notes, self._silence_seconds, self._now = notes, silence_seconds, now
        self._since = self._said = now()
        self._at = "", 0, steps, ""
        self._ended = threading.Event()
        self._listening = threading.Thread(target=self._within_a_step, daemon=True)

    def start(self) -> None:
        """Begin to listen for silence."""
        self._listening.start()

    def stop(self) -> None:
        """Say no more."""
        self._ended.set()
        if self._listening.is_alive():
            self._listening.join()

    def step(self, name: str, done: int, of: int, left: str) -> None:
        """Take note of a step as it begins: how many are done, of how many, and how long the others will take."""
        self._at = name, done, of, left
        self._unless_said()

    def _within_a_step(self) -> None:
        while not self._ended.wait(max(0.0, self._said + self._silence_seconds - self._now())):
            self._unless_said()

    def _unless_said(self) -> None:
        now = self._now()
        if now - self._said < self._silence_seconds:
            return
        self._said = now
        name, done, of, left = self._at
        how_long = f"about {left}" if left else f"{duration(now - self._since)} so far"
        self._notes.print(f"{done:,} of {of:,} done, {how_long}{name and f': {name}'}", soft_wrap=True)
