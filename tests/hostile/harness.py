"""Runs cases in a worker process and says which of them ended otherwise than in success or a refusal."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).resolve().parents[1]

KILL_CPU_SECONDS = 60.0
"""Of a case, after which it hangs."""
KILL_IDLE_SECONDS = 20.0
"""Without any work, after which a case waits for what never comes."""


class Result(NamedTuple):
    """What came of a case."""

    kind: str
    number: int
    code: int | None
    """Its exit code; None where its process died or was ended."""
    faults: list[str]
    cpu_seconds: float = 0.0
    added_bytes: int = 0
    arguments: Sequence[str] = ()
    said: str = ""

    def __str__(self) -> str:
        """The case, what to type to run it again, and what is wrong."""
        return f"{self.kind}:{self.number} {' '.join(map(repr, self.arguments))}: {'; '.join(self.faults)}"


class Worker:
    """A process that runs cases, started again where it died."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, kind: str, number: int) -> Result:
        """Run one case, of a process that has run others before."""
        return self._run(kind, number, [kind, number])

    def run_files(self, arguments: Sequence[str], *files: Path) -> Result:
        """Run a command beside copies of files."""
        return self._run(
            files[0].name if files else " ".join(arguments)[:60], 0, ["", 0, list(arguments), list(map(str, files))]
        )

    def _run(self, kind: str, number: int, asked: Sequence[object]) -> Result:
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(asked).encode() + b"\n")
        process.stdin.flush()
        fault = self._wait(process)
        line = b"" if fault else process.stdout.readline()
        if not line:
            if fault:
                process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()
            self._process = None
            code = process.returncode
            died = f"died of {signal.Signals(-code).name}" if code < 0 else f"its process ended with {code}"
            return Result(kind, number, None, [fault or died])
        found = json.loads(line)
        if "broken" in found:
            raise RuntimeError(f"{kind}:{number} cannot be made\n{found['broken']}")
        return Result(
            kind, number, found["code"], found["faults"], found["seconds"], found["bytes"], found["arguments"],
            found["said"],
        )  # fmt: skip

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.close()
            self._process.wait()
            self._process.stdout.close()
            self._process = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            paths = [str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")]
            environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "COLUMNS": "160"}
            self._process = subprocess.Popen(
                [sys.executable, "-m", "hostile.worker"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, cwd=TESTS,
            )  # fmt: skip
        return self._process

    def _wait(self, process: subprocess.Popen[bytes]) -> str:
        """Wait for an answer; return what kept it from coming."""
        began = used = _cpu_seconds(process.pid)
        worked = time.monotonic()
        while not select.select([process.stdout], [], [], 1.0)[0]:
            now = _cpu_seconds(process.pid)
            if now > used:
                used, worked = now, time.monotonic()
            if used - began > KILL_CPU_SECONDS:
                return f"hangs: {used - began:.0f} s of CPU"
            if time.monotonic() - worked > KILL_IDLE_SECONDS:
                return f"hangs: waits for {KILL_IDLE_SECONDS:.0f} s"
        return ""


def _cpu_seconds(process: int) -> float:
    """Return the time that a process has worked, its children included where they have ended."""
    try:
        text = Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    return sum(map(int, text.rpartition(")")[2].split()[11:15])) / os.sysconf("SC_CLK_TCK")


def run(cases: Iterable[tuple[str, int]]) -> Iterator[Result]:
    """Run cases in one process."""
    with Worker() as worker:
        for kind, number in cases:
            yield worker.run(kind, number)
