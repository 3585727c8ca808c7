"""Thousands of chips that differ from one in some keys, each as `load_hardware` would make it."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from accelsim.chips.hardware import UNHASHED
from accelsim.config import ContentHash
from accelsim.errors import InputError
from accelsim.explore.points import Points
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
        tables: dict[str, dict[str, Any]] = {}
        for key, value in changes.items():
            table, _, field = key.partition(".")
            tables.setdefault(table, {})[field] = value
        names = tuple(tables)
        chip = self._chip(names, [self._changed(name, tables[name]) for name in names])
        return load_hardware(self.base, changes) if chip is None else chip  # which says what is wrong

    def several(self, points: Points) -> list[Hardware | InputError]:
        """Return the chip of every point, or what is wrong with its keys."""
        names, rows = self._tables_of(points)
        found: list[Hardware | InputError] = []
        for place, row in enumerate(rows):
            chip = self._chip(names, row)
            found.append(self._said(points, place) if chip is None else chip)
        return found

    def hashes(self, points: Points) -> list[str | InputError]:
        """Return the `content_hash` of every point's chip, or what is wrong with its keys.

        No chip is made for it but where its class says which tables suit each other.
        """
        if hasattr(self.base, "__post_init__"):
            return [each if isinstance(each, InputError) else each.content_hash for each in self.several(points)]
        names, rows = self._tables_of(points)
        found: list[str | InputError] = []
        for place, row in enumerate(rows):
            if None in row:
                chip = self._said(points, place)
                found.append(chip if isinstance(chip, InputError) else chip.content_hash)
            else:
                found.append(self._of_chip.digest(dict(zip(names, (text for _, text in row), strict=True))))
        return found

    def _tables_of(self, points: Points) -> tuple[tuple[str, ...], Iterator[tuple[Any, ...]]]:
        """Return which tables points change, and of every point how it has them, as `_changed`."""
        keys: dict[str, list[str]] = {}
        for key in points.chip_keys:
            keys.setdefault(key.partition(".")[0], []).append(key)
        columns = []
        for name, mine in keys.items():
            combinations, which = points.distinct(mine)
            made = [
                self._changed(name, {key.partition(".")[2]: value for key, value in each.items()})
                for each in combinations
            ]
            columns.append(list(map(made.__getitem__, which)))
        return tuple(keys), zip(*columns, strict=True) if columns else iter([()] * len(points))

    def _chip(self, names: tuple[str, ...], tables: Sequence[Any]) -> Hardware | None:
        """Return the chip with tables changed, as `_changed`, or None where they make none."""
        if None in tables:
            return None
        try:
            changed = dict(zip(names, (made for made, _ in tables), strict=True))
            chip: Hardware = _made(self.base, self._chip_fields | changed)
        except WRONG:
            return None
        texts = dict(zip(names, (text for _, text in tables), strict=True))
        chip.__dict__["content_hash"] = self._of_chip.digest(texts)
        return chip

    def _said(self, points: Points, place: int) -> Hardware | InputError:
        """Return what is wrong with the keys of a point, or its chip if they are right after all."""
        try:
            return load_hardware(self.base, points.changes(place))
        except InputError as error:
            return error

    def _changed(self, table: str, fields: dict[str, Any]) -> tuple[Any, str] | None:
        """Return one table of the chip with keys changed, and what the hash of a chip is made of in its place.

        None: they make none by themselves.
        """
        try:
            return self._table(table, fields)
        except WRONG:
            return None

    def _table(self, table: str, fields: dict[str, Any]) -> tuple[Any, str]:
        """Return the same; raises what is wrong."""
        if not fields:
            made = self._chip_fields[table]
            return made, self._of_chip.text(table, made)
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


WRONG = (InputError, ValueError, TypeError)
"""What says that values cannot be: pydantic's are among them."""

_MADE_AGAIN = ("_tables", "_values")


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
