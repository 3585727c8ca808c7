"""What the user is told when something is wrong."""

from __future__ import annotations

import difflib
import os
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate

MAX_KNOWN = 20
"""Names that a message lists before it says how many more there are."""

MAX_TOLD = 10
"""Problems that are told before it is said how many more there are: a file may have thousands alike."""

LONGEST_MESSAGE = 2000
"""Characters of the problems that are told together."""

_AROUND = len("error: \n")
_LAST_LINE = len("error: and 1,000,000 more problems\n")

LONGEST_WORD = 400
"""Characters of a name in a message, of which the first and the last are shown where it is longer."""

_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that move the cursor, turn the direction of writing or are none, such as halves of surrogate pairs."""

LONGEST_LINE = 1000
"""The same of a line, for names with spaces."""

_ENDLESS = re.compile(rf"\S{{{LONGEST_WORD + 1},}}"), re.compile(rf"[^\n]{{{LONGEST_LINE + 1},}}")


class AccelsimError(Exception):
    """The base of every error this package raises on purpose."""


def told(problems: Sequence[str]) -> list[str]:
    """Return the problems that are told, and where there are very many, how many more there are."""
    ends = accumulate(len(problem) + _AROUND for problem in problems[:MAX_TOLD])
    first = max(1, sum(end <= LONGEST_MESSAGE - _LAST_LINE for end in ends))
    more = len(problems) - first
    return [*problems] if more <= 0 else [*problems[:first], f"and {more:,} more problem{'s' * (more > 1)}"]


def visible(text: str) -> str:
    """Return a text with control characters, and those that turn the direction of writing, escaped."""
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def printable(name: str) -> str:
    """Return a text that can be written as UTF-8: halves of surrogate pairs, as of names of files, escaped."""
    return name.encode("utf-8", "backslashreplace").decode()


def legible(text: str, *, whole_lines: bool = False) -> str:
    """Return a text from a file as a terminal can show it: control characters escaped, endless names cut.

    whole_lines: for a page, which has room for lines of many words.
    """
    text = visible(text)
    for endless, longest in zip(_ENDLESS[: 1 if whole_lines else None], (LONGEST_WORD, LONGEST_LINE), strict=False):
        most = longest // 2
        text = endless.sub(lambda found, most=most: f"{found[0][:most]}...{found[0][-most:]}", text)  # type: ignore[misc]
    return text


def _bounded(text: str) -> str:
    """Return a problem of many lines without its middle where it is longer than what is told at once."""
    most = LONGEST_MESSAGE - _LAST_LINE - 2 * _AROUND
    return text if len(text) <= most else f"{text[: most // 2]}...{text[-most // 2 :]}"


def in_memory(error: MemoryError) -> str:
    """Return what there is to say of something that memory does not hold, behind what it is."""
    said = re.search(r"allocate (\S+ \S+) for an array with shape (\(.*\))", str(error))
    much = f" (for {said[1]} more, an array of shape {said[2]})" if said else ""
    return f"memory does not hold it{much}; make it smaller, or run it where there is more memory"


class InputError(AccelsimError, ValueError):
    """Bad input: every problem found, each naming its place, its value and the remedy.

    The arguments are the problems, one string each, so that the error survives pickling and SimPy's re-raise.
    """

    def __init__(self, *problems: object) -> None:
        """Take the problems as a terminal can show them: what they name comes from files of anyone."""
        super().__init__(*(_bounded(legible(str(problem))) for problem in problems))

    @property
    def problems(self) -> tuple[str, ...]:
        """One line per problem."""
        return self.args

    def at(self, place: str) -> list[str]:
        """Return the problems, each behind its place, where it is not there already."""
        there = f"{place}: "
        return [problem if problem.startswith(there) else there + problem for problem in self.problems]

    def __str__(self) -> str:
        """All problems, one a line; the first of them where there are very many."""
        return "\n".join(told(self.problems))


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


class collecting:  # noqa: N801 - reads as a function; a generator would take four times as long, of every chip
    """Keep the problems of an InputError, each behind its place, and go on after the block."""

    __slots__ = ("_place", "_problems")

    def __init__(self, problems: list[str], place: str = "") -> None:
        self._problems, self._place = problems, place

    def __enter__(self) -> None:
        """Begin the block."""

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        """Keep the problems of its error, if that is one of what was given."""
        if isinstance(error, MemoryError) and self._place:
            error = InputError(in_memory(error))
        if not isinstance(error, InputError):
            return False
        self._problems += [f"{self._place}{problem}" for problem in error.problems]
        return True


@contextmanager
def placing(place: str) -> Iterator[None]:
    """Put a place before the problems of an InputError in the block, and before what memory does not hold."""
    try:
        yield
    except InputError as error:
        raise type(error)(*error.at(place)) from None
    except MemoryError as error:
        raise InputError(f"{place}: {in_memory(error)}") from None


@contextmanager
def needing(extra: str, file: str | os.PathLike[str] = "") -> Iterator[None]:
    """Say how to install an extra where an import in the block finds a module missing, and which file needs it."""
    try:
        yield
    except ModuleNotFoundError as error:
        of = f"{os.fspath(file)}: needs " if file else ""
        lacks = ", which" if file else ":"
        raise InputError(
            f"{of}{error.name}{lacks} is not installed; install it with: pip install 'accelsim[{extra}]'"
        ) from None


class Told(UserWarning):
    """A warning that says something else on the command line, where there are other words for what to do."""

    def __init__(self, message: str, typed: str = "") -> None:
        """Take the message, and what a command says instead."""
        super().__init__(message)
        self.typed = typed or message


def warn(message: str, typed: str = "") -> None:
    """Warn, and point to the line that called this package, from whatever depth of it; `typed`: see `Told`."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    warnings.warn(Told(message, typed), stacklevel=level)


def typed(warning: Warning | str) -> str:
    """Return what a command says of a warning."""
    return warning.typed if isinstance(warning, Told) else str(warning)


_PACKAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "")


LEAST_OF_A_WORD = 3
"""Characters that a word has at least whose beginning is looked for."""

MOST_PROPOSED = 3
"""Words that are proposed, of those that begin so."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` where a known word is close or begins so, else the first of the known words."""
    names = sorted(known)
    longer = [name for name in names if len(word) >= LEAST_OF_A_WORD and name.startswith(word)]
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6) or longer[:MOST_PROPOSED]
    if close:
        return f"; did you mean {' or '.join(map(repr, close))}?"
    return f"; known: {listed(names, MAX_KNOWN)}" if names else ""


def listed(names: Iterable[str], most: int = 6) -> str:
    """Names for a sentence: the first of them, and how many more there are."""
    every = list(names)
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more


def within(length: int, name: str) -> str:
    """Return a name without its middle where it is longer than this; its end says most."""
    return name if len(name) <= length else f"{name[: length // 3]}…{name[length // 3 + 1 - length :]}"


LONGEST_REASON = 200
"""Characters of what a library says of a damaged file."""


def reason_of(error: Exception) -> str:
    """Return what a library says of a damaged file, in one line of bounded length."""
    line = " ".join(str(error).split()) or type(error).__name__
    if "set_int_max_str_digits" in line:  # a setting of Python, which is no remedy for a file
        return "a whole number has more digits than any that is read"
    return line if len(line) <= LONGEST_REASON else f"{line[:LONGEST_REASON]}..."
