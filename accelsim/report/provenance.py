"""Where the rows of a page come from, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def provenance(rows: pd.DataFrame) -> dict[str, str]:
    """Return where the rows come from, as far as they say the same."""
    return {
        "accelsim": several(rows["version"]),
        "backend": several(rows["backend"]),
        "seed of drawn activations": several(rows["seed"].sort_values()),
        "products checked bit for bit": several(rows["verified"]),
        "clock": several(rows["clock_mhz"].dropna().map("{:g} MHz".format)),
    }


def several(values: pd.Series[Any]) -> str:
    """Return the different values of a column as text, of many the first and the last."""
    found = [str(value) for value in dict.fromkeys(values)]
    return ", ".join(found) if len(found) <= 4 else f"{found[0]} to {found[-1]} ({len(found)} values)"


def sentence(text: str) -> str:
    """Return a note as a sentence."""
    return f"{text[:1].upper()}{text[1:]}."
