"""Thousands of chips that differ from one in some keys, each as `load_hardware` would make it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from accelsim.errors import InputError
from accelsim.hardware import Hardware, load_hardware

Changes = tuple[tuple[str, Any], ...]


class Chips:
    """A chip and what is made of it by changing keys. What several share, such as a DRAM part, is made once.

    Raises InputError as `load_hardware` does.
    """

    def __init__(self, base: str | Path | Hardware, fixed: Mapping[str, Any]) -> None:
        self.base = load_hardware(base, fixed)
        self._tables: dict[tuple[str, Changes], Any] = {}
        self._values: dict[tuple[str, type, Any], Any] = {}
        self._chip_fields, self._engine_fields = _fields(self.base), _fields(self.base.engine)

    @cached_property
    def keys(self) -> dict[str, Any]:
        """Every key of the chip that is a number, a text or a switch, dotted."""
        return _keys(dataclasses.asdict(self.base))

    def chip(self, changes: Mapping[str, Any]) -> Hardware:
        """Return the chip with dotted keys changed; raises InputError with every problem of them."""
        by_table: dict[str, dict[str, Any]] = {}
        for key, value in changes.items():
            by_table.setdefault(key.partition(".")[0], {})[key] = value
        try:
            tables = {table: self._table(table, keys) for table, keys in by_table.items()}
            chip: Hardware = _made(Hardware, self._chip_fields | tables)
            return chip
        except (InputError, ValidationError, TypeError):
            return load_hardware(self.base, changes)  # which says what is wrong

    def _table(self, table: str, keys: dict[str, Any]) -> Any:
        """Return one table of the chip, changed: fields of the engine in place, what names files once each."""
        if table == "engine" and all(key.count(".") == 1 for key in keys):
            return self._engine({key.partition(".")[2]: value for key, value in keys.items()})
        wanted = table, tuple(keys.items())
        if wanted not in self._tables:
            self._tables[wanted] = getattr(load_hardware(self.base, keys), table)
        return self._tables[wanted]

    def _engine(self, fields: dict[str, Any]) -> Any:
        """Return the engine with fields changed; raises ValidationError.

        A field is checked by itself, so each value of it once; which of them go together, every time.
        """
        try:
            for name, value in fields.items():
                key = name, type(value), value
                if key not in self._values:
                    self._values[key] = getattr(dataclasses.replace(self.base.engine, **{name: value}), name)
            checked = {name: self._values[name, type(value), value] for name, value in fields.items()}
            return _made(type(self.base.engine), self._engine_fields | checked)
        except (ValueError, TypeError):  # perhaps only because others of them have to change, too
            return dataclasses.replace(self.base.engine, **fields)


def _fields(of: Any) -> dict[str, Any]:
    return {field.name: getattr(of, field.name) for field in dataclasses.fields(of)}


def _made(kind: type, checked: dict[str, Any]) -> Any:
    """Return a dataclass of values that were checked one by one, and check how they go together."""
    made: Any = object.__new__(kind)
    vars(made).update(checked)
    made.__post_init__()
    return made


def _keys(tables: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tables.items():
        if isinstance(value, Mapping):
            found |= _keys(value, f"{before}{key}.")
        elif isinstance(value, str | int | float | bool):
            found[before + key] = value
    return found
