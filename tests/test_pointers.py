"""Does every "Specification:" comment in a twin name something that its specification has?"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import accelsim

PACKAGE = Path(accelsim.__file__).parent
POINTER = re.compile(r"# Specification:(?P<text>.*)")
NAME = re.compile(r" (?P<name>[A-Za-z_]\w*(\.[A-Za-z_]\w*)?)(?=[.,:;]|$)")
"""What a pointer begins with: `name` or `Class.method`. After it a sentence may follow, or an aside behind a comma."""
SOURCE = re.compile(r"`([\w/]+\.py)`")

TWINS = [path for path in sorted(PACKAGE.rglob("*.py")) if POINTER.search(path.read_text(encoding="utf-8"))]


def defined(source: str) -> set[str]:
    """The classes and functions of a module, and the methods of its classes as `Class.method`."""
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    top = [node for node in ast.parse(source).body if isinstance(node, kinds)]
    within = {
        f"{outer.name}.{node.name}"
        for outer in top
        if isinstance(outer, ast.ClassDef)
        for node in outer.body
        if isinstance(node, kinds)
    }
    return within | {node.name for node in top}


def problems(twin: str, folder: Path) -> list[str]:
    """What is wrong with the pointers of a twin that lies in a folder beside its specification."""
    named = [folder / name for name in SOURCE.findall(ast.get_docstring(ast.parse(twin)) or "")]
    if not named or not all(path.is_file() for path in named):
        return ["its docstring names no specification beside it, as in `dram.py`"]
    known = set[str]().union(*(defined(path.read_text(encoding="utf-8")) for path in named))
    texts = [pointer["text"] for pointer in POINTER.finditer(twin)]
    return [f"points nowhere:{text}" for text in texts if not (name := NAME.match(text)) or name["name"] not in known]


@pytest.mark.parametrize("twin", TWINS, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_every_pointer_names_something(twin: Path) -> None:
    assert not problems(twin.read_text(encoding="utf-8"), twin.parent)


def test_twins_of_engines_and_memories_have_pointers() -> None:
    assert {"engines", "memory"} <= {twin.relative_to(PACKAGE).parts[0] for twin in TWINS}


@pytest.mark.parametrize(
    ("pointer", "right"),
    [
        ("Bus.grant", True),
        ("Bus.grant, twice.", True),
        ("drive. It goes on", True),
        ("Bus", True),
        ("Bus.refuse", False),
        ("grant", False),
        ("the bus goes on", False),
        ("Bus goes on", False),
        ("", False),
    ],
)
def test_what_is_a_pointer(pointer: str, right: bool, tmp_path: Path) -> None:
    (tmp_path / "bus.py").write_text("class Bus:\n    def grant(self): ...\ndef drive(): ...\n")
    twin = f'"""Twin of `bus.py`."""\n# Specification: {pointer}\n'
    assert (not problems(twin, tmp_path)) == right
    assert problems(twin.replace("`bus.py`", "`car.py`"), tmp_path)
