"""Reading results back: tables that the commands wrote, checked before anything is made of them."""

from __future__ import annotations

import csv
import itertools
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelsim import __version__
from accelsim.compare import COMPARED_COLUMNS
from accelsim.config import existing_file
from accelsim.curves import CURVE_COLUMNS
from accelsim.engines import ENGINES
from accelsim.errors import InputError, collecting, did_you_mean, needing, printable, raise_if_any, reason_of
from accelsim.report.formulas import restored
from accelsim.report.parquet_pages import check_pages
from accelsim.results import COLUMNS, MAY_BE_EMPTY, UNIT_COLUMNS, Column, operations, typed

if TYPE_CHECKING:
    import pandas as pd

MAX_FILE_BYTES = 64 * 2**20
"""A row takes about 2 kB as CSV and 5 kB as JSON."""

MAX_CELLS = 16 * 2**20

MAX_COLUMNS = 1000

LARGEST = 1e100
"""Of a number that a table holds; sums and ratios of such are numbers, too."""

Cells = dict[str, list[Any]]
"""A table as its file has it, column by column: texts in CSV, values elsewhere, None where a cell is empty."""


def read_results(path: str | Path) -> pd.DataFrame:
    """Return the rows of `simulate` from a .csv, .json or .parquet that `accelsim run` or `accelsim compare` wrote.

    Columns have the types that they had, further ones (such as those of `compare`) the types that their cells suggest.
    Of `accelsim sweep`, too: a point that failed has a row that is empty but for its knobs and the reason.
    Raises InputError for a file that is too large or is not a table, for results of another version, and with every
    column that is missing, every one of a wrong type, and every cell that is empty though its chip ran the layer.
    """
    path = Path(path)
    cells, failed = _apart(_read(path))
    _check_columns(path, cells, COLUMNS, "accelsim run NETWORK --csv FILE")
    table = _typed(path, cells, (*COLUMNS, *COMPARED_COLUMNS))
    raise_if_any(
        f"{path}: {column.name}: must be at most {LARGEST:g} (got {table[column.name].abs().max():g}); write it again"
        for column in COLUMNS
        if column.dtype == "float64" and (table[column.name].abs() > LARGEST).any()
    )
    ran = (table["executed_as"] != "unsupported") & ~operations(table)
    names = [column.name for column in COLUMNS if column.name not in MAY_BE_EMPTY]
    empty = [name for name in names if table.loc[ran, name].isna().any()]
    raise_if_any(
        f"{path}: {name}: is empty in row {table.index[ran & table[name].isna()][0] + 1}, although its chip ran the "
        "layer; write the file again, or delete the row"
        for name in empty
    )
    return _joined(table, failed)


def _apart(cells: Cells) -> tuple[Cells, Cells]:
    """Return the cells of rows that ran, and of those in a table of a sweep whose point failed, which say why."""
    errors = cells.get("error", []) if "point" in cells else []
    places: tuple[list[int], list[int]] = [], []
    for place, error in enumerate(errors):
        places[bool(error) and error == error].append(place)
    if not places[True]:
        return cells, {}
    ran, failed = ({name: [values[at] for at in some] for name, values in cells.items()} for some in places)
    return ran, {name: values for name, values in failed.items() if not all(map(_is_empty, values))}


def _joined(table: pd.DataFrame, failed: Cells) -> pd.DataFrame:
    """Return rows that ran with those of points that failed, in the order of their points."""
    import pandas as pd

    if not failed:
        return table
    more = pd.DataFrame({name: typed(_converted(v, _suggested(v)), _suggested(v)) for name, v in failed.items()})
    joined: pd.DataFrame = pd.concat([table, more]).sort_values("point", kind="stable", ignore_index=True)
    return joined


def read_table(path: str | Path) -> pd.DataFrame:
    """Return a table from a .csv, .json or .parquet: results, a curve, or a table of one's own.

    Results (see `read_results`) and OTHER_TABLES are known by their columns and checked; of any other table the cells
    of a column suggest its type. Raises InputError.
    """
    path = Path(path)
    cells = _read(path)
    if "layer_hash" in cells:
        return read_results(path)
    for mark, columns, command in OTHER_TABLES:
        if mark in cells:
            _check_columns(path, cells, columns, command)
            return _typed(path, cells, columns)
    return _typed(path, cells, ())


OTHER_TABLES = (
    ("beats_given", CURVE_COLUMNS, "accelsim curve NETWORK --csv FILE"),
    ("unit", UNIT_COLUMNS, "accelsim run NETWORK --units FILE"),
)
"""A column that only this table has, all of its columns, and the command that writes it."""


def _read(path: Path) -> Cells:
    """Return the cells of a file; raises InputError for one that is too large, empty or no table."""
    if path.suffix not in READERS:
        raise InputError(f"{path}: a table is a {', '.join(READERS)} file; write one with accelsim run --csv FILE")
    size_bytes = existing_file(path).stat().st_size
    if size_bytes > MAX_FILE_BYTES:
        raise InputError(
            f"{path}: has {size_bytes / 2**20:.0f} MiB, more than the {MAX_FILE_BYTES // 2**20} that are read; "
            "keep the rows of one network or chip"
        )
    try:
        cells = READERS[path.suffix](path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    except InputError as error:
        raise InputError(*(f"{path}: {problem}" for problem in error.problems)) from None
    if not any(cells.values()):
        raise InputError(f"{path}: is a table without rows; write it again with accelsim run --csv FILE")
    return cells


def _read_csv(path: Path) -> Cells:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, strict=True)
            header = [restored(name) for name in next(lines, [])]
            _check_header(header)
            rows = []
            for line in filter(None, lines):
                if len(line) != len(header):
                    raise InputError(
                        f"line {lines.line_num}: has {len(line)} cells, the first line has {len(header)}; is this a "
                        "table separated by commas, and complete?"
                    )
                rows.append(line)
    except UnicodeDecodeError as error:
        raise InputError(f"is not text in UTF-8 ({error.reason} at byte {error.start}); save it as CSV UTF-8") from None
    except csv.Error as error:
        raise InputError(f"is not CSV ({error}); write it with accelsim run --csv FILE") from None
    return {name: [restored(row[place]) for row in rows] for place, name in enumerate(header)}


def _read_json(path: Path) -> Cells:
    try:
        rows = json.loads(path.read_bytes().decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"is not JSON ({reason_of(error)}); write it with accelsim run --json FILE") from None
    if not (isinstance(rows, list) and all(isinstance(row, dict) for row in rows)):
        raise InputError("is not a table, which in JSON is a list of rows; write it with accelsim run --json FILE")
    raise_if_any(
        f"{name}: holds a list or a table in row {number}; a cell is a number, a text, true, false or null"
        for number, row in enumerate(rows, 1)
        for name, cell in row.items()
        if isinstance(cell, list | dict)
    )
    header = list(dict.fromkeys(name for row in rows for name in row))
    _check_header(header)
    if len(rows) * len(header) > MAX_CELLS:
        raise InputError(f"has {len(rows)} rows of {len(header)} columns, more than {MAX_CELLS} cells; keep a part")
    return {name: [row.get(name) for row in rows] for name in header}


def _read_parquet(path: Path) -> Cells:
    with needing("parquet"):
        import pyarrow
        from pyarrow import parquet
    try:
        with parquet.ParquetFile(path) as file:
            held = file.metadata
            size_bytes = sum(held.row_group(number).total_byte_size for number in range(held.num_row_groups))
            if held.num_rows * held.num_columns > MAX_CELLS or size_bytes > MAX_FILE_BYTES:
                raise InputError(
                    f"holds {held.num_rows} rows of {held.num_columns} columns, {size_bytes / 2**20:.0f} MiB unpacked; "
                    f"at most {MAX_CELLS} cells and {MAX_FILE_BYTES // 2**20} MiB are read: keep a part"
                )
            _check_header(file.schema_arrow.names)
            _check_pages(path, held)
            raise_if_any(
                f"{each.name}: holds values of type {str(each.type)[:80]}; a table has numbers, texts, True and False"
                for each in file.schema_arrow
                if not _is_plain(each.type)
            )
        return dict(_columns_of(path))
    except (pyarrow.ArrowException, UnicodeDecodeError, OverflowError) as error:
        raise InputError(f"is not a Parquet file ({reason_of(error)}); write it again") from None


def _check_pages(path: Path, held: Any) -> None:
    """Raise InputError where the pages of a Parquet file hold more than its footer says."""
    content = path.read_bytes()
    for group, column in itertools.product(range(held.num_row_groups), range(held.num_columns)):
        about = held.row_group(group).column(column)
        start = min(about.dictionary_page_offset or about.data_page_offset, about.data_page_offset)
        try:
            check_pages(content, start, start + about.total_compressed_size, MAX_FILE_BYTES)
        except ValueError as error:
            raise InputError(f"{about.path_in_schema}: {error}; write it again") from None


def _is_plain(kind: Any) -> bool:
    """Return whether a type of Arrow is that of numbers, texts, flags or nothing at all."""
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    tests = types.is_integer, types.is_floating, types.is_boolean, types.is_null, _is_text
    return any(test(kind) for test in tests)


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_string(kind) or types.is_large_string(kind))


def _columns_of(path: Path) -> Iterator[tuple[str, list[Any]]]:
    """Go through the columns of a Parquet file; raises InputError where they are larger than any table of results.

    A few bytes can say that a long text comes a million times: such are kept once, and counted as often as they come.
    """
    from pyarrow import parquet, types

    with parquet.ParquetFile(path) as file:
        texts = [each.name for each in file.schema_arrow if _is_text(each.type)]
    with parquet.ParquetFile(path, read_dictionary=texts) as file:
        left_bytes = MAX_FILE_BYTES
        for name in file.schema_arrow.names:
            column = file.read([name]).column(0)
            if not types.is_dictionary(column.type):
                yield name, column.to_pylist()
                continue
            found: list[Any] = []
            for chunk in column.chunks:
                words = chunk.dictionary.to_pylist()
                places = chunk.indices.to_pylist()
                sizes = [len(word) if isinstance(word, str) else 1 for word in words]
                left_bytes -= sum(sizes[place] for place in places if place is not None)
                if left_bytes < 0:
                    raise InputError(
                        f"{name}: its texts have more than {MAX_FILE_BYTES // 2**20} MiB written out; keep a part"
                    )
                found += [None if place is None else words[place] for place in places]
            yield name, found


READERS: dict[str, Callable[[Path], Cells]] = {".csv": _read_csv, ".json": _read_json, ".parquet": _read_parquet}


def _check_header(header: Sequence[str]) -> None:
    if not header or len(header) > MAX_COLUMNS:
        raise InputError(f"is not a table of results: it has {len(header)} columns; at most {MAX_COLUMNS} are read")
    raise_if_any(
        f"{name or 'a column without a name'}: stands {times} times in the first line; keep one"
        for name, times in Counter(header).items()
        if times > 1
    )


def _check_columns(path: Path, cells: Cells, columns: Sequence[Column], command: str) -> None:
    """Raise InputError for another version, machines that are not loaded, and missing columns."""
    others = [str(version) for version in dict.fromkeys(cells.get("version", ())) if version != __version__]
    problems = [
        f"{path}: version: was written by accelsim {other}, this is {__version__}, whose columns may mean something "
        f"else; write it again with {command}, or read it with pip install accelsim=={other}"
        for other in others
    ]
    problems += [
        f"{path}: engine: {engine!r} is not a machine that is loaded{did_you_mean(str(engine), ENGINES)}; name its "
        "module in ACCELSIM_ENGINES"
        for engine in dict.fromkeys(cells.get("engine", ()))
        if engine not in ENGINES
    ]
    missing = [column.name for column in columns if column.name not in cells]
    if missing:
        near = did_you_mean(missing[0], [name for name in cells if name not in {column.name for column in columns}])
        hint = near if "mean" in near else ""
        problems.append(f"{path}: lacks the columns {', '.join(missing)}{hint}; write them with {command}")
    raise_if_any(problems)


def _typed(path: Path, cells: Cells, columns: Sequence[Column]) -> pd.DataFrame:
    """Return cells as a DataFrame in their order; raises InputError with every column of a wrong type."""
    import pandas as pd

    known = {column.name: column.dtype for column in columns}
    problems: list[str] = []
    data: dict[str, Any] = {}
    for name, values in cells.items():
        with collecting(problems, f"{path}: {name}: "):
            dtype = known.get(name) or _suggested(values)
            data[printable(name)] = typed(_converted(values, dtype), dtype)
    raise_if_any(problems)
    return pd.DataFrame(data)


def _converted(values: Sequence[Any], dtype: str) -> list[Any]:
    """Return cells as values of a type, None where they are empty; raises InputError for the first that is none."""
    convert, meant = TYPES[dtype]
    found = []
    for row, value in enumerate(values, 1):
        try:
            found.append(convert(value))
        except (ValueError, TypeError, KeyError, OverflowError):
            shown = value if len(repr(value)) <= 40 else f"{repr(value)[:40]}..."
            raise InputError(f"must be {meant} (got {shown!r} in row {row}); write the file again") from None
    return found


def _suggested(values: Sequence[Any]) -> str:
    """Return the narrowest type that all cells have; in text, that all cells read as."""
    given = [value for value in values if not _is_empty(value)]
    kinds = {type(value) for value in given}
    if kinds == {str}:
        for dtype, read in (("int64", int), ("float64", float), ("bool", _flag)):
            with suppress(ValueError, KeyError):
                for value in given:
                    read(value)
                return dtype
        return "str"
    named = {frozenset({int}): "int64", frozenset({bool}): "bool"}
    return named.get(frozenset(kinds), "float64" if kinds <= {int, float} else "str")


def _is_empty(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return printable(value)


def _integer(value: Any) -> int | None:
    if _is_empty(value):
        return None
    number = float(value) if isinstance(value, str) and "." in value else value  # "12.0": another program wrote it
    if isinstance(value, bool) or (isinstance(number, float) and not number.is_integer()):
        raise ValueError
    if not -(2**63) <= int(number) < 2**63:
        raise OverflowError
    return int(number)


def _real(value: Any) -> float | None:
    if isinstance(value, bool):
        raise TypeError
    return None if _is_empty(value) else float(value)


def _flag(value: Any) -> bool:
    return {"True": True, "False": False, True: True, False: False}[value]


TYPES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "str": (_text, "text"),
    "int64": (_integer, "a whole number of 64 bits"),
    "float64": (_real, "a number"),
    "bool": (_flag, "True or False"),
}
