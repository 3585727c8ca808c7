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


class Chips:
    """A chip and what is made of it by changing keys. What several share is made, checked and hashed once.

    That is a whole table such as `memory`, and of the engine each value of each key, at which pydantic looks by itself.
    What a class says of several keys together (`__post_init__`) is asked for every chip.
    Raises InputError as `load_hardware` does.
    """

    def __init__(self, base: str | Path | Hardware, fixed: Mapping[str, Any], remove: Sequence[str] = ()) -> None:
        self.base = load_hardware(base, fixed, remove=remove)
        self._chip_fields, self._engine_fields = _fields(self.base), _fields(self.base.engine)
        self._of_chip, self._of_engine = ContentHash(self.base, UNHASHED), ContentHash(self.base.engine)
        self._tables: dict[tuple[str, str], tuple[Any, str]] = {}
        self._values: dict[tuple[str, str], tuple[Any, str]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process needs, which makes the rest again."""
        return self.__dict__ | {"_tables": {}, "_values": {}}

    @cached_property
    def keys(self) -> dict[str, Any]:
        """Every key of the chip that is a number, text, a switch or a list of those, dotted; lists as tables say."""
        return _keys(dataclasses.asdict(self.base))

    def chip(self, changes: Mapping[str, Any]) -> Hardware:
        """Return the chip with dotted keys changed; raises InputError with every problem of them."""
        by_table = dict[str, dict[str, Any]]()
        for key, value in changes.items():
            table, _, field = key.partition(".")
            by_table.setdefault(table, {})[field] = value
        try:
            made, texts = dict[str, Any](), dict[str, str]()
            for table, fields in by_table.items():
                make = self._engine if table == "engine" and not any("." in field for field in fields) else self._table
                made[table], texts[table] = make(table, fields)
            chip: Hardware = _made(self.base, self._chip_fields | made)
        except (InputError, ValueError, TypeError):  # pydantic's, too
            return load_hardware(self.base, changes)  # which says what is wrong
        chip.__dict__["content_hash"] = self._of_chip.digest(texts)
        return chip

    def _engine(self, _: str, changes: dict[str, Any]) -> tuple[Any, str]:
        """Return the engine with keys changed, and what the hash of a chip is made of in its place."""
        known = [(key, self._values.get((key, repr(value)))) for key, value in changes.items()]
        made, texts = dict(self._engine_fields), dict[str, str]()
        for key, each in known:
            if each is None:  # all of them, since one might be wrong without the others
                whole = type(self.base.engine)(**(self._engine_fields | changes))
                for name, value in changes.items():
                    checked = getattr(whole, name)
                    self._values[name, repr(value)] = checked, self._of_engine.text(name, checked)
                return self._engine("", changes)
            made[key], texts[key] = each
        return _made(self.base.engine, made), self._of_chip.text("engine", self._of_engine.digest(texts))

    def _table(self, table: str, fields: dict[str, Any]) -> tuple[Any, str]:
        """Return one table of the chip, changed, as `_engine` does; what names files is read once each."""
        wanted = table, repr(fields)
        if wanted not in self._tables:
            keys = {f"{table}.{field}" if field else table: value for field, value in fields.items()}
            made = getattr(load_hardware(self.base, keys), table)
            self._tables[wanted] = made, self._of_chip.text(table, made)
        return self._tables[wanted]


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
