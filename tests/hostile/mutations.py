"""Changes that any kind can make: to bytes, to what JSON and TOML hold, to names; each of them drawn."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

CASES = Path(__file__).resolve().parents[1] / "cases" / "files"
"""Whole files of every format, to begin with."""

INTEGERS = (
    0, 1, -1, 2, 3, 7, 255, 256, 2**15, 2**16, 2**31 - 1, 2**31, -(2**31), 2**32, 2**40, 2**53 + 1, 2**62, 2**63 - 1,
    2**63, -(2**63), 2**64 - 1, 2**64, 10**20, 10**400, -(10**400), 10**4999,
)  # fmt: skip
REALS = (0.0, -0.0, 0.5, 1e-320, 1e-30, 1e30, 1e308, -1e308, float("inf"), float("-inf"), float("nan"), 0.1 + 0.2)
TEXTS = (
    "", " ", "a", "ä", "\x00", "\x1b]0;owned\x07", "\x1b[31m", "\u202eevil", "\u2028", "[/]", "[bold]", "[red]x[/red]",
    ":x:", "no:x:dir", "$", "$x^2$", "%s", "{0}", "{}", "\\", "/", "..", "../../etc/passwd", "/dev/zero", "/dev/null",
    "~", "a\nb", "a\rb", "a\tb", "a,b", 'a"b', "a'b", "=1+1", "@SUM(A1)", "+1", "-", "NaN", "inf", "None", "true",
    "1e999", "weight", "<script>alert(1)</script>", "a" * 255, "a" * 5000, "n" * 200_000, "a." * 3000, "\ud800",
    "x.weight", "layers.0.weight", "😀", "\u200b", "con", "-o", "--help", "point", "energy_pj",
)  # fmt: skip
KEYS = ("shape", "dtype", "weight", "__metadata__", "name", "", "a.b", "[x]", "\x1b[1m", "k" * 3000, "0", "💥")


def value(draw: Random) -> Any:
    """Return something that nobody expects: a number, a text, a list or a table."""
    pick = draw.random()
    if pick < 0.3:
        return draw.choice(INTEGERS)
    if pick < 0.45:
        return draw.choice(REALS)
    if pick < 0.75:
        return draw.choice(TEXTS)
    others: Sequence[Callable[[], Any]] = (
        lambda: None, lambda: True, lambda: False, list, dict, lambda: [[]], lambda: {"a": {}},
        lambda: [value(draw) for _ in range(draw.randrange(4))],
        lambda: {draw.choice(KEYS): value(draw)},
        lambda: list(range(1000)), lambda: [0] * 20_000, lambda: nested(draw.choice((5, 50, 150))),
    )  # fmt: skip
    return draw.choice(others)()


def nested(depth: int) -> Any:
    """Return a list in a list, so many of them."""
    found: Any = []
    for _ in range(depth):
        found = [found]
    return found


def places(tree: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Go through what leads to each value of a tree of dicts and lists."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, each in items:
        yield (*above, key)
        yield from places(each, (*above, key))


def tree(draw: Random, whole: Any, make: Callable[[Random], Any] = value) -> Any:
    """Return a tree of dicts and lists with a few changes: values, keys, items that are gone, twice or elsewhere."""
    whole = copy.deepcopy(whole)
    for _ in range(draw.choice((1, 1, 1, 2, 3, 6))):
        found = list(places(whole))
        if not found:
            return make(draw)
        *above, key = draw.choice(found)
        holder = whole
        for step in above:
            holder = holder[step]
        pick = draw.random()
        if pick < 0.5:
            holder[key] = make(draw)
        elif pick < 0.6:
            del holder[key]
        elif pick < 0.7 and isinstance(holder, dict):
            holder[draw.choice(KEYS)] = holder.pop(key)
        elif pick < 0.8 and isinstance(holder, dict):
            holder[draw.choice(KEYS)] = make(draw)
        elif pick < 0.85 and isinstance(holder, list):
            holder.insert(key, copy.deepcopy(holder[key]))
        elif pick < 0.92:
            holder[key] = near(draw, holder[key])
        else:
            other = whole
            for step in draw.choice(found):
                if not isinstance(other, (dict, list)) or (isinstance(other, list) and not isinstance(step, int)):
                    break
                try:
                    other = other[step]
                except (KeyError, IndexError):
                    break
            holder[key] = copy.deepcopy(other)
    return whole


def numbers(draw: Random, whole: Any) -> Any:
    """Return a tree with one, two or three of its numbers, flags or texts a little or very different."""
    whole = copy.deepcopy(whole)
    found = [place for place in places(whole) if isinstance(_at(whole, place), bool | int | float | str)]
    for place in draw.sample(found, min(len(found), draw.choice((1, 1, 2, 3)))):
        holder, held = _at(whole, place[:-1]), _at(whole, place)
        if isinstance(held, str) and draw.random() < 0.7:
            same = [_at(whole, each) for each in found if isinstance(_at(whole, each), str)]
            holder[place[-1]] = draw.choice(same)
        else:
            holder[place[-1]] = near(draw, held)
    return whole


def _at(tree: Any, place: tuple[Any, ...]) -> Any:
    for step in place:
        tree = tree[step]
    return tree


def near(draw: Random, held: Any) -> Any:
    """Return a value of the same kind, a little or very different."""
    if isinstance(held, bool):
        return not held
    if isinstance(held, int):
        return draw.choice((
            held + 1, held - 1, -held, held * 2, held * 3, held // 2, held // 4, 1, held * 10, held * 1000,
            held * 10**6, held * 10**15,
        ))  # fmt: skip
    if isinstance(held, float):
        return draw.choice((
            -held, held * 2, held / 3, held * 10, 0.0, 1.0, held * 1e6, held * 1e-6, held * 1e-300, held * 1e300,
        ))  # fmt: skip
    if isinstance(held, str):
        return draw.choice((held * 2, held[:-1], held.upper(), held + " ", " " + held, held + "\x1b", f"[{held}]"))
    if isinstance(held, list):
        return draw.choice((held[:-1], held * 2, held[::-1], held * 100))
    return value(draw)


def content(draw: Random, whole: bytes) -> bytes:
    """Return bytes with a few changes: other bits, numbers, runs that are gone, twice, elsewhere, or an early end."""
    found = bytearray(whole)
    for _ in range(draw.choice((1, 1, 2, 4, 16))):
        at = draw.randrange(len(found) + 1)
        length = draw.choice((1, 2, 4, 8, 16, 100))
        pick = draw.randrange(8)
        if pick == 0:
            del found[at:]
        elif pick == 1:
            del found[at : at + length]
        elif pick == 2:
            found[at:at] = draw.randbytes(length)
        elif pick == 3:
            found[at:at] = found[at : at + length]
        elif pick == 4:
            number = draw.choice(INTEGERS[:25]) % 2**64
            found[at : at + 8] = number.to_bytes(8, draw.choice(("little", "big")))
        elif pick == 5:
            found[at : at + length] = draw.choice((b"\0", b"\xff", b"\x80", b"A")) * length
        elif at < len(found):
            found[at] ^= 1 << draw.randrange(8)
    return bytes(found)


def line(draw: Random, text: str, separators: str = ",\t ") -> str:
    """Return a text of lines of cells with a few changes: cells, lines that are gone, twice, cut or joined."""
    lines = text.splitlines()
    for _ in range(draw.choice((1, 1, 1, 2, 5))):
        if not lines:
            break
        at = draw.randrange(len(lines))
        pick = draw.randrange(9)
        if pick == 0:
            del lines[at]
        elif pick == 1:
            lines.insert(at, lines[at])
        elif pick == 2:
            lines.insert(at, cell(draw) if draw.random() < 0.9 else "," * 100_000)
        elif pick == 3:
            lines[at] = lines[at][: draw.randrange(len(lines[at]) + 1)]
        else:
            separator = next((each for each in separators if each in lines[at]), ",")
            cells = lines[at].split(separator)
            place = draw.randrange(len(cells))
            if pick == 4:
                del cells[place]
            elif pick == 5:
                cells.insert(place, cells[place])
            else:
                cells[place] = cell(draw)
            lines[at] = separator.join(cells)
    return draw.choice(("\n", "\n", "\n", "\r\n", "\r")).join(lines) + draw.choice(("\n", "\n", ""))


def cell(draw: Random) -> str:
    """Return a value as a cell of a table has it."""
    found = value(draw)
    return found if isinstance(found, str) else json_text(found)


def json_text(whole: Any) -> str:
    """Return what JSON has of a tree, numbers of thousands of digits included."""
    most = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        return json.dumps(whole)
    finally:
        sys.set_int_max_str_digits(most)


def toml_text(whole: Any) -> str:
    """Return what TOML has of a tree: a line for each key at the top, tables within lines below."""
    most = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        rows = whole.items() if isinstance(whole, dict) else [("a", whole)]
        return "".join(f"{json.dumps(key)} = {_toml(each)}\n" for key, each in rows)
    finally:
        sys.set_int_max_str_digits(most)


def _toml(held: Any) -> str:
    if isinstance(held, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(each)}" for key, each in held.items()) + "}"
    if isinstance(held, list):
        return f"[{', '.join(map(_toml, held))}]"
    if isinstance(held, bool):
        return str(held).lower()
    return repr(held) if isinstance(held, int | float) else json.dumps("" if held is None else held)


def write(path: Path, text: str) -> None:
    """Write a text; halves of characters that UTF-8 does not have stay as they are."""
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
