"""What a page has where it says `<!-- generated: NAME -->`: text made from the package, so that it cannot go stale."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sys
import typing
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer
from typer.models import ArgumentInfo

ROOT = Path(__file__).resolve().parents[2]
MARK = re.compile(r"^<!-- generated: (\S+)(?: (.*?))? -->$", re.MULTILINE)

CONTENTS: dict[str, tuple[str, ...]] = {
    "Guide": (
        "start",
        "lecture",
        "networks",
        "chips",
        "results",
        "comparing",
        "whole_networks",
        "silicon",
        "figures",
        "report",
        "timeline",
        "pruning",
        "exploration",
        "coming_from",
        "speed",
        "troubleshooting",
    ),
    "Notebooks": tuple(f"notebooks/{path.stem}" for path in sorted((ROOT / "notebooks").glob("*.ipynb"))),
    "How it is modelled": ("eie", "tensor_core", "systolic", "memory", "dram", "validation"),
    "Make it yours": ("extending", "design"),
    "Reference": ("cli", "api", "files", "gallery", "glossary", "changelog"),
}
"""Pages of the sidebar; one that is not named here stands at the end of the guide."""


def setup(app: Sphinx) -> dict[str, Any]:
    """Fill in what pages ask for as they are read."""
    app.connect("source-read", _fill)
    return {"parallel_read_safe": True}


def _fill(app: Sphinx, docname: str, source: list[str]) -> None:
    source[0] = MARK.sub(lambda match: MAKERS[match[1]](*(match[2] or "").split()), source[0])


def contents() -> str:
    """Return the sidebar."""
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")} - {"index"}
    listed = {page for group in CONTENTS.values() for page in group}
    named = {title: [page for page in group if page in pages or "/" in page] for title, group in CONTENTS.items()}
    groups = {**named, "Guide": [*named["Guide"], *sorted(pages - listed)]}
    return "\n".join(
        f"```{{toctree}}\n:hidden:\n:caption: {title}\n\n" + "\n".join(names) + "\n```\n"
        for title, names in groups.items()
    )


def changelog() -> str:
    """Return CHANGELOG.md, its links as seen from here."""
    return (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").replace("](docs/", "](")


def api(module_name: str, *names: str) -> str:
    """Return the documentation of names of a module, by default of all that it makes public."""
    module = importlib.import_module(module_name)
    lines = [line for name in names or public_names(module) for line in _documented(module_name, name)]
    return "```{eval-rst}\n" + "\n".join(lines) + "\n```"


def formats() -> str:
    """Return the documentation of every format."""
    package = importlib.import_module("accelsim.formats")
    found = []
    for info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"accelsim.formats.{info.name}")
        if hasattr(module, "encode"):
            found += [f"### {info.name}\n", f"{module.__doc__.strip()}\n", api(module.__name__), ""]
    return "\n".join(found)


def public_names(module: Any) -> list[str]:
    """Return what `__all__` lists and is no module, or else what the module defines and shows."""
    names = getattr(module, "__all__", None) or [
        name
        for name, value in vars(module).items()
        if getattr(value, "__module__", None) == module.__name__ and not name.startswith("_")
    ]
    return [name for name in names if not name.startswith("_") and not inspect.ismodule(getattr(module, name))]


def _documented(module_name: str, name: str) -> list[str]:
    value = getattr(importlib.import_module(module_name), name)
    if inspect.isclass(value):
        options = [":members:"] if not issubclass(value, Exception) else []
        return [f".. autoclass:: {module_name}.{name}", *(f"   {option}" for option in options), ""]
    if callable(value):
        return [f".. autofunction:: {module_name}.{name}", ""]
    return [line for home in _homes(name, value) for line in (f".. autodata:: {home}.{name}", "   :no-value:", "")]


def _homes(name: str, value: Any) -> list[str]:
    """Return the module whose source describes a constant, if there is one; others import it."""
    modules = [module for key, module in list(sys.modules.items()) if key.startswith("accelsim.")]
    return [
        module.__name__
        for module in modules
        if vars(module).get(name) is value and ("", name) in ModuleAnalyzer.for_module(module.__name__).find_attr_docs()
    ]


def command_line() -> str:
    """Return every command with its arguments and options, from the application itself."""
    from accelsim.cli import app

    return "\n".join(line for command in app.registered_commands for line in _command(command.name, command.callback))


def _command(name: str | None, function: Any) -> Iterator[str]:
    hints = typing.get_type_hints(function, include_extras=True)
    given = inspect.signature(function).parameters
    rows: list[tuple[str, str, str]] = []
    usage = [f"accelsim {name or function.__name__}"]
    for key, hint in hints.items():
        if key == "return":
            continue
        kind, info = typing.get_args(hint)
        default = given[key].default
        if isinstance(info, ArgumentInfo):
            usage.append(key.upper() if default is inspect.Parameter.empty else f"[{key.upper()}]")
            spelt = f"`{key.upper()}`"
        else:
            # Inside Annotated the first name of an option stands where its default would.
            spellings = [each for each in (info.default, *(info.param_decls or ())) if isinstance(each, str)]
            names = ", ".join(f"`{each}`" for each in spellings or [f"--{key.replace('_', '-')}"])
            spelt = f"{names} {_value(kind, info.metavar)}".strip()
        shown = "" if default is None or default is False else f"`{default}`"
        rows.append((spelt, info.help, "required" if default is inspect.Parameter.empty else shown))
    yield f"## {usage[0]}\n\n{' '.join(function.__doc__.split())}\n"
    yield f"```text\n{' '.join([*usage, '[OPTIONS]'])}\n```\n"
    if rows:
        yield "| | | default |\n|---|---|---|"
        yield from ("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)
    yield ""


def _value(kind: Any, metavar: str | None) -> str:
    """Return what stands behind an option: nothing for a flag."""
    kinds = [each for each in typing.get_args(kind) or (kind,) if each is not type(None)]
    several = typing.get_origin(kinds[0]) is list
    one = typing.get_args(kinds[0])[0] if several else kinds[0]
    if one is bool:
        return ""
    names = {str: "TEXT", int: "NUMBER", float: "NUMBER", Path: "FILE"}
    word = metavar or ("|".join(one) if issubclass(one, Enum) else names[one])
    return f"`{word}`{', several times' if several else ''}"


MAKERS: dict[str, Callable[..., str]] = {
    "contents": contents,
    "changelog": changelog,
    "api": api,
    "formats": formats,
    "cli": command_line,
}
