"""What is said once: rules that hold for every module of the package, read from its sources."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import accelsim

PACKAGE = Path(accelsim.__file__).parent


def nodes(kind: type[ast.AST]) -> Iterator[tuple[str, ast.AST]]:
    """Return every node of a kind with the file it stands in, relative to the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, kind):
                yield path.relative_to(PACKAGE).as_posix(), node


def texts(text: str) -> list[str]:
    return [file for file, node in nodes(ast.Constant) if isinstance(node, ast.Constant) and node.value == text]


def test_the_network_as_given_has_one_name() -> None:
    assert texts("as given") == ["pruning/granularity.py"]


def test_what_an_nm_pattern_is_stands_in_granularity() -> None:
    compared = [
        file
        for file, node in nodes(ast.Compare)
        if isinstance(node, ast.Compare) and ".kind" in ast.unparse(node.left) and "'nm'" in ast.unparse(node)
    ]
    assert compared == ["pruning/granularity.py"]


def test_a_warning_finds_its_line_by_itself() -> None:
    given = [
        file
        for file, node in nodes(ast.Call)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("warnings.warn", "warnings.warn_explicit")
    ]
    assert given == ["errors.py"]
