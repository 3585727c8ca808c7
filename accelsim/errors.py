"""What the user is told when something is wrong."""

from __future__ import annotations

import difflib
import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

MAX_KNOWN = 20
"""Names that a message lists before it says how many more there are."""


class AccelsimError(Exception):
    """The base of every error this package raises on purpose."""


class InputError(AccelsimError, ValueError):
    """Bad input: every problem found, each naming its place, its value and the remedy.

    The arguments are the problems, one string each, so that the error survives pickling and SimPy's re-raise.
    """

    @property
    def problems(self) -> tuple[str, ...]:
        """One line per problem."""
        return tuple(str(problem) for problem in self.args)

    def at(self, place: str) -> list[str]:
        """Return the problems, each behind its place."""
        return [f"{place}: {problem}" for problem in self.problems]

    def __str__(self) -> str:
        """All problems, one a line."""
        return "\n".join(self.problems)


class UnsupportedError(InputError):
    """A layer that a chip cannot run, such as one that its memories cannot hold; the rest of its network may run."""


class DeadlockError(AccelsimError, RuntimeError):
    """A simulated machine in which nothing can happen any more although work is left; names who waits for what."""


class VerificationError(AccelsimError, RuntimeError):
    """An engine's product differs from the dense reference, or its cycles do not add up: a bug, never the input's."""


def raise_if_any(problems: Iterable[str], error: type[InputError] = InputError) -> None:
    """Raise one error for all the problems, or return."""
    found = list(problems)
    if found:
        raise error(*found)


@contextmanager
def collecting(problems: list[str], place: str = "") -> Iterator[None]:
    """Keep the problems of an InputError, each behind its place, and go on after the block."""
    try:
        yield
    except InputError as error:
        problems += [f"{place}{problem}" for problem in error.problems]


@contextmanager
def placing(place: str) -> Iterator[None]:
    """Put a place before the problems of an InputError in the block."""
    try:
        yield
    except InputError as error:
        raise type(error)(*error.at(place)) from None


@contextmanager
def needing(extra: str) -> Iterator[None]:
    """Say how to install an extra of this package where an import in the block finds a module missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise InputError(f"{error.name}: is not installed; install it with: pip install 'accelsim[{extra}]'") from None


def warn(message: str) -> None:
    """Warn, and point to the line that called this package, from whatever depth of it."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)


_PACKAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` where a known word is close, else the first of the known words."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; known: {listed(names, MAX_KNOWN)}" if names else ""


def listed(names: Iterable[str], most: int = 6) -> str:
    """Names for a sentence: the first of them, and how many more there are."""
    every = list(names)
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more


LONGEST_REASON = 200
"""Characters of what a library says of a damaged file."""


def reason_of(error: Exception) -> str:
    """Return what a library says of a damaged file, in one line of bounded length."""
    line = " ".join(str(error).split()) or type(error).__name__
    return line if len(line) <= LONGEST_REASON else f"{line[:LONGEST_REASON]}..."
