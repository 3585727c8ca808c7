"""Cells of CSV files that a spreadsheet would run: they begin as formulas do, and are marked as text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_FORMULA = re.compile(r"'*(?:[=+@\t\r\n\uff1d\uff0b\uff0d\uff20]|-.)", re.DOTALL)
"""How a formula begins, in full width, too, or a text that would be restored to one; "-" alone is none."""


def tamed(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula: an apostrophe stands before one that begins like it."""
    return f"'{text}" if _FORMULA.match(text) else text


def restored(text: str) -> str:
    """Return what was given to `tamed`."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def tame_formulas(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose texts, names of columns among them, are `tamed`; numbers stay as they are."""
    changed: dict[str, Any] = {}
    for name in table.select_dtypes(["object", "string", "category"]):
        texts = {each: tamed(each) for each in table[name].unique() if isinstance(each, str)}
        if any(each != text for each, text in texts.items()):
            changed[str(name)] = [texts.get(each, each) if isinstance(each, str) else each for each in table[name]]
    return (table.assign(**changed) if changed else table).rename(columns=lambda name: tamed(str(name)))


def splits(table: pd.DataFrame) -> bool:
    """Return whether a text has the end of a line that only quotes keep from being one: what follows begins a cell."""
    texts = (table[name] for name in table.select_dtypes(["object", "string", "category"]))
    return any("\r" in each for each in table.columns) or any(
        "\r" in value for column in texts for value in column.unique() if isinstance(value, str)
    )
