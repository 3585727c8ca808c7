"""Files that once ended in a traceback, a hang or a flood, each by any command that reads it."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path
from random import Random

from hostile.reading import arguments

CORPUS = Path(__file__).resolve().parents[2] / "cases" / "hostile"


@functools.cache
def _files() -> list[Path]:
    return sorted(CORPUS.iterdir())


def make(draw: Random, folder: Path) -> list[str]:
    """Copy one of the files."""
    path = draw.choice(_files())
    shutil.copy(path, folder / path.name)
    if path.suffix != ".toml":
        return arguments(draw, path.name)
    return ["check", path.name]
