"""What a report says to a parser, and what a browser makes of it, for the tests of pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from typing import Any

import pytest

from benchmarks.browser import missing

Driver = Any


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
