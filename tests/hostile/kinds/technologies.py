"""Technologies of a chip, and the software that serves a model on it."""

from __future__ import annotations

from pathlib import Path
from random import Random

from accelsim.config import shipped_names
from hostile import mutations, shipped

CHIPS = ("eie-64pe-45nm", "edge-nm-16x16", "systolic-32x32-ws", "eyeriss-like-12x14")
SERVED = ["run", "llama3.2-1b", "--hardware", "rtx4090", "--prompt", "128", "--serving", "own.toml", "--phase"]


def make(draw: Random, folder: Path) -> list[str]:
    """Make a file of one of the two, and ask a command that reads it."""
    if draw.random() < 0.25:
        name = draw.choice(shipped_names("hwconfigs/serving"))
        mutations.write(folder / "own.toml", shipped.changed(draw, "hwconfigs/serving", name))
        return draw.choice(([*SERVED, "decode"], [*SERVED, "prefill"]))
    name = draw.choice(shipped_names("hwconfigs/technology"))
    mutations.write(folder / "own.toml", shipped.changed(draw, "hwconfigs/technology", name))
    own = ["--hardware", draw.choice(CHIPS), "--set", "technology=own.toml"]
    at = ["--at", f"node={draw.choice((7, 28, 45, 90))}nm"] if draw.random() < 0.2 else []
    return draw.choice((
        ["energy", shipped.NET, *own, *at], ["run", shipped.NET, *own, *at, "--against", "none"],
    ))  # fmt: skip
