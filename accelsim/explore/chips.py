"""Thousands of chips that differ from one in some keys, each as `load_hardware` would make it."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from accelsim.chips.hardware import UNHASHED
from accelsim.config import ContentHash
from accelsim.errors import InputError
from accelsim.explore.ranges import shown
from accelsim.hardware import Hardware, load_hardware

MOST_TABLES = 4096
"""Engines of a chip that are kept, and memories, and so on: neighbours in a sweep share them."""


class Chips:
    """A chip and what is made of it by changing keys. What several share is made, checked and hashed once.

    That is a whole table such as `memory`, and of an engine that is new each value of each key, at which pydantic looks
    by itself. What a class says of several keys together (`__post_init__`) is asked for every one.
    Raises InputError as `load_hardware` does.
    """

    def __init__(self, base: str | Path | Hardware, fixed: Mapping[str, Any], remove: Sequence[str] = ()) -> None:
        self.base = load_hardware(base, fixed, remove=remove)
        self._chip_fields, self._engine_fields = _fields(self.base), _fields(self.base.engine)
        self._of_chip, self._of_engine = ContentHash(self.base, UNHASHED), ContentHash(self.base.engine)
        self._begin()

    def _begin(self) -> None:
        self._tables: dict[str, dict[str, tuple[Any, str]]] = {}
        self._values: dict[tuple[str, str], tuple[Any, str]] = {}
        self._places: dict[tuple[str, ...], dict[str, list[tuple[str, str]]]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process needs, which makes the rest again."""
        return {name: value for name, value in self.__dict__.items() if name not in _MADE_AGAIN}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Begin with what is given."""
        self.__dict__.update(state)
        self._begin()

    @cached_property
    def keys(self) -> dict[str, Any]:
        """Every key of the chip that is a number, text, a switch or a list of those, dotted; lists as tables say."""
        return _keys(dataclasses.asdict(self.base))

    def chip(self, changes: Mapping[str, Any]) -> Hardware:
        """Return the chip with dotted keys changed; raises InputError with every problem of them."""
        made: dict[str, Any] = {}
        texts: dict[str, str] = {}
        try:
            for table, places in self._by_table(tuple(changes)).items():
                made[table], texts[table] = self._table(table, {field: changes[key] for key, field in places})
            chip: Hardware = _made(self.base, self._chip_fields | made)
        except (InputError, ValueError, TypeError):  # pydantic's, too
            return load_hardware(self.base, changes)  # which says what is wrong
        chip.__dict__["content_hash"] = self._of_chip.digest(texts)
        return chip

    def _by_table(self, keys: tuple[str, ...]) -> dict[str, list[tuple[str, str]]]:
        """Return by table the keys that lie in it, dotted and by their own name there."""
        if keys not in self._places:
            found = self._places[keys] = {}
            for key in keys:
                table, _, field = key.partition(".")
                found.setdefault(table, []).append((key, field))
        return self._places[keys]

    def _table(self, table: str, fields: dict[str, Any]) -> tuple[Any, str]:
        """Return one table of the chip with keys changed, and what the hash of a chip is made of in its place."""
        known, wanted = self._tables.setdefault(table, {}), repr(fields)
        if wanted not in known:
            if len(known) == MOST_TABLES:
                del known[next(iter(known))]
            flat = table == "engine" and not any("." in field for field in fields)
            known[wanted] = self._engine(fields) if flat else self._read(table, fields)
        return known[wanted]

    def _engine(self, changes: dict[str, Any]) -> tuple[Any, str]:
        """Return the engine with keys changed, as `_table`."""
        made, texts = dict(self._engine_fields), dict[str, str]()
        for key, value in changes.items():
            made[key], texts[key] = self._value(key, value, changes)
        return _made(self.base.engine, made), self._of_chip.text("engine", self._of_engine.digest(texts))

    def _value(self, key: str, value: Any, changes: dict[str, Any]) -> tuple[Any, str]:
        """Return a value of the engine as it is checked, and what a hash is made of in its place."""
        wanted = key, repr(value)
        if wanted not in self._values:
            # With all the others, since one might be wrong without them.
            checked = getattr(type(self.base.engine)(**(self._engine_fields | changes)), key)
            self._values[wanted] = checked, self._of_engine.text(key, checked)
        return self._values[wanted]

    def _read(self, table: str, fields: dict[str, Any]) -> tuple[Any, str]:
        """Return any other table, changed, as `_table`; it may name files."""
        keys = {f"{table}.{field}" if field else table: value for field, value in fields.items()}
        made = getattr(load_hardware(self.base, keys), table)
        return made, self._of_chip.text(table, made)


_MADE_AGAIN = ("_tables", "_values", "_places")


def _made(like: Any, fields: dict[str, Any]) -> Any:
    """Return a dataclass as `like` with fields that were checked one by one; raises what it says of them together."""
    made = copy.copy(like)
    made.__dict__.clear()  # what it has worked out of its own fields, too
    made.__dict__.update(fields)
    if check := getattr(made, "__post_init__", None):
        check()
    return made


def _fields(of: Any) -> dict[str, Any]:
    return {field.name: getattr(of, field.name) for field in dataclasses.fields(of)}


def _keys(tables: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tables.items():
        if isinstance(value, Mapping):
            found |= _keys(value, f"{before}{key}.")
        elif isinstance(value, str | int | float | bool):
            found[before + key] = value
        elif isinstance(value, list) and not any(isinstance(each, Mapping) for each in value):
            found[before + key] = shown(tuple(tuple(each) if isinstance(each, list) else each for each in value))
    return found
