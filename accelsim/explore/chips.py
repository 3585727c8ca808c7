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


MOST_ENGINES = 256


class Chips:
    """A chip and what is made of it by changing keys. What several share, such as a DRAM part, is made once.

    Raises InputError as `load_hardware` does.
    """

    def __init__(self, base: str | Path | Hardware, fixed: Mapping[str, Any]) -> None:
        self.base = load_hardware(base, fixed)
        self._tables: dict[tuple[str, Changes], Any] = {}
        self._engines: dict[Changes, Any] = {}
        """The last ones by what was changed for them: neighbours in a space often share one."""

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
            # The tables were checked when they were made; a chip adds nothing but that they go together.
            chip = object.__new__(Hardware)
            vars(chip).update(self._fields | tables)
            chip.__post_init__()
        except (InputError, ValidationError, TypeError):
            return load_hardware(self.base, changes)  # which says what is wrong
        return chip

    @cached_property
    def _fields(self) -> dict[str, Any]:
        return {field.name: getattr(self.base, field.name) for field in dataclasses.fields(self.base)}

    def _table(self, table: str, keys: dict[str, Any]) -> Any:
        """Return one table of the chip, changed: fields of the engine in place, what names files once each."""
        changes = tuple(keys.items())
        if table == "engine" and all(key.count(".") == 1 for key in keys):
            if changes not in self._engines:
                if len(self._engines) == MOST_ENGINES:
                    del self._engines[next(iter(self._engines))]
                fields = {key.partition(".")[2]: value for key, value in keys.items()}
                self._engines[changes] = dataclasses.replace(self.base.engine, **fields)
            return self._engines[changes]
        wanted = table, changes
        if wanted not in self._tables:
            self._tables[wanted] = getattr(load_hardware(self.base, keys), table)
        return self._tables[wanted]


def _keys(tables: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tables.items():
        if isinstance(value, Mapping):
            found |= _keys(value, f"{before}{key}.")
        elif isinstance(value, str | int | float | bool):
            found[before + key] = value
    return found
