"""Standard output and standard error as they are found: closed, narrow, full, or with a reader that goes."""

from __future__ import annotations

import codecs
import io
import os
import sys
from typing import TextIO

PLAIN = {"µ": "u", "²": "2", "…": "...", "·": ".", "×": "x", "─": "-", "█": "#", "▓": "%", "▒": "+", "░": "-"}
"""What stands for characters of our own where the encoding of standard output lacks them."""


class _Outlet(io.FileIO):
    """A stream whose reader may go, as `head` does: it has what it wanted, and the command still writes its files."""

    def write(self, data: object) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except BrokenPipeError:
            return memoryview(data).nbytes  # type: ignore[arg-type]


def prepare() -> None:
    """Make the streams of this process such that what is printed ends no command, but where a disk is full."""
    codecs.register_error("accelsim", _spelt_plainly)
    sys.stdout, sys.stderr = _prepared(sys.stdout, sys.__stdout__), _prepared(sys.stderr, sys.__stderr__)


def _prepared(stream: TextIO | None, own: TextIO | None) -> TextIO:
    """Return a stream; `own`: that of the process, in whose place somebody may have put another, which stays."""
    if stream is None:  # whoever started this closed it
        return open(os.devnull, "w", encoding="utf-8")
    if isinstance(stream, io.TextIOWrapper):
        if stream is own:
            stream = _to_an_outlet(stream)
        stream.reconfigure(errors="accelsim")
    return stream


def _to_an_outlet(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    raw = _Outlet(stream.fileno(), "w", closefd=False)
    return io.TextIOWrapper(
        raw if stream.write_through else io.BufferedWriter(raw),
        encoding=stream.encoding,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _spelt_plainly(error: UnicodeError) -> tuple[str, int]:
    """Return what is written in place of characters that an encoding lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(PLAIN.get(each) or each.encode("ascii", "backslashreplace").decode() for each in lacking), error.end


def flush() -> None:
    """Write what is left for standard output; raises OSError where there is no room for it, as on a full disk."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python tries again as it ends
        raise
