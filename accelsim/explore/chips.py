"""Thousands of chips that differ from one in some keys, each as `load_hardware` would make it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from accelsim.errors import InputError
from accelsim.explore.ranges import shown
from accelsim.hardware import Hardware, load_hardware

Changes = tuple[tuple[str, Any], ...]


class Chips:
    """A chip and what is made of it by changing keys. What several share, such as a DRAM part, is made once.

    Raises InputError as `load_hardware` does.
    """

    def __init__(self, base: str | Path | Hardware, fixed: Mapping[str, Any], remove: Sequence[str] = ()) -> None:
        self.base = load_hardware(base, fixed, remove=remove)
        self._tables: dict[tuple[str, Changes], Any] = {}
        self._chip_fields, self._engine_fields = _fields(self.base), _fields(self.base.engine)

    @cached_property
    def keys(self) -> dict[str, Any]:
        """Every key of the chip that is a number, text, a switch or a list of those, dotted; lists as tables say."""
        return _keys(dataclasses.asdict(self.base))

    def chip(self, changes: Mapping[str, Any]) -> Hardware:
        """Return the chip with dotted keys changed; raises InputError with every problem of them."""
        by_table: dict[str, dict[str, Any]] = {}
        for key, value in changes.items():
            table, _, field = key.partition(".")
            by_table.setdefault(table, {})[field] = value
        try:
            tables = {table: self._table(table, fields) for table, fields in by_table.items()}
            return type(self.base)(**(self._chip_fields | tables))
        except (InputError, ValidationError, TypeError):
            return load_hardware(self.base, changes)  # which says what is wrong

    def _table(self, table: str, fields: dict[str, Any]) -> Any:
        """Return one table of the chip, changed: fields of the engine in place, what names files once each."""
        if table == "engine" and not any("." in field for field in fields):
            return type(self.base.engine)(**(self._engine_fields | fields))
        wanted = table, tuple(fields.items())
        if wanted not in self._tables:
            keys = {f"{table}.{field}" if field else table: value for field, value in fields.items()}
            self._tables[wanted] = getattr(load_hardware(self.base, keys), table)
        return self._tables[wanted]


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
