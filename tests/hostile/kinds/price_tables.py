"""A chip with a technology of its own, whose table of memories is changed."""

from __future__ import annotations

import functools
from pathlib import Path
from random import Random

from accelsim.config import shipped_dir
from hostile import mutations


@functools.cache
def _table() -> str:
    """Return the header of the shipped grid, and those rows of it that a chip of 45 nm needs."""
    lines = (shipped_dir("hwconfigs/technology") / "sram_cacti7.csv").read_text(encoding="utf-8").splitlines()
    head = [line for line in lines if not line.startswith("#")]
    return "\n".join(
        [head[0], *(line for line in head[1:] if line.startswith(("45,itrs-hp,ED2,", "45,itrs-lstp,ED2,")))]
    )


@functools.cache
def _technology() -> str:
    return (shipped_dir("hwconfigs/technology") / "cmos-45nm.toml").read_text(encoding="utf-8")


def make(draw: Random, folder: Path) -> list[str]:
    """Make a table, the technology that names it, and run a chip of it."""
    text = _table()
    if draw.random() < 0.5:
        lines = [line.split(",") for line in text.splitlines()]
        for cells in draw.sample(lines[1:], draw.choice((1, 3, 100))):
            at = draw.randrange(5, len(cells))
            cells[at] = repr(mutations.near(draw, float(cells[at])))
        text = "\n".join(map(",".join, lines))
    else:
        for _ in range(draw.choice((0, 1, 3, 30))):
            text = mutations.line(draw, text, ",")
    mutations.write(folder / "mine.csv", text)
    if draw.random() < 0.1:
        (folder / "mine.csv").write_bytes(mutations.content(draw, (folder / "mine.csv").read_bytes()))
    name = draw.choice(("mine.csv",) * 70 + ("/dev/zero", ".", "nope.csv", "", "a" * 300, "/dev/null", "\\u0000"))
    technology = _technology().replace('table = "sram_cacti7.csv"', f'table = "{name}"')
    mutations.write(folder / "mine.toml", technology)
    options = ["lenet-300-100-digits", "--set", "technology=mine.toml"]
    return draw.choice((["energy", *options], ["run", *options, "--against", "none"]))
