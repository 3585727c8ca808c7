"""The frame of a page: one HTML file that works offline, asks no host for anything, escapes whatever it shows."""

from __future__ import annotations

import base64
import hashlib
import re
import shlex
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Any, NamedTuple

from accelsim.errors import legible, needing, visible


class Figure(NamedTuple):
    """One chart of the page, and what its caption says."""

    id: str
    caption: str
    spec: dict[str, Any]


@lru_cache(maxsize=1)
def chart_library() -> str:
    """Return the JavaScript that draws the charts: Vega-Lite, as its Python wheel brings it along.

    Raises InputError where `accelsim[report]` is not installed.
    """
    with needing("report"):
        import vl_convert
    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return bundle.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def render(
    template: str, figures: Sequence[Figure], *, command: Sequence[str], python: Sequence[str], **said: Any
) -> str:
    """Return a page: a template of `page`, which extends the frame, with what it says; the same gives the same text.

    figures: all charts of the page, which its scripts draw. command, python: how to make it again, as they are.
    Everything in `said` is escaped, and shown as `legible`. Needs `accelsim[report]`.
    """
    with needing("report"):
        import jinja2
        from markupsafe import escape
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_part),
        autoescape=True,
        finalize=_shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": True, "allow_nan": False}  # NaN is no JSON
    environment.filters["breakable"] = _breakable
    scripts = [chart_library(), _part("report.js")]
    text: str = environment.get_template(template).render(
        **said,
        specs={figure.id: _visible(figure.spec) for figure in figures},
        command=escape(shlex.join(command)),
        python=escape("\n".join(python)),
        style=_part("report.css"),
        scripts=scripts,
        hashes=[_csp_hash(script) for script in scripts],
    )
    return text


def _breakable(text: str) -> Any:
    """Return a name that may go on in the next line after a dot or an underscore."""
    from markupsafe import Markup, escape

    return Markup("<wbr>").join(map(escape, re.split(r"(?<=[._])", _shown(text))))


def _shown(value: Any) -> Any:
    """Return a text as `legible`; HTML that is made already, and numbers, as they are."""
    return legible(value, whole_lines=True) if type(value) is str else value


def _visible(spec: Any) -> Any:
    """Return a chart with all of its texts `visible`: some become parts of expressions, which know no other ones."""
    if isinstance(spec, dict):
        return {name: _visible(value) for name, value in spec.items()}
    if isinstance(spec, list | tuple):
        return [_visible(value) for value in spec]
    return visible(spec) if isinstance(spec, str) else spec


def _part(name: str) -> str:
    return files("accelsim.report").joinpath("page", name).read_text(encoding="utf-8")


def _csp_hash(script: str) -> str:
    """Return what the content security policy calls a script by: no other will run in the page."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
