"""How a command ends before it is done: by Ctrl-C or SIGTERM, within two seconds, and at a limit of time."""

from __future__ import annotations

import _thread
import os
import re
import select
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Any, NoReturn

from accelsim.errors import InputError
from accelsim.threads import LOCKLESS

STOPPED = 130
"""Exit code of what was stopped, as shells have it: 128 and the number of SIGINT."""

GRACE_SECONDS = 1.5
"""In which compiled code may come to an end by itself; it looks for no signals."""

TELL_SECONDS = 5.0
"""What is expected to take longer is told."""

LOOK_SECONDS = 2.0
"""After which it is judged how long the rest will take."""

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

DEFAULT_LIMIT = "1d"


class _State:
    """What this process was told; signals know no arguments."""

    limit_s: float = UNITS["d"]
    reached = False
    """Whether the limit was, by which the command was stopped."""
    heard = False
    """Whether the main thread has heard of a signal."""
    pipe: tuple[int, ...] = ()
    """What the watcher listens to."""


def parse_limit(text: str) -> float:
    """Return seconds: 90, 90s, 10m, 2h or 3d; raises InputError for what is none of these."""
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([smhd]?)", text.strip(), re.ASCII)
    if not found or not float(found[1]):
        raise InputError(f"--limit {text}: write a time, as in 90, 90s, 10m, 2h or 3d")
    return float(found[1]) * UNITS[found[2] or "s"]


def set_limit(text: str | None) -> None:
    """Stop this command after so long."""
    _State.limit_s = parse_limit(DEFAULT_LIMIT if text is None else text)


def duration(seconds: float) -> str:
    """Return a time as somebody would say it."""
    for factor, unit in ((365 * 86400, "years"), (86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * factor:
            return f"{seconds / factor:,.1f} {unit}" if seconds < 1e6 * factor else f"{seconds / factor:.1e} {unit}"
    return f"{seconds:.0f} seconds" if seconds >= 2 else "a second"


def _hear(number: int, frame: Any) -> NoReturn:
    _State.heard = True
    raise KeyboardInterrupt


@contextmanager
def signals() -> Iterator[None]:
    """Take SIGTERM for Ctrl-C in the block; what is ignored stays so, as behind nohup."""
    _State.reached = _State.heard = False
    before: dict[int, Any] = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(ValueError):  # not in the main thread, where somebody else has it
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                before[number] = signal.signal(number, _hear)
    try:
        yield
    finally:
        for taken, handler in before.items():
            signal.signal(taken, handler)


@contextmanager
def at_once() -> Iterator[None]:
    """End the program in the block by Ctrl-C without a word, as where nothing has begun: shells say 130, too."""
    is_main = threading.current_thread() is threading.main_thread()
    ours = is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _forget() -> None:
    """Let a process that was forked end by SIGTERM, as any other: who ends it is the one that forked it."""
    if signal.getsignal(signal.SIGTERM) is _hear:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
    for end in _State.pipe:  # or the watcher would not see that it is closed
        os.close(end)
    _State.pipe = ()


os.register_at_fork(after_in_child=_forget)


def limit_reached() -> str | None:
    """Return what there is to say where a command was stopped by its limit."""
    if not _State.reached:
        return None
    return (
        f"stopped at the limit of {duration(_State.limit_s)}; raise it with --limit, as in --limit 2d, or ask for less"
    )


@contextmanager
def watched() -> Iterator[None]:
    """Stop the block at the limit, and within GRACE_SECONDS of a signal even if compiled code does not return."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is not _hear:
        yield
        return
    read, write = os.pipe()
    os.set_blocking(write, False)
    before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    _State.pipe = read, write
    watcher = threading.Thread(target=_watch, args=(read,), daemon=True)
    LOCKLESS.add(watcher)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        _State.pipe = ()
        os.close(write)
        watcher.join()
        os.close(read)


def _watch(read: int) -> None:
    """Wait for the end of the block, a signal or the limit."""
    end = monotonic() + _State.limit_s
    while True:
        left = min(end - monotonic(), threading.TIMEOUT_MAX)
        if not select.select([read], [], [], max(0.0, left))[0]:
            if monotonic() < end:
                continue
            _State.reached = True
            _thread.interrupt_main()
            break
        heard = os.read(read, 64)
        if not heard:
            return
        if {signal.SIGINT, signal.SIGTERM} & {*heard}:
            break
    begin = monotonic()
    while not _State.heard and monotonic() - begin < GRACE_SECONDS:
        if select.select([read], [], [], 0.05)[0] and not os.read(read, 64):
            return
    if not _State.heard:
        text = limit_reached()
        with suppress(OSError):  # who reads it was told to stop, too, as in `accelsim run 2>&1 | tee`
            os.write(2, f"error: {text}\n".encode() if text else b"stopped\n")
        os._exit(2 if text else STOPPED)


class Pace:
    """How long a work of many steps will take, by those that are done: told once, refused above the limit."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._begin = monotonic()
        self._first: tuple[float, int] | None = None
        """When the first steps were done, which may compile and read files, and how many."""
        self._told = False

    def step(self, done: int, of: int) -> None:
        """Take note of steps that are done; raises InputError where the others will take too long."""
        now = monotonic()
        if done <= 0:
            return
        if self._first is None:
            self._first = now, done
            return
        since, before = self._first
        if now - self._begin < LOOK_SECONDS or done <= before:
            return
        left = (now - since) / (done - before) * (of - done)
        if now - self._begin + left > _State.limit_s:
            raise InputError(
                f"{done:,} of {of:,} took {duration(now - self._begin)}, the others will take about "
                f"{duration(left)} more; the limit is {duration(_State.limit_s)}: raise it with --limit, as in "
                "--limit 2d, or ask for less"
            )
        if left > TELL_SECONDS and not self._told:
            self._told = True
            self._tell(f"about {duration(left)} left")
