"""The house rules that a reader can count: no import runs in a circle, no function is too long or asks for too much."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from pathlib import Path

import pytest

import accelsim

PACKAGE = Path(accelsim.__file__).parent

MOST_LINES, MOST_PARAMETERS = 80, 8
"""Of a function, its docstring and what is defined in it included; `self` and `cls` are no parameters."""

BY_NAME = "called by users, who give what they need by name"

CAUSES: dict[str, str] = {
    "accelsim.allocation.allocate": BY_NAME,
    "accelsim.allocation.uniform": BY_NAME,
    "accelsim.compare.compare": BY_NAME,
    "accelsim.curves.curve": BY_NAME,
    "accelsim.gradual.prune_gradually": BY_NAME,
    "accelsim.network.layer.Layer.conv2d": BY_NAME,
    "accelsim.pruning.training.compare_schedules": BY_NAME,
    "accelsim.pruning.training.prune_and_train": BY_NAME,
    "accelsim.simulation.simulated_rows": "the keywords of `simulate`, which hands them on, and one more",
}
"""Functions that need more parameters, as `module.function` or `module.Class.method`, and why."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def modules(package: Path) -> dict[str, ast.Module]:
    """The source of every module of a package by its full name."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        if "shipped" in parts:  # data, inside of an installed package
            continue
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def running(node: ast.AST) -> Iterator[ast.AST]:
    """The node and all in it that is ever run, which what stands under `if TYPE_CHECKING` is not."""
    yield node
    never = isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
    for inner in node.orelse if never and isinstance(node, ast.If) else ast.iter_child_nodes(node):
        yield from running(inner)


def imports(package: Path) -> dict[str, set[str]]:
    """What each module imports of its own package, anywhere in it; a name of a package counts as the package."""
    trees = modules(package)
    found: dict[str, set[str]] = {name: set() for name in trees}
    for name, tree in trees.items():
        for node in running(tree):
            if isinstance(node, ast.Import):
                found[name] |= {each.name for each in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{name}: imports are absolute"
                wholes = {f"{node.module}.{each.name}" for each in node.names}
                found[name] |= wholes | ({node.module or ""} if wholes - trees.keys() else set())
    return {name: given & trees.keys() for name, given in found.items()}


def test_no_import_runs_in_a_circle() -> None:
    try:
        TopologicalSorter(imports(PACKAGE)).prepare()
    except CycleError as error:
        pytest.fail("imported by: " + " -> ".join(error.args[1]))


@pytest.mark.parametrize(
    ("first", "circle"),
    [
        ("from house.second import g", True),
        ("import house.second", True),
        ("def f():\n    from house import second", True),
        ("class A:\n    def f(self):\n        if self:\n            import house.second as it", True),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from house import second", False),
        ("from house import name", False),
        ("import typing\nif typing.TYPE_CHECKING:\n    pass\nelse:\n    import house.second", True),
    ],
)
def test_a_circle_is_found_wherever_it_is_closed(first: str, circle: bool, tmp_path: Path) -> None:
    package = tmp_path / "house"
    package.mkdir()
    (package / "__init__.py").write_text("name = 1")
    (package / "first.py").write_text(first)
    (package / "second.py").write_text("def g():\n    import house.first")
    found = TopologicalSorter(imports(package))
    if circle:
        with pytest.raises(CycleError, match=r"house\.(first|second)"):
            found.prepare()
    else:
        found.prepare()


def functions(tree: ast.AST, place: str) -> Iterator[tuple[str, Function]]:
    """Every function under its full name, those inside of others too."""
    for node in ast.iter_child_nodes(tree):
        inside = place
        if isinstance(node, Function | ast.ClassDef):
            inside = f"{place}.{node.name}"
        if isinstance(node, Function):
            yield inside, node
        yield from functions(node, inside)


def parameters(function: Function) -> int:
    given = function.args
    names = [
        each.arg for each in (*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg) if each
    ]
    return len([name for name in names if name not in ("self", "cls")])


def is_command(function: Function) -> bool:
    """Whether its parameters are the options of a command line, which a user gives by name."""
    return any(re.match(r"app\.command\b", ast.unparse(each)) for each in function.decorator_list)


def exported() -> set[str]:
    """Functions that a package shows to users, who give what they need by name, where they are defined."""
    packages = [name for name in modules(PACKAGE) if PACKAGE.parent.joinpath(*name.split("."), "__init__.py").is_file()]
    values = [getattr(each, name) for each in map(import_module, packages) for name in getattr(each, "__all__", ())]
    return {f"{value.__module__}.{value.__qualname__}" for value in values if hasattr(value, "__qualname__")}


@cache
def all_functions() -> dict[str, Function]:
    return dict(each for name, tree in modules(PACKAGE).items() for each in functions(tree, name))


def lines(function: Function) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def test_no_function_is_too_long() -> None:
    long = {name: lines(each) for name, each in all_functions().items() if lines(each) > MOST_LINES}
    assert long == {}


def test_no_function_asks_for_too_much_without_cause() -> None:
    many = {name: parameters(each) for name, each in all_functions().items() if parameters(each) > MOST_PARAMETERS}
    by_rule = exported() | {name for name in many if is_command(all_functions()[name])}
    assert {name: many[name] for name in many.keys() - by_rule - CAUSES.keys()} == {}
    assert CAUSES.keys() <= many.keys() - by_rule, "a cause that is not needed"


def test_functions_are_measured_whole() -> None:
    source = (
        "class A:\n    @app.command()\n    def f(self, a, /, b, *c, d, **e):\n        def g(cls):\n            pass\n"
    )
    found = dict(functions(ast.parse(source), "m"))
    assert {name: (lines(each), parameters(each)) for name, each in found.items()} == {
        "m.A.f": (3, 5),
        "m.A.f.g": (2, 0),
    }
    assert [name for name, each in found.items() if is_command(each)] == ["m.A.f"]
    assert {"accelsim.simulation.simulate", "accelsim.explore.searching.search"} <= exported()
    assert "accelsim.simulation.simulated_rows" not in exported()
