"""What is said once: rules that hold for every module of the package, read from its sources."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import accelsim
from accelsim.kernels import kernel_sources

PACKAGE = Path(accelsim.__file__).parent


def nodes(kind: type[ast.AST]) -> Iterator[tuple[str, ast.AST]]:
    """Return every node of a kind with the file it stands in, relative to the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if "shipped" in path.parts:  # data, inside of an installed package
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, kind):
                yield path.relative_to(PACKAGE).as_posix(), node


def texts(text: str) -> list[str]:
    return [file for file, node in nodes(ast.Constant) if isinstance(node, ast.Constant) and node.value == text]


def test_the_network_as_given_has_one_name() -> None:
    assert texts("as given") == ["defaults.py"]


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


def test_paths_are_resolved_in_one_place() -> None:
    """`Path.resolve` raises for loops of links and for null characters, which names from files may lead to."""
    resolved = [
        file
        for file, node in nodes(ast.Call)
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".resolve")
    ]
    assert resolved == ["config.py"]  # of its own file


def test_nothing_is_written_into_what_is_frozen() -> None:
    """No way past a constructor's checks; what a frozen dataclass mends, it mends in itself, as it is made."""
    written = {
        (file, ast.unparse(node))
        for file, node in nodes(ast.Call)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("object.__new__", "object.__setattr__")
    }
    assert {text.partition("(")[2].partition(",")[0] for _, text in written} <= {"self"}
    assert not [(file, text) for file, text in written if text.startswith("object.__new__")]
    assigned = [
        (file, ast.unparse(target))
        for file, node in nodes(ast.Assign)
        if isinstance(node, ast.Assign)
        for target in node.targets
    ]
    assert not [(file, text) for file, text in assigned if text.startswith("vars(")]


def test_a_kept_kernel_is_compiled_again_when_what_it_was_made_of_has_changed() -> None:
    decorated = {
        file
        for file, node in nodes(ast.FunctionDef)
        if isinstance(node, ast.FunctionDef)
        and any(
            ast.unparse(each).partition("(")[0] in ("njit", "step", "inlined", "uncounted")
            for each in node.decorator_list
        )
    }
    noticed = {path.relative_to(PACKAGE).as_posix() for path in kernel_sources()}
    assert "memory/dram_queues_fast.py" in decorated  # steps of kernels that lie in another file
    constants = {"kernels.py", "memory/dram_state_fast.py", "parts/timed.py"}
    assert decorated | constants <= noticed
    assert "cli/app.py" not in noticed


def test_nothing_depends_on_the_clock_of_the_wall() -> None:
    """It may be set back; what is measured, and what waits, goes by a clock that only runs forward."""
    wall = {"time", "time_ns", "localtime", "gmtime", "ctime", "strftime", "now", "today", "utcnow"}
    asked = [
        (file, ast.unparse(node))
        for file, node in nodes(ast.Attribute)
        if isinstance(node, ast.Attribute)
        and node.attr in wall
        and isinstance(node.value, ast.Name | ast.Attribute)
        and ast.unparse(node.value).rpartition(".")[2] in ("time", "datetime", "date")
    ]
    imported = [
        file
        for file, node in nodes(ast.ImportFrom)
        if isinstance(node, ast.ImportFrom) and node.module == "time" and {each.name for each in node.names} & {"time"}
    ]
    assert asked == imported == []
