"""Where the evidence lies, and what stands in README.md and docs between `<!-- name -->` and `<!-- /name -->`.

`python -m benchmarks.documents` writes the map of the package in docs/design.md, the columns of the table in
docs/results.md, the keys of files in docs/chips.md and the files of the third machine in docs/extending.md, or says
with `--check` what is stale. Other commands of `benchmarks` write their own figures.
"""

from __future__ import annotations

import ast
import os
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from accelsim.chips import Hardware, MemoryConfig, Technology
from accelsim.compare import COMPARED_COLUMNS
from accelsim.config import shipped_names
from accelsim.curves import CURVE_COLUMNS
from accelsim.engines import ENGINES
from accelsim.hardware import load_hardware
from accelsim.keys import keys_of, tables_of
from accelsim.network import Layer
from accelsim.parts import MODELS
from accelsim.results import GROUPS, NAMES
from accelsim.simulation import simulated_rows

ROOT = Path(__file__).resolve().parents[1]
EVIDENCE = ROOT / "tests" / "evidence"
"""What others measured and simulated; its README.md says who."""
ALEXNET_FC8 = Path(os.environ.get("ACCELSIM_SHARED", ROOT.parent / "shared")) / "golden" / "eie" / "alexnet_fc8.npz"
"""AlexNet's real fc8, which a clone does not have."""


def fill(blocks: dict[str, str], *, write: bool) -> list[str]:
    """Compare blocks with what stands in the documents, or put them there; returns the files that differed."""
    stale = []
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = fresh = path.read_text(encoding="utf-8")
        for name, block in blocks.items():
            pattern = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- /{re.escape(name)} -->)", re.DOTALL)
            filled = f"{block}\n" if block else ""
            fresh = pattern.sub(lambda match, filled=filled: match[1] + filled + match[2], fresh)
        if fresh != text:
            stale.append(path.name)
            if write:
                path.write_text(fresh, encoding="utf-8")
    return stale


def house(of: str = "accelsim") -> str:
    """Return the map of a package: the rows of its import contract, each room with its docstring's first line."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    rows = next(each["layers"] for each in settings["contracts"] if of in each.get("containers", ["accelsim"]))
    package = ROOT.joinpath(*of.split("."))
    rooms = list(_rooms(rows, package))
    width = max(len(room) for _, room in rooms)
    lines = [f"{mark} {room:<{width}}  {_purpose(package, room)}" for mark, room in rooms]
    return "\n".join(["```text", *lines, "```"])


def _rooms(rows: list[str], package: Path) -> Iterator[tuple[str, str]]:
    """Return the rooms from top to bottom, then those in no row, each with its mark."""
    named = [[room.strip("() ").removeprefix("accelsim.") for room in row.split("|")] for row in rows]
    for row in named:
        yield from zip(" " + "|" * (len(row) - 1), row, strict=True)
    inside = {path.parent.name for path in package.glob("*/__init__.py")} | {path.stem for path in package.glob("*.py")}
    for room in sorted(inside - {"__init__", *(room.split(".")[0] for row in named for room in row)}):
        yield "+", room


def _purpose(package: Path, room: str) -> str:
    """Return the first line of the docstring of a module or package."""
    path = package.joinpath(*room.split("."))
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return (ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def columns() -> str:
    """Return every column under its heading: unit, meaning, and the machines that fill it."""
    filled = _filled()
    lines = []
    for heading, group in GROUPS.items():
        lines += [f"### {heading}", "", "| column | unit | meaning | machines |", "|---|---|---|---|"]
        for column in group:
            machines = [kind for kind, names in filled.items() if column.name in names]
            who = "all" if len(machines) == len(filled) else ", ".join(machines) or "-"
            lines.append(f"| `{column.name}` | {column.unit or 'text'} | {column.meaning} | {who} |")
        lines.append("")
    return "\n".join(lines[:-1])


def other_columns() -> dict[str, str]:
    """Return the columns of the tables that `compare` and `curve` write."""
    return {
        f"columns: {name}": "\n".join(
            ["| column | unit | meaning |", "|---|---|---|"]
            + [f"| `{column.name}` | {column.unit or NO_UNIT[column.dtype]} | {column.meaning} |" for column in columns]
        )
        for name, columns in (("compare", COMPARED_COLUMNS), ("curve", CURVE_COLUMNS))
    }


NO_UNIT = {"str": "text", "bool": "true or false"}


def _filled() -> dict[str, set[str]]:
    """Return for every machine the columns that a row of its first chip has, and those of its words."""
    chips = {(chip := load_hardware(name)).engine.kind: chip for name in reversed(shipped_names("hwconfigs"))}
    layer = Layer.linear("layer", np.eye(64), activations=np.ones(64))
    return {
        kind: set(*simulated_rows(layer, chips[kind]))
        | {name.format(word.name) for words, name in NAMES.items() for word in getattr(engine.words, words)}
        for kind, engine in ENGINES.items()
    }


def keys() -> dict[str, str]:
    """Return the keys of files as tables: of every chip, of each machine, of a technology, of a DRAM part."""
    shared: dict[type, list[str]] = {Hardware: [""], **tables_of(MemoryConfig, "memory")}
    parts = {kind: places for model in MODELS.values() for kind, places in tables_of(model).items()}
    beside = {*tables_of(Technology), *parts}
    chips = {kind: places for kind, places in shared.items() if kind not in beside}
    lines = ["### Every chip", "", *_key_tables(chips)]
    for kind, engine in ENGINES.items():
        own = {each: places for each, places in tables_of(engine.chip).items() if each not in {*shared, *beside}}
        own.pop(engine.chip)  # what it has beside tables has every chip
        lines += [f'### `engine.kind = "{kind}"`', "", *_key_tables(own)]
    return {
        "keys: chips": "\n".join(lines[:-1]),
        "keys: technology": "\n".join(_key_tables(tables_of(Technology))[:-1]),
        "keys: dram": "\n".join(_key_tables(parts)[:-1]),
    }


def _key_tables(tables: dict[type, list[str]]) -> list[str]:
    lines = []
    for kind, places in tables.items():
        named = ", ".join(
            f"`[[{place[:-2]}]]`" if place.endswith("[]") else f"`[{place}]`" for place in places if place
        )
        summary = (kind.__doc__ or "").partition("\n")[0]
        lines += [
            f"{named}: {summary}" if named else summary,
            "",
            "| key | unit | meaning | default |",
            "|---|---|---|---|",
        ]
        for key in keys_of(kind):
            default = key.default if key.default in ("", "required") else f"`{key.default}`"
            lines.append(f"| `{key.name}` | {key.unit} | {key.meaning} | {default} |".replace("|  |", "| |"))
        lines.append("")
    return lines


TOY = ("config.py", "specification.py", "twin.py", "__init__.py", "toy.toml")
"""The files of the third machine, in the order in which docs/extending.md shows them."""


def toy() -> dict[str, str]:
    """Return the files of the third machine as blocks of code."""
    languages = {".py": "python", ".toml": "toml"}
    folder = ROOT / "tests" / "toy_engine"
    return {
        f"toy: {name}": f"```{languages[Path(name).suffix]}\n{(folder / name).read_text(encoding='utf-8')}```"
        for name in TOY
    }


if __name__ == "__main__":
    if "ACCELSIM_ENGINES" in os.environ:
        sys.exit("unset ACCELSIM_ENGINES: the docs tell of the machines that come along")
    check = sys.argv[1:] == ["--check"]
    maps = {"house": house(), "network": house("accelsim.network")}
    stale = fill({**maps, "columns": columns(), **other_columns(), **keys(), **toy()}, write=not check)
    for changed in stale:
        print(f"{changed}: {'stale, run python -m benchmarks.documents' if check else 'written'}")
    sys.exit(check and bool(stale))
