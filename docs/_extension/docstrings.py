"""Docstrings as they are written here, plain text with names in backticks, made into reStructuredText."""

from __future__ import annotations

import inspect
import itertools
import re
from typing import Any

from sphinx.application import Sphinx

OWN_PARAGRAPH = re.compile(r"^(Raises |Source: |Columns: |Memory: )")


def setup(app: Sphinx) -> dict[str, Any]:
    """Rewrite every docstring that autodoc reads."""
    app.connect("autodoc-process-docstring", _rewrite)
    app.connect("autodoc-skip-member", _skip)
    return {"parallel_read_safe": True}


def _skip(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Leave out the fields of named tuples, which the signature shows and nothing describes."""
    return True if str(getattr(obj, "__doc__", "")).startswith("Alias for field number") else None


def _rewrite(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = restructured(lines, _parameters(obj))


def _parameters(obj: Any) -> list[str]:
    try:
        return list(inspect.signature(obj).parameters)
    except (TypeError, ValueError):
        return []


def restructured(lines: list[str], parameters: list[str]) -> list[str]:
    """Return lines of reStructuredText: code for backticks, nothing else marked up; parameters begin in bold.

    What is raised and where it is from become paragraphs of their own; examples stay as they are.
    """
    found: list[str] = []
    for line in lines:
        if line.startswith(">>> ") or (found and found[-1].startswith(">>> ") and line):
            found.append(line)
            continue
        if OWN_PARAGRAPH.match(line) and found and found[-1]:
            found.append("")
        # Outside of backticks every sign stands for itself.
        pieces = re.split(r"`+([^`]*)`+", line)
        pieces[::2] = [_begin_parameters(re.sub(r"([\\*|_<>])", r"\\\1", text), parameters) for text in pieces[::2]]
        pieces[1::2] = [f"``{code}``" for code in pieces[1::2]]
        joined = pieces[0]
        for before, piece in itertools.pairwise(pieces):
            # Inline markup has to be set off from what touches it.
            touching = before and piece and not (before[-1].isspace() or piece[0].isspace())
            joined += ("\\ " if touching else "") + piece
        found.append(joined)
    return found


def _begin_parameters(text: str, parameters: list[str]) -> str:
    for name in parameters:
        written = name.replace("_", r"\_")
        text = re.sub(rf"(^|[.;] )({re.escape(written)}): ", r"\1**\2**: ", text)
    return text
