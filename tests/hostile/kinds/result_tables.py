"""Results that are read back, of .csv, .json and .parquet: foreign columns, types and cells, and repeated pages."""

from __future__ import annotations

import functools
import json
import tempfile
from pathlib import Path
from random import Random
from typing import Any

from hostile import mutations

NEEDS = ("pyarrow",)
KINDS = ("energy", "cycles", "roofline", "load-balance", "storage", "pareto", "accuracy-energy", "bandwidth", "nope")
LENET = "lenet-300-100-digits"


@functools.cache
def _rows(table: str) -> list[dict[str, Any]]:
    """Return the rows of a table as `accelsim` writes it."""
    import warnings

    import accelsim
    from accelsim.inspection import inspect
    from accelsim.report.files import write

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if table == "storage":
            results = inspect(accelsim.load_network(LENET))
        else:
            results = accelsim.simulate(LENET, ["eie-64pe-45nm", "edge-nm-16x16"])
        path = Path(folder) / "table.json"
        write(results, "json", path)
        found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return found


def make(draw: Random, folder: Path) -> list[str]:
    """Make a table of a whole one, in one of three formats."""
    table = draw.choice(("results", "results", "results", "storage"))
    suffix = draw.choice((".csv", ".json", ".parquet"))
    path = folder / f"table{suffix}"
    rows = [dict(row) for row in _rows(table)]
    if suffix == ".json":
        _json(draw, rows, path)
    elif suffix == ".csv":
        _csv(draw, rows, path)
    else:
        _parquet(draw, rows, path)
    if draw.random() < 0.1:
        path.write_bytes(mutations.content(draw, path.read_bytes()))
    if draw.random() < 0.1:
        return ["report", path.name, "-o", "page.html"]
    kind = "storage" if table == "storage" else draw.choice(KINDS)
    more = ["--x", draw.choice(list(rows[0])), "--y", draw.choice(list(rows[0]))] if kind == "pareto" else []
    return ["plot", path.name, kind, *more]


def _json(draw: Random, rows: list[dict[str, Any]], path: Path) -> None:
    changed = mutations.tree(draw, rows)
    for _ in range(draw.choice((0, 0, 1, 3))):
        name, found = draw.choice(list(rows[0])), mutations.value(draw)
        for row in changed if isinstance(changed, list) else ():
            if isinstance(row, dict):
                row[name] = found
    mutations.write(path, mutations.json_text(changed))


def _csv(draw: Random, rows: list[dict[str, Any]], path: Path) -> None:
    import csv
    import io

    for _ in range(draw.choice((0, 0, 1, 1, 3))):
        name = draw.choice(list(rows[0]))
        found = mutations.cell(draw)
        for row in rows if draw.random() < 0.3 else rows[:1]:
            row[name] = found
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    mutations.write(path, mutations.line(draw, file.getvalue(), ",") if draw.random() < 0.7 else file.getvalue())


def _parquet(draw: Random, rows: list[dict[str, Any]], path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    columns: dict[str, Any] = {name: pa.array([row[name] for row in rows]) for name in rows[0]}
    for _ in range(draw.choice((0, 1, 1, 2, 4))):
        name = draw.choice(list(columns))
        columns[name] = _column(draw, len(rows))
    if draw.random() < 0.2:
        columns[str(draw.choice(mutations.TEXTS)).replace("\ud800", "?")] = _column(draw, len(rows))
    if draw.random() < 0.2:
        del columns[draw.choice(list(columns))]
    made = pa.table(columns)
    if draw.random() < 0.1:
        made = pa.concat_tables([made] * draw.choice((2, 100)))
    parquet.write_table(made, path, compression=draw.choice(("none", "snappy", "zstd", "gzip")))


def _column(draw: Random, count: int) -> Any:
    import pyarrow as pa

    long = "n" * draw.choice((10, 1000, 200_000))
    return draw.choice((
        lambda: pa.array([2**63] * count, pa.uint64()),
        lambda: pa.array([-(2**63)] * count, pa.int64()),
        lambda: pa.array([float("nan")] * count),
        lambda: pa.array([float("inf")] * count),
        lambda: pa.array([None] * count, pa.null()),
        lambda: pa.array([b"\xff\xfe"] * count),
        lambda: pa.array([{"a": 1}] * count),
        lambda: pa.array([[1, 2]] * count),
        lambda: pa.array([10**10] * count, pa.timestamp("us")),
        lambda: pa.array([10**17] * count, pa.timestamp("ns", "UTC")),
        lambda: pa.array([2**53] * count, pa.timestamp("s")),
        lambda: pa.array([2**31 - 1] * count, pa.date32()),
        lambda: pa.array([2**62] * count, pa.duration("s")),
        lambda: pa.array([86_399] * count, pa.time32("s")),
        lambda: pa.array(["1.5"] * count).cast(pa.decimal128(30, 10)),
        lambda: pa.array([long] * count),
        lambda: pa.array([long] * count).dictionary_encode(),
        lambda: pa.array([1.5] * count, pa.float32()),
        lambda: pa.array([True] * count),
        lambda: pa.array(["\x1b[31m"] * count),
        lambda: pa.array([str(draw.choice(mutations.TEXTS[:30])).replace("\ud800", "?")] * count),
    ))()  # fmt: skip
