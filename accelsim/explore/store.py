"""Where results are kept: one SQLite file, a row per point and its columns in blocks, that processes may share."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate, pairwise
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import InputError, did_you_mean, printable, reason_of
from accelsim.results import COLUMNS, NO_ROWS, Columns

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 4
"""Of the tables; the file says it as its user_version."""

APPLICATION = 0x61636373
"""How SQLite files of this package call themselves: `accs`."""

MOST_ROWS = 10**6
"""Of a point: layers and operations of a network."""

WAIT_SECONDS = 60
"""For another process that writes."""

ROWS_AT_ONCE = 10_000
"""Of points, that are read before they become arrays."""

NAMES = tuple(column.name for column in COLUMNS)
_TABLES = """
CREATE TABLE points (id INTEGER PRIMARY KEY, key TEXT UNIQUE, engine TEXT, knobs TEXT, score REAL,
    precision TEXT, error TEXT, block INTEGER, first INTEGER, rows INTEGER);
CREATE TABLE spaces (id INTEGER PRIMARY KEY, name TEXT UNIQUE, objectives TEXT, constraints TEXT);
CREATE TABLE columns (place INTEGER PRIMARY KEY, name TEXT, dtype TEXT, unit TEXT);
CREATE TABLE blocks (id INTEGER PRIMARY KEY, columns BLOB);
"""
"""A block holds the rows of points that ran together, column by column, as a safetensors file: those of a point are
`rows` of them from `first` on. Most columns are one value for a whole block, which its metadata tell."""

_ADD_POINT = """
INSERT INTO points (key, engine, knobs, score, precision, error, block, first, rows) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET engine = excluded.engine, knobs = excluded.knobs, score = excluded.score,
    precision = excluded.precision, error = excluded.error, block = excluded.block, first = excluded.first,
    rows = excluded.rows WHERE error IS NOT NULL
"""


_NO_FILE_BESIDE = "readonly|unable to open|disk I/O error|is full"
"""How SQLite says that it can make no file beside a store: nobody may write there, or there is no room."""

OWN = ("point", "score", "precision", "error")
"""Columns of `Store.read` that stand before those of the results."""

_json = json.JSONEncoder().encode


class Done(NamedTuple):
    """A point that ran: its key, its knobs, and how many rows it has among those of its batch; or why it failed."""

    key: str
    knobs: str
    """As JSON."""
    rows: int = 0
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
    Raises InputError for a file that is not a store, is damaged, or has another format; it is never overwritten.
    """

    def __init__(self, path: str | Path, *, create: bool = True) -> None:
        self.path = Path(path)
        if os.path.isdir(self.path):
            raise InputError(f"{self.path}: is a directory; name a file in it")
        if not os.path.isdir(self.path.parent):
            raise InputError(f"{self.path}: the directory {self.path.parent} does not exist; create it first")
        if not create and not os.path.isfile(self.path):
            raise InputError(f"{self.path}: no such store; accelsim sweep SPACE --store {self.path} makes one")
        self._for_reading, self._reads_only = not create, False
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
        with self._reading():
            found = self._base.execute("SELECT key FROM points WHERE error IS NULL OR ?", (failed,))
            return {key for (key,) in found}

    def add(self, done: Sequence[Done], engine: str, columns: Columns = NO_ROWS) -> None:
        """Add points in one step, whole or not at all; one that is there stays, unless it failed.

        columns: their rows, one point behind the other.
        """
        block = to_bytes(columns) if columns.rows else None
        with self._telling(), self._writing():
            made = None
            if block is not None:
                made = self._base.execute("INSERT INTO blocks (columns) VALUES (?)", (block,)).lastrowid
            ends = accumulate(each.rows for each in done)
            self._base.executemany(
                _ADD_POINT,
                [
                    (key, engine, knobs, score, precision, error, made if rows else None, end - rows, rows)
                    for (key, knobs, rows, score, precision, error), end in zip(done, ends, strict=True)
                ],
            )

    def keep(self, wanted: Wanted) -> None:
        """Remember what a space wants; it takes the place of what a space of this name wanted before."""
        with self._telling(), self._writing():
            row = wanted.space, _json(wanted.objectives), _json(wanted.constraints)
            self._base.execute("INSERT OR REPLACE INTO spaces (name, objectives, constraints) VALUES (?, ?, ?)", row)

    def wanted(self, space: str | None = None) -> Wanted:
        """Return what the space of a name wants, or the one that was swept or searched last.

        Raises InputError for a name that is not there, and where there is none.
        """
        with self._reading():
            rows = self._base.execute("SELECT name, objectives, constraints FROM spaces ORDER BY id DESC").fetchall()
            known = {name: Wanted(name, *map(_names, map(json.loads, texts))) for name, *texts in rows}
            if not all(isinstance(name, str) for name in known):
                raise TypeError("a space has no name")
        if not known:
            raise InputError(f"{self.path}: has no points")
        if space is not None and space not in known:
            raise InputError(f"{self.path}: has no points of a space '{space}'{did_you_mean(space, known)}")
        return known[space] if space is not None else next(iter(known.values()))

    def read(
        self, keys: Sequence[str], columns: Sequence[str] = NAMES, knobs: Mapping[str, Any] = MappingProxyType({})
    ) -> pd.DataFrame:
        """Return the rows of points in the order of their keys: number (`point`), score, precision, error, results.

        A point that failed has one row, its columns empty. `columns`: which of the results. `knobs`: columns (points,)
        that stand behind the number; one of the results that is called as a knob, such as granularity, gives way: the
        knob is what was asked for.
        """
        import pandas as pd

        with self._reading():
            words: tuple[dict[str, int], ...] = {}, {}  # precisions and errors
            parts = [(np.empty(0), np.empty((6, 0), np.int64))]
            for some in self._points_of(keys):
                scores, *texts, blocks, firsts, rows, numbers = zip(*some, strict=True)
                codes = [
                    [known.setdefault(t, len(known)) for t in each] for known, each in zip(words, texts, strict=True)
                ]
                parts.append((np.array(scores, float), np.array([*codes, blocks, firsts, rows, numbers], np.int64)))
            scored, places = (np.concatenate(each, axis=-1) for each in zip(*parts, strict=True))
            order = np.argsort(places[-1], kind="stable")
            blocks, firsts, rows, numbers = places[2:, order]
            if len(rows) and (places[2:5].min() < 0 or rows.max() > MOST_ROWS or firsts.max() > 2**40):
                raise ValueError("a point has rows where there are none")
            if len(numbers) != len(keys):
                raise ValueError("points are missing")
            if not all(isinstance(text, str) for known in words for text in known):
                raise TypeError("an error or a precision is not text")
            every = np.repeat(np.arange(len(numbers)), rows)
            place = np.arange(len(every)) - (np.cumsum(rows) - rows - firsts)[every]
            filling = {
                c.name: Filling(c.dtype, len(every)) for c in COLUMNS if c.name in columns and c.name not in knobs
            }
            block_of = blocks[every]
            by_block = np.argsort(block_of, kind="stable")
            ends = np.flatnonzero(np.diff(block_of[by_block], append=-1)) + 1
            for first, last in pairwise((0, *ends.tolist())):
                where = by_block[first:last]
                number = int(block_of[where[0]])
                held = None
                if number:
                    ((data,),) = self._base.execute("SELECT columns FROM blocks WHERE id = ?", (number,))
                    held = coded_columns(data, list(filling))
                for name, column in filling.items():
                    column.put(where, None if held is None else held.values[name], place[where])
        said = [_texts(known, each[order][every]) for known, each in zip(words, places[:2], strict=True)]
        own = dict(zip(OWN, (numbers[every], scored[order][every], *said), strict=True))
        point = own.pop("point")
        asked = {name: column.take(point) for name, column in knobs.items()}
        rest = own | {name: column.made() for name, column in filling.items()}
        return pd.DataFrame({"point": point, **asked, **{name: rest[name] for name in rest if name not in asked}})

    def _points_of(self, keys: Sequence[str]) -> Iterator[list[tuple[Any, ...]]]:
        """Go through points in pieces: score, precision, error, block, first row, rows, and the number of their key."""
        # One that failed has a row, too.
        asked = "score, precision, coalesce(error, ''), coalesce(block, 0), first, iif(rows = 0, 1, rows)"
        numbers = {key: number for number, key in enumerate(keys)}
        ((held,),) = self._base.execute("SELECT count(*) FROM points")
        if len(numbers) < max(len(keys), held / 2):  # one key twice, or few of them
            query = f"SELECT {asked}, w.key FROM json_each(?) w CROSS JOIN points p ON p.key = w.value"  # noqa: S608
            found = self._base.execute(query, (_json(keys),))
            yield from iter(lambda: found.fetchmany(ROWS_AT_ONCE), [])
            return
        # To go through all of them is faster than to look most of them up.
        found = self._base.execute(f"SELECT {asked}, p.key FROM points p")  # noqa: S608
        for some in iter(lambda: found.fetchmany(ROWS_AT_ONCE), []):
            if wanted := [(*row, number) for *row, key in some if (number := numbers.get(key)) is not None]:
                yield wanted

    def points(self, engine: str) -> list[tuple[str, dict[str, Any]]]:
        """Return key and knobs of all points that this version of the engines made, in the order of their knobs.

        Raises InputError where there are none.
        """
        with self._reading():
            found = self._base.execute("SELECT key, knobs FROM points WHERE engine = ?", (engine,)).fetchall()
            others = self._base.execute("SELECT count(*) FROM points WHERE engine != ?", (engine,)).fetchone()[0]
        if not found:
            why = (
                f"its {others} points were made by another version of accelsim; sweep again"
                if others
                else "has no points"
            )
            raise InputError(f"{self.path}: {why}")
        with self._reading():
            loaded = [(key, _knobs(json.loads(knobs))) for key, knobs in found]
        return sorted(loaded, key=lambda each: [(name, str(type(v)), v) for name, v in each[1].items()])

    def _opened(self) -> bool:
        """Open the file; returns False where it is worth trying again.

        SQLite does not wait where waiting might never end: while others turn the log on, recover it or clean it up.
        """
        # As an absolute path, which SQLite takes for no URI whatever it is called.
        path = str(self.path) if str(self.path) == ":memory:" else os.path.abspath(self.path)
        how: dict[str, Any] = {"timeout": WAIT_SECONDS, "isolation_level": None}
        if self._reads_only:  # where SQLite can make no file beside it; nobody writes there, then
            if os.path.exists(log := f"{path}-wal") and os.path.getsize(log):
                raise InputError(
                    f"{self.path}: the last points are still in {log}, and neither file can be written; copy "
                    "both to where they can be written"
                )
            path, how["uri"] = f"file:{quote(path)}?immutable=1", True
        base = None
        try:
            self._base = base = sqlite3.connect(path, **how)
            self._open()
        except BaseException as error:
            if base is not None:
                base.close()
            refused = isinstance(error, sqlite3.OperationalError) and re.search(_NO_FILE_BESIDE, str(error))
            if refused and self._for_reading and not self._reads_only:
                self._reads_only = True
                return False
            if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
                return False
            raise
        return True

    def _open(self) -> None:
        """Make the tables of a new file; raises where an old one is not a store or damaged."""
        self._base.execute("BEGIN")  # or another process might make its tables between one look and the next
        found = self._base.execute("PRAGMA application_id").fetchone()[0]
        version = self._base.execute("PRAGMA user_version").fetchone()[0]
        tables = self._base.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        self._base.execute("COMMIT")
        if not tables and not found:
            self._create()
        elif found != APPLICATION:
            raise InputError(f"{self.path}: is an SQLite file of something else; name another file")
        elif version == FORMAT and self._schema() != {" ".join(each.split()) for each in _statements()}:
            # No view, trigger or generated column is looked into, which may never end.
            raise sqlite3.DatabaseError("its tables are others")
        elif version != FORMAT or self._columns() != list(NAMES):
            raise InputError(
                f"{self.path}: was made by a version of accelsim with other columns; name a new file, or read this one "
                "with that version"
            )
        damage = self._base.execute("PRAGMA quick_check(1)").fetchone()[0]
        if damage != "ok":
            raise sqlite3.DatabaseError(damage)
        if not self._for_reading:
            self._base.execute("PRAGMA journal_mode = WAL")
            self._base.execute("PRAGMA synchronous = NORMAL")

    def _create(self) -> None:
        with self._writing():
            if not self._base.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                for statement in _statements():
                    self._base.execute(statement)
                described = [(column.name, column.dtype, column.unit) for column in COLUMNS]
                self._base.executemany("INSERT INTO columns (name, dtype, unit) VALUES (?, ?, ?)", described)
                self._base.execute(f"PRAGMA application_id = {APPLICATION}")
                self._base.execute(f"PRAGMA user_version = {FORMAT}")

    def _schema(self) -> set[str]:
        """Return what the file is made of; indices that SQLite made by itself have no text."""
        found = self._base.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")
        return {" ".join(str(sql).split()) for (sql,) in found}

    def _columns(self) -> list[str]:
        return [name for (name,) in self._base.execute("SELECT name FROM columns ORDER BY place")]

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
    def _reading(self) -> Iterator[None]:
        """Say that the file is damaged where what is read is nothing that was ever written, whatever comes of it."""
        with self._telling():
            try:
                yield
            except (InputError, sqlite3.Error, MemoryError):
                raise
            except Exception as error:
                raise InputError(
                    f"{self.path}: is damaged ({type(error).__name__}: {reason_of(error)}); restore a copy, or sweep "
                    "into a new file"
                ) from None

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
                remedy = (
                    f"is damaged or not a store ({text}); it was left as it is: name another file, or restore a copy"
                )
            raise InputError(f"{self.path}: {remedy}") from None


def _statements() -> list[str]:
    """Return the statements that make the tables."""
    return [each.strip() for each in _TABLES.split(";") if each.strip()]


def _names(read: Any) -> tuple[str, ...]:
    """Return a list of texts; raises TypeError for anything else."""
    if not isinstance(read, list) or not all(isinstance(each, str) for each in read):
        raise TypeError("a list of texts is none")
    return tuple(read)


def _knobs(read: Any) -> dict[str, Any]:
    """Return knobs; raises TypeError for what is none."""
    if not isinstance(read, dict):
        raise TypeError("knobs are no table")
    for value in read.values():
        if not isinstance(value, str | int | float) or (isinstance(value, int) and abs(value) >= 2**63):
            raise TypeError("a knob is neither a number nor text")
    return {printable(name): printable(value) if isinstance(value, str) else value for name, value in read.items()}


class Coded(NamedTuple):
    """A column whose values are among a few: texts, or integers of which some are None."""

    values: list[Any]
    places: NDArray[np.uint32]
    """Of each row's among them."""


_NOTHING = object()


class Filling:
    """A column of the results that is filled block by block; as long as all of it is one value it takes no room."""

    def __init__(self, dtype: str, rows: int) -> None:
        self._dtype, self._rows = dtype, rows
        self._shared: Any = _NOTHING
        self._values: Any = None
        self._texts: dict[Any, int] = {}
        """Of a text column, whose values are their numbers."""
        self._empty: Any = None

    def put(self, where: NDArray[np.int64], value: Any, places: NDArray[np.int64]) -> None:
        """Put what a block holds at some places, or what all of it shares, where it goes; None: it is empty."""
        if self._values is None:
            is_shared = not isinstance(value, np.ndarray | Coded)
            if is_shared and (self._shared is _NOTHING or repr(value) == repr(self._shared)):
                self._shared = value
                return
            self._make_room()
        if isinstance(value, Coded):
            self._put(where, value.values, value.places[places])
        elif isinstance(value, np.ndarray):
            self._values[where] = value[places]
            if self._empty is not None:
                self._empty[where] = False
        else:
            self._put(where, [value], 0)

    def made(self) -> Any:
        """Return the column, one that is shared as a view; integers of which one is empty are pandas'."""
        import pandas as pd

        if self._values is None and self._dtype != "str" and self._shared not in (_NOTHING, None):
            return np.broadcast_to(np.array(self._shared, self._dtype), self._rows)
        if self._values is None:
            self._make_room()
        if self._dtype == "str":
            return _texts(self._texts, self._values)
        return self._values if self._empty is None else pd.arrays.IntegerArray(self._values, self._empty)

    def _make_room(self) -> None:
        self._values = np.zeros(self._rows, np.int32 if self._dtype == "str" else self._dtype)
        if self._shared is not _NOTHING:
            self._put(slice(None), [self._shared], 0)

    def _put(self, where: Any, known: list[Any], places: Any) -> None:
        """Put values where they go, of which each is one of those known."""
        if self._dtype == "str":
            texts = self._texts
            self._values[where] = np.array([texts.setdefault(text, len(texts)) for text in known], np.int32)[places]
            return
        empty = np.array([each is None for each in known])
        if self._dtype == "int64" and empty.any() and self._empty is None:
            self._empty = np.zeros(self._rows, bool)
        if self._empty is not None:
            self._empty[where] = empty[places]
        lacking = np.nan if self._dtype == "float64" else 0
        self._values[where] = np.array([lacking if each is None else each for each in known], self._dtype)[places]


def _texts(known: Iterable[str], places: NDArray[Any]) -> Any:
    """Return a column of texts, of which each is one of those known."""
    import pandas as pd

    return pd.Series(np.array([*known, None], object)[:-1]).array.take(places)


def to_bytes(columns: Columns) -> bytes:
    """Return columns as a safetensors file: numbers as they are, text as numbers of the values that metadata list.

    Metadata: JSON of `rows`, `shared` (what all rows have, by column) and `texts` (by column).
    """
    from safetensors.numpy import save

    shared, texts, arrays = dict[str, Any](), dict[str, list[Any]](), dict[str, Any]()
    for name, value in columns.values.items():
        if not isinstance(value, np.ndarray):
            shared[name] = value
        elif value.dtype == object:  # text, or integers that may be empty
            found = {each: number for number, each in enumerate(dict.fromkeys(value.tolist()))}
            texts[name] = list(found)
            arrays[name] = np.array(list(map(found.__getitem__, value.tolist())), np.uint32)
        else:
            arrays[name] = np.ascontiguousarray(value)
    metadata = {"rows": str(columns.rows), "shared": _json(shared), "texts": _json(texts)}
    return save(arrays, metadata)


def coded_columns(data: bytes, names: Sequence[str]) -> Columns:
    """Return some of the columns that `to_bytes` wrote, those with texts among them `Coded`."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    metadata = header["__metadata__"]
    shared, texts = json.loads(metadata["shared"]), json.loads(metadata["texts"])
    values = {}
    for name in names:
        if name in shared:
            values[name] = shared[name]
            continue
        dtype, (count,), (begin, _) = (header[name][key] for key in ("dtype", "shape", "data_offsets"))
        array = np.frombuffer(data, _DTYPES[dtype], count, 8 + length + begin)
        values[name] = Coded(texts[name], array) if name in texts else array
    return Columns(int(metadata["rows"]), values)


_DTYPES = {"U32": "<u4", "F64": "<f8", "I64": "<i8"}
