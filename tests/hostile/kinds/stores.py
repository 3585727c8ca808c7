"""Stores: cells that hold something else, other tables and views, and changed bytes of their pages."""

from __future__ import annotations

import functools
import sqlite3
import tempfile
from pathlib import Path
from random import Random
from typing import Any

from accelsim.explore import sweep
from hostile import mutations

SPACE = {
    "network": "lenet-300-100-digits", "objectives": ["energy_pj", "time_us"], "constraints": ["area_mm2 <= 1000"],
    "vary": {"engine.fifo_depth": [4, 8], "engine.pes": [32, 64]},
}  # fmt: skip
COLUMNS = {
    "points": ("key", "engine", "knobs", "score", "precision", "error", "block", "first", "rows"),
    "spaces": ("name", "objectives", "constraints"),
    "columns": ("place", "name", "dtype", "unit"),
    "blocks": ("id", "columns"),
}
OTHER_TABLES = (
    "ALTER TABLE points RENAME TO p; CREATE VIEW points AS SELECT * FROM p",
    "DROP TABLE spaces; CREATE VIEW spaces AS WITH RECURSIVE r(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM r) "
    "SELECT id, 'a' || id name, '[]' objectives, '[]' constraints FROM r",
    "ALTER TABLE points ADD COLUMN more TEXT AS (hex(zeroblob(1000000)))",
    "DROP TABLE blocks", "DELETE FROM blocks", "DELETE FROM spaces", "DELETE FROM points", "PRAGMA user_version = 3",
    "PRAGMA application_id = 7", "UPDATE points SET rows = rows * 1000000", "UPDATE points SET first = first + 100",
    "CREATE INDEX i ON points (hex(knobs))", "PRAGMA writable_schema = 1; UPDATE sqlite_master SET sql = 'x'",
)  # fmt: skip


@functools.cache
def _whole() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "r.db"
        sweep(SPACE, store, jobs=1)
        base = sqlite3.connect(store)
        base.execute("PRAGMA journal_mode = DELETE")
        base.close()
        return store.read_bytes()


def make(draw: Random, folder: Path) -> list[str]:
    """Make a store, and ask a command that reads it."""
    whole, path = _whole(), folder / "r.db"
    path.write_bytes(whole)
    pick = draw.random()
    if pick < 0.35:
        path.write_bytes(mutations.content(draw, whole))
    else:
        base = sqlite3.connect(path)
        if pick < 0.5:
            base.executescript(draw.choice(OTHER_TABLES))
        for _ in range(draw.choice((0, 1, 1, 3)) if pick < 0.5 else draw.choice((1, 1, 2))):
            _cell(draw, base)
        base.commit()
        base.close()
    show = draw.choice((["pareto", "r.db"], ["knobs", "r.db"], ["pareto", "r.db", "--csv", "front.csv"]))
    if draw.random() < 0.95:
        return show
    mutations.write(folder / "space.toml", mutations.toml_text(SPACE))
    return ["sweep", "space.toml", "--store", "r.db", "--jobs", "1", *(["--dry-run"] if draw.random() < 0.8 else [])]


def _cell(draw: Random, base: sqlite3.Connection) -> None:
    """Put something else into a cell, or into all of a column."""
    table = draw.choice(list(COLUMNS))
    column = draw.choice(COLUMNS[table])
    found: Any = draw.choice((mutations.value(draw), mutations.json_text(mutations.value(draw)), draw.randbytes(9)))
    if isinstance(found, list | dict | bool):
        found = mutations.json_text(found)
    if isinstance(found, int) and not -(2**63) <= found < 2**63:
        found = float("inf")
    if isinstance(found, str):
        found = found.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    where = "" if draw.random() < 0.5 else " WHERE rowid = 1"
    try:
        base.execute(f"UPDATE {table} SET {column} = ?{where}", (found,))  # noqa: S608 - names of our own
    except sqlite3.Error:
        return  # what cannot be there, such as a text among numbers of rows
