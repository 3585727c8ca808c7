"""What a report says to a parser, and what a browser makes of it, for the tests of pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from accelsim.errors import legible
from benchmarks.browser import console, missing, open_report, requests

Driver = Any

HOSTILE = (
    "<script>document.documentElement.dataset.owned = 1</script>",
    '"><img src="http://127.0.0.1:9/x" onerror="document.documentElement.dataset.owned = 2">',
    "</script><script>alert(3)</script><!--<script>",
    "</style></title></textarea><svg onload=alert(4)>",
    "{{7*7}}{% raw %}{{ networks }}",
    "line\u2028paragraph\u2029end\x85",
    "'; alert(5); //${alert(6)}\\",
    "&lt;b&gt;&amp;&#60;",
    "datum['name'].constructor.constructor('alert(7)')()",
    "\u202egnp.exe \u0000 [b]x.y",
    "</style><style>*{display:none}</style>",
    ";background:url(http://127.0.0.1:9/css);x:expression(document.documentElement.dataset.owned=3)",
    '" style="position:fixed;inset:0;background:url(http://127.0.0.1:9/inline)" onclick="x',
    '<base href="http://127.0.0.1:9/"><meta http-equiv="refresh" content="0;url=http://127.0.0.1:9/">',
    '<link rel="stylesheet" href="http://127.0.0.1:9/s"><iframe srcdoc="<script>parent.alert(8)</script>"></iframe>',
    "<svg><style>@import 'http://127.0.0.1:9/i.css'</style></svg>",
    "javascript:alert(9)",
    "\u202e\u2067\u202dgnp.\u2066x\u200f\u061c",
    "Z" + "\u0351\u0357\u030e" * 60,
    "W" * 400,
    "a" * 4000,
    "l.o.n.g." * 300,
    "many words " * 200,
)
"""Names that would run, ask for something, hide what follows, turn it round or push it out of the window."""


def shown(name: str) -> str:
    """Return a name as a page has it."""
    return legible(name, whole_lines=True)


def in_a_browser(test: Callable[..., None]) -> Callable[..., None]:
    """Leave a test to `--all`, which skips it where there is no browser."""
    return pytest.mark.thorough(pytest.mark.skipif(missing() is not None, reason=str(missing()))(test))


class Element:
    def __init__(self, tag: str, attributes: dict[str, str | None]) -> None:
        self.tag, self.attributes = tag, attributes
        self.children: list[Element | str] = []

    def all(self, tag: str) -> list[Element]:
        inner = [each for each in self.children if isinstance(each, Element)]
        return [found for each in inner for found in ([each] if each.tag == tag else []) + each.all(tag)]

    def by_id(self, name: str) -> Element:
        (found,) = [each for tag in ("table", "section", "script", "output") for each in self.all(tag)
                    if each.attributes.get("id") == name]  # fmt: skip
        return found

    @property
    def text(self) -> str:
        return "".join(each if isinstance(each, str) else each.text for each in self.children)


class Tree(HTMLParser):
    """Builds elements, and refuses tags that are not closed in order."""

    VOID = ("meta", "input", "br", "img", "link", "wbr")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.root = Element("document", {})
        self.open = [self.root]
        self.feed(text)
        self.close()
        assert self.open == [self.root], "a tag is not closed"

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        element = Element(tag, dict(attrs))
        self.open[-1].children.append(element)
        if tag not in self.VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def tree(text: str) -> Element:
    return Tree(text).root


def cells(table: Element) -> list[list[str]]:
    return [
        [cell.text for cell in row.children if isinstance(cell, Element)] for row in table.all("tbody")[0].all("tr")
    ]


def set_width(driver: Driver, width: int) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def too_wide(driver: Driver) -> list[str]:
    """Tables that are wider than their place."""
    script = "return [...document.querySelectorAll('.scroll')].filter((box) => box.scrollWidth > box.clientWidth)"
    return [box.get_attribute("aria-label") for box in driver.execute_script(script)]


def assert_harmless(driver: Driver, path: Path) -> None:
    """Open a page of hostile names at two widths: nothing runs, nothing is asked for, nothing is pushed aside."""
    for width in (800, 1400):
        requests(driver)  # of tests before
        set_width(driver, width)
        open_report(driver, path)  # an alert would be an error here
        assert console(driver) == []  # nor does the page's policy have to keep anything from it
        assert driver.execute_script("return document.documentElement.dataset.owned") is None
        assert {each for each in requests(driver) if not each.startswith("data:")} == {path.as_uri()}
        assert driver.find_elements("css selector", "img, iframe, base, link, [onload], [onerror], [onclick]") == []
        assert driver.find_elements("css selector", "[style*=url], meta[http-equiv=refresh]") == []
        assert driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        heights = driver.execute_script(
            "return [...document.querySelectorAll('.chart')].map((each) => each.clientHeight)"
        )
        assert 0 < min(heights) <= max(heights) < 2500
        assert driver.execute_script("return getComputedStyle(document.querySelector('h1')).direction") == "ltr"
