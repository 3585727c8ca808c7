"""Writing results, in the formats that are asked for."""

from __future__ import annotations

import csv
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from accelsim.errors import collecting, raise_if_any
from accelsim.files import check_writable, write_whole
from accelsim.report.formulas import splits, tame_formulas

if TYPE_CHECKING:
    import pandas as pd

STANDARD_OUTPUT = Path("-")
"""Where a table goes that is piped on."""

PLOT_SUFFIXES = (".png", ".svg", ".pdf")

Write = Callable[["pd.DataFrame", Path], None]


def check_outputs(wanted: dict[str, Path]) -> None:
    """Raise InputError, before anything is simulated, with every reason why these files (by kind) cannot be written."""
    problems: list[str] = []
    for path in wanted.values():
        if path != STANDARD_OUTPUT:
            with collecting(problems):
                check_writable(path)
    problems += [
        f"{path}: {times} results would be written to this file; give each a file of its own"
        for path, times in Counter(map(_place, wanted.values())).items()
        if times > 1
    ]
    if "parquet" in wanted and find_spec("pyarrow") is None:
        problems.append("--parquet: needs pyarrow; install it with: pip install 'accelsim[parquet]'")
    if wanted.get("parquet") == STANDARD_OUTPUT and sys.stdout.isatty():
        problems.append("--parquet -: is not text; pipe it on, or name a file")
    problems += [
        f"{path}: --plot draws .png, .svg or .pdf; choose one of these endings"
        for kind, path in wanted.items()
        if kind.endswith("plot") and path.suffix not in PLOT_SUFFIXES
    ]
    raise_if_any(problems)


def _place(path: Path) -> str:
    """Return what tells two outputs apart."""
    return str(path) if path == STANDARD_OUTPUT else os.path.realpath(path)


def write(results: pd.DataFrame, kind: str, path: Path) -> None:
    """Write results as csv, json, parquet or plot; raises InputError and leaves what was there if it cannot."""
    if path != STANDARD_OUTPUT:
        write_whole(path, lambda target: WRITERS[kind](results, target))
        return
    with tempfile.TemporaryDirectory() as folder:
        WRITERS[kind](results, Path(folder, kind))
        sys.stdout.flush()
        sys.stdout.buffer.write(Path(folder, kind).read_bytes())
        sys.stdout.flush()


def _write_csv(results: pd.DataFrame, path: Path) -> None:
    tame = tame_formulas(results)
    tame.to_csv(path, index=False, quoting=csv.QUOTE_NONNUMERIC if splits(tame) else csv.QUOTE_MINIMAL)


def _write_json(results: pd.DataFrame, path: Path) -> None:
    known = results.astype(object).where(results.notna(), None)  # what is empty is null
    path.write_text(json.dumps(known.to_dict("records"), indent=1) + "\n", encoding="utf-8")


def _write_parquet(results: pd.DataFrame, path: Path) -> None:
    results.to_parquet(path, index=False)


def _write_plot(results: pd.DataFrame, path: Path) -> None:
    from accelsim.report.plots import overview, save

    save(overview(results), path, path.suffix.removeprefix("."))


def _write_energy_plot(results: pd.DataFrame, path: Path) -> None:
    from accelsim.report.plots import energy_overview, save

    save(energy_overview(results), path, path.suffix.removeprefix("."))


def _write_compare_plot(results: pd.DataFrame, path: Path) -> None:
    from accelsim.compare import totals
    from accelsim.report.plots import comparison, save

    save(comparison(totals(results)), path, path.suffix.removeprefix("."))


def _write_sensitivity_plot(results: pd.DataFrame, path: Path) -> None:
    from accelsim.report.plots import save, sensitivity

    save(sensitivity(results), path, path.suffix.removeprefix("."))


def _write_schedule_plot(results: pd.DataFrame, path: Path) -> None:
    from accelsim.report.plots import save
    from accelsim.report.plots.schedules import schedules

    save(schedules(results), path, path.suffix.removeprefix("."))


WRITERS: dict[str, Write] = {
    "csv": _write_csv,
    "json": _write_json,
    "parquet": _write_parquet,
    "units": _write_csv,
    "plot": _write_plot,
    "energy plot": _write_energy_plot,
    "compare plot": _write_compare_plot,
    "sensitivity plot": _write_sensitivity_plot,
    "schedule plot": _write_schedule_plot,
}
