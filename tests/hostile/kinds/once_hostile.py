"""Files and command lines that once ended in a traceback, a hang or a flood."""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path
from random import Random

from hostile.reading import arguments

CORPUS = Path(__file__).resolve().parents[2] / "cases" / "hostile"
LINES = CORPUS / "command-lines.jsonl"
NET = "lenet-300-100-digits"


@functools.cache
def files() -> list[Path]:
    """Return the files, whose names begin with what reads them."""
    return sorted(set(CORPUS.iterdir()) - {LINES})


@functools.cache
def lines() -> list[list[str]]:
    """Return the command lines."""
    return [json.loads(line) for line in LINES.read_text(encoding="utf-8").splitlines()]


def commands(name: str) -> list[list[str]]:
    """Return the commands that read a file of this name, the first of them the one that did harm."""
    run = ["run", NET, "--against", "none"]
    return {
        "chip": [[*run, "--hardware", name], ["check", name], ["energy", name]],
        "part": [["dram", "seq_read", "--part", name, "--requests", "100"], ["check", name]],
        "tech": [[*run, "--set", f"technology={name}"]],
        "net": [["run", name, "--against", "none"], ["check", name]],
        "space": [["sweep", name, "--dry-run", "--store", "r.db"]],
        "csv": [["plot", name, "storage"], ["plot", name, "energy"], ["report", name, "-o", "page.html"]],
        "trace": [["plot", name, "queue"], ["plot", name, "bandwidth"]],
    }.get(name.partition("-")[0], [["check", name]])


def make(draw: Random, folder: Path) -> list[str]:
    """Copy one of the files, or take one of the lines."""
    if draw.random() < 0.1:
        return draw.choice(lines())
    path = draw.choice(files())
    shutil.copy(path, folder / path.name)
    known = commands(path.name)
    return (
        arguments(draw, path.name) if known == [["check", path.name]] and path.suffix != ".toml" else draw.choice(known)
    )
