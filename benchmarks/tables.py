"""Does a change leave every number alone? `python -m benchmarks.tables --out FOLDER`, before it and after it.

Writes a CSV file for each shipped network on every shipped chip, and some of products, units, timelines, curves,
comparisons and sweeps; numbers as Python writes them, to the last bit. `--quick` leaves large networks out, `--all`
takes the largest, too. `--compare BEFORE AFTER [--but COLUMN ...]` says which columns of which files differ and by how
much; its exit code is 1 where any does. An older version is run by its own path:
`PYTHONPATH=older/checkout python newer/checkout/benchmarks/tables.py --out FOLDER`.
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import accelsim
from accelsim.compare import compare
from accelsim.config import shipped_names
from accelsim.curves import curve
from accelsim.timeline import timeline

SMALL = ("lenet-300-100-digits", "convnet-digits")
"""Networks of which more is asked than their rows."""

LARGE_WEIGHTS, HUGE_WEIGHTS = 30_000_000, 1_000_000_000
"""Networks above: left out by --quick; run only by --all."""

SPACES = ("default", "memory-size", "equal-accuracy")
LARGE_SPACES = ("eie-pes", "eie-queue-depth", "eie-row-width")

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "as shipped": {},
    "any size": {"engine.capacity": "ignore"},
    "with DRAM": {"memory.dram": "lpddr4-3200", "memory.channels": 2},
    "with a rate": {"memory.dram": "hbm2-a100-40gb"},
    "streaming, exact": {"memory.dram": "ddr3-1600", "memory.residency": "stream", "memory.timing": "exact"},
}
"""What is changed of a chip; one that lacks a key has no such variant. Those beyond DRAM run small networks only."""

FOR_ALL = ("as shipped", "any size", "with DRAM")


def chips(names: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """Return every shipped chip in every one of these variants that it has."""
    for name, variant in product(shipped_names("hwconfigs"), names):
        try:
            yield variant, accelsim.load_hardware(name, VARIANTS[variant])
        except accelsim.InputError:
            continue


def of_network(name: str, variants: Sequence[str], **options: Any) -> pd.DataFrame:
    """Return the rows of a network on every chip, with a row that says so where a chip can run none of it."""
    network = accelsim.load_network(name)
    found = []
    for variant, chip in chips(variants):
        try:
            rows = accelsim.simulate(network, chip, **options)
        except accelsim.InputError as error:
            rows = pd.DataFrame([{"hardware": chip.name, "refused": str(error)}])
        found.append(rows.assign(variant=variant))
    return pd.concat(found, ignore_index=True)


def of_products(count: int, backend: str = "compiled") -> pd.DataFrame:
    """Return GEMMs of drawn sizes on every chip that runs them."""
    generator = np.random.default_rng(0)
    top = 12 if backend == "compiled" else 8
    sizes = [tuple(int(2 ** generator.uniform(0, top)) for _ in range(3)) for _ in range(count)]
    sizes += [(*others, 4 * groups) for *others, groups in sizes]  # in whole groups of a pattern
    found = []
    for variant, chip in chips(VARIANTS):
        for size, dtype, pattern in product(sizes, ("fp16", "int8", "tf32"), (None, "2:4")):
            try:
                rows = accelsim.gemm(*size, chip, dtype, pattern, backend=backend)
            except (accelsim.InputError, TypeError) as error:
                message = str(error) if isinstance(error, accelsim.InputError) else "runs no GEMM"
                rows = pd.DataFrame([{"hardware": chip.name, "refused": message}])
            found.append(rows.assign(variant=variant))
    return pd.concat(found, ignore_index=True).drop_duplicates(ignore_index=True)


def of_units(name: str) -> pd.DataFrame:
    """Return what every unit of every chip does with its cycles."""
    found = [accelsim.units(name, chip).assign(variant=variant) for variant, chip in chips(FOR_ALL)]
    return pd.concat(found, ignore_index=True)


def of_timelines(name: str, layers: Sequence[str]) -> pd.DataFrame:
    """Return every event of the first 300 cycles of these layers on every chip."""
    found = []
    for (variant, chip), layer in product(chips(VARIANTS), layers):
        made = timeline(name, chip, layer, 0, 300)
        facts = {f"run_{key}": getattr(made, key) for key in ("hardware", "layer", "clock_mhz", "cycles", "last_cycle")}
        found.append(made.events.assign(variant=variant, **facts))
    return pd.concat(found, ignore_index=True)


def of_sweep(space: str) -> pd.DataFrame:
    """Return all points of a shipped space, run in one process."""
    with tempfile.TemporaryDirectory() as folder:
        return accelsim.sweep(space, Path(folder) / "results.db", jobs=1)


def tables(size: str) -> Iterator[tuple[str, Callable[[], pd.DataFrame]]]:
    """Return what is asked for: the name of each table and what makes it."""
    first, second = SMALL
    for name in SMALL:
        layers = [layer.name for layer in accelsim.load_network(name)]
        yield f"units {name}", lambda name=name: of_units(name)
        yield f"timeline {name}", lambda name=name, layers=layers: of_timelines(name, layers)
        yield f"verified {name}", lambda name=name: of_network(name, FOR_ALL, verify=True, activations=0.4)
    shipped = shipped_names("hwconfigs")
    granularities = ["fine", "nm:2:4", "vector:1x4", "filter", "channel"]
    yield "simpy", lambda: of_network(first, FOR_ALL, backend="simpy")
    yield "gemm", lambda: of_products(8)
    yield "gemm simpy", lambda: of_products(2, "simpy")
    yield "compare", lambda: compare(f"{first}-dense", shipped, granularities, 0.75)
    yield "curve", lambda: curve(f"{second}-dense", shipped, granularities, [0.5, 0.9], evaluate="digits")
    for space in SPACES if size == "quick" else SPACES + LARGE_SPACES:
        yield f"sweep {space}", lambda space=space: of_sweep(space)
    weights = {name: _weights(name) for name in shipped_names("workloads")}
    limit = {"quick": LARGE_WEIGHTS, "most": HUGE_WEIGHTS, "all": math.inf}[size]
    for name in sorted((name for name in weights if weights[name] <= limit), key=lambda name: weights[name]):
        variants = tuple(VARIANTS) if weights[name] < 1_000_000 else FOR_ALL
        yield name, lambda name=name, variants=variants: of_network(name, variants)


def _weights(name: str) -> int:
    return sum(layer.weight_count for layer in accelsim.load_network(name))


def write(folder: Path, size: str, only: str = "") -> None:
    """Write every table whose name begins so as soon as it is there, and warnings on the way to a file beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in tables(size):
        if not name.startswith(only):
            continue
        start = time.perf_counter()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                frame = make()
            except accelsim.AccelsimError as error:
                frame = pd.DataFrame([{"refused": str(error)}])
        file = name.replace(" ", "_")
        _write_csv(folder / f"{file}.csv", frame)
        said = [{"kind": each.category.__name__, "message": str(each.message)} for each in caught]
        beside = folder / f"{file}.said.csv"
        _write_csv(beside, pd.DataFrame(said)) if said else beside.unlink(missing_ok=True)
        print(f"{name}: {len(frame)} rows, {time.perf_counter() - start:.1f} s", flush=True)


def _write_csv(path: Path, frame: pd.DataFrame) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(frame.columns)
        columns = [frame[name].astype(object).tolist() for name in frame]
        writer.writerows([_text(value) for value in row] for row in zip(*columns, strict=True))


def _text(value: Any) -> str:
    """Return a value so that it is read back the same: empty where it is missing, floats to the last bit."""
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return ""
    return value if isinstance(value, str) else repr(getattr(value, "item", lambda: value)())


def differences(before: Path, after: Path, but: Iterable[str] = ()) -> list[str]:
    """Say how the tables of two folders differ, a line for each file and column; columns in `but` may."""
    old, new = ({path.name for path in folder.glob("*.csv")} for folder in (before, after))
    found = [f"{name}: only in {before}" for name in sorted(old - new)]
    found += [f"{name}: only in {after}" for name in sorted(new - old)]
    for name in sorted(old & new):
        found += [f"{name}: {line}" for line in _differences(_read(before / name), _read(after / name), set(but))]
    return found


def _read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def _differences(old: pd.DataFrame, new: pd.DataFrame, but: set[str]) -> Iterator[str]:
    for word, one, other in (("gone", old, new), ("new", new, old)):
        for column in one.columns.difference(other.columns, sort=False).difference(but, sort=False):
            yield f"{column}: {word}"
    common = [column for column in old.columns if column in new.columns and column not in but]
    if common != [column for column in new.columns if column in common]:
        yield "columns stand in another order"
    if len(old) != len(new):
        yield f"{len(old)} rows before, {len(new)} after; rows are not compared"
        return
    for column in common:
        rows = np.flatnonzero(old[column].to_numpy() != new[column].to_numpy())
        if len(rows):
            yield f"{column}: {len(rows)} of {len(old)} rows; {_by_how_much(old[column][rows], new[column][rows])}"


def _by_how_much(old: pd.Series, new: pd.Series) -> str:
    """Return the largest relative change of numbers, and the first change as it stands there."""
    first = f"first {_short(old.iloc[0])!r} -> {_short(new.iloc[0])!r} in row {old.index[0]}"
    a, b = (pd.to_numeric(values, errors="coerce") for values in (old, new))
    change = ((b - a).abs() / a.abs().where(a != 0, b.abs())).max()
    return first if math.isnan(change) else f"by up to {change:.3g} of the value, {first}"


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


def main(arguments: Sequence[str] | None = None) -> int:
    """Write tables or compare two folders of them; returns 1 where they differ."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--out", type=Path, metavar="FOLDER", help="write the tables of the accelsim that is imported")
    what.add_argument("--compare", nargs=2, type=Path, metavar=("BEFORE", "AFTER"), help="compare two such folders")
    parser.add_argument("--but", nargs="+", default=[], metavar="COLUMN", help="columns that may differ")
    much = parser.add_mutually_exclusive_group()
    much.add_argument(
        "--quick", action="store_const", const="quick", dest="size", help="small networks and spaces only"
    )
    much.add_argument("--all", action="store_const", const="all", dest="size", help="also networks of 10^9 weights")
    parser.add_argument("--only", default="", metavar="TABLE", help="tables whose name begins so, such as sweep")
    options = parser.parse_args(arguments)
    if options.out:
        print(f"accelsim of {Path(accelsim.__file__).parent}")
        write(options.out, options.size or "most", options.only)
        return 0
    found = differences(*options.compare, options.but)
    print("\n".join(found) or "every number is the same")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
