"""Where results are kept: one SQLite file, a row per point and layer, that any number of processes may write to."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from accelsim.errors import InputError, did_you_mean
from accelsim.results import COLUMNS, typed

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 3
"""Of the tables; the file says it as its user_version."""

APPLICATION = 0x61636373
"""How SQLite files of this package call themselves: `accs`."""

AT_ONCE = 10_000
"""Rows that are read before they become arrays: Python's numbers need several times their memory."""

WAIT_SECONDS = 60
"""For another process that writes."""

NAMES = tuple(column.name for column in COLUMNS)
_TYPES = {"int64": "INTEGER", "float64": "REAL", "str": "TEXT"}
_TABLES = f"""
CREATE TABLE points (id INTEGER PRIMARY KEY, key TEXT UNIQUE, engine TEXT, knobs TEXT, score REAL,
    precision TEXT, error TEXT);
CREATE TABLE spaces (id INTEGER PRIMARY KEY, name TEXT UNIQUE, objectives TEXT, constraints TEXT);
CREATE TABLE results (point INTEGER, number INTEGER, {", ".join(f'"{c.name}" {_TYPES[c.dtype]}' for c in COLUMNS)},
    PRIMARY KEY (point, number)) WITHOUT ROWID;
"""
"""Rows lie by the number of their point and not by its key: in the order of keys, which are hashes, each would go to
a page of its own."""

_ADD_POINT = "INSERT OR REPLACE INTO points VALUES (?, ?, ?, ?, ?, ?, ?)"
_ADD_ROW = f"INSERT INTO results VALUES ({', '.join('?' * (len(NAMES) + 2))})"  # noqa: S608 - marks alone


class Done(NamedTuple):
    """A point that ran: its key, its knobs, and the values of its rows; or why it failed."""

    key: str
    knobs: dict[str, Any]
    rows: Sequence[tuple[Any, ...]] = ()
    """(layers, COLUMNS)."""
    score: float | None = None
    precision: str = ""
    """Number formats in which the network was scored; empty: it was not."""
    error: str | None = None


class Wanted(NamedTuple):
    """What a space wants of its points; it stays in the store beside them."""

    space: str
    """Its name."""
    objectives: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()


class Store:
    """Results by the hash of what they were made from; a context manager.

    The write-ahead log of SQLite makes every `add` whole or nothing, whatever is killed, and lets other processes read
    and write at the same time. It needs a file system of this machine, not one over the network.
    Raises InputError for a file that is no store, is damaged, or has another format; it is never overwritten.
    """

    def __init__(self, path: str | Path, *, create: bool = True) -> None:
        self.path = Path(path)
        if self.path.is_dir():
            raise InputError(f"{self.path}: is a directory; name a file in it")
        if not self.path.parent.is_dir():
            raise InputError(f"{self.path}: the directory {self.path.parent} does not exist; create it first")
        if not create and not self.path.is_file():
            raise InputError(f"{self.path}: no such store; accelsim sweep SPACE -o {self.path} makes one")
        with self._telling():
            begin = time.monotonic()
            while not self._opened():
                if time.monotonic() - begin > WAIT_SECONDS:
                    raise sqlite3.OperationalError("locked")
                time.sleep(0.02)

    def __enter__(self) -> Store:
        """Return the store."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._base.close()

    def known(self, *, failed: bool = True) -> set[str]:
        """Return the keys of points that are there; `failed`: also those that failed."""
        with self._telling():
            found = self._base.execute("SELECT key FROM points WHERE error IS NULL OR ?", (failed,))
            return {key for (key,) in found}

    def add(self, done: Iterable[Done], engine: str) -> None:
        """Add points in one step, whole or not at all; one that is there stays, unless it failed."""
        with self._telling(), self._writing():
            for each in done:
                old = self._base.execute("SELECT id, error FROM points WHERE key = ?", (each.key,)).fetchone()
                if old is not None and old[1] is None:
                    continue
                knobs = json.dumps(each.knobs)
                point = (old and old[0], each.key, engine, knobs, each.score, each.precision, each.error)
                made = self._base.execute(_ADD_POINT, point).lastrowid
                self._base.executemany(_ADD_ROW, [(made, number, *row) for number, row in enumerate(each.rows)])

    def keep(self, wanted: Wanted) -> None:
        """Remember what a space wants; it takes the place of what a space of this name wanted before."""
        with self._telling(), self._writing():
            row = wanted.space, json.dumps(wanted.objectives), json.dumps(wanted.constraints)
            self._base.execute("INSERT OR REPLACE INTO spaces (name, objectives, constraints) VALUES (?, ?, ?)", row)

    def wanted(self, space: str | None = None) -> Wanted:
        """Return what the space of a name wants, or the one that was swept or searched last.

        Raises InputError for a name that is not there, and where there is none.
        """
        with self._telling():
            rows = self._base.execute("SELECT name, objectives, constraints FROM spaces ORDER BY id DESC").fetchall()
        known = {name: Wanted(name, *map(tuple, map(json.loads, texts))) for name, *texts in rows}
        if not known:
            raise InputError(f"{self.path}: has no points")
        if space is not None and space not in known:
            raise InputError(f"{self.path}: has no points of a space '{space}'{did_you_mean(space, known)}")
        return known[space] if space is not None else next(iter(known.values()))

    def read(self, keys: Sequence[str], columns: Sequence[str] = NAMES) -> pd.DataFrame:
        """Return the rows of points in the order of their keys: number (`point`), score, precision, error, results.

        A point that failed has one row, its columns empty. `columns`: which of the results.
        """
        import pandas as pd

        chosen = [column for column in COLUMNS if column.name in columns]
        with self._telling():
            self._base.execute("CREATE TEMP TABLE IF NOT EXISTS wanted (point INTEGER PRIMARY KEY, key TEXT)")
            self._base.execute("DELETE FROM wanted")
            self._base.executemany("INSERT INTO wanted VALUES (?, ?)", enumerate(keys))
            selected = ", ".join(f'r."{column.name}"' for column in chosen)
            rows = self._base.execute(
                f"SELECT w.point, p.score, p.precision, coalesce(p.error, ''), {selected} FROM wanted w "  # noqa: S608
                "JOIN points p USING (key) LEFT JOIN results r ON r.point = p.id ORDER BY w.point, r.number"
            )
            dtypes = ["int64", "float64", "str", "str", *(column.dtype for column in chosen)]
            parts: list[list[Any]] = [[typed([], dtype)] for dtype in dtypes]
            while some := rows.fetchmany(AT_ONCE):
                for part, dtype, values in zip(parts, dtypes, zip(*some, strict=True), strict=True):
                    part.append(typed(_shared(values) if dtype == "str" else values, dtype))
        names = ["point", "score", "precision", "error", *(column.name for column in chosen)]
        return pd.DataFrame({name: _joined(part) for name, part in zip(names, parts, strict=True)})

    def points(self, engine: str) -> list[tuple[str, dict[str, Any]]]:
        """Return key and knobs of all points that this version of the engines made, in the order of their knobs.

        Raises InputError where there are none.
        """
        with self._telling():
            found = self._base.execute("SELECT key, knobs FROM points WHERE engine = ?", (engine,)).fetchall()
            others = self._base.execute("SELECT count(*) FROM points WHERE engine != ?", (engine,)).fetchone()[0]
        if not found:
            why = f"its {others} points are of another version of accelsim; sweep again" if others else "has no points"
            raise InputError(f"{self.path}: {why}")
        try:
            loaded = [(key, json.loads(knobs)) for key, knobs in found]
        except ValueError as error:
            raise InputError(f"{self.path}: is damaged ({error}); restore a copy, or sweep into a new file") from None
        return sorted(loaded, key=lambda each: [(name, str(type(v)), v) for name, v in each[1].items()])

    def _opened(self) -> bool:
        """Open the file; returns False where it is worth trying again.

        SQLite does not wait where waiting might never end: while others turn the log on, recover it or clean it up.
        """
        self._base = sqlite3.connect(self.path, timeout=WAIT_SECONDS, isolation_level=None)
        try:
            self._open()
        except BaseException as error:
            self._base.close()
            if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
                return False
            raise
        return True

    def _open(self) -> None:
        """Make the tables of a new file; raises where an old one is no store or damaged."""
        self._base.execute("BEGIN")  # or another process might make its tables between one look and the next
        found = self._base.execute("PRAGMA application_id").fetchone()[0]
        version = self._base.execute("PRAGMA user_version").fetchone()[0]
        tables = self._base.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        self._base.execute("COMMIT")
        if not tables and not found:
            self._create()
        elif found != APPLICATION:
            raise InputError(f"{self.path}: is an SQLite file of something else; name another file")
        elif version != FORMAT or self._columns() != ["point", "number", *NAMES]:
            raise InputError(
                f"{self.path}: was made by a version of accelsim with other columns; name a new file, or read this one "
                "with that version"
            )
        damage = self._base.execute("PRAGMA quick_check(1)").fetchone()[0]
        if damage != "ok":
            raise sqlite3.DatabaseError(damage)
        self._base.execute("PRAGMA journal_mode = WAL")
        self._base.execute("PRAGMA synchronous = NORMAL")

    def _create(self) -> None:
        with self._writing():
            if not self._base.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                for statement in filter(str.strip, _TABLES.split(";")):
                    self._base.execute(statement)
                self._base.execute(f"PRAGMA application_id = {APPLICATION}")
                self._base.execute(f"PRAGMA user_version = {FORMAT}")

    def _columns(self) -> list[str]:
        return [row[1] for row in self._base.execute("PRAGMA table_info(results)")]

    @contextmanager
    def _writing(self) -> Iterator[None]:
        self._base.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._base.in_transaction:  # a full disk has ended it already
                self._base.execute("ROLLBACK")
            raise
        self._base.execute("COMMIT")

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Say what SQLite says in words that name the file and the remedy."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            text = str(error)
            if "full" in text:
                remedy = "the disk is full; what was stored is safe: make room and run the same command again"
            elif "locked" in text:
                remedy = f"another process has been writing for {WAIT_SECONDS} seconds; run again when it is done"
            elif "readonly" in text or "unable to open" in text:
                remedy = "cannot be written; choose another place or change its permissions"
            elif isinstance(error, sqlite3.OperationalError):
                remedy = f"cannot be used ({text}); choose another place"
            else:
                remedy = f"is damaged or no store ({text}); it was left as it is: name another file, or restore a copy"
            raise InputError(f"{self.path}: {remedy}") from None


def _shared(values: Sequence[Any]) -> list[Any]:
    """Return texts of which equal ones are one object."""
    return list(map({value: value for value in values}.get, values))


def _joined(parts: list[Any]) -> Any:
    """Return the parts of a column as one array; integers are pandas' where one part has an empty one."""
    import pandas as pd

    if any(isinstance(part, pd.api.extensions.ExtensionArray) for part in parts):
        return pd.concat([pd.Series(part, dtype="Int64") for part in parts], ignore_index=True).array
    return np.concatenate(parts)
