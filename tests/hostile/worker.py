"""The process that runs cases, one after the other: `python -m hostile.worker`.

It reads a case a line, `[kind, number]` or `["", 0, arguments, files]`, runs the command line in itself, in a folder of
its own, and writes a line of what came of it. Who started it watches over its time, and starts another where it died.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import stat
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

import accelsim
from accelsim.cli import app, stopping, telling
from accelsim.errors import legible
from hostile import kinds

MOST_CHARACTERS = 2000
"""Of all that a refusal says."""
MOST_BYTES = 2 * 2**30
"""Of memory that a case adds to what the process has."""
LIMIT = "20s"
"""Of a command's time, as its own --limit says it: what takes longer is to be refused, and says how long before."""
LIMIT_BYTES = 6 * 2**30
"""Of memory that the process gets at all, for the sake of the machine."""
ANNOUNCED = re.compile(r"may take ([\d.]+) GiB of memory")
CANARY = "canary"
"""A folder that code makes which a file brought along, and that nothing else would make."""
SHOWN = 100
"""Characters of a name that a message shows at least."""
UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
PACKAGE = str(Path(accelsim.__file__).parent)


def main() -> None:
    """Answer cases until there are no more."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    in_memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - a folder of its own in it
    place = Path(tempfile.mkdtemp(prefix="hostile-", dir=in_memory))
    said = [place / "out", place / "err"]
    for path, number in zip(said, (1, 2), strict=True):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, number)
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT_BYTES, LIMIT_BYTES))
    command = typer.main.get_command(app)
    stopping.DEFAULT_LIMIT = LIMIT  # type: ignore[misc]
    folder = place / "case"
    try:
        for line in sys.stdin:
            kind, number, *given = json.loads(line)
            folder.mkdir()
            os.chdir(folder)
            try:
                arguments = _copied(folder, *given) if given else kinds.make(kind, number, folder)
                answer = _answer(command, arguments, folder, said)
            except Exception:
                answer = {"broken": traceback.format_exc()}
            os.chdir(place)
            _remove(folder)
            print(json.dumps(answer), file=answers, flush=True)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _remove(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o700)
    shutil.rmtree(folder)


def _copied(folder: Path, arguments: list[str], files: list[str]) -> list[str]:
    for file in files:
        shutil.copy(file, folder)
    return arguments


def _answer(command: Any, arguments: list[str], folder: Path, said: list[Path]) -> dict[str, Any]:
    """Run a case and say what came of it: `faults` are what none should have."""
    brought = _shape(folder)
    for path in said:
        os.truncate(path, 0)
    faults: list[str] = []
    before = _memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    started = time.process_time()
    code = 0
    try:
        sys.argv = ["accelsim", *arguments]  # which messages look at
        with _fresh_streams(), stopping.signals(), telling():
            command(list(arguments), prog_name="accelsim", standalone_mode=True)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException as error:
        code = 1
        faults.append(_place_of(error))
    seconds = time.process_time() - started
    added = _memory("VmHWM") - before
    out, err = (path.read_bytes().decode("utf-8", "surrogateescape") for path in said)
    faults += _faults(code, out, err, arguments, brought, folder) if not faults else []
    if added > max(MOST_BYTES, 2**30 * max(map(float, ANNOUNCED.findall(err)), default=0)):
        faults.append(f"took {added / 2**30:.1f} GiB")
    return {
        "code": code,
        "faults": faults,
        "seconds": seconds,
        "bytes": added,
        "arguments": arguments,
        "said": err[-3000:],
    }


def _faults(code: int, out: str, err: str, arguments: list[str], brought: set[str], folder: Path) -> Iterator[str]:
    if code not in (0, 2):
        yield f"ended with {code}"
    if code == 2 and not err.strip():
        yield "refused without a word"
    if code == 2 and len(err) > MOST_CHARACTERS:
        yield f"a refusal of {len(err):,} characters"
    if code == 2 and not _names_what_was_given(err, arguments, brought):
        yield "a refusal that names nothing that was given"
    for text in (out, err):
        if found := UNSEEN.search(text):
            yield f"the character {found[0]!r} reached the terminal"
    if "Traceback (most recent call last)" in err:
        yield "a traceback"
    if (folder / CANARY).exists():
        yield "CODE OF A FILE RAN"
    left = [path.name for path in folder.rglob(".accelsim-*")]
    if left:
        yield f"left {left[0]}"


def _names_what_was_given(err: str, arguments: list[str], brought: set[str]) -> bool:
    stems = {name.rpartition(".")[0] for name in brought}
    words = {*brought, *stems, *(part for each in arguments[1:] for part in re.split(r"[=,:]", each))}
    words |= {*arguments[1:], *map(legible, (*words, *arguments[1:])), *map(repr, arguments[1:])}
    words |= {".: "} if "" in arguments[1:] else set()  # as a path
    text = re.sub(r"\s+", "", err)
    named = ("Usage:", "--limit", "layer ", "network ", "derived.", "constraints", "objective")
    return any(re.sub(r"\s+", "", word)[:SHOWN] in text for word in words if word) or any(each in err for each in named)


def _shape(folder: Path) -> set[str]:
    found = {path.name for path in folder.rglob("*") if not stat.S_ISDIR(path.lstat().st_mode)}
    for path in folder.glob("*.toml"):
        if path.is_file() and not path.is_symlink() and os.access(path, os.R_OK):  # what is in it goes by its name
            text = path.read_bytes()[:100_000].decode("utf-8", "replace")
            found |= {name[:SHOWN] for name in re.findall(r'^"?name"? *= *"([^"]+)"', text, re.MULTILINE)}
    return found


def _place_of(error: BaseException) -> str:
    """Return the exception and the last place in the package that it passed."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename.startswith(PACKAGE)]
    last = (own or list(frames))[-1]
    at = last.filename.removeprefix(PACKAGE + "/")
    return f"{type(error).__name__} at {at}:{last.lineno} {last.name}: {str(error)[:200]}"


@contextmanager
def _fresh_streams() -> Iterator[None]:
    """Give the case streams of its own, so that what one leaves behind is not said of the next."""
    before = sys.stdin, sys.stdout, sys.stderr
    with (
        open(os.devnull, encoding="utf-8") as nothing,
        open(1, "w", encoding="utf-8", closefd=False) as out,
        open(2, "w", encoding="utf-8", closefd=False) as err,
    ):
        sys.stdin, sys.stdout, sys.stderr = nothing, out, err
        try:
            yield
        finally:
            sys.stdin, sys.stdout, sys.stderr = before


def _memory(key: str) -> int:
    """Return a line of this process's status, in bytes."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(re.search(rf"{key}:\s+(\d+)", text)[1])  # type: ignore[index]


if __name__ == "__main__":
    main()
