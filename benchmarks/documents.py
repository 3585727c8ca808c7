"""Where the evidence lies, and what stands in README.md and docs between `<!-- name -->` and `<!-- /name -->`.

`python -m benchmarks.documents` writes the map of the package in docs/design.md; other commands of `benchmarks` write
their own figures.
"""

from __future__ import annotations

import ast
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

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
            pattern = re.compile(rf"(<!-- {name} -->\n).*?(\n<!-- /{name} -->)", re.DOTALL)
            fresh = pattern.sub(lambda match, block=block: match[1] + block + match[2], fresh)
        if fresh != text:
            stale.append(path.name)
            if write:
                path.write_text(fresh, encoding="utf-8")
    return stale


def house() -> str:
    """Return the map of the package: the rows of the import contract, each room with its docstring's first line."""
    contract, *_ = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    rooms = list(_rooms(contract["layers"]))
    width = max(len(room) for _, room in rooms)
    return "\n".join(["```text", *(f"{mark} {room:<{width}}  {_purpose(room)}" for mark, room in rooms), "```"])


def _rooms(rows: list[str]) -> Iterator[tuple[str, str]]:
    """Return the rooms from top to bottom, then those in no row, each with its mark."""
    named = [[room.strip("() ").removeprefix("accelsim.") for room in row.split("|")] for row in rows]
    for row in named:
        yield from zip(" " + "|" * (len(row) - 1), row, strict=True)
    package = ROOT / "accelsim"
    inside = {path.parent.name for path in package.glob("*/__init__.py")} | {path.stem for path in package.glob("*.py")}
    for room in sorted(inside - {"__init__", *(room.split(".")[0] for row in named for room in row)}):
        yield "+", room


def _purpose(room: str) -> str:
    """Return the first line of the docstring of a module or package."""
    path = (ROOT / "accelsim").joinpath(*room.split("."))
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return (ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or "").partition("\n")[0]


if __name__ == "__main__":
    for changed in fill({"house": house()}, write=True):
        print(f"{changed}: written")
