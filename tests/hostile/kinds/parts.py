"""DRAM parts, replayed, or beside a chip that streams its weights."""

from __future__ import annotations

from pathlib import Path
from random import Random

from accelsim.config import shipped_names
from hostile import mutations, shipped

PATTERNS = ("seq_read", "seq_write", "rand_read64", "stride_4KB", "mix_rand_75r25w")


def make(draw: Random, folder: Path) -> list[str]:
    """Make a part's file, and ask a command that reads it."""
    name = draw.choice(shipped_names("hwconfigs/dram"))
    mutations.write(folder / "part.toml", shipped.changed(draw, "hwconfigs/dram", name))
    replay = ["dram", draw.choice(PATTERNS), "--part", "part.toml", "--requests", "100"]
    streamed = ["--set", "memory.dram=part.toml", "--set", "memory.residency=stream"]
    return draw.choice((
        ["check", "part.toml"], replay, replay, [*replay, "--load", draw.choice(("0.1", "0.9"))],
        ["run", shipped.NET, "--against", "none", *streamed],
    ))  # fmt: skip
