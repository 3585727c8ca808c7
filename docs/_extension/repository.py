"""Links from a page to a file of the repository lead to a page that shows the file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from pygments.lexers import get_lexer_for_filename
from pygments.util import ClassNotFound
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

ROOT = Path(__file__).resolve().parents[2]
FOLDER = "files"


def setup(app: Sphinx) -> dict[str, Any]:
    """Turn links that leave the folder of the pages into links to pages of files."""
    app.add_transform(LinksToFiles)
    app.connect("doctree-resolved", _point)
    app.connect("html-collect-pages", _pages)
    return {"parallel_read_safe": True}


class LinksToFiles(SphinxTransform):
    """What MyST takes for a download; tables and networks of the pages stay that."""

    default_priority = 500

    def apply(self, **kwargs: Any) -> None:
        """Replace them by plain references that remember their file."""
        here = Path(self.env.doc2path(self.env.docname)).parent
        for node in list(self.document.findall(addnodes.download_reference)):
            path = Path(os.path.normpath(here / node["reftarget"]))
            if not path.is_file() or path.suffix in (".csv", ".onnx"):
                continue
            link = nodes.reference("", "", *node.children, repository_file=path.relative_to(ROOT).as_posix())
            node.replace_self(link)


def _point(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    for node in doctree.findall(nodes.reference):
        if file := node.get("repository_file"):
            shown: set[str] = app.__dict__.setdefault("repository_files", set())
            shown.add(file)
            node["refuri"] = app.builder.get_relative_uri(docname, f"{FOLDER}/{file}")


def _pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    for file in sorted(app.__dict__.get("repository_files", ())):
        text = (ROOT / file).read_text(encoding="utf-8")
        try:
            language = get_lexer_for_filename(file).aliases[0]
        except ClassNotFound:
            language = "text"
        code = app.builder.highlighter.highlight_block(text, language, force=True)  # type: ignore[attr-defined]
        yield (
            f"{FOLDER}/{file}",
            {"title": file, "body": f'<h1 class="file">{escape(file)}</h1>\n{code}'},
            "page.html",
        )
