"""What a chip's description says: every key with its value, unit and source."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from accelsim.config import find, read_toml
from accelsim.hardware import NAMED, Hardware
from accelsim.keys import unit_of

TITLES = ("name", "description", "source")
"""What a reader is told before the keys."""


class Key(NamedTuple):
    """One line of a description."""

    name: str
    value: str
    unit: str
    source: str


class Chip(NamedTuple):
    """A chip that a report describes; of one known by its rows only, `hardware` is None."""

    name: str
    hardware: Hardware | None
    keys: tuple[Key, ...]


def describe(hardware: Hardware, path: Path | None = None) -> Chip:
    """Return a chip with all keys; sources are the comments of its file, where the value is that of the file."""
    said = {} if path is None else _said(path)
    keys = []
    for name, value in _flat(dataclasses.asdict(hardware)):
        if name in TITLES:
            continue
        in_file, comment = said.get(name, (None, ""))
        if path is not None and name not in said:
            comment = "default"
        elif path is not None and in_file != value:
            comment = f"changed: its file says {_text(in_file)}"
        keys.append(Key(name, _text(value), unit_of(name), comment))
    return Chip(hardware.name, hardware, tuple(keys))


def _flat(data: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Go through a table's keys, dotted; what is empty is left out."""
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key}.")
        elif value not in (None, "", [], ()):
            yield before + key, value


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(each)}" for key, each in value.items())
    if isinstance(value, list | tuple):
        joint = "; " if any(isinstance(each, Mapping) for each in value) else ", "
        return joint.join(" x ".join(map(str, each)) if isinstance(each, list) else _text(each) for each in value)
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:,}" if isinstance(value, int) else str(value)


def _said(path: Path, before: str = "") -> dict[str, tuple[Any, str]]:
    """Return what a file says of each key, and the files that it names: the value and the comment on its line."""
    data = read_toml(path)
    base = data.pop("base", None)
    said = {}
    if base is not None:
        said = _said(path.parent / base if base.endswith(".toml") else find(base, "hwconfigs"))
    comments = _comments(path.read_text(encoding="utf-8-sig"))
    said |= {before + key: (value, comments.get(key, "")) for key, value in _flat(data)}
    for key, kind in NAMED.items():
        if not before and key in said and isinstance(said[key][0], str):
            name, comment = said.pop(key)
            file = path.parent / name if name.endswith(".toml") else find(name, kind)
            inner = _said(file, f"{key}.")
            of_file, _ = inner.get(f"{key}.name", (name, ""))
            said |= inner | {f"{key}.name": (of_file, comment)}
    return said


def _comments(text: str) -> dict[str, str]:
    """Return the comment on the line of each dotted key, or on the lines above it.

    The TOML reader drops comments. A # in quotes is none; lines of a multi-line value have no key.
    """
    found: dict[str, str] = {}
    table, above = "", list[str]()
    for line in text.splitlines():
        if header := re.match(r"\s*\[+([^\[\]]+)\]+", line):
            table, above = f"{header[1].strip()}.", []
        elif key := re.match(r"\s*([A-Za-z0-9_.-]+)\s*=\s*(?:\"[^\"]*\"|[^\"#])*(?:#\s*(.*))?$", line):
            found[table + key[1]] = (key[2] or " ".join(above)).strip()
            above = []
        elif line.startswith("#"):
            above.append(line.lstrip("# ").strip())
        else:
            above = []
    return found
