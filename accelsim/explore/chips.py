"""Thousands of chips that differ from one in some keys, each as `load_hardware` would make it."""

from __future__ import annotations

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

MOST_ENGINES = 4096
"""That are kept of a chip: neighbours in a sweep differ in other tables, too."""


class Chips:
    """A chip and what is made of it by changing keys. What several share is made, checked and hashed once.

    That is a whole table such as `memory`, the latest engines, and of other engines each value of each key, at which
    pydantic looks by itself. What a class says of several keys together (`__post_init__`) is asked for every chip.
    Raises InputError as `load_hardware` does.
    """

    def __init__(self, base: str | Path | Hardware, fixed: Mapping[str, Any], remove: Sequence[str] = ()) -> None:
        self.base = load_hardware(base, fixed, remove=remove)
        self._chip_fields, self._engine_fields = _fields(self.base), _fields(self.base.engine)
        self._of_chip, self._of_engine = ContentHash(self.base, UNHASHED), ContentHash(self.base.engine)
        self._begin()

    def _begin(self) -> None:
        self._tables: dict[tuple[str, str], tuple[Any, str]] = {}
        self._engines: dict[str, tuple[Any, str]] = {}
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
        try:
            made, texts = dict[str, Any](), dict[str, str]()
            for table, places in self._by_table(tuple(changes)).items():
                fields = {field: changes[key] for key, field in places}
                make = self._table if table != "engine" or any("." in field for field in fields) else self._engine
                made[table], texts[table] = make(table, fields)
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

    def _engine(self, _: str, changes: dict[str, Any]) -> tuple[Any, str]:
        """Return the engine with keys changed, and what the hash of a chip is made of in its place."""
        wanted = repr(changes)
        if wanted not in self._engines:
            made, texts = dict(self._engine_fields), dict[str, str]()
            for key, value in changes.items():
                made[key], texts[key] = self._value(key, value, changes)
            if len(self._engines) == MOST_ENGINES:
                del self._engines[next(iter(self._engines))]
            text = self._of_chip.text("engine", self._of_engine.digest(texts))
            self._engines[wanted] = _made(self.base.engine, made), text
        return self._engines[wanted]

    def _value(self, key: str, value: Any, changes: dict[str, Any]) -> tuple[Any, str]:
        """Return a value of the engine as it is checked, and what a hash is made of in its place."""
        wanted = key, repr(value)
        if wanted not in self._values:
            # With all the others, since one might be wrong without them.
            checked = getattr(type(self.base.engine)(**(self._engine_fields | changes)), key)
            self._values[wanted] = checked, self._of_engine.text(key, checked)
        return self._values[wanted]

    def _table(self, table: str, fields: dict[str, Any]) -> tuple[Any, str]:
        """Return one table of the chip, changed, as `_engine` does; what names files is read once each."""
        wanted = table, repr(fields)
        if wanted not in self._tables:
            keys = {f"{table}.{field}" if field else table: value for field, value in fields.items()}
            made = getattr(load_hardware(self.base, keys), table)
            self._tables[wanted] = made, self._of_chip.text(table, made)
        return self._tables[wanted]


_MADE_AGAIN = ("_tables", "_engines", "_values", "_places")


def _made(like: Any, fields: dict[str, Any]) -> Any:
    """Return a dataclass as `like` with fields that were checked one by one; raises what it says of them together."""
    made = object.__new__(type(like))  # without what `like` has worked out of its own fields
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
