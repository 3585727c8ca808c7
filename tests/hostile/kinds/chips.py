"""Chips, and variants of chips."""

from __future__ import annotations

from pathlib import Path
from random import Random

from accelsim.config import shipped_names
from hostile import mutations, shipped

VARIED = (
    "engine.fifo_depth = 4\n", "engine.pes = 16\n", 'remove = ["technology"]\n', 'remove = ["engine"]\n',
    'remove = "x"\n', "remove = []\n", "[engine]\nkind = 'systolic'\n", "[memory]\nresidency = 'stream'\n",
    "[operations]\nRelu = 'fused'\n", "a.b.c.d.e.f.g = 1\n",
)  # fmt: skip


def make(draw: Random, folder: Path) -> list[str]:
    """Make a chip's file, and ask a command that reads it."""
    name = draw.choice(shipped_names("hwconfigs"))
    if draw.random() < 0.1:
        base = draw.choice((name, name, "chip.toml", "other.toml", "nope", "", "/dev/zero", "../chip.toml"))
        made = f"base = {base!r}\n" + "".join(draw.sample(VARIED, draw.choice((1, 1, 2))))
        mutations.write(folder / "other.toml", f'base = "{draw.choice(("chip.toml", name))}"\n')
    else:
        made = shipped.changed(draw, "hwconfigs", name)
    mutations.write(folder / "chip.toml", made)
    run = ["run", shipped.NET, "--hardware", draw.choice(("chip.toml",) * 9 + (f"chip.toml,{name}",)), "--against"]
    return draw.choice((
        ["check", "chip.toml"], ["check", "chip.toml"], [*run, "none"], [*run, "none"], [*run, "dense"],
        ["energy", shipped.NET, "--hardware", "chip.toml"], ["energy", "chip.toml"],
    ))  # fmt: skip
