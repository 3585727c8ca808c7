"""What comes along, with other values, keys, tables and lines."""

from __future__ import annotations

import functools
import tomllib
from random import Random
from typing import Any

from accelsim.config import shipped_dir
from hostile import mutations

NET = "lenet-300-100-digits"


@functools.cache
def text(folder: str, name: str) -> str:
    """Return a shipped file."""
    return (shipped_dir(folder) / f"{name}.toml").read_text(encoding="utf-8")


@functools.cache
def _data(folder: str, name: str) -> dict[str, Any]:
    return tomllib.loads(text(folder, name))


def _number(draw: Random) -> Any:
    """Return a value that is mostly a number, since most keys hold one."""
    return draw.choice((*mutations.INTEGERS, *mutations.REALS)) if draw.random() < 0.6 else mutations.value(draw)


def changed(draw: Random, folder: str, name: str, **given: Any) -> str:
    """Return a shipped file with changes, most often of its numbers alone; given: keys that it gets before."""
    pick = draw.random()
    if pick < 0.12:
        return mutations.line(draw, text(folder, name), "=.")
    data = _data(folder, name) | given
    if pick < 0.6:
        return mutations.toml_text(mutations.numbers(draw, data))
    return mutations.toml_text(mutations.tree(draw, data, _number))
