"""The notebooks as pages, with what they print and draw.

They are run when the site is built, or taken, already run, from the folder that ACCELSIM_NOTEBOOKS names: the tests
leave them there if it is set.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config

DOCS = Path(__file__).resolve().parents[1]
GIVEN = DOCS.parent / "notebooks"
PAGES = DOCS / "notebooks"
"""Where the pages are made from: a folder that is not kept."""


def setup(app: Sphinx) -> dict[str, Any]:
    """Copy the notebooks beside the pages before these are looked for."""
    app.connect("config-inited", _copy, priority=400)
    app.connect("source-read", _point)
    return {"parallel_read_safe": True}


def _point(app: Sphinx, docname: str, source: list[str]) -> None:
    """Links to the notebooks lead to their pages."""
    source[0] = source[0].replace("](../notebooks/", "](notebooks/")


def _copy(app: Sphinx, config: Config) -> None:
    run = os.environ.get("ACCELSIM_NOTEBOOKS")
    config["nb_execution_mode"] = "off" if run else "force"
    shutil.rmtree(PAGES, ignore_errors=True)
    PAGES.mkdir()
    for path in sorted(GIVEN.glob("*.ipynb")):
        text = (Path(run) / path.name if run else path).read_text(encoding="utf-8")
        # Seen from here, the pages are one folder up and all else is two.
        text = text.replace("](../", "](../../").replace("](../../docs/", "](../")
        (PAGES / path.name).write_text(text, encoding="utf-8")
