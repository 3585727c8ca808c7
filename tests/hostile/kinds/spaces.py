"""Spaces that `sweep` and `search` explore, some of which name code to run."""

from __future__ import annotations

import tomllib
from pathlib import Path
from random import Random

from accelsim.config import shipped_names
from hostile import mutations, shipped

TINY = """name = "tiny"
network = "lenet-300-100-digits"
objectives = ["minimize energy_pj", "time_us"]
constraints = ["area_mm2 <= 40", "energy_pj * time_us < 1e12"]
derived.spent = "energy_pj / max(time_us, 1e-9)"

[vary]
engine.fifo_depth = { from = 4, to = 8, factor = 2 }
engine.pes = [32, 64]
"""
EXPRESSIONS = (
    "area_mm2 <= 40", "energy_pj", "9**9**9 < 1", "round(4, -10**9) < 1", "(" * 300, "energy_pj / 0", "time_us[0]",
    "__import__('os')", "a.b", "1e308 * 1e308", "min()", "minimize time_us", "not nope", "energy_pj if 1 else 2",
    "'a' * 9",
)  # fmt: skip
CODE = """import os
os.mkdir({!r})
def accuracy(network):
    raise SystemExit(7)
"""


def make(draw: Random, folder: Path) -> list[str]:
    """Make a space, and explore it or look at what that would take."""
    (folder / "score.py").write_text(CODE.format(str(folder / "canary")), encoding="utf-8")
    given = {"evaluate": draw.choice(("score.py:accuracy", "score.py", "nope.py:f"))} if draw.random() < 0.2 else {}
    if draw.random() < 0.9:
        given["network"] = shipped.NET
    for key in ("constraints", "objectives"):
        if draw.random() < 0.1:
            given[key] = [draw.choice(EXPRESSIONS) for _ in range(draw.choice((1, 2)))]
    if draw.random() < 0.4:
        whole = shipped.changed(draw, "workloads/spaces", draw.choice(shipped_names("workloads/spaces")), **given)
        command = ["sweep", "space.toml", "--dry-run"]
    else:
        if draw.random() < 0.7:
            whole = mutations.toml_text(mutations.numbers(draw, tomllib.loads(TINY) | given))
        else:
            whole = mutations.line(draw, TINY, "=,")
        command = ["sweep", "space.toml", "--dry-run"]
        if draw.random() < 0.2:
            command = draw.choice((["sweep", "space.toml"], ["search", "space.toml", "--trials", "2"]))
            command = [*command, "--jobs", "1", "--limit", "5s"]
    mutations.write(folder / "space.toml", whole)
    return [*command, "--store", "r.db"]
