"""Does a command end when it is told to: by a signal, by its limit, and only then?"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from accelsim.cli import stopping
from accelsim.cli.app import telling
from accelsim.cli.stopping import Pace, duration, parse_limit, set_limit, watched
from accelsim.errors import InputError

LONG = """
import ctypes, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background may ignore it
from accelsim.cli import stopping
from accelsim.cli.app import telling
{0}
with stopping.signals(), telling(), stopping.watched():
    print("begun", flush=True)
    {1}
print("done", flush=True)
"""
PYTHON = "time.sleep(600)"
COMPILED = "lock = ctypes.create_string_buffer(64); [ctypes.CDLL(None).pthread_mutex_lock(lock) for _ in bytes(2)]"
"""Waits for a lock that it has itself: without the lock of Python, and no signal ends it, as a kernel."""


def begun(before: str, block: str) -> subprocess.Popen[bytes]:
    """Return a process that is inside the block."""
    ran = subprocess.Popen(
        [sys.executable, "-c", LONG.format(before, block)], 0, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )  # without a buffer, into which a line would also take what follows it
    assert ran.stdout is not None
    assert ran.stdout.readline() == b"begun\n"
    return ran


@pytest.mark.parametrize(("number", "block"), [(signal.SIGINT, COMPILED), (signal.SIGTERM, PYTHON)])
def test_a_signal_stops_a_command(number: signal.Signals, block: str) -> None:
    ran = begun("", block)
    ran.send_signal(number)
    out, err = ran.communicate()
    assert (ran.returncode, out, err) == (stopping.STOPPED, b"", b"stopped\n")


IMPORTING = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)

class Finder:
    def find_spec(self, name, *_):
        if name == "typer":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder())
import accelsim.cli
"""


def test_ctrl_c_before_anything_has_begun_ends_without_a_word() -> None:
    ran = subprocess.run([sys.executable, "-c", IMPORTING], capture_output=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (-signal.SIGINT, b"", b"")
    assert signal.getsignal(signal.SIGINT) is not signal.SIG_DFL  # in a process that goes on after the import


@pytest.mark.parametrize("block", [COMPILED, PYTHON])
def test_a_signal_stops_a_command_whose_reader_was_stopped_before(block: str) -> None:
    """As `accelsim run 2>&1 | tee log` in a terminal, whose Ctrl-C ends both."""
    ran = begun("", block)
    assert ran.stdout is not None
    assert ran.stderr is not None
    ran.stdout.close()
    ran.stderr.close()
    ran.send_signal(signal.SIGINT)
    assert ran.wait() == stopping.STOPPED


def test_the_limit_stops_a_command() -> None:
    ran = begun("stopping.set_limit('0.2s')", COMPILED)
    _, err = ran.communicate()
    assert ran.returncode == 2
    assert err.startswith(b"error: stopped at the limit of a second; raise it with --limit")


def test_what_ends_in_time_is_not_stopped() -> None:
    ran = begun("stopping.set_limit('300s')", "pass")
    out, err = ran.communicate()
    assert (ran.returncode, out, err) == (0, b"done\n", b"")


FORKED = """
import os
from accelsim.cli import stopping
from accelsim.cli.app import telling
from accelsim.explore.runners import can_fork
with stopping.signals(), telling(), stopping.watched():
    print(can_fork())
    if not os.fork():
        import time
        time.sleep(600)
print("done", flush=True)
os.kill(0, 9)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux forks")
def test_workers_are_forked_beside_the_watcher_which_does_not_wait_for_them() -> None:
    ran = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, start_new_session=True, check=False)
    assert ran.stdout == b"True\ndone\n", ran.stderr


def test_ctrl_c_in_a_kernel_is_no_internal_error() -> None:
    caught = SystemError("returned a result with an exception set")
    with pytest.raises(SystemExit) as stopped, telling():
        raise caught from KeyboardInterrupt()
    assert stopped.value.code == stopping.STOPPED
    with pytest.raises(SystemError), telling():
        raise SystemError("of anything else")


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("2h", 7200), ("3d", 259200)])
def test_limits(text: str, seconds: float) -> None:
    assert parse_limit(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-1", "nan", "inf", "1e9", "2w", "²", "9" * 5000])
def test_no_limits(text: str) -> None:
    with pytest.raises(InputError, match="--limit"):
        parse_limit(text)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """A clock that only moves when it is set, and a limit of a minute."""
    now = [0.0]
    monkeypatch.setattr(stopping, "monotonic", lambda: now[0])
    set_limit("1m")
    yield now
    set_limit(None)


def test_what_will_take_longer_than_the_limit_is_refused(clock: list[float]) -> None:
    pace = Pace(lambda text: None)
    pace.step(1, 1000)  # this one may have compiled
    clock[0] = 3.0
    with pytest.raises(InputError, match=r"11 of 1,000 took 3 seconds, the others will take about 4\.9 minutes more"):
        pace.step(11, 1000)  # 0.3 s each, 989 left


def test_how_long_it_will_take_is_told_once(clock: list[float]) -> None:
    said: list[str] = []
    pace = Pace(said.append)
    for done in range(1, 20):
        clock[0] += 1.0
        pace.step(done, 40)
    assert said == ["about 38 seconds left"]  # after the second, at a second each


def test_what_is_short_is_not_told(clock: list[float]) -> None:
    said: list[str] = []
    pace = Pace(said.append)
    for done in range(1, 7):
        clock[0] += 1.0
        pace.step(done, 6)
    assert said == []


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(1, "a second"), (59, "59 seconds"), (120, "2.0 minutes"), (7200, "2.0 hours"), (1e6, "11.6 days")],
)
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_every_command_has_the_limit(accelsim: Callable[..., Any]) -> None:
    for command in ("run", "sweep", "dram", "list"):
        assert "--limit" in accelsim(command, "--help").out
    assert "--limit soon: write a time" in accelsim("check", "lenet-5", "--limit", "soon").err


def test_elsewhere_than_in_the_main_thread_nothing_is_watched() -> None:
    seen: list[int] = []

    def run() -> None:
        with watched():
            seen.append(threading.active_count())

    before = threading.active_count()
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [before + 1]


def test_closed_streams_keep_no_file_from_being_written(tmp_path: Path) -> None:
    command = 'exec "$0" -m accelsim check lenet-5 >&- 2>&-; '
    assert subprocess.run(["sh", "-c", command, sys.executable], check=False).returncode == 0
    command = 'exec "$0" -O -m accelsim inspect lenet-300-100-digits --csv "$1" >&-'
    file = tmp_path / "inspected.csv"
    ran = subprocess.run(["sh", "-c", command, sys.executable, file], stderr=subprocess.PIPE, check=False)
    said = [line for line in ran.stderr.splitlines() if not line.startswith(b"compiling")]  # where nothing was yet
    assert (ran.returncode, said) == (0, [])
    assert file.read_text(encoding="utf-8").startswith("layer,")
